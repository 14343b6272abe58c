"""What is measured of nodes and tasks, and what many measurements come to."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MINUTE_MS: Final = 60_000


class NodeMetric(StrEnum):
    """Of a node. The values are public."""

    CPU = "cpuUsage"
    MEMORY = "memUsedRate"
    GPU = "gpuUtil"
    GPU_MEMORY = "gpuMemUsage"
    NPU = "npuUtil"
    NPU_MEMORY = "npuMemUsage"
    DISK = "diskCapacity"
    DISK_FREE = "diskAvailableCapacity"
    DISK_USED = "diskUsedRate"


class TaskMetric(StrEnum):
    """Of a task, in percent of what it holds. The values are public."""

    CPU = "cpuUsage"
    MEMORY = "memUsage"
    GPU = "gpuUtil"
    GPU_MEMORY = "gpuMemUsage"
    NPU = "npuUtil"
    NPU_MEMORY = "npuMemUsage"


class Statistic(StrEnum):
    """What a period is summed up to. The values are public."""

    MAXIMUM = "maximum"
    MINIMUM = "minimum"
    SUM = "sum"
    AVERAGE = "average"
    SAMPLE_COUNT = "sampleCount"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReading:
    """One value of one node at one moment."""

    partition: str  # what the node was a part of then
    node_name: str
    metric: NodeMetric
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReading:
    """One value of one task at one moment."""

    workload_id: int
    task_index: int
    metric: TaskMetric
    value: float


Reading = NodeReading | TaskReading


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All the values of a period."""

    count: int
    total: float
    least: float
    most: float

    @property
    def average(self) -> float:
        return self.total / self.count

    def statistic(self, wanted: Statistic) -> float:
        match wanted:
            case Statistic.MAXIMUM:
                return self.most
            case Statistic.MINIMUM:
                return self.least
            case Statistic.SUM:
                return self.total
            case Statistic.AVERAGE:
                return self.average
            case Statistic.SAMPLE_COUNT:
                return float(self.count)
