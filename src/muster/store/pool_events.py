"""What happens to pools, as they tell it: every change of their nodes is measured and noted.

The events are written in the transaction of what they tell of.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from muster.domain.pool import NodePhase
from muster.store.connection import Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("pool_events")

PHASE_CHANGED: Final = "PoolStatusChange"
NODES_CHANGED: Final = "PoolResourcesStatusChange"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEventRow:
    """What happened to a pool or a node of it, as it was recorded."""

    number: int  # 1, 2, 3 ... within the pool
    node_name: str | None
    at_ms: int
    type: str  # `Normal` or `Warning`
    reason: str
    message: str
    actor: str


def list_events(
    connection: Connection,
    pool_id: str,
    *,
    type_: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    is_ascending: bool = False,
    after: int | None = None,
    offset: int = 0,
    limit: int = 500,
) -> tuple[int, int, list[PoolEventRow]]:
    """(how many match, how many of those lie behind `after`, the page).

    `after` is the number of the last event of the page before.
    """
    filters = {
        "pool_id": pool_id,
        "type": type_,
        "since_ms": since_ms,
        "until_ms": until_ms,
        "after": after,
        "direction": 1 if is_ascending else -1,
    }
    total, left = connection.execute(SQL["count_pool_events"], filters).fetchone()
    rows = connection.execute(
        SQL["list_pool_events"], {**filters, "limit": limit, "offset": offset}
    )
    return (
        total,
        left,
        [
            PoolEventRow(
                number=row[0],
                node_name=row[1],
                at_ms=row[2],
                type=row[3],
                reason=row[4],
                message=row[5],
                actor=row[6],
            )
            for row in rows
        ],
    )


def insert_event(
    tx: Transaction,
    pool_id: str,
    *,
    is_warning: bool,
    reason: str,
    message: str,
    now_ms: int,
    actor: str,
    node_name: str | None = None,
) -> None:
    tx.execute(
        SQL["insert_pool_event"],
        {
            "pool_id": pool_id,
            "node_name": node_name,
            "now_ms": now_ms,
            "type": "Warning" if is_warning else "Normal",
            "reason": reason,
            "message": message,
            "actor": actor,
        },
    )


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """Nodes of a pool, as its events tell them."""

    available: int
    abnormal: int
    creating: int  # asked for, and not there yet
    deleting: int

    def __str__(self) -> str:
        return f"{self.available}/{self.abnormal}/{self.creating}/{self.deleting}"

    def moved(self, move: "NodeMove", *, creating: int) -> "NodeCounts":
        """After one node has moved; `creating` is where that count is going."""

        def changed(count: int, phase: NodePhase) -> int:
            return count + (move.phase_after is phase) - (move.phase_before is phase)

        return NodeCounts(
            available=changed(self.available, NodePhase.AVAILABLE),
            abnormal=changed(self.abnormal, NodePhase.ABNORMAL),
            creating=self.creating + max(-1, min(1, creating - self.creating)),
            deleting=changed(self.deleting, NodePhase.DELETING),
        )


def count_nodes(connection: Connection, partition: str) -> dict[str, NodeCounts]:
    """By pool: the public partition is seen through several."""
    rows = connection.execute(SQL["count_nodes"], {"partition": partition})
    return {row[0]: NodeCounts(*row[1:]) for row in rows}


@dataclass(frozen=True, slots=True)
class NodeMove:
    """One node that comes (from None), goes (to None) or changes its phase."""

    node_name: str
    phase_before: NodePhase | None
    phase_after: NodePhase | None


@contextmanager
def nodes_change(
    tx: Transaction,
    partition: str,
    *,
    now_ms: int | None,
    actor: str,
    moves: Sequence[NodeMove] = (),
) -> Iterator[None]:
    """Around what changes nodes: measures the pools of the partition, and notes every move."""
    before = count_nodes(tx.connection, partition)
    yield
    measure_pools(tx, partition)
    tx.has_work = True
    if now_ms is None:
        return
    for pool_id, after in count_nodes(tx.connection, partition).items():
        for node_name, was, is_ in _steps(before[pool_id], after, moves):
            insert_event(
                tx,
                pool_id,
                is_warning=is_.abnormal > was.abnormal,
                reason=NODES_CHANGED,
                message="Pool resources status changed, available/abnormal/creating/deleting count"
                f" from {was} to {is_}, timestamp: {now_ms // 1000}.",
                now_ms=now_ms,
                actor=actor,
                node_name=node_name,
            )


def _steps(
    before: NodeCounts, after: NodeCounts, moves: Sequence[NodeMove]
) -> Iterator[tuple[str | None, NodeCounts, NodeCounts]]:
    """The way from one count to the other: (node, count before its move, count after it).

    What is still to come changes by one a move at most, until it is what it will be.
    """
    counts = before
    for move in moves:
        stepped = counts.moved(move, creating=after.creating)
        if stepped != counts:
            yield move.node_name, counts, stepped
        counts = stepped
    if counts != after:  # what is asked for has changed
        yield None, counts, after


def measure_pools(tx: Transaction, partition: str) -> None:
    """What the nodes of a partition come to, in every pool that is a view of it."""
    tx.execute(SQL["measure_pools"], {"partition": partition})
