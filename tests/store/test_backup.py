"""A copy of one moment, taken while others write."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from muster.domain.errors import StoreUnavailable
from muster.domain.phase import Phase
from muster.store.backup import CannotBackUp, back_up, schema_of
from muster.store.connection import Connection, NewerDatabase
from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase, open_snapshot
from muster.store.statements import load_migrations
from tests.store.rows import add_workload, find_differences


@pytest.fixture
def empty(embedded: Database) -> Database:
    """What is here is about the file."""
    return embedded


def nothing(*_: int) -> None:
    """Nobody looks at the progress."""


def count_versions(connection: Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM version").fetchone()
    return int(count)


@pytest.mark.asyncio
async def test_a_copy_that_is_taken_while_jobs_come_in_is_exact(
    database: Database, file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    before = 40
    for number in range(before):
        await database.write(add_workload, f"before-{number}", phase=Phase.COMPLETED)

    copying = asyncio.create_task(asyncio.to_thread(back_up, file, copy, nothing))
    for number in range(200):
        await database.write(add_workload, f"during-{number}", phase=Phase.FAILED)
    size = await copying

    assert size == copy.stat().st_size
    restored = SqliteDatabase(copy)
    try:
        assert before <= await restored.read(count_versions) <= before + 200
        assert await restored.scan(find_differences) == []
        await restored.write(add_workload, "after", phase=Phase.COMPLETED)
        assert await restored.scan(find_differences) == []
    finally:
        restored.close()


@pytest.mark.asyncio
async def test_a_copy_is_for_nobody_else(database: Database, file: Path, tmp_path: Path) -> None:
    back_up(file, tmp_path / "copy.db", nothing)

    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_never_written_over(file: Path, tmp_path: Path) -> None:
    SqliteDatabase(file).close()
    copy = tmp_path / "copy.db"
    copy.write_text("the last one")

    with pytest.raises(CannotBackUp, match="exists; name a new file"):
        back_up(file, copy, nothing)

    assert copy.read_text() == "the last one"
    assert not list(tmp_path.glob("*.part"))


HELD: Final = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_backup_has_left_is_cleared_away_by_the_next_to_the_same_name(
    file: Path, tmp_path: Path
) -> None:
    SqliteDatabase(file).close()
    copy = tmp_path / "copy.db"
    stale, held, other = (
        tmp_path / name
        for name in ("copy.db.p8jfx7f0.part", "copy.db.abcdefgh.part", "copy.db2.p8jfx7f0.part")
    )
    stale.write_text("half a copy")
    other.write_text("of another name")

    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", HELD, str(held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as another_backup:
        assert another_backup.stdout is not None
        another_backup.stdout.readline()
        back_up(file, copy, nothing)

    assert sorted(tmp_path.glob("*.part")) == [held, other]


@pytest.mark.asyncio
async def test_a_folder_that_is_not_there_is_named(
    database: Database, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(CannotBackUp, match=r"none/copy\.db cannot be written: No such file"):
        back_up(file, tmp_path / "none" / "copy.db", nothing)


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="There is no database"):
        back_up(tmp_path / "none.db", tmp_path / "copy.db", nothing)

    assert list(tmp_path.iterdir()) == []


def make_newer(file: Path) -> None:
    database = SqliteDatabase(file)
    database.close()
    with open_snapshot(file) as connection:
        connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA user_version = {len(load_migrations()) + 1}")
        connection.execute("BEGIN")


def test_a_database_of_a_newer_muster_is_refused(file: Path, tmp_path: Path) -> None:
    make_newer(file)

    with pytest.raises(NewerDatabase, match="Use the muster that wrote it"):
        back_up(file, tmp_path / "copy.db", nothing)

    assert not (tmp_path / "copy.db").exists()


@pytest.mark.asyncio
async def test_the_schema_is_the_number_of_the_last_migration(database: Database) -> None:
    assert await database.read(schema_of) == len(load_migrations())
