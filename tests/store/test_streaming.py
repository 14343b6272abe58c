"""Readers of long lists come and go, at any moment, on every store."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator

import psycopg
import pytest

from muster.domain.errors import StoreUnavailable
from muster.store import streaming
from muster.store.connection import Connection
from muster.store.database import Database

ON_EVERY_POSTGRES = True

TURNS = 100  # of the loop: more than anything needs that is due


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_reader_that_goes_away_in_the_middle_of_a_step_leaves_it_its_connection(
    database: Database,
) -> None:
    """Were it closed under the step, SQLite would end the whole process."""
    begun, may_go_on = threading.Event(), threading.Event()
    seen: list[object] = []

    def slow(connection: Connection) -> Iterator[int]:
        begun.set()
        may_go_on.wait()
        seen.append(connection.execute("SELECT count(*) FROM project").fetchone()[0])
        yield 1

    async def read() -> None:
        async for _ in database.stream(slow):
            raise AssertionError("it went away before")

    reader = asyncio.create_task(read())
    await asyncio.to_thread(begun.wait)
    reader.cancel()
    reader.cancel()
    await asyncio.sleep(0)
    may_go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await reader
    assert seen == [2]


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_readers_that_come_and_go_leave_nothing_open(database: Database) -> None:
    def endless(connection: Connection) -> Iterator[int]:
        while True:
            yield connection.execute("SELECT count(*) FROM project").fetchone()[0]

    async def read() -> None:
        async for _ in database.stream(endless):
            pass

    for _ in range(5):
        readers = [asyncio.create_task(read()) for _ in range(20)]
        await asyncio.sleep(0.01)
        for reader in readers:
            reader.cancel()
        ended = await asyncio.gather(*readers, return_exceptions=True)
        assert {type(error) for error in ended} == {asyncio.CancelledError}

    stream = database.stream(endless)
    assert await anext(stream) == 2
    await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_reader_that_takes_nothing_more_is_given_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sees is kept for it: the log of the database would grow for as long as it sleeps."""
    monkeypatch.setattr(streaming, "STALLED_SECONDS_MAX", 0)
    connections: list[Connection] = []

    def endless(connection: Connection) -> Iterator[int]:
        connections.append(connection)
        while True:
            yield connection.execute("SELECT count(*) FROM project").fetchone()[0]

    monkeypatch.setattr(streaming, "STREAMS_AT_ONCE", 1)
    stream = database.stream(endless)
    assert await anext(stream) == 2
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert not is_open(connections[0])

    monkeypatch.setattr(streaming, "STALLED_SECONDS_MAX", 3_600)
    another = database.stream(endless)  # for which there is room
    assert [await anext(another), await anext(another)] == [2, 2]
    with pytest.raises(StoreUnavailable, match="took nothing"):
        await anext(stream)
    await another.aclose()  # type: ignore[attr-defined]


def is_open(connection: Connection) -> bool:
    try:
        connection.execute("SELECT 1").fetchone()
    except (sqlite3.ProgrammingError, psycopg.OperationalError):
        return False
    return True
