"""What breaks under jobs on a real Slurm cluster, and what becomes of them."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import (
    Remote,
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    processes_below,
    wait_for,
)
from tests.end_to_end.test_crash import TOLD_BY_FILE
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.timeout(180)

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


class Site:
    """A server on the cluster that is killed and started again."""

    def __init__(self, folder: Path, slurm: SlurmCluster) -> None:
        self.folder, self.slurm = folder, slurm
        self.signs = folder / "signs"
        self.signs.mkdir()
        self.start()

    def start(self) -> None:
        self.server = ServerProcess(self.folder, "--engine", "slurm")
        self.remote: Remote = connect(self.server, self.server.wait_until_ready())

    def kill(self) -> None:
        self.server.kill()
        self.remote.project.http.close()

    def submit(self, name: str, **config: Any) -> dict[str, Any]:
        script = TOLD_BY_FILE.format(folder=str(self.signs), name=name)
        return self.remote.submit(name, script, **config)

    def tell(self, name: str, exit_code: int) -> None:
        sign = self.signs / f".{name}"
        sign.write_text(str(exit_code))
        sign.rename(self.signs / name)

    def starts(self) -> Counter[str]:
        file = self.signs / "starts"
        return Counter(file.read_text().split()) if file.is_file() else Counter()

    def wait_until_up(self, job: dict[str, Any]) -> None:
        wait_for(lambda: b"up" in self.remote.log(job) or None)

    def events(self, job: dict[str, Any]) -> list[str]:
        project = self.remote.project
        found = project.http.post(f"{project.v2}/training-job-searches", json={"limit": 50})
        ids = {j["metadata"]["name"]: j["metadata"]["id"] for j in found.json()["items"]}
        path = f"{project.v2}/training-jobs/{ids[job['job_name']]}/events"
        return [event["message"] for event in project.http.get(path).json()["events"]]


@pytest.fixture
def site(slurm: SlurmCluster, tmp_path: Path) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(slurm.config))
        patch.setenv("PATH", slurm.environ["PATH"])
        site = Site(tmp_path, slurm)
        try:
            yield site
            site.remote.stop_everything()
            site.remote.project.http.close()
            site.server.stop()
            check_is_exact(site.server.data)
        finally:
            site.server.kill()
            end_processes_below(site.server.data / "jobs")
            slurm.clear()


def test_a_server_that_is_killed_finds_its_jobs_again(site: Site) -> None:
    names = ["goes-on", "ended-well", "ended-badly", "was-stopped"]
    jobs = {name: site.submit(name) for name in names}
    for job in jobs.values():
        site.wait_until_up(job)
    site.remote.stop(jobs["was-stopped"])  # asked for; the kill may come before it is done

    site.kill()
    site.tell("ended-well", 0)
    site.tell("ended-badly", 7)
    check_is_exact(site.server.data)
    time.sleep(1)
    site.start()

    remote = site.remote
    remote.wait(jobs["ended-well"], 10)
    assert "7" in remote.wait(jobs["ended-badly"], 11)["status_message"]
    remote.wait(jobs["was-stopped"], 12)
    remote.wait(jobs["goes-on"], 8)
    site.tell("goes-on", 5)
    assert "5" in remote.wait(jobs["goes-on"], 11)["status_message"]
    assert remote.counts() == {"Completed": 1, "Failed": 2, "Terminated": 1}
    assert site.starts() == Counter(names)
    wait_for(lambda: not processes_below(site.server.data / "jobs") or None)


def test_server_and_controller_killed_in_the_middle_of_submits_lose_no_acknowledged_job(
    site: Site,
) -> None:
    code = site.remote.put_code("noted", NOTES_ITS_START.format(file=str(site.signs / "starts")))
    acknowledged = []
    for round_ in range(2):
        for number in range(8):
            name = f"noted-{round_}-{number}"
            config = code | {"parameter": [{"label": "name", "value": name}]}
            acknowledged.append(
                site.remote.project.post("/training-jobs", job_name=name, config=config)
            )
        site.slurm.kill("slurmctld")
        site.kill()
        check_is_exact(site.server.data)
        site.slurm.start_controller()
        site.start()

    # What had begun in the second before a crash, Slurm may kill: that is told as such.
    completed, lost = 10, 14

    def status(job: dict[str, Any]) -> int:
        return int(site.remote.version(job)["status"])

    ends = {
        job["job_name"]: wait_for(
            lambda job=job: status(job) if status(job) in (completed, lost) else None,  # type: ignore[misc]
            90,
        )
        for job in acknowledged
    }

    starts = site.starts()
    assert set(starts.values()) == {1}
    assert all(starts[name] == 1 for name, end in ends.items() if end == completed)
    assert site.remote.counts().get("Completed") == Counter(ends.values())[completed]


def test_a_preempted_job_waits_again_says_so_and_runs_to_its_end(site: Site) -> None:
    slurm = site.slurm
    job = site.submit("gives-way")
    site.wait_until_up(job)
    with slurm.partition("Urgent_1", "PriorityTier=100"):
        slurm.run(
            *("sbatch", "--partition=Urgent_1", "--nodes=8", "--exclusive", "--mem=0"),
            *("--output=/dev/null", "--wrap=sleep 99"),
        )
        wait_for(lambda: any("preempted" in told for told in site.events(job)) or None)
        assert site.remote.version(job)["status"] == 7
        assert set(site.remote.counts()) <= {"Queue", "Pending"}

    site.remote.wait(job, 8)
    site.tell("gives-way", 0)
    site.remote.wait(job, 10)
    assert site.starts() == Counter({"gives-way": 2})
    # It was not its fault: it is an attempt of its own, but costs no retry.
    attempts = [p for p in (site.server.data / "jobs").iterdir() if (p / "slurm.json").exists()]
    assert len(attempts) == 2
    claims = [json.loads((p / "slurm-claim.json").read_text())["job_id"] for p in attempts]
    assert len(set(claims)) == 2


def test_one_task_that_fails_ends_the_others_and_is_what_the_job_tells(site: Site) -> None:
    job = site.remote.submit("gang", ONE_FAILS, worker_server_num=3)

    shown = site.remote.wait(job, 11)

    assert "Task 1 ended with exit code 3" in shown["status_message"]
    wait_for(lambda: not processes_below(site.server.data / "jobs") or None)
    wait_for(lambda: not site.slurm.run("squeue", "-h", "-t", "running,pending").strip() or None)
