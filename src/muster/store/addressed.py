"""Opens the store that is named: a file is SQLite, a `postgresql://` address is PostgreSQL."""

from contextlib import AbstractContextManager
from pathlib import Path

from muster.domain.errors import StoreUnavailable
from muster.store import sqlite
from muster.store.backup import schema_of
from muster.store.connection import Connection, NotADatabase, OlderDatabase
from muster.store.database import Database
from muster.store.statements import load_migrations

Address = Path | str  # a file, or the address of a database of PostgreSQL


def open_database(address: Address) -> Database:
    """Open the store for reading and writing, and bring its schema up to date.

    Raises:
        StoreUnavailable: it cannot be reached.
        NewerDatabase, NotADatabase: it is not this muster's.
    """
    if isinstance(address, Path):
        return sqlite.SqliteDatabase(address)
    from muster.store.postgres.database import PostgresDatabase  # only who has it needs its driver

    return PostgresDatabase(address)


def open_snapshot(address: Address) -> AbstractContextManager[Connection]:
    """A connection of its own that sees one moment. For threads; not for the event loop.

    Raises:
        StoreUnavailable: there is no such database, or it cannot be read at the moment.
    """
    if isinstance(address, Path):
        return sqlite.open_snapshot(address)
    from muster.store.postgres import connection

    return connection.open_snapshot(address)


def require_store(address: Address) -> int:
    """Make sure that a server has made its store there; return the number of its schema.

    Raises:
        StoreUnavailable, NotADatabase, NewerDatabase: it has not, or not one for this muster.
    """
    if isinstance(address, str):
        from muster.store.postgres import schema

        return schema.require_schema(address)
    present = _schema(address) if address.is_file() and not _is_empty(address) else 0
    if not present:
        raise StoreUnavailable(
            f"There is no muster in {address}; put a backup in its place, or start `muster serve`"
            " on it once."
        )
    return present


def require_current_store(address: Address) -> None:
    """Likewise, one that has every table and column that this muster looks at.

    For what works beside a running server, which may be an older muster's.

    Raises:
        OlderDatabase: an older muster has written it; nothing was changed.
        StoreUnavailable, NotADatabase, NewerDatabase: as above.
    """
    present, known = require_store(address), len(load_migrations())
    if present < known:
        raise OlderDatabase(
            f"The database has schema {present}; this muster needs {known}. `muster migrate` brings"
            " it up to date, and so does the next start of the server."
        )


def refuse_emptied(address: Address) -> None:
    """Where there was a muster before, an empty file is no new database: it is a lost one.

    Raises:
        NotADatabase: it was left as it is.
    """
    if isinstance(address, Path) and address.is_file() and _is_empty(address):
        raise NotADatabase(
            f"{address} is empty, and there was a muster in it. Put a backup in its place; to begin"
            " anew, remove the file."
        )


def _is_empty(file: Path) -> bool:
    """To be seen before it is opened, which would write a first page."""
    return not file.stat().st_size


def _schema(file: Path) -> int:
    with sqlite.open_snapshot(file) as connection:
        return schema_of(connection)
