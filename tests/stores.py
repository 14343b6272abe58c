"""Fresh databases of every kind, for tests that must hold on each."""

import asyncio
import atexit
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from muster.store.database import Database
from muster.store.postgres.database import PostgresDatabase
from muster.store.sqlite import SqliteDatabase
from muster.store.transaction import Transaction
from tests.postgres import PostgresServer, programs_of, running_postgres

_TEMPLATE = "muster_template"

SetUp = Callable[[Transaction], None]


@dataclass(slots=True)
class Stores:
    """Makes databases; PostgreSQL is started when it is first asked for, and once."""

    opened: ExitStack
    _servers: dict[str, PostgresServer] = field(default_factory=dict)
    _templates: dict[tuple[str, SetUp], str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def fresh(self, kind: str, file: Path, set_up: SetUp | None = None) -> Iterator[Database]:
        """A database with tables, and with the rows of `set_up` alone.

        Args:
            kind: `sqlite`, or `postgres-` and whose programs.
            file: where it is if it is a file.
            set_up: is run once for all databases that are made so; not in an event loop.
        """
        if kind == "sqlite":
            embedded = new_sqlite(file, set_up)
            try:
                yield embedded
            finally:
                embedded.close()
            return
        with self.fresh_address(kind, set_up) as url:
            shared = PostgresDatabase(url)
            try:
                yield shared
            finally:
                shared.close()

    @contextmanager
    def fresh_address(self, kind: str, set_up: SetUp | None = None) -> Iterator[str]:
        """The address of such a database of PostgreSQL, that nobody has open."""
        server = self.server(kind)
        name = f"muster_{next(self._numbers)}"
        template = _TEMPLATE if set_up is None else self._set_up_template(kind, server, set_up)
        url = server.make_database(name, template=template)
        try:
            yield url
        finally:
            server.drop_database(name)

    def server(self, kind: str) -> PostgresServer:
        if kind not in self._servers:
            server = self.opened.enter_context(running_postgres(programs_of(kind)))
            PostgresDatabase(server.make_database(_TEMPLATE)).close()
            self._servers[kind] = server
        return self._servers[kind]

    def _set_up_template(self, kind: str, server: PostgresServer, set_up: SetUp) -> str:
        if (kind, set_up) not in self._templates:
            name = f"{_TEMPLATE}_{len(self._templates)}"
            database = PostgresDatabase(server.make_database(name, template=_TEMPLATE))
            try:
                asyncio.run(database.write(set_up))
            finally:
                database.close()
            self._templates[kind, set_up] = name
        return self._templates[kind, set_up]


def new_sqlite(file: Path, set_up: SetUp | None = None) -> SqliteDatabase:
    """A database of the embedded store, where there is none; as `Stores.fresh` makes it."""
    file.write_bytes(_new_file(set_up))
    return SqliteDatabase(file)


@cache
def _new_file(set_up: SetUp | None) -> bytes:
    """To copy it takes a tenth of the time that it takes to make one."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "new.db")
        database = SqliteDatabase(file)
        try:
            if set_up is not None:
                asyncio.run(database.write(set_up))
        finally:
            database.close()
        assert [path.name for path in file.parent.iterdir()] == [file.name], "all is in the file"
        return file.read_bytes()


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


@cache
def _chosen() -> Stores:
    """Started once a process, and ended with it."""
    opened = ExitStack()
    atexit.register(opened.close)
    return opened.enter_context(running_stores())
