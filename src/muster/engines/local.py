"""Runs workloads as processes of this machine.

Each task has a shim (`shim.py`), which outlives the server. What is true of a task is in its files
and in whether its shim lives; `judge` reads both. This module keeps what it has read of attempts
that may still change, and nothing of the others: no call gets slower with their number.

"""

import asyncio
import contextlib
import os
import platform
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM
from typing import Final, ParamSpec, TypeVar

import structlog

from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.jobfolder import task_folder
from muster.engines import environment, processes, shim
from muster.engines.attemptfiles import (
    ask_to_stop,
    end_orphans,
    fence_rest,
    is_claimed,
    judge,
    prepare,
    read_claim,
    read_ended,
    read_result,
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
    TaskObservation,
    TaskState,
)
from muster.engines.isolation import OFF, Isolation
from muster.engines.localattempt import OVER, Attempt, Task, take_over
from muster.engines.nursery import Shims
from muster.engines.usage import NvidiaCards, ReadCards, RunningTask, UsageReader

SWEEP_SECONDS: Final = 2.0  # wake-ups come at once; should one be missed, nothing hangs
SETTLE_WAIT_SECONDS: Final = 5.0
REMEMBERED_MAX: Final = 10_000  # ended attempts whose last observation is kept in memory
# Below the range from which the kernel hands out ports by itself (32768 to 60999).
MASTER_PORTS: Final = range(20_000, 32_000)


P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class LocalEngine:
    """Keeps the promises of `engine.Engine`. The reference of an attempt is its id.

    The folder of a launch must be `jobs_folder / attempt_id`.
    """

    name = "local"

    def __init__(
        self,
        jobs_folder: Path,
        read_cards: ReadCards | None = None,
        isolation: Isolation = OFF,
    ) -> None:
        self._jobs_folder = jobs_folder.absolute()
        self._isolation = isolation
        self._read_cards = read_cards or NvidiaCards()
        self._attempts: dict[str, Attempt] = {}
        self._remembered: OrderedDict[str, Observation] = OrderedDict()
        self._is_open = False

    async def open(self, on_change: Callable[[], None]) -> None:
        """Take the jobs folder over, find what lives in it, and watch that.

        Raises:
            EngineUnavailable: not Linux, or another server has the folder.
        """
        assert not self._is_open, "open() twice"
        processes.require_support()
        self._loop = asyncio.get_running_loop()
        self._on_change = on_change
        self._background = Background("local", self._jobs_folder)
        try:
            self._nursery, found = await self._background.in_thread(take_over, self._jobs_folder)
        except BaseException:
            self._background.close()
            raise
        self._usage = UsageReader(self._jobs_folder, self._read_cards)
        self._is_open = True
        for attempt in found:
            self._attempts[attempt.id] = attempt
            self._watch(attempt)
            self._look_at_all(attempt)
        self._sweeper = self._loop.create_task(self._sweep())
        on_change()

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._background.finish()
        for attempt in self._attempts.values():
            self._unwatch(attempt)
        self._attempts.clear()
        self._remembered.clear()
        await self._background.in_thread(self._nursery.close)
        self._background.close()

    async def start(self, launch: Launch) -> EngineRef:
        attempt = self._attempts.get(launch.attempt_id)
        if attempt is None and not self._is_claimed(launch.folder):
            attempt = self._begin(launch)
        if attempt is not None and attempt.starting is not None:
            # Shielded: who gives up waiting must not leave half an attempt behind.
            await asyncio.shield(attempt.starting)
        return EngineRef(launch.attempt_id)

    async def find(self, attempt_id: str, folder: Path) -> EngineRef | None:
        if attempt_id in self._attempts or self._is_claimed(folder):
            return EngineRef(attempt_id)
        return None

    async def observe(self, refs: Collection[EngineRef]) -> Mapping[EngineRef, Observation]:
        known = {ref: seen for ref in refs if (seen := self._find_known(ref)) is not None}
        unread = [ref for ref in refs if ref not in known]
        if unread:
            known.update(await self._background.in_thread(self._read_ended, unread))
            for ref in unread:
                # What was started while we read is known better by now.
                if (seen := self._find_known(ref)) is not None:
                    known[ref] = seen
                elif ref in known:
                    self._remember(ref, known[ref])
        return {ref: known.get(ref, Observation()) for ref in refs}

    async def stop(self, ref: EngineRef, grace_seconds: float) -> None:
        attempt = self._attempts.get(ref)
        if attempt is None:
            await self._background.in_thread(fence_rest, self._jobs_folder / ref)
            self._remembered.pop(ref, None)
        elif attempt.starting is not None:
            earlier = attempt.stop_grace_seconds
            attempt.stop_grace_seconds = min(
                grace_seconds, grace_seconds if earlier is None else earlier
            )
        else:
            await self._stop(attempt, grace_seconds)

    async def forget(self, ref: EngineRef) -> None:
        attempt = self._attempts.get(ref)
        if attempt is not None:
            if not attempt.is_over:
                return
            try:
                async with asyncio.timeout(SETTLE_WAIT_SECONDS):
                    await attempt.settled.wait()  # its shims are about to end
            except TimeoutError as error:
                raise EngineUnavailable(f"The shims of the attempt {ref} do not end.") from error
        self._remembered.pop(ref, None)
        await self._background.in_thread(remove, self._jobs_folder, ref)

    async def observe_cluster(self) -> Cluster | None:
        return None  # the inventory says what there is

    async def arrange(self, wish: ClusterWish) -> None:
        """Nothing to do: whoever places work keeps it from locked nodes."""

    async def observe_hosts(self) -> Mapping[str, HostCondition]:
        """Every host is this machine, and it is up: it runs this."""
        return {}

    async def sample(self, hosts: Collection[str]) -> Sample:
        """Every host is this machine."""
        running = [
            RunningTask(ref=EngineRef(attempt.id), index=task.seen.index, folder=task.folder)
            for attempt in self._attempts.values()
            for task in attempt.tasks
            if task.seen.state is TaskState.RUNNING
        ]
        host, tasks = await self._background.in_thread(self._usage.read, running)
        return Sample(hosts=dict.fromkeys(hosts, host), tasks=tasks)

    async def health(self) -> Health:
        version = f"Linux {platform.release()}"
        if not self._is_open:
            return Health(is_reachable=False, version=version, message="The engine is not open.")
        if not os.access(self._jobs_folder, os.W_OK):
            message = f"{self._jobs_folder} cannot be written; make it writable for this server."
            return Health(is_reachable=False, version=version, message=message)
        return Health(is_reachable=True, version=version)

    def _is_claimed(self, folder: Path) -> bool:
        """Asked in the event loop, so that nobody else begins the attempt in between."""
        try:
            return is_claimed(folder)
        except OSError as error:
            raise EngineUnavailable(f"The job folder {folder} cannot be read: {error}") from error

    def _begin(self, launch: Launch) -> Attempt:
        """Enter the attempt, so that every other call sees it from now on, and start it."""
        assert self._is_open, "start() before open()"
        assert launch.folder.absolute() == self._jobs_folder / launch.attempt_id, launch.folder
        assert launch.argv, "a launch has a command"
        refuse_what_cannot_run(launch)
        taken = {attempt.master_port for attempt in self._attempts.values()}
        attempt = Attempt(
            id=launch.attempt_id,
            folder=self._jobs_folder / launch.attempt_id,
            master_port=find_free_port(taken, first=int(launch.attempt_id[:8], 16)),
            tasks=[
                Task(
                    folder=task_folder(self._jobs_folder / launch.attempt_id, index),
                    seen=TaskObservation(index=index, state=TaskState.STARTING),
                )
                for index in range(len(launch.tasks))
            ],
        )
        self._attempts[attempt.id] = attempt
        attempt.starting = self._background.begin(self._start(launch, attempt))
        return attempt

    async def _start(self, launch: Launch, attempt: Attempt) -> None:
        try:
            shims = await self._background.in_thread(
                self._prepare_and_spawn, launch, attempt.master_port
            )
        except BaseException:
            del self._attempts[attempt.id]
            attempt.settled.set()
            raise
        finally:
            attempt.starting = None
        attempt.line = shims.line
        for task, pidfd in zip(attempt.tasks, shims.pidfds, strict=True):
            task.pidfd = pidfd
        self._watch(attempt)
        if attempt.stop_grace_seconds is None:
            with contextlib.suppress(OSError):  # killed already: their pidfds tell
                attempt.line.send(shim.GO * len(attempt.tasks))
        else:
            await self._stop(attempt, attempt.stop_grace_seconds)
            self._close_line(attempt)  # without the word to go, they end

    def _prepare_and_spawn(self, launch: Launch, master_port: int) -> Shims:
        prepare(launch, self._jobs_folder, master_port=master_port, isolation=self._isolation)
        return self._nursery.spawn(
            [str(task_folder(launch.folder, task.index)) for task in launch.tasks]
        )

    async def _stop(self, attempt: Attempt, grace_seconds: float) -> None:
        open_tasks = [task for task in attempt.tasks if task.seen.state not in OVER]
        async with attempt.stopping:
            await self._background.in_thread(
                ask_to_stop, [t.folder for t in open_tasks], grace_seconds
            )
        for task in open_tasks:
            self._look(attempt, task)
            # A pidfd is used only in the event loop, which alone closes it.
            if task.pidfd is not None and task.seen.state is TaskState.RUNNING:
                processes.send_signal(task.pidfd, SIGTERM)

    def _watch(self, attempt: Attempt) -> None:
        for task in attempt.tasks:
            if task.pidfd is not None:
                self._loop.add_reader(task.pidfd, self._on_shim_ended, attempt, task)
        if attempt.line is not None:
            self._loop.add_reader(attempt.line, self._on_line, attempt)

    def _unwatch(self, attempt: Attempt) -> None:
        self._close_line(attempt)
        for task in attempt.tasks:
            self._close_pidfd(task)

    def _on_line(self, attempt: Attempt) -> None:
        assert attempt.line is not None
        try:
            is_closed = not attempt.line.recv(shim.TASKS_MAX)
        except OSError:  # reset: a shim was killed before it read its word
            is_closed = True
        if is_closed:
            self._close_line(attempt)
        for task in attempt.tasks:
            if task.seen.state is TaskState.STARTING:
                self._look(attempt, task)

    def _on_shim_ended(self, attempt: Attempt, task: Task) -> None:
        self._close_pidfd(task)
        self._look(attempt, task)

    def _close_line(self, attempt: Attempt) -> None:
        if attempt.line is not None:
            self._loop.remove_reader(attempt.line)
            attempt.line.close()
            attempt.line = None

    def _close_pidfd(self, task: Task) -> None:
        if task.pidfd is not None:
            self._loop.remove_reader(task.pidfd)
            os.close(task.pidfd)
            task.pidfd = None

    def _look_at_all(self, attempt: Attempt) -> None:
        for task in attempt.tasks:
            self._look(attempt, task)

    def _look(self, attempt: Attempt, task: Task) -> None:
        """Read again what is true of a task, and tell when that has changed."""
        try:
            claim, result = read_claim(task.folder), read_result(task.folder)
        except OSError:
            # Nothing is known, so nothing has changed; the sweep looks again.
            log.exception("task_unreadable", attempt_id=attempt.id, task_index=task.seen.index)
            return
        seen = judge(task.seen.index, claim=claim, result=result, is_watched=task.pidfd is not None)
        if seen.state is TaskState.GONE and claim is not None and not task.is_cleared:
            # The shim is lost. What it watched over is ended first, so that GONE means gone.
            if task.clearing is None:
                task.clearing = self._background.begin(self._clear(attempt, task))
            seen = replace(seen, state=TaskState.RUNNING)
        has_changed, task.seen = seen != task.seen, seen
        if attempt.is_over and all(task.pidfd is None for task in attempt.tasks):
            self._settle(attempt)
        if has_changed:
            self._on_change()

    async def _clear(self, attempt: Attempt, task: Task) -> None:
        """End what a lost shim left behind. The sweep calls again where this was not enough."""
        markers = environment.markers(attempt.id, task.seen.index)
        try:
            task.is_cleared = await self._background.in_thread(
                end_orphans, [f"{name}={value}" for name, value in markers.items()]
            )
        finally:
            task.clearing = None
        if task.is_cleared:
            log.warning("task_lost", attempt_id=attempt.id, task_index=task.seen.index)
            self._look(attempt, task)

    def _settle(self, attempt: Attempt) -> None:
        """Nothing can happen to the attempt any more: keep what was seen, and no more of it."""
        if attempt.settled.is_set():
            return
        attempt.settled.set()
        self._unwatch(attempt)
        del self._attempts[attempt.id]
        self._remember(attempt.id, attempt.observation)
        # At once, not in a thread: a start that follows marks it again, and must not be overtaken.
        # A mark that stays is read once more by the next server, and does no harm.
        with contextlib.suppress(OSError):
            unmark_live(self._jobs_folder, attempt.id)

    async def _sweep(self) -> None:
        """Find out what a missed wake-up would have told."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self._look_for_missed_changes()
            except Exception:  # a sweep that fails must not be the last one
                log.exception("local_engine_sweep_failed")

    def _look_for_missed_changes(self) -> None:
        watched = {
            task.pidfd: (attempt, task)
            for attempt in self._attempts.values()
            for task in attempt.tasks
            if task.pidfd is not None
        }
        for pidfd in processes.find_ended(watched):
            self._on_shim_ended(*watched[pidfd])
        for attempt in list(self._attempts.values()):
            if attempt.starting is None:
                self._look_at_unsure(attempt)

    def _look_at_unsure(self, attempt: Attempt) -> None:
        for task in attempt.tasks:
            is_unwatched = task.pidfd is None and task.seen.state not in OVER
            if task.seen.state is TaskState.STARTING or is_unwatched:
                self._look(attempt, task)

    def _find_known(self, ref: EngineRef) -> Observation | None:
        attempt = self._attempts.get(ref)
        return attempt.observation if attempt else self._remembered.get(ref)

    def _read_ended(self, refs: Collection[EngineRef]) -> dict[EngineRef, Observation]:
        found = {ref: read_ended(self._jobs_folder / ref) for ref in refs}
        return {ref: seen for ref, seen in found.items() if seen is not None}

    def _remember(self, attempt_id: str, seen: Observation) -> None:
        self._remembered[attempt_id] = seen
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.popitem(last=False)


def refuse_what_cannot_run(launch: Launch) -> None:
    if len(launch.tasks) > shim.TASKS_MAX:
        raise EngineRefused(
            f"The local engine runs at most {shim.TASKS_MAX} tasks of one job;"
            f" this one has {len(launch.tasks)}. Ask for fewer nodes."
        )
    refuse_missing_folders(launch)


def find_free_port(taken: Collection[int], *, first: int) -> int:
    """A port that no attempt has and nobody listens on, looking from the `first`-th on."""
    for step in range(len(MASTER_PORTS)):
        port = MASTER_PORTS[(first + step) % len(MASTER_PORTS)]
        if port not in taken and is_free(port):
            return port
    raise EngineUnavailable(
        f"No port is free from {MASTER_PORTS.start} to {MASTER_PORTS.stop - 1}."
    )


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True
