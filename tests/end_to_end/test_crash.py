"""`kill -9` of the server: what was acknowledged is kept, what runs is found again."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
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

pytestmark = pytest.mark.timeout(120)

INVENTORY = """
[machine]
cpus = 8
memory_gib = 64

[[pools]]
name = "line"
flavor = "modelarts.vm.cpu.1u"
count = 1
"""

# Tells that it has started, and ends as a file says, once that is there.
TOLD_BY_FILE = """
import pathlib, sys, time
folder = pathlib.Path({folder!r})
with folder.joinpath("starts").open("a") as starts:
    starts.write("{name}\\n")
print("up", flush=True)
until = time.monotonic() + 60
while not folder.joinpath("{name}").is_file():
    assert time.monotonic() < until
    time.sleep(0.02)
print("told", flush=True)
sys.exit(int(folder.joinpath("{name}").read_text()))
"""


class Crashing:
    """A server on one folder that is killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signs = folder / "signs"
        self.signs.mkdir()
        self._inventory = folder / "inventory.toml"
        self._inventory.write_text(INVENTORY)
        self.server, self.remote = self.start()

    def start(self) -> tuple[ServerProcess, Remote]:
        self.server = ServerProcess(self.folder, "--inventory", self._inventory)
        self.remote = connect(self.server, self.server.wait_until_ready())
        return self.server, self.remote

    def kill(self) -> None:
        self.server.kill()
        self.remote.project.http.close()

    def submit(self, name: str, **config: Any) -> dict[str, Any]:
        script = TOLD_BY_FILE.format(folder=str(self.signs), name=name)
        return self.remote.submit(name, script, **config)

    def tell(self, name: str, exit_code: int) -> None:
        """Let a job end. The name appears whole."""
        sign = self.signs / f".{name}"
        sign.write_text(str(exit_code))
        sign.rename(self.signs / name)

    def starts(self) -> Counter[str]:
        file = self.signs / "starts"
        return Counter(file.read_text().split()) if file.is_file() else Counter()

    def wait_until_up(self, job: dict[str, Any]) -> None:
        wait_for(lambda: b"up" in self.remote.log(job) or None)


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Crashing]:
    crashing = Crashing(tmp_path)
    try:
        yield crashing
        crashing.remote.stop_everything()
        crashing.remote.project.http.close()
        crashing.server.stop()
        check_is_exact(crashing.server.data)
    finally:
        crashing.server.kill()
        end_processes_below(crashing.server.data / "jobs")


def test_running_jobs_are_adopted_and_ended_ones_are_known(crashing: Crashing) -> None:
    names = ["goes-on", "ended-well", "ended-badly", "was-killed"]
    jobs = {name: crashing.submit(name) for name in names}
    for job in jobs.values():
        crashing.wait_until_up(job)
    crashing.remote.stop(jobs["was-killed"])  # asked for; the kill may come before it is done

    crashing.kill()
    crashing.tell("ended-well", 0)
    crashing.tell("ended-badly", 7)
    wait_for(lambda: len(processes_below(crashing.server.data / "jobs")) < 8 or None)
    check_is_exact(crashing.server.data)
    _, remote = crashing.start()

    remote.wait(jobs["ended-well"], 10)
    assert "7" in remote.wait(jobs["ended-badly"], 11)["status_message"]
    remote.wait(jobs["was-killed"], 12)
    assert remote.wait(jobs["goes-on"], 8)["start_time"] is not None
    crashing.tell("goes-on", 5)
    assert "5" in remote.wait(jobs["goes-on"], 11)["status_message"]
    assert remote.log(jobs["goes-on"]) == b"up\ntold\n"
    assert remote.counts() == {"Completed": 1, "Failed": 2, "Terminated": 1}
    assert crashing.starts() == Counter(names)


def test_the_queue_goes_on_in_order(crashing: Crashing) -> None:
    line = crashing.remote.project.pool("line")
    jobs = [crashing.submit(f"queued-{number}", pool_id=line) for number in range(3)]
    crashing.wait_until_up(jobs[0])
    crashing.remote.wait(jobs[2], 7)

    crashing.kill()
    crashing.tell("queued-0", 0)
    _, remote = crashing.start()
    for number, job in enumerate(jobs):
        crashing.tell(f"queued-{number}", 0) if number else None
        remote.wait(job, 10)

    rows = remote.project.get("/training-jobs/versions", pool_id=line, order="asc")["versions"]
    assert [row["version_name"] for row in rows] == ["queued-0", "queued-1", "queued-2"]
    assert sorted(rows, key=lambda row: row["start_time"]) == rows
    assert set(crashing.starts().values()) == {1}


def test_no_acknowledged_job_is_lost_and_none_runs_twice(crashing: Crashing) -> None:
    """Killed again and again in the middle of many submits."""
    acknowledged: list[dict[str, Any]] = []
    for round_ in range(3):
        config = crashing.remote.put_code(
            "burst",
            """
            import os, sys
            [_, name] = sys.argv[1].split("=")
            line = os.open(os.path.join(SIGNS, "starts"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(line, (name + chr(10)).encode())
            """.replace("SIGNS", repr(str(crashing.signs))),
        )
        is_over = threading.Event()

        def submit(
            worker: int,
            url: str = f"{crashing.remote.project.v1}/training-jobs",
            client: httpx.Client = crashing.remote.project.http,
            config: dict[str, Any] = config,
            round_: int = round_,
            is_over: threading.Event = is_over,
        ) -> None:
            for number in range(8):
                name = f"burst-{round_}-{worker}-{number}"
                parameter = [{"label": "name", "value": name}]
                body = {"job_name": name, "config": config | {"parameter": parameter}}
                if is_over.is_set():
                    return
                try:
                    reply = client.post(url, json=body)
                except httpx.TransportError:
                    return  # the server is dead: nothing was promised
                if reply.status_code == 200:
                    acknowledged.append(reply.json())

        threads = [threading.Thread(target=submit, args=(worker,)) for worker in range(3)]
        for thread in threads:
            thread.start()
        wanted = len(acknowledged) + 8
        wait_for(lambda wanted=wanted: len(acknowledged) >= wanted or None)  # type: ignore[misc]
        crashing.server.kill()
        is_over.set()
        for thread in threads:
            thread.join()
        crashing.kill()
        check_is_exact(crashing.server.data)
        crashing.start()

    for job in acknowledged:
        crashing.remote.wait(job, 10)
    wait_for(lambda: set(crashing.remote.counts()) == {"Completed"} or None)

    starts = crashing.starts()
    assert set(starts.values()) == {1}
    assert {job["job_name"] for job in acknowledged} <= set(starts)
    listed = crashing.remote.project.get("/training-jobs", per_page=1000)["jobs"]
    assert len({row["job_name"] for row in listed}) == len(listed) == len(starts)
    assert crashing.remote.counts() == {"Completed": len(starts)}


def test_a_stop_that_was_asked_for_is_carried_out_by_the_next_server(crashing: Crashing) -> None:
    job = crashing.submit("to-be-stopped")
    crashing.wait_until_up(job)
    first = (crashing.server.data / "credentials.json").read_bytes()

    assert crashing.remote.stop(job).status_code == 200
    crashing.kill()
    _, remote = crashing.start()

    remote.wait(job, 12)
    wait_for(lambda: not processes_below(crashing.server.data / "jobs") or None)
    assert (crashing.server.data / "credentials.json").read_bytes() == first


def test_a_regular_stop_leaves_jobs_running_too(crashing: Crashing) -> None:
    job = crashing.submit("outlives")
    crashing.wait_until_up(job)

    began = time.monotonic()
    crashing.remote.project.http.close()
    crashing.server.stop()
    assert time.monotonic() - began < 10
    assert processes_below(crashing.server.data / "jobs")
    crashing.tell("outlives", 4)
    _, remote = crashing.start()

    assert "4" in remote.wait(job, 11)["status_message"]
    assert crashing.starts() == Counter(["outlives"])
