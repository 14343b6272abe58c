"""What tasks on Slurm use, as their nodes write it down."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from muster.engines.attemptfiles import read_state
from muster.engines.engine import EngineRef, TaskUsage
from muster.engines.slurmjob import USAGE_FILE


class Usage(msgspec.Struct, frozen=True):
    """What the processes of a task have used up to a moment."""

    at_ms: int
    cpu_ms: int
    memory_mib: int


def read_usage(folders: Sequence[Path]) -> list[Usage | None]:
    """As the nodes say; blocks."""
    return [read_state(folder / USAGE_FILE, Usage) for folder in folders]


class UsageMeter:
    """Turns what has been used in all into what is used now: a mean needs two looks."""

    def __init__(self) -> None:
        self._before: dict[tuple[EngineRef, int], Usage] = {}

    def measure(
        self, tasks: Sequence[tuple[EngineRef, int]], read: Sequence[Usage | None]
    ) -> tuple[TaskUsage, ...]:
        before, self._before = self._before, {}
        return tuple(
            self._measure_one(ref, index, before.get((ref, index)), usage)
            for (ref, index), usage in zip(tasks, read, strict=True)
        )

    def _measure_one(
        self, ref: EngineRef, index: int, before: Usage | None, usage: Usage | None
    ) -> TaskUsage:
        if usage is None:
            return TaskUsage(ref=ref, index=index)
        cpu_millis = mean_cpu_millis(before, usage)
        # The node may not have looked again yet: then the mean counts from where it did.
        self._before[ref, index] = usage if cpu_millis is not None else before or usage
        return TaskUsage(ref=ref, index=index, cpu_millis=cpu_millis, memory_mib=usage.memory_mib)


def mean_cpu_millis(before: Usage | None, usage: Usage) -> int | None:
    """Thousandths of a CPU between two looks of the node; None where it has not looked twice."""
    if before is None or usage.at_ms <= before.at_ms:
        return None
    # A process that ends while the node looks is missing once, and is back with its parent's.
    gained = max(usage.cpu_ms - before.cpu_ms, 0)
    return round(1000 * gained / (usage.at_ms - before.at_ms))
