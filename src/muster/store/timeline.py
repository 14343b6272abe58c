"""What has happened to a workload: its events, and the attempts before its last one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from muster.domain.errors import QuotaExceeded
from muster.domain.phase import Event, Phase, Reason
from muster.domain.placement import TaskPlacement
from muster.store.archive import AttemptRow, EventRow, find_archived
from muster.store.connection import Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("timeline")
_MOVES: Final = load_statements("moves")
EVENTS_MAX: Final = 10_000  # of one workload
REPORTS_MAX: Final = 1_000  # likewise

_PLACEMENTS = msgspec.json.Decoder(tuple[TaskPlacement, ...])


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


def insert_report(
    tx: Transaction, workload_id: int, phase: Phase, *, message: str, actor: str, now_ms: int
) -> None:
    """Write down what somebody told of a workload that stands in this phase.

    Raises:
        QuotaExceeded: as much as may be has been told of it.
    """
    values = {"workload_id": workload_id, "event": Event.REPORTED.value}
    [count] = tx.execute(SQL["count_reports"], values).fetchone()
    if count >= REPORTS_MAX:
        raise QuotaExceeded(f"There are {count} reports of this job, as many as it may have.")
    row = (workload_id, now_ms, Event.REPORTED, phase, phase, Reason.NONE, message, actor)
    tx.execute(_MOVES["insert_event"], row)


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
