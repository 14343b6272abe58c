"""Workloads: insert, read, and the one place that moves them."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Final

import msgspec

from muster.domain.command import Run
from muster.domain.errors import MusterError, StaleWrite
from muster.domain.phase import FINISHED, Event, Phase, Reason, next_phase, view_of
from muster.domain.placement import TaskPlacement
from muster.domain.program import Program
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
from muster.store.connection import Connection, Row
from muster.store.counting import HELD
from muster.store.ids import Ids
from muster.store.manyrows import run_for_rows
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, reads_no_counters
from muster.store.workspaces import WorkloadRoom

SQL: Final = load_statements("workloads")

ACTIVE_MAX: Final = 100_000  # what the nodes hold at once, and what waits to be looked at
PURGE_BATCH: Final = 200
EVENTS_MAX: Final = 10_000  # of one workload

_PLACEMENTS = msgspec.json.Decoder(tuple[TaskPlacement, ...])
_RUN = msgspec.json.Decoder(Run)
_PROGRAM = msgspec.json.Decoder(Program)
_PROGRAM_START: Final = '{"kind":"program",'  # of its JSON; that of a run has no kind
_ENCODER = msgspec.json.Encoder()
_INITIAL_STATE: Final = view_of(Phase.CREATING).statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkload:
    """One that is to be stored, in `Creating`."""

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
             one.retries, created_at_ms, created_at_ms)
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
    tx.counts.workload(new.project_id, new.pool_id, new.type, _INITIAL_STATE, 1)
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
    return replace(workload, placements=_PLACEMENTS.decode(archived.placements))


def list_active(connection: Connection) -> list[Workload]:
    """Every workload that is not at rest, except those that wait in a queue."""
    rows = connection.execute(SQL["list_active"], {"limit": ACTIVE_MAX})
    return [_workload(row) for row in rows]


def list_queue(connection: Connection, partition: str, *, limit: int) -> list[Workload]:
    rows = connection.execute(SQL["list_queue"], {"partition": partition, "limit": limit})
    return [_workload(row) for row in rows]


def get_run(connection: Connection, workload_id: int) -> Run | Program:
    [text] = connection.execute(SQL["get_run"], {"workload_id": workload_id}).fetchone()
    if text == EMPTY_RUN:
        text = bytes(find_archived(connection, [workload_id])[workload_id].run).decode()
    return _PROGRAM.decode(text) if text.startswith(_PROGRAM_START) else _RUN.decode(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event, which moves the workload on in the table of phases."""

    event: Event
    now_ms: int  # when it is recorded
    actor: str  # who asked for it, or `muster`
    reason: Reason = Reason.NONE  # why it stands where it stands afterwards
    message: str = ""  # the same for people
    # When it happened, if the engine knows better than `now_ms` (start and end times).
    at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """It gets nodes and cards, under a new attempt."""

    placements: tuple[TaskPlacement, ...]
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """It gives back what it holds, if anything. Only once none of its processes is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAttempt:
    """It is to be tried again: this attempt goes into its history, with the reason of the move.

    It costs one retry, unless it was preempted. The nodes must be free by now: the next attempt
    gets its own.
    """

    ended_at_ms: int
    is_preempted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What becomes of one workload, step by step: all of it or nothing."""

    workload: Workload  # as it was read; its revision guards the move
    steps: tuple[Happened | Hold | Release | EndAttempt, ...]


@reads_no_counters
def move_workloads(tx: Transaction, moves: Sequence[Move]) -> list[Workload | MusterError]:
    """Carry moves out: the only function that changes a phase, or what a workload holds.

    Writes the workloads, what the lists show of them, every count and the event rows together,
    table by table.

    Returns:
        One outcome a move: the workload as it is now, or why it stays as it was.
        IllegalTransition: the table of phases has no such move. StaleWrite: somebody else moved it
        first, one of its nodes takes no work any more, or somebody holds one of its cards.
    """
    rooms = _Rooms.read(tx, moves)
    decided: dict[int, _Decided] = {}  # by workload
    outcomes: list[Workload | MusterError] = []
    for move in moves:
        try:
            outcome = _decide(move, rooms)
            if move.workload.id in decided:
                raise _overtaken(move.workload.id)
        except MusterError as error:
            outcomes.append(error)
            continue
        if outcome.after.revision != move.workload.revision:
            decided[move.workload.id] = outcome
            rooms.change(outcome)
        outcomes.append(outcome.after)
    moved = _write_workloads(tx, decided.values())
    _write_rooms(tx, moved.values())
    _write_history(tx, moved.values())
    for one in moved.values():
        _count(tx, one)
    _show_in_lists(tx, moved)
    return [
        _overtaken(outcome.id)
        if isinstance(outcome, Workload) and outcome.id in decided.keys() - moved.keys()
        else outcome
        for outcome in outcomes
    ]


def _overtaken(workload_id: int) -> StaleWrite:
    return StaleWrite(f"Workload {workload_id} was changed meanwhile.")


@dataclass(slots=True)
class _Decided:
    """What a move comes to, before anything of it is written."""

    before: Workload
    after: Workload
    events: list[Row] = field(default_factory=list)
    past_attempts: list[Row] = field(default_factory=list)
    cards: list[tuple[str, int]] = field(default_factory=list)  # (host, card) that it gets

    @property
    def gives_cards_back(self) -> bool:
        return (
            self.before.is_holding
            and not self.after.is_holding
            and any(placement.cards for placement in self.before.placements)
        )


def _decide(move: Move, rooms: "_Rooms") -> _Decided:
    workload = move.workload
    decided = _Decided(workload, workload)
    for step in move.steps:
        match step:
            case Happened():
                after = _happened(workload, step)
                decided.events.append(
                    (workload.id, step.now_ms, step.event.value, workload.phase.value,
                     after.phase.value, step.reason.value, step.message, step.actor)
                )  # fmt: skip
            case Hold():
                decided.cards += rooms.find(workload, step.placements)
                after = _holding(workload, step)
            case Release():
                after = _released(workload)
            case EndAttempt():
                decided.past_attempts.append(_past_attempt_row(workload, step))
                after = _waiting_again(workload, costs=0 if step.is_preempted else 1)
        workload = after
    decided.after = workload
    return decided


def _happened(workload: Workload, step: Happened) -> Workload:
    phase = next_phase(workload.phase, step.event)
    happened_ms = step.at_ms or step.now_ms
    return replace(
        workload,
        phase=phase,
        reason=step.reason,
        message=step.message,
        phase_since_ms=step.now_ms,
        started_at_ms=_started_at(workload, phase, happened_ms),
        attempt_started_at_ms=_attempt_started_at(workload, phase, happened_ms),
        ended_at_ms=_ended_at(workload, phase, happened_ms),
        revision=workload.revision + 1,
    )


def _holding(workload: Workload, step: Hold) -> Workload:
    if workload.is_holding:
        raise StaleWrite(f"Workload {workload.id} holds nodes already.")
    return replace(
        workload,
        is_holding=True,
        attempt_id=step.attempt_id,
        attempt_count=workload.attempt_count + 1,
        placements=step.placements,
        revision=workload.revision + 1,
    )


def _released(workload: Workload) -> Workload:
    if not workload.is_holding:
        return workload
    return replace(workload, is_holding=False, revision=workload.revision + 1)


def _past_attempt_row(workload: Workload, step: EndAttempt) -> Row:
    may_not = workload.retries_left <= 0 and not step.is_preempted
    if workload.is_holding or may_not:
        raise StaleWrite(f"Workload {workload.id} holds nodes, or may not be tried again.")
    started_at_ms = workload.attempt_started_at_ms
    return (
        workload.id,
        workload.attempt_count,
        workload.attempt_id,
        workload.engine_ref,
        _ENCODER.encode(workload.placements).decode(),
        started_at_ms,
        max(step.ended_at_ms, started_at_ms or 0),
        workload.reason.value,
        workload.message,
    )


def _waiting_again(workload: Workload, *, costs: int) -> Workload:
    """The next attempt gets an id of its own; until then there is none."""
    return replace(
        workload,
        attempt_id=None,
        engine_ref=None,
        attempt_started_at_ms=None,
        placements=(),
        retries_left=workload.retries_left - costs,
        revision=workload.revision + 1,
    )


@dataclass(slots=True)
class _Rooms:
    """The nodes that some moves name, as far as they take work, and who holds cards there."""

    at_work: dict[str, tuple[str, str]]  # (partition, host) by node
    held: dict[tuple[str, int], int]  # workload by (host, card)

    @classmethod
    def read(cls, tx: Transaction, moves: Sequence[Move]) -> "_Rooms":
        placements = [
            placement
            for move in moves
            for step in move.steps
            if isinstance(step, Hold)
            for placement in step.placements
        ]
        if not placements:
            return cls({}, {})
        names = sorted({placement.node_name for placement in placements})
        at_work = {
            name: (partition, host)
            for name, partition, host in tx.execute(
                SQL["list_nodes_at_work"], {"names": json.dumps(names)}
            )
        }
        if not any(placement.cards for placement in placements):
            return cls(at_work, {})
        hosts = json.dumps(sorted({host for _, host in at_work.values()}))
        found = tx.execute(SQL["list_cards_held_on"], {"hosts": hosts})
        return cls(at_work, {(host, card): holder for host, card, holder in found})

    def find(
        self, workload: Workload, placements: Sequence[TaskPlacement]
    ) -> Iterator[tuple[str, int]]:
        """(host, card) of every card that it gets. Raises StaleWrite where it cannot have it."""
        for placement in placements:
            partition, host = self.at_work.get(placement.node_name, ("", ""))
            if partition != workload.partition:
                raise StaleWrite(f"A node of workload {workload.id} takes no work any more.")
            for card in placement.cards:
                if (host, card) in self.held:
                    raise StaleWrite(
                        f"Card {card} of {placement.node_name} is held by another workload."
                    )
                yield host, card

    def change(self, decided: _Decided) -> None:
        """Take in what one move does, for those after it."""
        workload_id = decided.before.id
        if decided.gives_cards_back:
            self.held = {card: one for card, one in self.held.items() if one != workload_id}
        self.held |= dict.fromkeys(decided.cards, workload_id)


def _write_workloads(tx: Transaction, decided: Iterable[_Decided]) -> dict[int, _Decided]:
    """Those that nobody else has changed meanwhile, by id."""
    of_phases: list[Row] = []
    of_all: list[Row] = []
    by_id = {one.before.id: one for one in decided}
    for one in by_id.values():
        before, after = one.before, one.after
        row = (
            before.id, before.revision, after.revision, after.phase.value, after.reason.value,
            after.message, after.phase_since_ms, after.started_at_ms, after.ended_at_ms,
            after.attempt_started_at_ms,
        )  # fmt: skip
        if before.is_holding == after.is_holding and before.attempt_id == after.attempt_id:
            of_phases.append(row)
        else:
            of_all.append(
                (*row, int(after.is_holding), after.attempt_id, after.engine_ref,
                 _ENCODER.encode(after.placements).decode(), after.attempt_count,
                 after.retries_left)
            )  # fmt: skip
    found = run_for_rows(tx.connection, SQL["move_workloads"], of_phases)
    found += run_for_rows(tx.connection, SQL["move_and_hold_workloads"], of_all)
    moved = {workload_id for (workload_id,) in found}
    return {workload_id: one for workload_id, one in by_id.items() if workload_id in moved}


def _write_rooms(tx: Transaction, moved: Collection[_Decided]) -> None:
    given_back = [one.before.id for one in moved if one.gives_cards_back]
    if given_back:
        tx.execute(SQL["release_cards"], {"workload_ids": json.dumps(given_back)})
    cards = [(*card, one.before.id) for one in moved for card in one.cards]
    run_for_rows(tx.connection, SQL["hold_card"], cards)


def _write_history(tx: Transaction, moved: Collection[_Decided]) -> None:
    # First the first event of each workload, and so on: each is numbered after those before it.
    for events in zip_longest(*(one.events for one in moved)):
        run_for_rows(tx.connection, SQL["insert_event"], [row for row in events if row])
    attempts = [row for one in moved for row in one.past_attempts]
    run_for_rows(tx.connection, SQL["insert_past_attempt"], attempts)
    tx.has_work = tx.has_work or any(one.events for one in moved)


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


def _count(tx: Transaction, moved: _Decided) -> None:
    before, after = moved.before, moved.after
    where = (before.project_id, before.pool_id, before.type)
    if not before.is_deleted:
        tx.counts.workload(*where, before.view.statistics, -1)
        tx.counts.workload(*where, after.view.statistics, 1)
    holding = int(after.is_holding) - int(before.is_holding)
    if holding:
        tx.counts.held(*where, before.resources, holding)
    # Deleted or not, it takes of the quotas of its workspace until nothing of it is left.
    using = int(after.takes_quota) - int(before.takes_quota)
    if using:
        tx.counts.use(before.project_id, before.workspace_id, before.type, before.resources, using)


def _shown(workload: Workload) -> tuple[int, int | None, int | None, int | None]:
    """What the lists show of it: (status, start, end, duration)."""
    return (
        workload.view.v1_status,
        workload.started_at_ms,
        workload.ended_at_ms,
        duration_ms_of(workload),
    )


def _show_in_lists(tx: Transaction, moved: Mapping[int, _Decided]) -> None:
    """Versions and, where they are the latest, their jobs show what has become of workloads."""
    changed = [
        (workload_id, *_shown(one.after))
        for workload_id, one in moved.items()
        if one.before.type is WorkloadType.TRAIN and _shown(one.before) != _shown(one.after)
    ]
    versions = run_for_rows(tx.connection, SQL["show_in_version"], changed)
    of_jobs: list[Row] = []
    places: dict[int, tuple[str, str, int, int]] = {}  # by version
    for version_id, job_id, project_id, workspace_id, pool_id, is_deleted, workload_id in versions:
        one = moved[workload_id]
        was, is_ = one.before.view.v1_status, one.after.view.v1_status
        if not is_deleted:
            place = (project_id, workspace_id, pool_id)
            tx.counts.version(*place, was, -1, version_id=version_id)
            tx.counts.version(*place, is_, 1, version_id=version_id)
        status, started_at_ms, _, duration_ms = _shown(one.after)
        of_jobs.append((job_id, version_id, status, started_at_ms, duration_ms))
        places[version_id] = (project_id, workspace_id, was, is_)
    shown = run_for_rows(tx.connection, SQL["show_in_job"], of_jobs)
    for job_id, version_id, is_deleted in shown:
        if not is_deleted:
            project_id, workspace_id, was, is_ = places[version_id]
            tx.counts.job(project_id, workspace_id, was, -1, job_id=job_id)
            tx.counts.job(project_id, workspace_id, is_, 1, job_id=job_id)


def _move_one(tx: Transaction, move: Move) -> Workload:
    [outcome] = move_workloads(tx, [move])
    if isinstance(outcome, MusterError):
        raise outcome
    return outcome


@reads_no_counters
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
    """Carry one event out, as `Happened` has it, in a transaction that does more.

    Raises:
        IllegalTransition, StaleWrite: as `move_workloads` tells them.
    """
    happened = Happened(
        event=event, now_ms=now_ms, actor=actor, reason=reason, message=message, at_ms=at_ms
    )
    return _move_one(tx, Move(workload=workload, steps=(happened,)))


@reads_no_counters
def hold_nodes(
    tx: Transaction, workload: Workload, placements: Sequence[TaskPlacement], attempt_id: str
) -> Workload:
    """As `Hold`. Raises StaleWrite."""
    hold = Hold(placements=tuple(placements), attempt_id=attempt_id)
    return _move_one(tx, Move(workload=workload, steps=(hold,)))


@reads_no_counters
def release_nodes(tx: Transaction, workload: Workload) -> Workload:
    """As `Release`. Raises StaleWrite."""
    return _move_one(tx, Move(workload=workload, steps=(Release(),)))


@reads_no_counters
def end_attempt(
    tx: Transaction, workload: Workload, *, ended_at_ms: int, is_preempted: bool = False
) -> Workload:
    """As `EndAttempt`. Raises StaleWrite."""
    step = EndAttempt(ended_at_ms=ended_at_ms, is_preempted=is_preempted)
    return _move_one(tx, Move(workload=workload, steps=(step,)))


def list_held_cards(connection: Connection) -> list[tuple[str, int]]:
    """(host, card) of every card that a workload holds."""
    return connection.execute(SQL["list_held_cards"]).fetchall()


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


@reads_no_counters
def set_message(tx: Transaction, workload: Workload, message: str) -> Workload:
    """Say how it gets on, without moving it."""
    _guarded(tx, "set_message", workload, message=message)
    return replace(workload, message=message, revision=workload.revision + 1)


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
        raise _overtaken(workload.id)


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
