"""The embedded database: group commit, snapshots, and what goes wrong with disks and locks."""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from muster.domain.errors import NameTaken, StoreUnavailable
from muster.domain.phase import Event
from muster.store import sqlite as sqlite_module
from muster.store import streaming, workloads
from muster.store.connection import Connection, NewerDatabase, NotADatabase
from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase, open_snapshot
from muster.store.statements import load_migrations
from muster.store.transaction import Transaction
from tests.store.rows import (
    PROJECT,
    add_job,
    add_workload,
    counts_of,
    find_differences,
    get_workload,
    move,
    set_up_store,
)


@pytest.fixture
def empty(embedded: Database) -> Database:
    """What is here is about the file."""
    return embedded


def count_jobs(connection: Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM job").fetchone()
    return int(count)


def add_and_fail(tx: Transaction, name: str) -> None:
    add_workload(tx, name)
    raise ZeroDivisionError(name)


@pytest.mark.asyncio
async def test_one_failing_write_undoes_only_itself(database: Database) -> None:
    results = await asyncio.gather(
        database.write(add_workload, "one"),
        database.write(add_and_fail, "two"),
        database.write(add_job, "one"),
        database.write(add_workload, "three"),
        return_exceptions=True,
    )

    assert isinstance(results[1], ZeroDivisionError)
    assert isinstance(results[2], NameTaken)
    assert await database.read(count_jobs) == 2
    assert await counts_of(database) == {"Creating": 2}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_64_writers_at_once_are_all_counted(database: Database) -> None:
    async def write_some(writer: int) -> None:
        for index in range(5):
            workload = await database.write(add_workload, f"job-{writer}-{index}")
            await database.write(move, workload, Event.ENQUEUED, now_ms=2_000)

    await asyncio.gather(*(write_some(writer) for writer in range(64)))

    assert await database.read(count_jobs) == 320
    assert await counts_of(database) == {"Queue": 320}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_a_caller_asked_for_is_done_even_if_he_does_not_wait(
    database: Database,
) -> None:
    may_go_on = threading.Event()
    blocking = asyncio.create_task(database.write(lambda tx: may_go_on.wait()))
    writing = asyncio.create_task(database.write(add_workload, "digits"))
    await asyncio.sleep(0)

    writing.cancel()
    may_go_on.set()
    await blocking
    await database.write(lambda tx: None)

    assert writing.cancelled()
    assert await database.read(count_jobs) == 1
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_read_sees_every_write_that_was_acknowledged(database: Database) -> None:
    for count in range(1, 20):
        await database.write(add_job, f"job-{count}")

        assert await database.read(count_jobs) == count
        assert await database.scan(count_jobs) == count


@pytest.mark.asyncio
async def test_acknowledged_writes_are_there_after_reopening(
    file: Path, database: Database
) -> None:
    await database.write(add_workload, "digits")
    database.close()

    reopened = SqliteDatabase(file)

    with closing(reopened):
        assert await reopened.read(count_jobs) == 1
        assert await counts_of(reopened) == {"Creating": 1}


@pytest.mark.asyncio
async def test_acknowledged_writes_are_there_after_the_process_was_killed(
    file: Path, database: Database, tmp_path: Path
) -> None:
    await database.write(add_workload, "digits")
    killed = tmp_path / "killed"
    killed.mkdir()
    for left in file.parent.glob("muster.db*"):  # as it lies on disk, nothing closed
        shutil.copy(left, killed)

    reopened = SqliteDatabase(killed / file.name)

    with closing(reopened):
        assert await reopened.read(count_jobs) == 1
        assert await reopened.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_database_that_is_closed_takes_no_writes(file: Path) -> None:
    database = SqliteDatabase(file)
    database.close()

    with pytest.raises(StoreUnavailable, match="shutting down"):
        await database.write(set_up_store)


@pytest.mark.asyncio
async def test_closing_commits_what_was_handed_over(file: Path) -> None:
    database = SqliteDatabase(file)
    writing = [asyncio.create_task(database.write(set_up_store))]
    writing += [asyncio.create_task(database.write(add_job, f"job-{i}")) for i in range(300)]  # type: ignore[arg-type]
    await asyncio.sleep(0)

    database.close()

    await asyncio.gather(*writing)
    with open_snapshot(file) as connection:
        assert count_jobs(connection) == 300


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks are given up at once."""
    monkeypatch.setattr(sqlite_module, "WRITER_BUSY_TIMEOUT_MS", 1)


@pytest.mark.usefixtures("impatient")
@pytest.mark.asyncio
async def test_a_database_that_somebody_has_locked_works_again_afterwards(
    file: Path, database: Database
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        results = await asyncio.gather(
            *(database.write(add_job, name) for name in ("a", "b")), return_exceptions=True
        )
        seen = await database.read(count_jobs)
        other.execute("ROLLBACK")

    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    assert seen == 0
    await database.write(add_workload, "a")
    assert await database.read(count_jobs) == 1
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_full_disk_loses_nothing_that_was_acknowledged(database: Database) -> None:
    def limit_pages(tx: Transaction, more: int) -> None:
        [pages] = tx.execute("PRAGMA page_count").fetchone()
        tx.execute(f"PRAGMA max_page_count = {pages + more}")

    await database.write(limit_pages, 20)
    acknowledged = 0
    try:
        while acknowledged < 10_000:
            await database.write(add_workload, f"job-{acknowledged}")
            acknowledged += 1
    except StoreUnavailable as full:
        refused = full
    assert "full" in refused.message
    assert await database.read(count_jobs) == acknowledged
    assert await database.scan(find_differences) == []

    await database.write(limit_pages, 1_000_000)

    await database.write(add_workload, "one-more")
    assert await database.read(count_jobs) == acknowledged + 1
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_full_disk_fails_every_write_of_its_group(database: Database) -> None:
    def fill(tx: Transaction) -> None:
        [pages] = tx.execute("PRAGMA page_count").fetchone()
        tx.execute(f"PRAGMA max_page_count = {pages}")
        tx.execute("CREATE TABLE ballast AS SELECT randomblob(10_000_000) AS bytes")

    results = await asyncio.gather(
        database.write(add_workload, "a"),
        database.write(fill),
        database.write(add_workload, "b"),
        return_exceptions=True,
    )

    assert [type(result) for result in results] == [StoreUnavailable] * 3
    assert await database.read(count_jobs) == 0
    assert await database.scan(find_differences) == []


def test_a_newer_database_is_refused_and_left_alone(file: Path) -> None:
    SqliteDatabase(file).close()
    newer = len(load_migrations()) + 1
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")

    with pytest.raises(NewerDatabase, match=f"schema {newer}; this muster knows up to"):
        SqliteDatabase(file)

    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (newer,)


def test_a_file_that_is_no_database_is_refused_in_one_line(file: Path) -> None:
    file.write_text("These are my notes, please do not overwrite them.\n" * 100)

    with pytest.raises(NotADatabase) as refused:
        SqliteDatabase(file)

    assert str(file) in refused.value.message
    assert "\n" not in refused.value.message
    assert file.read_text().startswith("These are my notes")


@pytest.mark.asyncio
async def test_a_damaged_database_is_called_so(file: Path, database: Database) -> None:
    for index in range(50):
        await database.write(add_workload, f"job-{index}")
    database.close()
    damage(file)

    with (
        pytest.raises(NotADatabase, match=r"muster\.db is damaged or is not a database"),
        closing(SqliteDatabase(file)) as damaged,
    ):
        await damaged.read(count_jobs)


def damage(file: Path) -> None:
    """Overwrite all but the first page."""
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def test_a_database_in_a_folder_that_is_not_there_is_refused_in_one_line(
    tmp_path: Path,
) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be used at the moment") as refused:
        SqliteDatabase(tmp_path / "nowhere" / "muster.db")

    assert "\n" not in refused.value.message


def test_a_snapshot_of_a_database_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreUnavailable, match="There is no database"),
        open_snapshot(tmp_path / "muster.db"),
    ):
        pass

    assert not (tmp_path / "muster.db").exists()


@pytest.mark.usefixtures("impatient")
def test_a_database_that_is_locked_at_the_start_is_refused_in_one_line(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(StoreUnavailable, match="cannot be used at the moment"):
            SqliteDatabase(file)


def names_in_chunks(connection: Connection) -> Iterator[list[str]]:
    cursor = connection.execute("SELECT name FROM job ORDER BY id")
    while rows := cursor.fetchmany(2):
        yield [row[0] for row in rows]


@pytest.mark.asyncio
async def test_a_stream_shows_one_moment_whatever_is_written_meanwhile(
    database: Database,
) -> None:
    for name in "abcd":
        await database.write(add_job, name)

    chunks = []
    async for chunk in database.stream(names_in_chunks):
        chunks.append(chunk)
        await database.write(add_job, f"meanwhile-{len(chunks)}")

    assert chunks == [["a", "b"], ["c", "d"]]
    assert await database.read(count_jobs) == 6


@pytest.mark.asyncio
async def test_a_stream_that_is_left_in_the_middle_of_a_step_ends_after_that_step(
    database: Database,
) -> None:
    begun, left = threading.Event(), threading.Event()
    found: list[object] = []

    def chunks(connection: Connection) -> Iterator[int]:
        begun.set()
        left.wait(10)
        found.append(connection.execute("SELECT 1").fetchone())
        yield 1

    reading = asyncio.ensure_future(anext(database.stream(chunks)))
    await asyncio.to_thread(begun.wait, 10)
    reading.cancel()
    await asyncio.sleep(0)
    assert not reading.done()
    left.set()
    await asyncio.wait([reading])

    assert reading.cancelled()
    assert found == [(1,)]


@pytest.mark.asyncio
async def test_streams_have_a_bound_and_one_that_is_left_makes_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STREAMS_AT_ONCE", 1)
    await database.write(add_job, "a")
    first = database.stream(names_in_chunks)
    assert await anext(first) == ["a"]

    with pytest.raises(StoreUnavailable, match="long lists"):
        await anext(database.stream(names_in_chunks))
    await first.aclose()  # type: ignore[attr-defined]

    assert [chunk async for chunk in database.stream(names_in_chunks)] == [["a"]]


@pytest.mark.asyncio
async def test_the_reconciler_is_woken_by_commits_that_leave_it_something(
    database: Database,
) -> None:
    wakes: list[int] = []
    database.on_work(lambda: wakes.append(1))

    await database.write(add_job, "without-a-version")
    with pytest.raises(ZeroDivisionError):
        await database.write(add_and_fail, "undone")
    assert wakes == []
    workload = await database.write(add_workload, "digits")
    assert len(wakes) == 1
    await database.write(workloads.mark_deleted, workload)
    assert len(wakes) == 2

    assert (await get_workload(database, workload)).is_deleted


@pytest.mark.asyncio
async def test_a_write_returns_what_its_work_returns(database: Database) -> None:
    def name_of_project(tx: Transaction) -> str:
        [name] = tx.execute("SELECT name FROM project WHERE id = ?", (PROJECT,)).fetchone()
        return str(name)

    assert await database.write(name_of_project) == "default"


@pytest.mark.asyncio
async def test_a_shared_answer_is_never_older_than_the_last_acknowledged_write(
    database: Database,
) -> None:
    asked = 0

    def count_and_tell(connection: Connection) -> int:
        nonlocal asked
        asked += 1
        return count_jobs(connection)

    for written in range(1, 20):
        await database.write(add_workload, f"job-{written}")

        answers = [await database.read_shared(count_and_tell) for _ in range(3)]

        assert answers == [written] * 3

    assert asked < 3 * 19, "what nobody has changed is not asked for again"


class Opened:
    """The connections that are opened while a test runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connections: list[Connection] = []
        connect = sqlite_module._connect

        def connected(path: Path, *, busy_timeout_ms: int) -> sqlite3.Connection:
            connection = connect(path, busy_timeout_ms=busy_timeout_ms)
            self.connections.append(connection)
            return connection

        monkeypatch.setattr(sqlite_module, "_connect", connected)

    def are_closed(self) -> bool:
        return all(is_closed(connection) for connection in self.connections)


def is_closed(connection: Connection) -> bool:
    try:
        connection.execute("SELECT 1").fetchone()
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.mark.asyncio
async def test_scans_share_connections_each_on_a_snapshot_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(monkeypatch)

    for count in range(1, 6):
        await database.write(add_job, f"job-{count}")
        seen = await asyncio.gather(*(database.scan(count_jobs) for _ in range(10)))

        assert seen == [count] * 10
    assert 1 <= len(opened.connections) <= sqlite_module.SCANS_AT_ONCE
    assert not any(connection.in_transaction for connection in opened.connections)  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_a_connection_that_waits_for_the_next_scan_keeps_no_log_from_being_copied_back(
    file: Path, database: Database
) -> None:
    await database.write(add_job, "a")
    await asyncio.gather(*(database.scan(first_of_many) for _ in range(4)))
    await database.write(add_job, "b")

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        [is_busy, pages, copied] = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    assert (is_busy, pages, copied) == (0, 0, 0)
    assert await database.scan(count_jobs) == 2


def first_of_many(connection: Connection) -> object:
    """Leaves its statement in the middle."""
    return connection.execute("SELECT a.name FROM job AS a, pool, pool AS p").fetchone()


@pytest.mark.asyncio
async def test_a_scan_that_fails_leaves_its_connection_to_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection) -> None:
        connection.execute("SELECT 1 FROM pool AS a, pool").fetchone()
        raise ZeroDivisionError

    opened = Opened(monkeypatch)

    with pytest.raises(ZeroDivisionError):
        await database.scan(fail)

    assert len(opened.connections) == 1
    assert opened.are_closed()
    assert await database.scan(count_jobs) == 0


@pytest.mark.asyncio
async def test_closing_closes_what_scans_have_left_and_what_they_still_use(
    file: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()

    def wait(connection: Connection) -> int:
        has_begun.set()
        assert may_go_on.wait(30)
        return count_jobs(connection)

    opened = Opened(monkeypatch)
    scanning = asyncio.create_task(database.scan(wait))
    await asyncio.to_thread(has_begun.wait, 30)
    await database.scan(count_jobs)
    database.close()
    may_go_on.set()

    assert await scanning == 0
    assert len(opened.connections) == 2
    assert opened.are_closed()
