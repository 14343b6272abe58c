"""What every way of isolating jobs promises; run on each of them.

A test module subclasses `IsolationContract`, imports the fixtures `data` and `bench`, and has one
of its own, `isolation`, which is the way that it tests.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from muster.domain.jobfolder import channel_folder, output_folder, task_folder
from muster.engines import shim
from muster.engines.engine import Engine, EngineRef, Launch
from muster.engines.isolation import Isolation
from muster.engines.local import LocalEngine
from muster.engines.localattempt import OVER
from tests.engines.contract import WAITS, Bench, states
from tests.engines.fake import Program
from tests.required import is_missing

ONE, OTHER = "project-one", "project-other"
SECRET: Final = "nobody's but the server's"  # noqa: S105 - no password

# What it tells of a path: what is there, or the error of looking.
TELLS = """
import json, os, sys
def look(path):
    try:
        if os.path.isdir(path):
            return sorted(os.listdir(path))
        with open(path) as file:
            return file.read()
    except OSError as error:
        return type(error).__name__
def write(path, text="mine"):
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError as error:
        return type(error).__name__
    return "written"
def attempt(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return type(error).__name__
    return "done"
here = sys.argv[1:]
def tell(value):
    print(json.dumps(value), flush=True)
"""


@dataclass
class Data:
    """A data folder with something of everything in it that is not for jobs."""

    folder: Path

    def __post_init__(self) -> None:
        for name in ("muster.db", "credentials.json", "objects/bucket/secret", "snapshots/a/b"):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SECRET)

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"


class IsolatedBench(Bench):
    engine: LocalEngine

    def __init__(self, data: Data, isolation: Isolation) -> None:
        self.isolation = isolation
        self.data = data
        super().__init__(LocalEngine(data.jobs, isolation=isolation), data.jobs)

    def make_engine(self) -> Engine:
        return LocalEngine(self.jobs_folder, isolation=self.isolation)

    async def run(self, source: str, *arguments: object, project: str = ONE, **more: Any) -> Any:
        """What a job tells last, which has to end well."""
        launch = self.launch_of(source, *arguments, project=project, **more)
        ref = await self.engine.start(launch)
        (task,) = (await self.until_ended(ref)).tasks
        log = (await self.read_log(ref)).decode()
        assert task.exit_code == 0, f"{task.message} {log}"
        return json.loads(log.splitlines()[-1])

    def launch_of(self, source: str, *arguments: object, project: str = ONE, **more: Any) -> Launch:
        what = Program(
            argv=(sys.executable, "-c", TELLS + source, *map(str, arguments)),
        )
        return replace(self.launch(what), project_id=project, **more)

    async def close(self) -> None:
        """End what runs, too."""
        for mark in (self.jobs_folder / ".live").iterdir():
            await self.engine.stop(EngineRef(mark.name), 0)
            await self.until(EngineRef(mark.name), lambda seen: states(seen) <= OVER)
        await self.engine.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


@pytest_asyncio.fixture
async def bench(data: Data, isolation: Isolation) -> AsyncIterator[IsolatedBench]:
    bench = IsolatedBench(data, isolation)
    await bench.open()
    yield bench
    await bench.close()


def require_root() -> None:
    """Root alone can be somebody else. Skips the test, unless jobs must be isolated here."""
    if os.geteuid() != 0:
        is_missing("bubblewrap", "only root can run jobs as other users")


@pytest.mark.asyncio
class IsolationContract:
    """One promise a test."""

    async def test_a_job_sees_none_of_the_servers_files(self, bench: IsolatedBench) -> None:
        data = bench.data.folder
        paths = [
            data / "muster.db",
            data / "credentials.json",
            data / "objects" / "bucket" / "secret",
            data / "objects",
            data / "snapshots",
            bench.jobs_folder / ".users.json",
        ]

        told = await bench.run("tell([look(path) for path in here])", *paths)

        assert told == ["FileNotFoundError"] * len(paths)

    async def test_a_job_sees_no_other_job(self, bench: IsolatedBench) -> None:
        waiting = replace(bench.launch(WAITS), project_id=OTHER)
        other = await bench.engine.start(waiting)
        await bench.until_log(other, b"up\n")

        launch = bench.launch_of("tell([look(p) for p in here])", bench.jobs_folder, waiting.folder)
        ref = await bench.engine.start(launch)
        await bench.until_ended(ref)

        log = await bench.read_log(ref)
        assert json.loads(log) == [[launch.attempt_id], "FileNotFoundError"]

    async def test_a_job_cannot_read_the_environment_of_another_projects_processes(
        self, bench: IsolatedBench
    ) -> None:
        environment = {"TOKEN": "the-other-projects"}
        waiting = replace(bench.launch(WAITS), project_id=OTHER, environment=environment)
        other = await bench.engine.start(waiting)
        await bench.until_log(other, b"up\n")

        told = await bench.run(
            """
found = []
for name in os.listdir("/proc"):
    try:
        text = open(f"/proc/{name}/environ", "rb").read()
    except OSError:
        continue
    found += [name] if b"other-" b"projects" in text else []
tell(found)
"""
        )

        assert told == []

    async def test_a_job_cannot_signal_the_server_or_another_project(
        self, bench: IsolatedBench
    ) -> None:
        ref = await bench.engine.start(replace(bench.launch(WAITS), project_id=OTHER))
        await bench.until_log(ref, b"up\n")
        [task] = bench.engine._attempts[ref].tasks
        claim = json.loads((task.folder / shim.CLAIM_FILE).read_text())
        parents = shim.list_processes()
        theirs = list(shim.find_descendants({claim["pid"]}, parents))
        assert theirs

        told = await bench.run(
            "tell([attempt(os.kill, int(pid), 0) for pid in here])",
            os.getpid(),
            claim["pid"],
            *theirs,
        )

        assert set(told) <= {"PermissionError", "ProcessLookupError"}

    async def test_a_job_cannot_write_how_it_ended(self, bench: IsolatedBench) -> None:
        source = """
names = ("exit.json", "claim.json", "endpoint.json", "spec.json", "stop.json")
tell([write(os.path.join("..", name)) for name in names] + [
    attempt(os.symlink, "/etc/passwd", "../exit.json"),
    attempt(os.rename, "..", "../../elsewhere"),
    attempt(os.unlink, "../claim.json"),
    write("../../attempt.json"),
])
sys.exit(7)
"""
        launch = bench.launch_of(source)

        ref = await bench.engine.start(launch)
        (task,) = (await bench.until_ended(ref)).tasks

        told = set(json.loads(await bench.read_log(ref)))
        assert told <= {"PermissionError", "OSError"}, told
        assert task.exit_code == 7

    async def test_a_job_cannot_put_anything_in_the_place_of_its_log(
        self, bench: IsolatedBench
    ) -> None:
        source = """
folder = os.environ["MA_LOG_DIR"]
open(os.path.join(folder, "more.log"), "w").close()
attempt(os.unlink, os.path.join(folder, "task-0.log"))
attempt(os.symlink, "/etc/passwd", os.path.join(folder, "task-0.log"))
print("as it was", file=open("/dev/stdout", "w"))
"""
        ref = await bench.engine.start(bench.launch_of(source))

        await bench.until_ended(ref)

        assert await bench.read_log(ref) == b"as it was\n"

    async def test_a_job_reads_its_inputs_and_nothing_beside_them(
        self, bench: IsolatedBench
    ) -> None:
        bucket = bench.data.folder / "objects" / "bucket"
        for name in ("set/a", "set/deep/b", "alone", "beside"):
            (bucket / name).parent.mkdir(parents=True, exist_ok=True)
            (bucket / name).write_text(name)

        told = await bench.run(
            "tell([look(path) for path in here] + [write(here[0] + '/new'), write(here[2])])",
            *(bucket / name for name in ("set", "set/deep/b", "alone", "beside", "")),
            reads=(bucket / "set", bucket / "alone"),
        )

        assert told[:4] == [["a", "deep"], "set/deep/b", "alone", "FileNotFoundError"]
        assert told[4] == ["alone", "set"]
        assert set(told[5:]) <= {"PermissionError", "OSError"}
        assert (bucket / "alone").read_text() == "alone"

    async def test_what_a_job_may_write_is_there_when_it_has_ended(
        self, bench: IsolatedBench
    ) -> None:
        kept = bench.data.folder / "notebooks" / "one" / "work"
        source = """
places = [*here, os.getcwd(), os.environ["HOME"], os.environ["TMPDIR"], os.environ["MA_LOG_DIR"]]
tell([write(os.path.join(place, "left")) for place in places])
"""
        launch = bench.launch_of(source, output_names=("o",), writes=(kept,))
        folders = [output_folder(launch.folder), channel_folder(launch.folder, "o"), kept]
        launch = replace(launch, argv=(*launch.argv, *map(str, folders)))

        ref = await bench.engine.start(launch)
        await bench.until_ended(ref)

        log = await bench.read_log(ref)
        assert json.loads(log) == ["written"] * 7
        for place in (*folders, task_folder(launch.folder, 0) / "code"):
            assert (place / "left").read_text() == "mine"

    async def test_a_job_finds_what_its_interpreter_imports(self, bench: IsolatedBench) -> None:
        told = await bench.run("import msgspec, sqlite3, ssl; tell(msgspec.__name__)")

        assert told == "msgspec"

    async def test_a_command_is_not_shown_what_it_names(self, bench: IsolatedBench) -> None:
        """A service's command is its user's: it may name what another project keeps."""
        theirs = bench.data.folder / "objects" / "theirs"
        (theirs / "lib" / "python3.11").mkdir(parents=True, exist_ok=True)
        (theirs / "bin").mkdir(exist_ok=True)
        (theirs / "bin" / "python").write_text(f"#!/bin/sh\ncat {theirs}/../bucket/secret\n")
        (theirs / "bin" / "python").chmod(0o755)
        launch = replace(bench.launch(WAITS), argv=(str(theirs / "bin" / "python"),))

        ref = await bench.engine.start(replace(launch, project_id=ONE))

        (task,) = (await bench.until_ended(ref)).tasks
        assert task.exit_code != 0
        assert SECRET.encode() not in await bench.read_log(ref)

    async def test_temporary_files_are_nobody_elses(self, bench: IsolatedBench) -> None:
        places = temporary_places(bench)
        try:
            first = await bench.run("tell([write(path) for path in here])", *places)
            second = await bench.run("tell([look(path) for path in here])", *places, project=OTHER)
        finally:
            await asyncio.to_thread(remove_all, places)

        assert first == ["written"] * 3
        assert set(second) <= {"FileNotFoundError", "PermissionError"}

    async def test_what_is_covered_cannot_be_uncovered(self, bench: IsolatedBench) -> None:
        """Not even by who is root in a namespace that it has made for itself."""
        source = """
import subprocess
tried = subprocess.run(
    ["unshare", "-Urm", "sh", "-c", f"umount -l {here[0]}; cat {here[0]}/muster.db"],
    capture_output=True, text=True)
tell(tried.stdout)
"""
        assert await bench.run(source, bench.data.folder) == ""

    async def test_jobs_of_one_project_that_end_leave_nothing_running(
        self, bench: IsolatedBench
    ) -> None:
        source = """
import time
if os.fork() == 0:
    os.setsid()
    time.sleep(600)
"""
        launch = bench.launch_of(source)
        ref = await bench.engine.start(launch)

        await bench.until_ended(ref)

        marked = f"MUSTER_ATTEMPT={launch.attempt_id}".encode()
        assert not [pid for pid in shim.list_processes() if marked in _environment(pid)]


def temporary_places(bench: IsolatedBench) -> list[str]:
    """A new name in each folder where programs leave temporary files."""
    mark = f"mark-{os.getpid()}-{id(bench)}"
    return [f"/tmp/{mark}", f"/var/tmp/{mark}", f"/dev/shm/{mark}"]  # noqa: S108


def remove_all(places: list[str]) -> None:
    for place in places:
        Path(place).unlink(missing_ok=True)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
