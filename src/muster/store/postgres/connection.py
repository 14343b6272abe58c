"""Connections to PostgreSQL: where it is, how it takes our SQL, what its errors mean."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from muster.domain.errors import StoreUnavailable, TextNotKept
from muster.store.connection import (
    Connection,
    ConstraintViolated,
    Cursor,
    NotADatabase,
    Row,
    Values,
)
from muster.store.dialect import in_postgres
from muster.store.postgres.rows import encoded, in_one_value

STREAM_ROWS: Final = 1_000  # fetched together
CONNECT_SECONDS: Final = 5
# A machine that has vanished says nothing any more: it is found out in half a minute, where the
# system by itself would wait for a quarter of an hour, or two. Of TCP alone.
KEEPALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# Lists are walked, and rows are written, along an index, whatever the planner makes of statistics
# that may be old, or of a value that holds rows: what INDEXED BY says to SQLite.
WALKING: Final = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
SCHEMA: Final = "muster"
# What says that the line is gone, or PostgreSQL with it, for a while. Being cut off for idling is
# among what psycopg calls internal errors.
OF_THE_LINE: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


@dataclass(frozen=True, slots=True)
class Address:
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


def connect(address: Address, **settings: object) -> "psycopg.Connection[Any]":
    """A connection with the settings that every statement of the store relies on."""
    given = conninfo_to_dict(address.url)
    session = {
        "search_path": f"{SCHEMA},public",
        "jit": "off",  # it takes longer than any of our statements
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": 0,  # a stream waits for its reader
        **settings,
    }
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    raw: psycopg.Connection[Any] = psycopg.connect(
        make_conninfo(
            address.url,
            **{name: given.get(name) or value for name, value in KEEPALIVE.items()},
            options=f"{given.get('options') or ''} {options}".strip(),
            connect_timeout=given.get("connect_timeout") or CONNECT_SECONDS,
            application_name=given.get("application_name") or "muster",
        )
    )
    raw.adapters.register_dumper(bool, _BoolAsNumber)
    raw.adapters.register_loader("numeric", _NumericAsInt)
    return raw


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

    def execute_rows(self, sql: str, rows: Sequence[Row], /) -> Cursor:
        text, names = in_one_value(sql)
        try:
            return self.execute(text, (encoded(names, rows),))
        except psycopg.DataError:
            if any(_has_nul(row) for row in rows):
                raise TextNotKept from None
            raise

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


def make_snapshots(raw: "psycopg.Connection[Any]") -> None:
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
    address = Address(url)
    with (
        translated_errors(address),
        closing(connect(address, **(WALKING if walks else {}))) as raw,
    ):
        make_snapshots(raw)
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


@contextmanager
def translated_errors(address: Address) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translated(error, address) from error


def translated(error: psycopg.Error, address: Address) -> BaseException:
    if isinstance(error, (*OF_THE_LINE, psycopg.errors.ReadOnlySqlTransaction)):
        return StoreUnavailable(
            f"The database {address} cannot be used at the moment ({first_line(error)})."
            " Nothing was changed; try again, and look at PostgreSQL if it stays."
        )
    if isinstance(error, OF_THE_SET_UP):
        return NotADatabase(
            f"The database {address} cannot be used as it is set up ({first_line(error)})."
            " Look at the rights of its user; docs/postgresql.md tells what is needed."
        )
    return error


# What an administrator has to mend, not we. Read-only it may be for a while alone: where its disk
# is nearly full, or another machine has taken its place.
OF_THE_SET_UP: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
)


def first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
