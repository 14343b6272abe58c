"""An attempt that may still change: what is known of it, and what that comes to.

Nothing here asks or tells anybody: the engine does, by what it reads here.
"""

import asyncio
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from muster.engines import shim
from muster.engines.engine import Observation, TaskState
from muster.engines.slurmcommands import (
    NODE_FAILURES,
    NODES_AWAY,
    NOT_LAUNCHED,
    REQUEUED,
    SILENT,
    VANISHED,
    SlurmJob,
    name_of,
)
from muster.engines.slurmfiles import GONE_STATE, JobEnd, JobFiles
from muster.engines.slurmjudge import is_killed, judge_attempt
from muster.engines.slurmreasons import HOPELESS, explain
from muster.engines.slurmreuse import Kind

SUBMIT_AGAIN_SECONDS: Final = 5.0  # answered, but without a job that was submitted
MISSING_SECONDS: Final = 30.0  # likewise, of one that had begun
SETTLE_SECONDS: Final = 3.0  # for the claim of a job that has ended to arrive ...
RESULTS_SECONDS: Final = 30.0  # ... and for its results: a shared folder may lag behind
KILL_MARGIN_SECONDS: Final = 15.0  # after the grace time, until Slurm is told to end it all
KILL_AGAIN_SECONDS: Final = 30.0
FATE_SECONDS_MAX: Final = 30.0  # for which a kill waits to be explained while Slurm is silent
RENAME_SECONDS: Final = 5.0  # a job that has gone on to an attempt of less is not worth a call
AWAY_SECONDS: Final = 20.0  # for a node that is restarted; then others may have its work
HOPELESS_SECONDS: Final = 30.0  # for what an operator is changing to be changed whole
TOLD_SECONDS: Final = 3.0  # for which Slurm gives a reason until it is told: many pass at once
NODES_NAMED_MAX: Final = 4
REFUSED: Final = "REFUSED"  # ours: Slurm would hold it for ever
HELD_BY_SLURM: Final = frozenset({REFUSED, REQUEUED, NODES_AWAY})


@dataclass(slots=True)
class Attempt:
    """Times that no comment says otherwise of are monotonic."""

    id: str
    folder: Path
    task_count: int
    hosts: frozenset[str] = frozenset()  # that it is to run on; none: Slurm chooses
    kind: Kind | None = None  # of its job, where that waits for another attempt once this has ended
    submitted_at: float | None = None  # None: no answer to a submit yet
    was_tried: bool = False
    files: JobFiles = field(default_factory=JobFiles)
    judged: JobFiles | None = None  # those that `seen` comes from
    seen: Observation = field(default_factory=Observation)
    job: SlurmJob | None = None  # as of the last answer
    missing_since: float | None = None  # Slurm answers, and does not know the job
    over_since: float | None = None  # Slurm says that the job is over
    killed_since: dict[int, float] = field(default_factory=dict)  # by task; unexplained
    running_as_of: float = 0.0  # when Slurm was last asked that said Running
    begun_since: float | None = None  # when it was first seen that a job has it
    down: frozenset[str] = frozenset()  # of its hosts, those that take no work now
    away_since: float | None = None  # it waits, and one of its hosts is down or drained
    hopeless_since: float | None = None  # Slurm says that it can never run
    waits_for: str = ""  # Slurm's reason; "": it does not wait, or Slurm gives none
    waits_since: float = 0.0  # for just that
    settled: str = ""  # the state of its job that only news can change anything about; "": none
    was_renamed: bool = False  # its job, which ran another attempt before
    was_requeued: bool = False  # Slurm, or an operator, took it off its nodes to run it again
    starting: asyncio.Task[None] | None = None
    stop_grace_seconds: float | None = None  # a stop that came while it was being started
    kill_at: float | None = None
    stopping: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.take_in(self.files, time.monotonic())

    @property
    def name(self) -> str:
        return name_of(self.id)

    @property
    def job_names(self) -> set[str]:
        """What the Slurm job that runs it may be called: it may have run another attempt before."""
        claim = self.files.claim
        return {self.name, claim.job_name} if claim and claim.job_name else {self.name}

    @property
    def job_name(self) -> str:
        """What that job was called when last seen."""
        return self.job.name if self.job is not None else self.name

    @property
    def is_waiting(self) -> bool:
        """It waits in Slurm's own queue: there is nothing to be read yet."""
        return self.job is not None and self.job.state == "PENDING"

    def note_jobs(self, jobs: Sequence[SlurmJob], *, asked_at: float, now: float) -> list[str]:
        """Take in what Slurm says of it; return the ids of jobs that are one too many.

        They would end by themselves, but hold nodes till then.
        """
        claim = self.files.claim
        too_many: list[str] = []
        if claim is None or not claim.job_id:
            self.job = next((j for j in jobs if not j.is_over), jobs[0] if jobs else None)
        else:
            self.job = next((j for j in jobs if j.id == claim.job_id), None)
            too_many = [
                j.id for j in jobs if j.name == self.name and j.id != claim.job_id and not j.is_over
            ]
        if self.job is None:
            self.missing_since = self.missing_since or now
            self.over_since = self.hopeless_since = self.away_since = None
            return too_many
        self.missing_since = None
        if self.job.state == "RUNNING":
            self.running_as_of = asked_at
        # An answer from before it began says the same of one that has never run.
        self.was_requeued = self.is_waiting and asked_at > (self.begun_since or math.inf)
        self.over_since = (self.over_since or now) if self.job.is_over else None
        is_hopeless = self.is_waiting and self.job.reason in HOPELESS
        self.hopeless_since = (self.hopeless_since or now) if is_hopeless else None
        self._note_reason(self.job, now)
        return too_many

    def _note_reason(self, job: SlurmJob, now: float) -> None:
        """Tell why it waits, once that has been so for a moment."""
        reason = job.reason if job.state == "PENDING" and job.reason not in SILENT else ""
        if reason != self.waits_for:
            self.waits_for, self.waits_since = reason, now
        elif reason and now - self.waits_since >= TOLD_SECONDS:
            told = explain(reason)
            if told != self.seen.waiting:
                self.seen = replace(self.seen, waiting=told)

    def settle(self) -> None:
        """Find out whether it may be left alone until Slurm, or its folder, says something new."""
        job = self.job
        self.settled = job.state if job is not None and self._is_settled(job) else ""

    def _is_settled(self, job: SlurmJob) -> bool:
        """It runs, or waits and the reason is told; and nothing is to be done after some time."""
        if job.state != ("RUNNING" if self.files.has_begun else "PENDING"):
            return False
        clocks = (self.hopeless_since, self.away_since, self.kill_at, self.files.end)
        if self.killed_since or any(clock is not None for clock in clocks):
            return False
        if self.files.has_begun:
            return self.was_renamed or job.name == self.name
        return not self.waits_for or self.seen.waiting == explain(self.waits_for)

    def note_nodes(self, away: Collection[str], *, now: float) -> None:
        """Take in which nodes take no work. It must not wait for one while others are free."""
        self.down = self.hosts.intersection(away)
        is_stuck = self.is_waiting and bool(self.down)
        self.away_since = (self.away_since or now) if is_stuck else None

    def is_forgotten(self, now: float) -> bool:
        """Slurm has lost it before it began: it may be submitted again."""
        return (
            self.files.end is None
            and not self.files.has_begun
            and self.missing_since is not None
            and now - self.missing_since >= SUBMIT_AGAIN_SECONDS
        )

    def fate(self, now: float) -> JobEnd | None:
        """The end of a job that Slurm has ended, or lost; None: not yet, or known before."""
        if self.files.end is not None:
            return None
        if self.was_requeued:
            return JobEnd(state=REQUEUED, at_ms=shim.now_ms(), message="Slurm requeued the job.")
        if self.away_since is not None and now - self.away_since >= AWAY_SECONDS:
            message = f"Nodes that it was to run on are down or drained: {_named(self.down)}."
            return JobEnd(state=NODES_AWAY, at_ms=shim.now_ms(), message=message)
        if self.hopeless_since is not None and now - self.hopeless_since >= HOPELESS_SECONDS:
            assert self.job is not None
            why = f"{HOPELESS[self.job.reason]} ({self.job.reason})"
            message = f"Slurm can never run it: {why}."
            return JobEnd(state=REFUSED, at_ms=shim.now_ms(), message=message)
        if self.over_since is not None and self.job is not None:
            is_sure = not self.files.has_begun or self.job.state in VANISHED
            seconds = SETTLE_SECONDS if is_sure else RESULTS_SECONDS
            if now - self.over_since < seconds and not self.files.is_complete:
                return None
            why = f" ({self.job.reason})" if self.job.reason not in SILENT else ""
            message = f"Slurm ended the job: {self.job.state}{why}."
            if self.job.state in NODE_FAILURES and self.down:
                message += f" Down or drained are now: {_named(self.down)}."
            elif self.job.state in NODE_FAILURES and self.hosts:
                message += " Its nodes were up when last seen: its partition may have been removed."
            state = NOT_LAUNCHED if self._was_not_launched(self.job) else self.job.state
            return JobEnd(state=state, at_ms=shim.now_ms(), message=message)
        is_lost = self.missing_since is not None and now - self.missing_since >= MISSING_SECONDS
        if self.files.has_begun and is_lost:
            return JobEnd(state=GONE_STATE, at_ms=shim.now_ms(), message="Slurm has lost the job.")
        return None

    def _was_not_launched(self, job: SlurmJob) -> bool:
        """Its node has refused it, and Slurm has cancelled it for that.

        A controller that has crashed hands job ids out again. A node that still has a job of that
        id refuses the new one and is drained; Slurm may not requeue the job, and cancels it. What
        somebody cancels has waited, and was given no nodes yet, or has begun.
        """
        return job.state == "CANCELLED" and bool(job.nodes) and not self.files.has_begun

    def is_to_be_renamed(self, now: float) -> bool:
        """It runs on in a job that bears another's name; said once."""
        begun = self.begun_since is not None and now - self.begun_since >= RENAME_SECONDS
        if self.was_renamed or not begun or self.job is None or self.job.state != "RUNNING":
            return False
        self.was_renamed = self.job.name != self.name
        return self.was_renamed

    def is_to_be_killed(self, now: float) -> bool:
        """It was asked to end, and has not, for too long; counted from now on again."""
        is_over = self.job is not None and self.job.is_over
        if self.kill_at is None or now < self.kill_at or is_over:
            return False
        self.kill_at = now + KILL_AGAIN_SECONDS
        return True

    def kill_after(self, grace_seconds: float, now: float) -> None:
        kill_at = now + grace_seconds + KILL_MARGIN_SECONDS
        self.kill_at = min(kill_at, self.kill_at or kill_at)
        self.settled = ""

    def take_in(self, files: JobFiles, now: float) -> bool:
        """Judge it again; tell whether it has changed."""
        if files is self.judged and not self.killed_since:
            return False
        self.files = self.judged = files
        self.settled = ""
        if files.has_begun:
            self.begun_since = self.begun_since or now
        judged = judge_attempt(files, task_count=self.task_count)
        if not files.has_begun:
            judged = replace(judged, waiting=self.seen.waiting)
        before, self.seen = self.seen, self._hold_unexplained(judged, now)
        return self.seen != before

    def _hold_unexplained(self, seen: Observation, now: float) -> Observation:
        """Let a task that was killed run on until it is known whether Slurm has killed the job.

        A node that fails, or a job of more weight, ends all tasks of a job by signals. That is not
        what went wrong with the user's program, and must not be told as if it were.
        """
        if self.files.end is not None:
            return seen
        tasks = []
        for task in seen.tasks:
            if is_killed(task):
                since = self.killed_since.setdefault(task.index, now)
                is_user_kill = self.running_as_of > since
                if not is_user_kill and now - since < FATE_SECONDS_MAX:
                    task = replace(task, state=TaskState.RUNNING, exit_code=None, ended_at_ms=None)
            tasks.append(task)
        return replace(seen, tasks=tuple(tasks))


def _named(nodes: Collection[str]) -> str:
    """`n1, n2`; of many the first ones."""
    names = sorted(nodes)
    more = f" and {len(names) - NODES_NAMED_MAX} more" if len(names) > NODES_NAMED_MAX else ""
    return ", ".join(names[:NODES_NAMED_MAX]) + more
