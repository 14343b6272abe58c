"""A server that is killed and started again under jobs that go on without it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.end_to_end.server import (
    Remote,
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    processes_below,
    wait_for,
)
from tests.end_to_end.signs import SEES_SIGNS, Signs


class Crashing:
    """The server on one folder, and signs between its jobs and the test."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        self.signs = Signs(folder / "signs")
        self.signs.folder.mkdir()
        self._arguments = arguments
        self.start()

    def start(self) -> Remote:
        self.server = ServerProcess(self.folder, *SEES_SIGNS, *self._arguments)
        self.remote = connect(self.server, self.server.wait_until_ready())
        return self.remote

    def kill(self) -> None:
        self.server.kill()
        self.remote.project.http.close()

    def submit(self, name: str, **config: Any) -> dict[str, Any]:
        return self.remote.submit(name, self.signs.script(name), **config)

    def wait_until_up(self, job: dict[str, Any]) -> None:
        wait_for(lambda: b"up" in self.remote.log(job) or None)


@contextmanager
def crashing_server(folder: Path, *arguments: object) -> Iterator[Crashing]:
    """At the end there is neither the server nor a process of a job, and its counts are exact."""
    crashing = Crashing(folder, *arguments)
    try:
        yield crashing
        crashing.remote.stop_everything()
        crashing.remote.project.http.close()
        crashing.server.stop()
        check_is_exact(crashing.server.data)
    finally:
        crashing.server.kill()
        end_processes_below(crashing.server.data / "jobs")


def check_that_jobs_are_found_again(crashing: Crashing) -> None:
    """What runs goes on, what ended meanwhile is known as it ended, what was stopped is stopped."""
    names = ["goes-on", "ended-well", "ended-badly", "was-stopped"]
    jobs = {name: crashing.submit(name) for name in names}
    for job in jobs.values():
        crashing.wait_until_up(job)
    crashing.remote.stop(jobs["was-stopped"])  # asked for; the kill may come before it is done

    crashing.kill()
    for name, exit_code in (("ended-well", 0), ("ended-badly", 7)):
        crashing.signs.tell(name, exit_code)
        wait_for(lambda name=name: crashing.signs.has_heard(name))  # type: ignore[misc]
    check_is_exact(crashing.server.data)
    remote = crashing.start()

    remote.wait(jobs["ended-well"], 10)
    assert "7" in remote.wait(jobs["ended-badly"], 11)["status_message"]
    remote.wait(jobs["was-stopped"], 12)
    assert remote.wait(jobs["goes-on"], 8)["start_time"] is not None
    crashing.signs.tell("goes-on", 5)
    assert "5" in remote.wait(jobs["goes-on"], 11)["status_message"]
    wait_for(lambda: remote.log(jobs["goes-on"]) == b"up\ntold\n")
    assert remote.counts() == {"Completed": 1, "Failed": 2, "Terminated": 1}
    assert crashing.signs.starts() == Counter(names)
    wait_for(lambda: not processes_below(crashing.server.data / "jobs"))
