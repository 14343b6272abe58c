"""An engine in memory, with a clock that is set by hand and faults that are asked for.

It keeps the contract as far as an engine without processes can: what a command does, it is told by
a `Program`. A command that it was told nothing about runs until `finish`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

from muster.domain.errors import EngineUnavailable
from muster.domain.placement import CardKind, TaskPlacement
from muster.engines.engine import (
    Cluster,
    ClusterWish,
    EngineRef,
    Health,
    HostCondition,
    HostUsage,
    Launch,
    Observation,
    Sample,
    TaskObservation,
    TaskState,
    TaskUsage,
)

TERMINATED: Final = 128 + 15
KILLED: Final = 128 + 9

Card = tuple[str, CardKind, int]  # node name, kind, number


def runs_until_stopped(_task_index: int) -> int | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command, and what it does: for engines that do not run it."""

    argv: tuple[str, ...]
    exit_code_of: Callable[[int], int | None] = runs_until_stopped  # by task index; None: runs on
    output: bytes = b""
    stop_exit_code: int | None = TERMINATED  # None: it ignores SIGTERM
    message: str = ""  # why it cannot be started
    cpu_millis: int | None = None  # what each task uses of the CPUs, where that is known
    memory_mib: int | None = None


class Fault(Enum):
    """What goes wrong with one call."""

    NONE = auto()
    NO_ANSWER = auto()  # nothing was done
    ANSWER_LOST = auto()  # it was done, but the caller is told that nothing is known
    ANSWER_LATE = auto()  # it was done, and the caller is told so at the next `release_answers`
    CRASH = auto()  # it was done, and the server dies before it learns so


class Crash(BaseException):
    """The server dies here. No handler of the server may catch it."""


@dataclass(slots=True)
class _Task:
    placement: TaskPlacement
    program: Program
    seen: TaskObservation
    log: bytes | None = None
    kill_at_ms: int | None = None

    @property
    def is_over(self) -> bool:
        return self.seen.state in (TaskState.ENDED, TaskState.GONE)


@dataclass(slots=True)
class FakeEngine:
    """Stands for the engine and for the machines that outlive a server: `open` finds all again."""

    programs: Iterable[Program] = ()
    now_ms: int = 1_000
    comes_up_at_once: bool = True  # otherwise tasks stay STARTING until `come_up`
    ends_at_once: bool = True  # otherwise stopped tasks run until `finish` or the grace time is up
    is_unavailable: bool = False
    host_of_node: Mapping[str, str] = field(default_factory=dict)  # its own name where not told
    choose_fault: Callable[[str], Fault] = lambda _method: Fault.NONE  # asked by name of the method
    host_usage: Mapping[str, HostUsage] = field(default_factory=dict)  # of what can be sampled

    cluster: Cluster | None = None  # where it stands for one that manages machines
    wish: ClusterWish | None = None  # as it was last told

    name: str = "fake"
    started: dict[str, Launch] = field(default_factory=dict)  # all that ever came to start
    start_counts: Counter[str] = field(default_factory=Counter)  # how often each really did
    _down: dict[str, str] = field(default_factory=dict)  # why, by host
    _waiting: dict[str, str] = field(default_factory=dict)  # why, by attempt
    _preempted: set[str] = field(default_factory=set)
    _seen: dict[str, Observation] = field(default_factory=dict)
    _attempts: dict[str, list[_Task]] = field(default_factory=dict)
    _on_change: Callable[[], None] | None = None
    _late: asyncio.Event | None = None

    # What the world does.

    def come_up(self, attempt_id: str) -> None:
        for task in self._attempts[attempt_id]:
            if task.seen.state is TaskState.STARTING:
                self._come_up(task)
        self._changed()

    def finish(self, attempt_id: str, task_index: int, exit_code: int) -> None:
        """Let a task end by itself, or at last after a stop."""
        task = self._attempts[attempt_id][task_index]
        if not task.is_over:
            self._end(task, exit_code, was_stopped=task.kill_at_ms is not None)
            self._changed()

    def lose(self, attempt_id: str) -> None:
        """Let what still runs of an attempt vanish without a result."""
        for task in self._attempts[attempt_id]:
            if not task.is_over:
                self._vanish(task)
        self._changed()

    def keep_waiting(self, attempt_id: str, why: str) -> None:
        """Tell why one does not come up, as an engine does that has a queue of its own."""
        self._waiting[attempt_id] = why
        self._changed()

    def preempt(self, attempt_id: str) -> None:
        """Take an attempt off its nodes, or out of the engine's queue, to no fault of its own."""
        self._preempted.add(attempt_id)
        self.lose(attempt_id)

    def take_down(self, host_name: str, message: str = "It does not answer.") -> None:
        """Let a host die with all that runs on it; nothing comes up there until it is back."""
        self._down[host_name] = message
        for tasks in self._attempts.values():
            for task in tasks:
                if not task.is_over and self._host_of(task.placement) == host_name:
                    self._vanish(task)
        self._changed()

    def bring_back(self, host_name: str) -> None:
        """Let a host take work again. What ran there is gone."""
        self._down.pop(host_name, None)
        self._changed()

    def down(self) -> set[str]:
        return set(self._down)

    def find_log(self, attempt_id: str, task_index: int) -> bytes | None:
        """In place of the file of the job folder: a fake writes none."""
        tasks = self._attempts.get(attempt_id, [])
        return tasks[task_index].log if task_index < len(tasks) else None

    def write_log(self, attempt_id: str, task_index: int, data: bytes) -> None:
        task = self._attempts[attempt_id][task_index]
        task.log = (task.log or b"") + data

    def advance(self, milliseconds: int) -> None:
        """Let time pass; kills what has had its grace time."""
        self.now_ms += milliseconds
        due = [
            task
            for tasks in self._attempts.values()
            for task in tasks
            if not task.is_over and task.kill_at_ms is not None and task.kill_at_ms <= self.now_ms
        ]
        for task in due:
            self._end(task, KILLED, was_stopped=True)
        if due:
            self._changed()

    def release_answers(self) -> None:
        """Give every late answer."""
        if self._late is not None:
            self._late.set()
            self._late = None

    # What a test may ask of the world.

    def running(self) -> set[str]:
        """The attempts that have a task which may still have processes."""
        return {id_ for id_, tasks in self._attempts.items() if not all(t.is_over for t in tasks)}

    def is_ending(self, attempt_id: str) -> bool:
        """Whether it was told to stop an attempt, and a task of it still runs."""
        tasks = self._attempts.get(attempt_id, [])
        return any(not task.is_over and task.kill_at_ms is not None for task in tasks)

    def cards_in_use(self) -> dict[Card, list[str]]:
        """Who uses each card. More than one is a broken promise of the platform."""
        users: dict[Card, list[str]] = {}
        for attempt_id, tasks in self._attempts.items():
            for task in tasks:
                kind = task.placement.card_kind
                if kind is None or task.is_over:
                    continue
                for card in task.placement.cards:
                    users.setdefault((task.placement.node_name, kind, card), []).append(attempt_id)
        return users

    # The Protocol.

    async def open(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        on_change()

    async def close(self) -> None:
        self._on_change = None

    async def start(self, launch: Launch) -> EngineRef:
        async with self._may_fail("start"):
            if launch.attempt_id not in self._attempts:
                self._start(launch)
        return EngineRef(launch.attempt_id)

    async def find(self, attempt_id: str, folder: Path) -> EngineRef | None:
        async with self._may_fail("find"):
            return EngineRef(attempt_id) if attempt_id in self._attempts else None

    async def observe(self, refs: Collection[EngineRef]) -> Mapping[EngineRef, Observation]:
        async with self._may_fail("observe"):
            return {ref: self._observe(ref) for ref in refs}

    async def stop(self, ref: EngineRef, grace_seconds: float) -> None:
        async with self._may_fail("stop"):
            for task in self._attempts.get(ref, ()):
                if not task.is_over:
                    self._stop(task, self.now_ms + int(grace_seconds * 1000))
            self._changed()

    async def forget(self, ref: EngineRef) -> None:
        async with self._may_fail("forget"):
            if ref not in self.running():
                self._attempts.pop(ref, None)

    async def observe_hosts(self) -> Mapping[str, HostCondition]:
        async with self._may_fail("observe_hosts"):
            return {
                host: HostCondition(is_up=False, message=message)
                for host, message in self._down.items()
            }

    async def observe_cluster(self) -> Cluster | None:
        return self.cluster

    async def arrange(self, wish: ClusterWish) -> None:
        self.wish = wish

    async def sample(self, hosts: Collection[str]) -> Sample:
        async with self._may_fail("sample"):
            return Sample(
                hosts={host: self.host_usage[host] for host in hosts if host in self.host_usage},
                tasks=tuple(
                    TaskUsage(
                        ref=EngineRef(attempt_id),
                        index=task.placement.index,
                        cpu_millis=task.program.cpu_millis,
                        memory_mib=task.program.memory_mib,
                    )
                    for attempt_id, tasks in self._attempts.items()
                    for task in tasks
                    if task.seen.state is TaskState.RUNNING
                ),
            )

    async def health(self) -> Health:
        return Health(is_reachable=not self.is_unavailable, version="1")

    @asynccontextmanager
    async def _may_fail(self, method: str) -> AsyncIterator[None]:
        fault = Fault.NO_ANSWER if self.is_unavailable else self.choose_fault(method)
        if fault is Fault.NO_ANSWER:
            raise EngineUnavailable("The fake engine gives no answer.")
        yield
        match fault:
            case Fault.NONE:
                pass
            case Fault.ANSWER_LOST:
                raise EngineUnavailable("The answer of the fake engine was lost.")
            case Fault.ANSWER_LATE:
                self._late = self._late or asyncio.Event()
                await self._late.wait()
            case Fault.CRASH:
                raise Crash(method)

    def _observe(self, ref: EngineRef) -> Observation:
        """The very same value as before where nothing has changed, as an engine gives that can."""
        seen = Observation(
            tasks=tuple(task.seen for task in self._attempts.get(ref, ())),
            was_preempted=ref in self._preempted,
            waiting=self._waiting.get(ref, ""),
        )
        if self._seen.get(ref) != seen:
            self._seen[ref] = seen
        return self._seen[ref]

    def _start(self, launch: Launch) -> None:
        self.started[launch.attempt_id] = launch
        self.start_counts[launch.attempt_id] += 1
        unknown = Program(argv=launch.argv)
        program = next((p for p in self.programs if p.argv == launch.argv), unknown)
        tasks = [
            _Task(
                placement=placement,
                program=program,
                seen=TaskObservation(index=placement.index, state=TaskState.STARTING),
            )
            for placement in launch.tasks
        ]
        self._attempts[launch.attempt_id] = tasks
        for task in tasks:
            if self._host_of(task.placement) in self._down:
                self._vanish(task)
        if self.comes_up_at_once:
            for task in tasks:
                if not task.is_over:
                    self._come_up(task)
        self._changed()

    def _host_of(self, placement: TaskPlacement) -> str:
        return self.host_of_node.get(placement.node_name, placement.node_name)

    def _vanish(self, task: _Task) -> None:
        task.seen = TaskObservation(index=task.placement.index, state=TaskState.GONE)

    def _come_up(self, task: _Task) -> None:
        task.seen = replace(task.seen, state=TaskState.RUNNING, started_at_ms=self.now_ms)
        exit_code = task.program.exit_code_of(task.placement.index)
        if not task.program.message:
            task.log = task.program.output
        if exit_code is not None:
            self._end(task, exit_code, was_stopped=False)

    def _stop(self, task: _Task, kill_at_ms: int) -> None:
        if task.seen.state is TaskState.STARTING:
            self._end(task, TERMINATED, was_stopped=True)
            task.seen = replace(task.seen, message="It was stopped before it came up.")
            return
        earlier = kill_at_ms if task.kill_at_ms is None else task.kill_at_ms
        task.kill_at_ms = min(kill_at_ms, earlier)
        if self.ends_at_once and task.program.stop_exit_code is not None:
            self._end(task, task.program.stop_exit_code, was_stopped=True)

    def _end(self, task: _Task, exit_code: int, *, was_stopped: bool) -> None:
        task.seen = replace(
            task.seen,
            state=TaskState.ENDED,
            exit_code=exit_code,
            was_stopped=was_stopped,
            ended_at_ms=self.now_ms,
            message=task.program.message,
        )

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()
