"""Hosts, pools, their nodes and events; buckets; and the stable ids of flavors and AI engines.

Every change of a node or of a pool's phase writes an event in the same transaction, and what the
pool has is measured again.
"""

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from muster.domain.errors import PoolChanged, PoolNameTaken, PoolUnknown, StaleWrite
from muster.domain.placement import CardKind
from muster.domain.pool import (
    Host,
    Node,
    NodePhase,
    Pool,
    PoolEvent,
    PoolLine,
    PoolPhase,
    Scope,
    next_pool_phase,
    pool_id_of,
    public_pool,
)
from muster.domain.resources import Resources
from muster.store.connection import REFUSED, Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("pools")

# Each project's own bucket, where the command line puts code: nobody else can take its name.
_PROJECT_BUCKET: Final = re.compile(r"project-[0-9a-f]{32}")

PHASE_CHANGED: Final = "PoolStatusChange"
NODES_CHANGED: Final = "PoolResourcesStatusChange"
_WARNING_PHASES: Final = frozenset(
    {
        PoolPhase.ABNORMAL,
        PoolPhase.CREATION_FAILED,
        PoolPhase.SCALING_FAILED,
        PoolPhase.ERROR,
    }
)


# ---------------------------------------------------------------- pools


def find_pool(connection: Connection, project_id: str, pool_id: str) -> Pool | None:
    """One that is deleted is not found."""
    row = connection.execute(
        SQL["find_pool"], {"pool_id": pool_id, "project_id": project_id}
    ).fetchone()
    return _pool(row) if row else None


def get_pool(connection: Connection, project_id: str, pool_id: str) -> Pool:
    """One that the project has.

    Raises:
        PoolUnknown: it has none of that id.
    """
    pool = find_pool(connection, project_id, pool_id)
    if pool is None:
        raise pool_unknown(pool_id)
    return pool


def pool_unknown(pool_id: str) -> PoolUnknown:
    return PoolUnknown(f"Pool {pool_id} not found.")


def list_pools(connection: Connection, project_id: str) -> list[Pool]:
    return [_pool(row) for row in connection.execute(SQL["list_pools"], {"project_id": project_id})]


def list_present_pools(connection: Connection) -> list[Pool]:
    """Of every project, oldest first."""
    return [_pool(row) for row in connection.execute(SQL["list_present_pools"])]


def is_id_used(connection: Connection, pool_id: str) -> bool:
    """Whether some pool has or had that id."""
    return connection.execute(SQL["pool_id_is_used"], {"pool_id": pool_id}).fetchone() is not None


def insert_pool(tx: Transaction, pool: Pool) -> None:
    """Store a new pool, without nodes; the reconciler gives it what its lines ask for.

    Raises:
        PoolNameTaken: the project has a pool of that display name.
    """
    try:
        tx.execute(SQL["insert_pool"], _row_of(pool))
    except REFUSED as error:
        raise PoolNameTaken(
            f"The project has a pool named {pool.display_name!r}; names are unique in a project."
        ) from error
    _put_lines(tx, pool)
    tx.has_work = True


def change_pool(tx: Transaction, pool: Pool, *, now_ms: int | None = None, actor: str = "") -> Pool:
    """Store what a user wishes of it: workspace, scopes, lines, labels, annotations, settings.

    Args:
        tx: the transaction to do it in.
        pool: as it was read, with the changes; its wish guards them.
        now_ms: when; None: the inventory wishes it, and nobody is told.
        actor: who wishes it.

    Raises:
        PoolChanged: somebody else changed it since it was read.
    """
    if tx.execute(SQL["change_pool"], {**_row_of(pool), "wish": pool.wish}).rowcount == 0:
        raise PoolChanged(
            f"Pool {pool.id} was changed by somebody else at the same time; read it again."
        )
    with _nodes_change(tx, pool.partition, now_ms=now_ms, actor=actor):
        tx.execute(SQL["delete_lines"], {"pool_id": pool.id})
        _put_lines(tx, pool)
    tx.has_work = True
    return replace(pool, wish=pool.wish + 1)


def _put_lines(tx: Transaction, pool: Pool) -> None:
    for position, line in enumerate(pool.lines):
        tx.execute(
            SQL["insert_line"],
            {
                "pool_id": pool.id,
                "name": line.name,
                "position": position,
                "flavor_code": line.flavor_code,
                "node_count": line.node_count,
                "settings": json.dumps(line.settings),
            },
        )


def move_pool(
    tx: Transaction, pool: Pool, event: PoolEvent, *, now_ms: int, actor: str, message: str = ""
) -> Pool:
    """Carry one event out, and note it: the only function that changes the phase of a pool.

    Raises:
        IllegalTransition: the table of phases has no such move.
        StaleWrite: somebody else moved it first.
    """
    phase = next_pool_phase(pool.phase, event)
    moved = tx.execute(
        SQL["move_pool"],
        {
            "pool_id": pool.id,
            "phase": phase,
            "phase_before": pool.phase,
            "message": message,
            "now_ms": now_ms,
        },
    )
    if moved.rowcount == 0:
        raise StaleWrite(f"Pool {pool.id} was changed meanwhile.")
    _insert_event(
        tx,
        pool.id,
        is_warning=phase in _WARNING_PHASES,
        reason=PHASE_CHANGED,
        message=f"Pool status changed, from {pool.phase} to {phase}."
        + (f" {message}" if message else ""),
        now_ms=now_ms,
        actor=actor,
    )
    tx.has_work = True
    return replace(pool, phase=phase, message=message, phase_since_ms=now_ms)


def note_pool(tx: Transaction, pool: Pool, message: str) -> None:
    """Say what it waits for; it stands where it stands."""
    tx.execute(SQL["note_pool"], {"pool_id": pool.id, "message": message})


def end_pool(tx: Transaction, pool: Pool, *, now_ms: int) -> None:
    """Nothing of it is left. Its history stays, under its id."""
    tx.execute(SQL["end_pool"], {"pool_id": pool.id, "now_ms": now_ms})


def is_at_work(connection: Connection, pool: Pool) -> bool:
    """Whether anything in it waits, runs, or holds a node."""
    key = {"project_id": pool.project_id, "pool_id": pool.id}
    return bool(connection.execute(SQL["pool_is_at_work"], key).fetchone()[0])


def is_stoppable(connection: Connection, pool: Pool) -> bool:
    """Whether anything in it waits or runs that has not been told to stop."""
    key = {"project_id": pool.project_id, "pool_id": pool.id}
    return bool(connection.execute(SQL["pool_is_stoppable"], key).fetchone()[0])


def count_pools(connection: Connection, project_id: str) -> int:
    """Those of its own: the public one is not counted."""
    [count] = connection.execute(SQL["count_pools"], {"project_id": project_id}).fetchone()
    return int(count)


def count_wanted_nodes(connection: Connection, project_id: str) -> int:
    """What the project's pools ask for, whether it is there yet or not."""
    [count] = connection.execute(SQL["count_wanted_nodes"], {"project_id": project_id}).fetchone()
    return int(count)


def ensure_public_pool(tx: Transaction, project_id: str, *, now_ms: int) -> None:
    """Give a project its view of the nodes that all share."""
    pool = public_pool(project_id, (), now_ms=now_ms)
    if not is_id_used(tx.connection, pool.id):
        insert_pool(tx, pool)
        tx.execute(SQL["measure_pools"], {"partition": pool.partition})


def apply_declared(
    tx: Transaction, declared: Iterable[Pool], *, now_ms: int, withdraws: bool = True
) -> None:
    """Bring the pools in line with the inventory, where its word has changed since the last start.

    A pool that was resized over the API stays so until the inventory says something new. One that
    is declared no more goes, or gives its nodes back where it has history; unless nothing is to be
    withdrawn: then it stays as it is.
    """
    present = {
        (pool.project_id, pool.display_name): pool for pool in list_present_pools(tx.connection)
    }
    for pool in declared:
        known = present.pop((pool.project_id, pool.display_name), None)
        if known is None:
            pool_id = free_pool_id(tx.connection, pool.display_name, pool.project_id)
            insert_pool(tx, replace(pool, id=pool_id, partition=pool_id))
        elif known.declared != pool.declared:
            change_pool(
                tx,
                replace(
                    known,
                    scopes=pool.scopes,
                    lines=pool.lines,
                    settings=pool.settings,
                    declared=pool.declared,
                ),
            )
    for pool in present.values() if withdraws else ():
        if pool.declared and not has_history(tx.connection, pool):
            end_pool(tx, pool, now_ms=now_ms)
        elif pool.declared:
            lines = tuple(replace(line, node_count=0) for line in pool.lines)
            change_pool(tx, replace(pool, lines=lines, declared=WITHDRAWN))


WITHDRAWN: Final = ""  # of a pool that the inventory declared once


def free_pool_id(connection: Connection, display_name: str, project_id: str) -> str:
    """`NAME-PROJECT`, or with four hex digits between them where a deleted pool has that id."""
    pool_id = pool_id_of(display_name, project_id)
    while is_id_used(connection, pool_id):
        pool_id = f"{display_name}-{secrets.token_hex(2)}-{project_id}"
    return pool_id


def has_history(connection: Connection, pool: Pool) -> bool:
    """Whether any workload was ever put there."""
    key = {"project_id": pool.project_id, "pool_id": pool.id}
    return connection.execute(SQL["pool_has_history"], key).fetchone() is not None


# ---------------------------------------------------------------- events


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


def _insert_event(
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

    def moved(self, move: "_NodeMove", *, creating: int) -> "NodeCounts":
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
class _NodeMove:
    """One node that comes (from None), goes (to None) or changes its phase."""

    node_name: str
    phase_before: NodePhase | None
    phase_after: NodePhase | None


@contextmanager
def _nodes_change(
    tx: Transaction,
    partition: str,
    *,
    now_ms: int | None,
    actor: str,
    moves: Sequence[_NodeMove] = (),
) -> Iterator[None]:
    """Around what changes nodes: measures the pools of the partition, and notes every move."""
    before = count_nodes(tx.connection, partition)
    yield
    tx.execute(SQL["measure_pools"], {"partition": partition})
    tx.has_work = True
    if now_ms is None:
        return
    for pool_id, after in count_nodes(tx.connection, partition).items():
        for node_name, was, is_ in _steps(before[pool_id], after, moves):
            _insert_event(
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
    before: NodeCounts, after: NodeCounts, moves: Sequence[_NodeMove]
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


# ---------------------------------------------------------------- nodes and hosts


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
    moves = [_NodeMove(node.name, None, node.phase) for node in nodes]
    with _nodes_change(tx, nodes[0].partition, moves=moves, now_ms=now_ms, actor=actor):
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
    moves = [_NodeMove(node.name, node.phase, None) for node in nodes]
    with _nodes_change(tx, nodes[0].partition, moves=moves, now_ms=now_ms, actor=actor):
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
    moves = [_NodeMove(node.name, node.phase, phase) for node in nodes]
    with _nodes_change(tx, nodes[0].partition, moves=moves, now_ms=now_ms, actor=actor):
        for node in nodes:
            tx.execute(
                SQL["mark_node"],
                {"name": node.name, "phase": phase, "message": message, "now_ms": now_ms},
            )


def deal_cards(tx: Transaction, node: Node, cards: Sequence[int], *, now_ms: int) -> None:
    """Give a public node these cards and no others."""
    with _nodes_change(tx, node.partition, now_ms=now_ms, actor=""):
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


def outlook(connection: Connection) -> tuple[object, ...]:
    """Everything that a plan for pools follows from, but for the work on their nodes.

    As long as it stays the same, a plan that came to nothing comes to nothing again.
    """
    found: tuple[object, ...] = connection.execute(SQL["outlook"]).fetchone()
    return found


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
    tx.execute(SQL["measure_pools"], {"partition": "public"})


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


# ---------------------------------------------------------------- catalogue and buckets


def flavor_ids(tx: Transaction, codes: Sequence[str]) -> Mapping[str, int]:
    """The id of each flavor code: the one it had before, or the next."""
    for code in codes:
        tx.execute(SQL["put_flavor"], {"code": code})
    return dict(tx.execute(SQL["list_flavor_ids"]).fetchall())


def ai_engine_ids(
    tx: Transaction, names: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], int]:
    """The id of each (name, version): the one it had before, or the next."""
    for name, version in names:
        tx.execute(SQL["put_ai_engine"], {"name": name, "version": version})
    rows = tx.execute(SQL["list_ai_engine_ids"])
    return {(name, version): engine_id for name, version, engine_id in rows}


def may_use_bucket(connection: Connection, project_id: str, bucket: str) -> bool:
    """Whether the bucket is the project's. One that nobody has belongs to the default project."""
    owner = connection.execute(SQL["find_bucket_owner"], {"name": bucket}).fetchone()
    if owner is None:
        owner = connection.execute(SQL["default_project_id"]).fetchone()
    return owner is not None and bool(owner[0] == project_id)


def project_bucket(project_id: str) -> str:
    return f"project-{project_id}"


def may_claim_bucket(connection: Connection, project_id: str, bucket: str) -> bool:
    """Whether a bucket that is not there is the project's, or could be."""
    owner = _bucket_owner(connection, bucket)
    return _is_name_for(project_id, bucket) if owner is None else owner == project_id


def claim_bucket(tx: Transaction, project_id: str, bucket: str, *, is_there: bool) -> bool:
    """Take a new bucket for the project; False when it is somebody else's.

    Args:
        tx: the transaction to do it in.
        project_id: who wants it.
        bucket: its name.
        is_there: whether it exists. One without an owner is the default project's.
    """
    owner = _bucket_owner(tx.connection, bucket)
    if owner is not None:
        return owner == project_id
    if not _is_name_for(project_id, bucket):
        return False
    if is_there and not may_use_bucket(tx.connection, project_id, bucket):
        return False
    tx.execute(SQL["insert_bucket"], {"name": bucket, "project_id": project_id})
    return True


def _bucket_owner(connection: Connection, bucket: str) -> str | None:
    owner = connection.execute(SQL["find_bucket_owner"], {"name": bucket}).fetchone()
    return None if owner is None else str(owner[0])


def _is_name_for(project_id: str, bucket: str) -> bool:
    """Whether the project may take the name; each has one that is kept for it."""
    return _PROJECT_BUCKET.fullmatch(bucket) is None or bucket == project_bucket(project_id)


def list_buckets(connection: Connection, project_id: str) -> list[str]:
    rows = connection.execute(SQL["list_buckets"], {"project_id": project_id})
    return [row[0] for row in rows]


def _row_of(pool: Pool) -> dict[str, Any]:
    return {
        "id": pool.id,
        "pool_id": pool.id,
        "project_id": pool.project_id,
        "workspace_id": pool.workspace_id,
        "display_name": pool.display_name,
        "partition": pool.partition,
        "phase": pool.phase,
        "message": pool.message,
        "scopes": ",".join(pool.scopes),
        "labels": json.dumps(dict(pool.labels)),
        "annotations": json.dumps(dict(pool.annotations)),
        "settings": json.dumps(dict(pool.settings)),
        "declared": pool.declared,
        "created_at_ms": pool.created_at_ms,
    }


def _pool(row: Sequence[Any]) -> Pool:
    return Pool(
        id=row[0],
        project_id=row[1],
        workspace_id=row[2],
        display_name=row[3],
        partition=row[4],
        phase=PoolPhase(row[5]),
        message=row[6],
        scopes=tuple(Scope(scope) for scope in row[7].split(",") if scope),
        node_count=row[8],
        capacity=Resources(
            cpu_millis=row[9], memory_mib=row[10], gpu_count=row[11], npu_count=row[12]
        ),
        labels=json.loads(row[13]),
        annotations=json.loads(row[14]),
        settings=json.loads(row[15]),
        declared=row[16],
        created_at_ms=row[17],
        phase_since_ms=row[18],
        wish=row[19],
        revision=row[20],
        lines=tuple(
            PoolLine(name=line[0], flavor_code=line[1], node_count=line[2], settings=line[3])
            for line in json.loads(row[21])
        ),
    )


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
