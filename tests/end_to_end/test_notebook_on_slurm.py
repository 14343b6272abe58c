"""A notebook on a real Slurm cluster, through a real server."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.test_sdk_notebooks import FLAVOR, delete_all
from tests.engines.slurm_cluster import SlurmCluster
from tests.required import import_needed

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def remote(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.config))
        patch.setenv("PATH", f"{slurm.environ['PATH']}:{os.environ['PATH']}")
        with running_server(tmp_path_factory.mktemp("slurm"), "--engine", "slurm") as remote:
            yield remote
            delete_all(remote)


def test_it_comes_up_on_a_node_and_answers_behind_the_servers_address(remote: Remote) -> None:
    import_needed("jupyterlab", "jupyterlab")
    project = remote.project
    [image] = project.get("/images", type="BUILD_IN")["data"]
    made = project.post(
        "/notebooks",
        name="on-slurm",
        image_id=image["id"],
        flavor=FLAVOR,
        volume={"category": "EFS"},
    )

    def up() -> dict[str, Any] | None:
        shown: dict[str, Any] = project.get(f"/notebooks/{made['id']}")
        assert shown["status"] in ("CREATING", "RUNNING"), shown["fail_reason"]
        return shown if shown["status"] == "RUNNING" else None

    shown = wait_for(up, seconds=120)
    page = httpx.get(shown["url"], params={"token": shown["token"]}, trust_env=False, timeout=30)
    assert page.status_code == 200
    assert "JupyterLab" in page.text
    project.post(f"/notebooks/{made['id']}/stop")
    wait_for(lambda: project.get(f"/notebooks/{made['id']}")["status"] == "STOPPED" or None)
