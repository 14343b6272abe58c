"""The store on PostgreSQL. Any number of servers may have it open."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg

from muster.domain.errors import MusterError
from muster.store.connection import Connection
from muster.store.groupcommit import GroupCommit, News
from muster.store.postgres.connection import (
    OF_THE_LINE,
    WALKING,
    Address,
    PostgresConnection,
    connect,
    make_snapshots,
    open_snapshot,
    translated_errors,
)
from muster.store.postgres.listener import Listener
from muster.store.postgres.schema import migrate
from muster.store.postgres.transactions import SharedTransactions
from muster.store.streaming import Streams
from muster.store.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

READERS: Final = 8
SCANS_AT_ONCE: Final = 2
RECENT_SECONDS_MAX: Final = 0.25  # as the embedded store has it
RECENT_ANSWERS_MAX: Final = 10_000
SHARED_ANSWERS_MAX: Final = 1_000
SHARED_SECONDS_MAX: Final = 5.0  # what nobody asks for any more takes no memory for longer


# Which transactions this one sees: with the same, everything is as it was.
_SEEN: Final = "SELECT CAST(pg_current_snapshot() AS text)"


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Any
    seen: str
    era: object


class PostgresDatabase:
    """A database of PostgreSQL. Any number of servers may have it open."""

    def __init__(self, url: str) -> None:
        self._address = Address(url)
        with translated_errors(self._address), closing(connect(self._address)) as connection:
            migrate(connection, self._address)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._of_thread = threading.local()
        self._opened: list[psycopg.Connection[Any]] = []
        self._streams = Streams(asyncio.Semaphore(SCANS_AT_ONCE))
        self._shared: dict[Hashable, _Kept] = {}
        self._shared_until = 0.0
        self._era = object()  # a new one with each connection that is made for reading
        self._recent: dict[Hashable, asyncio.Future[Any]] = {}  # answers, and those to come
        self._recent_until = 0.0
        self._on_work: Callable[[], None] = lambda: None
        self._news = Listener(self._address)
        self._writer = GroupCommit(SharedTransactions(self._address), self._after_commit)

    def on_work(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, after each commit that left the reconciler something."""
        self._on_work = callback
        self._news.call_back(News.WORK, callback)

    def on_logins_changed(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, when another process has changed who may do what."""
        self._news.call_back(News.LOGINS, callback)

    def close(self) -> None:
        """Commit what was handed over, and close."""
        self._writer.close()
        self._news.close()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()

    @contextmanager
    def walking_connection(self) -> "Iterator[psycopg.Connection[Any]]":
        """One of the driver's own, with the settings that lists are read with."""
        with closing(connect(self._address, **WALKING)) as connection:
            yield connection

    # -------------------------------------------------------------- reading

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a bounded index read in a thread of its own: it sees the last commit."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = self._read(work, *args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller who asked
                _hand_over(loop, done, None, error)
            else:
                _hand_over(loop, done, result, None)
            self._end_read()

        self._readers.submit(run)
        return await done

    read_fresh = read

    async def read_shared(self, work: Callable[..., T], *args: Hashable) -> T:
        """As `read`, but run once for as long as nobody has committed anything.

        Nobody tells this server when another one commits, so that each asks what its snapshot sees.
        """
        return await self.read(self._kept_or_read, work, args)

    def _kept_or_read(
        self, connection: Connection, work: Callable[..., T], args: tuple[Hashable, ...]
    ) -> T:
        # Only of the time in which no connection was made. After a crash numbers of transactions
        # are given out again, and the same ones may mean another state.
        era = self._era
        kept = self._shared.get((work, args))
        if kept is not None and kept.era is era and kept.seen == _seen_now(connection):
            answer: T = kept.answer
            return answer
        [seen] = connection.execute(_SEEN).fetchone()
        answer = work(connection, *args)
        if len(self._shared) >= SHARED_ANSWERS_MAX or time.monotonic() > self._shared_until:
            self._shared.clear()
            self._shared_until = time.monotonic() + SHARED_SECONDS_MAX
        self._shared[work, args] = _Kept(answer, seen, era)
        return answer

    async def read_lists(self, project_id: str, work: Callable[..., T], *args: Hashable) -> T:
        """As `read_shared`."""
        return await self.read_shared(work, *args)

    async def read_recent(self, work: Callable[..., T], *args: Hashable) -> T:
        """As `read`, once for all who ask until this server commits, or RECENT_SECONDS_MAX."""
        if time.monotonic() > self._recent_until:
            self._recent.clear()
            self._recent_until = time.monotonic() + RECENT_SECONDS_MAX
        key = (asyncio.get_running_loop(), work, args)  # none waits for another loop
        if key not in self._recent:
            if len(self._recent) >= RECENT_ANSWERS_MAX:
                self._recent.clear()
            self._recent[key] = asyncio.ensure_future(self.read(work, *args))
        # One who goes away does not take the answer from the others.
        recent: T = await asyncio.shield(self._recent[key])
        return recent

    def _read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """On the connection of this thread; once more on a new one where that was lost."""
        with translated_errors(self._address):
            for is_last in (False, True):
                connection = self._connection_of_thread()
                try:
                    return work(PostgresConnection(connection), *args, **kwargs)
                except OF_THE_LINE:
                    if is_last or not connection.broken:
                        raise
        raise AssertionError

    def _end_read(self) -> None:
        """After the answer: its transaction ends while the caller goes on."""
        connection: psycopg.Connection[Any] | None = getattr(self._of_thread, "connection", None)
        if connection is not None:
            with suppress(psycopg.Error):
                connection.rollback()

    def _connection_of_thread(self) -> "psycopg.Connection[Any]":
        connection: psycopg.Connection[Any] | None = getattr(self._of_thread, "connection", None)
        if connection is None or connection.closed:
            self._of_thread.connection = None
            self._opened = [opened for opened in self._opened if not opened.closed]
            connection = connect(self._address, **WALKING)
            make_snapshots(connection)
            self._era = object()
            self._of_thread.connection = connection
            self._opened.append(connection)
        return connection

    async def scan(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a read that may take long in a thread, on one consistent snapshot."""
        return await self._streams.scan(
            lambda: open_snapshot(self._address.url, walks=True),
            lambda connection: work(connection, *args, **kwargs),
        )

    def stream(
        self,
        work: Callable[Concatenate[Connection, P], Iterator[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncIterator[T]:
        """Run an iterator of chunks on one consistent snapshot, each step in a thread.

        Between steps it holds nothing but its connection: a slow reader keeps nobody waiting.
        """
        return self._streams.stream(
            lambda: open_snapshot(self._address.url, is_streaming=True, walks=True),
            lambda: translated_errors(self._address),
            lambda connection: work(connection, *args, **kwargs),
        )

    # -------------------------------------------------------------- writing

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in a transaction; return once it is committed and on disk.

        A caller that is cancelled meanwhile does not undo it.

        Raises:
            StoreUnavailable: nothing was changed, unless it says that this is not known.
        """
        return await self._writer.write(work, *args, **kwargs)

    async def write_together(
        self,
        work: Callable[[Transaction, Sequence[Item]], Sequence[T | MusterError]],
        item: Item,
        *,
        is_patient: bool = False,
    ) -> T:
        """Write an item together with all that wait with the same `work`; see `Database`."""
        return await self._writer.write_together(work, item, is_patient=is_patient)

    def _after_commit(self, news: frozenset[News]) -> None:
        """Runs in the event loop. That others have committed is told by `Listener`."""
        self._recent_until = 0.0
        if News.WORK in news:
            self._on_work()


def _seen_now(connection: Connection) -> str:
    """Without a transaction, whose beginning and end are two further questions."""
    assert isinstance(connection, PostgresConnection)
    raw = connection.raw
    raw.autocommit = True
    try:
        [[seen]] = raw.execute(_SEEN).fetchall()
    finally:
        raw.autocommit = False
    return str(seen)


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    done: "asyncio.Future[Any]",
    result: Any,
    error: BaseException | None,
) -> None:
    def settle() -> None:
        if done.done():
            return  # the caller went away
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    with suppress(RuntimeError):  # the loop has closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
