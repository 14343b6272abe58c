"""The embedded database: connections, transactions, group commit.

Bounded index reads run inline in the event loop (a hop to a thread costs more than
they do), scans in a thread, and all writes in one writer thread that commits them in groups.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import structlog

from muster.domain.errors import MusterError, StoreUnavailable
from muster.store.bulk import make_all_indexes
from muster.store.connection import NewerDatabase, NotADatabase
from muster.store.counting import Counts
from muster.store.statements import load_migrations
from muster.store.transaction import Transaction, may_defer_counters

log = structlog.get_logger()

Connection = sqlite3.Connection

P = ParamSpec("P")
T = TypeVar("T")

WRITE_BATCH_MAX: Final = 256
WRITER_BUSY_TIMEOUT_MS: Final = 2_000
READER_BUSY_TIMEOUT_MS: Final = 250
SCANS_AT_ONCE: Final = 2  # more would only take the CPU from the calls that are quick
SNAPSHOT_SECONDS_MAX: Final = 0.25
SHARED_ANSWERS_MAX: Final = 10_000
STREAMS_AT_ONCE: Final = 64  # each holds a connection open for as long as its reader takes

_END: Any = object()


@dataclass(slots=True)
class _Write:
    work: Callable[[Transaction], Any]
    may_defer_counters: bool
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None
    has_work: bool = False


@dataclass(slots=True)
class _Queue:
    waiting: list[_Write] = field(default_factory=list)
    commit_count: int = 0  # goes up before the writes of that commit are acknowledged
    after_commit: Callable[[bool], None] = lambda has_work: None
    is_closing: bool = False
    broken_by: StoreUnavailable | None = None  # set: nobody takes writes from here any more
    changed: threading.Condition = field(default_factory=threading.Condition)


class SqliteDatabase:
    """The SQLite file of one data folder. One process writes it; see `server.py` for its lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        writer = _connect(path, busy_timeout_ms=WRITER_BUSY_TIMEOUT_MS)
        try:
            with _translated_errors(path):
                migrate(writer)
            self._inline = _connect(path, busy_timeout_ms=READER_BUSY_TIMEOUT_MS)
        except BaseException:
            writer.close()
            raise
        self._seen_commit_count = 0
        self._snapshot_until = 0.0
        self._shared: dict[Hashable, Any] = {}  # answers of the present snapshot
        self._scans = asyncio.Semaphore(SCANS_AT_ONCE)
        self._streams = 0
        self._gathered: list[_Write] = []  # for the writer, at the end of this turn of the loop
        self._on_work: Callable[[], None] = lambda: None
        self._queue = _Queue(after_commit=self._after_commit)
        self._writer = threading.Thread(
            target=_write_until_closed, args=(writer, self._queue, path), name="database-writer"
        )
        self._writer.start()

    def on_work(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, after each commit that left the reconciler something."""
        self._on_work = callback

    def on_logins_changed(self, callback: Callable[[], None]) -> None:
        """Never: what other processes change is told by store/notice.py."""

    def close(self) -> None:
        """Commit what was handed over, and close."""
        self._hand_over()
        with self._queue.changed:
            self._queue.is_closing = True
            self._queue.changed.notify()
        self._writer.join()
        self._inline.close()

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a bounded index read inline: it sees the last commit."""
        try:
            if self._is_snapshot_stale():
                self._refresh_snapshot()
            return work(self._inline, *args, **kwargs)
        except sqlite3.DatabaseError as error:
            raise _translated(error, self._path) from error

    async def read_fresh(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `read`, but it sees what another process has committed just now, too."""
        self._snapshot_until = 0.0
        return await self.read(work, *args, **kwargs)

    async def read_shared(self, work: Callable[..., T], *args: Hashable) -> T:
        """As `read`, but run once a snapshot: until something is committed, the answer is the same.

        For what many ask for at once. `work` depends on the database and `args` alone.
        """
        if self._is_snapshot_stale():
            self._shared.clear()
        key = (work, args)
        if key not in self._shared:
            answer = await self.read(work, *args)
            if len(self._shared) >= SHARED_ANSWERS_MAX:
                self._shared.clear()
            self._shared[key] = answer
        shared: T = self._shared[key]
        return shared

    def _is_snapshot_stale(self) -> bool:
        return (
            self._queue.commit_count != self._seen_commit_count
            or time.monotonic() > self._snapshot_until
        )

    def _refresh_snapshot(self) -> None:
        """Let inline reads see what has been committed since the last of them.

        While nothing is, they share one read transaction: taking and giving back its lock is a
        third of what a short read costs. Commits of other processes (`muster user create`) do not
        count here; they are seen SNAPSHOT_SECONDS_MAX later, or by `read_fresh`.
        """
        self._shared.clear()
        if self._inline.in_transaction:
            self._inline.execute("ROLLBACK")
        # Before BEGIN: what is committed in between is looked for again, never missed.
        self._seen_commit_count = self._queue.commit_count
        self._inline.execute("BEGIN")
        self._snapshot_until = time.monotonic() + SNAPSHOT_SECONDS_MAX

    def _after_commit(self, has_work: bool) -> None:
        """Runs in the event loop. A read transaction left open would keep the WAL growing."""
        with suppress(sqlite3.Error):
            if self._inline.in_transaction:
                self._inline.execute("ROLLBACK")
        self._snapshot_until = 0.0
        if has_work:
            self._on_work()

    async def scan(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a read that may take long in a thread, on one consistent snapshot."""
        async with self._scans:

            def in_snapshot() -> T:
                with open_snapshot(self._path) as connection:
                    return work(connection, *args, **kwargs)

            return await asyncio.to_thread(in_snapshot)

    async def stream(
        self,
        work: Callable[Concatenate[Connection, P], Iterator[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> AsyncIterator[T]:
        """Run an iterator of chunks on one consistent snapshot, each step in a thread.

        Between steps it holds nothing but its connection: a slow reader keeps nobody waiting.
        """
        if self._streams >= STREAMS_AT_ONCE:
            raise StoreUnavailable(
                f"{STREAMS_AT_ONCE} long lists are being sent already; try again in a moment."
            )
        self._streams += 1
        opened = ExitStack()
        try:
            connection = await asyncio.to_thread(opened.enter_context, open_snapshot(self._path))
            chunks = work(connection, *args, **kwargs)
            while True:
                async with self._scans:
                    chunk = await asyncio.to_thread(next, chunks, _END)
                if chunk is _END:
                    break
                yield chunk
        finally:
            self._streams -= 1
            opened.close()

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in a transaction; return once it is committed and on disk.

        A caller that is cancelled meanwhile does not undo it.

        Raises:
            StoreUnavailable: nothing was changed; the same call may work later.
        """
        loop = asyncio.get_running_loop()
        write = _Write(
            work=lambda transaction: work(transaction, *args, **kwargs),
            may_defer_counters=may_defer_counters(work),
            done=loop.create_future(),
            loop=loop,
        )
        if self._queue.broken_by is not None:
            raise self._queue.broken_by
        if self._queue.is_closing:
            raise StoreUnavailable("The server is shutting down; try again in a moment.")
        self._gathered.append(write)
        # What one turn of the event loop asks for goes to the writer together: it shares a commit,
        # as the moves of one pass do, and the writer is woken once.
        loop.call_soon(self._hand_over)
        done: T = await write.done
        return done

    def _hand_over(self) -> None:
        with self._queue.changed:
            if not self._gathered:
                return
            handed, self._gathered = self._gathered, []
            if self._queue.broken_by is None:
                self._queue.waiting += handed
                self._queue.changed.notify()
                return
        for write in handed:
            write.error = self._queue.broken_by
        _resolve(handed, self._queue)


def _connect(path: Path, *, busy_timeout_ms: int) -> Connection:
    with _translated_errors(path), ExitStack() as opened:
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        opened.callback(connection.close)
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        _refuse_foreign(connection, path)  # before anything of it is changed
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: a commit is on disk before it is acknowledged. NORMAL would lose the last ones.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # What a savepoint would bring back is kept in memory, not in a file of its own.
        connection.execute("PRAGMA temp_store = MEMORY")
        opened.pop_all()
    return connection


def _refuse_foreign(connection: Connection, path: Path) -> None:
    """Raise NotADatabase if the tables are those of another program."""
    [present] = connection.execute("PRAGMA user_version").fetchone()
    [all_, ours] = connection.execute(
        "SELECT count(*), count(CASE WHEN name IN ('membership', 'workload') THEN 1 END)"
        " FROM sqlite_master WHERE type = 'table'"
    ).fetchone()
    if all_ and not (present and ours == 2):
        raise NotADatabase(
            f"{path} is the database of another program. Name another with --data or --database."
        )


@contextmanager
def open_snapshot(path: Path) -> Iterator[Connection]:
    """A connection of its own that sees one moment. For threads; not for the event loop.

    Raises:
        StoreUnavailable: there is no such database, or it cannot be read at the moment.
    """
    if not path.is_file():
        raise StoreUnavailable(f"There is no database {path}; start `muster serve` on it once.")
    connection = _connect(path, busy_timeout_ms=WRITER_BUSY_TIMEOUT_MS)
    with closing(connection), _translated_errors(path):
        connection.execute("BEGIN")
        yield connection


def migrate(connection: Connection) -> None:
    """Bring the schema up to date.

    Raises:
        NewerDatabase: a newer muster has written it; nothing was changed.
    """
    scripts = load_migrations()
    [present] = connection.execute("PRAGMA user_version").fetchone()
    if present > len(scripts):
        raise NewerDatabase(
            f"The database has schema {present}; this muster knows up to {len(scripts)}."
            " Start the muster that wrote it, or a newer one."
        )
    make_all_indexes(connection)  # before migrations: they name indexes
    # A table that others refer to can only be made anew while nobody looks.
    connection.execute("PRAGMA foreign_keys = OFF")
    for number, script in scripts[present:]:
        connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
    broken = connection.execute("PRAGMA foreign_key_check").fetchall() if scripts[present:] else []
    assert not broken, f"a migration left rows that refer to nothing: {broken[:3]}"
    connection.execute("PRAGMA foreign_keys = ON")


def make_put_off_indexes(path: Path, advance: Callable[[str], None]) -> None:
    """Make the indexes that an import has put off, in a database that nobody else has open.

    Raises:
        StoreUnavailable: what is missing is made by the next start.
    """
    connection = _connect(path, busy_timeout_ms=WRITER_BUSY_TIMEOUT_MS)
    with closing(connection), _translated_errors(path):
        make_all_indexes(connection, advance)


def _write_until_closed(connection: Connection, queue: _Queue, path: Path) -> None:
    """What the writer thread does. It does not end by itself, and leaves nobody waiting."""
    batch: list[_Write] = []
    try:
        with closing(connection):
            while batch := _next_batch(queue):
                _run_batch(connection, batch, path)
                queue.commit_count += 1
                _resolve(batch, queue)
    except BaseException as error:  # noqa: BLE001 - whatever it is: those who wait must hear of it
        _break_down(batch, queue, error)


def _break_down(batch: Sequence[_Write], queue: _Queue, error: BaseException) -> None:
    """Refuse everything from now on, as nothing can be written any more, and say so once."""
    log.critical("database_writer_ended", why=repr(error))
    broken_by = StoreUnavailable(
        f"The server cannot write any more ({error!r}); it has to be started again."
    )
    with queue.changed:
        queue.broken_by = broken_by
        left = [*batch, *queue.waiting]
        queue.waiting.clear()
    for write in left:
        write.error = write.error or broken_by
    _resolve(left, queue)


def _next_batch(queue: _Queue) -> list[_Write]:
    """Whatever waits, without waiting for more: the next batch gathers while this one commits."""
    with queue.changed:
        while not queue.waiting and not queue.is_closing:
            queue.changed.wait()
        batch = queue.waiting[:WRITE_BATCH_MAX]
        del queue.waiting[:WRITE_BATCH_MAX]
        return batch


class WriteFailed(Exception):
    """A write ended in a way that no caller can be handed as it is, such as SystemExit."""


# What SQLite says of one statement. All else that it says is about the disk, a lock, the memory or
# the file, and concerns every write that shares the commit.
_OF_ONE_WRITE: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
_OF_THE_STORE: Final = (sqlite3.DatabaseError, MemoryError)


def _run_batch(connection: Connection, batch: Sequence[_Write], path: Path) -> None:
    """One transaction; each write under a savepoint, so that one that fails undoes only itself."""
    try:
        try:
            _run_in_transaction(connection, batch, shares_counters=True)
        except sqlite3.IntegrityError:
            # Of the counters, added up. Each write with its own shows whose mistake it is.
            _run_in_transaction(connection, batch, shares_counters=False)
    except BaseException as error:  # noqa: BLE001 - the thread goes on, and the callers hear of it
        _roll_back(connection)
        for write in batch:
            # What its own rule refused stays refused: that answer does not hang on the commit.
            if not isinstance(write.error, MusterError):
                write.error = _for_all_callers(error, path)


def _run_in_transaction(
    connection: Connection, batch: Sequence[_Write], *, shares_counters: bool
) -> None:
    gathered = Counts() if shares_counters else None
    _roll_back(connection)  # what may be left of a transaction that could not even be undone
    connection.execute("BEGIN IMMEDIATE")
    for write in batch:
        if gathered is not None and not write.may_defer_counters:
            gathered.apply(connection)  # before its savepoint, with which they would be undone
        _run_one(connection, write, gathered, is_alone=len(batch) == 1)
    if gathered is not None:
        gathered.apply(connection)
    connection.execute("COMMIT")


def _roll_back(connection: Connection) -> None:
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _run_one(
    connection: Connection, write: _Write, gathered: Counts | None, *, is_alone: bool
) -> None:
    """Run one write under its savepoint. What it counts is gathered, or written at once.

    One that is alone in its transaction has no savepoint: a savepoint keeps each page that changes
    once more, which is a fifth of what it takes to move in thousands of rows.
    """
    transaction = Transaction(connection, gathered)
    write.result, write.error, write.has_work = None, None, False
    if not is_alone:
        connection.execute("SAVEPOINT write")
    try:
        write.result = write.work(transaction)
        if gathered is None:
            transaction.counts.apply(connection)
    except BaseException as error:  # whatever it is belongs to the caller who asked
        if isinstance(error, _OF_THE_STORE) and not isinstance(error, _OF_ONE_WRITE):
            raise
        write.error = _for_one_caller(error)
        if is_alone:
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
        else:
            connection.execute("ROLLBACK TO write")
    else:
        if gathered is not None:
            gathered.take_over(transaction.counts)
        write.has_work = transaction.has_work
    if not is_alone:
        connection.execute("RELEASE write")


def _for_one_caller(error: BaseException) -> BaseException:
    """The error itself, unless a future or an event loop would take it for something else."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failed = WriteFailed(f"The write ended with {error!r}.")
    failed.__cause__ = error
    return failed


def _for_all_callers(error: BaseException, path: Path) -> BaseException:
    if isinstance(error, sqlite3.Error):
        return _translated(error, path)
    if isinstance(error, MemoryError):
        return StoreUnavailable(
            "The server has no memory left for this write. Nothing was changed; try again."
        )
    return _for_one_caller(error)


def _resolve(batch: Sequence[_Write], queue: _Queue) -> None:
    for loop in {write.loop for write in batch}:
        with suppress(RuntimeError):  # the loop has closed: nobody waits any more
            writes = [write for write in batch if write.loop is loop]
            loop.call_soon_threadsafe(_set_results, writes, queue.after_commit)


def _set_results(writes: Sequence[_Write], after_commit: Callable[[bool], None]) -> None:
    after_commit(any(write.has_work and write.error is None for write in writes))
    for write in writes:
        if write.done.done():
            continue  # the caller went away; what it asked for is done all the same
        if write.error is not None:
            write.done.set_exception(write.error)
        else:
            write.done.set_result(write.result)


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translated(error, path) from error


def _translated(error: sqlite3.Error, path: Path) -> MusterError | sqlite3.Error:
    if "not a database" in str(error) or "malformed" in str(error):
        return NotADatabase(
            f"{path} is damaged or is not a database ({error})."
            " Put a backup in its place, or start with another --data folder."
        )
    if isinstance(error, sqlite3.OperationalError):
        which = f" {path}" if "unable to open" in str(error) else ""
        return StoreUnavailable(
            f"The database cannot be used at the moment ({error}{which})."
            " Nothing was changed; try again, and look at the disk of the data folder if it stays."
        )
    return error
