"""PostgreSQL as the store: what becomes of writes whose connection is lost on the way."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from muster.domain.errors import StoreUnavailable
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.postgres import transactions
from muster.store.postgres.transactions import WRITE_ATTEMPTS
from muster.store.transaction import Transaction
from tests.postgres import PostgresServer, postgres_kinds
from tests.store.rows import add_workload, counts_of, find_differences
from tests.stores import Stores


@pytest.fixture
def server(stores: Stores) -> PostgresServer:
    return stores.server(postgres_kinds()[0])


@pytest.fixture
def empty(stores: Stores) -> Iterator[Database]:
    with stores.fresh(postgres_kinds()[0], Path()) as database:
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


class Pausing:
    """Work that stands still, so many times, until PostgreSQL has given it up."""

    def __init__(self, server: PostgresServer, times: int, *, is_at_the_end: bool) -> None:
        self.admin_url = server.admin_url
        self.left = times
        self.runs = 0
        self.idle_ms: list[int] = []  # that each of the runs was allowed
        self.is_at_the_end = is_at_the_end

    def __call__(self, tx: Transaction, names: Sequence[str]) -> list[str]:
        self.runs += 1
        [pid, idle_ms] = tx.connection.execute(
            "SELECT pg_backend_pid(), (SELECT CAST(setting AS integer) FROM pg_settings"
            " WHERE name = 'idle_in_transaction_session_timeout')"
        ).fetchone()
        self.idle_ms.append(idle_ms)
        if not self.is_at_the_end:
            self._pause(pid)
        for name in names:
            add_workload(tx, name)
        if self.is_at_the_end:
            self._pause(pid)
        return list(names)

    def _pause(self, pid: int) -> None:
        if not self.left:
            return
        self.left -= 1
        there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            while admin.execute(there, (pid,)).fetchone() == (1,):
                pass


@pytest.mark.asyncio
@pytest.mark.parametrize("is_at_the_end", [False, True])
async def test_a_write_that_is_slow_once_is_run_again_and_has_longer(
    database: Database, server: PostgresServer, is_at_the_end: bool
) -> None:
    pausing = Pausing(server, 1, is_at_the_end=is_at_the_end)

    assert await database.write_together(pausing, "slow") == "slow"

    first, second = pausing.idle_ms
    assert second > first
    assert await counts_of(database) == {"Creating": 1}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("is_at_the_end", [False, True])
async def test_a_write_that_is_too_slow_each_time_is_refused_and_leaves_nothing(
    database: Database,
    server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    is_at_the_end: bool,
) -> None:
    monkeypatch.setattr(transactions, "WRITER_IDLE_MS", (1_000, 50, 50))
    pausing = Pausing(server, WRITE_ATTEMPTS, is_at_the_end=is_at_the_end)

    answers = await asyncio.gather(
        database.write(add_workload, "beside"),
        *(database.write_together(pausing, name) for name in "ab"),
        return_exceptions=True,
    )

    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert {"Nothing was changed" in str(answer) for answer in answers} == {True}
    assert pausing.runs == WRITE_ATTEMPTS
    assert await counts_of(database) == {}
    assert await database.write_together(pausing, "c") == "c"
    assert await database.scan(find_differences) == []
