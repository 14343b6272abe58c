"""Attempts of the local engine that may still change: as they were started, or found again.

A server that takes over a jobs folder finds what an earlier one has seen no end of.
"""

import asyncio
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from muster.domain.jobfolder import task_folder
from muster.engines import processes, shim
from muster.engines.attemptfiles import (
    ATTEMPT_FILE,
    LIVE_FOLDER,
    AttemptRecord,
    read_claim,
    read_state,
    take_lock,
)
from muster.engines.engine import Observation, TaskObservation, TaskState
from muster.engines.nursery import Nursery

OVER: Final = frozenset({TaskState.ENDED, TaskState.GONE})


@dataclass(slots=True)
class Task:
    """A task that may still change, as far as this server has seen it."""

    folder: Path
    seen: TaskObservation
    pidfd: int | None = None  # of its shim; None when that is not there, or not yet
    is_cleared: bool = False  # its shim is lost, and what that left behind has been ended
    clearing: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Attempt:
    """An attempt that may still change."""

    id: str
    folder: Path
    master_port: int
    tasks: list[Task]
    starting: asyncio.Task[None] | None = None  # until its shims have been given the word to go
    line: socket.socket | None = None  # on which shims say that they are up
    stop_grace_seconds: float | None = None  # a stop that came while it was being started
    stopping: asyncio.Lock = field(default_factory=asyncio.Lock)  # one writer of stop.json
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def observation(self) -> Observation:
        return Observation(tasks=tuple(task.seen for task in self.tasks))

    @property
    def is_over(self) -> bool:
        return all(task.seen.state in OVER for task in self.tasks)


def take_over(jobs_folder: Path) -> tuple[Nursery, list[Attempt]]:
    """Become the one server of a jobs folder, and find what lives in it."""
    jobs_folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    (jobs_folder / LIVE_FOLDER).mkdir(exist_ok=True)
    lock_fd = take_lock(jobs_folder)
    found = find_live(jobs_folder)
    return Nursery(jobs_folder, lock_fd=lock_fd), found


def find_live(jobs_folder: Path) -> list[Attempt]:
    """Every attempt that an earlier server has seen no end of."""
    attempts = []
    for mark in (jobs_folder / LIVE_FOLDER).iterdir():
        record = read_state(jobs_folder / mark.name / ATTEMPT_FILE, AttemptRecord)
        if record is None:
            mark.unlink()  # that server ended before the folder was ready: nothing was started
            continue
        attempts.append(
            Attempt(
                id=mark.name,
                folder=jobs_folder / mark.name,
                master_port=record.master_port,
                tasks=[
                    adopt_task(task_folder(jobs_folder / mark.name, index), index)
                    for index in range(record.task_count)
                ],
            )
        )
    return attempts


def adopt_task(folder: Path, index: int) -> Task:
    task = Task(folder=folder, seen=TaskObservation(index=index, state=TaskState.STARTING))
    claim = read_claim(folder)
    if claim is not None and claim.fenced_at_ms is None:
        task.pidfd = processes.open_process(claim.identity)
        # Nothing outlives the machine's own restart.
        task.is_cleared = claim.boot_id != shim.read_boot_id()
    return task
