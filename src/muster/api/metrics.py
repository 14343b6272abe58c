"""What was measured of pools and tasks, and what pools give away now."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from muster.api.http import Reply, Request, json_reply
from muster.api.pools.statistics import RESOURCE_NAMES
from muster.api.services import Services
from muster.api.training_v2.lookup import find_row
from muster.api.training_v2.times import TIME_MS_MAX, rfc3339
from muster.api.training_v2.views import task_id_of
from muster.domain.errors import ParameterInvalid, QueryInvalid, StoreUnavailable
from muster.domain.metric import MINUTE_MS, NodeMetric, Statistic, Summary, TaskMetric
from muster.domain.phase import FINISHED
from muster.domain.pool import Pool
from muster.domain.resources import Resources
from muster.store import counting, pools
from muster.store.connection import Connection
from muster.store.jobs import Version
from muster.store.metrics import Span
from muster.wire import metrics as shapes
from muster.wire.decode import decode_query

PERIODS_MAX: Final = 1_440  # of one answer
SYSTEM_SAMPLES_MAX: Final = 120  # of one metric of a version
NO_DATA: Final = -1.0
CARDS: Final = "tnt004"  # accelerators of any kind, as clients look for them
WINDOW: Final = "1m"

_UNITS: Final[Mapping[NodeMetric, str]] = {
    NodeMetric.DISK: "Megabytes",
    NodeMetric.DISK_FREE: "Megabytes",
}
_RANGE: Final = re.compile(r"(-1|\d{1,15})\.(-1|\d{1,15})\.(\d{1,9})")
_SHOWN_LENGTH_MAX: Final = 100


# ---------------------------------------------------------------- pools


async def show_pool_monitor(services: Services, request: Request) -> Reply:
    """All nodes of a pool together: the maximum is that of the busiest, each counts the same."""
    project_id, pool_id = request.params
    query = decode_query(request.query, shapes.MonitorQuery)
    span = parse_time_range(
        query.time_range, period_minutes=int(query.period) // 60, now_ms=services.clock_ms()
    )
    pool = await services.database.read(pools.get_pool, project_id, pool_id)
    statistic = Statistic(query.statistics)
    series = await services.metrics.sum_up_nodes(pool.partition, span)
    return json_reply(
        shapes.PoolMonitor(
            [
                shapes.MonitorSeries(
                    metric=shapes.MonitoredMetric(
                        metricName=metric,
                        dimensions=[shapes.Dimension("clusterId", pool.id)],
                    ),
                    dataPoints=[
                        _data_point(metric, statistic, span, period, series[metric].get(period))
                        for period in span.periods
                    ],
                )
                for metric in NodeMetric
                if metric in series
            ]
        )
    )


def _data_point(
    metric: NodeMetric, statistic: Statistic, span: Span, period: int, summary: Summary | None
) -> shapes.DataPoint:
    value = NO_DATA if summary is None else round(summary.statistic(statistic), 2)
    return shapes.DataPoint(
        timestamp=period * span.period_minutes * MINUTE_MS,
        unit="" if statistic is Statistic.SAMPLE_COUNT else _UNITS.get(metric, "Percent"),
        statistics=[shapes.StatisticValue(statistic, value)],
    )


def parse_time_range(text: str, *, period_minutes: int, now_ms: int) -> Span:
    """START_MS.END_MS.MINUTES as whole minutes; -1 stands for what the other two come to.

    There are as many periods as the range is long; the last one is that in which the range ends.

    Raises:
        QueryInvalid: says which of the three is wrong, and what it may be.
    """
    shown = f"time_range is {text[:_SHOWN_LENGTH_MAX]!r}"
    parts = _RANGE.fullmatch(text)
    if parts is None:
        raise QueryInvalid(
            f"{shown}; it must be START.END.MINUTES: epoch milliseconds or -1, twice, and a whole"
            " number of minutes, such as '-1.-1.60'."
        )
    start_ms, end_ms, minutes = (int(part) for part in parts.groups())
    minutes_max = PERIODS_MAX * period_minutes
    if not 0 < minutes <= minutes_max:
        raise QueryInvalid(
            f"{shown}; its minutes must be from 1 to {minutes_max}: at most {PERIODS_MAX} periods"
            f" of {period_minutes * 60} seconds are answered at once."
        )
    if max(start_ms, end_ms) > TIME_MS_MAX:
        raise QueryInvalid(f"{shown}; its times must be from 0 to {TIME_MS_MAX}, or -1.")
    if end_ms < 0:
        end_ms = now_ms if start_ms < 0 else min(start_ms + minutes * MINUTE_MS, now_ms)
    if start_ms < 0:
        start_ms = max(0, end_ms - minutes * MINUTE_MS)
    if start_ms >= end_ms:
        raise QueryInvalid(
            f"{shown}; it must end after its start, and start before now, which is {now_ms}."
        )
    if minutes < (end_ms - start_ms) / MINUTE_MS - 1:
        least = -(-(end_ms - start_ms) // MINUTE_MS) - 1
        raise QueryInvalid(
            f"{shown}; its minutes must be at least {least}, as long as from its start to its end."
        )
    return _span(start_ms, end_ms, period_minutes)


def _span(start_ms: int, end_ms: int, period_minutes: int) -> Span:
    """From a moment to a later one, that itself left out."""
    first_minute, last_minute = start_ms // MINUTE_MS, (end_ms - 1) // MINUTE_MS
    period_count = -(-(end_ms - start_ms) // (period_minutes * MINUTE_MS))
    first_period = last_minute // period_minutes - period_count + 1
    return Span(
        first_minute=max(first_minute, first_period * period_minutes),
        last_minute=last_minute,
        period_minutes=period_minutes,
    )


async def list_runtime_metrics(services: Services, request: Request) -> Reply:
    """What each pool has, and what the project's workloads hold of it: from counters, exact."""
    project_id = request.params[0]
    now = rfc3339(services.clock_ms())

    def read(connection: Connection) -> tuple[list[Pool], Mapping[str, Resources]]:
        held = counting.held_by_pool(connection, project_id)
        return pools.list_pools(connection, project_id), held

    found, held = await services.database.read(read)
    return json_reply(
        shapes.PoolMetricsList(
            items=[
                _pool_metrics(pool, held.get(pool.id, Resources()), now)
                for pool in found
                if request.caller.may_enter(pool.workspace_id)
            ]
        )
    )


def _pool_metrics(pool: Pool, held: Resources, now: str) -> shapes.PoolMetrics:
    capacity = quantities(pool.capacity, of=pool.capacity)
    return shapes.PoolMetrics(
        metadata=shapes.PoolMetricsMetadata(
            name=pool.id, labels={"os.modelarts/name": pool.display_name}
        ),
        table=shapes.PoolMetricsTable(
            allocated=shapes.AllocatedAmount(quantities(held, of=pool.capacity), now, WINDOW),
            # Pools do not grow by themselves: what one has is the most that it can have.
            capacity=shapes.CapacityAmount(
                value=capacity, maxValue=capacity, timestamp=now, window=WINDOW
            ),
        ),
    )


def quantities(resources: Resources, *, of: Resources) -> dict[str, str]:
    """As Kubernetes writes them, with a key for each kind of card that there is any `of`."""
    cpu, memory, gpu, npu = RESOURCE_NAMES
    cores, rest = divmod(resources.cpu_millis, 1000)
    gib, odd_mib = divmod(resources.memory_mib, 1024)
    found = {
        cpu: f"{resources.cpu_millis}m" if rest else str(cores),
        memory: f"{resources.memory_mib}Mi" if odd_mib else f"{gib}Gi",
        CARDS: str(resources.gpu_count + resources.npu_count),
    }
    if of.gpu_count:
        found[gpu] = str(resources.gpu_count)
    if of.npu_count:
        found[npu] = str(resources.npu_count)
    return found


# ---------------------------------------------------------------- tasks


async def show_task_metrics(services: Services, request: Request) -> Reply:
    """One mean a minute since the start. 204, as documented, while a live job has no sample."""
    row = await find_row(services, request)
    task_ids = [task_id_of(index) for index in range(row.task_count)]
    task_id = request.params[2]
    if task_id not in task_ids:
        raise ParameterInvalid(
            f"task_id is {task_id[:_SHOWN_LENGTH_MAX]!r}; this job has {', '.join(task_ids)}."
        )
    series: Mapping[str, Mapping[int, Summary]] = {}
    span = _span_of_run(services, row.started_at_ms, row.ended_at_ms)
    if span is not None:
        [series] = await services.metrics.sum_up_tasks(
            [(row.workload_id, span)], task_index=task_ids.index(task_id)
        )
    if not series and row.phase not in FINISHED:
        return Reply(204, b"", [])
    minutes = _minutes_with_values(span, series)
    return json_reply(
        shapes.TaskMetrics(
            [
                shapes.TaskMetricSeries(metric, _averages(series.get(metric, {}), minutes))
                for metric in TaskMetric
            ]
        )
    )


def _span_of_run(
    services: Services, started_at_ms: int | None, ended_at_ms: int | None
) -> Span | None:
    """From its start to its end, or to now; as far back as anything is kept."""
    if started_at_ms is None:
        return None
    last_minute = (services.clock_ms() if ended_at_ms is None else ended_at_ms) // MINUTE_MS
    kept_from = services.clock_ms() // MINUTE_MS - services.metrics.kept_minutes
    first_minute = max(started_at_ms // MINUTE_MS, kept_from)
    if first_minute > last_minute:
        return None
    return Span(first_minute=first_minute, last_minute=last_minute)


def _minutes_with_values(span: Span | None, series: Mapping[str, Mapping[int, Summary]]) -> range:
    """Up to the last one that has any: the present one may not have been sampled yet."""
    last = max((period for values in series.values() for period in values), default=None)
    return range(0) if span is None or last is None else range(span.periods.start, last + 1)


def _averages(values: Mapping[int, Summary], periods: range) -> list[float]:
    return [round(values[period].average, 2) if period in values else NO_DATA for period in periods]


async def system_metrics(services: Services, versions: Sequence[Version]) -> list[dict[str, Any]]:
    """`system_metric_list` of each version: all its workers together; empty without samples."""
    spans = [_span_of_version(services, version) for version in versions]
    wanted = [
        (version.workload_id, span)
        for version, span in zip(versions, spans, strict=True)
        if span is not None
    ]
    try:
        found = iter(await services.metrics.sum_up_tasks(wanted) if wanted else [])
    except StoreUnavailable:
        return [{} for _ in versions]  # the version is known, whatever its metrics are
    return [{} if span is None else _system_metrics(span, next(found)) for span in spans]


def _span_of_version(services: Services, version: Version) -> Span | None:
    ended_at_ms = None
    if version.started_at_ms is not None and version.duration_ms is not None:
        ended_at_ms = version.started_at_ms + version.duration_ms
    span = _span_of_run(services, version.started_at_ms, ended_at_ms)
    if span is None:
        return None
    minutes = span.last_minute - span.first_minute + 1
    return Span(
        first_minute=span.first_minute,
        last_minute=span.last_minute,
        period_minutes=-(-minutes // SYSTEM_SAMPLES_MAX),
    )


def _system_metrics(span: Span, series: Mapping[str, Mapping[int, Summary]]) -> dict[str, Any]:
    if not series:
        return {}
    periods = _minutes_with_values(span, series)
    shown: dict[str, Any] = {
        metric: [f"{value:g}" for value in _averages(series[metric], periods)]
        for metric in TaskMetric
        if metric in series
    }
    return {**shown, "interval": span.period_minutes}
