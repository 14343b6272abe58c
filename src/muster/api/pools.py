"""The resource layer: pools, the workloads in them, and their statistics."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from operator import add
from typing import Any, Final
from uuid import UUID

import msgspec

from muster.api.http import Reply, Request, json_reply
from muster.api.labels import Term, matches, parse_selector
from muster.api.services import Services
from muster.domain.errors import InvalidRequest, PoolUnknown, QueryInvalid
from muster.domain.phase import Phase, Reason, StatisticsState, view_of
from muster.domain.placement import TaskPlacement
from muster.domain.pool import Pool, PoolPhase
from muster.domain.resources import Resources
from muster.domain.workload import WorkloadType
from muster.store import counting, pools, workloads
from muster.store.database import Connection
from muster.wire.decode import decode_query
from muster.wire.pools import (
    PoolList,
    PoolMetadata,
    PoolResource,
    PoolSpec,
    PoolsQuery,
    PoolStatus,
    PoolView,
    ResourceUse,
    ScopeState,
    StateCounts,
    Statistics,
    TypeStatistics,
    WorkloadList,
    WorkloadNode,
    WorkloadsQuery,
    WorkloadStatistics,
    WorkloadView,
)

_TYPES: Final = tuple(type_.value for type_ in WorkloadType)
RESOURCE_NAMES: Final = ("cpu", "memory", "nvidia.com/gpu", "huawei.com/ascend-1980")
_NONE_COUNTED: Final = (0,) * 10
_NOTHING_HELD: Final = (0, 0, 0, 0)
_GONE_PHASES: Final = frozenset({PoolPhase.CREATION_FAILED, PoolPhase.DELETING})
_PLACEMENTS = msgspec.json.Decoder(tuple[TaskPlacement, ...])


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
        raise _pool_unknown(pool_id)
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


def _pool_unknown(pool_id: str) -> PoolUnknown:
    return PoolUnknown(f"Pool {pool_id} not found.")


async def list_pools(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, PoolsQuery)
    found = await services.database.read(pools.list_pools, request.caller.project_id)
    terms = parse_selector(query.labelSelector or "")
    selected = [pool for pool in found if _is_selected(pool, query, terms)]
    return json_reply(PoolList(items=[_pool_view(pool) for pool in selected]))


def _is_selected(pool: Pool, query: PoolsQuery, terms: Sequence[Term]) -> bool:
    if query.workspaceId not in (None, "", "0"):
        return False  # declared pools are in the default workspace
    if query.status is not None and query.status != _status_filter(pool.phase):
        return False
    return matches(_labels(pool), terms)


def _status_filter(phase: PoolPhase) -> str:
    if phase is PoolPhase.CREATING:
        return "creating"
    return "failed" if phase in (PoolPhase.CREATION_FAILED, PoolPhase.ERROR) else "created"


async def show_pool(services: Services, request: Request) -> Reply:
    project_id, pool_id = request.params
    pool = await services.database.read(pools.find_pool, project_id, pool_id)
    if pool is None:
        raise _pool_unknown(pool_id)
    return json_reply(_pool_view(pool))


def _labels(pool: Pool) -> dict[str, str]:
    return {
        "os.modelarts/name": pool.display_name,
        "os.modelarts/workspace.id": "0",
        "os.modelarts/tenant.project.id": pool.project_id,
        "os.modelarts.pool/biz": "public" if pool.is_public else "private",
    }


def _pool_view(pool: Pool) -> PoolView:
    created = datetime.fromtimestamp(pool.created_at_ms / 1000, UTC)
    lines = [PoolResource(flavor=pool.flavor_code, count=pool.node_count, maxCount=pool.node_count)]
    return PoolView(
        metadata=PoolMetadata(
            name=pool.id,
            creationTimestamp=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            labels=_labels(pool),
            annotations={"os.modelarts/description": ""},
        ),
        spec=PoolSpec(scope=list(pool.scopes), resources=lines),
        status=PoolStatus(
            phase=pool.phase,
            scope=[ScopeState(scopeType=scope, state="Enabled") for scope in pool.scopes],
            resources={"available": lines},  # keys without nodes are left out
        ),
    )


async def list_workloads(services: Services, request: Request) -> Reply:
    project_id, pool_id = request.params
    query = decode_query(request.query, WorkloadsQuery)
    filters = _filters(query)
    now_ms = services.clock_ms()

    def read(connection: Connection) -> tuple[int, list[WorkloadView]]:
        pool = pools.find_pool(connection, project_id, pool_id)
        if pool is None:
            raise _pool_unknown(pool_id)
        positions = workloads.queue_positions(connection, pool.partition)
        total, rows = workloads.list_pool_workloads(
            connection, project_id=project_id, pool_id=pool_id, **filters
        )
        return total, [_workload_view(row, positions.get(row[0], -1), now_ms) for row in rows]

    total, items = await services.database.scan(read)
    return json_reply(WorkloadList(items=items, total=total))


def _filters(query: WorkloadsQuery) -> dict[str, Any]:
    types = _words(query.type)
    for type_ in types:
        if type_ not in (*_TYPES, "x-infer"):
            raise InvalidRequest(
                f"type is {type_!r}; it must be one of {', '.join(_TYPES)} and x-infer."
            )
    states = _words(query.status)
    for state in states:
        if state not in tuple(StatisticsState):
            raise InvalidRequest(
                f"status is {state!r}; it must be one of {', '.join(StatisticsState)}."
            )
    hosts = _words(query.hostip)
    return {
        # muster runs every kind of inference as `infer`.
        "types": ["infer" if type_ == "x-infer" else type_ for type_ in types] or None,
        "phases": [p for p in Phase if view_of(p).statistics in states] if states else None,
        "hosts": hosts or None,
        # Newest first, unless another order was asked for.
        "is_ascending": query.ascend and query.sort == "create_time",
        "offset": 0 if hosts else query.offset,
        "limit": 500 if hosts else query.limit or 500,
    }


def _words(value: str | list[str] | None) -> list[str]:
    """A parameter that is repeated, or holds several values separated by commas."""
    values = value if isinstance(value, list) else [value or ""]
    return [word.strip() for text in values for word in text.split(",") if word.strip()]


def _workload_view(row: Sequence[Any], position: int, now_ms: int) -> WorkloadView:
    (
        _, uid, pool_id, type_, name, flavor_code, phase, reason, task_count,
        cpu_millis, memory_mib, gpu_count, npu_count, priority,
        created_at_ms, started_at_ms, ended_at_ms, _, placements, is_holding, _,
    ) = row  # fmt: skip
    task = Resources(
        cpu_millis=cpu_millis, memory_mib=memory_mib, gpu_count=gpu_count, npu_count=npu_count
    )
    over_at_ms = ended_at_ms or now_ms
    job_uuid = str(UUID(uid))  # as the v2 API writes it
    placed = _PLACEMENTS.decode(placements) if is_holding else ()
    hosts = sorted({placement.node_name for placement in placed})
    return WorkloadView(
        type=type_,
        namespace=pool_id,
        name=f"modelarts-job-{job_uuid}",
        jobName=name,
        uid=job_uuid,
        jobUUID=job_uuid,
        flavor=flavor_code,
        status=view_of(Phase(phase), Reason(reason)).statistics,
        resourceRequirement=_requirement(task * task_count),
        priority=str(priority),
        runningDuration=max(0, over_at_ms - started_at_ms) // 1000 if started_at_ms else 0,
        pendingDuration=max(0, (started_at_ms or over_at_ms) - created_at_ms) // 1000,
        pendingPosition=position,
        createTime=created_at_ms,
        hostIps=",".join(hosts),
        nodes=[
            WorkloadNode(
                hostIp=host,
                npuTopologyPlacement=_npu_mask(p for p in placed if p.node_name == host),
                resourceRequirement=_requirement(task * sum(p.node_name == host for p in placed)),
            )
            for host in hosts
        ],
    )


def _requirement(resources: Resources) -> dict[str, str]:
    requirement = {
        "cpu": f"{resources.cpu_millis / 1000:g} Cores",
        "memory": f"{resources.memory_mib / 1024:g} GiB",
    }
    if resources.gpu_count:
        requirement["nvidia.com/gpu"] = str(resources.gpu_count)
    if resources.npu_count:
        requirement["huawei.com/ascend-1980"] = str(resources.npu_count)
    return requirement


def _npu_mask(placements: Iterable[TaskPlacement]) -> str:
    """16 places, card 0 rightmost, 1 where the card is taken."""
    cards = {c for p in placements if p.card_kind == "npu" for c in p.cards}
    return "".join("1" if card in cards else "0" for card in reversed(range(16))) if cards else ""
