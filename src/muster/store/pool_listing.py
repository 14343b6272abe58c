"""The workloads of a pool: filter, page and exact total."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from muster.domain.phase import V1_STATUS_MAX, Phase, Reason, StatisticsState, view_of
from muster.domain.pool import public_pool_id
from muster.domain.workload import WorkloadType
from muster.store.connection import Connection
from muster.store.counting import SQL, STATES
from muster.store.paging.rows import Rows
from muster.store.paging.scope import Values
from muster.store.statements import load_statements

SEARCH: Final = load_statements("search")

_ROWS: Final = Rows(
    "w.id, w.uid, w.pool_id, w.type, w.name, w.flavor_code, w.phase, w.reason, w.task_count,"
    " w.task_cpu_millis, w.task_memory_mib, w.task_gpu_count, w.task_npu_count, w.priority,"
    " w.created_at_ms, w.started_at_ms, w.ended_at_ms, w.phase_since_ms, w.placements,"
    " w.is_holding, w.partition",
    "w",
    "workload AS w",
)
_STRETCH: Final = (
    "SELECT id FROM workload INDEXED BY {index}"
    " WHERE project_id = :project_id AND pool_id = :pool_id AND is_deleted = 0"
)
_ON_HOSTS: Final = (
    " AND is_holding = 1 AND EXISTS (SELECT 1 FROM json_each(workload.placements) AS p"
    " WHERE json_extract(p.value, '$.node_name') IN (SELECT value FROM json_each(:hosts)))"
)
_HIDDEN: Final = " AND workspace_id IN (SELECT value FROM json_each(:hidden))"
_NOT_HIDDEN: Final = " AND workspace_id NOT IN (SELECT value FROM json_each(:hidden))"


# The states that versions with one v1 status may be in: Queued and Starting share a status.
_STATES_OF: Final = {
    status: frozenset(
        view.statistics
        for view in (view_of(phase, reason) for phase in Phase for reason in Reason)
        if view.v1_status == status
    )
    for status in range(V1_STATUS_MAX + 1)
}

_Count = tuple[str, StatisticsState]  # what the tally counts by


def page_of_pool_workloads(
    connection: Connection,
    *,
    project_id: str,
    pool_id: str,
    types: Sequence[str] | None,
    states: Sequence[StatisticsState] | None,
    hosts: Sequence[str] | None,
    is_ascending: bool,
    offset: int,
    limit: int,
    hidden_workspaces: Iterable[str] = (),
) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many match, the rows of the page). Filters that are not asked for are None.

    The total comes from counters: the tally, less what the caller may not see. What is on some
    hosts is counted, and is bounded by them.
    """
    counts = _tallied(connection, project_id, pool_id, types, states)
    values: Values = {"project_id": project_id, "pool_id": pool_id}
    more = ""
    if hosts is not None:
        more += _ON_HOSTS
        values["hosts"] = json.dumps(list(hosts))
    hidden = sorted(hidden_workspaces)
    if hidden:
        more += _NOT_HIDDEN
        values["hidden"] = json.dumps(hidden)
    index = "workload_by_phase" if hosts is None else "workload_holding"
    if types is None and states is None:
        index = "workload_by_pool" if hosts is None else "workload_holding"
        stretches = [_STRETCH.format(index=index)]
    else:
        stretches = [
            stretch for count in counts for stretch in _stretches(count, values, index=index)
        ]
    total = sum(counts.values())
    if hosts is not None:
        total = sum(_count(connection, stretch + more, values) for stretch in stretches)
    elif hidden:
        total -= _hidden(connection, counts, values)
    limit = min(limit, total - offset)
    if limit <= 0:
        return total, []
    # Walked to from its nearer end.
    is_reversed = offset > total // 2
    direction = "ASC" if is_ascending != is_reversed else "DESC"
    page = " UNION ALL ".join(stretch + more for stretch in stretches)
    found = connection.execute(
        f"{page} ORDER BY 1 {direction} LIMIT :limit OFFSET :offset",
        {
            **values,
            "limit": limit,
            "offset": total - offset - limit if is_reversed else offset,
        },
    )
    ids = [id_ for (id_,) in found]
    return total, _ROWS.by_ids(connection, ids[::-1] if is_reversed else ids, {})


def _stretches(count: _Count, values: Values, *, index: str) -> Iterator[str]:
    """One a phase; each in id order. What they bind is added to `values`."""
    type_, state = count
    for phase in Phase:
        if view_of(phase).statistics is not state:
            continue
        values |= {f"type_{type_}": type_, f"phase_{phase}": phase}
        where = f" AND type = :type_{type_} AND phase = :phase_{phase}"
        yield _STRETCH.format(index=index) + where


def _hidden(connection: Connection, counts: Iterable[_Count], values: Values) -> int:
    """How many of what the tally counts are in hidden workspaces.

    The lists of versions are counted by workspace, and know everything but which part of the
    queue has its nodes already.
    """
    pool_id = values["pool_id"]
    shown_pool = "" if pool_id == public_pool_id(values["project_id"]) else pool_id
    by_status = dict(
        connection.execute(SEARCH["hidden_versions"], {**values, "shown_pool": shown_pool})
    )
    hidden = 0
    for count in counts:
        type_, state = count
        told = [status for status in by_status if _STATES_OF[status] == {state}]
        is_told = type_ == WorkloadType.TRAIN and not any(
            state in _STATES_OF[status] for status in by_status if status not in told
        )
        if is_told:
            hidden += int(sum(by_status[status] for status in told))
            continue
        bound = dict(values)
        for stretch in _stretches(count, bound, index="workload_by_phase"):
            hidden += _count(connection, stretch + _HIDDEN, bound)
    return hidden


def _count(connection: Connection, stretch: str, values: Values) -> int:
    [count] = connection.execute(
        f"SELECT count(*) FROM ({stretch}) AS stretch",  # noqa: S608 - constant fragments
        values,
    ).fetchone()
    return int(count)


def _tallied(
    connection: Connection,
    project_id: str,
    pool_id: str,
    types: Sequence[str] | None,
    states: Sequence[StatisticsState] | None,
) -> dict[_Count, int]:
    """What the tally counts of some types and states, where it counts any."""
    rows = connection.execute(
        SQL["tallies_of_pool"], {"project_id": project_id, "pool_id": pool_id}
    )
    return {
        (type_, state): count
        for type_, *counts in rows
        if types is None or type_ in types
        for state, count in zip(STATES, counts, strict=True)
        if count and (states is None or state in states)
    }
