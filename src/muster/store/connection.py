"""What store functions are written against: a connection that runs SQL.

They are plain functions over a `Connection` or a `Transaction`; `store/database.py` says where they
run. The SQL is that of SQLite, in the part of it that `store/dialect.py` can put into the words of
PostgreSQL.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from muster.domain.errors import MusterError

Row = tuple[Any, ...]
Values = Mapping[str, Any] | Sequence[Any]


class Cursor(Protocol):
    """The answer to one statement."""

    @property
    def rowcount(self) -> int: ...
    @property
    def description(self) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def fetchmany(self, size: int = ..., /) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """One view of the database: of a snapshot, or within a transaction."""

    def execute(self, sql: str, values: Values = ..., /) -> Cursor: ...
    def executemany(self, sql: str, rows: Iterable[Values], /) -> Cursor: ...


class ConstraintViolated(Exception):
    """What the schema refuses, on a store that is not SQLite: a key twice, a CHECK."""


# What a statement raises that the schema refuses. The transaction goes on from its savepoint.
REFUSED: Final = (sqlite3.IntegrityError, ConstraintViolated)


class NewerDatabase(MusterError):
    """The database was written by a newer muster than this one."""


class OlderDatabase(MusterError):
    """The database was written by an older muster, and has not been brought up to date."""


class NotADatabase(MusterError):
    """What is named as the database is something else, or damaged."""
