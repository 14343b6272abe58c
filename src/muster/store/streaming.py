"""Long answers in chunks: each is made in a thread, on a connection of the reader's own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from muster.domain.errors import StoreUnavailable

log = structlog.get_logger()

View = TypeVar("View")  # a connection of the store
P = ParamSpec("P")
T = TypeVar("T")

STREAMS_AT_ONCE: Final = 64  # each holds a connection open for as long as its reader takes
# Then a reader has gone, or sleeps. What it sees is kept for it: SQLite's log grows meanwhile, and
# PostgreSQL cleans nothing up.
STALLED_SECONDS_MAX: Final = 60.0

_END: Any = object()


class Streams:
    """The streams of one store."""

    def __init__(self, gate: asyncio.Semaphore) -> None:
        """`gate` lets so many threads work at once; between two chunks a stream is not in it."""
        self._gate = gate
        self._count = 0

    async def scan(
        self,
        open_snapshot: Callable[[], AbstractContextManager[View]],
        work: Callable[[View], T],
    ) -> T:
        """What `work` answers on a snapshot of its own: one long step."""

        def in_snapshot() -> T:
            with open_snapshot() as connection:
                return work(connection)

        async with self._gate:
            return await asyncio.to_thread(in_snapshot)

    async def stream(
        self,
        open_snapshot: Callable[[], AbstractContextManager[View]],
        translated_errors: Callable[[], AbstractContextManager[None]],
        work: Callable[[View], Iterator[T]],
    ) -> AsyncIterator[T]:
        """The chunks of `work` on a snapshot of its own.

        Raises:
            StoreUnavailable: there are too many already, or the store does not answer, or nothing
                was asked for since STALLED_SECONDS_MAX.
        """
        if self._count >= STREAMS_AT_ONCE:
            raise StoreUnavailable(
                f"{STREAMS_AT_ONCE} long lists are being sent already; try again in a moment."
            )

        def step(chunks: Iterator[T]) -> T:
            with translated_errors():
                return next(chunks, _END)

        opened = ExitStack()
        self._count += 1
        opened.callback(self._end_one)
        is_given_up = False

        def give_up() -> None:
            nonlocal is_given_up
            is_given_up = True
            log.warning("reader_given_up", after_seconds=STALLED_SECONDS_MAX)
            opened.close()  # between two steps nobody uses it

        try:
            connection = await _in_thread(opened.enter_context, open_snapshot())
            chunks = work(connection)
            while True:
                async with self._gate:
                    chunk = await _in_thread(step, chunks)
                if chunk is _END:
                    break
                giving_up = asyncio.get_running_loop().call_later(STALLED_SECONDS_MAX, give_up)
                try:
                    yield chunk
                finally:
                    giving_up.cancel()
                if is_given_up:
                    raise StoreUnavailable(
                        f"Whoever reads this list took nothing for {STALLED_SECONDS_MAX:g} seconds;"
                        " ask for it again."
                    )
        finally:
            opened.close()

    def _end_one(self) -> None:
        self._count -= 1


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, but whoever is cancelled waits until the thread has ended.

    It uses the connection until then: to close that under it ends the whole process.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue
        raise
