"""Batch services where the server, the objects or the nodes are not as simple as usual."""

import json
from pathlib import Path

import pytest

from tests.end_to_end.batches import batch, reader, results
from tests.end_to_end.inference import Inference
from tests.end_to_end.server import (
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    processes_below,
    running_server,
    wait_for,
)
from tests.engines.slurm_cluster import SlurmCluster
from tests.objects.s3_account import running_s3

pytestmark = pytest.mark.timeout(300)

BASE = "muster-batches"


def check_a_batch(inference: Inference) -> None:
    """Two instances share the files, and each file is asked about once."""
    files = {f"{number}.txt": f"file {number}".encode() for number in range(12)}
    service_id = batch(inference, "shared", reader(inference), files, instance_count=2)

    shown = inference.wait(service_id, "finished")

    assert (shown["invocation_times"], shown["failed_times"]) == (12, 0)
    found = results(inference, "shared-out")
    answers = {
        name: json.loads(content) for name, content in found.items() if name.endswith("_result.txt")
    }
    assert {name: answer["read"] for name, answer in answers.items()} == {
        f"{number}.txt_result.txt": f"file {number}" for number in range(12)
    }
    summaries = [json.loads(found[f"batch_summary_{number}.json"]) for number in (1, 2)]
    assert sum(summary["answered"] for summary in summaries) == 12
    inference.delete_all()
    wait_for(lambda: not processes_below(inference.remote.data / "jobs") or None)


def test_a_batch_goes_on_while_the_server_is_killed_and_started_again(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path)
    try:
        inference = Inference(remote=connect(first, first.wait_until_ready()))
        files = {f"{number:03}": b"wait" for number in range(40)}
        service_id = batch(inference, "lasting", reader(inference), files)
        wait_for(lambda: inference.show(service_id)["invocation_times"] >= 1 or None)
        inference.http.close()
        first.kill()

        second = ServerProcess(tmp_path, name="second")
        try:
            inference = Inference(remote=connect(second, second.wait_until_ready()))
            shown = inference.wait(service_id, "finished")
            assert (shown["invocation_times"], shown["failed_times"]) == (40, 0)
            answers = [
                json.loads(content)
                for name, content in results(inference, "lasting-out").items()
                if name.endswith("_result.txt")
            ]
            assert len(answers) == 40
            assert len({answer["pid"] for answer in answers}) == 1, "it was not begun anew"
            assert inference.counts() == {"Completed": 1}
            inference.http.close()
            second.stop()
            check_is_exact(second.data)
        finally:
            second.kill()
    finally:
        first.kill()
        end_processes_below(tmp_path / "data" / "jobs")


def test_a_batch_reads_from_s3_and_writes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_s3(tmp_path) as account:
        account.make_bucket(BASE)
        for name, value in account.environment.items():
            monkeypatch.setenv(name, value)
        with running_server(tmp_path / "server", "--objects", f"s3://{BASE}/all") as remote:
            check_a_batch(Inference(remote=remote))
            fetched = list((remote.data / "jobs").glob("*/fetched"))

            assert fetched == [], "what was fetched goes when it has been read"


def test_a_batch_runs_on_a_slurm_cluster(
    tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    with running_server(tmp_path, "--engine", "slurm") as remote:
        check_a_batch(Inference(remote=remote))
