"""PostgreSQL as the store: what becomes of writes whose connection is lost on the way."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from muster.domain.errors import StoreUnavailable
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.postgres.transactions import WRITE_ATTEMPTS
from muster.store.transaction import Transaction
from tests.postgres import find_programs
from tests.store.rows import add_workload, counts_of, find_differences
from tests.stores import Stores

PROGRAMS = sorted(find_programs())

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="there is no PostgreSQL here")


@pytest.fixture
def empty(stores: Stores) -> Iterator[Database]:
    with stores.fresh(f"postgres-{PROGRAMS[0]}", Path()) as database:
        yield database


def end_connection(connection: Connection) -> None:
    connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


class Dying:
    """Work whose connection ends as often as it is told to."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.runs = 0

    def __call__(self, tx: Transaction, names: Sequence[str]) -> list[str]:
        self.runs += 1
        for name in names:
            add_workload(tx, name)
        if self.left:
            self.left -= 1
            end_connection(tx.connection)
        return list(names)


@pytest.mark.asyncio
async def test_a_transaction_that_was_lost_is_run_again_with_all_that_was_in_it(
    database: Database,
) -> None:
    dying = Dying(WRITE_ATTEMPTS - 1)

    answers = await asyncio.gather(
        database.write(add_workload, "before"),
        *(database.write_together(dying, name) for name in "abc"),
    )

    assert answers[1:] == ["a", "b", "c"]
    assert dying.runs == WRITE_ATTEMPTS
    assert await counts_of(database) == {"Creating": 4}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_one_that_is_lost_again_and_again_is_refused_and_leaves_nothing(
    database: Database,
) -> None:
    work = Dying(WRITE_ATTEMPTS)

    answers = await asyncio.gather(
        *(database.write_together(work, name) for name in "abc"), return_exceptions=True
    )

    assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
    assert await counts_of(database) == {}
    assert await database.write_together(work, "d") == "d"
    assert await database.scan(find_differences) == []
