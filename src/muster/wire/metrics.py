"""JSON shapes of what is measured: series of pools and tasks, and what pools give away now."""

from typing import Literal

from msgspec import Struct

StatisticName = Literal["maximum", "minimum", "sum", "average", "sampleCount"]


class MonitorQuery(Struct, kw_only=True):
    time_range: str = "-1.-1.60"  # START_MS.END_MS.MINUTES; -1: as the other two say
    statistics: StatisticName = "maximum"
    period: Literal["60", "300", "900", "3600"] = "60"  # seconds


class Dimension(Struct):
    name: str
    value: str


class MonitoredMetric(Struct, kw_only=True):
    """An object: the page that calls it a list shows an object, too."""

    metricName: str  # noqa: N815 - the wire's name
    namespace: str = "PAAS.AGGR"
    dimensions: list[Dimension]


class StatisticValue(Struct):
    statistic: str
    value: float  # -1: the period has no data


class DataPoint(Struct):
    timestamp: int  # when the period begins, in epoch ms
    unit: str
    statistics: list[StatisticValue]


class MonitorSeries(Struct, kw_only=True):
    metric: MonitoredMetric
    dataPoints: list[DataPoint]  # noqa: N815 - likewise


class PoolMonitor(Struct):
    metrics: list[MonitorSeries]


class AllocatedAmount(Struct):
    value: dict[str, str]  # as Kubernetes writes quantities
    timestamp: str  # RFC 3339
    window: str


class CapacityAmount(Struct, kw_only=True):
    value: dict[str, str]
    maxValue: dict[str, str]  # noqa: N815 - likewise
    timestamp: str
    window: str


class PoolMetricsTable(Struct):
    allocated: AllocatedAmount
    capacity: CapacityAmount


class PoolMetricsMetadata(Struct):
    name: str
    labels: dict[str, str]


class PoolMetrics(Struct):
    metadata: PoolMetricsMetadata
    table: PoolMetricsTable


class PoolMetricsList(Struct, kw_only=True):
    apiVersion: str = "v2"  # noqa: N815 - likewise
    kind: str = "PoolMetricsList"
    items: list[PoolMetrics]


class TaskMetricSeries(Struct):
    metric: str
    value: list[float]  # one mean a minute since the start of the job; -1: no data


class TaskMetrics(Struct):
    metrics: list[TaskMetricSeries]
