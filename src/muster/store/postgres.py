"""PostgreSQL as the store: what several servers share.

It keeps the promises of the embedded store by the same means. All servers take turns at writing: a
lock in the database goes with each transaction, so that writes see one another as if there were
one writer, ids and times ascend in the order of commits, and counters never wait for each other
the wrong way round. Each server writes what has gathered meanwhile in one transaction.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg
import structlog
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from muster.domain.errors import MusterError, StoreUnavailable, TextNotKept
from muster.store.connection import (
    Connection,
    ConstraintViolated,
    Cursor,
    NewerDatabase,
    NotADatabase,
    Values,
)
from muster.store.dialect import in_postgres, schema_in_postgres
from muster.store.groupcommit import GroupCommit, News, without_memory
from muster.store.schema import schema_statements
from muster.store.statements import load_migrations
from muster.store.streaming import Streams
from muster.store.transaction import Transaction

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")

SERVER_VERSION_MIN: Final = 130_000  # it can tell what became of a transaction
READERS: Final = 8
SCANS_AT_ONCE: Final = 2
RECENT_SECONDS_MAX: Final = 0.25  # as the embedded store has it
RECENT_ANSWERS_MAX: Final = 10_000
STREAM_ROWS: Final = 1_000  # fetched together
WRITE_ATTEMPTS: Final = 3
CONNECT_SECONDS: Final = 5
# A server that stops in the middle of a write must not keep the others from theirs.
WRITER_IDLE_MS: Final = 1_000
WRITER_WAIT_MS: Final = 15_000
LISTEN_SECONDS: Final = 0.2  # after which it is seen that the server closes
LISTEN_AGAIN_SECONDS: Final = 1.0
OUTCOME_SECONDS: Final = 5.0  # to learn what became of a commit whose answer was lost
# The lists are built to be walked along an index, whatever the planner makes of statistics that may
# be old: what INDEXED BY says to SQLite.
_WALKING: Final = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_WRITE_LOCK: Final = 0x6D757374  # of pg_advisory_xact_lock; the same in every server
_SCHEMA: Final = "muster"


class PostgresConnection:
    """A connection that takes the SQL of the store."""

    def __init__(self, raw: "psycopg.Connection[Any]", *, is_streaming: bool = False) -> None:
        self.raw = raw
        self._is_streaming = is_streaming
        self._walks: list[psycopg.ServerCursor[Any]] = []

    def execute(self, sql: str, values: Values = (), /) -> Cursor:
        statement = in_postgres(sql)
        given = statement.values(values) or None
        cursor: Any = self._cursor(sql, values)
        try:
            cursor.execute(statement.text, given)
        except psycopg.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error
        except psycopg.DataError:
            if not _has_nul(given):
                raise
            if not sql.startswith(("SELECT", "DELETE")):
                raise TextNotKept from None
            cursor.execute(statement.text, _without_nul(given))
        answer: Cursor = cursor
        return answer

    def executemany(self, sql: str, rows: Iterable[Values], /) -> Cursor:
        statement = in_postgres(sql)
        cursor = self.raw.cursor()
        try:
            cursor.executemany(statement.text, [statement.values(row) for row in rows])
        except psycopg.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error
        return cursor

    def close_walks(self) -> None:
        """Give back what the server keeps for statements whose rows were not all asked for."""
        for cursor in self._walks:
            with suppress(psycopg.Error):
                cursor.close()

    def _cursor(self, sql: str, values: Values) -> Any:
        if not self._is_streaming or not _is_long(sql, values):
            return self.raw.cursor()
        # Its rows stay with the server until they are asked for.
        cursor = self.raw.cursor(name=f"walk_{len(self._walks)}")
        cursor.itersize = STREAM_ROWS
        self._walks.append(cursor)
        return cursor


def _is_long(sql: str, values: Values) -> bool:
    """Whether a statement may have more rows than should be fetched together."""
    if "json_each(:" in sql:
        return False  # the rows of a list that is here already
    limit = values.get("limit", -1) if isinstance(values, Mapping) else -1
    return limit == -1 or limit > STREAM_ROWS


def _has_nul(values: Any) -> bool:
    parts = values.values() if isinstance(values, Mapping) else values or ()
    return any(_has_nul(p) if isinstance(p, list) else "\0" in str(p) for p in parts)


def _without_nul(values: Any) -> Any:
    """With what no stored text has, either, in the place of NUL: nothing is found by it."""
    if isinstance(values, Mapping):
        return {name: _without_nul(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nul(value) for value in values]
    return values.replace("\0", "\ufffe") if isinstance(values, str) else values


class PostgresDatabase:
    """A database of PostgreSQL. Any number of servers may have it open."""

    def __init__(self, url: str) -> None:
        self._address = _Address(url)
        with _translated_errors(self._address), closing(_connect(self._address)) as connection:
            migrate(connection, self._address)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._of_thread = threading.local()
        self._opened: list[psycopg.Connection[Any]] = []
        self._streams = Streams(asyncio.Semaphore(SCANS_AT_ONCE))
        self._recent: dict[Hashable, asyncio.Future[Any]] = {}  # answers, and those to come
        self._recent_until = 0.0
        self._on_work: Callable[[], None] = lambda: None
        self._news = _News(self._address)
        self._writer = GroupCommit(_SharedTransactions(self._address), self._after_commit)

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
        with closing(_connect(self._address, **_WALKING)) as connection:
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
        """As `read`: nobody tells this server when another one commits."""
        return await self.read(work, *args)

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
        with _translated_errors(self._address):
            for is_last in (False, True):
                connection = self._connection_of_thread()
                try:
                    return work(PostgresConnection(connection), *args, **kwargs)
                except psycopg.OperationalError:
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
            connection = _connect(self._address, **_WALKING)
            _make_snapshots(connection)
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
            lambda: _translated_errors(self._address),
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
        self, work: Callable[[Transaction, Sequence[Item]], Sequence[T | MusterError]], item: Item
    ) -> T:
        """Write an item together with all that wait with the same `work`; see `Database`."""
        return await self._writer.write_together(work, item)

    def _after_commit(self, news: frozenset[News]) -> None:
        """Runs in the event loop. That others have committed is told by `_News`."""
        self._recent_until = 0.0
        if News.WORK in news:
            self._on_work()


class _Lost(Exception):
    """The connection was lost; `is_committed` is None where nobody can tell."""

    def __init__(self, cause: psycopg.Error, *, is_committed: bool | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.is_committed = is_committed


class _SharedTransactions:
    """Transactions on the one connection by which a server writes."""

    def __init__(self, address: "_Address") -> None:
        self._address = address
        self._connection: psycopg.Connection[Any] | None = None
        self._is_away = False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def concerns_all(self, error: BaseException) -> bool:
        return isinstance(
            error, psycopg.OperationalError | psycopg.InterfaceError | MemoryError | _Lost
        )

    def for_all_callers(self, error: BaseException) -> BaseException:
        if isinstance(error, _Lost):
            return _unavailable(self._address, error)
        if isinstance(error, psycopg.Error):
            return _translated(error, self._address)
        return without_memory() if isinstance(error, MemoryError) else error

    def run(self, work: Callable[[Connection], frozenset[News]]) -> None:
        """A transaction that was lost is run again: nothing of it had happened."""
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                self._run_once(work)
            except _Lost as lost:
                if lost.is_committed:
                    return
                if lost.is_committed is None or attempt == WRITE_ATTEMPTS:
                    raise
                self._note(lost)
            else:
                self._note(None)
                return

    def _note(self, lost: "_Lost | None") -> None:
        """Tell that the database went away, and that it is back: once each."""
        if (lost is not None) != self._is_away:
            self._is_away = lost is not None
            if lost is not None:
                log.warning("database_lost", why=_first_line(lost.cause))
            else:
                log.info("database_back")

    def _run_once(self, work: Callable[[Connection], frozenset[News]]) -> None:
        xid = None
        is_committing = False
        connection = None
        try:
            connection = self._open()
            [_, xid] = connection.execute(
                "SELECT pg_advisory_xact_lock(%s), pg_current_xact_id()::text", (_WRITE_LOCK,)
            ).fetchone() or (None, None)
            for channel in sorted(work(PostgresConnection(connection))):
                connection.execute("SELECT pg_notify(%s, '')", (channel,))
            is_committing = True
            connection.commit()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if connection is not None and not connection.broken and not connection.closed:
                self._roll_back(connection)
                if not _is_passing(error):
                    raise
                raise _Lost(error, is_committed=False) from error
            committed = self._outcome(xid) if is_committing and xid else False
            raise _Lost(error, is_committed=committed) from error
        except BaseException as error:
            # After an error of the database that nobody expected, begin with a new connection.
            self.close() if isinstance(error, psycopg.Error) else self._roll_back(connection)
            raise

    def _roll_back(self, connection: "psycopg.Connection[Any] | None") -> None:
        with suppress(psycopg.Error):
            if connection is not None:
                connection.rollback()

    def _open(self) -> "psycopg.Connection[Any]":
        if self._connection is None or self._connection.closed:
            self._connection = _connect(
                self._address,
                idle_in_transaction_session_timeout=WRITER_IDLE_MS,
                lock_timeout=WRITER_WAIT_MS,
                synchronous_commit="on",
            )
        return self._connection

    def _outcome(self, xid: str) -> bool | None:
        """Whether a transaction was committed whose answer was lost; None: nobody can tell."""
        until = time.monotonic() + OUTCOME_SECONDS
        while time.monotonic() < until:
            with suppress(psycopg.Error):
                [status] = (
                    self._open()
                    .execute("SELECT pg_xact_status(CAST(%s AS xid8))", (xid,))
                    .fetchone()
                ) or (None,)
                self._open().rollback()
                if status in ("committed", "aborted"):
                    return bool(status == "committed")
            time.sleep(0.05)
        return None


def _is_passing(error: psycopg.Error) -> bool:
    """Whether the same transaction may succeed a moment later, as it is."""
    return isinstance(error, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure)


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


class _News:
    """Listens to what other servers tell, in a thread. What is missed is found by looking."""

    def __init__(self, address: "_Address") -> None:
        self._address = address
        self._callbacks: dict[str, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    def call_back(self, channel: str, callback: Callable[[], None]) -> None:
        """Called in the event loop in which the callback is to run."""
        self._callbacks[channel] = (asyncio.get_running_loop(), callback)
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="database-news")
            self._thread.start()

    def close(self) -> None:
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._is_closing.is_set():
            try:
                with closing(_connect(self._address)) as connection:
                    self._listen_on(connection)
            except (psycopg.Error, OSError) as error:
                log.debug("not_listening", why=_first_line(error))
                self._is_closing.wait(LISTEN_AGAIN_SECONDS)

    def _listen_on(self, connection: "psycopg.Connection[Any]") -> None:
        connection.autocommit = True
        for channel in News:
            connection.execute(f"LISTEN {channel}")
        for channel in News:
            self._tell(channel)  # what came while nobody listened
        while not self._is_closing.is_set():
            for note in connection.notifies(timeout=LISTEN_SECONDS):
                self._tell(note.channel)

    def _tell(self, channel: str) -> None:
        if channel in self._callbacks:
            loop, callback = self._callbacks[channel]
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(callback)


# ------------------------------------------------------------------ connections


@dataclass(frozen=True, slots=True)
class _Address:
    """Where the database is. Its password never shows in a message."""

    url: str

    def __post_init__(self) -> None:
        """Raise NotADatabase, without a word of it, unless it is an address."""
        try:
            parts = conninfo_to_dict(self.url)
        except psycopg.ProgrammingError:
            parts = {"port": "?"}
        ports = str(parts.get("port") or "0").split(",")
        # A password with "/" or "@" in it is taken for other parts of the address.
        if not all(port.isdecimal() for port in ports) or "@" in str(parts.get("dbname") or ""):
            raise NotADatabase(
                "The address of the database cannot be read. It must be like"
                " postgresql://USER:PASSWORD@HOST/NAME; in a password write signs such as / @ : %"
                " as %2F %40 %3A %25."
            )

    def __str__(self) -> str:
        parts = conninfo_to_dict(self.url)
        host = parts.get("host") or parts.get("hostaddr") or "localhost"
        port = parts.get("port")
        return f"{parts.get('dbname') or 'the database'} on {host}{f':{port}' if port else ''}"


def _connect(address: _Address, **settings: object) -> "psycopg.Connection[Any]":
    """A connection with the settings that every statement of the store relies on."""
    given = conninfo_to_dict(address.url)
    session = {
        "search_path": f"{_SCHEMA},public",
        "jit": "off",  # it takes longer than any of our statements
        "timezone": "UTC",
        **settings,
    }
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    raw: psycopg.Connection[Any] = psycopg.connect(
        make_conninfo(
            address.url,
            options=f"{given.get('options') or ''} {options}".strip(),
            connect_timeout=given.get("connect_timeout") or CONNECT_SECONDS,
            application_name=given.get("application_name") or "muster",
        )
    )
    raw.adapters.register_dumper(bool, _BoolAsNumber)
    raw.adapters.register_loader("numeric", _NumericAsInt)
    return raw


def _make_snapshots(raw: "psycopg.Connection[Any]") -> None:
    """Let every transaction of a connection see one moment, and change nothing."""
    raw.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    raw.read_only = True


@contextmanager
def open_snapshot(
    url: str, *, is_streaming: bool = False, walks: bool = False
) -> Iterator[Connection]:
    """A connection of its own that sees one moment. For threads; not for the event loop.

    Args:
        url: of the database.
        is_streaming: leave rows with the server until they are asked for.
        walks: along an index, as lists are read; else as PostgreSQL thinks best.

    Raises:
        StoreUnavailable: it cannot be read at the moment.
    """
    address = _Address(url)
    with (
        _translated_errors(address),
        closing(_connect(address, **(_WALKING if walks else {}))) as raw,
    ):
        _make_snapshots(raw)
        connection = PostgresConnection(raw, is_streaming=is_streaming)
        try:
            yield connection
        finally:
            connection.close_walks()


class _BoolAsNumber(psycopg.adapt.Dumper):
    """The store keeps booleans as 0 and 1."""

    oid = psycopg.postgres.types["int2"].oid

    def dump(self, obj: Any) -> Buffer:
        return b"1" if obj else b"0"


class _NumericAsInt(psycopg.adapt.Loader):
    """A sum of whole numbers is one."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text else int(text)


# ------------------------------------------------------------------ the schema


def migrate(raw: "psycopg.Connection[Any]", address: _Address) -> None:
    """Bring the schema up to date; of several servers that start at once, one does.

    Raises:
        NewerDatabase: a newer muster has written it; nothing was changed.
        NotADatabase: it cannot be used by muster.
    """
    if raw.info.server_version < SERVER_VERSION_MIN:
        raise NotADatabase(
            f"{address} is PostgreSQL {raw.info.server_version // 10_000}; muster needs"
            f" {SERVER_VERSION_MIN // 10_000} or later."
        )
    if raw.info.parameter_status("server_encoding") != "UTF8":
        raise NotADatabase(f"{address} is not in UTF-8; make one with ENCODING 'UTF8'.")
    scripts = load_migrations()
    raw.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITE_LOCK,))
    present = _schema_number(raw, address)
    if present is None:
        _make_schema(raw)
        present = len(scripts)
        raw.execute(
            "CREATE TABLE schema_number AS SELECT CAST(%s AS integer) AS number", (present,)
        )
    for number, script in scripts[present:]:
        raw.execute(schema_in_postgres(script))
        raw.execute("UPDATE schema_number SET number = %s", (number,))
    raw.commit()


def _schema_number(raw: "psycopg.Connection[Any]", address: _Address) -> int | None:
    """None: there is no schema of muster yet.

    Raises:
        NewerDatabase: a newer muster has written it.
        NotADatabase: the schema of that name is not muster's.
    """
    has_schema, tables = raw.execute(
        "SELECT to_regnamespace(%(schema)s) IS NOT NULL,"
        " (SELECT count(*) FROM information_schema.columns"
        "   WHERE table_schema = %(schema)s"
        "     AND (table_name, column_name) IN (('schema_number', 'number'), ('workload', 'uid')))",
        {"schema": _SCHEMA},
    ).fetchone() or (False, 0)
    if not has_schema:
        return None
    if tables != 2:
        raise NotADatabase(
            f"{address} has a schema {_SCHEMA!r} that is not muster's, or that this user may not"
            " read. Name another database, or another user."
        )
    [number] = raw.execute("SELECT number FROM schema_number").fetchone() or (0,)
    if number > len(load_migrations()):
        raise NewerDatabase(
            f"The database has schema {number}; this muster knows up to {len(load_migrations())}."
            " Start the muster that wrote it, or a newer one."
        )
    return int(number)


def require_schema(url: str) -> None:
    """Raise NotADatabase, or NewerDatabase, unless this muster can read what is there."""
    address = _Address(url)
    with _translated_errors(address), closing(_connect(address)) as raw:
        if _schema_number(raw, address) is None:
            raise NotADatabase(f"There is no muster in {address}; start `muster serve` on it once.")


def _make_schema(raw: "psycopg.Connection[Any]") -> None:
    """The schema of the embedded store, as all its migrations together have it."""
    raw.execute(f"CREATE SCHEMA {_SCHEMA}")
    folder = files("muster.store") / "sql" / "postgres"
    raw.execute((folder / "baseline.sql").read_text(encoding="utf-8"))
    for statement in schema_statements():
        raw.execute(schema_in_postgres(statement))
    try:
        with raw.transaction():
            raw.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public")
    except psycopg.Error as error:
        log.warning("search_without_index", why=_first_line(error))
    found = raw.execute(
        "SELECT quote_ident(n.nspname) FROM pg_extension AS e"
        " JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'"
    ).fetchone()
    if found is not None:
        raw.execute(
            f"CREATE INDEX job_search ON job USING gin (lower(name) {found[0]}.gin_trgm_ops)"
        )


# ------------------------------------------------------------------ errors


@contextmanager
def _translated_errors(address: _Address) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _translated(error, address) from error


def _translated(error: psycopg.Error, address: _Address) -> BaseException:
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(
            f"The database {address} cannot be used at the moment ({_first_line(error)})."
            " Nothing was changed; try again, and look at PostgreSQL if it stays."
        )
    if isinstance(error, _OF_THE_SET_UP):
        return NotADatabase(
            f"The database {address} cannot be used as it is set up ({_first_line(error)})."
            " Look at the rights of its user; docs/postgresql.md tells what is needed."
        )
    return error


# What an administrator has to mend, not we.
_OF_THE_SET_UP: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
)


def _unavailable(address: _Address, lost: _Lost) -> StoreUnavailable:
    if lost.is_committed is None:
        return StoreUnavailable(
            f"The connection to the database {address} was lost while it committed"
            f" ({_first_line(lost.cause)}), and it cannot be asked: look whether this was done"
            " before you do it again."
        )
    return StoreUnavailable(
        f"The database {address} cannot be used at the moment ({_first_line(lost.cause)})."
        " Nothing was changed; try again, and look at PostgreSQL if it stays."
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
