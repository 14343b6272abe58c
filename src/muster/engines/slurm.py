"""Hands workloads to a Slurm cluster, and tells what became of them.

An attempt is one Slurm job, named after it. Slurm's job ids name nothing here: a controller that
crashes forgets jobs, and hands their ids out again. What is true of a task lies in the files that
its shim writes into the job folder, which every node shares; Slurm is asked, for all jobs at once,
whether they are still there. `slurmjob.py` is the part that runs on the nodes.

Nothing that Slurm does twice, forgets or answers too late starts an attempt twice: the job that
links `slurm-claim.json` first runs it, and every other one ends. So a submit of which nothing is
known is simply made again.
"""

import asyncio
import hashlib
import math
import os
import shlex
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import msgspec
import structlog

from muster.domain.errors import EngineRefused, EngineUnavailable, LogNotReady
from muster.domain.jobfolder import log_file, task_folder
from muster.engines import environment, shim, slurmjob
from muster.engines.attemptfiles import (
    LIVE_FOLDER,
    STOPPED_EXIT_CODE,
    Claim,
    Result,
    ask_to_stop,
    count_tasks,
    judge,
    prepare,
    read_claim,
    read_part,
    read_result,
    read_state,
    remove,
    take_lock,
    unmark_live,
)
from muster.engines.background import Background
from muster.engines.engine import (
    LOG_CHUNK_BYTES_MAX,
    EngineRef,
    Health,
    HostCondition,
    Launch,
    Observation,
    Sample,
    TaskObservation,
    TaskState,
    TaskUsage,
)
from muster.engines.slurmcommands import (
    VANISHED,
    SlurmCluster,
    SlurmCommands,
    SlurmJob,
    attempt_of,
    name_of,
    partition_for,
)

FILES_SECONDS: Final = 0.2  # between two looks into the folders of what runs
JOBS_SECONDS: Final = 0.5  # between two questions to Slurm while anything may change ...
ANSWER_SHARE: Final = 4.0  # ... but not before so many times as long as the answer took
CLUSTER_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 15.0  # without an answer, until its nodes count as down
SUBMIT_AGAIN_SECONDS: Final = 5.0  # answered, but without a job that was submitted
MISSING_SECONDS: Final = 30.0  # likewise, of one that had begun
SETTLE_SECONDS: Final = 3.0  # for the claim of a job that has ended to arrive ...
RESULTS_SECONDS: Final = 30.0  # ... and for its results: a shared folder may lag behind
KILL_MARGIN_SECONDS: Final = 15.0  # after the grace time, until Slurm is told to end it all
KILL_AGAIN_SECONDS: Final = 30.0
FATE_SECONDS_MAX: Final = 30.0  # for which a kill waits to be explained while Slurm is silent
TIME_LIMIT_MARGIN_MINUTES: Final = 5  # Slurm's own limit is the net below the platform's
REMEMBERED_MAX: Final = 10_000
PROGRAMS_FOLDER: Final = ".programs"
LEAST_MEMORY_MIB: Final = 256
NEVER_CAME_UP_EXIT_CODE: Final = 126
GONE_STATE: Final = "MISSING"  # ours: Slurm does not know the job any more
_ENDS_BY_ITSELF: Final = frozenset({"COMPLETED", "FAILED"})
_KILLS: Final = frozenset({128 + 15, 128 + 9})

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class JobClaim(msgspec.Struct, frozen=True):
    """Which Slurm job runs an attempt, or that none ever may."""

    job_id: str = ""
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


class Plan(msgspec.Struct, frozen=True):
    """What was submitted, as far as the engine reads it again."""

    attempt_id: str
    submit: list[str]


class Group(msgspec.Struct, frozen=True):
    """Tasks that share a node."""

    host: str  # "": Slurm chooses
    tasks: list[int]


class Usage(msgspec.Struct, frozen=True):
    """What the processes of a task have used up to a moment."""

    at_ms: int
    cpu_ms: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class TaskFiles:
    claim: Claim | None
    result: Result | None
    is_gone: bool  # its shim ended without a result


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
    def is_complete(self) -> bool:
        """Every task has told its end."""
        return bool(self.tasks) and all(task.result is not None for task in self.tasks)


@dataclass(slots=True)
class _Attempt:
    """An attempt that may still change."""

    id: str
    folder: Path
    task_count: int
    submitted_at: float | None = None  # monotonic; None: no answer to a submit yet
    was_tried: bool = False
    files: JobFiles = field(default_factory=JobFiles)
    seen: Observation = field(default_factory=Observation)
    job: SlurmJob | None = None  # as of the last answer
    missing_since: float | None = None  # monotonic; Slurm answers, and does not know the job
    over_since: float | None = None  # monotonic; Slurm says that the job is over
    killed_since: dict[int, float] = field(default_factory=dict)  # monotonic, by task; unexplained
    running_as_of: float = 0.0  # monotonic; when Slurm was last asked that said Running
    starting: asyncio.Task[None] | None = None
    stop_grace_seconds: float | None = None  # a stop that came while it was being started
    kill_at: float | None = None  # monotonic
    stopping: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return name_of(self.id)

    @property
    def is_waiting(self) -> bool:
        """It waits in Slurm's own queue: there is nothing to be read yet."""
        return self.job is not None and self.job.state == "PENDING"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmOptions:
    """What a cluster asks of those who use it."""

    partition: str | None = None  # None: the pool's own, else the default, else one with the nodes
    partitions_of_pools: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    qos: str | None = None
    python: str = "python3"  # on the nodes; 3.11 or later
    usage_seconds: float = 5.0  # between two looks of a node at what its tasks use

    def arguments(self) -> Iterator[str]:
        if self.account:
            yield f"--account={self.account}"
        if self.qos:
            yield f"--qos={self.qos}"


class SlurmEngine:
    """Keeps the promises of `engine.Engine`. The reference of an attempt is its id.

    The folder of a launch must be `jobs_folder / attempt_id`, on storage that every node shares.
    """

    name = "slurm"

    def __init__(
        self, jobs_folder: Path, commands: SlurmCommands, options: SlurmOptions | None = None
    ) -> None:
        self._jobs_folder = jobs_folder.absolute()
        self._commands = commands
        self._options = options or SlurmOptions()
        self._attempts: dict[str, _Attempt] = {}
        self._remembered: OrderedDict[str, Observation] = OrderedDict()
        self._to_cancel: dict[str, float] = {}  # names of jobs that must not run; when last told
        self._strangers: set[str] = set()  # names of jobs that are not ours to end
        self._usage: dict[tuple[EngineRef, int], Usage] = {}
        self._cluster: SlurmCluster | None = None
        self._version = "Slurm"
        self._answered_at: float | None = None  # monotonic
        self._trouble = ""
        self._is_open = False

    async def open(self, on_change: Callable[[], None]) -> None:
        """Find what was started before, and begin to watch it. Slurm may be away meanwhile.

        Raises:
            EngineUnavailable: another server has the folder.
        """
        assert not self._is_open, "open() twice"
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._background = Background("Slurm", self._jobs_folder)
        try:
            self._lock_fd, self._program, found = await self._background.in_thread(
                take_over, self._jobs_folder
            )
        except BaseException:
            self._background.close()
            raise
        self._is_open = True
        self._opened_at = time.monotonic()
        for attempt in found:
            self._attempts[attempt.id] = attempt
        await self._read(found)
        self._watchers = [
            self._loop.create_task(self._forever(step, seconds))
            for step, seconds in (
                (self._look_at_files, FILES_SECONDS),
                (self._ask_for_jobs, JOBS_SECONDS),
                (self._ask_for_cluster, CLUSTER_SECONDS),
            )
        ]
        on_change()

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._background.finish()
        self._attempts.clear()
        self._remembered.clear()
        os.close(self._lock_fd)
        self._background.close()

    async def start(self, launch: Launch) -> EngineRef:
        attempt = self._attempts.get(launch.attempt_id)
        if attempt is None and not (launch.folder / slurmjob.PLAN_FILE).exists():
            attempt = self._begin(launch)
        if attempt is not None and attempt.starting is None and attempt.submitted_at is None:
            attempt.starting = self._background.begin(self._start_again(attempt))
        if attempt is not None and attempt.starting is not None:
            # Shielded: who gives up waiting must not leave half an attempt behind.
            await asyncio.shield(attempt.starting)
        return EngineRef(launch.attempt_id)

    async def find(self, attempt_id: str, folder: Path) -> EngineRef | None:
        if attempt_id in self._attempts or (folder / slurmjob.PLAN_FILE).exists():
            return EngineRef(attempt_id)
        return None

    async def observe(self, refs: Collection[EngineRef]) -> Mapping[EngineRef, Observation]:
        """As their folders say now. What Slurm alone knows may be old while it is away."""
        live = [attempt for ref in refs if (attempt := self._attempts.get(ref)) is not None]
        await self._read(live)
        known = {ref: seen for ref in refs if (seen := self._find_known(ref)) is not None}
        unread = [ref for ref in refs if ref not in known]
        if unread:
            for ref, seen in (await self._background.in_thread(self._read_ended, unread)).items():
                # What was started while we read is known better by now.
                known[ref] = self._find_known(ref) or seen
                if ref not in self._attempts:
                    self._remember(ref, known[ref])
        return {ref: known.get(ref, Observation()) for ref in refs}

    async def stop(self, ref: EngineRef, grace_seconds: float) -> None:
        attempt = self._attempts.get(ref)
        if attempt is None:
            if await self._background.in_thread(stop_tasks, self._jobs_folder / ref, grace_seconds):
                self._to_cancel.setdefault(name_of(ref), 0.0)
            return
        if attempt.starting is not None:
            earlier = attempt.stop_grace_seconds
            attempt.stop_grace_seconds = min(
                grace_seconds, grace_seconds if earlier is None else earlier
            )
            return
        await self._stop(attempt, grace_seconds)

    async def read_log(
        self, ref: EngineRef, task_index: int, offset: int, limit: int
    ) -> tuple[bytes, int]:
        file = log_file(self._jobs_folder / ref, task_index)
        data = await self._background.in_thread(
            read_part, file, offset, min(limit, LOG_CHUNK_BYTES_MAX)
        )
        if data is None:
            raise LogNotReady(f"Task {task_index} has written no log yet. Ask again later.")
        return data, offset + len(data)

    async def forget(self, ref: EngineRef) -> None:
        if ref in self._attempts:
            return  # it runs
        self._remembered.pop(ref, None)
        await self._background.in_thread(remove, self._jobs_folder, ref)

    async def observe_hosts(self) -> Mapping[str, HostCondition]:
        """As Slurm said last; while it is silent, no node of its can be given work."""
        if self._cluster is None:
            return {}
        silence = self._silence
        return {
            node.name: HostCondition(
                is_up=node.is_up and not silence, message=silence or node.message
            )
            for node in self._cluster.nodes
        }

    async def sample(self, hosts: Collection[str]) -> Sample:
        """What tasks use; of the nodes themselves Slurm keeps no measure that could be trusted."""
        running = [
            (EngineRef(attempt.id), task.index, task_folder(attempt.folder, task.index))
            for attempt in self._attempts.values()
            for task in attempt.seen.tasks
            if task.state is TaskState.RUNNING
        ]
        read = await self._background.in_thread(
            lambda: [read_state(f / slurmjob.USAGE_FILE, Usage) for _, _, f in running]
        )
        before, self._usage = self._usage, {}
        tasks = []
        for (ref, index, _), usage in zip(running, read, strict=True):
            cpu_millis = None
            if usage is not None:
                known = before.get((ref, index))
                cpu_millis = mean_cpu_millis(known, usage)
                # The node may not have looked again yet: then the mean counts from where it did.
                self._usage[ref, index] = usage if cpu_millis is not None else known or usage
            memory_mib = None if usage is None else usage.memory_mib
            tasks.append(
                TaskUsage(ref=ref, index=index, cpu_millis=cpu_millis, memory_mib=memory_mib)
            )
        return Sample(hosts={}, tasks=tuple(tasks))

    async def health(self) -> Health:
        if not self._is_open:
            return Health(
                is_reachable=False, version=self._version, message="The engine is not open."
            )
        if not os.access(self._jobs_folder, os.W_OK):
            message = f"{self._jobs_folder} cannot be written; make it writable for this server."
            return Health(is_reachable=False, version=self._version, message=message)
        silence = self._silence
        return Health(is_reachable=not silence, version=self._version, message=silence)

    @property
    def _silence(self) -> str:
        """What is wrong with Slurm; "" while it answers."""
        quiet = time.monotonic() - (self._answered_at or self._opened_at)
        if quiet < SILENCE_SECONDS:
            return ""
        return f"Slurm has not answered for {round(quiet)} s. {self._trouble}".strip()

    def _begin(self, launch: Launch) -> _Attempt:
        """Enter the attempt, so that every other call sees it from now on, and start it."""
        assert self._is_open, "start() before open()"
        assert launch.folder.absolute() == self._jobs_folder / launch.attempt_id, launch.folder
        assert launch.argv, "a launch has a command"
        if launch.code is not None and not launch.code.is_dir():
            raise EngineRefused(f"There is no code folder {launch.code} any more. Submit it again.")
        attempt = _Attempt(
            id=launch.attempt_id, folder=launch.folder.absolute(), task_count=len(launch.tasks)
        )
        attempt.seen = judge_attempt(attempt.files, task_count=attempt.task_count)
        self._attempts[attempt.id] = attempt
        attempt.starting = self._background.begin(self._start(launch, attempt))
        return attempt

    async def _start(self, launch: Launch, attempt: _Attempt) -> None:
        wanted = self._options.partitions_of_pools.get(launch.partition)
        partition = wanted or self._options.partition
        if self._cluster is not None:
            partition = partition_for(launch.host_names, self._cluster, partition)
        try:
            await self._background.in_thread(
                lay_out, launch, self._jobs_folder, self._program, self._options, partition
            )
        except BaseException:
            self._drop(attempt)
            raise
        await self._start_again(attempt)

    async def _start_again(self, attempt: _Attempt) -> None:
        try:
            await self._submit(attempt)
        except EngineRefused:
            # As if it had never been: nothing has been started, and nothing will be.
            await self._background.in_thread(remove, self._jobs_folder, attempt.id)
            self._drop(attempt)
            raise
        except EngineUnavailable:
            if attempt.stop_grace_seconds is None:
                raise
        finally:
            attempt.starting = None
        if attempt.stop_grace_seconds is not None:
            await self._stop(attempt, attempt.stop_grace_seconds)
        self._on_change()

    async def _submit(self, attempt: _Attempt) -> None:
        """Submit the job, unless an earlier submit turns out to have reached Slurm."""
        plan = await self._background.in_thread(
            read_state, attempt.folder / slurmjob.PLAN_FILE, Plan
        )
        if plan is None:
            raise EngineUnavailable(f"The plan in {attempt.folder} cannot be read.")
        if attempt.was_tried:
            known = await self._commands.list_jobs(attempt.name)
            if any(not job.is_over for job in known):
                attempt.submitted_at = time.monotonic()
                return
        attempt.was_tried = True
        await self._commands.submit(plan.submit)
        attempt.submitted_at = time.monotonic()
        attempt.missing_since = None

    def _drop(self, attempt: _Attempt) -> None:
        self._attempts.pop(attempt.id, None)

    async def _stop(self, attempt: _Attempt, grace_seconds: float) -> None:
        async with attempt.stopping:
            has_fenced = await self._background.in_thread(stop_tasks, attempt.folder, grace_seconds)
        if has_fenced:
            self._to_cancel.setdefault(attempt.name, 0.0)
        else:
            # The nodes see to it themselves, the controller up or not. Should they not:
            kill_at = time.monotonic() + grace_seconds + KILL_MARGIN_SECONDS
            attempt.kill_at = min(kill_at, attempt.kill_at or kill_at)
        await self._read([attempt])

    # What is seen

    async def _forever(self, step: Callable[[], Coroutine[None, None, None]], pause: float) -> None:
        while True:
            began = time.monotonic()
            next_seconds = pause
            try:
                await step()
                next_seconds = max(pause, ANSWER_SHARE * (time.monotonic() - began))
            except EngineUnavailable as error:
                if not self._trouble:
                    log.warning("slurm_away", why=error.message)
                self._trouble = error.message
            except Exception:  # a look that fails must not be the last one
                log.exception("slurm_engine_look_failed")
            await asyncio.sleep(next_seconds)

    async def _look_at_files(self) -> None:
        """Read the folders of what may have changed by itself."""
        await self._read([a for a in self._attempts.values() if not a.is_waiting])

    async def _read(self, attempts: Sequence[_Attempt]) -> None:
        if not attempts:
            return
        read = await self._background.in_thread(
            lambda: [read_files(a.folder, a.task_count) for a in attempts]
        )
        for attempt, files in zip(attempts, read, strict=True):
            self._take_in(attempt, files)

    async def _ask_for_jobs(self) -> None:
        if not self._attempts and not self._to_cancel:
            return
        asked_at = time.monotonic()
        submitted = {a.id for a in self._attempts.values() if a.submitted_at is not None}
        jobs: dict[str, list[SlurmJob]] = {}
        for job in await self._commands.list_jobs():
            jobs.setdefault(job.name, []).append(job)
        self._note_answer()
        for attempt in list(self._attempts.values()):
            # One that was submitted while Slurm was listing may be missing for that reason.
            if attempt.id in submitted and attempt.starting is None:
                await self._note_jobs(attempt, jobs.get(attempt.name, ()), asked_at)
        await self._cancel_unwanted(jobs)

    async def _note_jobs(
        self, attempt: _Attempt, jobs: Sequence[SlurmJob], asked_at: float
    ) -> None:
        """Take in what Slurm says of an attempt."""
        now = time.monotonic()
        claim = attempt.files.claim
        if claim is None or not attempt.files.has_begun:
            attempt.job = next((j for j in jobs if not j.is_over), jobs[0] if jobs else None)
        else:
            attempt.job = next((j for j in jobs if j.id == claim.job_id), None)
            for job in jobs:
                if job.id != claim.job_id and not job.is_over:
                    # Submitted twice. It would end by itself, but hold nodes till then.
                    await self._commands.cancel(attempt.name, job.id)
        if attempt.job is None:
            attempt.missing_since = attempt.missing_since or now
        else:
            attempt.missing_since = None
            if attempt.job.state == "RUNNING":
                attempt.running_as_of = asked_at
        is_over = attempt.job is not None and attempt.job.is_over
        attempt.over_since = (attempt.over_since or now) if is_over else None
        await self._settle_fate(attempt, now)
        if attempt.kill_at is not None and now >= attempt.kill_at and not is_over:
            attempt.kill_at = now + KILL_AGAIN_SECONDS
            await self._commands.cancel(attempt.name)

    async def _settle_fate(self, attempt: _Attempt, now: float) -> None:
        """Write down the end of a job that Slurm has ended, or lost."""
        files = attempt.files
        has_begun = files.has_begun
        if files.end is not None:
            return
        if attempt.over_since is not None:
            assert attempt.job is not None
            is_sure = not has_begun or attempt.job.state in VANISHED
            seconds = SETTLE_SECONDS if is_sure else RESULTS_SECONDS
            if now - attempt.over_since < seconds and not files.is_complete:
                return
            end = JobEnd(
                state=attempt.job.state,
                at_ms=shim.now_ms(),
                message=f"Slurm ended the job: {attempt.job.state}"
                f"{f' ({attempt.job.reason})' if attempt.job.reason != 'None' else ''}.",
            )
        elif attempt.missing_since is None:
            return
        elif not has_begun and now - attempt.missing_since >= SUBMIT_AGAIN_SECONDS:
            log.warning("slurm_lost_a_job", attempt_id=attempt.id)
            attempt.missing_since = None  # should it not come to be, it is missed anew
            attempt.starting = self._background.begin(self._submit_lost(attempt))
            return
        elif has_begun and now - attempt.missing_since >= MISSING_SECONDS:
            end = JobEnd(state=GONE_STATE, at_ms=shim.now_ms(), message="Slurm has lost the job.")
        else:
            return
        await self._background.in_thread(write_end, attempt.folder, end, has_begun=has_begun)

    async def _submit_lost(self, attempt: _Attempt) -> None:
        """Once more, what Slurm has lost before it began."""
        try:
            await self._start_again(attempt)
        except EngineRefused as refused:
            log.warning("slurm_refuses_a_lost_job", attempt_id=attempt.id, why=refused.message)

    async def _cancel_unwanted(self, jobs: Mapping[str, Sequence[SlurmJob]]) -> None:
        """End what was stopped before it came up, by an earlier server too."""
        for name, rows in jobs.items():
            is_known = attempt_of(name) in self._attempts or name in self._to_cancel
            if is_known or name in self._strangers or all(row.is_over for row in rows):
                continue
            folder = self._jobs_folder / attempt_of(name)
            claim = await self._background.in_thread(
                read_state, folder / slurmjob.CLAIM_FILE, JobClaim
            )
            if claim is not None and not claim.job_id:
                self._to_cancel[name] = 0.0
            else:
                self._strangers.add(name)  # another server's, or one that is about to end
        now = time.monotonic()
        for name, told_at in list(self._to_cancel.items()):
            if all(row.is_over for row in jobs.get(name, ())):
                del self._to_cancel[name]
            elif now - told_at >= KILL_AGAIN_SECONDS:
                self._to_cancel[name] = now
                await self._commands.cancel(name)
        self._strangers &= jobs.keys()

    async def _ask_for_cluster(self) -> None:
        if self._answered_at is None:
            self._version = await self._commands.read_version()
        before, self._cluster = self._cluster, await self._commands.read_cluster()
        self._note_answer()
        if before != self._cluster:
            self._on_change()

    def _note_answer(self) -> None:
        if self._trouble:
            log.info("slurm_back")
        self._answered_at, self._trouble = time.monotonic(), ""

    def _take_in(self, attempt: _Attempt, files: JobFiles | None) -> None:
        """Judge an attempt again, and tell when it has changed."""
        if files is None or attempt.id not in self._attempts:
            return  # nothing is known, so nothing has changed; or it was dropped while we read
        attempt.files = files
        seen = judge_attempt(files, task_count=attempt.task_count)
        seen = self._hold_unexplained(attempt, seen)
        has_changed, attempt.seen = seen != attempt.seen, seen
        if seen.is_over and attempt.starting is None:
            self._drop(attempt)
            self._remember(attempt.id, seen)
            if files.end is None and files.claim is not None and not files.claim.job_id:
                self._to_cancel.setdefault(attempt.name, 0.0)
            with suppress(OSError):  # a mark that stays is read once more, and does no harm
                unmark_live(self._jobs_folder, attempt.id)
        if has_changed:
            self._on_change()

    def _hold_unexplained(self, attempt: _Attempt, seen: Observation) -> Observation:
        """Let a task that was killed run on until it is known whether Slurm has killed the job.

        A node that fails, or a job of more weight, ends all tasks of a job by signals. That is not
        what went wrong with the user's program, and must not be told as if it were.
        """
        now = time.monotonic()
        tasks = []
        for task in seen.tasks:
            is_killed = task.state is TaskState.ENDED and task.exit_code in _KILLS
            if is_killed and not task.was_stopped and attempt.files.end is None:
                since = attempt.killed_since.setdefault(task.index, now)
                is_user_kill = attempt.running_as_of > since
                if not is_user_kill and now - since < FATE_SECONDS_MAX:
                    task = replace(task, state=TaskState.RUNNING, exit_code=None, ended_at_ms=None)
            tasks.append(task)
        return Observation(tasks=tuple(tasks))

    def _find_known(self, ref: EngineRef) -> Observation | None:
        attempt = self._attempts.get(ref)
        return attempt.seen if attempt else self._remembered.get(ref)

    def _read_ended(self, refs: Collection[EngineRef]) -> dict[EngineRef, Observation]:
        found = {}
        for ref in refs:
            folder = self._jobs_folder / ref
            if count := count_tasks(folder):
                files = _read_files(folder, count)
                # It is not watched: it has ended, however that came.
                end = files.end or JobEnd(state="COMPLETED", at_ms=0)
                found[ref] = judge_attempt(replace(files, end=end), task_count=count)
        return found

    def _remember(self, attempt_id: str, seen: Observation) -> None:
        self._remembered[attempt_id] = seen
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)


def judge_attempt(files: JobFiles, *, task_count: int) -> Observation:
    """What is true of an attempt, by its files alone. Pure."""
    end = files.end
    if not files.has_begun:
        return Observation(
            tasks=tuple(_judge_not_begun(index, files.claim, end) for index in range(task_count))
        )
    return Observation(
        tasks=tuple(_judge_begun(index, task, end) for index, task in enumerate(files.tasks))
    )


def _judge_not_begun(index: int, claim: JobClaim | None, end: JobEnd | None) -> TaskObservation:
    if claim is not None and claim.fenced_at_ms is not None:
        return TaskObservation(
            index=index,
            state=TaskState.ENDED,
            exit_code=STOPPED_EXIT_CODE,
            was_stopped=True,
            ended_at_ms=claim.fenced_at_ms,
            message="It was stopped before it came up.",
        )
    if end is None:
        return TaskObservation(index=index, state=TaskState.STARTING)
    if end.is_loss:
        return TaskObservation(index=index, state=TaskState.GONE)
    return TaskObservation(
        index=index,
        state=TaskState.ENDED,
        exit_code=NEVER_CAME_UP_EXIT_CODE,
        ended_at_ms=end.at_ms,
        message=f"It never came up. {end.message}".strip(),
    )


def _judge_begun(index: int, task: TaskFiles, end: JobEnd | None) -> TaskObservation:
    if task.is_gone and task.result is None:
        started_at_ms = task.claim.started_at_ms if task.claim is not None else None
        return TaskObservation(index=index, state=TaskState.GONE, started_at_ms=started_at_ms)
    seen = judge(index, claim=task.claim, result=task.result, is_watched=end is None)
    is_killed = seen.exit_code in _KILLS and not seen.was_stopped
    if end is None or not is_killed or end.state in _ENDS_BY_ITSELF:
        return seen
    if end.is_loss:
        return TaskObservation(index=index, state=TaskState.GONE, started_at_ms=seen.started_at_ms)
    return replace(seen, message=seen.message or end.message)


def mean_cpu_millis(before: Usage | None, usage: Usage) -> int | None:
    """Thousandths of a CPU between two looks of the node; None where it has not looked twice."""
    if before is None or usage.at_ms <= before.at_ms:
        return None
    # A process that ends while the node looks is missing once, and is back with its parent's.
    gained = max(usage.cpu_ms - before.cpu_ms, 0)
    return round(1000 * gained / (usage.at_ms - before.at_ms))


# Files. Everything below blocks.


def take_over(jobs_folder: Path) -> tuple[int, Path, list[_Attempt]]:
    """Become the one server of a jobs folder: its lock, the nodes' program, and what lives."""
    jobs_folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    (jobs_folder / LIVE_FOLDER).mkdir(exist_ok=True)
    lock_fd = take_lock(jobs_folder)
    try:
        return lock_fd, put_program(jobs_folder), find_live(jobs_folder)
    except BaseException:
        os.close(lock_fd)
        raise


def put_program(jobs_folder: Path) -> Path:
    """Where the nodes find their program: under its digest, as queued jobs keep to theirs."""
    sources = [Path(str(module.__file__)) for module in (shim, slurmjob)]
    texts = [source.read_bytes() for source in sources]
    digest = hashlib.sha256(b"\0".join(texts)).hexdigest()[:12]
    folder = jobs_folder / PROGRAMS_FOLDER / digest
    folder.mkdir(parents=True, exist_ok=True)
    for source, text in zip(sources, texts, strict=True):
        draft = folder / f".{source.name}.{os.getpid()}"
        draft.write_bytes(text)
        draft.replace(folder / source.name)
    return folder / Path(slurmjob.__file__).name


def find_live(jobs_folder: Path) -> list[_Attempt]:
    """Every attempt that an earlier server has seen no end of."""
    attempts = []
    for mark in (jobs_folder / LIVE_FOLDER).iterdir():
        folder = jobs_folder / mark.name
        count = count_tasks(folder)
        if not count or not (folder / slurmjob.PLAN_FILE).exists():
            mark.unlink()  # that server ended before it had submitted anything
            continue
        # It may not have been submitted: then Slurm misses it, and it is submitted again.
        attempt = _Attempt(
            id=mark.name,
            folder=folder,
            task_count=count,
            submitted_at=time.monotonic(),
            was_tried=True,
        )
        attempt.seen = judge_attempt(attempt.files, task_count=count)
        attempts.append(attempt)
    return attempts


def lay_out(
    launch: Launch,
    jobs_folder: Path,
    program: Path,
    options: SlurmOptions,
    partition: str | None,
) -> None:
    """Make the job folder, and in it what is to be submitted."""
    prepare(launch, jobs_folder, master_port=0)
    folder = launch.folder.absolute()
    script = folder / "slurm-batch.sh"
    command = [options.python, "-I", "-S", str(program), "batch", str(folder)]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    groups = group_tasks(launch)
    step_options = task_options(launch, max(len(group.tasks) for group in groups))
    submit = [
        f"--job-name={name_of(launch.attempt_id)}",
        f"--comment=muster:{launch.attempt_id}",
        "--no-requeue",  # the platform starts a further attempt, on nodes that are up
        f"--nodes={len(groups)}",
        f"--ntasks={len(groups)}",
        "--ntasks-per-node=1",
        f"--chdir={folder}",
        f"--output={folder / 'slurm.log'}",
        "--open-mode=append",
        *step_options,
        *options.arguments(),
        *([f"--partition={partition}"] if partition else []),
        *([f"--nodelist={','.join(group.host for group in groups)}"] if launch.host_names else []),
        *time_limit(launch.time_limit_ms),
        str(script),
    ]
    first = launch.tasks[0]
    shim.write_json(
        str(folder / slurmjob.PLAN_FILE),
        {
            "attempt_id": launch.attempt_id,
            "submit": submit,
            "groups": msgspec.to_builtins(groups),
            "card_kind": first.card_kind or "",
            "cards_per_task": len(first.cards),
            "step_options": step_options,
            "usage_seconds": options.usage_seconds,
            "rank_table": (
                str(environment.rank_table_file(folder)) if environment.has_npus(launch) else ""
            ),
        },
    )


def group_tasks(launch: Launch) -> list[Group]:
    """The tasks of each node, in the order of their first ones."""
    groups: dict[str, list[int]] = {}
    for task in launch.tasks:
        where = launch.host_names[task.index] if launch.host_names else task.node_name
        groups.setdefault(where, []).append(task.index)
    return [
        Group(host=where if launch.host_names else "", tasks=tasks)
        for where, tasks in groups.items()
    ]


def task_options(launch: Launch, tasks_per_node: int) -> list[str]:
    """What each node is asked for. Where nodes get unequal numbers, as the fullest one needs."""
    first = launch.tasks[0]
    cpus, memory_mib = 1, LEAST_MEMORY_MIB
    if launch.task is not None:
        cpus, memory_mib = math.ceil(launch.task.cpu_millis / 1000), launch.task.memory_mib
    options = [
        f"--cpus-per-task={max(1, cpus) * tasks_per_node}",
        f"--mem={max(1, memory_mib) * tasks_per_node}M",
    ]
    if first.cards and first.card_kind is not None:
        options.append(f"--gres={first.card_kind}:{len(first.cards) * tasks_per_node}")
    return options


def time_limit(time_limit_ms: int | None) -> list[str]:
    if time_limit_ms is None:
        return []
    return [f"--time={math.ceil(time_limit_ms / 60_000) + TIME_LIMIT_MARGIN_MINUTES}"]


def read_files(folder: Path, task_count: int) -> JobFiles | None:
    """What an attempt's folder says; None where it cannot be looked into."""
    try:
        return _read_files(folder, task_count)
    except OSError as error:
        log.warning("attempt_unreadable", folder=str(folder), why=str(error))
        return None


def _read_files(folder: Path, task_count: int) -> JobFiles:
    # The end first: whoever ended a job writes nothing after that.
    end = read_state(folder / slurmjob.END_FILE, JobEnd)
    claim = read_state(folder / slurmjob.CLAIM_FILE, JobClaim)
    if claim is None or not claim.job_id:
        return JobFiles(claim=claim, end=end)
    folders = [task_folder(folder, index) for index in range(task_count)]
    tasks = tuple(
        TaskFiles(
            claim=read_claim(task),
            result=read_result(task),
            is_gone=(task / slurmjob.GONE_FILE).exists(),
        )
        for task in folders
    )
    return JobFiles(claim=claim, end=end, tasks=tasks)


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


def write_end(folder: Path, end: JobEnd, *, has_begun: bool) -> None:
    """Write down how Slurm ended a job; one that has not begun is kept from it first."""
    content = {"ended_at_ms": end.at_ms}
    if not has_begun and not shim.claim(str(folder), content, slurmjob.CLAIM_FILE):
        return  # it has: the next look sees it
    shim.write_json(str(folder / slurmjob.END_FILE), msgspec.to_builtins(end))
