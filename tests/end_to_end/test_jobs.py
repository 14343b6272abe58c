"""Jobs that really run, on a real server."""

import json
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api import refusals
from tests.end_to_end.server import (
    Remote,
    check_is_exact,
    processes_below,
    running_server,
    wait_for,
)

INVENTORY = """
[machine]
cpus = 8
memory_gib = 64
gpus = 2
card_model = "T4"

[[pools]]
name = "line"
flavor = "modelarts.vm.cpu.1u"
count = 1

[[pools]]
name = "pair"
flavor = "modelarts.vm.cpu.1u"
count = 2

[[pools]]
name = "serving"
flavor = "modelarts.vm.cpu.1u"
count = 1
scope = ["Infer"]
"""
SLEEPER = """
import time
print("up", flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("jobs")
    inventory = folder / "inventory.toml"
    inventory.write_text(INVENTORY)
    with running_server(folder, "--inventory", inventory) as remote:
        yield remote


def version_path(remote: Remote, job: dict[str, Any]) -> str:
    return f"{remote.project.v1}/training-jobs/{job['job_id']}/versions/{job['version_id']}"


def test_a_job_completes_with_what_it_was_given(remote: Remote) -> None:
    script = """
    import json, os, sys
    print(json.dumps({"args": sys.argv[1:], "cwd": os.listdir(), "env": dict(os.environ)}))
    """
    remote.project.http.put("/objects/bucket-default/data/part-1", content=b"data")

    job = remote.submit(
        "complete",
        script,
        parameter=[{"label": "rate", "value": 0.1}, {"label": "text", "value": "a b'c\"$HOME;"}],
        data_url="/bucket-default/data/",
        train_url="/bucket-default/complete/",
    )

    shown = remote.wait(job, 10)
    seen = json.loads(remote.log(job))
    arguments = dict(argument.removeprefix("--").split("=", 1) for argument in seen["args"])
    assert (arguments["rate"], arguments["text"]) == ("0.1", "a b'c\"$HOME;")
    assert Path(arguments["data_url"]).joinpath("part-1").read_bytes() == b"data"
    assert Path(arguments["train_url"]).is_absolute()
    assert seen["cwd"] == ["main.py"]
    environment = seen["env"]
    assert environment["MA_TASK_NAME"] == "worker"
    assert (environment["VC_TASK_INDEX"], environment["VC_WORKER_NUM"]) == ("0", "1")
    assert (environment["NODE_RANK"], environment["NNODES"]) == ("0", "1")
    ours = {name for name in environment if name.startswith("MUSTER_")}
    assert ours <= {"MUSTER_ATTEMPT", "MUSTER_TASK"}  # what the shim is found by; no setting
    assert shown["start_time"] >= shown["create_time"]
    assert shown["duration"] >= 0


def test_a_failure_keeps_its_exit_code(remote: Remote) -> None:
    job = remote.submit("fail", "raise SystemExit(3)")

    shown = remote.wait(job, 11)

    assert "3" in shown["status_message"]


def test_a_script_that_cannot_be_parsed_fails_with_its_message_in_the_log(remote: Remote) -> None:
    job = remote.submit("syntax", "this is no python")

    remote.wait(job, 11)

    assert b"SyntaxError" in remote.log(job)


def test_logs_are_kept_byte_for_byte(remote: Remote) -> None:
    script = """
    import sys
    for stream in (sys.stdout.buffer, sys.stderr.buffer):
        stream.write(bytes(range(256)) * 1000)
        stream.flush()
    """
    job = remote.submit("bytes", script)
    remote.wait(job, 10)

    assert remote.log(job) == bytes(range(256)) * 2000


def test_output_is_stored_when_a_job_completes_and_when_it_fails(remote: Remote) -> None:
    script = """
    import pathlib, sys
    arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
    folder = pathlib.Path(arguments["train_url"], "deep")
    folder.mkdir()
    folder.joinpath("model.bin").write_bytes(bytes(range(256)))
    sys.exit(int(arguments["code"]))
    """
    for code, status in ((0, 10), (7, 11)):
        job = remote.submit(
            f"output-{code}",
            script,
            parameter=[{"label": "code", "value": code}],
            train_url=f"/bucket-default/output-{code}/",
        )

        remote.wait(job, status)

        assert remote.output(f"output-{code}/deep/model.bin") == bytes(range(256))


def test_the_log_is_stored_too_where_log_url_says(remote: Remote) -> None:
    job = remote.submit("log-url", "print('kept')", log_url="/bucket-default/logs/")

    remote.wait(job, 10)

    listed = remote.project.http.get("/objects/bucket-default", params={"prefix": "logs/"}).json()
    [stored] = listed["objects"]
    assert remote.output(stored["key"]) == b"kept\n"


def test_a_running_job_is_stopped_with_all_its_processes(remote: Remote) -> None:
    script = """
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("up", flush=True)
    time.sleep(600)
    """
    job = remote.submit("stop-running", script)
    wait_for(lambda: b"up" in remote.log(job) or None)

    done = remote.stop(job)

    assert done.json() == {"is_success": True}
    remote.wait(job, 12)
    wait_for(lambda: not processes_below(remote.data / "jobs") or None)
    refusals.v1(remote.stop(job), 409, "ModelArts.2796")


def test_a_queued_job_is_stopped_and_never_runs(remote: Remote) -> None:
    line = remote.project.pool("line")
    ahead = remote.submit("stop-ahead", SLEEPER, pool_id=line)
    remote.wait(ahead, 8)
    queued = remote.submit("stop-queued", "print('ran')", pool_id=line)
    remote.wait(queued, 7)

    assert remote.stop(queued).status_code == 200

    shown = remote.wait(queued, 12)
    assert shown["start_time"] is None
    remote.stop(ahead)
    remote.wait(ahead, 12)
    assert remote.log(queued) == b""


def test_a_second_version_inherits_and_changes(remote: Remote) -> None:
    script = "import sys; print(sys.argv[1:])"
    first = remote.submit(
        "versions",
        script,
        parameter=[{"label": "rate", "value": "1"}],
        log_url="/bucket-default/v/",
    )
    remote.wait(first, 10)

    second = remote.project.post(
        f"/training-jobs/{first['job_id']}/versions",
        config={"parameter": [{"label": "rate", "value": "2"}]},
    )

    shown = remote.wait(second, 10)
    assert (shown["version_name"], shown["pre_version_id"]) == ("V0002", first["version_id"])
    assert shown["log_url"] == "/bucket-default/v/"
    assert b"--rate=1" in remote.log(first)
    assert b"--rate=2" in remote.log(second)


def test_two_workers_find_each_other(remote: Remote) -> None:
    script = """
    import os, socket, time
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    rank, count = int(os.environ["NODE_RANK"]), int(os.environ["NNODES"])
    assert count == 2 and os.environ["VC_WORKER_NUM"] == "2"
    assert len(os.environ["VC_WORKER_HOSTS"].split(",")) == 2
    if rank == 0:
        with socket.create_server(address) as listener:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"hello from 0")
                print(peer.recv(100).decode())
    else:
        deadline = time.monotonic() + 90
        while True:
            try:
                peer = socket.create_connection(address, timeout=60)
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with peer:
            print(peer.recv(100).decode())
            peer.sendall(b"hello from 1")
    """
    job = remote.submit(
        "together", script, worker_server_num=2, pool_id=remote.project.pool("pair")
    )

    remote.wait(job, 10)

    assert remote.log(job, 0) == b"hello from 1\n"
    assert remote.log(job, 1) == b"hello from 0\n"


def test_one_failing_worker_fails_the_job_and_ends_the_others(remote: Remote) -> None:
    script = """
    import os, sys, time
    if os.environ["NODE_RANK"] == "1":
        sys.exit(5)
    time.sleep(600)
    """
    job = remote.submit("one-fails", script, worker_server_num=2)

    shown = remote.wait(job, 11)

    assert "5" in shown["status_message"]
    wait_for(lambda: not processes_below(remote.data / "jobs") or None)


def test_code_that_changes_after_the_submit_does_not_change_the_job(remote: Remote) -> None:
    line = remote.project.pool("line")
    ahead = remote.submit("snapshot-ahead", SLEEPER, pool_id=line)
    remote.wait(ahead, 8)
    job = remote.submit("snapshot", "import part; print('old', part.text)", pool_id=line)
    config = remote.put_code(
        "snapshot-2", "import part; print('old', part.text)", part="text='old'"
    )
    queued = remote.project.post(
        "/training-jobs", job_name="snapshot-2", config=config | {"pool_id": line}
    )

    remote.put_code("snapshot-2", "print('new')", part="text='new'")
    remote.project.http.delete(f"{remote.project.v1}/training-jobs/{job['job_id']}")
    remote.stop(ahead)

    remote.wait(queued, 10)
    assert remote.log(queued) == b"old old\n"


def test_a_small_pool_runs_its_jobs_one_by_one_in_order(remote: Remote) -> None:
    line = remote.project.pool("line")
    jobs = [remote.submit(f"in-line-{number}", "pass", pool_id=line) for number in range(4)]

    for job in jobs:
        remote.wait(job, 10)

    rows = remote.project.get("/training-jobs/versions", pool_id=line, status=10, order="asc")
    mine = [row for row in rows["versions"] if row["version_name"].startswith("in-line-")]
    assert [row["version_name"] for row in mine] == [f"in-line-{number}" for number in range(4)]
    for earlier, later in pairwise(mine):
        assert earlier["end_time"] <= later["start_time"]


def test_a_large_job_at_the_head_is_not_overtaken(remote: Remote) -> None:
    pair = remote.project.pool("pair")
    running = remote.submit("head-runs", SLEEPER, pool_id=pair)
    remote.wait(running, 8)
    large = remote.submit("head-large", "pass", pool_id=pair, worker_server_num=2)
    small = remote.submit("head-small", "pass", pool_id=pair)
    remote.wait(large, 7)
    remote.wait(small, 7)

    path = f"{remote.project.v2}/pools/{pair}/workloads?status=Queue"
    waiting = remote.project.http.get(path).json()["items"]
    remote.stop(running)

    assert {item["jobName"]: item["pendingPosition"] for item in waiting} == {
        "head-large": 1, "head-small": 2,
    }  # fmt: skip
    assert remote.wait(large, 10)["start_time"] <= remote.wait(small, 10)["start_time"]


def test_cards_are_given_one_by_one(remote: Remote) -> None:
    script = (
        "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(600)"
    )
    one_gpu = remote.spec_ids["modelarts.vm.gpu.1"]
    jobs = [remote.submit(f"card-{number}", script, spec_id=one_gpu) for number in range(3)]
    for job in jobs[:2]:
        wait_for(lambda job=job: remote.log(job).endswith(b"\n") or None)  # type: ignore[misc]
    remote.wait(jobs[2], 7)
    given = {remote.log(job).strip() for job in jobs[:2]}

    remote.stop(jobs[0])
    freed = remote.log(jobs[0]).strip()

    wait_for(lambda: remote.log(jobs[2]).endswith(b"\n") or None)
    assert given == {b"0", b"1"}
    assert remote.log(jobs[2]).strip() == freed
    for job in jobs[1:]:
        remote.stop(job)
        remote.wait(job, 12)


class TestRefusals:
    def snapshot(self, remote: Remote) -> tuple[Any, ...]:
        """All that a refused job might leave behind."""
        return (
            remote.project.get("/training-jobs", per_page=1000)["jobs"],
            remote.project.get("/training-jobs/versions", limit=0)["total_count"],
            [remote.counts(pool) for pool in ("public", "line", "pair", "serving")],
            sorted(path.name for path in (remote.data / "jobs").iterdir()),
            remote.project.http.get("/objects").json(),
            sorted(path.name for path in (remote.data / "objects").iterdir()),
        )

    @pytest.mark.parametrize(
        ("name", "change", "status", "code", "says"),
        [
            ("r", {"boot_file_url": "/bucket-default/r/other.py"}, 400, "2758", "no such file"),
            ("r", {"boot_file_url": "/bucket-default/x/main.py"}, 400, "2792", "below app_url"),
            ("r", {"app_url": "/bucket-default/nothing/",
                   "boot_file_url": "/bucket-default/nothing/main.py"}, 400, "2758", "no such"),
            ("r", {"engine_id": 99}, 400, "2780", "engine_id is 99; there are 1 (Python"),
            ("r", {"spec_id": 99}, 400, "2781", "spec_id is 99; there are 1 (modelarts"),
            ("r", {"pool_id": "nowhere"}, 404, "2890", "no such pool"),
            ("r", {"pool_id": "serving"}, 400, "2886", "without Train"),
            ("r", {"pool_id": "pair", "worker_server_num": 3}, 400, "2793", "at most 2 workers"),
            ("r", {"pool_id": "line", "spec_id": 1}, 400, "2793", "modelarts.vm.cpu.1u"),
            ("r", {"train_url": "/bucket-default/../../x/"}, 400, "2791", "inside its bucket"),
            ("r", {"app_url": "/bucket-default/../../", "boot_file_url": "/x/y"}, 400, "2791", ""),
            ("r", {"data_url": "/nowhere/x/"}, 400, "2791", "no bucket 'nowhere'"),
            ("taken", {}, 400, "0103", "Job name:taken is existed"),
            ("no name", {}, 400, "0104", "job_name is 'no name'"),
        ],
    )  # fmt: skip
    def test_what_cannot_run_is_refused_and_leaves_nothing(
        self, remote: Remote, name: str, change: dict[str, Any], status: int, code: str, says: str
    ) -> None:
        config = remote.put_code("r", "pass") | change
        if config.get("pool_id") in ("serving", "pair", "line"):
            config["pool_id"] = remote.project.pool(config["pool_id"])
        if not remote.project.get("/training-jobs", search_content="taken")["jobs"]:
            remote.wait(remote.submit("taken", "pass"), 10)
        before = self.snapshot(remote)

        reply = remote.project.http.post(
            f"{remote.project.v1}/training-jobs", json={"job_name": name, "config": config}
        )

        assert says in refusals.v1(reply, status, f"ModelArts.{code}")
        assert self.snapshot(remote) == before

    def test_an_unknown_workspace_is_refused(self, remote: Remote) -> None:
        config = remote.put_code("r", "pass")
        before = self.snapshot(remote)

        reply = remote.project.http.post(
            f"{remote.project.v1}/training-jobs",
            json={"job_name": "r", "workspace_id": "f" * 32, "config": config},
        )

        refusals.v1(reply, 400, "ModelArts.0102")
        assert self.snapshot(remote) == before

    def test_of_many_at_once_one_gets_the_name(self, remote: Remote) -> None:
        body = {"job_name": "wanted", "config": remote.put_code("wanted", "pass")}
        replies: list[httpx.Response] = []

        def submit() -> None:
            path = f"{remote.project.v1}/training-jobs"
            replies.append(remote.project.http.post(path, json=body))

        threads = [threading.Thread(target=submit) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        made = [reply for reply in replies if reply.status_code == 200]
        assert len(made) == 1
        for reply in replies:
            if reply.status_code != 200:
                refusals.v1(reply, 400, "ModelArts.0103")
        assert remote.project.get("/training-jobs", search_content="wanted")["job_total_count"] == 1

    def test_an_image_that_nothing_here_runs_ends_abnormal_with_a_reason(
        self, remote: Remote
    ) -> None:
        config = {
            "worker_server_num": 1,
            "user_image_url": "swr.example/x:1",
            "user_command": "true",
            "spec_id": 1,
        }
        job = remote.project.post("/training-jobs", job_name="image", config=config)

        shown = remote.wait(job, 5)

        assert "image" in shown["status_message"]


def test_deleting_a_running_job_ends_its_processes(remote: Remote) -> None:
    job = remote.submit("delete-running", SLEEPER)
    wait_for(lambda: b"up" in remote.log(job) or None)

    path = f"{remote.project.v1}/training-jobs/{job['job_id']}"
    assert remote.project.http.delete(path).json() == {"is_success": True}

    wait_for(lambda: not processes_below(remote.data / "jobs") or None)
    assert remote.project.get("/training-jobs", search_content="delete-running")["jobs"] == []


def test_the_server_reads_no_more_than_it_must_of_an_http_request(remote: Remote) -> None:
    """What is no HTTP at all gets a plain 400, and the server goes on."""
    host, port = remote.project.http.base_url.host, remote.project.http.base_url.port
    for content in (b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0" * 1000, b"GET "):
        with socket.create_connection((host, port or 80), timeout=60) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1000)

    assert remote.project.get("/training-jobs")["is_success"] is True


def test_the_counters_are_exact_beside_a_running_server(remote: Remote) -> None:
    check_is_exact(remote.data)
