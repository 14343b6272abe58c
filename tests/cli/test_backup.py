"""`muster backup` and `muster migrate` on a data folder."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from muster.cli.main import main
from muster.store.sqlite import SqliteDatabase
from muster.store.statements import load_migrations


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    SqliteDatabase(data / "muster.db").close()
    (data / "secret.key").write_text("of a server that was here")
    return data


def run(data: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--data", str(data)])


def set_schema(data: Path, number: int) -> None:
    with closing(sqlite3.connect(data / "muster.db")) as connection:
        connection.execute(f"PRAGMA user_version = {number}")


def test_a_backup_in_the_place_of_the_database_is_the_database(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"

    result = run(data, "backup", copy)

    assert result.exit_code == 0
    assert result.stdout == f"{copy} holds the database ({copy.stat().st_size:,} bytes).\n"
    assert "secret.key, which is not in it" in result.stderr
    (data / "muster.db").unlink()
    copy.rename(data / "muster.db")
    assert run(data, "check").stdout == "Exact: 0 job versions recounted, 0 differences.\n"


def test_a_backup_beside_which_there_is_no_key_says_so(data: Path, tmp_path: Path) -> None:
    (data / "secret.key").unlink()

    result = run(data, "backup", tmp_path / "copy.db")

    assert result.exit_code == 0
    assert f"There is no {data / 'secret.key'}." in result.stderr


def test_a_damaged_database_gives_no_backup(data: Path, tmp_path: Path) -> None:
    """A copy of it would be as damaged, and be missed on the day that it is needed."""
    file = data / "muster.db"
    with closing(sqlite3.connect(file)) as connection:
        [root] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'version_by_name'"
        ).fetchone()
        [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as opened:
        opened.seek((root - 1) * page_bytes)
        opened.write(b"\xff" * page_bytes)

    result = run(data, "backup", tmp_path / "copy.db")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert f"{file} is damaged" in result.stderr
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_help_says_how_to_restore() -> None:
    text = CliRunner().invoke(main, ["backup", "--help"]).output

    assert "To restore:" in text
    assert "secret.key" in text


def test_a_migration_says_from_where_to_where(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with closing(sqlite3.connect(data / "muster.db")) as connection:
        _, script = load_migrations()[0]
        connection.executescript(script)
        connection.execute("PRAGMA user_version = 1")
    newest = len(load_migrations())

    first, second = run(data, "migrate"), run(data, "migrate")

    assert first.stdout == f"{data}/muster.db was brought from schema 1 to {newest}.\n"
    assert second.stdout == f"{data}/muster.db is up to date: schema {newest}.\n"


@pytest.mark.parametrize("arguments", [["migrate"], ["backup", "copy.db"]])
def test_a_database_of_a_newer_muster_is_refused_in_one_line(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(data)
    set_schema(data, len(load_migrations()) + 1)

    result = run(data, *arguments)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: The database has schema")
    assert result.stderr.count("\n") == 1
    assert not (data / "copy.db").exists()


@pytest.mark.parametrize("arguments", [["migrate"], ["backup", "copy.db"]])
def test_a_folder_without_a_database_is_not_made_one(tmp_path: Path, arguments: list[str]) -> None:
    result = run(tmp_path / "none", *arguments)

    assert result.exit_code == 1
    assert "There is no muster in" in result.stderr
    assert not (tmp_path / "none").exists()


def test_a_check_of_a_newer_database_is_refused_in_one_line(data: Path) -> None:
    set_schema(data, 999)

    result = run(data, "check")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("muster cannot check: The database has schema 999;")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["export", "all.jsonl"],
        ["import", "some.jsonl"],
        ["user", "list"],
        ["user", "create", "ada"],
    ],
)
def test_only_a_migration_and_a_start_bring_an_older_musters_database_up_to_date(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """Its server may be running, and knows no other schema; and the way back is a copy."""
    monkeypatch.chdir(data)
    (data / "some.jsonl").touch()
    newest = len(load_migrations())
    set_schema(data, newest - 1)

    result = run(data, *arguments)

    assert (result.exit_code, result.stdout) == (1, "")
    assert not (data / "all.jsonl").exists()
    assert f"has schema {newest - 1}; this muster needs {newest}" in result.stderr
    assert "`muster migrate`" in result.stderr
    assert result.stderr.count("\n") == 1
    with closing(sqlite3.connect(data / "muster.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (newest - 1,)
