"""PostgreSQL as the store: lost answers, what it refuses to open, and its schema."""

import asyncio
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from muster.domain.errors import StoreUnavailable
from muster.store.addressed import require_current_store
from muster.store.connection import Connection, NewerDatabase, NotADatabase, OlderDatabase
from muster.store.database import Database
from muster.store.dialect import schema_in_postgres
from muster.store.postgres.connection import Address, connect
from muster.store.postgres.database import PostgresDatabase
from muster.store.postgres.schema import require_schema
from muster.store.sqlite import migrate
from muster.store.statements import load_migrations
from muster.store.training_listing import TrainingSearch, page_of_training_jobs
from muster.store.training_terms import SearchTerm
from muster.store.transaction import Transaction
from tests.postgres import PostgresServer, postgres_kinds
from tests.store.rows import (
    PROJECT,
    WORKSPACE,
    add_workload,
    find_differences,
    set_up_store,
)
from tests.stores import Stores

KIND: Final = postgres_kinds()[0]


@pytest.fixture
def server(stores: Stores) -> PostgresServer:
    return stores.server(KIND)


@pytest.fixture
def url(stores: Stores) -> Iterator[str]:
    with stores.fresh_address(KIND) as url:
        yield url


class Line:
    """To PostgreSQL; it can be cut at the worst moment: after a COMMIT, before its answer."""

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        self.folder = folder
        self._behind = str(server.folder / ".s.PGSQL.5432")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.cuts_left = 0
        self.commits = 0
        self.instead_of_commit: Callable[[], None] | None = None  # once; the line is cut after it

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            back = socket.socket(socket.AF_UNIX)
            try:
                back.connect(self._behind)
            except OSError:  # it is away: so is whoever asks for it here
                front.close()
                back.close()
                continue
            for work in (self._forward, self._answer):
                thread = threading.Thread(target=work, args=(front, back))
                self._threads.append(thread)
                thread.start()

    def _forward(self, front: socket.socket, back: socket.socket) -> None:
        while data := _received(front):
            is_commit = b"COMMIT" in data
            self.commits += is_commit
            if is_commit and self.instead_of_commit is not None:
                happen, self.instead_of_commit = self.instead_of_commit, None
                happen()
                break
            if is_commit and self.cuts_left:
                self.cuts_left -= 1
                front.shutdown(socket.SHUT_RDWR)  # from here on nobody hears the answer
            try:
                back.sendall(data)
            except OSError:  # the server has gone meanwhile
                break
        with suppress(OSError):
            back.shutdown(socket.SHUT_WR)

    def _answer(self, front: socket.socket, back: socket.socket) -> None:
        with front, back:
            while data := _received(back):
                with suppress(OSError):
                    front.sendall(data)
            with suppress(OSError):
                front.shutdown(socket.SHUT_RDWR)  # closing it does not wake who reads from it


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


@contextmanager
def cut_line(folder: Path, server: PostgresServer) -> Iterator[Line]:
    with closing(Line(folder, server)) as line:
        yield line


def count_jobs(connection: Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM job").fetchone()
    return int(count)


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_commit_whose_answer_is_lost_is_done_once_and_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, server: PostgresServer, url: str
) -> None:
    folder = Path(tmp_path_factory.mktemp("l"))
    with cut_line(folder, server) as line:
        behind = url.replace(str(server.folder), str(folder))
        with closing(PostgresDatabase(behind)) as database:
            await database.write(set_up_store)

            line.cuts_left = 1
            await database.write(add_workload, "once")

            assert line.cuts_left == 0
            assert await database.read(count_jobs) == 1
            await database.write(add_workload, "and another")
            assert await database.read(count_jobs) == 2
            assert await database.scan(find_differences) == []


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_commit_that_a_crash_took_is_not_taken_for_one_that_has_its_number_now(
    tmp_path_factory: pytest.TempPathFactory, server: PostgresServer, url: str
) -> None:
    """After a crash PostgreSQL gives the numbers of transactions that it forgot out again."""
    folder = Path(tmp_path_factory.mktemp("l"))
    was_used_again = []

    def crash_and_use_the_number_again() -> None:
        with psycopg.connect(url) as admin:
            [[lost]] = admin.execute(
                "SELECT CAST(CAST(backend_xid AS text) AS bigint) FROM pg_stat_activity"
                " WHERE backend_xid IS NOT NULL AND datname = current_database()"
            ).fetchall()
        server.stop(how="immediate")
        server.start()
        used: list[tuple[int]] = []
        while len(used) < 3:
            # Right after its recovery it may end a connection once more.
            with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as other:
                used += other.execute(
                    "SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"
                ).fetchall()
        was_used_again.append((lost,) in used)

    with cut_line(folder, server) as line:
        behind = url.replace(str(server.folder), str(folder))
        with closing(PostgresDatabase(behind)) as database:
            await database.write(set_up_store)
            for number in range(20):  # the number is forgotten unless it was flushed by then
                line.instead_of_commit = crash_and_use_the_number_again
                await database.write(add_workload, f"job {number}")
                assert await database.read(count_jobs) == number + 1
                if any(was_used_again):
                    break

    assert any(was_used_again)


def test_a_line_to_a_machine_that_has_vanished_is_given_up_in_half_a_minute(
    server: PostgresServer,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pass_on() -> None:
            front, _ = listener.accept()
            with front, socket.socket(socket.AF_UNIX) as back:
                back.connect(str(server.folder / ".s.PGSQL.5432"))
                answering = threading.Thread(target=_pump, args=(back, front))
                answering.start()
                _pump(front, back)
                answering.join()

        thread = threading.Thread(target=pass_on)
        thread.start()
        host, port = listener.getsockname()
        url = f"postgresql://postgres@{host}:{port}/postgres"
        with (
            closing(connect(Address(url))) as connection,
            socket.socket(fileno=os.dup(connection.fileno())) as line,
        ):
            idle, between, count, unheard_ms = (
                line.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            )
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        thread.join()

    assert idle + between * count <= 30
    assert 0 < unheard_ms <= 30_000


def _pump(here: socket.socket, there: socket.socket) -> None:
    while data := _received(here):
        there.sendall(data)
    with suppress(OSError):
        there.shutdown(socket.SHUT_WR)


@pytest.mark.asyncio
async def test_a_database_made_before_there_were_marks_gets_them(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP TABLE muster.commit_mark")

    with closing(PostgresDatabase(url)) as database:
        await database.write(set_up_store)
        await database.write(add_workload, "first")

        assert await database.read(count_jobs) == 1


@pytest.mark.asyncio
async def test_a_database_that_is_not_there_is_told_in_one_line_without_its_password(
    server: PostgresServer,
) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        PostgresDatabase(f"{server.url_of('nowhere')}&password=very-secret")

    assert "nowhere on" in refused.value.message
    assert "\n" not in refused.value.message
    assert "very-secret" not in refused.value.message


@pytest.mark.asyncio
async def test_jobs_of_an_algorithm_that_were_made_before_its_index_are_found_by_its_name(
    url: str,
) -> None:
    of_algorithm = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key="create_time",
        is_descending=True,
        offset=0,
        limit=9,
        now_ms=2_000,
        terms=(SearchTerm(key="algorithm_name", operator="like", values=("yolo",)),),
    )
    with closing(PostgresDatabase(url)) as database:
        await database.write(set_up_store)
        for name in ("made-of-it", "of-none"):
            await database.write(add_workload, name)
    with psycopg.connect(url, autocommit=True, options="-c search_path=muster,public") as admin:
        admin.execute("DROP INDEX version_by_algorithm")
        config = '{"worker_server_num": 1, "algorithm": {"id": "7", "name": "Yolo"}}'
        admin.execute("UPDATE version SET config = %s WHERE job_name = 'made-of-it'", (config,))

        [script] = [script for number, script in load_migrations("postgres") if number == 12]
        admin.execute(schema_in_postgres(script).encode())

    with closing(PostgresDatabase(url)) as database:
        total, rows = await database.read(page_of_training_jobs, of_algorithm)
    assert (total, [row.name for row in rows]) == (1, ["made-of-it"])


def test_a_newer_database_is_refused_and_left_alone(url: str) -> None:
    newer = len(load_migrations()) + 1
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE muster.schema_number SET number = %s", (newer,))

    with pytest.raises(NewerDatabase, match=f"schema {newer}; this muster knows up to"):
        PostgresDatabase(url)


def test_what_works_beside_a_server_refuses_an_older_musters_database(url: str) -> None:
    older = len(load_migrations()) - 1
    PostgresDatabase(url).close()
    require_current_store(url)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE muster.schema_number SET number = %s", (older,))

    with pytest.raises(OlderDatabase, match=f"schema {older}; this muster needs {older + 1}"):
        require_current_store(url)


def test_a_schema_of_that_name_that_is_another_programs_is_left_alone(
    server: PostgresServer,
) -> None:
    url = server.make_database("foreign")
    try:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE SCHEMA muster")
            connection.execute("CREATE TABLE muster.notes (line text)")

        with pytest.raises(NotADatabase, match="a schema 'muster' that is not muster's"):
            PostgresDatabase(url)

        with psycopg.connect(url) as connection:
            tables = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'muster'::regnamespace"
            ).fetchall()
        assert tables == [("notes",)]
    finally:
        server.drop_database("foreign")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:very%zzsecret@h/x",
        "postgresql://[very-secret",
        "postgresql://u:very/secret@localhost/x",
        "postgresql://h/x?secret=1",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_a_word_of_it(address: str) -> None:
    with pytest.raises(NotADatabase, match="cannot be read") as refused:
        PostgresDatabase(address)

    assert "secret" not in refused.value.message


@pytest.mark.parametrize("rights", ["", "GRANT USAGE ON SCHEMA muster TO guest"])
def test_a_user_without_rights_is_told_so_in_one_line(
    server: PostgresServer, url: str, rights: str
) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS guest")
        admin.execute("CREATE ROLE guest LOGIN")
        if rights:
            admin.execute(rights)
        try:
            for use in (PostgresDatabase, require_schema):
                with pytest.raises(NotADatabase) as refused:
                    use(url.replace("user=postgres", "user=guest"))
                assert "\n" not in refused.value.message
        finally:
            admin.execute("DROP OWNED BY guest")
            admin.execute("DROP ROLE guest")


def test_a_user_who_may_make_no_schema_is_told_so_in_one_line(server: PostgresServer) -> None:
    url = server.make_database("bare")
    try:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("DROP ROLE IF EXISTS guest")
            admin.execute("CREATE ROLE guest LOGIN")
        with pytest.raises(NotADatabase, match="permission denied"):
            PostgresDatabase(url.replace("user=postgres", "user=guest"))
        with pytest.raises(NotADatabase, match="There is no muster in"):
            require_schema(url)
    finally:
        server.drop_database("bare")


def test_a_database_that_is_not_in_utf_8_is_refused(server: PostgresServer) -> None:
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    try:
        with pytest.raises(NotADatabase, match="not in UTF-8"):
            PostgresDatabase(server.url_of("latin"))
    finally:
        server.drop_database("latin")


def test_both_stores_have_the_same_tables_columns_and_indexes(url: str) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as embedded:
        migrate(embedded)
        tables = [
            name
            for (name,) in embedded.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                " AND name NOT LIKE 'job_search%'"
            )
        ]
        expected = {
            name: [row[1] for row in embedded.execute(f"PRAGMA table_info({name})")]
            for name in tables
        }
        indexes = {
            name
            for (name,) in embedded.execute(
                "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            )
        }
    with psycopg.connect(url) as shared:
        columns: dict[str, list[str]] = {}
        for table, column in shared.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'muster' ORDER BY table_name, ordinal_position"
        ):
            columns.setdefault(table, []).append(column)
        made = {
            name
            for (name,) in shared.execute(
                "SELECT indexname FROM pg_indexes WHERE schemaname = 'muster'"
            )
        }

    assert {name: columns[name] for name in tables} == expected
    assert set(columns) - set(tables) == {"commit_mark", "lease", "schema_number"}
    assert indexes <= made


@pytest.mark.asyncio
async def test_a_database_that_may_not_be_written_for_a_while_is_written_again_afterwards(
    url: str, server: PostgresServer
) -> None:
    """As those who run it set it when its disk is nearly full."""
    name = conninfo_to_dict(url)["dbname"]

    def let_be(*, is_read_only: bool) -> None:
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            admin.execute(
                f'ALTER DATABASE "{name}" SET default_transaction_read_only = {is_read_only}'
            )
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )

    with closing(PostgresDatabase(url)) as database:
        await database.write(set_up_store)
        let_be(is_read_only=True)
        refused = await asyncio.gather(
            *(database.write(add_workload, name) for name in "ab"), return_exceptions=True
        )
        assert await database.read(count_jobs) == 0
        let_be(is_read_only=False)
        for name in "ab":
            await database.write(add_workload, name)

        assert [type(answer) for answer in refused] == [StoreUnavailable] * 2
        assert "read-only" in str(refused[0])
        assert await database.read(count_jobs) == 2
        assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_writes_of_two_servers_take_turns_and_lose_nothing(url: str) -> None:
    with closing(PostgresDatabase(url)) as one, closing(PostgresDatabase(url)) as other:
        await one.write(set_up_store)

        await asyncio.gather(
            *(
                database.write(add_workload, f"{name}-{number}")
                for number in range(60)
                for name, database in (("one", one), ("other", other))
            )
        )

        for database in (one, other):
            assert await database.read(count_jobs) == 120
        assert await one.scan(find_differences) == []


@pytest.mark.asyncio
async def test_logins_that_change_are_told_to_the_other_servers(url: str) -> None:
    with closing(PostgresDatabase(url)) as one, closing(PostgresDatabase(url)) as other:
        told = asyncio.Event()
        other.on_logins_changed(told.set)
        async with asyncio.timeout(20):
            await told.wait()  # what came while nobody listened
            told.clear()

            def change(tx: Transaction) -> None:
                tx.changes_logins = True

            await one.write(change)
            await told.wait()


@pytest.mark.asyncio
async def test_a_text_that_cannot_be_stored_finds_nothing(database: Database) -> None:
    def find(connection: Connection) -> list[object]:
        return connection.execute(
            "SELECT id FROM job WHERE name = :name", {"name": "a\0"}
        ).fetchall()

    assert await database.read(find) == []
