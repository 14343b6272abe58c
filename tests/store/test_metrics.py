"""Samples: minutes, periods, bounds, and a file that may go wrong."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from muster.domain.errors import StoreUnavailable
from muster.domain.metric import (
    MINUTE_MS,
    NodeMetric,
    NodeReading,
    Summary,
    TaskMetric,
    TaskReading,
)
from muster.store.metrics import MetricsStore, Span

POOL: Final = "pool-a"
HOUR: Final = 60
NOW: Final = 1_000 * HOUR  # a minute since the epoch
EVERYTHING: Final = Span(first_minute=0, last_minute=2 * NOW)

MakeStore = Callable[..., MetricsStore]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.db"


@pytest.fixture
def make_store(file: Path) -> Iterator[MakeStore]:
    made: list[MetricsStore] = []

    def make(*, kept_hours: int = 24, rows_max: int = 1_000) -> MetricsStore:
        made.append(MetricsStore(file, kept_hours=kept_hours, rows_max=rows_max))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: MakeStore) -> MetricsStore:
    return make_store()


def cpu_of(value: float, *, node: str = "a", partition: str = POOL) -> NodeReading:
    return NodeReading(partition=partition, node_name=node, metric=NodeMetric.CPU, value=value)


def task_cpu(value: float, *, workload_id: int = 1, index: int = 0) -> TaskReading:
    return TaskReading(
        workload_id=workload_id, task_index=index, metric=TaskMetric.CPU, value=value
    )


def rows_of(file: Path, table: str) -> int:
    with closing(sqlite3.connect(file)) as connection:
        [count] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(count)


def overwrite(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def put_folder(place: Path) -> None:
    place.mkdir()


def remove_folder(place: Path) -> None:
    place.rmdir()


pytestmark = pytest.mark.asyncio


async def test_the_samples_of_a_minute_are_one_point(store: MetricsStore, file: Path) -> None:
    for second, value in ((0, 10.0), (20, 40.0), (59, 25.0)):
        await store.add([cpu_of(value)], now_ms=NOW * MINUTE_MS + second * 1000)

    series = await store.sum_up_nodes(POOL, EVERYTHING)

    assert series == {"cpuUsage": {NOW: Summary(count=3, total=75.0, least=10.0, most=40.0)}}
    assert rows_of(file, "point") == 1


async def test_minutes_and_nodes_join_in_a_period(store: MetricsStore) -> None:
    for minute in range(10):
        both = [cpu_of(minute), cpu_of(100 + minute, node="b")]
        await store.add(both, now_ms=(NOW + minute) * MINUTE_MS)

    span = Span(first_minute=NOW + 3, last_minute=NOW + 7, period_minutes=5)
    series = await store.sum_up_nodes(POOL, span)

    assert list(span.periods) == [NOW // 5, NOW // 5 + 1]
    first, second = (series["cpuUsage"][period] for period in span.periods)
    assert first == Summary(count=4, total=3 + 4 + 103 + 104, least=3, most=104)
    assert second == Summary(count=6, total=5 + 6 + 7 + 105 + 106 + 107, least=5, most=107)


async def test_a_metric_is_there_once_it_had_a_value(store: MetricsStore) -> None:
    await store.add([cpu_of(1.0), cpu_of(2.0, partition="pool-b")], now_ms=NOW * MINUTE_MS)

    later = Span(first_minute=NOW + 1, last_minute=NOW + 9)
    assert await store.sum_up_nodes(POOL, later) == {"cpuUsage": {}}
    assert await store.sum_up_nodes("pool-c", later) == {}


async def test_tasks_are_told_together_or_one_by_one(store: MetricsStore) -> None:
    readings = [task_cpu(10.0), task_cpu(30.0, index=1), task_cpu(99.0, workload_id=2)]
    await store.add(readings, now_ms=NOW * MINUTE_MS)

    wanted = [(1, EVERYTHING), (3, EVERYTHING), (2, EVERYTHING)]
    together = await store.sum_up_tasks(wanted)
    [second] = await store.sum_up_tasks([(1, EVERYTHING)], task_index=1)

    assert together == [
        {"cpuUsage": {NOW: Summary(count=2, total=40.0, least=10.0, most=30.0)}},
        {},
        {"cpuUsage": {NOW: Summary(count=1, total=99.0, least=99.0, most=99.0)}},
    ]
    assert second["cpuUsage"][NOW].average == 30.0


async def test_what_is_older_than_the_kept_hours_goes(make_store: MakeStore, file: Path) -> None:
    store = make_store(kept_hours=1)
    await store.add([task_cpu(1.0), cpu_of(1.0)], now_ms=NOW * MINUTE_MS)
    await store.add([cpu_of(2.0)], now_ms=(NOW + HOUR - 1) * MINUTE_MS)
    assert rows_of(file, "point") == 3

    await store.add([cpu_of(3.0)], now_ms=(NOW + HOUR) * MINUTE_MS)

    series = await store.sum_up_nodes(POOL, EVERYTHING)
    assert set(series["cpuUsage"]) == {NOW + HOUR - 1, NOW + HOUR}
    assert await store.sum_up_tasks([(1, EVERYTHING)]) == [{}]
    assert rows_of(file, "series") == 1


async def test_there_are_never_more_rows_than_the_bound_and_the_oldest_go(
    make_store: MakeStore, file: Path
) -> None:
    store = make_store(rows_max=40)

    for minute in range(100):
        await store.add([cpu_of(1.0), cpu_of(1.0, node="b")], now_ms=(NOW + minute) * MINUTE_MS)
        assert rows_of(file, "point") <= 40

    kept = sorted((await store.sum_up_nodes(POOL, EVERYTHING))["cpuUsage"])
    assert kept == list(range(kept[0], NOW + 100))
    assert 36 <= 2 * len(kept) <= 40


async def test_many_samples_of_few_minutes_are_not_taken_for_many_rows(
    make_store: MakeStore,
) -> None:
    store = make_store(rows_max=10)

    for second in range(50):
        await store.add([cpu_of(1.0)], now_ms=NOW * MINUTE_MS + second * 1000)
    await store.add([cpu_of(1.0)], now_ms=(NOW + 1) * MINUTE_MS)

    assert set((await store.sum_up_nodes(POOL, EVERYTHING))["cpuUsage"]) == {NOW, NOW + 1}


async def test_what_is_stored_is_there_after_a_restart(
    make_store: MakeStore, store: MetricsStore
) -> None:
    await store.add([cpu_of(5.0)], now_ms=NOW * MINUTE_MS)
    store.close()

    series = await make_store().sum_up_nodes(POOL, EVERYTHING)

    assert series["cpuUsage"][NOW].total == 5.0


@pytest.mark.parametrize("damage", [b"not a database" * 1000, b"SQLite format 3\0" + b"x" * 5000])
async def test_a_damaged_file_is_made_anew(store: MetricsStore, file: Path, damage: bytes) -> None:
    overwrite(file, damage)

    await store.add([cpu_of(5.0)], now_ms=NOW * MINUTE_MS)

    assert set((await store.sum_up_nodes(POOL, EVERYTHING))["cpuUsage"]) == {NOW}


async def test_a_file_of_another_schema_is_made_anew(
    make_store: MakeStore, store: MetricsStore, file: Path
) -> None:
    await store.add([cpu_of(5.0)], now_ms=NOW * MINUTE_MS)
    store.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")

    assert await make_store().sum_up_nodes(POOL, EVERYTHING) == {}


async def test_a_file_that_cannot_be_opened_is_told_and_tried_again(
    store: MetricsStore, file: Path
) -> None:
    put_folder(file)
    with pytest.raises(StoreUnavailable, match=r"metrics\.db"):
        await store.add([cpu_of(5.0)], now_ms=NOW * MINUTE_MS)

    remove_folder(file)
    await store.add([cpu_of(6.0)], now_ms=NOW * MINUTE_MS)

    assert (await store.sum_up_nodes(POOL, EVERYTHING))["cpuUsage"][NOW].total == 6.0


async def test_a_closed_store_takes_nothing(store: MetricsStore) -> None:
    store.close()

    with pytest.raises(StoreUnavailable):
        await store.add([cpu_of(5.0)], now_ms=NOW * MINUTE_MS)
