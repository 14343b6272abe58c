"""Counts of each order of a list: they lead to any page, whatever has changed since."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest

from muster.domain.history import HistoryRow
from muster.domain.phase import Phase
from muster.reconciler.settling import Settler
from muster.store import jobs, keyblocks
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.history import insert_history
from muster.store.listing import (
    JOB_SORT_KEYS,
    VERSION_SORT_KEYS,
    ListQuery,
    page_of_jobs,
    page_of_versions,
)
from muster.store.paging import gathering, pages, ranked
from muster.store.paging.scope import Scope
from muster.store.transaction import Transaction
from tests.store.rows import (
    GPU_POOL,
    PROJECT,
    WORKSPACE,
    add_version,
    bring_to,
    find_differences,
)
from tests.store.test_jobs import delete_job, delete_version

ROWS = 180
STRETCH_ROWS = 8
STATUSES = ((), (5, 8, 11))


def history(first: int, count: int = ROWS) -> list[HistoryRow]:
    """Two versions a job; long stretches of one description, and of one duration."""
    return [
        HistoryRow(
            version_id=str(number),
            job_id=str(number // 2),
            job_name=f"job-{number // 2 * 37 % 1_000:03}",
            job_description="" if number % 3 else f"about {number % 7}",
            description="" if number % 3 else f"about {number % 7}",
            workspace_id=WORKSPACE,
            status=(10, 10, 11, 12, 5)[number % 5],
            created_at_ms=1_000 + number * 31 % 500,
            started_at_ms=None if number % 5 == 4 else 2_000,
            ended_at_ms=2_000 + number * 53 % 90,
            pool_id=GPU_POOL if number % 4 == 0 else "",
            flavor_code="any",
        )
        for number in range(first, first + count)
    ]


async def move_in(database: Database, first: int, count: int = ROWS) -> None:
    def put(tx: Transaction) -> None:
        moved = insert_history(
            tx, PROJECT, history(first, count), actor="x", now_ms=9_000, pool_as_public=False
        )
        assert moved.imported == count, moved.refused[:3]

    await database.write(put)


def settler(database: Database, *, rows_min: int = 50) -> Settler:
    return Settler(
        database=database,
        rows_min=rows_min,
        stretch_rows=STRETCH_ROWS,
        due_rows=1,
        batch_rows=40,
        rest_seconds=0,
    )


async def job_at(database: Database, index: int) -> jobs.Job:
    def read(connection: Connection) -> jobs.Job:
        [job_id] = connection.execute(
            "SELECT id FROM job WHERE is_deleted = 0 ORDER BY id LIMIT 1 OFFSET :index",
            {"index": index},
        ).fetchone()
        return jobs.get_job(connection, PROJECT, job_id)

    return await database.read(read)


def queries() -> Iterator[tuple[str, ListQuery]]:
    for table, keys in (("job", JOB_SORT_KEYS), ("version", VERSION_SORT_KEYS)):
        pool_ids = (None, GPU_POOL) if table == "version" else (None,)
        for key, is_descending, statuses, pool_id in product(
            keys, (False, True), STATUSES, pool_ids
        ):
            yield (
                table,
                ListQuery(
                    project_id=PROJECT,
                    workspace_id=WORKSPACE,
                    sort_key=key,
                    is_descending=is_descending,
                    offset=0,
                    limit=None,
                    now_ms=20_000,
                    statuses=statuses,
                    pool_id=pool_id,
                ),
            )


async def pages_that_differ(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[ListQuery]:
    """Those that counts do not lead to as walking does."""

    def read(connection: Connection) -> list[list[tuple[object, ...]]]:
        found = []
        for table, query in queries():
            page_of = page_of_jobs if table == "job" else page_of_versions
            found.append(page_of(connection, query)[1])
        return found

    monkeypatch.setattr(gathering, "GATHERED_MAX", 0)
    monkeypatch.setattr(pages, "NEAR_ROWS", 10**9)
    walked = await database.scan(read)
    monkeypatch.setattr(pages, "NEAR_ROWS", -1)
    monkeypatch.setattr(ranked, "_UNSETTLED_PART", 0)
    counted = await database.scan(read)
    return [
        query
        for (_, query), there, here in zip(queries(), walked, counted, strict=True)
        if there != here
    ]


async def stretch_lengths(database: Database) -> list[int]:
    """How much is counted in each stretch of the names of versions."""

    def read(connection: Connection) -> list[int]:
        rows = connection.execute(
            "SELECT number, sum(count) FROM key_block WHERE list = 'version' AND sort = 'by_name'"
            " GROUP BY number"
        )
        return [int(count) for _, count in rows]

    return await database.scan(read)


async def rows_in(database: Database, table: str) -> int:
    def read(connection: Connection) -> int:
        [count] = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
        return int(count)

    return await database.scan(read)


@pytest.mark.asyncio
async def test_a_sweep_counts_all_that_has_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0)

    settled = await settler(database).settle_due()

    assert settled == ROWS + ROWS // 2
    assert sum(await stretch_lengths(database)) == ROWS
    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_list_that_is_soon_walked_is_left_alone(database: Database) -> None:
    await move_in(database, 0)

    assert await settler(database, rows_min=ROWS + 1).settle_due() == 0
    assert await rows_in(database, "key_mark") == 0


@pytest.mark.asyncio
async def test_stretches_are_split_as_they_grow(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in range(4):
        await move_in(database, part * ROWS)
        await settler(database).settle_due()

        lengths = await stretch_lengths(database)
        assert sum(lengths) == (part + 1) * ROWS
        assert max(lengths) < 2 * STRETCH_ROWS
    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_changes_afterwards_stands_in_its_place_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0)
    await settler(database).settle_due()

    def change(tx: Transaction, *found: jobs.Job) -> None:
        deleted, shortened, described, again = found
        delete_job(tx, deleted)
        assert shortened.latest_version_id is not None
        delete_version(tx, shortened, shortened.latest_version_id)
        jobs.describe_job(tx, PROJECT, described.id, "something else")
        bring_to(tx, add_version(tx, again, now_ms=9_500), Phase.RUNNING, now_ms=9_600)

    chosen = [await job_at(database, index) for index in (3, 30, 50, 80)]
    await database.write(change, *chosen)

    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []
    assert await rows_in(database, "key_gone") == 3 + 2 + 3 + 1  # with their jobs


@pytest.mark.asyncio
async def test_the_next_sweep_takes_in_what_has_changed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0)
    await settler(database).settle_due()
    deleted, again = await job_at(database, 7), await job_at(database, 60)

    def change(tx: Transaction) -> int:
        delete_job(tx, deleted)
        workload = add_version(tx, again, now_ms=9_500)
        return bring_to(tx, workload, Phase.RUNNING, now_ms=9_600).id

    await database.write(change)
    await settler(database).settle_due()

    assert await rows_in(database, "key_gone") == 0
    assert await rows_in(database, "key_unsettled") == 2  # the version that runs, and its job
    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_job_is_counted_once_it_has_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0)
    job = await job_at(database, 60)

    def start(tx: Transaction) -> None:
        bring_to(tx, add_version(tx, job, now_ms=9_500), Phase.RUNNING, now_ms=9_600)

    def finish(tx: Transaction) -> None:
        again = jobs.get_job(tx.connection, PROJECT, job.id)
        bring_to(tx, add_version(tx, again, now_ms=9_700), Phase.COMPLETED, now_ms=9_800)

    await database.write(start)
    await settler(database).settle_due()
    await database.write(finish)
    await settler(database).settle_due()

    assert await rows_in(database, "key_unsettled") == 1  # the first of them runs still
    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


class Interfering:
    """A store in which something happens just before one kind of write, so many times."""

    def __init__(
        self, database: Database, before: str, work: Callable[..., object], *, times: int = 1
    ) -> None:
        self._database, self._before, self._work, self.times = database, before, work, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if work.__name__ == self._before and self.times:
            self.times -= 1
            await self._database.write(self._work)
        return await self._database.write(work, *args, **kwargs)


@pytest.mark.asyncio
async def test_a_job_that_lives_again_just_before_it_is_counted_is_not_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0)
    job = await job_at(database, 60)

    def run_to(tx: Transaction, phase: Phase) -> None:
        again = jobs.get_job(tx.connection, PROJECT, job.id)
        bring_to(tx, add_version(tx, again, now_ms=9_500), phase, now_ms=9_600)

    await database.write(run_to, Phase.RUNNING)
    await settler(database).settle_due()
    await database.write(run_to, Phase.COMPLETED)
    interfering: Any = Interfering(
        database, "settle_unsettled", lambda tx: run_to(tx, Phase.RUNNING)
    )
    await settler(interfering).settle_due()
    assert await database.scan(find_differences) == []

    await database.write(run_to, Phase.COMPLETED)
    await settler(database).settle_due()

    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_sweep_ends_though_more_comes_all_the_time(database: Database) -> None:
    await move_in(database, 0)
    await settler(database).settle_due()
    job = await job_at(database, 60)

    def come(tx: Transaction) -> None:
        again = jobs.get_job(tx.connection, PROJECT, job.id)
        bring_to(tx, add_version(tx, again, now_ms=9_500), Phase.COMPLETED, now_ms=9_600)

    await database.write(come)
    interfering: Any = Interfering(database, "settle_next", come, times=20)
    await settler(interfering).settle_due()

    assert interfering.times == 19
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_sweep_that_was_cut_off_is_gone_on_with(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0)
    for place in await database.scan(keyblocks.list_large_places, rows_min=50):
        await database.write(keyblocks.begin, place)
        key, *_ = keyblocks.SORTS[place.table]
        pieces = await database.scan(keyblocks.count_order, place, key, stretch_rows=5)
        await database.write(keyblocks.write_pieces, place, key, 0, pieces)

    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []

    await settler(database).settle_due()

    assert sum(await stretch_lengths(database)) == ROWS
    assert max(await stretch_lengths(database)) < 2 * STRETCH_ROWS
    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_changes_while_a_list_is_counted_is_taken_in(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0)
    deleted, again = await job_at(database, 7), await job_at(database, 60)
    places = await database.scan(keyblocks.list_large_places, rows_min=50)

    def change(tx: Transaction) -> None:
        delete_job(tx, deleted)
        jobs.describe_job(tx, PROJECT, again.id, "changed")
        bring_to(tx, add_version(tx, again, now_ms=9_500), Phase.COMPLETED, now_ms=9_600)

    for place in places:
        await database.write(keyblocks.begin, place)
    for number, key in enumerate(keyblocks.SORTS["job"]):
        for place in places:
            if key in keyblocks.SORTS[place.table]:
                pieces = await database.scan(keyblocks.count_order, place, key, stretch_rows=5)
                await database.write(keyblocks.write_pieces, place, key, 0, pieces)
        if number == 1:
            await database.write(change)
    for key in set(keyblocks.SORTS["version"]) - set(keyblocks.SORTS["job"]):
        [place] = [place for place in places if place.table == "version"]
        pieces = await database.scan(keyblocks.count_order, place, key, stretch_rows=5)
        await database.write(keyblocks.write_pieces, place, key, 0, pieces)
    for place in places:
        await database.write(keyblocks.make_ready, place)

    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_much_that_comes_in_at_once_is_counted_anew_with_all_the_rest(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await move_in(database, 0, 60)
    await settler(database).settle_due()
    await move_in(database, 60, 400)

    settled = await settler(database).settle_due()

    assert settled == 460 + 230
    assert max(await stretch_lengths(database)) <= STRETCH_ROWS
    assert await pages_that_differ(database, monkeypatch) == []
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_recount_finds_what_is_counted_wrong(database: Database) -> None:
    await move_in(database, 0)
    await settler(database).settle_due()

    def spoil(tx: Transaction) -> None:
        tx.execute(
            "UPDATE key_block SET count = count + 1 WHERE list = 'pooled' AND sort = 'by_duration'"
            " AND number = (SELECT max(number) FROM key_block WHERE sort = 'by_duration')"
        )

    await database.write(spoil)

    assert any("by_duration" in line for line in await database.scan(find_differences))


@pytest.mark.asyncio
async def test_counts_that_do_not_add_up_lead_to_no_page(database: Database) -> None:
    await move_in(database, 0)
    await settler(database).settle_due()
    scope = Scope(table="version", project_id=PROJECT, workspace_id=WORKSPACE)
    [name] = [key for key in keyblocks.SORTS["version"] if key.index == "by_name"]

    def order(connection: Connection, total: int) -> object:
        return ranked.ranked(connection, scope, name, total=total)

    assert await database.scan(order, ROWS) is not None
    assert await database.scan(order, ROWS + 1) is None
