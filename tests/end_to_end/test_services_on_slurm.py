"""Inference services whose instances run on a real Slurm cluster."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.inference import Inference, kill_hard
from tests.end_to_end.server import processes_below, running_server, wait_for
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def inference(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inference]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.config))
        folder = tmp_path_factory.mktemp("services-on-slurm")
        with running_server(folder, "--engine", "slurm") as remote:
            inference = Inference(remote=remote)
            yield inference
            inference.delete_all()
            wait_for(lambda: not processes_below(remote.data / "jobs") or None)


def test_a_service_answers_is_updated_and_mended(inference: Inference) -> None:
    part = inference.part(inference.echo(), instance_count=2, envs={"WORD": "old"})
    service_id = inference.deploy("on-slurm", part)
    inference.wait(service_id, "running")

    assert set(inference.words(service_id, 4)) == {"old"}
    inference.change(service_id, config=[part | {"envs": {"WORD": "new"}}])
    inference.wait(service_id, "running")
    assert set(inference.words(service_id, 4)) == {"new"}
    before = inference.processes(service_id)
    kill_hard(min(before))
    inference.wait_for_replacement(service_id)
    assert len(inference.processes(service_id) - before) == 1
