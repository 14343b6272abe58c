"""Jobs, notebooks and services come and go at random: the statistics of all three stay exact.

The server and its keepers are real; the engine is in memory, and ends what it runs as the
seed says. What users ask is asked over HTTP, and refused as often as it makes no sense.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any, Final

import httpx
import pytest

from muster.domain.jobfolder import endpoint_file
from muster.reconciler import rounds
from muster.store.connection import Connection
from muster.store.recount import differences
from tests.api.jupyter import StandIn, body_of, standing_in
from tests.api.platform import Platform, running_platform, wait_until
from tests.api.serving import Serving, serving_on

STEPS: Final = 90
THINGS_MAX: Final = 5  # of each type
POOLS: Final = ("public", "small")
EXPECTED_REFUSALS: Final = frozenset({400, 404, 409})


@dataclass(slots=True)
class Users:
    platform: Platform
    serving: Serving
    stand_in: StandIn
    random: Random
    model_id: str
    names: int = 0
    seen: Counter[str] = field(default_factory=Counter)  # what was done, to tell that it was

    def act(self) -> None:
        act, *_ = self.random.choices(
            (
                *(self.make_notebook, self.use_notebook, self.make_service, self.use_service),
                *(self.make_job, self.use_job, self.come_up, self.end_something, self.pass_time),
            ),
            (4, 8, 3, 6, 4, 5, 10, 5, 1),
        )
        act()

    # ------------------------------------------------------------ asking

    def make_notebook(self) -> None:
        if len(self.notebooks()) < THINGS_MAX:
            pool_id = self.some_pool()
            given = body_of(self.platform.project, name=self.name(), pool_id=pool_id)
            self.ask("POST", "/notebooks", given)

    def use_notebook(self) -> None:
        for one in self.some(self.notebooks()):
            method, more = self.random.choice(
                [("POST", "/stop"), ("POST", "/start"), ("POST", "/start"), ("DELETE", "")]
            )
            self.ask(method, f"/notebooks/{one['id']}{more}")

    def make_service(self) -> None:
        if len(self.services()) < THINGS_MAX:
            part = self.serving.part(self.model_id, instance_count=self.random.randrange(1, 3))
            given = {"service_name": self.name(), "infer_type": "real-time", "config": [part]}
            self.ask("POST", "/services", given | {"pool_name": self.some_pool()})

    def use_service(self) -> None:
        for one in self.some(self.services()):
            path = f"/services/{one['service_id']}"
            change = self.random.choice(["stopped", "running", "delete", "update"])
            if change == "delete":
                self.ask("DELETE", path)
            elif change == "update":
                count = self.random.randrange(1, 4)
                part = self.serving.part(self.model_id, instance_count=count)
                self.ask("PUT", path, {"config": [part]})
            else:
                self.ask("PUT", path, {"status": change})

    def make_job(self) -> None:
        if len(self.jobs()) < THINGS_MAX:
            config = self.platform.code() | {"pool_id": self.some_pool()}
            self.ask("POST", "/training-jobs", {"job_name": self.name(), "config": config})

    def use_job(self) -> None:
        for one in self.some(self.jobs()):
            path = f"/training-jobs/{one['job_id']}"
            if self.random.random() < 0.5:
                self.ask("DELETE", path)
            else:
                self.ask("POST", f"{path}/versions/{one['version_id']}/stop")

    def ask(self, method: str, path: str, body: object = None) -> None:
        project = self.platform.project
        reply = project.http.request(method, f"{project.v1}{path}", json=body)
        kind = path.split("/")[1]
        if reply.status_code == 200:
            self.seen[f"{method} {kind}"] += 1
        else:
            assert reply.status_code in EXPECTED_REFUSALS, (method, path, reply.text)
            self.seen["refused"] += 1

    # ------------------------------------------------------------ what happens by itself

    def come_up(self) -> None:
        """Some program begins to answer."""
        for attempt_id in self.some(sorted(self.running())):
            file = endpoint_file(self.platform.data / "jobs" / attempt_id, 0)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f'{{"host": "127.0.0.1", "port": {self.stand_in.port}}}')
            self.seen["came up"] += 1

    def end_something(self) -> None:
        for attempt_id in self.some(sorted(self.running())):
            if self.random.random() < 0.2:
                self.platform.call(self.platform.engine.lose, attempt_id)
            else:
                exit_code = self.random.choice([0, 1, 137])
                self.platform.call(self.platform.engine.finish, attempt_id, 0, exit_code)
            self.seen["ended"] += 1

    def pass_time(self) -> None:
        """Leases end, and what never answered is given up."""
        self.platform.clock.now_ms += self.random.choice([1_000, 1_800_000, 3_600_000])
        self.platform.engine.now_ms = self.platform.clock.now_ms
        self.seen["time"] += 1

    def running(self) -> set[str]:
        return self.platform.run(_awaited(self.platform.engine.running))

    # ------------------------------------------------------------ what there is

    def notebooks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.platform.project.get("/notebooks", limit=1000)["data"]
        return found

    def services(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.platform.project.get("/services")["services"]
        return found

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.platform.project.get("/training-jobs")["jobs"]
        return found

    def some_pool(self) -> str:
        return self.platform.project.pool(self.random.choice(POOLS))

    def some(self, things: list[Any]) -> list[Any]:
        return [self.random.choice(things)] if things else []

    def name(self) -> str:
        self.names += 1
        return f"thing-{self.names}"


async def _awaited(function: Any) -> Any:
    return function()


@contextmanager
def counted_all_the_time(platform: Platform) -> Iterator[list[list[str]]]:
    """Recounts again and again, each time at one commit, beside everything else."""
    found: list[list[str]] = []
    is_over = Event()

    def count() -> None:
        while not is_over.is_set():
            found.append(platform.run(platform.server.database.scan(_differences)))

    thread = Thread(target=count)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()


def _differences(connection: Connection) -> list[str]:
    return list(differences(connection))


def statistics(platform: Platform, pool: str) -> dict[tuple[str, str], int]:
    """By type and state, without zeros."""
    project = platform.project
    path = f"{project.v2}/statistics/pools/{project.pool(pool)}/workloads"
    items = project.http.get(path).json()["statistics"]["items"]
    assert sorted(item["type"] for item in items) == ["infer", "notebook", "train"]
    counts = ((item["type"], item["status"].items()) for item in items)
    return {(type_, state): n for type_, states in counts for state, n in states if n}


def listed(platform: Platform, pool: str) -> dict[tuple[str, str], int]:
    """The same, counted one by one in the list of the pool's workloads."""
    project = platform.project
    reply = project.http.get(f"{project.v2}/pools/{project.pool(pool)}/workloads?limit=500").json()
    assert reply["total"] == len(reply["items"])
    return dict(Counter((one["type"], one["status"]) for one in reply["items"]))


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setattr(rounds, "REST_SECONDS", 0.05)
    with running_platform(tmp_path / "data") as platform:
        yield platform


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
def test_the_statistics_of_all_three_types_are_exact_at_every_moment(
    platform: Platform, seed: int
) -> None:
    with serving_on(platform) as serving, standing_in() as stand_in:
        random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
        users = Users(platform, serving, stand_in, random, serving.model())
        with counted_all_the_time(platform) as found:
            for make in (users.make_notebook, users.make_service, users.make_job):
                make()
            for _ in range(STEPS):
                users.act()
        assert [one for one in found if one] == []
        assert len(found) > STEPS / 10

        for pool in POOLS:
            wait_until(lambda: statistics(platform, pool) == listed(platform, pool))  # noqa: B023
        _delete_everything(users)
        for pool in POOLS:
            wait_until(lambda: statistics(platform, pool) == {})  # noqa: B023
        assert platform.run(platform.server.database.scan(_differences)) == []
    done = {"POST notebooks", "POST services", "POST training-jobs", "came up", "ended"}
    assert done <= users.seen.keys(), users.seen


def _delete_everything(users: Users) -> None:
    project = users.platform.project
    paths = chain(
        (f"/notebooks/{one['id']}" for one in users.notebooks()),
        (f"/services/{one['service_id']}" for one in users.services()),
        (f"/training-jobs/{one['job_id']}" for one in users.jobs()),
    )
    for path in list(paths):
        reply: httpx.Response = project.http.delete(f"{project.v1}{path}")
        assert reply.status_code in {200, *EXPECTED_REFUSALS}, reply.text
