"""Why a workload waits, as whoever asks may be told."""

from dataclasses import dataclass
from typing import Final

from muster.domain.errors import StaleWrite
from muster.domain.phase import Phase
from muster.domain.pool import PoolPhase
from muster.domain.waiting import QUEUE_MAX, Scene, Waiting, behind, explain, message_of
from muster.domain.workload import Workload, turn
from muster.operations.caller import Caller
from muster.store import pool_nodes, pools, workloads
from muster.store.connection import Connection
from muster.store.database import Database

WAITS: Final = frozenset({Phase.CREATING, Phase.QUEUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A workload of the caller's own project that has to end first."""

    uid: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Why it waits; what the caller may not see is counted, never named."""

    waiting: Waiting
    message: str
    blockers: tuple[Blocker, ...] = ()
    others: int = 0  # that have to end as well


async def explain_waiting(
    database: Database, caller: Caller, workload_id: int, *, now_ms: int
) -> Told | None:
    """In a thread, on a snapshot. None: it waits no more."""

    def read(connection: Connection) -> Told | None:
        try:
            workload = workloads.get_workload(connection, workload_id)
        except StaleWrite:
            return None  # it was deleted meanwhile
        if workload.phase not in WAITS:
            return None
        told = explain_queue(
            connection, caller, workload.pool_id, workload.partition, now_ms=now_ms
        )
        if workload_id in told:
            return told[workload_id]
        return tell_behind(workloads.count_ahead(connection, workload) + 1)

    return await database.scan(read)


def explain_queue(
    connection: Connection, caller: Caller, pool_id: str, partition: str, *, now_ms: int
) -> dict[int, Told]:
    """The head of a queue, at most QUEUE_MAX workloads, by id. The others: `tell_behind`."""
    active = [w for w in workloads.list_active(connection) if w.partition == partition]
    queue = _first_of_queue(connection, partition, active)
    if not queue:
        return {}
    pool = pools.find_pool(connection, caller.project_id, pool_id)
    explained = explain(
        Scene(
            now_ms=now_ms,
            pool_phase=pool.phase if pool else PoolPhase.DELETING,
            queue=queue,
            nodes=pool_nodes.list_partition_nodes(connection, partition),
            holders=[w for w in active if w.is_holding],
        )
    )
    ids = [blocker for waiting in explained.values() for blocker in waiting.unblocked_by]
    own = {
        workload_id: Blocker(uid=uid, name=name)
        for workload_id, (uid, name, workspace_id) in workloads.name_workloads(
            connection, caller.project_id, ids
        ).items()
        if caller.may_enter(workspace_id)
    }
    return {workload_id: _told(waiting, own) for workload_id, waiting in explained.items()}


def tell_behind(position: int) -> Told:
    waiting = behind(position)
    return Told(waiting=waiting, message=message_of(waiting))


def _first_of_queue(
    connection: Connection, partition: str, active: list[Workload]
) -> list[Workload]:
    """With those that are about to join it: they have their turn already."""
    head = workloads.list_queue(connection, partition, limit=QUEUE_MAX)
    new = [w for w in active if w.phase is Phase.CREATING]
    if len(head) == QUEUE_MAX:
        last_read = turn(head[-1])
        new = [w for w in new if turn(w) < last_read]
    return sorted((*head, *new), key=turn)[:QUEUE_MAX]


def _told(waiting: Waiting, own: dict[int, Blocker]) -> Told:
    blockers = tuple(own[blocker] for blocker in waiting.unblocked_by if blocker in own)
    others = len(waiting.unblocked_by) - len(blockers)
    names = [blocker.name for blocker in blockers]
    return Told(
        waiting=waiting,
        message=message_of(waiting, names, others),
        blockers=blockers,
        others=others,
    )
