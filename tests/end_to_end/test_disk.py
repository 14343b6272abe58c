"""A disk that is full, and a database that is damaged: what people see, and what is kept."""

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.server import (
    Remote,
    ServerProcess,
    check_is_exact,
    connect,
    run_muster,
    wait_for,
)

pytestmark = pytest.mark.timeout(120)

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
