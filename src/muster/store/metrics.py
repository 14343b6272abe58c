"""Samples of nodes and tasks, in a file of their own: `DATA/metrics.db`.

They are no part of what muster promises to keep. A crash may cost the last minute; a file that is
damaged or missing is made anew; what cannot be written is dropped. So the file needs no migrations
either: one of another schema is made anew, too.

One thread does everything, on one connection.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import structlog

from muster.domain.errors import StoreUnavailable
from muster.domain.metric import (
    MINUTE_MS,
    NodeMetric,
    NodeReading,
    Reading,
    Summary,
    TaskMetric,
)
from muster.store.statements import load_statements

SQL: Final = load_statements("metrics")

SCHEMA: Final = 1
ROWS_MAX: Final = 2_000_000  # about 70 MB
# What is dropped at once where that is reached: so it is not reached again a minute later.
ROWS_MAX_DROPPED_PERCENT: Final = 5
BUSY_TIMEOUT_MS: Final = 1_000  # somebody looks into the file with a tool of their own
CACHE_KIB: Final = 1_024

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

# By metric, by number of the period since the epoch.
Series = Mapping[str, Mapping[int, Summary]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """From which minute to which, both included, and how many minutes a period has."""

    first_minute: int
    last_minute: int
    period_minutes: int = 1

    @property
    def periods(self) -> range:
        """Numbers of the periods, the ones that are cut short at both ends included."""
        first, last = self.first_minute, self.last_minute
        return range(first // self.period_minutes, last // self.period_minutes + 1)


class MetricsStore:
    """The file. It is opened when it is first used, and no trouble with it reaches the server."""

    def __init__(self, path: Path, *, kept_hours: int, rows_max: int = ROWS_MAX) -> None:
        self._path = path
        self._kept_minutes = kept_hours * 60
        self._rows_max = rows_max
        self._rows = 0  # at most so many: a value that joins a minute is counted as a row at first
        self._pruned_minute = 0
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        self._is_closed = False

    @property
    def kept_minutes(self) -> int:
        return self._kept_minutes

    async def add(self, readings: Sequence[Reading], *, now_ms: int) -> None:
        """Store one sample of everything, and drop what has become too old.

        Raises:
            StoreUnavailable: it is lost.
        """
        await self._run(self._add, readings, now_ms // MINUTE_MS)

    async def sum_up_nodes(self, partition: str, span: Span) -> Series:
        """All nodes of a partition together. A metric that has no values in the span is empty.

        Raises:
            StoreUnavailable: the file cannot be read now.
        """
        return await self._run(_sum_up_nodes, partition, span)

    async def sum_up_tasks(
        self, wanted: Sequence[tuple[int, Span]], *, task_index: int | None = None
    ) -> list[Series]:
        """For each (workload, span), its tasks together, or one of them.

        A metric that has no values in the span is not there.

        Raises:
            StoreUnavailable: the file cannot be read now.
        """
        return await self._run(_sum_up_tasks, wanted, task_index)

    def close(self) -> None:
        """Finish what was handed over, and close."""
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.submit(self._close)
        self._thread.shutdown()

    async def _run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if self._is_closed:
            raise StoreUnavailable("The server is shutting down; try again in a moment.")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._thread, lambda: self._try(lambda c: work(c, *args, **kwargs))
            )
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"Metrics cannot be kept in {self._path} at the moment ({error})."
            ) from error

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do it; where the file turns out to be damaged, once more in a new one."""
        try:
            return self._do(work)
        except sqlite3.OperationalError:
            self._close()
            raise  # the disk or a lock: the file may be as good as ever
        except sqlite3.DatabaseError as error:
            log.warning("metrics_made_anew", file=str(self._path), why=str(error))
            self._close()
            self._remove()
            return self._do(work)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection or self._open()
        connection.execute("BEGIN")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return result

    def _open(self) -> sqlite3.Connection:
        connection = _connect(self._path)
        try:
            [schema] = connection.execute("PRAGMA user_version").fetchone()
            if schema not in (0, SCHEMA):
                raise sqlite3.DatabaseError(f"it has schema {schema}, this muster {SCHEMA}")  # noqa: TRY301 - as damaged
            for statement in ("create_series", "create_point", "create_point_by_minute"):
                connection.execute(SQL[statement])
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            self._rows = _count_points(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._pruned_minute = 0
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _add(
        self, connection: sqlite3.Connection, readings: Sequence[Reading], minute: int
    ) -> None:
        rows = [_row(reading, minute) for reading in readings]
        connection.executemany(SQL["put_series"], rows)
        connection.executemany(SQL["add_to_point"], rows)
        self._rows += len(rows)
        if minute != self._pruned_minute:
            self._pruned_minute = minute
            self._rows -= _drop(connection, up_to_minute=minute - self._kept_minutes)
        if self._rows > self._rows_max:
            self._keep_to_bound(connection)

    def _keep_to_bound(self, connection: sqlite3.Connection) -> None:
        """The oldest minutes go, until there are few enough rows."""
        self._rows = _count_points(connection)
        if self._rows <= self._rows_max:
            return
        kept = self._rows_max * (100 - ROWS_MAX_DROPPED_PERCENT) // 100
        [minute] = connection.execute(SQL["find_newest_to_drop"], {"kept": kept}).fetchone()
        self._rows -= _drop(connection, up_to_minute=minute)
        log.warning("metrics_dropped", why="too many rows", rows_max=self._rows_max)


def _connect(path: Path) -> sqlite3.Connection:
    # The thread is always the same; only the last call of all may come from another.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _row(reading: Reading, minute: int) -> dict[str, Any]:
    if isinstance(reading, NodeReading):
        key = {"kind": "node", "owner": reading.partition, "part": reading.node_name}
    else:
        key = {
            "kind": "task",
            "owner": str(reading.workload_id),
            "part": str(reading.task_index),
        }
    return {**key, "metric": reading.metric, "minute": minute, "value": reading.value}


def _count_points(connection: sqlite3.Connection) -> int:
    [count] = connection.execute(SQL["count_points"]).fetchone()
    return int(count)


def _drop(connection: sqlite3.Connection, *, up_to_minute: int) -> int:
    """Drop old points, and the series that have none any more; tell how many points."""
    dropped = connection.execute(SQL["drop_points"], {"minute": up_to_minute}).fetchall()
    emptied = [{"series_id": series_id} for series_id in {row[0] for row in dropped}]
    connection.executemany(SQL["drop_series_without_points"], emptied)
    return len(dropped)


def _sum_up_nodes(connection: sqlite3.Connection, partition: str, span: Span) -> Series:
    known = {
        row[0] for row in connection.execute(SQL["list_node_metrics"], {"partition": partition})
    }
    series: dict[str, dict[int, Summary]] = {m: {} for m in NodeMetric if m in known}
    rows = connection.execute(SQL["sum_up_nodes"], {"partition": partition, **_bounds(span)})
    for metric, period, *values in rows:
        series[metric][period] = _summary(values)
    return series


def _sum_up_tasks(
    connection: sqlite3.Connection,
    wanted: Sequence[tuple[int, Span]],
    task_index: int | None,
) -> list[Series]:
    part = None if task_index is None else str(task_index)
    found: list[Series] = []
    for workload_id, span in wanted:
        key = {"workload_id": str(workload_id), "task_index": part}
        series: dict[str, dict[int, Summary]] = {}
        for metric, period, *values in connection.execute(
            SQL["sum_up_tasks"], {**key, **_bounds(span)}
        ):
            series.setdefault(metric, {})[period] = _summary(values)
        found.append({m: series[m] for m in TaskMetric if m in series})
    return found


def _bounds(span: Span) -> dict[str, int]:
    return {
        "first": span.first_minute,
        "last": span.last_minute,
        "period_minutes": span.period_minutes,
    }


def _summary(values: Sequence[Any]) -> Summary:
    count, total, least, most = values
    return Summary(count=count, total=total, least=least, most=most)
