"""How many workloads stand in which state, and how many pools."""

import re
from collections import Counter
from datetime import UTC, datetime
from operator import add
from typing import Any, Final

import msgspec

from muster.api.http import Reply, Request, json_reply
from muster.api.pools.pools import status_word
from muster.api.services import Services
from muster.domain.errors import QueryInvalid
from muster.domain.phase import StatisticsState
from muster.domain.pool import Pool, PoolPhase
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.domain.workload import WorkloadType
from muster.store import counting, pools
from muster.store.connection import Connection
from muster.wire.decode import decode_query
from muster.wire.pools import (
    PoolCounts,
    PoolStates,
    PoolStatistics,
    PoolStatisticsQuery,
    ResourceUse,
    StateCounts,
    Statistics,
    TypeStatistics,
    WorkloadStatistics,
)

FAILED_COUNTED_MS: Final = 3 * 24 * 3_600_000
FAILED_COUNTED_MAX: Final = 500
_TYPES: Final = tuple(type_.value for type_ in WorkloadType)
RESOURCE_NAMES: Final = ("cpu", "memory", "nvidia.com/gpu", "huawei.com/ascend-1980")
_NONE_COUNTED: Final = (0,) * 10
_NOTHING_HELD: Final = (0, 0, 0, 0)
_GONE_PHASES: Final = frozenset({PoolPhase.CREATION_FAILED, PoolPhase.DELETING})


def _json_template(example: WorkloadStatistics) -> bytes:
    """The JSON of a struct of zeros, with a place for each of its numbers."""
    text = msgspec.json.encode(example)
    return re.sub(rb"\b0\b", b"%d", text.replace(b"0.0", b"%.12g"))


# Filling in numbers takes a quarter of the time that building and encoding 14 structs takes, and
# this call is the one that everybody polls. The shape is still written down once: in the structs.
_STATISTICS: Final = _json_template(
    WorkloadStatistics(
        Statistics(
            0,
            [
                TypeStatistics(type_, 0, StateCounts(*[0] * len(StatisticsState)))
                for type_ in _TYPES
            ],
            {name: ResourceUse(0.0, 0.0) for name in RESOURCE_NAMES},
        )
    )
)


async def show_workload_statistics(services: Services, request: Request) -> Reply:
    """The heart: one indexed statement, whatever the number of jobs."""
    project_id, pool_id = request.params
    body = await services.database.read_shared(
        _statistics, pool_id, project_id, services.counts_jobs_in_total
    )
    return Reply(200, body)


def _statistics(
    connection: Connection, pool_id: str, project_id: str, counts_jobs_in_total: bool
) -> bytes:
    rows = _read_statistics(connection, pool_id, project_id)
    if not rows:
        raise pools.pool_unknown(pool_id)
    phase, cpu, memory, gpus, npus = rows[0][:5]
    if phase in _GONE_PHASES:
        raise QueryInvalid(f"Pool {pool_id} is {phase}; its workloads cannot be counted.")
    by_type = {row[5]: row for row in rows}
    counts: list[int] = []  # for each type its total, then its nine states
    held = _NOTHING_HELD
    for type_ in _TYPES:
        row = by_type.get(type_)
        if row is None:
            counts += _NONE_COUNTED
        else:
            counts += row[6:16]
            held = row[16:] if held is _NOTHING_HELD else tuple(map(add, held, row[16:]))
    return _STATISTICS % (
        sum(counts[::10]) if counts_jobs_in_total else len(_TYPES),
        *counts,
        held[0] / 1000,
        cpu / 1000,
        held[1] / 1024,
        memory / 1024,
        held[2],
        gpus,
        held[3],
        npus,
    )


def _read_statistics(
    connection: Connection, pool_id: str, project_id: str
) -> list[tuple[Any, ...]]:
    return connection.execute(counting.SQL["pool_statistics"], (pool_id, project_id)).fetchall()


async def show_pool_statistics(services: Services, request: Request) -> Reply:
    """How many pools of a workspace stand where; each in one place."""
    query = decode_query(request.query, PoolStatisticsQuery)
    workspace_id = query.workspaceId or DEFAULT_WORKSPACE_ID
    now_ms = services.clock_ms()
    found = await services.database.read(pools.list_pools, request.caller.project_id)
    counts = Counter(
        "deleting" if pool.phase is PoolPhase.DELETING else status_word(pool.phase)
        for pool in found
        if pool.workspace_id == workspace_id and not _is_forgotten(pool, now_ms)
    )
    return json_reply(
        PoolStatistics(
            statistics=PoolStates(
                status=PoolCounts(
                    creating=counts["creating"],
                    created=counts["created"],
                    failed=min(counts["failed"], FAILED_COUNTED_MAX),
                    pending=counts["pending"],
                    deleting=counts["deleting"],
                )
            ),
            operationTime=_go_time(now_ms),
        )
    )


def _is_forgotten(pool: Pool, now_ms: int) -> bool:
    return status_word(pool.phase) == "failed" and now_ms - pool.phase_since_ms > FAILED_COUNTED_MS


def _go_time(at_ms: int) -> str:
    """As Go prints a time, to the nanosecond: clients know it so."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at_ms % 1000:03}000000 +0000 UTC"
