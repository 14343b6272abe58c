"""What breaks under jobs on a real Slurm cluster, and what becomes of them."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.crashing import (
    Crashing,
    check_that_jobs_are_found_again,
    crashing_server,
)
from tests.end_to_end.server import Remote, check_is_exact, processes_below, wait_for
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(300)

NOTES_ITS_START = """
import os, sys
line = os.open({file!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(line, (sys.argv[1].split("=")[1] + chr(10)).encode())
"""
ONE_FAILS = """
import os, sys, time
print("up", flush=True)
if os.environ["VC_TASK_INDEX"] == "1":
    sys.exit(3)
time.sleep(600)
"""


@pytest.fixture
def crashing(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Crashing]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.config))
        patch.setenv("PATH", slurm.environ["PATH"])
        try:
            with crashing_server(tmp_path, "--engine", "slurm") as crashing:
                yield crashing
        finally:
            slurm.clear()


def events_of(remote: Remote, job: dict[str, Any]) -> list[str]:
    project = remote.project
    found = project.http.post(f"{project.v2}/training-job-searches", json={"limit": 50})
    ids = {j["metadata"]["name"]: j["metadata"]["id"] for j in found.json()["items"]}
    path = f"{project.v2}/training-jobs/{ids[job['job_name']]}/events"
    return [event["message"] for event in project.http.get(path).json()["events"]]


def test_a_server_that_is_killed_finds_its_jobs_again(crashing: Crashing) -> None:
    check_that_jobs_are_found_again(crashing)


def test_server_and_controller_killed_in_the_middle_of_submits_lose_no_acknowledged_job(
    crashing: Crashing, slurm: SlurmCluster
) -> None:
    notes = NOTES_ITS_START.format(file=str(crashing.signs.folder / "starts"))
    code = crashing.remote.put_code("noted", notes)
    acknowledged = []
    for round_ in range(2):
        for number in range(8):
            name = f"noted-{round_}-{number}"
            config = code | {"parameter": [{"label": "name", "value": name}]}
            acknowledged.append(
                crashing.remote.project.post("/training-jobs", job_name=name, config=config)
            )
        slurm.kill("slurmctld")
        crashing.kill()
        check_is_exact(crashing.server.data)
        slurm.start_controller()
        crashing.start()

    # What had begun in the second before a crash, Slurm may kill: that is told as such.
    completed, lost = 10, 14

    def status(job: dict[str, Any]) -> int:
        return int(crashing.remote.version(job)["status"])

    ends = {
        job["job_name"]: wait_for(
            lambda job=job: status(job) if status(job) in (completed, lost) else None,  # type: ignore[misc]
            90,
        )
        for job in acknowledged
    }

    starts = crashing.signs.starts()
    assert set(starts.values()) == {1}
    assert all(starts[name] == 1 for name, end in ends.items() if end == completed)
    assert crashing.remote.counts().get("Completed") == Counter(ends.values())[completed]


def test_a_preempted_job_waits_again_says_so_and_runs_to_its_end(
    crashing: Crashing, slurm: SlurmCluster
) -> None:
    job = crashing.submit("gives-way")
    crashing.wait_until_up(job)
    with slurm.partition("Urgent_1", "PriorityTier=100"):
        slurm.run(
            *("sbatch", "--partition=Urgent_1", "--nodes=8", "--exclusive", "--mem=0"),
            *("--output=/dev/null", "--wrap=sleep 99"),
        )
        wait_for(lambda: any("preempted" in told for told in events_of(crashing.remote, job)))
        assert crashing.remote.version(job)["status"] == 7
        assert set(crashing.remote.counts()) <= {"Queue", "Pending"}
        why = "It waits in Slurm's queue: its nodes are taken by other jobs of the cluster"
        wait_for(lambda: why in (crashing.remote.version(job)["status_message"] or "") or None)

    assert not crashing.remote.wait(job, 8)["status_message"]
    crashing.signs.tell("gives-way", 0)
    crashing.remote.wait(job, 10)
    assert crashing.signs.starts() == Counter({"gives-way": 2})
    # It was not its fault: it is an attempt of its own, but costs no retry.
    attempts = [p for p in (crashing.server.data / "jobs").iterdir() if (p / "slurm.json").exists()]
    assert len(attempts) == 2
    claims = [json.loads((p / "slurm-claim.json").read_text())["job_id"] for p in attempts]
    assert len(set(claims)) == 2


def test_one_task_that_fails_ends_the_others_and_is_what_the_job_tells(
    crashing: Crashing, slurm: SlurmCluster
) -> None:
    job = crashing.remote.submit("gang", ONE_FAILS, worker_server_num=3)

    shown = crashing.remote.wait(job, 11)

    assert "Task 1 ended with exit code 3" in shown["status_message"]
    wait_for(lambda: not processes_below(crashing.server.data / "jobs") or None)
    wait_for(lambda: not slurm.run("squeue", "-h", "-t", "running,pending").strip() or None)
