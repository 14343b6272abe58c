"""What a server finds in a jobs folder: the lock, the nodes' program, what lives, and what ended.

Everything here blocks: call it in a thread.
"""

import os
import stat
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import structlog

from muster.engines import slurmjob
from muster.engines.attemptfiles import LIVE_FOLDER, count_tasks, take_lock
from muster.engines.engine import EngineRef, Observation
from muster.engines.slurmattempt import Attempt
from muster.engines.slurmfiles import JobEnd, JobFiles, read_files, read_hosts
from muster.engines.slurmjudge import judge_attempt
from muster.engines.slurmsubmit import put_program

log = structlog.get_logger()


def take_over(jobs_folder: Path) -> tuple[int, Path, list[Attempt]]:
    """Become the one server of a jobs folder: its lock, the nodes' program, and what lives."""
    jobs_folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    (jobs_folder / LIVE_FOLDER).mkdir(exist_ok=True)
    lock_fd = take_lock(jobs_folder)
    try:
        return lock_fd, put_program(jobs_folder), find_live(jobs_folder)
    except BaseException:
        os.close(lock_fd)
        raise


def find_live(jobs_folder: Path) -> list[Attempt]:
    """Every attempt that an earlier server has seen no end of."""
    attempts = []
    for mark in (jobs_folder / LIVE_FOLDER).iterdir():
        folder = jobs_folder / mark.name
        count = count_tasks(folder)
        if not count or not (folder / slurmjob.PLAN_FILE).exists():
            mark.unlink()  # that server ended before it had submitted anything
            continue
        # It may not have been submitted: then Slurm misses it, and it is submitted again.
        attempts.append(
            Attempt(
                id=mark.name,
                folder=folder,
                task_count=count,
                hosts=read_hosts(folder),
                submitted_at=time.monotonic(),
                was_tried=True,
                files=_read_or_nothing(folder, count),
            )
        )
    return attempts


def read_ended(jobs_folder: Path, refs: Collection[EngineRef]) -> dict[EngineRef, Observation]:
    """What became of attempts that nobody watches: they have ended, however that came."""
    found = {}
    for ref in refs:
        folder = jobs_folder / ref
        if count := count_tasks(folder):
            files = read_files(folder, count)
            end = files.end or JobEnd(state="COMPLETED", at_ms=0)
            found[ref] = judge_attempt(replace(files, end=end), task_count=count)
    return found


def _read_or_nothing(folder: Path, task_count: int) -> JobFiles:
    """One that cannot be looked into keeps no server from starting; it is looked at again."""
    try:
        return read_files(folder, task_count)
    except OSError as error:
        log.warning("attempt_unreadable", folder=str(folder), why=str(error))
        return JobFiles()
