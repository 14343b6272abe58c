"""Workloads: insert, read, and change what is no move; `moves.py` moves them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Final

import msgspec

from muster.domain.command import Run
from muster.domain.errors import StaleWrite
from muster.domain.phase import FINISHED, Phase, Reason, view_of
from muster.domain.placement import TaskPlacement
from muster.domain.program import Program
from muster.domain.resources import Resources
from muster.domain.workload import Workload, WorkloadType
from muster.store.archive import EMPTY_RUN, find_archived
from muster.store.connection import Connection, Row
from muster.store.ids import Ids
from muster.store.manyrows import run_for_rows
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, reads_no_counters, tells_lists
from muster.store.workspaces import WorkloadRoom

SQL: Final = load_statements("workloads")

ACTIVE_MAX: Final = 100_000  # what the nodes hold at once, and what waits to be looked at

_PLACEMENTS = msgspec.json.Decoder(tuple[TaskPlacement, ...])
_RUN = msgspec.json.Decoder(Run)
_PROGRAM = msgspec.json.Decoder(Program)
_PROGRAM_START: Final = '{"kind":"program",'  # of its JSON; that of a run has no kind
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkload:
    """One that is to be stored."""

    uid: str
    project_id: str
    workspace_id: str
    pool_id: str
    partition: str
    type: WorkloadType
    name: str
    flavor_code: str
    task: Resources
    task_count: int
    priority: int
    run: Run | Program
    time_limit_ms: int | None = None
    retries: int = 0
    phase: Phase = Phase.CREATING  # or where the same transaction has brought it


def insert_workloads(tx: Transaction, new: Sequence[tuple[int, int, NewWorkload]]) -> None:
    """Store new workloads, each with the id and the create time that it gets.

    Whether their workspaces have room for them is for the caller to check (`WorkloadRoom`), who
    counts each as it is let in (`count_new_workload`).
    """
    rows: list[Row] = []
    runs: list[Row] = []
    for workload_id, created_at_ms, one in new:
        task = one.task
        rows.append(
            (workload_id, one.uid, one.project_id, one.workspace_id, one.pool_id, one.partition,
             one.type.value, one.name, one.flavor_code, one.task_count, task.cpu_millis,
             task.memory_mib, task.gpu_count, task.npu_count, one.priority, one.time_limit_ms,
             one.retries, one.phase.value, created_at_ms, created_at_ms)
        )  # fmt: skip
        runs.append((workload_id, _encoded_run(one.run)))
    run_for_rows(tx.connection, SQL["insert_workload"], rows)
    run_for_rows(tx.connection, SQL["insert_run"], runs)


def insert_program(tx: Transaction, new: NewWorkload, *, now_ms: int) -> int:
    """Store one that serves (a notebook, or an instance of a service); return its id.

    Raises:
        QuotaExceeded: its workspace has no room for it; nothing was stored.
    """
    assert new.type is not WorkloadType.TRAIN, "a training workload comes with its version"
    room = WorkloadRoom(tx)
    room.check(new.project_id, new.workspace_id, new.type, new.task * new.task_count)
    ids = Ids.read(tx)
    ids.workload += 1
    [newest_ms] = tx.execute(SQL["newest_create_time"]).fetchone()
    count_new_workload(tx, new)
    # Never before that of the row before: lists in id order are in time order then.
    insert_workloads(tx, [(ids.workload, max(now_ms, newest_ms), new)])
    ids.keep(tx)
    return ids.workload


def _encoded_run(run: Run | Program) -> str:
    text = _ENCODER.encode(run).decode()
    return _PROGRAM_START + text.removeprefix("{") if isinstance(run, Program) else text


def count_new_workload(tx: Transaction, new: NewWorkload) -> None:
    """Count one that is to be stored in this transaction: the next is checked against it."""
    tx.counts.workload(new.project_id, new.pool_id, new.type, view_of(new.phase).statistics, 1)
    taken = new.task * new.task_count
    tx.counts.use(new.project_id, new.workspace_id, new.type, taken, 1)
    tx.counts.snapshot(new.run.code, 1)
    tx.has_work = True


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
    return workload._replace(placements=_PLACEMENTS.decode(archived.placements))


def list_active(
    connection: Connection, known: Mapping[int, Workload] | None = None
) -> list[Workload]:
    """Every workload that is not at rest, except those that wait in a queue; in the order of ids.

    Args:
        connection: to read from.
        known: some as they were read before, by id; those whose row is still the same are not read
            again.
    """
    if not known:
        rows = connection.execute(SQL["list_active"], {"limit": ACTIVE_MAX})
        return [_workload(row) for row in rows]
    revisions = connection.execute(SQL["list_active_revisions"], {"limit": ACTIVE_MAX}).fetchall()
    return _read_changed(connection, revisions, known)


def _read_changed(
    connection: Connection, revisions: Sequence[Row], known: Mapping[int, Workload]
) -> list[Workload]:
    """Those with these ids, in their order; only what is not known as of its revision is read."""
    changed = [
        workload_id
        for workload_id, revision in revisions
        if (before := known.get(workload_id)) is None or before.revision != revision
    ]
    if not changed:
        return [known[workload_id] for workload_id, _ in revisions]
    rows = connection.execute(SQL["list_workloads"], {"workload_ids": json.dumps(changed)})
    now = {**known, **{row[0]: _workload(row) for row in rows}}
    return [now[workload_id] for workload_id, _ in revisions]


def list_queue(
    connection: Connection,
    partition: str,
    *,
    limit: int,
    known: Mapping[int, Workload] | None = None,
) -> list[Workload]:
    """The head of a partition's queue: priority first, then first come. `known`: as above."""
    where = {"partition": partition, "limit": limit}
    if not known:
        return [_workload(row) for row in connection.execute(SQL["list_queue"], where)]
    revisions = connection.execute(SQL["list_queue_revisions"], where).fetchall()
    return _read_changed(connection, revisions, known)


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


def get_run(connection: Connection, workload_id: int) -> Run | Program:
    text = stored_run(connection, workload_id)
    if text == EMPTY_RUN:
        text = bytes(find_archived(connection, [workload_id])[workload_id].run).decode()
    return _PROGRAM.decode(text) if text.startswith(_PROGRAM_START) else _RUN.decode(text)


def stored_run(connection: Connection, workload_id: int) -> str:
    """The JSON of what it runs; EMPTY_RUN where that is archived."""
    [text] = connection.execute(SQL["get_run"], {"workload_id": workload_id}).fetchone()
    return str(text)


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


def list_held_cards(connection: Connection) -> list[tuple[str, int]]:
    """(host, card) of every card that a workload holds."""
    return connection.execute(SQL["list_held_cards"]).fetchall()


@reads_no_counters
@tells_lists
def set_engine_ref(tx: Transaction, workload: Workload, engine_ref: str) -> Workload:
    if workload.engine_ref == engine_ref:
        return workload
    _guarded(tx, "set_engine_ref", workload, engine_ref=engine_ref)
    return workload._replace(engine_ref=engine_ref, revision=workload.revision + 1)


@reads_no_counters
@tells_lists
def set_message(tx: Transaction, workload: Workload, message: str) -> Workload:
    """Say how it gets on, without moving it."""
    _guarded(tx, "set_message", workload, message=message)
    return workload._replace(message=message, revision=workload.revision + 1)


def set_priority(tx: Transaction, workload: Workload, priority: int) -> Workload:
    """Move it within its queue."""
    _guarded(tx, "set_priority", workload, priority=priority)
    tx.has_work = True
    return workload._replace(priority=priority, revision=workload.revision + 1)


def mark_deleted(tx: Transaction, workload: Workload) -> Workload:
    """Take it out of every count at once; its processes and rows go when they can."""
    changed = tx.execute(SQL["mark_deleted"], {"workload_id": workload.id})
    if changed.rowcount == 0:
        return workload
    tx.counts.workload(
        workload.project_id, workload.pool_id, workload.type, workload.view.statistics, -1
    )
    tx.has_work = True
    return workload._replace(is_deleted=True, revision=workload.revision + 1)


def _guarded(tx: Transaction, statement: str, workload: Workload, **values: object) -> None:
    changed = tx.execute(
        SQL[statement], {"workload_id": workload.id, "revision": workload.revision, **values}
    )
    if changed.rowcount == 0:
        raise overtaken(workload.id)


def overtaken(workload_id: int) -> StaleWrite:
    return StaleWrite(f"Workload {workload_id} was changed meanwhile.")


def _workload(row: Sequence[Any]) -> Workload:
    # Thousands are kept from one pass to the next, and share the ids of what they belong to.
    return Workload(
        id=row[0],
        project_id=intern(row[1]),
        pool_id=intern(row[2]),
        partition=intern(row[3]),
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
        workspace_id=intern(row[24]),
        time_limit_ms=row[25],
        retries_left=row[26],
        attempt_count=row[27],
        attempt_started_at_ms=row[28],
    )
