"""A real server process on a folder of its own, and what tests do with it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, Final, TypeVar

import httpx
import msgspec

from muster.wire.credentials import Credentials
from tests.api.platform import Project, log_in
from tests.stores import chosen_store

T = TypeVar("T")

MUSTER: Final = [
    sys.executable,
    "-c",
    "from muster.cli.main import main; main(prog_name='muster')",
]
WAIT_SECONDS: Final = 90.0
STOP_SECONDS_MAX: Final = 30.0  # it ends in one, where it is not alone
LOOK_SECONDS: Final = 0.02

ENDED: Final = frozenset({0, 3, 5, 6, 10, 11, 12, 13, 14})

_READY = re.compile(r"^muster is ready on (https?://\S+)$", re.MULTILINE)


def own_environment() -> dict[str, str]:
    """Without what is set for somebody's own server or cloud."""
    others = ("MUSTER_", "OS_", "HUAWEICLOUD_")
    return {name: value for name, value in os.environ.items() if not name.startswith(others)}


def run_muster(*arguments: object, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Run a command that ends by itself."""
    return subprocess.run(  # noqa: S603
        [*MUSTER, *map(str, arguments)],
        env=own_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


class ServerProcess:
    """`muster serve` as a child; what it prints goes into files beside its data."""

    def __init__(self, folder: Path, *arguments: object, name: str = "server") -> None:
        folder.mkdir(exist_ok=True)
        self.data = folder / "data"
        self._out, self._log = folder / f"{name}.out", folder / f"{name}.log"
        with self._out.open("wb") as out, self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [*MUSTER, "serve", "--port", "0", "--data", str(self.data), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=own_environment(),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self) -> str:
        """The URL that its ready line names."""

        def line() -> re.Match[str] | None:
            assert self._process.poll() is None, self.log
            return _READY.search(self._out.read_text(encoding="utf-8"))

        return wait_for(line)[1]

    def credentials(self) -> Credentials:
        return msgspec.json.decode((self.data / "credentials.json").read_bytes(), type=Credentials)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self.wait_for_end()

    def wait_for_end(self) -> None:
        """It must end well, in time."""
        try:
            code = self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"It did not end in time: {self.log}") from None
        assert code == 0, self.log

    def pause(self) -> None:
        """As `kill -STOP` does: it does nothing, and everybody else waits for it."""
        self._process.send_signal(signal.SIGSTOP)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """As `kill -9` does."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def wait_for(look: Callable[[], T | None], seconds: float = WAIT_SECONDS) -> T:
    """What `look` returns once it is neither None nor False."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None or found is False:
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(LOOK_SECONDS)
    return found


@dataclass(kw_only=True)
class Remote:
    """A project of a running server, seen from outside."""

    project: Project
    data: Path
    spec_ids: dict[str, int]

    def put_code(self, folder: str, script: str, **files: str) -> dict[str, Any]:
        """Store a script and files beside it; the `config` of a job that runs it."""
        for name, text in {"main": script, **files}.items():
            path = f"/objects/bucket-{self.project.name}/{folder}/{name}.py"
            reply = self.project.http.put(path, content=dedent(text).encode())
            assert reply.status_code == 200, reply.text
        base = f"/bucket-{self.project.name}/{folder}"
        return {
            "worker_server_num": 1,
            "app_url": f"{base}/",
            "boot_file_url": f"{base}/main.py",
            "engine_id": 1,
            "spec_id": self.spec_ids["modelarts.vm.cpu.1u"],
        }

    def submit(self, name: str, script: str, **config: Any) -> dict[str, Any]:
        """A new job that runs the script; as the server answered it."""
        given = self.put_code(name, script) | config
        submitted: dict[str, Any] = self.project.post("/training-jobs", job_name=name, config=given)
        return submitted

    def version(self, job: Mapping[str, Any]) -> dict[str, Any]:
        path = f"/training-jobs/{job['job_id']}/versions/{job['version_id']}"
        return dict(self.project.get(path))

    def wait(self, job: Mapping[str, Any], *statuses: int) -> dict[str, Any]:
        """The version, once it has one of the statuses; at once an error if it ends otherwise."""

        def arrived() -> dict[str, Any] | None:
            shown = self.version(job)
            assert shown["status"] in statuses or shown["status"] not in ENDED, self.told(shown)
            return shown if shown["status"] in statuses else None

        return wait_for(arrived)

    def told(self, shown: Mapping[str, Any]) -> str:
        return f"{shown['status']}: {shown['status_message']} {self.log(shown)!r}"

    def log(self, job: Mapping[str, Any], index: int = 0) -> bytes:
        """All that a worker has written."""
        path = f"{self.project.v1}/training-jobs/{job['job_id']}/versions/{job['version_id']}"
        reply = self.project.http.get(f"{path}/log/files/{job['job_name']}.{index}")
        return reply.content if reply.status_code == 200 else b""

    def stop(self, job: Mapping[str, Any]) -> httpx.Response:
        path = f"{self.project.v1}/training-jobs/{job['job_id']}/versions/{job['version_id']}"
        return self.project.http.post(f"{path}/stop")

    def stop_everything(self) -> None:
        """Leave no process behind."""
        live = self.project.get("/training-jobs/versions", status="1,2,4,7,8,9", limit=0)
        jobs = self.project.get("/training-jobs", per_page=1000)["jobs"]
        if not live["versions"]:
            return
        for job in jobs:
            self.project.http.delete(f"{self.project.v1}/training-jobs/{job['job_id']}")
        jobs_folder = self.data / "jobs"
        wait_for(lambda: not processes_below(jobs_folder) or None)

    def output(self, key: str) -> bytes:
        reply = self.project.http.get(f"/objects/bucket-{self.project.name}/{key}")
        assert reply.status_code == 200, reply.text
        return reply.content

    def counts(self, pool: str = "public") -> dict[str, int]:
        """The training jobs of a pool by state, without zeros."""
        path = f"{self.project.v2}/statistics/pools/{self.project.pool(pool)}/workloads"
        [train, *_] = self.project.http.get(path).json()["statistics"]["items"]
        return {state: count for state, count in train["status"].items() if count}


def connect(server: ServerProcess, url: str, **client: Any) -> Remote:
    """Log in as the administrator."""
    first = server.credentials()
    project = log_in(
        url, first.project_id, first.project_name, first.user, first.password, first.access_key,
        first.secret_key, **client,
    )  # fmt: skip
    specs = project.get("/job/resource-specs")["specs"]
    return Remote(
        project=project,
        data=server.data,
        spec_ids={spec["spec_code"]: spec["spec_id"] for spec in specs},
    )


@contextmanager
def running_server(folder: Path, *arguments: object) -> Iterator[Remote]:
    """A server, and at the end neither it nor a process of a job of its."""
    with chosen_store() as url:
        if url is not None:
            (folder / "data").mkdir(parents=True, mode=0o700)
            (folder / "data" / "muster.toml").write_text(f'database = "{url}"\n')
        server = ServerProcess(folder, *arguments)
        try:
            remote = connect(server, server.wait_until_ready())
            yield remote
            remote.stop_everything()
            remote.project.http.close()
            server.stop()
            check_is_exact(server.data)
        finally:
            server.kill()
            end_processes_below(server.data / "jobs")


def check_is_exact(data: Path) -> None:
    """`muster check` finds no difference."""
    done = run_muster("check", "--data", data)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differences" in done.stdout


def processes_below(folder: Path) -> dict[int, str]:
    """Processes that name the folder or work in it, by id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = str((process / "cwd").readlink())
        except OSError:
            continue  # it has ended, or is not ours to look at
        if str(folder) in command or place.startswith(str(folder)):
            found[int(process.name)] = command
    return found


def end_processes_below(folder: Path) -> None:
    """After a test that failed: what its jobs still run."""
    for pid in processes_below(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
