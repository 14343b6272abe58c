"""`kill -9` of the server: what was acknowledged is kept, what runs is found again."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.crashing import (
    Crashing,
    check_that_jobs_are_found_again,
    crashing_server,
)
from tests.end_to_end.server import check_is_exact, processes_below, wait_for

pytestmark = pytest.mark.timeout(300)

INVENTORY = """
[machine]
cpus = 8
memory_gib = 64

[[pools]]
name = "line"
flavor = "modelarts.vm.cpu.1u"
count = 1
"""


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Crashing]:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text(INVENTORY)
    with crashing_server(tmp_path, "--inventory", inventory) as crashing:
        yield crashing


def test_running_jobs_are_adopted_and_ended_ones_are_known(crashing: Crashing) -> None:
    check_that_jobs_are_found_again(crashing)


def test_the_queue_goes_on_in_order(crashing: Crashing) -> None:
    line = crashing.remote.project.pool("line")
    jobs = [crashing.submit(f"queued-{number}", pool_id=line) for number in range(3)]
    crashing.wait_until_up(jobs[0])
    crashing.remote.wait(jobs[2], 7)

    crashing.kill()
    crashing.signs.tell("queued-0")
    remote = crashing.start()
    for number, job in enumerate(jobs):
        if number:
            crashing.signs.tell(f"queued-{number}")
        remote.wait(job, 10)

    rows = remote.project.get("/training-jobs/versions", pool_id=line, order="asc")["versions"]
    assert [row["version_name"] for row in rows] == ["queued-0", "queued-1", "queued-2"]
    assert sorted(rows, key=lambda row: row["start_time"]) == rows
    assert set(crashing.signs.starts().values()) == {1}


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
            """.replace("SIGNS", repr(str(crashing.signs.folder))),
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

    starts = crashing.signs.starts()
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
    remote = crashing.start()

    remote.wait(job, 12)
    wait_for(lambda: not processes_below(crashing.server.data / "jobs") or None)
    assert (crashing.server.data / "credentials.json").read_bytes() == first


def test_a_regular_stop_leaves_jobs_running_too(crashing: Crashing) -> None:
    job = crashing.submit("outlives")
    crashing.wait_until_up(job)

    crashing.remote.project.http.close()
    crashing.server.stop()
    assert processes_below(crashing.server.data / "jobs")
    crashing.signs.tell("outlives", 4)
    remote = crashing.start()

    assert "4" in remote.wait(job, 11)["status_message"]
    assert crashing.signs.starts() == Counter(["outlives"])
