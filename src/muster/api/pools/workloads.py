"""The workloads in a pool."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from muster.api.http import Reply, Request, json_reply
from muster.api.pools.views import card_mask
from muster.api.services import Services
from muster.domain.errors import InvalidRequest
from muster.domain.phase import Phase, Reason, StatisticsState, view_of
from muster.domain.placement import TaskPlacement
from muster.domain.resources import Resources
from muster.domain.workload import WorkloadType
from muster.operations.waiting import Told, explain_queue, tell_behind
from muster.store import pool_listing, pools, workloads
from muster.store.connection import Connection
from muster.wire.decode import decode_query
from muster.wire.pools import WorkloadList, WorkloadNode, WorkloadsQuery, WorkloadView

_TYPES: Final = tuple(type_.value for type_ in WorkloadType)
_PLACEMENTS = msgspec.json.Decoder(tuple[TaskPlacement, ...])


async def list_workloads(services: Services, request: Request) -> Reply:
    project_id, pool_id = request.params
    query = decode_query(request.query, WorkloadsQuery)
    filters = _filters(query)
    now_ms = services.clock_ms()

    def read(connection: Connection) -> tuple[int, list[WorkloadView]]:
        pool = pools.get_pool(connection, project_id, pool_id)
        positions = workloads.queue_positions(connection, pool.partition)
        told = explain_queue(connection, request.caller, pool.id, pool.partition, now_ms=now_ms)
        total, rows = pool_listing.page_of_pool_workloads(
            connection,
            project_id=project_id,
            pool_id=pool_id,
            hidden_workspaces=request.caller.hidden_workspaces,
            **filters,
        )
        return total, [
            _workload_view(row, positions.get(row[0], -1), told.get(row[0]), now_ms) for row in rows
        ]

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
        "states": [StatisticsState(state) for state in states] or None,
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


def _workload_view(
    row: Sequence[Any], position: int, told: Told | None, now_ms: int
) -> WorkloadView:
    if told is None and position > 0:
        told = tell_behind(position)  # too far back to be explained one by one
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
        pendingReason=told.waiting.reason if told else "",
        pendingMessage=told.message if told else "",
        predictedStartTime=told.waiting.predicted_start_ms if told else None,
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
    cards = {c for p in placements if p.card_kind == "npu" for c in p.cards}
    return card_mask(cards) if cards else ""
