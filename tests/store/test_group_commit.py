"""Writes that share a commit: what they count together, and what one of them may do to the rest."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from muster.domain.errors import QuotaExceeded, StoreUnavailable
from muster.domain.phase import Event
from muster.store import jobs
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.groupcommit import WriteFailed
from muster.store.submissions import SubmittedVersion, insert_submissions
from muster.store.transaction import Transaction, reads_no_counters
from tests.store.rows import (
    PROJECT,
    WORKSPACE,
    a_submission,
    add_workload,
    counts_of,
    find_differences,
    move,
)


@pytest.fixture
def empty(embedded: Database) -> Database:
    """How writes are grouped is told of the embedded store."""
    return embedded


@reads_no_counters
def add(tx: Transaction, name: str) -> None:
    add_workload(tx, name)


@reads_no_counters
def add_and_fail(tx: Transaction, name: str, how: Callable[[], BaseException]) -> None:
    add_workload(tx, name)
    raise how()


def count_jobs(connection: Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM job").fetchone()
    return int(count)


@pytest.mark.asyncio
async def test_what_one_turn_of_the_loop_asks_for_shares_a_commit(database: Database) -> None:
    commits: list[int] = []
    database.on_work(lambda: commits.append(1))

    await asyncio.gather(*(database.write(add, f"job-{index}") for index in range(200)))

    assert len(commits) == 1
    assert await counts_of(database) == {"Creating": 200}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_writes_that_share_counters_and_those_that_fail_among_them_are_counted_exactly(
    database: Database,
) -> None:
    async def write_some(writer: int) -> None:
        for index in range(4):
            name = f"job-{writer}-{index}"
            if index == writer % 4:
                with pytest.raises(ZeroDivisionError):
                    await database.write(add_and_fail, name, ZeroDivisionError)
            elif writer % 8 == 0:
                await database.write(add, name)
            else:  # one that reads the counters as they are
                workload = await database.write(add_workload, name)
                await database.write(reads_no_counters(partial(move_on, workload=workload)))

    def move_on(tx: Transaction, *, workload: object) -> None:
        move(tx, workload, Event.ENQUEUED, now_ms=2_000)  # type: ignore[arg-type]

    await asyncio.gather(*(write_some(writer) for writer in range(64)))

    assert await counts_of(database) == {"Creating": 24, "Queue": 168}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_write_that_reads_counters_sees_what_others_counted_in_the_same_commit(
    database: Database,
) -> None:
    def live_jobs(tx: Transaction) -> int:
        return jobs.count_live_jobs(tx.connection, PROJECT)

    *_, seen, _ = await asyncio.gather(
        database.write(add, "a"),
        database.write(add, "b"),
        database.write(live_jobs),
        database.write(add, "c"),
    )

    assert seen == 2


@pytest.mark.asyncio
async def test_a_failing_write_does_not_undo_counters_that_were_brought_up_to_date_for_it(
    database: Database,
) -> None:
    def count_and_fail(tx: Transaction) -> None:
        jobs.count_live_jobs(tx.connection, PROJECT)
        raise ZeroDivisionError

    await asyncio.gather(
        database.write(add, "a"), database.write(count_and_fail), return_exceptions=True
    )

    assert await counts_of(database) == {"Creating": 1}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_the_quota_is_exact_within_one_commit(database: Database) -> None:
    results = await asyncio.gather(
        *(
            database.write_together(insert_submissions, a_submission(f"job-{index}", job_quota=7))
            for index in range(20)
        ),
        return_exceptions=True,
    )

    assert [type(r) for r in results] == [SubmittedVersion] * 7 + [QuotaExceeded] * 13
    assert await database.read(count_jobs) == 7


@pytest.mark.asyncio
async def test_counts_that_cannot_be_fail_their_own_write_only(database: Database) -> None:
    @reads_no_counters
    def count_below_zero(tx: Transaction) -> None:
        tx.counts.job(PROJECT, WORKSPACE, 10, -1, job_id=1)

    one, wrong, two = await asyncio.gather(
        database.write(add, "one"),
        database.write(count_below_zero),
        database.write(add, "two"),
        return_exceptions=True,
    )

    assert (one, two) == (None, None)
    assert isinstance(wrong, Exception)
    assert await counts_of(database) == {"Creating": 2}
    assert await database.scan(find_differences) == []


@pytest.mark.parametrize(
    "ends",
    [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError],
)
@pytest.mark.asyncio
async def test_whatever_a_write_ends_with_is_told_and_the_writer_goes_on(
    database: Database, ends: type[BaseException]
) -> None:
    one, bad, two = await asyncio.gather(
        database.write(add, "one"),
        database.write(add_and_fail, "bad", ends),
        database.write(add, "two"),
        return_exceptions=True,
    )

    assert (one, two) == (None, None)
    assert isinstance(bad, WriteFailed)
    assert ends.__name__ in str(bad)
    assert await counts_of(database) == {"Creating": 2}
    await database.write(add, "three")
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_without_memory_the_group_is_refused_and_the_writer_goes_on(
    database: Database,
) -> None:
    results = await asyncio.gather(
        database.write(add, "one"),
        database.write(add_and_fail, "bad", MemoryError),
        database.write(add, "two"),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [StoreUnavailable] * 3
    assert await database.read(count_jobs) == 0
    await database.write(add, "three")
    assert await counts_of(database) == {"Creating": 1}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_write_that_takes_the_transaction_away_leaves_the_writer_at_work(
    database: Database,
) -> None:
    def commit(tx: Transaction) -> None:
        tx.execute("ROLLBACK")

    with pytest.raises(StoreUnavailable):
        await database.write(commit)

    await database.write(add, "one")
    assert await counts_of(database) == {"Creating": 1}
