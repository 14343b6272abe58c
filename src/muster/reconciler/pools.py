"""Carries out what is planned for pools: in one transaction with what it was planned from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from muster.domain.flavor import Flavor
from muster.domain.phase import STOPPABLE, Event, Reason
from muster.domain.pool import PoolPhase
from muster.domain.workload import Workload
from muster.reconciler.poolplan import STANDS_IN, plan_pools
from muster.reconciler.poolworld import (
    AddNode,
    DealCards,
    EndPool,
    MarkNode,
    MovePool,
    NotePool,
    PoolAction,
    PoolWorld,
    RemoveNode,
    RestSpare,
    StopWorkloads,
    UseSpare,
)
from muster.store import moves, pool_nodes, pools, workloads
from muster.store.connection import Connection
from muster.store.transaction import Transaction

ROUNDS_MAX: Final = 4  # what one round gives back, the next may give away
STOPS_AT_ONCE: Final = 200
MUSTER: Final = "muster"  # the actor of what the platform does by itself
NOTHING_UNUSABLE: Final[Mapping[str, str]] = {}


def read_pool_world(
    connection: Connection,
    flavors: Mapping[str, Flavor],
    *,
    now_ms: int,
    hosts_are_whole: bool = False,
    unusable: Mapping[str, str] = NOTHING_UNUSABLE,
    known: Mapping[int, Workload] | None = None,
) -> PoolWorld:
    """Everything that a plan for pools looks at.

    Args:
        connection: a snapshot of the store.
        flavors: what nodes are made to, by code.
        now_ms: the time of the plan.
        hosts_are_whole: whether a host has nodes of one pool only.
        unusable: why nothing can be run in a partition now, by its name.
        known: workloads as they were read before, by id; only what has changed is read again.
    """
    present = pools.list_present_pools(connection)
    deleting = [pool for pool in present if pool.phase is PoolPhase.DELETING]
    holding = [w for w in workloads.list_active(connection, known) if w.is_holding]
    return PoolWorld(
        now_ms=now_ms,
        hosts=pool_nodes.list_hosts(connection),
        pools=present,
        nodes=pool_nodes.list_nodes(connection),
        flavors=flavors,
        busy=frozenset(task.node_name for w in holding for task in w.placements),
        held=frozenset(workloads.list_held_cards(connection)),
        at_work=frozenset(pool.id for pool in deleting if pools.is_at_work(connection, pool)),
        stoppable=frozenset(pool.id for pool in deleting if pools.is_stoppable(connection, pool)),
        hosts_are_whole=hosts_are_whole,
        unusable=unusable,
    )


def settle_pools(
    tx: Transaction,
    flavors: Mapping[str, Flavor],
    *,
    now_ms: int,
    hosts_are_whole: bool = False,
    unusable: Mapping[str, str] = NOTHING_UNUSABLE,
) -> Sequence[PoolAction]:
    """Do all that can be done for pools now; return what was done."""
    done: list[PoolAction] = []
    for _ in range(ROUNDS_MAX):
        world = read_pool_world(
            tx.connection,
            flavors,
            now_ms=now_ms,
            hosts_are_whole=hosts_are_whole,
            unusable=unusable,
        )
        planned = plan_pools(world)
        for step in _steps(planned):
            _carry_out(tx, step, now_ms)
        done += planned
        if not planned or all(isinstance(action, StopWorkloads) for action in planned):
            break
    return done


def _steps(planned: Iterable[PoolAction]) -> Iterator[Sequence[PoolAction]]:
    """In the planned order; the same for several nodes of a pool is done, and told, once."""
    for key, group in groupby(planned, key=_sameness):
        actions = list(group)
        if key is None:
            yield from ([action] for action in actions)
        else:
            yield actions


def _sameness(action: PoolAction) -> object:
    match action:
        case AddNode(node) | RemoveNode(node):
            return type(action), node.partition
        case MarkNode(node, phase, message):
            return MarkNode, node.partition, phase, message
        case _:
            return None


def _carry_out(tx: Transaction, step: Sequence[PoolAction], now_ms: int) -> None:
    nodes = [action.node for action in step if isinstance(action, AddNode | RemoveNode | MarkNode)]
    match step[0]:
        case AddNode():
            pool_nodes.add_nodes(tx, nodes, now_ms=now_ms, actor=MUSTER)
        case RemoveNode():
            pool_nodes.remove_nodes(tx, nodes, now_ms=now_ms, actor=MUSTER)
        case MarkNode(_, phase, message):
            pool_nodes.mark_nodes(tx, nodes, phase, now_ms=now_ms, actor=MUSTER, message=message)
        case DealCards(node, cards):
            pool_nodes.deal_cards(tx, node, cards, now_ms=now_ms)
        case UseSpare(node):
            pool_nodes.set_spare(tx, node, is_spare=False)
            pool_nodes.tag_node(tx, node, {**node.tags, STANDS_IN: "true"})
        case RestSpare(node):
            pool_nodes.set_spare(tx, node, is_spare=True)
            tags = {key: value for key, value in node.tags.items() if key != STANDS_IN}
            pool_nodes.tag_node(tx, node, tags)
        case MovePool(pool, event, message):
            pools.move_pool(tx, pool, event, now_ms=now_ms, actor=MUSTER, message=message)
        case NotePool(pool, message):
            pools.note_pool(tx, pool, message)
        case StopWorkloads(pool):
            _stop_workloads(tx, pool.partition, pool.id, now_ms)
        case EndPool(pool):
            pools.end_pool(tx, pool, now_ms=now_ms)


def _stop_workloads(tx: Transaction, partition: str, pool_id: str, now_ms: int) -> None:
    """Stop what a pool that goes still has; a bounded number at a time."""
    queued = workloads.list_queue(tx.connection, partition, limit=STOPS_AT_ONCE)
    active = [w for w in workloads.list_active(tx.connection) if w.pool_id == pool_id]
    for workload in [w for w in (*queued, *active) if w.phase in STOPPABLE][:STOPS_AT_ONCE]:
        _stop(tx, workload, now_ms)


def _stop(tx: Transaction, workload: Workload, now_ms: int) -> None:
    moves.move_workload(
        tx,
        workload,
        Event.STOP_ASKED,
        now_ms=now_ms,
        actor=MUSTER,
        reason=Reason.POOL_DELETED,
        message="Its pool was deleted.",
    )
