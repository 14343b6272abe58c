"""Answers that a server on PostgreSQL shares: for as long as nobody has committed anything."""

from collections.abc import Iterator
from contextlib import closing
from typing import Final

import psycopg
import pytest

from muster.store.connection import Connection
from muster.store.postgres.database import READERS, PostgresDatabase
from tests.postgres import postgres_kinds
from tests.store.rows import add_workload, set_up_store
from tests.stores import Stores

KIND: Final = postgres_kinds()[0]
ASKED_AGAIN: Final = 5 * READERS


@pytest.fixture
def url(stores: Stores) -> Iterator[str]:
    with stores.fresh_address(KIND) as url:
        yield url


class Counter:
    """Counts jobs, and how often it was asked to."""

    def __init__(self) -> None:
        self.asked = 0

    def count_jobs(self, connection: Connection) -> int:
        self.asked += 1
        [count] = connection.execute("SELECT count(*) FROM job").fetchone()
        return int(count)


async def ask_on_and_on(database: PostgresDatabase, counter: Counter) -> set[int]:
    return {await database.read_shared(counter.count_jobs) for _ in range(ASKED_AGAIN)}


@pytest.mark.asyncio
async def test_what_nobody_has_changed_is_hardly_read_but_by_new_connections(
    url: str,
) -> None:
    counter = Counter()
    with closing(PostgresDatabase(url)) as database:
        await database.write(set_up_store)

        assert await ask_on_and_on(database, counter) == {0}

        assert counter.asked < ASKED_AGAIN / 2


@pytest.mark.asyncio
async def test_what_another_server_has_acknowledged_is_in_the_next_answer(url: str) -> None:
    counter = Counter()
    with closing(PostgresDatabase(url)) as one, closing(PostgresDatabase(url)) as other:
        await one.write(set_up_store)
        for count in range(20):
            assert await one.read_shared(counter.count_jobs) == count

            await other.write(add_workload, f"job-{count}")

        assert await ask_on_and_on(one, counter) == {20}


@pytest.mark.asyncio
async def test_nothing_is_kept_that_was_read_before_a_connection_was_lost(url: str) -> None:
    """After a crash the numbers of transactions that were not on disk are given out again."""
    counter = Counter()
    with closing(PostgresDatabase(url)) as database:
        await database.write(set_up_store)
        await ask_on_and_on(database, counter)
        asked_before = counter.asked

        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await database.read_shared(counter.count_jobs)

        assert counter.asked > asked_before


@pytest.mark.asyncio
async def test_an_answer_that_is_an_error_is_not_kept(url: str) -> None:
    failures = [ZeroDivisionError, None]

    def fail_once(_connection: Connection) -> str:
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        return "an answer"

    with closing(PostgresDatabase(url)) as database:
        with pytest.raises(ZeroDivisionError):
            await database.read_shared(fail_once)

        assert await database.read_shared(fail_once) == "an answer"
