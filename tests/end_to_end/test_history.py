"""`muster import` as a process that is killed, interrupted, or finds the disk full."""

import json
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from muster.cli.history_import import STORED_AT_ONCE
from muster.store.bulk import ROWS_MIN
from tests.cli.test_history import make_folder
from tests.end_to_end.server import MUSTER, ServerProcess, own_environment, run_muster, wait_for

pytestmark = pytest.mark.timeout(300)

ROWS: Final = ROWS_MIN + STORED_AT_ONCE + 1_000  # so many that indexes are put off
# Of 512 bytes. The lines fit into so many, the rows do not; into few fits next to nothing.
MANY_BLOCKS: Final = 32_000
FEW_BLOCKS: Final = 200

_TOLD: Final = re.compile(r"([\d,]+) versions? w\w+ imported(?:, ([\d,]+) w\w+ here already)?\.\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "data")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return write_history(tmp_path / "history.jsonl", ROWS)


def write_history(file: Path, rows: int) -> Path:
    with file.open("w", encoding="utf-8") as out:
        for number in range(1, rows + 1):
            made_ms = 1_600_000_000_000 + number
            row = {
                "version_id": number,
                "job_name": f"job-{number % 997}",
                "status": (10, 11, 12)[number % 3],
                "create_time": made_ms,
                "start_time": made_ms + 1,
                "duration": number % 50_000,
            }
            out.write(json.dumps(row) + "\n")
    return file


class Importing:
    """An import under way."""

    def __init__(self, history: Path, data: Path) -> None:
        self.database = data / "muster.db"
        self.process = subprocess.Popen(  # noqa: S603
            [*MUSTER, "import", str(history), "--data", str(data)],
            env=own_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_indexes_are_put_off(self) -> None:
        def is_put_off() -> bool:
            with closing(sqlite3.connect(self.database)) as connection:
                [count] = connection.execute(
                    "SELECT count(*) FROM sqlite_schema WHERE name = 'index_put_off'"
                ).fetchone()
            assert self.process.poll() is None, "it ended before"
            return bool(count)

        wait_for(is_put_off)

    def end_by(self, number: signal.Signals) -> str:
        """Send it a signal; return what it said on stderr."""
        self.process.send_signal(number)
        _, told = self.process.communicate()
        return told


def import_the_rest(history: Path, data: Path) -> tuple[int, int]:
    """(imported, were here already)."""
    result = run_muster("import", history, "--data", data)
    assert result.returncode == 0, result.stderr
    told = _TOLD.fullmatch(result.stdout)
    assert told is not None, result.stdout
    imported, present = (int((text or "0").replace(",", "")) for text in told.groups())
    return imported, present


def check(data: Path) -> str:
    return run_muster("check", "--data", data).stdout


def test_an_import_that_is_killed_goes_on_where_it_was_and_no_index_stays_away(
    history: Path, data: Path
) -> None:
    importing = Importing(history, data)
    importing.wait_until_indexes_are_put_off()
    importing.end_by(signal.SIGKILL)
    assert "is missing; the next start makes it" in check(data)

    imported, present = import_the_rest(history, data)

    assert imported + present == ROWS
    assert present >= STORED_AT_ONCE
    assert check(data) == f"Exact: {ROWS} job versions recounted, 0 differences.\n"


def test_ctrl_c_says_how_to_go_on_and_leaves_all_indexes_made(
    history: Path, data: Path, tmp_path: Path
) -> None:
    importing = Importing(history, data)
    importing.wait_until_indexes_are_put_off()

    told = importing.end_by(signal.SIGINT)

    assert importing.process.returncode == 130
    assert "The same command goes on from there." in told
    assert "Traceback" not in told
    [count] = re.findall(r"Not finished: ([\d,]+) versions have come in", told)
    count = count.replace(",", "")
    assert check(data) == f"Exact: {count} job versions recounted, 0 differences.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "history.jsonl"]


def test_both_ways_in_take_the_same_lines_for_the_same_versions(tmp_path: Path) -> None:
    ids = ("7", "007", "\u0663", 3, "9" * 30, 10**18, "a/b")
    history = tmp_path / "history.jsonl"
    with history.open("w", encoding="utf-8") as out:
        for id_ in (*ids, "007"):
            row = {"version_id": id_, "job_id": id_, "job_name": f"job-{ids.index(id_)}"}
            out.write(json.dumps(row | {"status": 10, "create_time": 1_600_000_000_000}) + "\n")
        row = {"version_id": "nul", "job_name": "a", "user_name": "a\0b", "status": 10}
        out.write(json.dumps(row | {"create_time": 1_600_000_000_000}) + "\n")
    server = ServerProcess(tmp_path / "server")
    credentials = server.data / "credentials.json"
    try:
        server.wait_until_ready()
        first = subprocess.run(  # noqa: S603
            [*MUSTER, "import", str(history)],
            env=own_environment() | {"MUSTER_CREDENTIALS": str(credentials)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        server.stop()

    second = run_muster("import", history, "--data", server.data)

    assert first.stdout == f"{len(ids)} versions were imported, 2 lines were refused.\n"
    assert "line 8: it is line 2 once more" in first.stderr
    assert "line 9: user_name is 'a\\x00b'" in first.stderr
    assert second.stdout.startswith(f"0 versions were imported, {len(ids)} were here already, 2 ")
    assert check(server.data) == f"Exact: {len(ids)} job versions recounted, 0 differences.\n"


def limited(blocks: int, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a command that can write no large file, as on a disk that is full."""
    return subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f'ulimit -f {blocks}; exec "$0" "$@"', *MUSTER]
        + [str(argument) for argument in arguments],
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_full_disk_is_told_in_a_line_and_what_came_in_stays(history: Path, data: Path) -> None:
    result = limited(MANY_BLOCKS, "import", history, "--data", data)

    assert result.returncode == 1
    [error] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert "The database cannot be used at the moment" in error
    assert "Not finished: " in result.stderr
    assert "Traceback" not in result.stderr
    imported, present = import_the_rest(history, data)
    assert imported + present == ROWS
    assert check(data) == f"Exact: {ROWS} job versions recounted, 0 differences.\n"


def test_a_copy_and_an_export_for_which_there_is_no_room_are_one_line_and_leave_nothing(
    data: Path, tmp_path: Path
) -> None:
    import_the_rest(write_history(tmp_path / "history.jsonl", 1_000), data)
    there = sorted(tmp_path.iterdir())

    results = [
        limited(FEW_BLOCKS, "backup", tmp_path / "copy.db", "--data", data),
        limited(FEW_BLOCKS, "export", tmp_path / "out.jsonl", "--data", data),
    ]

    for result in results:
        assert result.returncode == 1
        assert result.stderr.startswith("Error: ")
        assert "cannot be written" in result.stderr
        assert result.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == there
