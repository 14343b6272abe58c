"""Logs of training jobs: raw bytes, and lines around a cursor.

They are read from the job folder, never through an engine: a request does not wait for one.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from muster.beneath import open_beneath
from muster.domain.errors import InvalidRequest, LogNotReady, LogUnknown
from muster.domain.jobfolder import log_file
from muster.domain.workload import Workload
from muster.operations.caller import Caller
from muster.store import jobs, timeline, workloads
from muster.store.connection import Connection
from muster.store.database import Database

BYTES_MAX: Final = 1 << 20  # of one answer, however long its lines are
_BLOCK_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class LogLines:
    content: bytes
    line_count: int
    start: int  # offset of the first byte of the content
    end: int  # offset after its last byte


def log_name(job_name: str, task_index: int) -> str:
    return f"{job_name}.{task_index}"


async def list_logs(
    database: Database, caller: Caller, *, job_id: int, version_id: int
) -> list[str]:
    """One name a worker."""
    name, workload = await database.read(_find_workload, caller.project_id, job_id, version_id)
    return [log_name(name, index) for index in range(workload.task_count)]


async def find_log(
    database: Database,
    jobs_folder: Path,
    caller: Caller,
    *,
    job_id: int,
    version_id: int,
    name: str,
) -> Path:
    """The file of a log: of the latest attempt, where there were several.

    Raises:
        LogUnknown: the version has no log of that name.
        LogNotReady: nothing has been written yet.
    """
    job_name, workload = await database.read(_find_workload, caller.project_id, job_id, version_id)
    names = [log_name(job_name, index) for index in range(workload.task_count)]
    if name not in names:
        raise LogUnknown(f"log_file is {name!r}; this version has {', '.join(names)}.")
    attempt_id = workload.attempt_id
    if attempt_id is None and workload.attempt_count:
        # It waits to be tried again: until then, the log of the attempt that failed is the latest.
        past = await database.read(timeline.list_past_attempts, [workload.id])
        attempt_id = past[workload.id][-1].attempt_id if workload.id in past else None
    if attempt_id is not None:
        path = log_file(jobs_folder / attempt_id, names.index(name))
        if _is_log(path, jobs_folder):
            return path
    raise LogNotReady(f"The log {name!r} is not there yet: the version is {workload.phase}.")


def _is_log(path: Path, jobs_folder: Path) -> bool:
    """A job owns its folder while it runs, and might put a link in the place of its log."""
    return path.is_file() and path.resolve().is_relative_to(jobs_folder.resolve())


def _find_workload(
    connection: Connection, project_id: str, job_id: int, version_id: int
) -> tuple[str, Workload]:
    job = jobs.get_job(connection, project_id, job_id)
    version = jobs.get_version(connection, project_id, job_id, version_id)
    return job.name, workloads.get_workload(connection, version.workload_id)


def read_bytes(path: Path, offset: int) -> bytes:
    """At most BYTES_MAX bytes from `offset`, exactly as written."""
    with _open(path) as file:
        file.seek(offset)
        return file.read(BYTES_MAX)


def read_tail(path: Path, bytes_max: int) -> tuple[bytes, int]:
    """(the last bytes, how many there are in all), exactly as written."""
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - bytes_max))
        return file.read(bytes_max), size


def _open(path: Path) -> BinaryIO:
    """Raises LogNotReady where something else has taken its place since it was found."""
    try:
        return os.fdopen(open_beneath(path.parent, path.name), "rb")
    except OSError as error:
        raise LogNotReady(f"The log cannot be read: {error.strerror}.") from error


def parse_cursor(text: str) -> int | None:
    """A cursor of an earlier answer; None where there is none."""
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidRequest(
            f"base_line is {text!r}; it must be the start_line or end_line of an earlier answer."
        )
    return int(text)


def read_lines(path: Path, *, cursor: int | None, line_count: int, is_following: bool) -> LogLines:
    """Lines after the cursor (following) or before it; without one, the newest lines.

    Args:
        path: the log.
        cursor: a byte offset between two lines.
        line_count: at most so many.
        is_following: which side of the cursor to read.
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        at = size if cursor is None else min(cursor, size)
        if line_count == 0:
            return LogLines(b"", 0, at, at)
        if is_following and cursor is not None:
            file.seek(at)
            lines = _lines(file.read(BYTES_MAX))[:line_count]
            content = b"".join(lines)
            return LogLines(content, len(lines), at, at + len(content))
        start = at
        content = b""
        while start > 0 and content.count(b"\n") <= line_count and len(content) < BYTES_MAX:
            block = min(_BLOCK_BYTES, start)
            start -= block
            file.seek(start)
            content = file.read(block) + content
    lines = _lines(content)
    if start > 0 and len(lines) > line_count:
        lines = lines[1:]  # the first may have begun before what was read
    content = b"".join(lines[-line_count:])
    return LogLines(content, len(lines[-line_count:]), at - len(content), at)


def _lines(content: bytes) -> list[bytes]:
    """Each with its end. Not `splitlines`: a progress bar puts carriage returns in one line."""
    return re.findall(rb"[^\n]*\n|[^\n]+", content)
