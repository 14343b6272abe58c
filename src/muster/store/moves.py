"""The one place that moves workloads: decides what each move comes to, then writes all of it.

An event leads to a phase by the table of `domain/phase.py`. Rows, lists, counts and event rows are
written together, table by table.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

import msgspec

from muster.domain.errors import MusterError, StaleWrite
from muster.domain.phase import FINISHED, Event, Phase, Reason, View, next_phase
from muster.domain.placement import TaskPlacement
from muster.domain.workload import Workload
from muster.store.connection import Row
from muster.store.counting import Counts
from muster.store.manyrows import change_rows, run_for_rows
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, reads_no_counters, tells_lists
from muster.store.workloads import overtaken

SQL: Final = load_statements("moves")
_ENCODER = msgspec.json.Encoder()


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
@tells_lists
def move_workloads(tx: Transaction, moves: Sequence[Move]) -> list[Workload | MusterError]:
    """Carry moves out: the only function that changes a phase, or what a workload holds.

    Writes the workloads, what the lists show of them, every count and the event rows together,
    table by table.

    Returns:
        One outcome a move: the workload as it is now, or why it stays as it was.
        IllegalTransition: the table of phases has no such move. StaleWrite: somebody else moved it
        first, one of its nodes takes no work any more, or somebody holds one of its cards.
    """
    standings = _read_standings(tx, moves)
    rooms = _Rooms.read(tx, moves)
    decided: dict[int, _Decided] = {}  # by workload
    outcomes: list[Workload | MusterError] = []
    for move in moves:
        try:
            outcome = _decide(move, rooms)
            if move.workload.id in decided:
                raise overtaken(move.workload.id)
            if outcome.is_change:
                _check_guard(move.workload, standings)
        except MusterError as error:
            outcomes.append(error)
            continue
        if outcome.is_change:
            decided[move.workload.id] = outcome
            rooms.change(outcome)
        outcomes.append(outcome.after)
    moved = decided.values()
    _write_workloads(tx, moved)
    _write_rooms(tx, moved)
    _write_history(tx, moved)
    _write_lists(tx, moved, standings)
    return outcomes


class _Standing(msgspec.Struct, array_like=True, frozen=True):
    """A workload as it is stored, and where the lists show it."""

    workload_id: int
    revision: int
    version_id: int  # 0: no list shows it, as it is for no training job
    workspace_id: str
    pool_id: str
    is_version_deleted: int
    job_id: int
    latest_version_id: int
    is_job_deleted: int

    @property
    def is_latest(self) -> bool:
        return self.latest_version_id == self.version_id


_STANDINGS: Final = msgspec.json.Decoder(list[_Standing])


def _read_standings(tx: Transaction, moves: Sequence[Move]) -> dict[int, _Standing]:
    """Nobody else writes until the transaction ends: what is read here holds for all of it."""
    ids = json.dumps([move.workload.id for move in moves])
    [found] = tx.execute(SQL["list_standings"], {"ids": ids}).fetchone()
    return {one.workload_id: one for one in _STANDINGS.decode(found)}


def _check_guard(workload: Workload, standings: Mapping[int, _Standing]) -> None:
    """Raise StaleWrite if somebody has changed the workload since it was read."""
    standing = standings.get(workload.id)
    if standing is None or standing.revision != workload.revision:
        raise overtaken(workload.id)


@dataclass(slots=True)
class _Decided:
    """What a move comes to, before anything of it is written."""

    before: Workload
    after: Workload
    events: list[Row] = field(default_factory=list)
    past_attempts: list[Row] = field(default_factory=list)
    cards: list[tuple[str, int]] = field(default_factory=list)  # (host, card) that it gets

    @property
    def is_change(self) -> bool:
        return self.after.revision != self.before.revision

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
    return workload._replace(
        phase=phase,
        reason=step.reason,
        message=step.message,
        phase_since_ms=step.now_ms,
        started_at_ms=_started_at(workload, phase, happened_ms),
        attempt_started_at_ms=_attempt_started_at(workload, phase, happened_ms),
        ended_at_ms=_ended_at(workload, phase, happened_ms),
        revision=workload.revision + 1,
    )


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


def _holding(workload: Workload, step: Hold) -> Workload:
    if workload.is_holding:
        raise StaleWrite(f"Workload {workload.id} holds nodes already.")
    return workload._replace(
        is_holding=True,
        attempt_id=step.attempt_id,
        attempt_count=workload.attempt_count + 1,
        placements=step.placements,
        revision=workload.revision + 1,
    )


def _released(workload: Workload) -> Workload:
    if not workload.is_holding:
        return workload
    return workload._replace(is_holding=False, revision=workload.revision + 1)


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
    return workload._replace(
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


def _write_workloads(tx: Transaction, moved: Collection[_Decided]) -> None:
    of_phases: list[Row] = []
    of_all: list[Row] = []
    for one in moved:
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
    changed = change_rows(tx.connection, SQL["move_workloads"], of_phases)
    changed += change_rows(tx.connection, SQL["move_and_hold_workloads"], of_all)
    assert changed == len(moved), "their revisions were looked at in this transaction"


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


def _write_lists(
    tx: Transaction, moved: Iterable[_Decided], standings: Mapping[int, _Standing]
) -> None:
    """Count what has moved; versions and, where they are the latest, their jobs show it."""
    of_versions: list[Row] = []
    of_jobs: list[Row] = []
    for one in moved:
        was, is_ = one.before.view, one.after.view
        _count(tx.counts, one, was, is_)
        place, shown = standings[one.before.id], _shown(one.after, is_)
        if not place.version_id or shown == _shown(one.before, was):
            continue
        tx.changed_lists.add(one.before.project_id)
        status, started_at_ms, _, duration_ms = shown
        of_versions.append((place.version_id, *shown))
        if place.is_latest:
            of_jobs.append((place.job_id, status, started_at_ms, duration_ms))
        if was.v1_status != status:
            _count_in_lists(tx.counts, one.before.project_id, place, was.v1_status, status)
    run_for_rows(tx.connection, SQL["show_in_version"], of_versions)
    run_for_rows(tx.connection, SQL["show_in_job"], of_jobs)


def _count(counts: Counts, moved: _Decided, was: View, is_: View) -> None:
    before, after = moved.before, moved.after
    where = (before.project_id, before.pool_id, before.type)
    if not before.is_deleted and was.statistics is not is_.statistics:
        counts.workload(*where, was.statistics, -1)
        counts.workload(*where, is_.statistics, 1)
    holding = int(after.is_holding) - int(before.is_holding)
    if holding:
        counts.held(*where, before.resources, holding)
    # Deleted or not, it takes of the quotas of its workspace until nothing of it is left.
    using = int(after.takes_quota) - int(before.takes_quota)
    if using:
        counts.use(before.project_id, before.workspace_id, before.type, before.resources, using)


def _count_in_lists(counts: Counts, project_id: str, place: _Standing, was: int, is_: int) -> None:
    where = (project_id, place.workspace_id)
    if not place.is_version_deleted:
        counts.version(*where, place.pool_id, was, -1, version_id=place.version_id)
        counts.version(*where, place.pool_id, is_, 1, version_id=place.version_id)
    if place.is_latest and not place.is_job_deleted:
        counts.job(*where, was, -1, job_id=place.job_id)
        counts.job(*where, is_, 1, job_id=place.job_id)


def _shown(workload: Workload, view: View) -> tuple[int, int | None, int | None, int | None]:
    """What the lists show of it: (status, start, end, duration)."""
    return (
        view.v1_status,
        workload.started_at_ms,
        workload.ended_at_ms,
        duration_ms_of(workload),
    )


def duration_ms_of(workload: Workload) -> int | None:
    """0 while it waits, None while it runs (it changes by itself), final once it has ended."""
    if workload.started_at_ms is None:
        return 0
    if workload.ended_at_ms is None:
        return None
    return workload.ended_at_ms - workload.started_at_ms


@reads_no_counters
@tells_lists
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
    [outcome] = move_workloads(tx, [Move(workload=workload, steps=(happened,))])
    if isinstance(outcome, MusterError):
        raise outcome
    return outcome
