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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from muster.domain.errors import MusterError, StoreUnavailable
from muster.store.bulk import make_all_indexes
from muster.store.connection import Connection as AnyConnection
from muster.store.connection import NewerDatabase, NotADatabase
from muster.store.groupcommit import GroupCommit, News, without_memory
from muster.store.statements import load_migrations
from muster.store.streaming import Streams
from muster.store.transaction import Transaction

Connection = sqlite3.Connection

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

WRITER_BUSY_TIMEOUT_MS: Final = 2_000
WAL_PAGES: Final = 4_000  # 16 MiB: a page that changes again and again is copied back less often
READER_BUSY_TIMEOUT_MS: Final = 250
SCANS_AT_ONCE: Final = 2  # more would only take the CPU from the calls that are quick
SNAPSHOT_SECONDS_MAX: Final = 0.25
SHARED_ANSWERS_MAX: Final = 10_000
PAGES_KEPT_MAX: Final = 1_000  # of lists: of 100 rows at most, some ten KiB each


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Any
    commit: int  # the snapshot that it was read from has seen so many
    until: float  # by the monotonic clock


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
        self._of_lists: dict[Hashable, _Kept] = {}
        self._of_lists_until = 0.0  # then those that have become too old go
        self._streams = Streams(asyncio.Semaphore(SCANS_AT_ONCE))
        self._snapshots = _Snapshots(path)
        self._on_work: Callable[[], None] = lambda: None
        self._writer = GroupCommit(_FileTransactions(writer, path), self._after_commit)

    def on_work(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, after each commit that left the reconciler something."""
        self._on_work = callback

    def on_logins_changed(self, callback: Callable[[], None]) -> None:
        """Never: what other processes change is told by store/notice.py."""

    def close(self) -> None:
        """Commit what was handed over, and close."""
        self._snapshots.close()
        self._writer.close()
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

    async def read_lists(self, project_id: str, work: Callable[..., T], *args: Hashable) -> T:
        """As `read_shared`, until something is committed that changes lists of the project.

        What other processes commit is seen as late as by any other inline read.
        """
        key = (project_id, work, args)
        kept = self._of_lists.get(key)
        if (
            kept is None
            or self._writer.list_changes.last(project_id) > kept.commit
            or time.monotonic() > kept.until
        ):
            answer = await self.read(work, *args)
            if len(self._of_lists) >= PAGES_KEPT_MAX:
                self._of_lists.clear()
            kept = _Kept(answer, self._seen_commit_count, self._snapshot_until)
            self._of_lists[key] = kept
        shared: T = kept.answer
        return shared

    async def read_recent(self, work: Callable[..., T], *args: Hashable) -> T:
        """As `read_shared`."""
        return await self.read_shared(work, *args)

    def _is_snapshot_stale(self) -> bool:
        return (
            self._writer.commit_count != self._seen_commit_count
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
        self._seen_commit_count = self._writer.commit_count
        self._inline.execute("BEGIN")
        now = time.monotonic()
        self._snapshot_until = now + SNAPSHOT_SECONDS_MAX
        if self._of_lists and now > self._of_lists_until:
            self._of_lists = {key: one for key, one in self._of_lists.items() if one.until >= now}
            self._of_lists_until = self._snapshot_until

    def _after_commit(self, news: frozenset[News]) -> None:
        """Runs in the event loop. A read transaction left open would keep the WAL growing."""
        with suppress(sqlite3.Error):
            if self._inline.in_transaction:
                self._inline.execute("ROLLBACK")
        self._snapshot_until = 0.0
        if News.WORK in news:
            self._on_work()

    async def scan(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a read that may take long in a thread, on one consistent snapshot."""
        return await self._streams.scan(
            self._snapshots.lent,
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
            lambda: open_snapshot(self._path),
            lambda: _translated_errors(self._path),
            lambda connection: work(connection, *args, **kwargs),
        )

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in a transaction; return once it is committed and on disk.

        A caller that is cancelled meanwhile does not undo it.

        Raises:
            StoreUnavailable: nothing was changed; the same call may work later.
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
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
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
    with closing(_connect_to_present(path)) as connection, _translated_errors(path):
        connection.execute("BEGIN")
        yield connection


def _connect_to_present(path: Path) -> Connection:
    if not path.is_file():
        raise StoreUnavailable(f"There is no database {path}; start `muster serve` on it once.")
    return _connect(path, busy_timeout_ms=WRITER_BUSY_TIMEOUT_MS)


class _Snapshots:
    """Connections for scans, kept afterwards: to open one takes longer than a quick search.

    There are never more than scans at once. One that is idle has no transaction open, which would
    keep the WAL from being copied back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._is_closed = False

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """As `open_snapshot`, but on a connection that may have been used before."""
        with ExitStack() as opened, _translated_errors(self._path):
            connection = self._take()
            # Kept only where all went well: after an error, a statement may still be reading.
            opened.callback(connection.close)
            connection.execute("BEGIN")
            yield connection
            connection.execute("ROLLBACK")
            with self._lock:
                if not self._is_closed:
                    self._idle.append(connection)
                    opened.pop_all()

    def _take(self) -> Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _connect_to_present(self._path)

    def close(self) -> None:
        """Close those that are idle; one that is in use is closed when it is given back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


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


# What SQLite says of one statement. All else that it says is about the disk, a lock, the memory or
# the file, and concerns every write that shares the commit.
_OF_ONE_WRITE: Final = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
_OF_THE_STORE: Final = (sqlite3.DatabaseError, MemoryError)


@dataclass(frozen=True, slots=True)
class _FileTransactions:
    """Transactions on the one connection that writes."""

    connection: Connection
    path: Path

    def run(self, work: Callable[[AnyConnection], frozenset[News]]) -> None:
        self._roll_back()  # what may be left of a transaction that could not even be undone
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            work(self.connection)
            self.connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def concerns_all(self, error: BaseException) -> bool:
        return isinstance(error, _OF_THE_STORE) and not isinstance(error, _OF_ONE_WRITE)

    def for_all_callers(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error):
            return _translated(error, self.path)
        return without_memory() if isinstance(error, MemoryError) else error

    def close(self) -> None:
        self.connection.close()


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
