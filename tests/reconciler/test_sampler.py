"""What a sample says of nodes and tasks, and how the sampler goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from muster.domain.metric import MINUTE_MS, NodeReading, TaskReading
from muster.domain.phase import Phase
from muster.domain.placement import CardKind, TaskPlacement
from muster.domain.pool import PUBLIC_PARTITION, Node
from muster.domain.resources import Resources
from muster.domain.workload import Workload, WorkloadType
from muster.engines.engine import CardUsage, EngineRef, HostUsage, Launch, Sample, TaskUsage
from muster.reconciler.sampler import Sampler, measure
from muster.store import workloads
from muster.store.database import Database
from muster.store.metrics import MetricsStore, Series, Span
from muster.store.sqlite import SqliteDatabase
from muster.store.transaction import Transaction
from tests.engines.fake import FakeEngine, Program
from tests.store.rows import GPU_POOL, TWO_GPUS, add_workload, set_up_store

DEADLINE_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.01
NOW_MS: Final = 1_000 * MINUTE_MS
NOW: Final = Span(first_minute=1_000, last_minute=1_000)

HOST: Final = HostUsage(
    cpu_percent=12.5,
    memory_used_mib=256,
    memory_total_mib=1024,
    disk_free_mib=750,
    disk_total_mib=1000,
    cards=(
        CardUsage(
            kind=CardKind.GPU, index=0, busy_percent=80, memory_used_mib=10, memory_total_mib=100
        ),
        CardUsage(
            kind=CardKind.GPU, index=1, busy_percent=40, memory_used_mib=90, memory_total_mib=100
        ),
        CardUsage(kind=CardKind.GPU, index=2, memory_used_mib=5, memory_total_mib=100),
    ),
)
Values = dict[str, float]
DISK: Final = {"diskCapacity": 1000, "diskAvailableCapacity": 750, "diskUsedRate": 25}
REF: Final = EngineRef("attempt")


def node(name: str = "n", *, partition: str = "pool", cards: Sequence[int] = ()) -> Node:
    return Node(
        name=name,
        partition=partition,
        host_name="host",
        cpu_millis=4000,
        memory_mib=1000,
        card_kind=CardKind.GPU if cards else None,
        cards=tuple(cards),
    )


def workload(*nodes: str, cards: Sequence[int] = (), kind: CardKind = CardKind.GPU) -> Workload:
    """Holds 2 CPUs and 500 MiB on each of the nodes."""
    return Workload(
        id=7,
        project_id="p",
        pool_id="pool",
        partition="pool",
        type=WorkloadType.TRAIN,
        task=Resources(cpu_millis=2000, memory_mib=500),
        task_count=len(nodes),
        priority=1,
        phase=Phase.RUNNING,
        is_holding=True,
        engine_ref=REF,
        placements=tuple(
            TaskPlacement(
                index=index, node_name=name, card_kind=kind if cards else None, cards=tuple(cards)
            )
            for index, name in enumerate(nodes)
        ),
    )


def task(index: int = 0, *, cpu: int | None = 1000, memory: int | None = 100) -> TaskUsage:
    return TaskUsage(ref=REF, index=index, cpu_millis=cpu, memory_mib=memory)


def sample(*tasks: TaskUsage, host: HostUsage = HOST) -> Sample:
    return Sample(hosts={"host": host}, tasks=tasks)


def of_nodes(seen: Sample, nodes: Sequence[Node], *holding: Workload) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for reading in measure(seen, nodes, holding):
        if isinstance(reading, NodeReading):
            found.setdefault(reading.node_name, {})[reading.metric] = reading.value
    return found


def of_tasks(seen: Sample, nodes: Sequence[Node], *holding: Workload) -> dict[int, Values]:
    found: dict[int, Values] = {}
    for reading in measure(seen, nodes, holding):
        if isinstance(reading, TaskReading):
            assert reading.workload_id == 7
            found.setdefault(reading.task_index, {})[reading.metric] = reading.value
    return found


def test_a_public_node_is_as_busy_as_its_host() -> None:
    public = node(partition=PUBLIC_PARTITION)

    assert of_nodes(sample(task()), [public], workload("n")) == {
        "n": {"cpuUsage": 12.5, "memUsedRate": 25, **DISK}
    }


def test_a_node_of_a_pool_is_as_busy_as_its_tasks_make_it() -> None:
    seen = sample(task(0, cpu=1000), task(1, cpu=500, memory=50))
    nodes = [node(), node("idle")]

    shown = of_nodes(seen, nodes, workload("n", "n"))

    assert shown["n"] == {"cpuUsage": 37.5, "memUsedRate": 15, **DISK}
    assert shown["idle"] == {"cpuUsage": 0, "memUsedRate": 0, **DISK}


def test_a_task_is_told_in_percent_of_what_it_holds() -> None:
    assert of_tasks(sample(task(cpu=500, memory=250)), [node()], workload("n")) == {
        0: {"cpuUsage": 25, "memUsage": 50}
    }


def test_cards_are_told_for_who_has_them() -> None:
    nodes = [node(cards=(0, 1)), node("other", cards=(2,))]

    shown = of_nodes(sample(), nodes)
    assert (shown["n"]["gpuUtil"], shown["n"]["gpuMemUsage"]) == (60, 50)
    # It does not say how busy it is, and is not taken for idle.
    assert ("gpuUtil" in shown["other"], shown["other"]["gpuMemUsage"]) == (False, 5)
    [job] = of_tasks(sample(task()), nodes, workload("n", cards=(1,))).values()
    assert (job["gpuUtil"], job["gpuMemUsage"]) == (40, 90)


def test_cards_that_cannot_be_read_are_absent() -> None:
    [job] = of_tasks(
        sample(task()), [node()], workload("n", cards=(0,), kind=CardKind.NPU)
    ).values()

    assert set(job) == {"cpuUsage", "memUsage"}
    assert set(of_nodes(sample(), [node(cards=(7,))])["n"]) == {"cpuUsage", "memUsedRate", *DISK}


def test_what_is_not_known_of_one_task_is_not_known_of_its_node() -> None:
    seen = sample(task(0, cpu=None), task(1))

    assert of_nodes(seen, [node()], workload("n", "n"))["n"] == {"memUsedRate": 20, **DISK}
    assert of_tasks(seen, [node()], workload("n", "n"))[0] == {"memUsage": 20}


def test_a_host_that_is_not_sampled_says_nothing_of_its_nodes() -> None:
    seen = Sample(hosts={}, tasks=(task(),))

    assert of_nodes(seen, [node()], workload("n")) == {}
    assert of_tasks(seen, [node()], workload("n")) == {0: {"cpuUsage": 50, "memUsage": 20}}
    assert of_nodes(sample(host=HostUsage()), [node(partition=PUBLIC_PARTITION)]) == {}


def test_a_task_of_which_the_platform_knows_nothing_is_left_out() -> None:
    stranger = replace(task(), ref=EngineRef("another"))

    assert of_tasks(sample(stranger), [node()], workload("n")) == {}


class Scene:
    """A sampler beside a running workload, an engine in memory and a store."""

    def __init__(self, database: Database, metrics: MetricsStore, running: Workload) -> None:
        busy = Program(argv=("busy",), cpu_millis=1000, memory_mib=512)
        self.running = running
        self.engine = FakeEngine(programs=(busy,), host_usage={"shared": HOST})
        self.metrics = metrics
        self.sampler = Sampler(
            database=database,
            engine=self.engine,
            metrics=metrics,
            clock_ms=lambda: NOW_MS,
            interval_seconds=0.01,
        )

    async def start_task(self) -> None:
        assert self.running.attempt_id is not None
        await self.engine.start(
            Launch(
                attempt_id=self.running.attempt_id,
                argv=("busy",),
                environment={},
                code=None,
                folder=Path("nowhere"),
                tasks=self.running.placements,
            )
        )

    async def public_node(self) -> Values:
        return _averages(await self.metrics.sum_up_nodes(PUBLIC_PARTITION, NOW))

    async def task(self) -> Values:
        [series] = await self.metrics.sum_up_tasks([(self.running.id, NOW)])
        return _averages(series)

    async def run_until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        running = asyncio.create_task(self.sampler.run())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not await is_so():  # noqa: ASYNC110 - what it waits for is in a file
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            running.cancel()
            await asyncio.wait({running})


def _averages(series: Series) -> Values:
    return {metric: values[1_000].average for metric, values in series.items()}


@pytest_asyncio.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    database = SqliteDatabase(tmp_path / "muster.db")
    metrics = MetricsStore(tmp_path / "metrics.db", kept_hours=1)

    def run_one(tx: Transaction) -> Workload:
        set_up_store(tx)
        workload = add_workload(tx, phase=Phase.RUNNING, pool_id=GPU_POOL, task=TWO_GPUS)
        return workloads.set_engine_ref(tx, workload, workload.attempt_id or "")

    yield Scene(database, metrics, await database.write(run_one))
    metrics.close()
    database.close()


@pytest.mark.asyncio
async def test_the_sampler_keeps_what_the_engine_says(scene: Scene) -> None:
    await scene.start_task()

    await scene.sampler.sample_once()

    assert (await scene.public_node())["cpuUsage"] == 12.5
    assert await scene.task() == {"cpuUsage": 50, "memUsage": 25}


@pytest.mark.asyncio
async def test_a_task_is_sampled_soon_after_it_has_started(scene: Scene) -> None:
    scene.sampler.interval_seconds = 3_600

    async def is_measured() -> bool:
        if await scene.public_node():  # the first round is over
            await scene.start_task()
            scene.sampler.wake()
        return bool(await scene.task())

    await scene.run_until(is_measured)

    assert await scene.task() == {"cpuUsage": 50, "memUsage": 25}


@pytest.mark.asyncio
async def test_an_engine_without_an_answer_is_asked_again(scene: Scene) -> None:
    async def is_failing() -> bool:
        return scene.sampler.is_failing

    async def has_values() -> bool:
        return bool(await scene.public_node())

    scene.engine.is_unavailable = True
    await scene.run_until(is_failing)
    assert await scene.public_node() == {}
    scene.engine.is_unavailable = False

    await scene.run_until(has_values)

    assert not scene.sampler.is_failing
