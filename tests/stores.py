"""Fresh databases of every kind, for tests that must hold on each."""

import atexit
import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from muster.store.database import Database
from muster.store.postgres.database import PostgresDatabase
from muster.store.sqlite import SqliteDatabase
from tests.postgres import PostgresServer, find_programs, running_postgres

_TEMPLATE = "muster_template"


@dataclass(slots=True)
class Stores:
    """Makes databases; PostgreSQL is started when it is first asked for, and once."""

    opened: ExitStack
    _servers: dict[str, PostgresServer] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def fresh(self, kind: str, file: Path) -> Iterator[Database]:
        """A database with tables and no rows.

        Args:
            kind: `sqlite`, or `postgres-` and whose programs.
            file: where it is if it is a file.
        """
        if kind == "sqlite":
            embedded = SqliteDatabase(file)
            try:
                yield embedded
            finally:
                embedded.close()
            return
        with self.fresh_address(kind) as url:
            shared = PostgresDatabase(url)
            try:
                yield shared
            finally:
                shared.close()

    @contextmanager
    def fresh_address(self, kind: str) -> Iterator[str]:
        """The address of such a database of PostgreSQL, that nobody has open."""
        server = self.server(kind)
        name = f"muster_{next(self._numbers)}"
        url = server.make_database(name, template=_TEMPLATE)
        try:
            yield url
        finally:
            server.drop_database(name)

    def server(self, kind: str) -> PostgresServer:
        whose = kind.removeprefix("postgres-")
        if whose not in self._servers:
            server = self.opened.enter_context(running_postgres(find_programs()[whose]))
            PostgresDatabase(server.make_database(_TEMPLATE)).close()
            self._servers[whose] = server
        return self._servers[whose]


@contextmanager
def running_stores() -> Iterator[Stores]:
    with ExitStack() as opened:
        yield Stores(opened)


@contextmanager
def chosen_store() -> Iterator[str | None]:
    """The address of a fresh database of the store that MUSTER_TESTS_STORE names, as
    `postgres-debian`; None where it names none: what is tested then keeps its store in a file.
    """
    kind = os.environ.get("MUSTER_TESTS_STORE", "sqlite")
    if kind == "sqlite":
        yield None
        return
    with _chosen().fresh_address(kind) as url:
        yield url


@lru_cache(maxsize=1)
def _chosen() -> Stores:
    """Started once a process, and ended with it."""
    opened = ExitStack()
    atexit.register(opened.close)
    return opened.enter_context(running_stores())
