"""Opens the store that is named: a file is SQLite, a `postgresql://` address is PostgreSQL."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from muster.domain.errors import StoreUnavailable
from muster.store import sqlite
from muster.store.connection import Connection
from muster.store.database import Database

POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")

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


def require_store(address: Address) -> None:
    """Make sure that a server has made its store there.

    Raises:
        StoreUnavailable, NotADatabase, NewerDatabase: it has not, or not one for this muster.
    """
    if isinstance(address, str):
        from muster.store.postgres import schema

        schema.require_schema(address)
    elif not address.is_file():
        raise StoreUnavailable(f"There is no database {address}; start `muster serve` on it once.")
