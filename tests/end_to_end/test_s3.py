"""Jobs of a server whose objects lie in S3: what they read and leave, and what goes wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import httpx
import pytest

from tests.end_to_end.server import (
    Remote,
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    running_server,
    wait_for,
)
from tests.end_to_end.signs import SEES_SIGNS, WAITS_FOR_A_FILE
from tests.engines.slurm_cluster import SlurmCluster
from tests.objects.s3_account import S3Account, Wire, running_s3, wire_to

BASE: Final = "muster-base"
STARTING, RUNNING, COMPLETED, FAILED, TERMINATED = 7, 8, 10, 11, 12
MIB: Final = 1 << 20

READS_AND_WRITES: Final = """
    import argparse, pathlib, sys
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_url", type=pathlib.Path)
    parser.add_argument("--train_url", type=pathlib.Path)
    parser.add_argument("--exit", type=int, default=0)
    given = parser.parse_args()
    found = sorted(p for p in given.data_url.rglob("*") if p.is_file())
    print("read", [(p.relative_to(given.data_url).as_posix(), p.stat().st_size) for p in found])
    (given.train_url / "deep").mkdir()
    (given.train_url / "deep" / "model.bin").write_bytes(b"weights" * 1000)
    sys.exit(given.exit)
"""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        found.make_bucket(BASE)
        yield found


@pytest.fixture
def wire(account: S3Account) -> Iterator[Wire]:
    with wire_to(account.url) as found:
        yield found


@pytest.fixture(autouse=True)
def environment(account: S3Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server and AWS's own tools are told alike."""
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def remote(tmp_path: Path, account: S3Account) -> Iterator[Remote]:
    with running_server(tmp_path, "--objects", f"s3://{BASE}/{tmp_path.name}") as found:
        yield found


@pytest.fixture
def wired(tmp_path: Path, wire: Wire) -> Iterator[Remote]:
    """A server that S3 may be cut off from."""
    objects = ("--objects", f"s3://{BASE}/{tmp_path.name}", "--s3-endpoint", wire.url)
    with running_server(tmp_path, *SEES_SIGNS, *objects) as found:
        yield found
        wire.is_down, wire.hold_after = False, None


def bucket_of(remote: Remote) -> str:
    return f"bucket-{remote.project.name}"


def with_data(remote: Remote, **files: bytes) -> dict[str, str]:
    """Put input files there; the part of a config that names them and where results go."""
    bucket = bucket_of(remote)
    for name, content in files.items():
        reply = remote.project.http.put(f"/objects/{bucket}/data/{name}.bin", content=content)
        assert reply.status_code == 200, reply.text
    return {
        "data_url": f"/{bucket}/data/",
        "train_url": f"/{bucket}/out/",
        "log_url": f"/{bucket}/logs/",
    }


def attempt_folders(remote: Remote) -> list[Path]:
    return [path for path in (remote.data / "jobs").iterdir() if not path.name.startswith(".")]


class TestJobs:
    @pytest.mark.parametrize(("exit_code", "status"), [(0, COMPLETED), (3, FAILED)])
    def test_a_job_reads_from_s3_and_leaves_results_there_however_it_ends(
        self, remote: Remote, account: S3Account, tmp_path: Path, exit_code: int, status: int
    ) -> None:
        config = with_data(remote, one=b"1" * 10, two=b"2" * (3 * MIB))

        job = remote.submit(
            "reads",
            READS_AND_WRITES,
            parameter=[{"label": "exit", "value": str(exit_code)}],
            **config,
        )
        remote.wait(job, status)

        log = remote.log(job)
        assert log == b"read [('one.bin', 10), ('two.bin', 3145728)]\n"
        root = f"{tmp_path.name}/{bucket_of(remote)}"
        assert account.get(BASE, f"{root}/out/deep/model.bin") == b"weights" * 1000
        assert account.get(BASE, f"{root}/logs/reads.0") == log
        assert remote.output("out/deep/model.bin") == b"weights" * 1000
        [folder] = attempt_folders(remote)
        assert not (folder / "fetched").exists(), "what was fetched goes when the job has ended"
        assert not list((folder / "output").rglob("*.bin"))

    def test_a_version_runs_the_code_that_was_submitted(self, remote: Remote) -> None:
        job = remote.submit("old", "print('old')")
        remote.put_code("old", "print('new')")

        again = remote.project.post(
            f"/training-jobs/{job['job_id']}/versions",
            config={"app_url": f"/{bucket_of(remote)}/old/"},
        )

        assert remote.log(remote.wait(job, COMPLETED)) == b"old\n"
        assert remote.log(remote.wait(job | again, COMPLETED)) == b"new\n"

    def test_an_input_may_be_one_object(self, remote: Remote) -> None:
        config = with_data(remote, one=b"12345")
        script = "import sys; print(open(sys.argv[1].removeprefix('--data_url=')).read())"

        job = remote.submit("one", script, data_url=f"{config['data_url']}one.bin")

        assert remote.log(remote.wait(job, COMPLETED)) == b"12345\n"

    def test_on_slurm_nodes_need_no_keys(
        self, tmp_path: Path, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_CONF", str(slurm.config))
        flags = ("--engine", "slurm", "--objects", f"s3://{BASE}/{tmp_path.name}")
        with running_server(tmp_path, *flags) as remote:
            config = with_data(remote, one=b"1" * 10)
            script = dedent(READS_AND_WRITES).replace(
                "sys.exit(given.exit)", "import os; print(sorted(os.environ))"
            )
            job = remote.submit("on-slurm", script, **config)
            log = remote.log(remote.wait(job, COMPLETED))

            assert b"[('one.bin', 10)]" in log
            assert b"AWS_" not in log
            assert remote.output("out/deep/model.bin") == b"weights" * 1000

    def test_an_account_has_a_bucket_of_s3_for_each_of_ours(
        self, tmp_path: Path, account: S3Account
    ) -> None:
        with running_server(tmp_path, "--objects", "s3://") as remote:
            config = with_data(remote, one=b"1")
            job = remote.submit("account", READS_AND_WRITES, **config)
            remote.wait(job, COMPLETED)

            assert account.get("bucket-default", "out/deep/model.bin") == b"weights" * 1000
            new = remote.submit(
                "new-place", READS_AND_WRITES, **config | {"train_url": "/made-by-a-submit/out"}
            )
            remote.wait(new, COMPLETED)
            assert account.get("made-by-a-submit", "out/deep/model.bin") == b"weights" * 1000
            put = remote.project.http.put("/objects/No_Bucket/x", content=b"x")
            assert put.status_code == 400
            assert "There is no bucket 'No_Bucket', and the object store" in put.text
            refused = remote.project.http.post(
                f"{remote.project.v1}/training-jobs",
                json={
                    "job_name": "nowhere",
                    "config": remote.put_code("nowhere", "") | {"train_url": "/No_Bucket/"},
                },
            )
            assert refused.status_code == 400
            assert "config.train_url is '/No_Bucket/'" in refused.json()["error_msg"]
            assert remote.project.http.get("/objects").json()["buckets"] == [
                "bucket-default",
                "made-by-a-submit",
            ]


class TestTrouble:
    def test_an_input_that_is_being_fetched_says_so_and_can_be_stopped(
        self, wired: Remote, wire: Wire
    ) -> None:
        config = with_data(wired, large=bytes(8 * MIB))
        code = wired.put_code("slow", READS_AND_WRITES)
        wire.hold_after = wire.bytes_sent + MIB

        job = wired.project.post("/training-jobs", job_name="slow", config=code | config)

        shown = wired.wait(job, STARTING)
        assert wait_for(lambda: wired.version(job)["status_message"] or None).startswith(
            "Fetching its inputs:"
        ), shown
        # Once that much has been sent, S3 gives no answer.
        wait_for(lambda: wired.project.http.get("/readyz").status_code == 503)
        assert wired.stop(job).status_code == 200
        wired.wait(job, TERMINATED)
        wait_for(lambda: attempt_folders(wired) == [])

    def test_a_job_waits_for_s3_and_goes_on_when_it_answers(
        self, wired: Remote, wire: Wire
    ) -> None:
        config = with_data(wired, large=bytes(8 * MIB))
        code = wired.put_code("waits", READS_AND_WRITES)
        wire.hold_after = wire.bytes_sent + MIB
        job = wired.project.post("/training-jobs", job_name="waits", config=code | config)
        wait_for(lambda: wired.version(job)["status_message"] or None)

        wire.is_down, wire.hold_after = True, None

        told = wait_for(lambda: _told_of_failure(wired.version(job)))
        assert "data_url is" in told
        assert wired.version(job)["status"] == STARTING
        wire.is_down = False
        wired.wait(job, COMPLETED)
        assert wired.version(job)["status_message"] == ""

    def test_results_wait_for_s3_and_are_stored_when_it_answers(
        self, wired: Remote, wire: Wire, tmp_path: Path
    ) -> None:
        config = with_data(wired, one=b"1")
        gate = tmp_path / "s3-is-down"
        script = WAITS_FOR_A_FILE.format(gate=str(gate)) + dedent(READS_AND_WRITES)
        job = wired.submit("results", script, **config)
        wired.wait(job, RUNNING)

        wire.is_down = True
        gate.touch()
        told = wait_for(lambda: _told_of_failure(wired.version(job)))

        assert told.startswith("Storing its results has failed and is tried again")
        wire.is_down = False
        wired.wait(job, COMPLETED)
        assert wired.output("out/deep/model.bin") == b"weights" * 1000

    @pytest.mark.parametrize("end", [ServerProcess.kill, ServerProcess.stop])
    def test_what_was_fetched_whole_is_not_fetched_again_by_the_next_server(
        self, tmp_path: Path, wire: Wire, end: Callable[[ServerProcess], None]
    ) -> None:
        flags = ("--objects", f"s3://{BASE}/{tmp_path.name}", "--s3-endpoint", wire.url)
        server = ServerProcess(tmp_path, *flags)
        try:
            remote = connect(server, server.wait_until_ready())
            files = {f"part{number:02d}": bytes([number]) * MIB for number in range(20)}
            config = with_data(remote, **files)
            code = remote.put_code("killed", READS_AND_WRITES)
            before = wire.bytes_sent
            wire.hold_after = before + 12 * MIB
            job = remote.project.post("/training-jobs", job_name="killed", config=code | config)
            wait_for(lambda: wire.bytes_sent > before + 12 * MIB)
            remote.project.http.close()
            end(server)  # in time, though S3 does not go on

            wire.hold_after = None
            server = ServerProcess(tmp_path, *flags, name="second")
            remote = connect(server, server.wait_until_ready())
            remote.wait(job, COMPLETED)

            assert b"('part19.bin', 1048576)" in remote.log(job)
            # All of it once, lists and code, and at most a chunk or two of what was under way.
            assert wire.bytes_sent - before < (20 + 8) * MIB
            remote.stop_everything()
            remote.project.http.close()
            server.stop()
            check_is_exact(server.data)
        finally:
            server.kill()
            end_processes_below(server.data / "jobs")

    def test_a_submit_whose_keys_are_refused_says_which_field_needed_them(
        self, remote: Remote, account: S3Account
    ) -> None:
        code = remote.put_code("refused", "print(1)")
        submit: dict[str, Any] = {"job_name": "refused", "config": code}
        account.refuse_keys()
        try:
            reply = remote.project.http.post(f"{remote.project.v1}/training-jobs", json=submit)
            ready = remote.project.http.get("/readyz")
        finally:
            account.accept_keys()

        assert reply.status_code == 503
        assert "config.app_url is '/bucket-default/refused/'" in reply.json()["error_msg"]
        assert "refuses this server's keys" in reply.json()["error_msg"]
        assert ready.status_code == 503
        assert "refuses this server's keys" in ready.text
        made = remote.project.http.post(f"{remote.project.v1}/training-jobs", json=submit)
        assert made.status_code == 200, made.text
        remote.wait(made.json(), COMPLETED)

    @pytest.mark.parametrize(
        ("objects", "endpoint", "expected"),
        [
            ("s3://no-such-bucket/x", None, "has no bucket 'no-such-bucket', which --objects"),
            (f"s3://{BASE}", "http://127.0.0.1:9", "The object store at http://127.0.0.1:9"),
        ],
    )
    def test_a_server_without_its_objects_starts_and_says_so(
        self, tmp_path: Path, objects: str, endpoint: str | None, expected: str
    ) -> None:
        flags = ("--s3-endpoint", endpoint) if endpoint else ()
        server = ServerProcess(tmp_path, "--objects", objects, *flags)
        try:
            url = server.wait_until_ready()
            ready = httpx.get(f"{url}/readyz")
            assert ready.status_code == 503
            assert expected in ready.json()["error_msg"]
            assert httpx.get(f"{url}/healthz").status_code == 200
            remote = connect(server, url)
            put = remote.project.http.put("/objects/bucket-default/x", content=b"x")
            remote.project.http.close()
            assert put.status_code == 503
            assert put.headers["retry-after"]
            assert expected.partition(", which")[0] in put.json()["error_msg"]
            wait_for(lambda: expected in server.log)
            assert server.log.count("object_store_unavailable") == 1, "said once at the start"
            assert "not-a-secret" not in server.log
            server.stop()
        finally:
            server.kill()


def _told_of_failure(shown: dict[str, Any]) -> str | None:
    message: str = shown["status_message"]
    return message if "has failed and is tried again" in message else None
