"""The Protocol that every engine keeps, and the values it speaks in.

An engine runs workloads and reports; it never decides. Its contract suite is
`tests/engines/contract.py`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NewType, Protocol

from muster.domain.placement import CardKind, TaskPlacement
from muster.domain.pool import Host
from muster.domain.resources import Resources
from muster.domain.workload import PRIORITY_MIN

EngineRef = NewType("EngineRef", str)  # how an engine names an attempt that it knows

OBSERVE_BATCH_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Everything an engine needs to start one attempt of a workload."""

    attempt_id: str  # 32 hex digits; never used twice
    argv: tuple[str, ...]  # the user's command; never passed through a shell
    environment: Mapping[str, str]  # what every task gets; the engine adds what differs by task
    code: Path | None  # a folder to copy into each task's working directory; None: starts empty
    folder: Path  # the attempt's own job folder; see `domain/jobfolder.py`; made by the engine
    tasks: tuple[TaskPlacement, ...]
    work_folder: Path | None = None  # to work in instead of a copy of `code`; no task's own
    serves: bool = False  # each task gets a port; see `shim.tell_port` and `endpoint_file`
    output_names: tuple[str, ...] = ()  # each has a folder of its own, see `channel_folder`
    host_names: tuple[str, ...] = ()  # where each task is to run, by index; (): anywhere
    partition: str = ""  # whose queue it came from: a dedicated pool's id, or the public partition
    task: Resources | None = None  # what each task may use; None: the least
    time_limit_ms: int | None = None  # the platform ends it then; an engine may, a little later
    priority: int = PRIORITY_MIN  # among what waits where the engine has a queue of its own
    project_id: str = ""  # whose it is; nothing of another project's can be reached by it
    reads: tuple[Path, ...] = ()  # besides its own folder and what runs it: its inputs
    writes: tuple[Path, ...] = ()  # folders that are kept when it ends; made where they are missing
    interpreters: tuple[str, ...] = ()  # that it runs by; of the platform's choice, no user's
    before: tuple[str, ...] = ()  # a command of the platform's own that must have ended well first
    # Where a node of its own moves what it reads and leaves, see `porter.py`; on clusters alone.
    awaited_bytes: int = 0  # of inputs; its tasks start once they are there. 0: they are
    result_folders: tuple[str, ...] = ()  # below its folder: a node stays for what lies in them ...
    result_bytes: int = 0  # ... if it is so much; 0: none stays


class TaskState(StrEnum):
    STARTING = "Starting"
    RUNNING = "Running"
    ENDED = "Ended"
    GONE = "Gone"  # no process and no result: it will never report


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskObservation:
    """What became of one task."""

    index: int
    state: TaskState
    exit_code: int | None = None  # 0-255, or 128 + n for a process ended by signal n; set if ENDED
    was_stopped: bool = False  # it ended because `stop` asked it to
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    message: str = ""  # for people: why it could not be started, or what ended it from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What became of one attempt. No tasks: the engine does not know the attempt at all."""

    tasks: tuple[TaskObservation, ...] = ()
    was_preempted: bool = False  # it lost its place, or its nodes, without having failed or hung
    awaits_inputs: bool = False  # its nodes are there, and its tasks start once its inputs are
    waiting: str = ""  # for people: why the engine's own queue holds it; "": nothing is told

    @property
    def is_over(self) -> bool:
        """Nothing of the attempt runs, or will run, any more."""
        return all(task.state in (TaskState.ENDED, TaskState.GONE) for task in self.tasks)

    @property
    def is_gone(self) -> bool:
        """No trace is left of the attempt: nothing runs, and nothing will report."""
        return all(task.state is TaskState.GONE for task in self.tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCondition:
    """Whether a host can be given work."""

    is_up: bool
    message: str = ""  # why it cannot


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The machines that an engine manages itself, as they were when last seen."""

    hosts: tuple[Host, ...]
    partitions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # hosts, by name
    public_partition: str | None = None  # the one of them that the public partition stands for
    # Why nothing can be run now for a pool, by its id, or in the public partition.
    unusable: Mapping[str, str] = field(default_factory=dict)
    marked: frozenset[str] = frozenset()  # pools that something there was changed for


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterWish:
    """How the machines that an engine manages itself are to be. Pools are named by their ids."""

    drained: Mapping[str, str] = field(default_factory=dict)  # hosts, and the pool that locked each
    partitions: Mapping[str, str] = field(default_factory=dict)  # of pools; used as they are
    made: Mapping[str, frozenset[str]] = field(default_factory=dict)  # hosts of all other pools
    own: frozenset[str] = frozenset()  # pools, past ones too: of others nothing is undone


@dataclass(frozen=True, slots=True, kw_only=True)
class CardUsage:
    """How busy a card is. None: its driver does not say."""

    kind: CardKind
    index: int  # the number that a job's environment names it by
    busy_percent: float | None = None
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUsage:
    """How busy a host is, with everything that runs on it. None: it cannot be told."""

    cpu_percent: float | None = None  # of all its CPUs; the mean since the sample before
    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    disk_free_mib: int | None = None  # of the file system that jobs write to
    disk_total_mib: int | None = None
    cards: tuple[CardUsage, ...] = ()  # those that can be read


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskUsage:
    """What all processes of a task use together, also those that left its session."""

    ref: EngineRef
    index: int
    cpu_millis: int | None = None  # the mean since the sample before; 1000 is one CPU all the time
    memory_mib: int | None = None  # resident


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at everything."""

    hosts: Mapping[str, HostUsage]  # by name
    tasks: tuple[TaskUsage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    is_reachable: bool
    version: str
    message: str = ""  # what is wrong, and what to do about it


class Engine(Protocol):
    """Runs workloads somewhere. Every method may be called again with the same arguments."""

    name: str

    async def open(self, on_change: Callable[[], None]) -> None:
        """Find what was started before (by an earlier server too) and begin to watch it.

        `on_change` is called in the event loop, soon after any task starts or ends, and when in
        doubt: it tells to observe again, nothing more.
        """

    async def close(self) -> None:
        """Stop watching. What runs goes on, and is found again by the next `open`."""

    async def start(self, launch: Launch) -> EngineRef:
        """Start all tasks of an attempt. The same attempt twice starts it once.

        Returns when the tasks are handed over; they may not be up yet. Holds too after a crash
        between this call and the record of its answer: the second call finds the first. What a task
        prints is in `log_file` of the job folder, byte for byte as it is written: requests read it
        there, and never wait for an engine.

        Raises:
            EngineRefused: it can never run as it is.
            EngineUnavailable: not now; nothing is known, try again.
        """

    async def find(self, attempt_id: str, folder: Path) -> EngineRef | None:
        """The reference of an attempt that was started, or None."""

    async def observe(self, refs: Collection[EngineRef]) -> Mapping[EngineRef, Observation]:
        """Report what became of many attempts. Asking changes nothing.

        Args:
            refs: as returned by `start`. At most OBSERVE_BATCH_MAX of them.

        Returns:
            One observation a ref. A ref the engine does not know maps to one without tasks.

        Raises:
            EngineUnavailable: nothing is known, nothing changed.
        """

    async def stop(self, ref: EngineRef, grace_seconds: float) -> None:
        """Ask every task to end, and kill every process of the attempt after the grace time.

        Those that left the process group or the session too. Returns at once; `observe` tells when
        the last process is gone. An attempt that has ended, or is not known, is left as it is; one
        that has not come up yet never will.
        """

    async def forget(self, ref: EngineRef) -> None:
        """Drop every trace of an attempt that has ended, its job folder too."""

    async def observe_hosts(self) -> Mapping[str, HostCondition]:
        """The condition of hosts by name, as far as the engine knows it; one left out is fine."""

    async def observe_cluster(self) -> Cluster | None:
        """The machines that the engine manages itself; they may be others than at the start.

        None: it manages none, or knows nothing of them yet. Then the inventory says what there is.
        """

    async def arrange(self, wish: ClusterWish) -> None:
        """Have the cluster as it is wished for, as far as the engine manages one and may change it.

        Returns at once. The last wish counts, and is kept to until the engine is closed: what is
        undone by others is done again, and what cannot be done is told by `observe_cluster`.
        """

    async def sample(self, hosts: Collection[str]) -> Sample:
        """How busy these hosts are, and every running task.

        What cannot be measured is left out or None, never 0 or a guess. A mean needs two looks:
        two that follow at once give none. Only one caller a server: means count from its last look.

        Raises:
            EngineUnavailable: nothing is known.
        """

    async def health(self) -> Health:
        """Whether the engine answers."""
