"""What the folder of an attempt says of it on Slurm, and how it is written down there.

`slurmjob.py` names the files. Everything here blocks: call it in a thread.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import is_
from pathlib import Path
from typing import Final

import msgspec

from muster.domain.jobfolder import task_folder
from muster.engines import shim, slurmjob
from muster.engines.attemptfiles import (
    Claim,
    Result,
    ask_to_stop,
    count_tasks,
    read_claim,
    read_result,
    read_state,
)
from muster.engines.slurmcommands import VANISHED

GONE_STATE: Final = "MISSING"  # ours: Slurm does not know the job any more


class JobClaim(msgspec.Struct, frozen=True):
    """Which Slurm job runs an attempt, or that none ever may."""

    job_id: str = ""
    job_name: str = ""  # of the attempt that the job was submitted for
    awaits_inputs: bool = False  # it starts its tasks once they are there
    fenced_at_ms: int | None = None  # it was stopped before it came up
    ended_at_ms: int | None = None  # Slurm ended it before it came up


class JobEnd(msgspec.Struct, frozen=True):
    """How Slurm ended a job."""

    state: str
    at_ms: int
    message: str = ""

    @property
    def is_loss(self) -> bool:
        """Neither the job nor anybody who may stop it has ended it: its nodes have."""
        return self.state in VANISHED or self.state == GONE_STATE


class Group(msgspec.Struct, frozen=True):
    """Tasks that share a node."""

    host: str  # "": Slurm chooses
    tasks: list[int]


class Plan(msgspec.Struct, frozen=True):
    """What was submitted, as far as the engine reads it again."""

    attempt_id: str
    submit: list[str]
    groups: list[Group] = []
    reuse_seconds: int = 0  # 0: its job runs nothing else, and it runs in no other's
    wait_seconds: float = 0.0  # for which its job waits for another attempt


@dataclass(frozen=True, slots=True)
class TaskFiles:
    claim: Claim | None = None
    result: Result | None = None
    is_gone: bool = False  # its shim ended without a result

    @property
    def has_come_up(self) -> bool:
        is_fenced = self.claim is not None and self.claim.fenced_at_ms is not None
        return self != TaskFiles() and not is_fenced

    @property
    def is_final(self) -> bool:
        """Nothing more will be written of it."""
        return self.result is not None or (
            self.claim is not None and self.claim.fenced_at_ms is not None
        )


@dataclass(frozen=True, slots=True)
class JobFiles:
    """Everything that the folder of an attempt says of it."""

    claim: JobClaim | None = None
    end: JobEnd | None = None
    tasks: tuple[TaskFiles, ...] = ()

    @property
    def has_begun(self) -> bool:
        """A job of Slurm's has it, or had it."""
        return self.claim is not None and bool(self.claim.job_id)

    @property
    def awaits_inputs(self) -> bool:
        """A job of Slurm's has it, and has started none of its tasks yet."""
        is_fed = any(task.has_come_up for task in self.tasks)
        return self.claim is not None and self.claim.awaits_inputs and not is_fed

    @property
    def is_complete(self) -> bool:
        """Every task has told its end."""
        return bool(self.tasks) and all(task.result is not None for task in self.tasks)


def read_files(folder: Path, task_count: int) -> JobFiles:
    """Everything, of an attempt that nothing is known of yet."""
    # The end first: whoever ended a job writes nothing after that.
    end = read_state(folder / slurmjob.END_FILE, JobEnd)
    return read_more(folder, JobFiles(end=end), task_count)


def read_more(folder: Path, known: JobFiles, task_count: int) -> JobFiles:
    """What has come since. The same object where nothing has: a look at one that runs is cheap.

    A claim and a result are made once, whole, and never changed: what is known stays known. The end
    of a job is not looked for: only the engine itself writes it down.
    """
    if known.tasks and not _has_more(str(folder), known.tasks):
        return known
    claim = known.claim or read_state(folder / slurmjob.CLAIM_FILE, JobClaim)
    if claim is None or not claim.job_id:
        return known if claim is known.claim else replace(known, claim=claim)
    before = known.tasks or (TaskFiles(),) * task_count
    tasks = tuple(
        task if task.is_final else _read_task(task_folder(folder, index), task)
        for index, task in enumerate(before)
    )
    if claim is known.claim and all(map(is_, tasks, before)) and known.tasks:
        return known
    return replace(known, claim=claim, tasks=tasks)


def _has_more(folder: str, tasks: Sequence[TaskFiles]) -> bool:
    """Whether there is anything to be read of an attempt whose tasks are known to run.

    Of thousands, five times a second, nearly none has: no path is put together from parts, and
    nothing is raised for a file that is not there.
    """
    for index, task in enumerate(tasks):
        if task.is_final:
            continue
        if task.claim is None:
            return True
        if os.access(f"{folder}/task-{index}/{shim.EXIT_FILE}", os.F_OK):
            return True
        if not task.is_gone and os.access(f"{folder}/task-{index}/{slurmjob.GONE_FILE}", os.F_OK):
            return True
    return False


def _read_task(folder: Path, known: TaskFiles) -> TaskFiles:
    text = f"{folder}/"
    claim = known.claim or read_claim(folder)
    result = read_result(folder) if os.path.lexists(text + shim.EXIT_FILE) else None
    is_gone = known.is_gone or os.path.lexists(text + slurmjob.GONE_FILE)
    if claim is known.claim and result is None and is_gone == known.is_gone:
        return known
    return TaskFiles(claim=claim, result=result, is_gone=is_gone)


def read_hosts(folder: Path) -> frozenset[str]:
    """The nodes that an attempt was submitted to; none where Slurm chooses."""
    plan = read_state(folder / slurmjob.PLAN_FILE, Plan)
    named = [group.host for group in plan.groups if group.host] if plan is not None else []
    return frozenset(named)


def stop_tasks(folder: Path, grace_seconds: float) -> bool:
    """Keep an attempt from coming up, or ask what has come up to end; True for the first."""
    count = count_tasks(folder)
    if not count:
        return False
    content: slurmjob.Json = {"fenced_at_ms": shim.now_ms()}
    if shim.claim(str(folder), content, slurmjob.CLAIM_FILE):
        return True
    claim = read_state(folder / slurmjob.CLAIM_FILE, JobClaim)
    if claim is not None and not claim.job_id:
        return True
    folders = [task_folder(folder, index) for index in range(count)]
    ask_to_stop([task for task in folders if read_result(task) is None], grace_seconds)
    return False


def write_end(folder: Path, end: JobEnd, *, has_begun: bool) -> bool:
    """Write down how Slurm ended a job; one that has not begun is kept from it first.

    False: it has begun meanwhile, and nothing was written. The next look sees it.
    """
    content = {"ended_at_ms": end.at_ms}
    if not has_begun and not shim.claim(str(folder), content, slurmjob.CLAIM_FILE):
        claim = read_state(folder / slurmjob.CLAIM_FILE, JobClaim)
        if claim is None or claim.ended_at_ms is None:
            return False
    shim.write_json(str(folder / slurmjob.END_FILE), msgspec.to_builtins(end))
    return True


def read_many(
    which: Sequence[tuple[Path, JobFiles, int]],
) -> list[JobFiles | OSError]:
    """`read_more` of each; one whose folder cannot be looked into does not hide the others."""
    found: list[JobFiles | OSError] = []
    for folder, known, task_count in which:
        try:
            found.append(read_more(folder, known, task_count))
        except OSError as error:
            found.append(error)
    return found
