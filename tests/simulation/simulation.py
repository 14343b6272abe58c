"""The whole platform in one process, with users, outcomes and faults drawn from a seed.

The store is a real one, the engine a fake one that outlives its servers, and time is counted by
hand. Whatever may happen in another order, in reality by threads and machines, is drawn from the
seed too: so a seed gives the same run each time.
"""

import asyncio
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pytest
from structlog.testing import capture_logs

from muster.domain.errors import JobUnknown, MusterError, StoreUnavailable
from muster.domain.phase import FINISHED, view_of
from muster.domain.training import RETRIES_MAX, RETRY_ANNOTATION, TimeLimit, TimeUnit
from muster.operations import training
from muster.reconciler.act import PASSING
from muster.reconciler.sweeps import Sweeper
from muster.store import jobs, pool_nodes, pools, timeline, workloads
from muster.store.connection import Connection
from muster.store.recount import differences
from muster.store.sqlite import SqliteDatabase
from muster.store.transaction import Transaction
from tests.engines.fake import Crash, Fault
from tests.reconciler.site import (
    CALLER,
    CATALOGUE,
    GPU_POOL,
    HOSTS,
    LOST_TIMEOUT_MS,
    PROJECT,
    Site,
    config_of,
    open_site,
    set_up_site,
)
from tests.reconciler.worlds import rooms_left

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

STEPS: Final = 200
JOBS_MAX: Final = 15
POOL_NODES: Final = 2  # as many as there are hosts for
ROUNDS_MAX: Final = 60  # at the end, until all is at rest

ENDED_STATUSES: Final = frozenset(view_of(phase).v1_status for phase in FINISHED)


class SteppedDatabase(SqliteDatabase):
    """Commits while the event loop stands still: only the seed decides who comes first.

    A write may fail, and the server may die right before or right after a commit.
    """

    def __init__(self, path: Path, random: Random) -> None:
        super().__init__(path)
        self.choose_fault: Callable[[], Fault] = lambda: Fault.NONE
        self._random = random
        self.commits = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        fault = await self._fault()
        return self._commit(super().write(work, *args, **kwargs), fault)

    async def write_together(
        self,
        work: Callable[[Transaction, Sequence[Item]], Sequence[T | MusterError]],
        item: Item,
        *,
        is_patient: bool = False,
    ) -> T:
        fault = await self._fault()
        return self._commit(super().write_together(work, item), fault)

    async def _fault(self) -> Fault:
        fault = self.choose_fault()
        for _ in range(self._random.randrange(4)):
            await asyncio.sleep(0)  # others may go first
        if fault is Fault.NO_ANSWER:
            raise StoreUnavailable("The disk is full.")
        if fault is Fault.CRASH and self._random.random() < 0.5:
            raise Crash("before a commit")
        return fault

    def _commit(self, committing: Coroutine[Any, Any, T], fault: Fault) -> T:
        result = asyncio.run_coroutine_threadsafe(committing, self._loop).result()
        self.commits += 1
        if fault is Fault.CRASH:
            raise Crash("after a commit")
        return result

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        super().close()


@dataclass(slots=True)
class Expected:
    """What users have been told: muster must keep it."""

    versions: dict[int, set[int]] = field(default_factory=dict)  # of each job, as acknowledged
    deleted_jobs: set[int] = field(default_factory=set)
    deleted_versions: set[int] = field(default_factory=set)
    unsure: Counter[int] = field(default_factory=Counter)  # jobs with deletions without an answer
    ended: dict[int, int] = field(default_factory=dict)  # status by version

    @contextmanager
    def deleting(self, job_id: int) -> Iterator[None]:
        """Whoever is told nothing, because the server has died, cannot know what was done."""
        self.unsure[job_id] += 1
        try:
            yield
        except MusterError:
            self.unsure[job_id] -= 1
            raise
        self.unsure[job_id] -= 1


@dataclass(slots=True)
class Simulation:
    site: Site
    database: SteppedDatabase
    random: Random
    fault_rates: dict[Fault, float]
    is_calm: bool = True  # no faults
    seen: Counter[str] = field(default_factory=Counter)  # what has happened, to tell that it did
    expected: Expected = field(default_factory=Expected)
    logged: list[MutableMapping[str, Any]] = field(default_factory=list)
    passing: asyncio.Task[None] | None = None
    names: int = 0
    commits_checked: int = 0

    # What goes wrong.

    def choose_fault(self, where: str) -> Fault:
        if self.is_calm:
            return Fault.NONE
        rates = {**self.fault_rates, Fault.NONE: 1 - sum(self.fault_rates.values())}
        [fault] = self.random.choices([*rates], [*rates.values()])
        if fault is not Fault.NONE:
            self.seen[f"{fault.name} in {where}"] += 1
        return fault

    def choose_store_fault(self) -> Fault:
        if self.is_calm:
            return Fault.NONE
        [fault] = self.random.choices([Fault.NO_ANSWER, Fault.CRASH, Fault.NONE], [3, 0.7, 96])
        if fault is not Fault.NONE:
            self.seen[f"{fault.name} in write"] += 1
        return fault

    # One server after the other.

    async def run(self) -> None:
        await self.site.database.write(set_up_site)
        self.is_calm = False
        self.site.engine.choose_fault = self.choose_fault
        steps = iter(range(STEPS))
        while await self.dies(self.live(steps)):
            self.seen["crashes"] += 1
            self.site.engine.release_answers()
            self.site.restart()
            self.passing = None
        assert not await self.dies(self.come_to_rest())

    async def dies(self, life: Awaitable[None]) -> bool:
        """Whether the server crashed; any other failure is a failure of the platform."""
        try:
            await life
        except BaseExceptionGroup as group:
            crashes, others = group.split(Crash)
            if others is not None:
                raise others from None
            return crashes is not None
        return False

    async def live(self, steps: Iterator[int]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in steps:
                self.step(tasks)
                for _ in range(self.random.randrange(12)):
                    await asyncio.sleep(0)
                await self.site.database.read(self.check)
            self.is_calm = True
            self.site.engine.is_unavailable = False
            self.site.engine.release_answers()

    def step(self, tasks: asyncio.TaskGroup) -> None:
        """Set one thing going; it may take until many steps later."""
        [act] = self.random.choices(
            [
                lambda: self.begin_pass(tasks),
                lambda: tasks.create_task(self.use()),
                self.let_something_happen,
            ],
            [10, 6, 6],
        )
        act()

    def begin_pass(self, tasks: asyncio.TaskGroup) -> None:
        """As the loop does: one after the other, while actions go on beside them."""
        if self.passing is None or self.passing.done():
            self.passing = tasks.create_task(self.pass_once(tasks))

    async def pass_once(self, tasks: asyncio.TaskGroup) -> None:
        try:
            await self.site.reconciler.pass_once(tasks)
        except PASSING:
            self.seen["passes that failed"] += 1

    # The users.

    async def use(self) -> None:
        """A user asks for something, and may be told that it cannot be."""
        uses: dict[str, tuple[Callable[[], Awaitable[None]], int]] = {
            "submit": (self.submit, 8),
            "submit without a version": (self.submit_without_version, 1),
            "run again": (self.run_again, 3),
            "stop": (self.stop, 5),
            "delete a version": (self.delete_version, 2),
            "delete a job": (self.delete_job, 1),
            "describe": (self.describe, 1),
            "archive": (self.archive, 3),
            "lock or unlock a node": (self.lock_or_unlock, 2),
            "resize the pool": (self.resize, 1),
        }
        [name] = self.random.choices([*uses], [weight for _, weight in uses.values()])
        try:
            await uses[name][0]()
            self.seen[name] += 1
        except MusterError as refused:
            self.seen[type(refused).__name__] += 1

    async def submit(self) -> None:
        if self.names >= JOBS_MAX:
            return
        self.names += 1
        submitted = await training.submit_job(
            self.site.training,
            CALLER,
            name=f"job-{self.names}",
            description="",
            workspace_id="0",
            config=self.some_config(),
            creates_version=True,
            now_ms=self.site.clock_ms(),
        )
        assert submitted.version_id is not None
        self.expected.versions.setdefault(submitted.job_id, set()).add(submitted.version_id)

    async def submit_without_version(self) -> None:
        self.names += 1
        submitted = await training.submit_job(
            self.site.training,
            CALLER,
            name=f"job-{self.names}",
            description="",
            workspace_id="0",
            config=self.some_config(),
            creates_version=False,
            now_ms=self.site.clock_ms(),
        )
        self.expected.versions.setdefault(submitted.job_id, set())

    async def run_again(self) -> None:
        job_id = self.some_job()
        submitted = await training.create_version(
            self.site.training,
            CALLER,
            job_id=job_id,
            description=self.random.choice(["", "once more"]),
            config=self.some_config(),
            pre_version_id=None,
            now_ms=self.site.clock_ms(),
        )
        assert submitted.version_id is not None
        self.expected.versions.setdefault(job_id, set()).add(submitted.version_id)

    async def stop(self) -> None:
        job_id, version_id = await self.some_version_to_stop()
        workload_id = await self.site.database.read(workload_of, job_id, version_id)
        is_busy = workload_id in self.site.reconciler._busy
        await training.stop_version(
            self.site.training,
            CALLER,
            job_id=job_id,
            version_id=version_id,
            now_ms=self.site.clock_ms(),
        )
        self.seen["stops while an action is under way"] += is_busy

    async def delete_version(self) -> None:
        job_id, version_id = self.some_version()
        with self.expected.deleting(job_id):
            await training.delete_version(
                self.site.training,
                CALLER,
                job_id=job_id,
                version_id=version_id,
                now_ms=self.site.clock_ms(),
            )
        self.expected.deleted_versions.add(version_id)

    async def delete_job(self) -> None:
        job_id = self.some_job()
        with self.expected.deleting(job_id):
            await training.delete_job(
                self.site.training, CALLER, job_id=job_id, now_ms=self.site.clock_ms()
            )
        self.expected.deleted_jobs.add(job_id)

    async def describe(self) -> None:
        await training.describe_job(
            self.site.training, CALLER, job_id=self.some_job(), description="described"
        )

    async def archive(self) -> None:
        """What has ended is packed away at once; users go on with it as before."""
        sweeper = Sweeper(
            database=self.database,
            objects=self.site.training.objects,
            jobs_folder=self.site.folder / "jobs",
            clock_ms=self.site.clock_ms,
            archive_after_ms=0,
            rest_seconds=0.0,
        )
        self.seen["archived"] += await sweeper.archive_due()

    async def lock_or_unlock(self) -> None:
        def change(tx: Transaction) -> None:
            node = self.random.choice(pool_nodes.list_nodes(tx.connection))
            # Unlocked more often, so that work goes on.
            is_locked = not node.is_locked and self.random.random() < 0.5
            pool_nodes.lock_node(tx, node, is_locked=is_locked)

        await self.site.database.write(change)

    async def resize(self) -> None:
        """Nodes come and go: a busy one is drained, and its cards are dealt to a new one later."""
        node_count = self.random.randrange(1, POOL_NODES + 1)
        await self.site.database.write(
            resize_pool, node_count, now_ms=self.site.clock_ms(), actor=CALLER.user_name
        )

    def some_config(self) -> Any:
        flavor = self.random.choice(CATALOGUE.flavors)
        workers = self.random.randrange(1, flavor.task_count_max + 1)
        train_url = self.random.choice([None, "/results/somewhere/"])
        retries = self.random.choice([0, 0, 1, 2, 3])
        minutes = self.random.choice([None, None, 1, 15])
        return config_of(
            flavor,
            workers,
            train_url=train_url,
            annotations={RETRY_ANNOTATION: str(retries)},
            auto_stop=minutes and TimeLimit(time_unit=TimeUnit.MINUTES, duration=minutes),
        )

    def some_job(self) -> int:
        if not self.expected.versions:
            raise JobUnknown("There is none yet.")
        return self.random.choice(sorted(self.expected.versions))

    def some_version(self) -> tuple[int, int]:
        known = self.known_versions()
        if not known:
            raise JobUnknown("There is none yet.")
        return self.random.choice(known)

    def known_versions(self) -> list[tuple[int, int]]:
        """The newest of them."""
        known = [(j, v) for j, versions in self.expected.versions.items() for v in versions]
        return sorted(known)[-12:]

    async def some_version_to_stop(self) -> tuple[int, int]:
        """Now and then one for which an action is under way: chance alone meets few of them."""
        chosen = self.some_version()
        if self.random.random() < 0.3:
            for version in self.known_versions():
                workload_id = await self.site.database.read(workload_of, *version)
                if workload_id in self.site.reconciler._busy:
                    return version
        return chosen

    # The machines.

    def let_something_happen(self) -> None:
        engine = self.site.engine
        running = sorted(engine.running())
        is_stopping = bool(self.site.reconciler.platform.stopping)
        comes_back = engine.is_unavailable and self.random.random() < 0.4
        happenings = {
            "finish": 20,
            "come up": 8,
            "lose": 3,
            "time": 6,
            "much time": 1,
            "clock": 15 if is_stopping else 0.3,
            "engine": 30 if comes_back else 1,
            "answers": 4,
            "host dies": 0.7,
            "host comes back": 10 if engine.down() else 0,
        }
        [happening] = self.random.choices([*happenings], [*happenings.values()])
        match happening:
            case "finish" if running:
                attempt = self.random.choice(running)
                for placement in engine.started[attempt].tasks:
                    if self.random.random() < 0.7:
                        exit_code = self.random.choice([0, 0, 0, 1, 137])
                        engine.finish(attempt, placement.index, exit_code)
            case "come up" if running:
                engine.come_up(self.random.choice(running))
            case "lose" if running:
                engine.lose(self.random.choice(running))
            case "time":
                engine.advance(self.random.randrange(5_000))
            case "much time":
                engine.advance(LOST_TIMEOUT_MS + 1)
            case "clock":
                self.site.clock_ahead_ms += LOST_TIMEOUT_MS + 1
            case "engine":
                engine.is_unavailable = not engine.is_unavailable
            case "answers":
                engine.release_answers()
            case "host dies":
                engine.take_down(self.random.choice(HOSTS).name)
                self.seen["host dies"] += 1
            case "host comes back":
                engine.bring_back(self.random.choice(sorted(engine.down())))
                self.seen["host comes back"] += 1
            case _:
                pass  # to nothing that runs

    # What must be so at every moment.

    def check(self, connection: Connection) -> None:
        if self.database.commits != self.commits_checked:
            assert list(differences(connection)) == []
            self.commits_checked = self.database.commits
        active = workloads.list_active(connection)
        shared = [card for card, users in self.site.engine.cards_in_use().items() if users[1:]]
        assert shared == [], "a card is used by two attempts"
        twice = [a for a, times in self.site.engine.start_counts.items() if times > 1]
        assert twice == [], "an attempt was started twice"
        holding = {w.attempt_id for w in active if w.is_holding}
        assert self.site.engine.running() <= holding, "processes run on nodes that are free"
        nodes = pool_nodes.list_nodes(connection)
        used = {task.node_name for w in active if w.is_holding for task in w.placements}
        assert used <= {node.name for node in nodes}, "a node has gone while work was on it"
        for room in rooms_left(nodes, active):
            assert min(room.cpu_millis, room.memory_mib) >= 0, "a node holds more than it has"
        again = connection.execute(
            "SELECT id FROM workload"
            " WHERE (is_archived = 0 AND attempt_count >"
            " 1 + (SELECT count(*) FROM past_attempt WHERE workload_id = id))"
            " OR attempt_count + retries_left > 1 + :most",
            {"most": RETRIES_MAX},
        ).fetchall()
        assert again == [], "a workload was tried more often than it may be"
        for job_id in self.expected.versions:
            if job_id in self.expected.deleted_jobs:
                with pytest.raises(JobUnknown):
                    jobs.get_job(connection, PROJECT, job_id)
            elif not self.expected.unsure[job_id]:
                self.check_job(connection, job_id)
        assert [line for line in self.logged if line["log_level"] == "error"] == []

    def check_job(self, connection: Connection, job_id: int) -> None:
        jobs.get_job(connection, PROJECT, job_id)
        versions = jobs.list_job_versions(connection, job_id, offset=0, limit=-1)
        shown = {version.id for version in versions}
        told = self.expected.versions[job_id]
        assert told - self.expected.deleted_versions <= shown, "an acknowledged version is lost"
        assert not shown & self.expected.deleted_versions, "a deleted version is shown"
        for version in versions:
            status = self.expected.ended.setdefault(version.id, version.status)
            assert version.status == status, "a version moved after its end"
            if status not in ENDED_STATUSES:
                del self.expected.ended[version.id]

    # The end.

    async def come_to_rest(self) -> None:
        """Without faults, every job ends, and what was deleted leaves no trace."""
        engine = self.site.engine
        for host_name in engine.down():
            engine.bring_back(host_name)
        await self.site.database.write(unlock_all)
        await self.site.database.write(
            resize_pool, POOL_NODES, now_ms=self.site.clock_ms(), actor=CALLER.user_name
        )
        for _ in range(ROUNDS_MAX):
            async with asyncio.TaskGroup() as tasks:
                planned = await self.site.reconciler.pass_once(tasks)
            await self.site.database.read(self.check)
            if not planned and await self.site.database.read(is_at_rest) and not engine.running():
                kept = await self.site.database.read(attempts_kept)
                traces = [a for a in engine.started if await engine.find(a, self.site.folder)]
                assert set(traces) <= kept, "the engine keeps traces of what was deleted"
                return
            for attempt in sorted(engine.running()):
                engine.come_up(attempt)
                for placement in engine.started[attempt].tasks:
                    engine.finish(attempt, placement.index, 0)
            engine.advance(LOST_TIMEOUT_MS + 1)
        raise AssertionError("There is no end to it.")


def is_at_rest(connection: Connection) -> bool:
    """Nothing is live, nothing is held, and nothing is left of what was deleted."""
    [live] = connection.execute(
        "SELECT count(*) FROM workload WHERE is_holding = 1 OR ended_at_ms IS NULL"
    ).fetchone()
    [left] = connection.execute(
        "SELECT (SELECT count(*) FROM card_hold)"
        " + (SELECT count(*) FROM workload WHERE is_deleted = 1)"
        " + (SELECT count(*) FROM version WHERE is_deleted = 1)"
        " + (SELECT count(*) FROM job WHERE is_deleted = 1)"
    ).fetchone()
    return not live and not left


def resize_pool(tx: Transaction, node_count: int, *, now_ms: int, actor: str) -> None:
    pool = pools.get_pool(tx.connection, PROJECT, GPU_POOL)
    lines = tuple(replace(line, node_count=node_count) for line in pool.lines)
    pools.change_pool(tx, replace(pool, lines=lines), now_ms=now_ms, actor=actor)


def unlock_all(tx: Transaction) -> None:
    for node in pool_nodes.list_nodes(tx.connection):
        pool_nodes.lock_node(tx, node, is_locked=False)


def attempts_kept(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT attempt_id FROM workload WHERE attempt_id IS NOT NULL"
        " UNION SELECT attempt_id FROM past_attempt"
    )
    kept = {attempt_id for [attempt_id] in rows}
    ids = [id_ for [id_] in connection.execute("SELECT workload_id FROM archived")]
    past = timeline.list_past_attempts(connection, ids)
    return kept | {attempt.attempt_id for attempts in past.values() for attempt in attempts}


def workload_of(connection: Connection, job_id: int, version_id: int) -> int:
    return jobs.get_version(connection, PROJECT, job_id, version_id).workload_id


async def _to_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return work(*args, **kwargs)


def simulate(seed: int) -> Counter[str]:
    """Run one seed to its end; tell what has happened in it."""
    random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    with (
        tempfile.TemporaryDirectory(dir=_fast_folder()) as folder,
        capture_logs() as logged,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setattr(asyncio, "to_thread", _to_thread)
        database = SteppedDatabase(Path(folder) / "muster.db", random)
        with open_site(Path(folder), database) as site:
            simulation = Simulation(
                site=site,
                database=database,
                random=random,
                fault_rates={
                    Fault.NO_ANSWER: random.choice([0.0, 0.05, 0.1]),
                    Fault.ANSWER_LOST: random.choice([0.0, 0.05, 0.1]),
                    Fault.ANSWER_LATE: random.choice([0.0, 0.1, 0.2]),
                    Fault.CRASH: random.choice([0.0, 0.01, 0.03]),
                },
                logged=logged,
            )
            database.choose_fault = simulation.choose_store_fault
            site.engine.comes_up_at_once = random.random() < 0.5
            site.engine.ends_at_once = random.random() < 0.5
            asyncio.run(simulation.run())
    moved = [line for line in logged if line["event"] == "workload_moved"]
    overtaken = [line for line in logged if line["event"] == "action_overtaken"]
    return simulation.seen + Counter(
        {
            **Counter(str(line["phase"]) for line in moved),
            "overtaken actions": len(overtaken),
            "retried": sum(line["phase"] == "Queued" for line in moved),
            "stopped at the limit": sum(
                line["reason"] == "AutoStopped" and line["phase"] == "Terminated" for line in moved
            ),
            "given up": sum(
                line["reason"] == "Lost" and line["phase"] == "Failed" for line in moved
            ),
        }
    )


def _fast_folder() -> Path | None:
    """Memory where there is such a file system: commits wait for the disk otherwise."""
    memory = Path("/dev/shm")  # noqa: S108 - only a place for a temporary folder
    return memory if os.access(memory, os.W_OK) else None
