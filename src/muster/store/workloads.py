"""Workloads: insert, read, and the one place that moves them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from muster.domain.command import Run
from muster.domain.errors import StaleWrite
from muster.domain.phase import FINISHED, Event, Phase, Reason, next_phase, view_of
from muster.domain.placement import TaskPlacement
from muster.domain.resources import Resources
from muster.domain.workload import Workload, WorkloadType, takes_quota
from muster.store.archive import (
    EMPTY_RUN,
    AttemptRow,
    EventRow,
    delete_archived,
    find_archived,
    snapshot_of,
)
from muster.store.connection import REFUSED, Connection
from muster.store.counting import HELD
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, reads_no_counters
from muster.store.workspaces import check_workload_quota

SQL: Final = load_statements("workloads")

ACTIVE_MAX: Final = 100_000  # what the nodes hold at once, and what waits to be looked at
PURGE_BATCH: Final = 200
EVENTS_MAX: Final = 10_000  # of one workload

_PLACEMENTS = msgspec.json.Decoder(tuple[TaskPlacement, ...])
_RUN = msgspec.json.Decoder(Run)
_ENCODER = msgspec.json.Encoder()


def insert_workload(
    tx: Transaction,
    *,
    uid: str,
    project_id: str,
    workspace_id: str,
    pool_id: str,
    partition: str,
    type_: WorkloadType,
    name: str,
    flavor_code: str,
    task: Resources,
    task_count: int,
    priority: int,
    run: Run,
    now_ms: int,
    time_limit_ms: int | None = None,
    retries: int = 0,
) -> tuple[int, int]:
    """Store a new workload in `Creating`; return its id and the time it was given.

    The time is never before that of the row before it: lists in id order are in time order then.

    Raises:
        QuotaExceeded: its workspace has not that much left.
    """
    check_workload_quota(tx, project_id, workspace_id, type_, task * task_count)
    latest = tx.execute(SQL["latest_created_at"]).fetchone()
    created_at_ms = max(now_ms, latest[0]) if latest else now_ms
    [workload_id] = tx.execute(
        SQL["insert_workload"],
        {
            "uid": uid,
            "project_id": project_id,
            "workspace_id": workspace_id,
            "pool_id": pool_id,
            "partition": partition,
            "type": type_,
            "name": name,
            "flavor_code": flavor_code,
            "task_count": task_count,
            "cpu_millis": task.cpu_millis,
            "memory_mib": task.memory_mib,
            "gpu_count": task.gpu_count,
            "npu_count": task.npu_count,
            "priority": priority,
            "time_limit_ms": time_limit_ms,
            "retries_left": retries,
            "now_ms": created_at_ms,
        },
    ).fetchone()
    tx.execute(
        SQL["insert_run"], {"workload_id": workload_id, "run": _ENCODER.encode(run).decode()}
    )
    state = view_of(Phase.CREATING).statistics
    tx.counts.workload(project_id, pool_id, type_, state, 1)
    tx.counts.use(project_id, workspace_id, type_, task * task_count, 1)
    tx.counts.snapshot(run.code, 1)
    tx.has_work = True
    return workload_id, created_at_ms


def get_workload(connection: Connection, workload_id: int) -> Workload:
    row = connection.execute(SQL["get_workload"], {"workload_id": workload_id}).fetchone()
    if row is None:
        raise StaleWrite(f"Workload {workload_id} is gone.")
    workload = _workload(row)
    if workload.phase not in FINISHED or workload.placements:
        return workload
    archived = find_archived(connection, [workload_id]).get(workload_id)
    if archived is None:
        return workload
    return replace(workload, placements=_PLACEMENTS.decode(archived.placements))


def list_active(connection: Connection) -> list[Workload]:
    """Every workload that is not at rest, except those that wait in a queue."""
    rows = connection.execute(SQL["list_active"], {"limit": ACTIVE_MAX})
    return [_workload(row) for row in rows]


def list_queue(connection: Connection, partition: str, *, limit: int) -> list[Workload]:
    rows = connection.execute(SQL["list_queue"], {"partition": partition, "limit": limit})
    return [_workload(row) for row in rows]


def get_run(connection: Connection, workload_id: int) -> Run:
    [text] = connection.execute(SQL["get_run"], {"workload_id": workload_id}).fetchone()
    if text == EMPTY_RUN:
        return _RUN.decode(find_archived(connection, [workload_id])[workload_id].run)
    return _RUN.decode(text)


def move_workload(
    tx: Transaction,
    workload: Workload,
    event: Event,
    *,
    now_ms: int,
    actor: str,
    reason: Reason = Reason.NONE,
    message: str = "",
    at_ms: int | None = None,
) -> Workload:
    """Carry one event out: the only function that changes a phase.

    Writes the workload, what the lists show of it, every count and the event row together.

    Args:
        tx: the transaction to do it in.
        workload: as it was read; its revision guards the move.
        event: what happened.
        now_ms: when it is recorded.
        actor: who asked for it, or `muster`.
        reason: why it stands where it stands afterwards.
        message: the same for people.
        at_ms: when it happened, if the engine knows better than `now_ms` (start and end times).

    Raises:
        IllegalTransition: the table of phases has no such move.
        StaleWrite: somebody else moved it first.
    """
    phase = next_phase(workload.phase, event)
    happened_ms = at_ms or now_ms
    moved = replace(
        workload,
        phase=phase,
        reason=reason,
        message=message,
        phase_since_ms=now_ms,
        started_at_ms=_started_at(workload, phase, happened_ms),
        attempt_started_at_ms=_attempt_started_at(workload, phase, happened_ms),
        ended_at_ms=_ended_at(workload, phase, happened_ms),
        revision=workload.revision + 1,
    )
    _guarded(
        tx,
        "move_workload",
        workload,
        phase=phase,
        reason=reason,
        message=message,
        now_ms=now_ms,
        started_at_ms=moved.started_at_ms,
        attempt_started_at_ms=moved.attempt_started_at_ms,
        ended_at_ms=moved.ended_at_ms,
    )
    tx.execute(
        SQL["insert_event"],
        {
            "workload_id": workload.id,
            "now_ms": now_ms,
            "event": event,
            "phase_before": workload.phase,
            "phase_after": phase,
            "reason": reason,
            "message": message,
            "actor": actor,
        },
    )
    if not workload.is_deleted:
        _count_move(tx, workload, moved)
    _count_use(tx, workload, moved)
    if workload.type is WorkloadType.TRAIN:
        _show_in_lists(tx, workload, moved)
    tx.has_work = True
    return moved


def _started_at(workload: Workload, phase: Phase, happened_ms: int) -> int | None:
    """The first time it ran, never before it was made, whatever the clocks say."""
    if phase is Phase.RUNNING and workload.started_at_ms is None:
        return max(happened_ms, workload.created_at_ms)
    return workload.started_at_ms


def _attempt_started_at(workload: Workload, phase: Phase, happened_ms: int) -> int | None:
    """Likewise of the attempt that goes on."""
    if phase is Phase.RUNNING and workload.attempt_started_at_ms is None:
        return max(happened_ms, workload.created_at_ms)
    return workload.attempt_started_at_ms


def _ended_at(workload: Workload, phase: Phase, happened_ms: int) -> int | None:
    """Never before the start, whatever the clocks say."""
    if phase not in FINISHED:
        return None
    return max(happened_ms, workload.started_at_ms or workload.created_at_ms)


def duration_ms_of(workload: Workload) -> int | None:
    """0 while it waits, None while it runs (it changes by itself), final once it has ended."""
    if workload.started_at_ms is None:
        return 0
    if workload.ended_at_ms is None:
        return None
    return workload.ended_at_ms - workload.started_at_ms


def _count_move(tx: Transaction, before: Workload, after: Workload) -> None:
    where = (before.project_id, before.pool_id, before.type)
    tx.counts.workload(*where, before.view.statistics, -1)
    tx.counts.workload(*where, after.view.statistics, 1)


def _count_use(tx: Transaction, before: Workload, after: Workload) -> None:
    """Deleted or not, it takes of the quotas of its workspace until nothing of it is left."""
    change = int(after.takes_quota) - int(before.takes_quota)
    if change:
        tx.counts.use(before.project_id, before.workspace_id, before.type, before.resources, change)


def _show_in_lists(tx: Transaction, before: Workload, after: Workload) -> None:
    shown = {
        "status": after.view.v1_status,
        "started_at_ms": after.started_at_ms,
        "duration_ms": duration_ms_of(after),
    }
    version_id, job_id, project_id, workspace_id, pool_id, version_is_deleted = tx.execute(
        SQL["show_in_version"],
        {"workload_id": before.id, "ended_at_ms": after.ended_at_ms, **shown},
    ).fetchone()
    was, is_ = before.view.v1_status, after.view.v1_status
    if not version_is_deleted:
        place = (project_id, workspace_id, pool_id)
        tx.counts.version(*place, was, -1, version_id=version_id)
        tx.counts.version(*place, is_, 1, version_id=version_id)
    job = tx.execute(
        SQL["show_in_job"], {"job_id": job_id, "version_id": version_id, **shown}
    ).fetchone()
    if job is not None and not job[0]:
        tx.counts.job(project_id, workspace_id, was, -1, job_id=job_id)
        tx.counts.job(project_id, workspace_id, is_, 1, job_id=job_id)


def hold_nodes(
    tx: Transaction, workload: Workload, placements: Sequence[TaskPlacement], attempt_id: str
) -> Workload:
    """Give the workload its nodes and cards, under a new attempt.

    Raises:
        StaleWrite: the workload moved, a node takes no work any more, or somebody holds a card.
    """
    names = {placement.node_name for placement in placements}
    [count] = tx.execute(
        SQL["count_nodes_at_work"],
        {"names": json.dumps(sorted(names)), "partition": workload.partition},
    ).fetchone()
    if count != len(names):
        raise StaleWrite(f"A node of workload {workload.id} takes no work any more.")
    held = replace(
        workload,
        is_holding=True,
        attempt_id=attempt_id,
        attempt_count=workload.attempt_count + 1,
        placements=tuple(placements),
        revision=workload.revision + 1,
    )
    _guarded(
        tx,
        "hold_nodes",
        workload,
        attempt_id=attempt_id,
        placements=_ENCODER.encode(held.placements).decode(),
    )
    for placement in placements:
        for card in placement.cards:
            try:
                tx.execute(
                    SQL["hold_card"],
                    {"node_name": placement.node_name, "card": card, "workload_id": workload.id},
                )
            except REFUSED as error:
                raise StaleWrite(
                    f"Card {card} of {placement.node_name} is held by another workload."
                ) from error
    tx.counts.held(workload.project_id, workload.pool_id, workload.type, workload.resources, 1)
    _count_use(tx, workload, held)
    return held


def list_held_cards(connection: Connection) -> list[tuple[str, int]]:
    """(host, card) of every card that a workload holds."""
    return connection.execute(SQL["list_held_cards"]).fetchall()


@reads_no_counters
def release_nodes(tx: Transaction, workload: Workload) -> Workload:
    """Take back what it holds, if it holds anything. Only once none of its processes is left."""
    if not workload.is_holding:
        return workload
    _guarded(tx, "release_nodes", workload)
    tx.execute(SQL["release_cards"], {"workload_id": workload.id})
    tx.counts.held(workload.project_id, workload.pool_id, workload.type, workload.resources, -1)
    released = replace(workload, is_holding=False, revision=workload.revision + 1)
    _count_use(tx, workload, released)
    return released


def end_attempt(tx: Transaction, workload: Workload, *, ended_at_ms: int) -> Workload:
    """Put the attempt of a workload that is to be tried again into its history.

    It keeps the reason and the words with which the workload has moved, and costs one retry. The
    nodes must be free by now: the next attempt gets its own.

    Raises:
        StaleWrite: the workload moved, holds nodes, or may not be tried again.
    """
    tx.execute(
        SQL["insert_past_attempt"],
        {
            "workload_id": workload.id,
            "started_at_ms": workload.attempt_started_at_ms,
            "ended_at_ms": max(ended_at_ms, workload.attempt_started_at_ms or 0),
            "reason": workload.reason,
            "message": workload.message,
        },
    )
    _guarded(tx, "end_attempt", workload)
    return replace(
        workload,
        attempt_id=None,
        engine_ref=None,
        attempt_started_at_ms=None,
        placements=(),
        retries_left=workload.retries_left - 1,
        revision=workload.revision + 1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAttempt:
    """An attempt that failed, after which the workload was tried again."""

    workload_id: int
    number: int  # from 1
    attempt_id: str
    engine_ref: str | None
    placements: tuple[TaskPlacement, ...]
    started_at_ms: int | None  # None: it never came up
    ended_at_ms: int
    reason: Reason
    message: str


def list_past_attempts(
    connection: Connection, workload_ids: Sequence[int]
) -> dict[int, list[PastAttempt]]:
    """By workload, each first to last; a workload that was not tried again is left out."""
    if not workload_ids:
        return {}
    found: dict[int, list[PastAttempt]] = {}
    rows = connection.execute(
        SQL["list_past_attempts"], {"workload_ids": json.dumps(list(workload_ids))}
    )
    for workload_id, *row in rows:
        found.setdefault(workload_id, []).append(_past_attempt(workload_id, tuple(row)))
    others = [workload_id for workload_id in workload_ids if workload_id not in found]
    for workload_id, archived in find_archived(connection, others).items():
        if archived.attempts:
            found[workload_id] = [_past_attempt(workload_id, row) for row in archived.attempts]
    return found


def _past_attempt(workload_id: int, row: AttemptRow) -> PastAttempt:
    return PastAttempt(
        workload_id=workload_id,
        number=row[0],
        attempt_id=row[1],
        engine_ref=row[2],
        placements=_PLACEMENTS.decode(row[3]),
        started_at_ms=row[4],
        ended_at_ms=row[5],
        reason=Reason(row[6]),
        message=row[7],
    )


@reads_no_counters
def set_engine_ref(tx: Transaction, workload: Workload, engine_ref: str) -> Workload:
    if workload.engine_ref == engine_ref:
        return workload
    _guarded(tx, "set_engine_ref", workload, engine_ref=engine_ref)
    return replace(workload, engine_ref=engine_ref, revision=workload.revision + 1)


def set_priority(tx: Transaction, workload: Workload, priority: int) -> Workload:
    """Move it within its queue."""
    _guarded(tx, "set_priority", workload, priority=priority)
    tx.has_work = True
    return replace(workload, priority=priority, revision=workload.revision + 1)


def mark_deleted(tx: Transaction, workload: Workload) -> Workload:
    """Take it out of every count at once; its processes and rows go when they can."""
    changed = tx.execute(SQL["mark_deleted"], {"workload_id": workload.id})
    if changed.rowcount == 0:
        return workload
    tx.counts.workload(
        workload.project_id, workload.pool_id, workload.type, workload.view.statistics, -1
    )
    tx.has_work = True
    return replace(workload, is_deleted=True, revision=workload.revision + 1)


def list_purgeable(connection: Connection) -> list[tuple[int, list[tuple[str, str | None]]]]:
    """Deleted workloads that nothing runs for any more: (id, [(attempt id, engine ref)])."""
    rows = connection.execute(SQL["list_deleted"], {"limit": PURGE_BATCH}).fetchall()
    past = list_past_attempts(connection, [row[0] for row in rows if row[3]])
    return [
        (
            workload_id,
            [(attempt.attempt_id, attempt.engine_ref) for attempt in past.get(workload_id, ())]
            + ([(attempt_id, engine_ref)] if attempt_id is not None else []),
        )
        for workload_id, attempt_id, engine_ref, _ in rows
    ]


def purge_workload(tx: Transaction, workload_id: int) -> None:
    """Drop every row of a deleted workload, and of its job when it was the last of it."""
    key = {"workload_id": workload_id}
    run = tx.execute(SQL["get_run"], key).fetchone()
    archived = delete_archived(tx, workload_id)
    for statement in ("delete_run", "delete_config", "delete_events", "delete_past_attempts"):
        tx.execute(SQL[statement], key)
    version = tx.execute(SQL["delete_version"], key).fetchone()
    row = tx.execute(SQL["delete_workload"], key).fetchone()
    if row is not None:
        tx.counts.snapshot(snapshot_of(archived.run if archived else run[0]), -1)
        _forget_use(tx, row)
    if version is not None:
        tx.execute(SQL["delete_empty_job"], {"job_id": version[0]})


def _forget_use(tx: Transaction, row: Sequence[Any]) -> None:
    """A lost one may be purged while it still counts: nothing can end it any more."""
    project_id, workspace_id, type_, phase, is_holding, task_count, *amounts = row
    if takes_quota(Phase(phase), is_holding=bool(is_holding)):
        task = Resources(**dict(zip(HELD, amounts, strict=True)))
        tx.counts.use(project_id, workspace_id, type_, task * task_count, -1)


def _guarded(tx: Transaction, statement: str, workload: Workload, **values: object) -> None:
    changed = tx.execute(
        SQL[statement], {"workload_id": workload.id, "revision": workload.revision, **values}
    )
    if changed.rowcount == 0:
        raise StaleWrite(f"Workload {workload.id} was changed meanwhile.")


def _workload(row: Sequence[Any]) -> Workload:
    return Workload(
        id=row[0],
        project_id=row[1],
        pool_id=row[2],
        partition=row[3],
        type=WorkloadType(row[4]),
        task=Resources(cpu_millis=row[5], memory_mib=row[6], gpu_count=row[7], npu_count=row[8]),
        task_count=row[9],
        priority=row[10],
        phase=Phase(row[11]),
        reason=Reason(row[12]),
        message=row[13],
        is_deleted=bool(row[14]),
        is_holding=bool(row[15]),
        attempt_id=row[16],
        engine_ref=row[17],
        placements=_PLACEMENTS.decode(row[18]),
        created_at_ms=row[19],
        phase_since_ms=row[20],
        started_at_ms=row[21],
        ended_at_ms=row[22],
        revision=row[23],
        workspace_id=row[24],
        time_limit_ms=row[25],
        retries_left=row[26],
        attempt_count=row[27],
        attempt_started_at_ms=row[28],
    )


def queue_positions(connection: Connection, partition: str) -> dict[int, int]:
    """The place of each queued workload in its partition's queue; 1 is next."""
    rows = connection.execute(SQL["queue_order"], {"partition": partition})
    return {workload_id: place for place, (workload_id,) in enumerate(rows, start=1)}


def count_ahead(connection: Connection, workload: Workload) -> int:
    """How many stand before it in its partition's queue."""
    [count] = connection.execute(
        SQL["count_ahead"],
        {
            "partition": workload.partition,
            "priority": workload.priority,
            "workload_id": workload.id,
        },
    ).fetchone()
    return int(count)


def name_workloads(
    connection: Connection, project_id: str, workload_ids: Sequence[int]
) -> dict[int, tuple[str, str, str]]:
    """(uid, name, workspace id) by id, of those that belong to the project."""
    if not workload_ids:
        return {}
    rows = connection.execute(
        SQL["name_workloads"],
        {"workload_ids": json.dumps(list(workload_ids)), "project_id": project_id},
    )
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadEvent:
    """What happened to a workload, as it was recorded."""

    number: int  # 1, 2, 3 ... within the workload
    at_ms: int
    event: Event
    phase_before: Phase
    phase_after: Phase
    reason: Reason
    message: str
    actor: str


def list_events(connection: Connection, workload_id: int) -> list[WorkloadEvent]:
    """First to last."""
    values = {"workload_id": workload_id, "limit": EVENTS_MAX}
    rows: list[EventRow] = connection.execute(SQL["list_events"], values).fetchall()
    if not rows:
        archived = find_archived(connection, [workload_id]).get(workload_id)
        rows = archived.events if archived else []
    return [
        WorkloadEvent(
            number=row[7],
            at_ms=row[0],
            event=Event(row[1]),
            phase_before=Phase(row[2]),
            phase_after=Phase(row[3]),
            reason=Reason(row[4]),
            message=row[5],
            actor=row[6],
        )
        for row in rows[:EVENTS_MAX]
    ]
