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
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.jobfolder import task_folder
from muster.engines import slurmjob
from muster.engines.attemptfiles import (
    read_state,
    refuse_missing_folders,
    remove,
    unmark_live,
)
from muster.engines.background import Background
from muster.engines.engine import (
    Cluster,
    ClusterWish,
    EngineRef,
    Health,
    HostCondition,
    Launch,
    Observation,
    Sample,
    TaskState,
)
from muster.engines.slurmattempt import HELD_BY_SLURM, Attempt
from muster.engines.slurmcommands import (
    SlurmCommands,
    name_of,
    partition_for,
)
from muster.engines.slurmfiles import (
    JobEnd,
    JobFiles,
    Plan,
    read_many,
    stop_tasks,
    write_end,
)
from muster.engines.slurmnodes import SlurmNodes, find_missing_partition
from muster.engines.slurmpulse import Pulse
from muster.engines.slurmreuse import SpareJobs, hand_over, kind_of
from muster.engines.slurmsubmit import SlurmOptions, lay_out, without_fetch_time
from muster.engines.slurmtable import JobTable
from muster.engines.slurmtakeover import read_ended, take_over
from muster.engines.slurmunwanted import UnwantedJobs
from muster.engines.slurmusage import UsageMeter, read_usage

FILES_SECONDS: Final = 0.2  # between two looks into the folders of what runs
WAITING_SECONDS: Final = 5.0  # likewise, of what waits in Slurm's queue
JOBS_SECONDS: Final = 0.5  # between two questions to Slurm while anything may change ...
JOBS_SECONDS_EACH: Final = 100e-6  # ... the longer, the more jobs Slurm has to tell of ...
ANSWER_SHARE: Final = 4.0  # ... but not before so many times as long as the answer took
BREATH: Final = 500  # attempts that are looked at before others have their turn
FILES_SHARE: Final = 1.0  # likewise; to look at files costs nobody else
CLUSTER_SECONDS: Final = 5.0
REMEMBERED_MAX: Final = 10_000
_NOT_KNOWN: Final = Observation()

log = structlog.get_logger()


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
        self._attempts: dict[str, Attempt] = {}
        self._remembered: OrderedDict[str, Observation] = OrderedDict()
        self._unwanted = UnwantedJobs(self._jobs_folder, commands)
        self._table = JobTable()
        self._asked_at = -math.inf  # monotonic
        self._spare = SpareJobs()
        self._meter = UsageMeter()
        self._waiting_looked_at = 0.0  # monotonic
        self._nodes = SlurmNodes(
            commands,
            partition=self._options.partition,
            may_change_partitions=self._options.may_change_partitions,
            known=self._options.known,
        )
        self._version = "Slurm"
        self._pulse = Pulse()
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
        self._pulse, self._table = Pulse(), JobTable()
        for attempt in found:
            self._attempts[attempt.id] = attempt
        await self._read(found)
        self._watchers = [
            self._loop.create_task(self._pulse.watch(step, seconds, share))
            for step, seconds, share in (
                (self._look_at_files, FILES_SECONDS, FILES_SHARE),
                (self._ask_for_jobs, JOBS_SECONDS, ANSWER_SHARE),
                (self._ask_for_cluster, CLUSTER_SECONDS, ANSWER_SHARE),
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
        """As their folders say now; of what Slurm alone knows, as it said last."""
        attempts = self._attempts
        live = [attempt for ref in refs if (attempt := attempts.get(ref)) is not None]
        await self._read([attempt for attempt in live if not attempt.is_waiting])
        known = {EngineRef(attempt.id): attempt.seen for attempt in live}
        if len(known) == len(refs):
            return known
        others = [ref for ref in refs if ref not in known]
        known |= {ref: self._remembered[ref] for ref in others if ref in self._remembered}
        if unknown := [ref for ref in others if ref not in known]:
            ended = await self._background.in_thread(read_ended, self._jobs_folder, unknown)
            for ref, seen in ended.items():
                attempt = attempts.get(ref)
                # What was started while we read is known better by now.
                known[ref] = attempt.seen if attempt else self._remembered.get(ref, seen)
                if attempt is None:
                    self._remember(ref, known[ref])
        return {ref: known.get(ref, _NOT_KNOWN) for ref in refs}

    async def stop(self, ref: EngineRef, grace_seconds: float) -> None:
        attempt = self._attempts.get(ref)
        if attempt is None:
            if await self._background.in_thread(stop_tasks, self._jobs_folder / ref, grace_seconds):
                self._unwanted.add(name_of(ref))
            return
        if attempt.starting is not None:
            earlier = attempt.stop_grace_seconds
            attempt.stop_grace_seconds = min(
                grace_seconds, grace_seconds if earlier is None else earlier
            )
            return
        await self._stop(attempt, grace_seconds)

    async def forget(self, ref: EngineRef) -> None:
        if ref in self._attempts:
            return  # it runs
        self._remembered.pop(ref, None)
        await self._background.in_thread(remove, self._jobs_folder, ref)

    async def observe_hosts(self) -> Mapping[str, HostCondition]:
        """As Slurm said last; while it is silent, no node of its can be given work."""
        return self._nodes.conditions(self._pulse.silence)

    async def observe_cluster(self) -> Cluster | None:
        return self._nodes.cluster()

    async def arrange(self, wish: ClusterWish) -> None:
        if self._nodes.arrange(wish) and self._is_open:
            self._background.begin(self._change_cluster())

    async def _change_cluster(self) -> None:
        before = self._nodes.view
        try:
            await self._nodes.change()
        except EngineUnavailable as error:
            log.warning("slurm_away", why=error.message)  # the next look tries again
        if self._nodes.view is not before:
            self._on_change()

    async def sample(self, hosts: Collection[str]) -> Sample:
        """What tasks use, and of the nodes what Slurm tells: nothing of single cards."""
        running = [
            (EngineRef(attempt.id), task.index)
            for attempt in self._attempts.values()
            for task in attempt.seen.tasks
            if task.state is TaskState.RUNNING
        ]
        folders = [task_folder(self._jobs_folder / ref, index) for ref, index in running]
        read = await self._background.in_thread(read_usage, folders)
        usage = {} if self._pulse.silence else self._nodes.usage(hosts)
        return Sample(hosts=usage, tasks=self._meter.measure(running, read))

    async def health(self) -> Health:
        if not self._is_open:
            return Health(
                is_reachable=False, version=self._version, message="The engine is not open."
            )
        if not os.access(self._jobs_folder, os.W_OK):
            message = f"{self._jobs_folder} cannot be written; make it writable for this server."
            return Health(is_reachable=False, version=self._version, message=message)
        silence = self._pulse.silence
        return Health(is_reachable=not silence, version=self._version, message=silence)

    def _begin(self, launch: Launch) -> Attempt:
        """Enter the attempt, so that every other call sees it from now on, and start it."""
        assert self._is_open, "start() before open()"
        assert launch.folder.absolute() == self._jobs_folder / launch.attempt_id, launch.folder
        assert launch.argv, "a launch has a command"
        refuse_missing_folders(launch)
        attempt = Attempt(
            id=launch.attempt_id,
            folder=launch.folder.absolute(),
            task_count=len(launch.tasks),
            hosts=frozenset(launch.host_names),
        )
        self._attempts[attempt.id] = attempt
        attempt.starting = self._background.begin(self._start(launch, attempt))
        return attempt

    async def _start(self, launch: Launch, attempt: Attempt) -> None:
        partition = self._nodes.partition_of(launch.partition) or self._options.partition
        addresses: Mapping[str, str] = {}
        if self._nodes.view is not None:
            cluster = self._nodes.view.cluster
            partition = partition_for(launch.host_names, cluster, partition)
            addresses = cluster.addresses
        try:
            await self._background.in_thread(
                lay_out,
                launch,
                self._jobs_folder,
                self._program,
                self._options,
                partition=partition,
                addresses=addresses,
                wait_seconds=self._spare.note_start(launch, time.monotonic()),
            )
        except BaseException:
            self._drop(attempt)
            raise
        await self._start_again(attempt)

    async def _start_again(self, attempt: Attempt) -> None:
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

    async def _submit(self, attempt: Attempt) -> None:
        """Submit the job, unless an earlier submit turns out to have reached Slurm."""
        plan = await self._background.in_thread(
            read_state, attempt.folder / slurmjob.PLAN_FILE, Plan
        )
        if plan is None:
            raise EngineUnavailable(f"The plan in {attempt.folder} cannot be read.")
        if missing := find_missing_partition(plan.submit, self._nodes.view):
            raise EngineUnavailable(f"Slurm has no partition {missing!r} now; it waits for that.")
        if attempt.was_tried:
            known = await self._commands.list_jobs(attempt.name)
            if any(not job.is_over for job in known):
                attempt.submitted_at = time.monotonic()
                return
        elif await self._hand_over(attempt, plan):
            return
        attempt.was_tried = True
        await self._submit_plan(plan)
        attempt.submitted_at = time.monotonic()
        attempt.missing_since = None

    async def _submit_plan(self, plan: Plan) -> None:
        try:
            await self._commands.submit(plan.submit)
        except EngineRefused:
            less = without_fetch_time(plan.submit)
            if less is None:
                raise
            await self._commands.submit(less)

    async def _hand_over(self, attempt: Attempt, plan: Plan) -> bool:
        """Let a Slurm job run it whose own attempt has ended, if there is one that is alike."""
        if not plan.reuse_seconds:
            return False
        kind = kind_of(plan.submit)
        attempt.kind = kind if plan.wait_seconds else None
        while spare := self._spare.take(kind, time.monotonic()):
            attempt.was_tried = True
            if await self._background.in_thread(
                hand_over, self._jobs_folder, attempt.id, to_job_of=spare
            ):
                attempt.submitted_at = time.monotonic()
                return True
        return False

    def _drop(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.id, None)

    async def _stop(self, attempt: Attempt, grace_seconds: float) -> None:
        async with attempt.stopping:
            has_fenced = await self._background.in_thread(stop_tasks, attempt.folder, grace_seconds)
        if has_fenced:
            self._unwanted.add(attempt.name)
        else:
            # The nodes see to it themselves, the controller up or not. Should they not:
            attempt.kill_after(grace_seconds, time.monotonic())
        await self._read([attempt])

    # What is seen

    async def _look_at_files(self) -> None:
        """Read the folders of what may have changed by itself.

        Of what waits in Slurm's queue seldom: it may have begun between two answers of Slurm, and
        have been put back into the queue.
        """
        now = time.monotonic()
        is_all = now >= self._waiting_looked_at + WAITING_SECONDS
        if is_all:
            self._waiting_looked_at = now
        await self._read([a for a in self._attempts.values() if is_all or not a.is_waiting])

    async def _read(self, attempts: Sequence[Attempt]) -> None:
        if not attempts:
            return
        known = [(a.folder, a.files, a.task_count) for a in attempts]
        read = await self._background.in_thread(read_many, known)
        for attempt, (_, before, _), files in zip(attempts, known, read, strict=True):
            if isinstance(files, OSError):  # nothing is known, so nothing has changed
                log.warning("attempt_unreadable", attempt_id=attempt.id, why=str(files))
            elif files is before and attempt.settled:
                continue  # nearly all of thousands
            elif attempt.files is before and attempt.id in self._attempts:
                # Otherwise somebody has read it later, or it was dropped meanwhile.
                self._take_in(attempt, files)

    async def _ask_for_jobs(self) -> None:
        if not self._attempts and not self._unwanted:
            return
        asked_at = time.monotonic()
        if asked_at < self._asked_at + JOBS_SECONDS_EACH * len(self._table.lines):
            return
        self._asked_at = asked_at
        submitted = {a.id for a in self._attempts.values() if a.submitted_at is not None}
        text = await self._commands.read_jobs()
        now, view = time.monotonic(), self._nodes.view
        nodes = view.cluster.nodes if view else ()
        away = frozenset(node.name for node in nodes if not node.is_up)
        table = await self._background.in_thread(self._table.after, text, away)
        self._pulse.note_answer()
        looked_at = 0
        for attempt in list(self._attempts.values()):
            if attempt.settled and not table.concerns(attempt.id, attempt.job_name):
                if attempt.settled == "RUNNING":
                    attempt.running_as_of = asked_at
                continue
            looked_at += 1
            if looked_at % BREATH == 0:
                await asyncio.sleep(0)  # ten thousand at once would hold up every request
            # One that was submitted while Slurm was listing may be missing for that reason.
            if attempt.id not in submitted or attempt.starting is not None:
                attempt.settled = ""
                continue
            if attempt.id not in self._attempts:
                continue  # it has ended meanwhile
            rows = [row for name in attempt.job_names for row in table.by_name.get(name, ())]
            too_many = attempt.note_jobs(rows, asked_at=asked_at, now=now)
            attempt.note_nodes(table.away, now=now)
            attempt.settle()
            for job_id in too_many:
                attempt.settled = ""
                await self._commands.cancel(attempt.name, job_id)
            if attempt.is_forgotten(now):
                log.warning("slurm_lost_a_job", attempt_id=attempt.id)
                attempt.missing_since = None  # should it not come to be, it is missed anew
                attempt.starting = self._background.begin(self._submit_lost(attempt))
            elif end := attempt.fate(now):
                await self._end(attempt, end)
            elif attempt.is_to_be_killed(now):
                await self._commands.cancel(attempt.job_name)
            elif attempt.job is not None and attempt.is_to_be_renamed(now):
                await self._commands.rename(attempt.job.id, attempt.name)
        await self._unwanted.cancel(table, wanted=self._attempts)
        # Last: a look that fails on its way is made again, with all that was new to it.
        self._table = table

    async def _end(self, attempt: Attempt, end: JobEnd) -> None:
        """Write down that it is over, and see to it that it is."""
        files = attempt.files
        if end.state in HELD_BY_SLURM:
            # What a node that Slurm does not reach may run is to end.
            if files.has_begun and not files.awaits_inputs:
                await self._background.in_thread(stop_tasks, attempt.folder, 0.0)
            self._unwanted.add(attempt.job_name)
        if await self._background.in_thread(
            write_end, attempt.folder, end, has_begun=files.has_begun
        ):
            attempt.files = replace(attempt.files, end=end)
            await self._read([attempt])
            if files.awaits_inputs:  # nor may such a node start it; before, it would look stopped
                await self._background.in_thread(stop_tasks, attempt.folder, 0.0)

    async def _submit_lost(self, attempt: Attempt) -> None:
        """Once more, what Slurm has lost before it began."""
        try:
            await self._start_again(attempt)
        except EngineRefused as refused:
            log.warning("slurm_refuses_a_lost_job", attempt_id=attempt.id, why=refused.message)

    async def _ask_for_cluster(self) -> None:
        if self._pulse.answered_at is None:
            self._version = await self._commands.read_version()
        is_new = await self._nodes.look()
        self._pulse.note_answer()
        if is_new:
            self._on_change()

    def _take_in(self, attempt: Attempt, files: JobFiles) -> None:
        """Judge an attempt again, and tell when it has changed."""
        has_changed = attempt.take_in(files, time.monotonic())
        if attempt.seen.is_over and attempt.starting is None:
            self._drop(attempt)
            self._remember(attempt.id, attempt.seen)
            if attempt.kind is not None and files.is_complete and files.end is None:
                self._spare.add(attempt.kind, attempt.id, time.monotonic())
            if files.end is None and files.claim is not None and not files.claim.job_id:
                self._unwanted.add(attempt.name)
            with suppress(OSError):  # a mark that stays is read once more, and does no harm
                unmark_live(self._jobs_folder, attempt.id)
        if has_changed:
            self._on_change()

    def _remember(self, attempt_id: str, seen: Observation) -> None:
        self._remembered[attempt_id] = seen
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)
