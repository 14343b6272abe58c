"""PostgreSQL as the store: what several servers share.

It keeps the promises of the embedded store by the same means. All servers take turns at writing: a
lock in the database goes with each transaction, so that writes see one another as if there were
one writer, ids and times ascend in the order of commits, and counters never wait for each other
the wrong way round. Each server writes what has gathered meanwhile in one transaction.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import psycopg
import structlog
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from muster.domain.errors import MusterError, StoreUnavailable
from muster.store.connection import (
    Connection,
    ConstraintViolated,
    Cursor,
    NewerDatabase,
    NotADatabase,
    Values,
)
from muster.store.dialect import in_postgres, schema_in_postgres
from muster.store.schema import schema_statements
from muster.store.statements import load_migrations
from muster.store.transaction import Transaction

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

SERVER_VERSION_MIN: Final = 130_000  # it can tell what became of a transaction
READERS: Final = 8
SCANS_AT_ONCE: Final = 2
STREAMS_AT_ONCE: Final = 64
STREAM_ROWS: Final = 1_000  # fetched together
WRITE_BATCH_MAX: Final = 256
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
# What servers tell each other with a commit.
_WORK: Final = "muster_work"
_LOGINS: Final = "muster_logins"
_END: Any = object()


class PostgresConnection:
    """A connection that takes the SQL of the store."""

    def __init__(self, raw: "psycopg.Connection[Any]", *, is_streaming: bool = False) -> None:
        self.raw = raw
        self._is_streaming = is_streaming
        self._cursor_count = 0

    def execute(self, sql: str, values: Values = (), /) -> Cursor:
        statement = in_postgres(sql)
        try:
            cursor = self._cursor()
            cursor.execute(statement.text, statement.values(values) or None)
        except psycopg.IntegrityError as error:
            raise ConstraintViolated(str(error)) from error
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

    def _cursor(self) -> Any:
        if not self._is_streaming:
            return self.raw.cursor()
        # Its rows stay with the server until they are asked for.
        self._cursor_count += 1
        cursor = self.raw.cursor(name=f"stream_{self._cursor_count}")
        cursor.itersize = STREAM_ROWS
        return cursor


@dataclass(slots=True)
class _Write:
    work: Callable[[Transaction], Any]
    done: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None
    news: frozenset[str] = frozenset()  # what other servers are to be told


@dataclass(slots=True)
class _Queue:
    waiting: list[_Write] = field(default_factory=list)
    is_closing: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class PostgresDatabase:
    """A database of PostgreSQL. Any number of servers may have it open."""

    def __init__(self, url: str) -> None:
        self._address = _Address(url)
        with _translated_errors(self._address), closing(_connect(self._address)) as connection:
            migrate(connection, self._address)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._of_thread = threading.local()
        self._opened: list[psycopg.Connection[Any]] = []
        self._scans = asyncio.Semaphore(SCANS_AT_ONCE)
        self._streams = 0
        self._on_work: Callable[[], None] = lambda: None
        self._news = _News(self._address)
        self._queue = _Queue()
        self._writer = threading.Thread(target=self._write_until_closed, name="database-writer")
        self._writer.start()

    def on_work(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, after each commit that left the reconciler something."""
        self._on_work = callback
        self._news.call_back(_WORK, callback)

    def on_logins_changed(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop, when another process has changed who may do what."""
        self._news.call_back(_LOGINS, callback)

    def close(self) -> None:
        """Commit what was handed over, and close."""
        with self._queue.changed:
            self._queue.is_closing = True
            self._queue.changed.notify()
        self._writer.join()
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
        async with self._scans:

            def in_snapshot() -> T:
                with open_snapshot(self._address.url, walks=True) as connection:
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
            snapshot = open_snapshot(self._address.url, is_streaming=True, walks=True)
            connection = await asyncio.to_thread(opened.enter_context, snapshot)
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

    # -------------------------------------------------------------- writing

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work` in a transaction; return once it is committed and on disk.

        A caller that is cancelled meanwhile does not undo it.

        Raises:
            StoreUnavailable: nothing was changed, unless it says that this is not known.
        """
        loop = asyncio.get_running_loop()
        write = _Write(
            work=lambda transaction: work(transaction, *args, **kwargs),
            done=loop.create_future(),
            loop=loop,
        )
        with self._queue.changed:
            if self._queue.is_closing:
                raise StoreUnavailable("The server is shutting down; try again in a moment.")
            self._queue.waiting.append(write)
            self._queue.changed.notify()
        done: T = await write.done
        return done

    def _write_until_closed(self) -> None:
        writer = _Writer(self._address)
        while batch := _next_batch(self._queue):
            try:
                writer.run(batch)
            except BaseException as error:  # noqa: BLE001 - the callers must learn of it
                for write in batch:
                    write.error = write.error or error
            self._resolve(batch)
        writer.close()

    def _resolve(self, batch: Sequence[_Write]) -> None:
        for loop in {write.loop for write in batch}:
            with suppress(RuntimeError):  # the loop has closed: nobody waits any more
                writes = [write for write in batch if write.loop is loop]
                loop.call_soon_threadsafe(self._set_results, writes)

    def _set_results(self, writes: Sequence[_Write]) -> None:
        if any(_WORK in write.news for write in writes):
            self._on_work()
        for write in writes:
            if write.done.done():
                continue  # the caller went away; what it asked for is done all the same
            if write.error is not None:
                write.done.set_exception(write.error)
            else:
                write.done.set_result(write.result)


def _next_batch(queue: _Queue) -> list[_Write]:
    """Whatever waits, without waiting for more: the next batch gathers while this one commits."""
    with queue.changed:
        while not queue.waiting and not queue.is_closing:
            queue.changed.wait()
        batch = queue.waiting[:WRITE_BATCH_MAX]
        del queue.waiting[:WRITE_BATCH_MAX]
        return batch


class _Lost(Exception):
    """The connection was lost; `is_committed` is None where nobody can tell."""

    def __init__(self, cause: psycopg.Error, *, is_committed: bool | None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.is_committed = is_committed


class _Writer:
    """The one connection by which a server writes. Used in one thread."""

    def __init__(self, address: "_Address") -> None:
        self._address = address
        self._connection: psycopg.Connection[Any] | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def run(self, batch: Sequence[_Write]) -> None:
        """Commit a batch, or leave in each write why it was not.

        A batch whose transaction was lost is run again: nothing of it had happened.
        """
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            try:
                self._run_once(batch)
            except _Lost as lost:
                if lost.is_committed:
                    return
                if lost.is_committed is None or attempt == WRITE_ATTEMPTS:
                    _fail(batch, _unavailable(self._address, lost))
                    return
                log.warning("write_repeated", why=_first_line(lost.cause))
            except psycopg.Error as error:
                self.close()
                _fail(batch, _translated(error, self._address))
                return
            else:
                return

    def _run_once(self, batch: Sequence[_Write]) -> None:
        xid = None
        is_committing = False
        connection = None
        try:
            connection = self._open()
            [_, xid] = connection.execute(
                "SELECT pg_advisory_xact_lock(%s), pg_current_xact_id()::text", (_WRITE_LOCK,)
            ).fetchone() or (None, None)
            for write in batch:
                _run_one(connection, write)
            for channel in sorted({channel for write in batch for channel in write.news}):
                connection.execute("SELECT pg_notify(%s, '')", (channel,))
            is_committing = True
            connection.commit()
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if connection is not None and not connection.broken and not connection.closed:
                with suppress(psycopg.Error):
                    connection.rollback()
                if not _is_passing(error):
                    raise
                raise _Lost(error, is_committed=False) from error
            committed = self._outcome(xid) if is_committing and xid else False
            raise _Lost(error, is_committed=committed) from error

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


def _run_one(connection: "psycopg.Connection[Any]", write: _Write) -> None:
    """Under a savepoint: one that fails undoes only itself."""
    write.result, write.error, write.news = None, None, frozenset()
    own = PostgresConnection(connection)
    transaction = Transaction(own)
    connection.execute("SAVEPOINT write")
    try:
        write.result = write.work(transaction)
        transaction.counts.apply(own)
        write.news = _news_of(transaction)
    except (psycopg.OperationalError, psycopg.InterfaceError):
        raise  # the connection or a lock: it concerns the whole batch
    except Exception as error:  # noqa: BLE001 - whatever it is belongs to the caller who asked
        write.error = error
        connection.execute("ROLLBACK TO write")
    connection.execute("RELEASE write")


def _news_of(transaction: Transaction) -> frozenset[str]:
    flags = {_WORK: transaction.has_work, _LOGINS: transaction.changes_logins}
    return frozenset(channel for channel, is_set in flags.items() if is_set)


def _fail(batch: Sequence[_Write], error: BaseException) -> None:
    for write in batch:
        # What its own rule refused stays refused: that answer does not hang on the commit.
        if not isinstance(write.error, MusterError):
            write.error = error
            write.news = frozenset()


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
        for channel in (_WORK, _LOGINS):
            connection.execute(f"LISTEN {channel}")
        for channel in (_WORK, _LOGINS):
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

    def __str__(self) -> str:
        try:
            parts = conninfo_to_dict(self.url)
        except psycopg.ProgrammingError:
            return "the database"
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
        yield PostgresConnection(raw, is_streaming=is_streaming)


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
    if present > len(scripts):
        raise NewerDatabase(
            f"The database has schema {present}; this muster knows up to {len(scripts)}."
            " Start the muster that wrote it, or a newer one."
        )
    for number, script in scripts[present:]:
        raw.execute(schema_in_postgres(script))
        raw.execute("UPDATE schema_number SET number = %s", (number,))
    raw.commit()


def _schema_number(raw: "psycopg.Connection[Any]", address: _Address) -> int | None:
    """None: there is no schema of muster yet."""
    has_schema, has_number = raw.execute(
        "SELECT to_regnamespace(%s) IS NOT NULL, to_regclass(%s) IS NOT NULL",
        (_SCHEMA, f"{_SCHEMA}.schema_number"),
    ).fetchone() or (False, False)
    if has_number:
        [number] = raw.execute("SELECT number FROM schema_number").fetchone() or (0,)
        return int(number)
    if has_schema:
        raise NotADatabase(
            f"{address} has a schema {_SCHEMA!r} that is not muster's. Name another database."
        )
    return None


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
        return
    raw.execute("CREATE INDEX job_search ON job USING gin (lower(name) public.gin_trgm_ops)")


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
    return error


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
