"""Indexes that are put off while history comes in, and made again however that ended."""

from pathlib import Path

import pytest

from muster.store import bulk
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase, make_put_off_indexes
from muster.store.transaction import Transaction
from tests.store.rows import add_workload, find_differences, set_up_store


def names(connection: Connection) -> frozenset[str]:
    return bulk.list_index_names(connection)


async def put_off(database: Database) -> frozenset[str]:
    """Put them off beside a row; return those that are missing then."""
    before = await database.read(names)
    await database.write(set_up_store)
    await database.write(bulk.put_off_indexes)
    await database.write(add_workload)
    return before - await database.read(names)


@pytest.mark.asyncio
async def test_what_is_put_off_is_made_by_whoever_opens_the_file_next(
    embedded: Database, file: Path
) -> None:
    whole = await embedded.read(names)
    missing = await put_off(embedded)
    embedded.close()

    again = SqliteDatabase(file)
    try:
        assert missing
        assert await again.read(names) == whole
        assert await again.read(bulk.list_put_off) == []
        assert await again.scan(find_differences) == []
    finally:
        again.close()


@pytest.mark.asyncio
async def test_a_check_says_what_is_not_made_yet(embedded: Database) -> None:
    missing = await put_off(embedded)

    assert await embedded.scan(find_differences) == [
        f"index: {name} is missing; the next start makes it" for name in sorted(missing)
    ]


@pytest.mark.asyncio
async def test_what_must_not_be_twice_is_refused_all_the_while(embedded: Database) -> None:
    missing = await put_off(embedded)

    def is_unique(connection: Connection) -> bool:
        [count] = connection.execute(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'job_name_taken'"
        ).fetchone()
        return bool(count)

    assert "job_name_taken" not in missing
    assert await embedded.read(is_unique)


@pytest.mark.asyncio
async def test_one_that_is_made_stays_made_when_the_making_is_cut_off(
    embedded: Database, file: Path
) -> None:
    whole = await embedded.read(names)
    missing = await put_off(embedded)
    embedded.close()

    def cut_off(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_put_off_indexes(file, cut_off)

    made: list[str] = []
    make_put_off_indexes(file, made.append)
    assert len(made) == len(missing) - 1
    again = SqliteDatabase(file)
    try:
        assert await again.read(names) == whole
    finally:
        again.close()


@pytest.mark.parametrize(
    ("rows", "is_worth_it"),
    [(bulk.ROWS_MIN, True), (bulk.ROWS_MIN - 1, False)],
)
@pytest.mark.asyncio
async def test_indexes_are_put_off_for_many_rows_only(
    embedded: Database, rows: int, is_worth_it: bool
) -> None:
    assert await embedded.write(bulk.put_off_if_worth_it, rows) == is_worth_it
    assert bool(await embedded.read(bulk.list_put_off)) == is_worth_it


@pytest.mark.asyncio
async def test_indexes_of_far_more_rows_than_come_in_stay(embedded: Database) -> None:
    def pretend(tx: Transaction) -> None:
        set_up_store(tx)
        add_workload(tx)
        tx.execute("UPDATE version SET id = :id", {"id": bulk.ROWS_MIN * bulk.ROWS_TO_ONE + 1})

    await embedded.write(pretend)

    assert not await embedded.write(bulk.put_off_if_worth_it, bulk.ROWS_MIN)
