"""A disk that is full, and a database that is damaged: what people see, and what is kept."""

import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.server import (
    MUSTER,
    Remote,
    ServerProcess,
    check_is_exact,
    connect,
    own_environment,
    run_muster,
    wait_for,
)

pytestmark = pytest.mark.timeout(300)

ROOM_BYTES = 100_000  # for some more jobs, but not for many
JOBS_MAX = 500  # of which it has refused one, or there is no limit


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path)
    try:
        yield server
    finally:
        server.kill()


def limit_files(server: ServerProcess, size_bytes: int) -> None:
    """No file of the server may grow beyond that: as on a full disk, its writes are refused."""
    _, most = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size_bytes, most))


def create(remote: Remote, name: str) -> httpx.Response:
    body = {"job_name": name, "config": {"create_version": False}}
    return remote.project.http.post(f"{remote.project.v1}/training-jobs", json=body)


def names(remote: Remote) -> list[str]:
    found = remote.project.get("/training-jobs", per_page=1000)["jobs"]
    return sorted(job["job_name"] for job in found)


def test_a_full_disk_refuses_writes_keeps_what_it_has_and_is_over_by_itself(
    server: ServerProcess, tmp_path: Path
) -> None:
    remote = connect(server, server.wait_until_ready())
    acknowledged = []
    limit_files(server, (server.data / "muster.db-wal").stat().st_size + ROOM_BYTES)

    refused = None
    for number in range(JOBS_MAX):
        reply = create(remote, f"job-{number:03}")
        if reply.status_code != 200:
            refused = reply
            break
        acknowledged.append(f"job-{number:03}")

    assert refused is not None
    assert refused.status_code == 503
    message = refused.json()["error_msg"]
    assert "The database cannot be used at the moment" in message
    assert "disk" in message
    assert "\n" not in message
    assert names(remote) == acknowledged
    assert remote.project.http.get("/healthz").status_code == 200

    limit_files(server, resource.RLIM_INFINITY)
    wait_for(lambda: create(remote, "room-again").status_code == 200)
    acknowledged.append("room-again")
    assert names(remote) == sorted(acknowledged)

    remote.project.http.close()
    server.kill()
    again = ServerProcess(tmp_path, name="again")
    try:
        remote = connect(again, again.wait_until_ready())
        assert names(remote) == sorted(acknowledged)
        remote.project.http.close()
        again.stop()
    finally:
        again.kill()
    check_is_exact(server.data)


@pytest.mark.parametrize("kept_bytes", [4096, 100])
def test_a_damaged_database_is_told_in_one_line_and_left_alone(
    server: ServerProcess, kept_bytes: int
) -> None:
    server.wait_until_ready()
    server.stop()
    file = server.data / "muster.db"
    content = file.read_bytes()
    damaged = content[:kept_bytes] + b"\xff" * (len(content) - kept_bytes)
    file.write_bytes(damaged)

    done = run_muster("serve", "--data", server.data, "--port", "0", timeout=30)

    assert done.returncode not in (0, None)
    [line] = done.stderr.splitlines()
    assert line.startswith("muster cannot start: ")
    assert str(file) in line
    assert "damaged or is not a database" in line
    assert file.read_bytes() == damaged


def test_a_folder_in_place_of_the_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data/muster.db").mkdir(parents=True)

    done = run_muster("serve", "--data", tmp_path / "data", "--port", "0", timeout=30)

    assert done.returncode not in (0, None)
    [line] = done.stderr.splitlines()
    assert line.startswith("muster cannot start: ")
    assert "muster.db" in line


def test_the_database_of_another_program_is_told_in_one_line_and_left_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data/muster.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE account (number INTEGER, money INTEGER)")
        connection.execute("INSERT INTO account VALUES (1, 100)")
        connection.commit()

    done = run_muster("serve", "--data", tmp_path / "data", "--port", "0", timeout=30)

    assert done.returncode not in (0, None)
    [line] = done.stderr.splitlines()
    assert line.startswith("muster cannot start: ")
    assert "another program" in line
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT * FROM account").fetchall() == [(1, 100)]
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert tables == [("account",)]


def refused(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that a start says which was refused."""
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("muster cannot start: ")
    return line


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_first_start_without_room_is_one_line_and_the_next_one_is_the_first(
    tmp_path: Path, blocks: int
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    serve = [*MUSTER, "serve", "--port", "0", "--data", str(tmp_path / "data")]
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f'ulimit -f {blocks}; exec "$0" "$@"', *serve],
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    refused(done)

    server = ServerProcess(tmp_path)
    try:
        connect(server, server.wait_until_ready()).project.http.close()
        server.stop()
    finally:
        server.kill()


def test_the_first_credentials_are_never_lost(tmp_path: Path) -> None:
    """They are on disk before there is a user whom nobody else knows the password of."""
    in_the_way = tmp_path / "data" / "credentials.json"
    in_the_way.mkdir(parents=True)
    line = refused(run_muster("serve", "--data", tmp_path / "data", "--port", "0", timeout=60))
    assert str(in_the_way) in line

    in_the_way.rmdir()
    server = ServerProcess(tmp_path)
    try:
        connect(server, server.wait_until_ready()).project.http.close()
        server.stop()
    finally:
        server.kill()


def test_an_emptied_database_is_not_taken_for_a_new_one(server: ServerProcess) -> None:
    """As a copy leaves it for which there was no room."""
    server.wait_until_ready()
    server.stop()
    database, credentials = server.data / "muster.db", server.data / "credentials.json"
    before = credentials.read_bytes()
    database.write_bytes(b"")

    line = refused(run_muster("serve", "--data", server.data, "--port", "0", timeout=60))

    assert f"{database} is empty" in line
    assert database.read_bytes() == b""
    assert credentials.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["migrate"],
        ["backup", "copy.db"],
        ["export", "out.jsonl"],
        ["import", "in.jsonl"],
        ["user", "list"],
    ],
)
def test_a_file_without_a_table_is_no_muster_to_any_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("")
    database = tmp_path / "data" / "muster.db"
    database.parent.mkdir()
    database.touch()

    done = run_muster(*arguments, "--data", tmp_path / "data")

    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"There is no muster in {database}" in line
    assert database.read_bytes() == b""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in.jsonl"]
