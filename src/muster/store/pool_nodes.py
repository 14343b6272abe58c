"""The nodes of pools, and the hosts that they are dealt from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from muster.domain.placement import CardKind
from muster.domain.pool import Host, Node, NodePhase
from muster.store.connection import Connection
from muster.store.pool_events import NodeMove, measure_pools, nodes_change
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("pool_nodes")


def list_partition_nodes(connection: Connection, partition: str) -> list[Node]:
    """By name."""
    rows = connection.execute(SQL["list_partition_nodes"], {"partition": partition})
    return [_node(row) for row in rows]


def list_nodes(connection: Connection) -> list[Node]:
    return [_node(row) for row in connection.execute(SQL["list_nodes"])]


def find_node(connection: Connection, partition: str, name: str) -> Node | None:
    row = connection.execute(SQL["find_node"], {"partition": partition, "name": name}).fetchone()
    return _node(row) if row else None


def list_node_page(
    connection: Connection, partition: str, *, line_name: str | None, after: str, limit: int
) -> tuple[int, list[Node]]:
    """(how many there are behind `after`, the first of them by name).

    `line_name`: of that line only. `after`: the name of the last node of the page before, or "".
    """
    filters = {"partition": partition, "line_name": line_name, "after": after}
    [left] = connection.execute(SQL["count_node_page"], filters).fetchone()
    rows = connection.execute(SQL["list_node_page"], {**filters, "limit": limit})
    return left, [_node(row) for row in rows]


@dataclass(frozen=True, slots=True)
class LineCount:
    """Nodes of one line of a pool that stand in one phase."""

    line_name: str
    flavor_code: str
    phase: NodePhase
    node_count: int


def count_by_line(connection: Connection, project_id: str) -> dict[str, list[LineCount]]:
    """By partition, for every pool of the project."""
    counts: dict[str, list[LineCount]] = {}
    for row in connection.execute(SQL["count_by_line"], {"project_id": project_id}):
        partition, line_name, flavor_code, phase, count = row
        counts.setdefault(partition, []).append(
            LineCount(line_name, flavor_code, NodePhase(phase), count)
        )
    return counts


@dataclass(frozen=True, slots=True)
class Hold:
    """What one task has of a node."""

    node_name: str
    cpu_millis: int
    memory_mib: int
    cards: tuple[int, ...]


def list_holds(connection: Connection, partition: str) -> list[Hold]:
    """Of every task that holds a part of a node of the partition."""
    return [
        Hold(row[0], row[1], row[2], tuple(json.loads(row[3])))
        for row in connection.execute(SQL["list_holds"], {"partition": partition})
    ]


def add_nodes(tx: Transaction, nodes: Sequence[Node], *, now_ms: int, actor: str) -> None:
    """Nodes of one partition."""
    moves = [NodeMove(node.name, None, node.phase) for node in nodes]
    with nodes_change(tx, nodes[0].partition, moves=moves, now_ms=now_ms, actor=actor):
        for node in nodes:
            tx.execute(
                SQL["insert_node"],
                {
                    "name": node.name,
                    "partition": node.partition,
                    "line_name": node.line_name,
                    "flavor_code": node.flavor_code,
                    "host_name": node.host_name,
                    "cpu_millis": node.cpu_millis,
                    "memory_mib": node.memory_mib,
                    "card_kind": node.card_kind,
                    "cards": json.dumps(node.cards),
                    "phase": node.phase,
                    "now_ms": now_ms,
                },
            )


def remove_nodes(tx: Transaction, nodes: Sequence[Node], *, now_ms: int, actor: str) -> None:
    """Only once nothing runs on them: their cards go back to their hosts."""
    moves = [NodeMove(node.name, node.phase, None) for node in nodes]
    with nodes_change(tx, nodes[0].partition, moves=moves, now_ms=now_ms, actor=actor):
        for node in nodes:
            tx.execute(SQL["delete_node"], {"name": node.name})


def mark_nodes(
    tx: Transaction,
    nodes: Sequence[Node],
    phase: NodePhase,
    *,
    now_ms: int,
    actor: str,
    message: str = "",
) -> None:
    """Nodes of one partition."""
    moves = [NodeMove(node.name, node.phase, phase) for node in nodes]
    with nodes_change(tx, nodes[0].partition, moves=moves, now_ms=now_ms, actor=actor):
        for node in nodes:
            tx.execute(
                SQL["mark_node"],
                {"name": node.name, "phase": phase, "message": message, "now_ms": now_ms},
            )


def deal_cards(tx: Transaction, node: Node, cards: Sequence[int], *, now_ms: int) -> None:
    """Give a public node these cards and no others."""
    with nodes_change(tx, node.partition, now_ms=now_ms, actor=""):
        tx.execute(SQL["deal_cards"], {"name": node.name, "cards": json.dumps(list(cards))})


def lock_node(tx: Transaction, node: Node, *, is_locked: bool) -> None:
    """A locked node takes nothing new, and is not deleted by its name; what runs on it goes on."""
    tx.execute(SQL["lock_node"], {"name": node.name, "is_locked": is_locked})
    tx.has_work = True


def set_spare(tx: Transaction, node: Node, *, is_spare: bool) -> None:
    """A spare node is kept free until another one breaks."""
    tx.execute(SQL["spare_node"], {"name": node.name, "is_spare": is_spare})
    tx.has_work = True


def tag_node(tx: Transaction, node: Node, tags: Mapping[str, str]) -> None:
    tx.execute(SQL["tag_node"], {"name": node.name, "tags": json.dumps(dict(tags))})


def _node(row: Sequence[Any]) -> Node:
    return Node(
        name=row[0],
        partition=row[1],
        cpu_millis=row[2],
        memory_mib=row[3],
        card_kind=None if row[4] is None else CardKind(row[4]),
        cards=tuple(json.loads(row[5])),
        line_name=row[6],
        flavor_code=row[7],
        host_name=row[8],
        phase=NodePhase(row[9]),
        message=row[10],
        is_locked=bool(row[11]),
        is_spare=bool(row[12]),
        tags=json.loads(row[13]),
        created_at_ms=row[14],
    )


def put_hosts(tx: Transaction, hosts: Iterable[Host]) -> None:
    """Make the hosts those of the inventory; one that is gone stays known, for its nodes.

    Where there was one and there is one, it is the same, whatever it is called now: a container
    gets another host name at each start, and what is written down names nodes.
    """
    hosts = list(hosts)
    known = [row[0] for row in tx.execute(SQL["list_public_hosts"])]
    if len(hosts) == len(known) == 1:
        hosts = [replace(hosts[0], name=known[0])]
    tx.execute(SQL["withdraw_hosts"])
    for host in hosts:
        tx.execute(
            SQL["put_host"],
            {
                "name": host.name,
                "cpu_millis": host.cpu_millis,
                "memory_mib": host.memory_mib,
                "card_kind": host.card_kind,
                "card_model": host.card_model,
                "cards": json.dumps(host.cards),
            },
        )
    for statement in ("adopt_nodes", "drop_nodes_without_host", "adopt_card_holds"):
        tx.execute(SQL[statement])
    tx.execute(SQL["measure_public_nodes"])
    measure_pools(tx, "public")


def list_hosts(connection: Connection) -> list[Host]:
    return [
        Host(
            name=row[0],
            cpu_millis=row[1],
            memory_mib=row[2],
            card_kind=None if row[3] is None else CardKind(row[3]),
            card_model=row[4],
            cards=tuple(json.loads(row[5])),
            is_present=bool(row[6]),
            is_up=bool(row[7]),
            message=row[8],
        )
        for row in connection.execute(SQL["list_hosts"])
    ]


def set_host_condition(tx: Transaction, name: str, *, is_up: bool, message: str) -> None:
    tx.execute(SQL["set_host_condition"], {"name": name, "is_up": is_up, "message": message})
    tx.has_work = True
