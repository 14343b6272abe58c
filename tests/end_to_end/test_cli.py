"""The command line and the client against a real server that runs real jobs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.client.client import Client
from muster.client.errors import ApiError
from muster.demo.server import OwnServer
from muster.demo.tour import stop_everything
from muster.wire.credentials import Credentials

MUSTER = [sys.executable, "-c", "from muster.cli.main import main; main(prog_name='muster')"]
WAIT_SECONDS = 90.0

Run = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[Credentials]:
    own = OwnServer(data)
    try:
        credentials = own.wait_until_ready()
        yield credentials
        with Client(credentials) as client:
            stop_everything(client)
    finally:
        assert own.stop() == 0


@pytest.fixture
def client(server: Credentials) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture
def environment(server: Credentials, tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "credentials.json"
    file.write_bytes(msgspec.json.encode(server))
    others = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
    return {**others, "MUSTER_CREDENTIALS": str(file)}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    def run_muster(*args: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603
            [*MUSTER, *args],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run_muster


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        file = tmp_path / "script.py"
        file.write_text(text)
        return str(file)

    return write


def submitted(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=dict[str, Any])


def wait_for(client: Client, job: dict[str, Any], status: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while (now := client.get_version(job["job_id"], job["version_id"])["status"]) != status:
        assert time.monotonic() < deadline, f"its status is {now}"
        time.sleep(0.1)


def test_a_script_is_submitted_and_followed_in_one_step(
    run: Run, script: Callable[[str], str]
) -> None:
    text = (
        "import sys, pathlib\n"
        "print(sorted(a.partition('=')[0] for a in sys.argv[1:]))\n"
        "print(pathlib.Path.cwd().joinpath('script.py').is_file())\n"
    )

    done = run("job", "submit", script(text), "--name", "followed", "--arg", "rate=0.1", "--follow")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "['--rate', '--train_url']\nTrue\n"
    assert "Submitted followed V0001" in done.stderr


def test_a_job_that_fails_makes_the_command_fail(run: Run, script: Callable[[str], str]) -> None:
    done = run("job", "submit", script("raise SystemExit('no good')"), "--follow")

    assert done.returncode == 1
    assert done.stdout == "no good\n"
    assert done.stderr.endswith("V0001 ended Failed: Task 0 ended with exit code 1.\n")


def test_the_same_name_twice_is_told_and_nothing_is_left(
    run: Run, script: Callable[[str], str], client: Client
) -> None:
    assert run("job", "submit", script("pass"), "--name", "twice").returncode == 0
    bucket = f"project-{client.credentials.project_id}"
    before = client.list_objects(bucket, prefix="submitted/twice/")["objects"]

    done = run("job", "submit", script("pass"), "--name", "twice")

    assert done.returncode == 1
    assert "(ModelArts.0103). Choose another name" in done.stderr
    assert client.list_objects(bucket, prefix="submitted/twice/")["objects"] == before


def test_a_version_is_added_shown_and_deleted(
    run: Run, script: Callable[[str], str], client: Client
) -> None:
    text = "import sys; print(sys.argv[-1])"
    first = submitted(
        run("job", "submit", script(text), "--name", "versions", "--arg", "rate=1", "--json")
    )
    wait_for(client, first, 10)

    done = run("job", "submit", script(text), "--job", "versions", "--arg", "rate=2", "--follow")

    assert (done.returncode, done.stdout) == (0, "--rate=2\n"), done.stderr
    assert run("job", "logs", "versions", "--version", "V0001").stdout == "--rate=1\n"
    shown = run("job", "show", "versions").stdout
    assert "V0002 (id " in shown
    assert "rate=2" in shown
    assert run("job", "delete", "versions", "--version", "V0001", "--yes").returncode == 0
    versions = json.loads(run("job", "show", "versions", "--json").stdout)["versions"]
    assert [version["version_name"] for version in versions] == ["V0002"]
    assert run("job", "delete", "versions", "--yes").returncode == 0
    gone = run("job", "show", "versions")
    assert (gone.returncode, gone.stdout) == (1, "")


def test_a_running_job_is_listed_and_stopped(
    run: Run, script: Callable[[str], str], client: Client
) -> None:
    job = submitted(
        run("job", "submit", script("import time; time.sleep(600)"), "--name", "long", "--json")
    )
    wait_for(client, job, 8)

    listed = run("job", "list", "--status", "running").stdout.splitlines()
    assert any(line.split()[1:3] == ["long", "Running"] for line in listed)
    done = run("job", "stop", "long")
    assert (done.returncode, done.stderr) == (0, "Stopping long V0001.\n")
    wait_for(client, job, 12)
    again = run("job", "stop", "long")
    assert again.returncode == 1
    assert "(ModelArts.2796)" in again.stderr


def test_ctrl_c_ends_following_and_nothing_else(
    environment: dict[str, str], run: Run, script: Callable[[str], str], client: Client
) -> None:
    text = "import time\nprint('up', flush=True)\ntime.sleep(600)"
    job = submitted(run("job", "submit", script(text), "--name", "watched", "--json"))
    follower = subprocess.Popen(  # noqa: S603
        [*MUSTER, "job", "logs", "watched", "-f"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "up\n"

    follower.send_signal(signal.SIGINT)

    _, err = follower.communicate(timeout=20)
    assert (follower.returncode, err) == (130, "")
    assert client.get_version(job["job_id"], job["version_id"])["status"] == 8
    client.stop_version(job["job_id"], job["version_id"])


def test_every_worker_has_a_log_of_its_own_byte_for_byte(
    environment: dict[str, str], run: Run, script: Callable[[str], str], client: Client
) -> None:
    text = (
        "import os, sys\n"
        "rank = os.environ['VC_TASK_INDEX'].encode()\n"
        "sys.stdout.buffer.write(rank + bytes(range(256)) * 8192)\n"
    )
    job = submitted(
        run("job", "submit", script(text), "--name", "loud", "--workers", "2", "--json")
    )
    wait_for(client, job, 10)

    for task in ("0", "1"):
        done = subprocess.run(  # noqa: S603
            [*MUSTER, "job", "logs", "loud", "--task", task],
            env=environment,
            capture_output=True,
            check=True,
        )
        assert done.stdout == task.encode() + bytes(range(256)) * 8192


def test_pools_are_listed_shown_and_counted(run: Run, script: Callable[[str], str]) -> None:
    for pool in ("digits", "public"):
        done = run("job", "submit", script("pass"), "--pool", pool, "--follow")
        assert done.returncode == 0, done.stderr

    assert any(line.startswith("digits") for line in run("pool", "list").stdout.splitlines())
    assert "3 x demo.gpu.1" in run("pool", "show", "digits").stdout
    counted = json.loads(run("pool", "stats", "digits", "--json").stdout)["statistics"]["items"]
    assert counted[0]["status"]["Completed"] >= 1
    header, *rows = run("pool", "stats", "digits").stdout.splitlines()
    assert header.split()[0] == "TYPE"
    assert [row.split()[0] for row in rows[:3]] == ["train", "infer", "notebook"]


def test_every_page_is_listed(run: Run, script: Callable[[str], str]) -> None:
    for number in range(3):
        assert run("job", "submit", script("pass"), "--name", f"page-{number}").returncode == 0

    short = run("job", "list", "--search", "page-", "--limit", "2")
    assert short.stderr == "2 of 3 jobs; --all shows every one.\n"
    answer = json.loads(run("job", "list", "--search", "page-", "--all", "--json").stdout)
    assert sorted(job["job_name"] for job in answer["jobs"]) == ["page-0", "page-1", "page-2"]


@pytest.mark.parametrize("size", [0, 3, 3 << 20])
def test_an_object_comes_back_as_it_went(client: Client, tmp_path: Path, size: int) -> None:
    bucket = f"project-{client.credentials.project_id}"
    file = tmp_path / "in.bin"
    file.write_bytes(os.urandom(size))
    key = f"round trip/ü+{size}.bin"

    client.put_object(bucket, key, file)
    client.get_object(bucket, key, tmp_path / "out.bin")

    assert (tmp_path / "out.bin").read_bytes() == file.read_bytes()
    [listed] = client.list_objects(bucket, prefix=key)["objects"]
    assert (listed["key"], listed["size"]) == (key, size)
    client.delete_object(bucket, key)
    with pytest.raises(ApiError) as caught:
        client.get_object(bucket, key, tmp_path / "gone.bin")
    assert caught.value.status == 404


def test_another_project_sees_nothing_of_this_one(
    client: Client, run: Run, data: Path, script: Callable[[str], str]
) -> None:
    bucket = f"project-{client.credentials.project_id}"
    job = submitted(run("job", "submit", script("print('mine')"), "--name", "mine", "--json"))
    wait_for(client, job, 10)
    where = ("--data", str(data / "data"))
    project = submitted(run("project", "create", "other", *where))
    submitted(run("user", "create", "ada", "--project", "other", *where))
    key = submitted(run("key", "create", "ada", *where))
    other = Credentials(url=client.credentials.url, project_id=project["project_id"], **key)

    with Client(other) as stranger:
        assert stranger.list_jobs()["job_total_count"] == 0
        for forbidden in (
            lambda: stranger.list_job_versions(job["job_id"]),
            lambda: stranger.read_log(job["job_id"], job["version_id"], "mine.0"),
            lambda: stranger.list_objects(bucket),
            lambda: stranger.put_object(bucket, "in.bin", Path(script("x"))),
            lambda: stranger.get_pool(f"digits-{client.credentials.project_id}"),
        ):
            with pytest.raises(ApiError) as caught:
                forbidden()
            assert caught.value.status == 404


def test_a_wrong_key_is_refused_in_one_line(
    server: Credentials, environment: dict[str, str], run: Run
) -> None:
    environment |= {"MUSTER_SECRET_KEY": "wrong"}

    done = run("pool", "list")

    assert done.returncode == 1
    assert "(ModelArts.0206). Are the credentials those of this server?" in done.stderr
