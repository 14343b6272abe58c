"""What this machine is doing, and what of it the processes of each task do.

Nothing here raises because something cannot be read: what has no source is absent. Everything here
blocks: call it in a thread.

Source: proc_pid_stat(5), Linux man-pages 6.03; NVML API reference 13.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from muster.domain.placement import CardKind
from muster.engines import shim
from muster.engines.attemptfiles import Claim, read_claim
from muster.engines.engine import CardUsage, EngineRef, HostUsage, TaskUsage
from muster.engines.nvml import open_nvml

# The kernel counts CPU time in ticks of 10 ms: the mean of a shorter span is mostly error.
SPAN_SECONDS_MIN: Final = 0.1
# Until then the mean since a task's start stands for its first span; later it would be old news.
FIRST_SPAN_SECONDS_MAX: Final = 60.0
MIB: Final = 1 << 20

ReadCards = Callable[[], tuple[CardUsage, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTask:
    """A task whose processes are to be looked at."""

    ref: EngineRef
    index: int
    folder: Path  # where its shim has left its claim


@dataclass(frozen=True, slots=True)
class _Spent:
    """CPU time up to a moment: two of them make a mean."""

    cpu_seconds: float
    at: float  # monotonic


@dataclass(frozen=True, slots=True)
class _Family:
    """What the processes of one task come to."""

    cpu_seconds: float  # of those that have ended, too
    memory_bytes: int


class UsageReader:
    """Remembers the CPU time of the look before, so that it can tell means."""

    def __init__(self, folder: Path, read_cards: ReadCards) -> None:
        self._folder = folder
        self._read_cards = read_cards
        self._mutex = threading.Lock()
        self._host_before = psutil.cpu_times()
        self._host_before_at = time.monotonic()
        self._before: dict[tuple[EngineRef, int], _Spent] = {}

    def read(self, tasks: Collection[RunningTask]) -> tuple[HostUsage, tuple[TaskUsage, ...]]:
        """The host, and those of the tasks that are still there."""
        with self._mutex:
            return self._read_host(), tuple(self._read_tasks(tasks))

    def _read_host(self) -> HostUsage:
        memory = psutil.virtual_memory()
        free_mib, total_mib = _read_disk(self._folder)
        return HostUsage(
            cpu_percent=self._host_cpu_percent(),
            memory_used_mib=(memory.total - memory.available) // MIB,
            memory_total_mib=memory.total // MIB,
            disk_free_mib=free_mib,
            disk_total_mib=total_mib,
            cards=self._read_cards(),
        )

    def _host_cpu_percent(self) -> float | None:
        now, times, before = time.monotonic(), psutil.cpu_times(), self._host_before
        if now - self._host_before_at < SPAN_SECONDS_MIN:
            return None
        self._host_before, self._host_before_at = times, now
        # What guests use is counted in `user` and `nice`, too.
        passed = sum(times[:8]) - sum(before[:8])
        idle = times.idle + times.iowait - before.idle - before.iowait
        if passed <= 0:
            return None
        return min(max(100 * (passed - idle) / passed, 0.0), 100.0)

    def _read_tasks(self, tasks: Collection[RunningTask]) -> Iterator[TaskUsage]:
        processes = shim.list_processes() if tasks else {}
        seen = {}
        for task in tasks:
            claim = _read_claim_of_living(task.folder, processes)
            if claim is None:
                continue
            family = _read_family(claim.pid, processes)
            key, spent = (task.ref, task.index), _Spent(family.cpu_seconds, time.monotonic())
            before = self._before.get(key) or _spent_before(claim, spent)
            seen[key], cpu_millis = _mean(before, spent)
            yield TaskUsage(
                ref=task.ref,
                index=task.index,
                cpu_millis=cpu_millis,
                memory_mib=family.memory_bytes // MIB,
            )
        self._before = seen


def _mean(before: _Spent, spent: _Spent) -> tuple[_Spent, int | None]:
    """(what the next mean counts from, thousandths of a CPU)."""
    span = spent.at - before.at
    if span < SPAN_SECONDS_MIN:
        return before, None
    # A process that ends while we look is missing once, and is back with its parent's next time.
    gained = max(spent.cpu_seconds - before.cpu_seconds, 0.0)
    cpu_seconds = max(spent.cpu_seconds, before.cpu_seconds)
    return _Spent(cpu_seconds, spent.at), round(1000 * gained / span)


def _spent_before(claim: Claim, spent: _Spent) -> _Spent:
    """What a task that is seen for the first time is compared with: nothing at its start."""
    age = time.time() - claim.started_at_ms / 1000
    if 0 <= age <= FIRST_SPAN_SECONDS_MAX:
        return _Spent(0.0, spent.at - age)
    return spent  # started under an earlier server: its mean begins here


def _read_claim_of_living(folder: Path, processes: Mapping[int, tuple[int, int]]) -> Claim | None:
    """The claim of a task whose shim is among the processes."""
    try:
        claim = read_claim(folder)
    except OSError:
        return None
    if claim is None or claim.fenced_at_ms is not None:
        return None
    known = processes.get(claim.pid)
    is_alive = known is not None and known[1] == claim.start_ticks
    return claim if is_alive and claim.boot_id == shim.read_boot_id() else None


def _read_family(shim_pid: int, processes: Mapping[int, tuple[int, int]]) -> _Family:
    """What everything below a shim uses; the shim itself is the platform's.

    Being the subreaper, it inherits what left the session, and the CPU time of all it has reaped.
    """
    cpu_seconds, _ = _read_process(shim_pid, only_reaped=True)
    memory_bytes = 0
    for pid in shim.find_descendants({shim_pid}, processes):
        seconds, resident = _read_process(pid)
        cpu_seconds += seconds
        memory_bytes += resident
    return _Family(cpu_seconds, memory_bytes)


def _read_process(pid: int, *, only_reaped: bool = False) -> tuple[float, int]:
    """(CPU seconds, resident bytes); with the CPU time of its children that it has reaped."""
    try:
        process = psutil.Process(pid)
        times, resident = process.cpu_times(), process.memory_info().rss
    except psutil.Error:
        return 0.0, 0  # it has just ended; its time is now with who reaped it
    reaped = times.children_user + times.children_system
    return (reaped if only_reaped else reaped + times.user + times.system), resident


def _read_disk(folder: Path) -> tuple[int | None, int | None]:
    """(free, total) MiB of the file system that a folder is on."""
    try:
        disk = psutil.disk_usage(str(folder))
    except OSError:
        return None, None
    return disk.free // MIB, disk.total // MIB


class NvidiaCards:
    """Reads the GPUs by NVML, which is set up once, at the first reading.

    NPUs are absent: `npu-smi` takes about a second a card for the same.
    """

    def __init__(self, open_driver: Callable[[], Any | None] = open_nvml) -> None:
        self._open_driver = open_driver
        self._nvml: Any | None = None
        self._is_open = False

    def __call__(self) -> tuple[CardUsage, ...]:
        if not self._is_open:
            self._nvml, self._is_open = self._open_driver(), True
        nvml = self._nvml
        if nvml is None:
            return ()
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:
            return ()
        found = (_read_gpu(nvml, index) for index in range(count))
        return tuple(card for card in found if card is not None)


def _read_gpu(nvml: Any, index: int) -> CardUsage | None:
    """None for a card that has fallen off the bus: it does nothing that could be told."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        return None
    try:
        busy_percent = float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:
        busy_percent = None  # a card that is split (MIG) does not say
    return CardUsage(
        kind=CardKind.GPU,
        index=index,
        busy_percent=busy_percent,
        memory_used_mib=int(memory.used) // MIB,
        memory_total_mib=int(memory.total) // MIB,
    )
