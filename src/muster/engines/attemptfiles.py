"""The files of an attempt: how a job folder is laid out, and what is true by what lies in it.

    JOBS/.lock             held by the one server, and by every shim that may still come up
    JOBS/.live/ATTEMPT     an empty file for each attempt that may still have processes
    JOBS/.shims.log        what a shim had to complain about
    JOBS/ATTEMPT/          the attempt's job folder

Everything here blocks: call it in a thread.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from signal import SIGTERM
from typing import Final, TypeVar

import msgspec

from muster.beneath import remove_tree
from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.jobfolder import (
    channel_folder,
    code_folder,
    log_file,
    output_folder,
    task_folder,
)
from muster.domain.placement import TaskPlacement
from muster.engines import environment, processes, shim
from muster.engines.engine import Launch, Observation, TaskObservation, TaskState
from muster.engines.isolation import OFF, Isolation, confine_task, hand_over_folders, name_user
from muster.engines.isolation import Kind as IsolationKind
from muster.engines.owners import take_back
from muster.engines.processes import ProcessIdentity

LOCK_WAIT_SECONDS: Final = 5.0  # a shim that is coming up keeps the lock for milliseconds
LOCK_AGAIN_SECONDS: Final = 0.01
ORPHANS_WAIT_SECONDS: Final = 2.0
STATE_FILE_BYTES_MAX: Final = 1 << 16
REMOVALS_MAX: Final = 100  # of one folder that others remove parts of, too
ADDRESS: Final = "127.0.0.1"
STOPPED_EXIT_CODE: Final = 128 + SIGTERM

ATTEMPT_FILE: Final = "attempt.json"
LIVE_FOLDER: Final = ".live"
LOCK_FILE: Final = ".lock"

T = TypeVar("T")


class Claim(msgspec.Struct, frozen=True):
    """Who runs a task: a shim, or nobody ever (fenced)."""

    boot_id: str = ""
    pid: int = 0
    start_ticks: int = 0
    started_at_ms: int = 0
    fenced_at_ms: int | None = None

    @property
    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(boot_id=self.boot_id, pid=self.pid, start_ticks=self.start_ticks)


class Result(msgspec.Struct, frozen=True):
    """What a shim wrote when all was over."""

    exit_code: int
    was_stopped: bool
    started_at_ms: int
    ended_at_ms: int
    message: str


class AttemptRecord(msgspec.Struct, frozen=True):
    """What the engine needs to find an attempt again; written when its folder is ready."""

    task_count: int
    master_port: int


def judge(
    index: int, *, claim: Claim | None, result: Result | None, is_watched: bool
) -> TaskObservation:
    """What is true of a task.

    Args:
        index: of the task.
        claim: as found in its folder.
        result: as found there, *after* `is_watched` was seen: a shim first writes, then ends.
        is_watched: whether its shim lives.
    """
    if result is not None:
        return TaskObservation(
            index=index,
            state=TaskState.ENDED,
            exit_code=result.exit_code,
            was_stopped=result.was_stopped,
            started_at_ms=result.started_at_ms,
            ended_at_ms=result.ended_at_ms,
            message=result.message,
        )
    if claim is not None and claim.fenced_at_ms is not None:
        return stopped_before_start(index, claim.fenced_at_ms)
    if claim is None:
        state = TaskState.STARTING if is_watched else TaskState.GONE
        return TaskObservation(index=index, state=state)
    return TaskObservation(
        index=index,
        state=TaskState.RUNNING if is_watched else TaskState.GONE,
        started_at_ms=claim.started_at_ms,
    )


def stopped_before_start(index: int, fenced_at_ms: int) -> TaskObservation:
    """What is true of a task that was stopped before it came up: it never will."""
    return TaskObservation(
        index=index,
        state=TaskState.ENDED,
        exit_code=STOPPED_EXIT_CODE,
        was_stopped=True,
        ended_at_ms=fenced_at_ms,
        message="It was stopped before it came up.",
    )


def take_lock(jobs_folder: Path) -> int:
    """Take the lock of a jobs folder; it ends with the last copy of the file descriptor.

    Once it is taken, no shim of an earlier server can come up any more: each keeps it till then.
    """
    fd = os.open(jobs_folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    end = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                os.close(fd)
                raise EngineUnavailable(
                    f"Another muster server uses {jobs_folder}. Stop it, or use another folder."
                ) from error
            time.sleep(LOCK_AGAIN_SECONDS)
        else:
            return fd


def refuse_missing_folders(launch: Launch) -> None:
    """Raise EngineRefused where a launch names a folder that is not there."""
    if launch.code is not None and not launch.code.is_dir():
        raise EngineRefused(f"There is no code folder {launch.code} any more. Submit it again.")
    if launch.work_folder is not None and not launch.work_folder.is_dir():
        raise EngineRefused(f"There is no folder {launch.work_folder} to work in any more.")


def prepare(
    launch: Launch, jobs_folder: Path, *, master_port: int, isolation: Isolation = OFF
) -> None:
    """Lay out the job folder. May be done again until the first task is claimed."""
    mark_live(jobs_folder, launch.attempt_id)
    lay_out(launch, master_port=master_port, isolation=isolation)
    # Last: an attempt with a record has everything that its tasks need.
    record = AttemptRecord(task_count=len(launch.tasks), master_port=master_port)
    shim.write_json(str(launch.folder / ATTEMPT_FILE), msgspec.to_builtins(record))


def lay_out(launch: Launch, *, master_port: int, isolation: Isolation) -> None:
    """Make all that tasks find in the job folder, and all that their shims do."""
    output_folder(launch.folder).mkdir(parents=True, exist_ok=True)
    for name in launch.output_names:
        channel_folder(launch.folder, name).mkdir(parents=True, exist_ok=True)
    log_file(launch.folder, 0).parent.mkdir(exist_ok=True)
    addresses = [ADDRESS] * len(launch.tasks)
    if environment.has_npus(launch):
        table = environment.rank_table(launch, addresses=addresses)
        environment.rank_table_file(launch.folder).write_text(table)
    for task in launch.tasks:
        make_folders(launch, task.index)
    if isolation.kind is not IsolationKind.OFF:
        hand_over_folders(isolation, launch)
    else:
        take_back(launch.writes)
    for task in launch.tasks:
        variables = environment.task_environment(
            launch,
            task,
            addresses=addresses,
            master_port=master_port,
            path=os.environ.get("PATH", os.defpath),
            language=os.environ.get("LANG", "C.UTF-8"),
        )
        write_spec(launch, task, {**name_user(isolation), **variables}, isolation)


def make_folders(launch: Launch, index: int) -> None:
    environment.home_folder(launch.folder, index).mkdir(parents=True, exist_ok=True)
    environment.temporary_folder(launch.folder, index).mkdir(exist_ok=True)
    code = code_folder(launch.folder, index)
    if launch.code is None:
        code.mkdir(exist_ok=True)
    else:
        copy_code(launch.code, code)
    if launch.before:
        environment.setup_folder(launch.folder, index).mkdir(exist_ok=True)


def write_spec(
    launch: Launch, task: TaskPlacement, variables: Mapping[str, str], isolation: Isolation
) -> None:
    """Tell the shim of a task all that it has to know."""
    index = task.index
    log = str(log_file(launch.folder, index))
    spec: dict[str, object] = {
        "argv": launch.argv,
        "environment": variables,
        "folder": str(environment.work_folder(launch, index)),
        "log": log,
        **confine_task(isolation, launch, task),
    }
    if launch.before:
        own = str(environment.setup_folder(launch.folder, index))
        spec["before"] = {
            "argv": launch.before,
            # What it leaves in its home must not be in the way of the task, which may be another's.
            "environment": {**variables, "HOME": own, "TMPDIR": own},
            "folder": str(code_folder(launch.folder, index)),
            "log": log,
        }
    if launch.serves:
        spec["serves_at"] = ADDRESS  # a cluster's node puts its own in this place
    (task_folder(launch.folder, index) / shim.SPEC_FILE).write_text(json.dumps(spec))


def copy_code(source: Path, target: Path) -> None:
    """Copy files, folders and links. A link stays a link: what it points to is not read."""
    shutil.rmtree(target, ignore_errors=True)  # half a copy of a server that was killed
    shutil.copytree(source, target, symlinks=True, ignore=find_special_files)


def find_special_files(folder: str, _names: list[str]) -> list[str]:
    """Pipes, sockets and devices: to read them may never end."""
    with os.scandir(folder) as entries:
        return [e.name for e in entries if not (e.is_file() or e.is_dir() or e.is_symlink())]


def ask_to_stop(folders: Iterable[Path], grace_seconds: float) -> None:
    """Fence the tasks that have not come up; leave the others the grace time for their SIGTERM.

    The shortest grace time ever asked for stays: SIGTERMs that come together reach a shim as one.
    """
    for folder in folders:
        if fence(folder):
            continue
        earlier = shim.read_grace(str(folder))
        if earlier is None or grace_seconds < earlier:
            shim.write_json(str(folder / shim.STOP_FILE), {"grace_seconds": grace_seconds})


def fence(folder: Path) -> bool:
    """Claim a task for nobody, so that it never comes up; False when a shim was first."""
    return shim.claim(str(folder), {"fenced_at_ms": shim.now_ms()})


def fence_rest(folder: Path) -> None:
    """Fence what has not come up of an attempt that is not watched."""
    for index in range(count_tasks(folder)):
        fence(task_folder(folder, index))


def end_orphans(markers: Collection[str]) -> bool:
    return processes.end_marked(markers, timeout_seconds=ORPHANS_WAIT_SECONDS)


def mark_live(jobs_folder: Path, attempt_id: str) -> None:
    (jobs_folder / LIVE_FOLDER / attempt_id).touch()


def unmark_live(jobs_folder: Path, attempt_id: str) -> None:
    (jobs_folder / LIVE_FOLDER / attempt_id).unlink(missing_ok=True)


def count_tasks(folder: Path) -> int:
    """How many tasks an attempt has; none before its folder is ready."""
    record = read_state(folder / ATTEMPT_FILE, AttemptRecord)
    return 0 if record is None else record.task_count


def is_claimed(folder: Path) -> bool:
    """Whether any task of the attempt has come up, or has been kept from it."""
    tasks = (task_folder(folder, index) for index in range(count_tasks(folder)))
    return any((task / shim.CLAIM_FILE).exists() for task in tasks)


def read_ended(folder: Path) -> Observation | None:
    """What became of an attempt that is not watched; None when there is no such attempt."""
    tasks = tuple(
        judge(
            index,
            claim=read_claim(task_folder(folder, index)),
            result=read_result(task_folder(folder, index)),
            is_watched=False,
        )
        for index in range(count_tasks(folder))
    )
    return Observation(tasks=tasks) if tasks else None


def read_claim(folder: Path) -> Claim | None:
    return read_state(folder / shim.CLAIM_FILE, Claim)


def read_result(folder: Path) -> Result | None:
    return read_state(folder / shim.EXIT_FILE, Result)


def read_state(file: Path, kind: type[T]) -> T | None:
    """A state file; None when it is not there, or cut short by a power failure."""
    data = read_beginning(file, STATE_FILE_BYTES_MAX)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError:
        return None


def read_beginning(file: Path, limit: int) -> bytes | None:
    """At most `limit` bytes of a regular file, or None where there is none.

    A job may put anything in the place of its files: a link is not followed, a pipe not waited for.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            return None
        raise  # not being able to look is not the same as seeing nothing
    try:
        return os.read(fd, limit) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def remove(jobs_folder: Path, attempt_id: str) -> None:
    """Remove a job folder. Its record goes first: half a folder is no attempt any more."""
    folder = jobs_folder / attempt_id
    (folder / ATTEMPT_FILE).unlink(missing_ok=True)
    unmark_live(jobs_folder, attempt_id)
    _remove_tree(folder)


def remove_work(folder: Path) -> None:
    """Remove what only tasks that run need: their copies of the code, homes, temporary files.

    Logs, outputs and what became of the tasks stay. May be done again, and beside `remove`.
    """
    for task in folder.glob("task-*"):
        if task.is_symlink():
            continue  # a job may put anything in the place of its files
        index = task.name.removeprefix("task-")
        if index.isdecimal():
            for part in (
                code_folder(folder, int(index)),
                environment.home_folder(folder, int(index)),
                environment.temporary_folder(folder, int(index)),
                environment.setup_folder(folder, int(index)),
            ):
                with contextlib.suppress(OSError):  # what cannot go stays: it does no harm
                    _remove_tree(part)


def _remove_tree(folder: Path) -> None:
    """Somebody else may remove parts of it at the same time: then go on with the rest."""
    for _ in range(REMOVALS_MAX):
        with contextlib.suppress(FileNotFoundError):
            try:
                remove_tree(folder)
            except PermissionError:
                # A job may leave folders behind that even their owner cannot change.
                for parent, _, _ in os.walk(folder):
                    Path(parent).chmod(stat.S_IRWXU)
                remove_tree(folder)
        if not folder.exists():
            return
