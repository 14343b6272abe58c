"""Readers of long lists come and go, at any moment, on every store."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from muster.store.connection import Connection
from muster.store.database import Database


@pytest.mark.asyncio
@pytest.mark.timeout(60)
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
@pytest.mark.timeout(60)
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
