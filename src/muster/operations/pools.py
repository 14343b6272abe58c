"""Pools and their nodes: make, change, delete, lock. The reconciler makes true what is wished."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from muster.domain.catalogue import Catalogue
from muster.domain.dealing import shares_of
from muster.domain.errors import (
    InvalidRequest,
    NodePoolUnknown,
    NodeUnknown,
    QuotaExceeded,
)
from muster.domain.partitioning import Partitioning
from muster.domain.pool import Node, NodePhase, Pool, PoolEvent, PoolLine, PoolPhase
from muster.domain.poollines import NewLine, check_locked_stay, is_resize, resized_line
from muster.domain.poolwish import (
    NewPool,
    PoolChange,
    changed_pool,
    check_changeable,
    check_resizable,
    merge_patch,
    new_pool,
    tagged_pool,
    with_changed_line,
    with_line,
    without_line,
    without_nodes,
)
from muster.domain.tag import (
    TagAction,
    TagChange,
    changed_tags,
    check_key_is_free,
    is_own_tag,
)
from muster.operations.caller import Caller
from muster.store import jobs, pool_nodes, pools, tags, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction
from muster.store.workspaces import check_pool_quota


@dataclass(frozen=True, slots=True)
class Pools:
    """What the operations on pools work with."""

    database: Database
    catalogue: Catalogue
    pool_quota: int
    partitioning: Partitioning = field(default_factory=Partitioning)

    @property
    def flavor_codes(self) -> tuple[str, ...]:
        return tuple(flavor.code for flavor in self.catalogue.flavors)


def get_node(connection: Connection, pool: Pool, name: str) -> Node:
    node = pool_nodes.find_node(connection, pool.partition, name)
    if node is None:
        raise NodeUnknown(f"Node {name} not found in pool {pool.id}.")
    return node


def get_line(pool: Pool, name: str) -> PoolLine:
    """The node pool of that name."""
    for line in pool.lines:
        if line.name == name:
            return line
    raise NodePoolUnknown(f"Node pool {name} not found in pool {pool.id}.")


# ---------------------------------------------------------------- pools


async def create_pool(given: Pools, caller: Caller, wish: NewPool, *, now_ms: int) -> Pool:
    """Store a new pool. It has nodes once the reconciler has dealt them.

    Raises:
        InvalidRequest, PoolNameTaken, Forbidden: nothing was made.
    """
    given.partitioning.check_may_make()
    project_id = caller.project_id
    wished = new_pool(wish, given.flavor_codes, pool_id="", project_id=project_id, now_ms=now_ms)

    def insert(tx: Transaction) -> Pool:
        jobs.check_workspace(tx.connection, project_id, wished.workspace_id)
        check_pool_count(tx.connection, project_id, given.pool_quota)
        check_pool_quota(tx, project_id, wished.workspace_id, _node_count(wished.lines))
        pool_id = pools.free_pool_id(tx.connection, wished.display_name, project_id)
        pool = replace(wished, id=pool_id, partition=pool_id)
        pools.insert_pool(tx, pool)
        return pool

    return await given.database.write(insert)


def check_pool_count(connection: Connection, project_id: str, quota: int) -> None:
    """Raise QuotaExceeded where the project has as many pools as it may."""
    used = pools.count_pools(connection, project_id)
    if used >= quota:
        raise QuotaExceeded(
            f"The project has {used} pools of {quota} that it may have; delete one first."
        )


def _node_count(lines: Iterable[PoolLine]) -> int:
    return sum(line.node_count for line in lines)


async def change_pool(
    given: Pools, caller: Caller, pool_id: str, change: PoolChange, *, now_ms: int
) -> Pool:
    """Carry out a merge patch. What changes nothing is no change.

    Raises:
        InvalidRequest, PoolUnknown: nothing was changed.
        PoolChanged: somebody else changed it at the same time, and was first.
    """
    return await _change(
        given,
        caller,
        pool_id,
        lambda pool: changed_pool(pool, change, given.flavor_codes),
        now_ms=now_ms,
    )


async def _change(
    given: Pools, caller: Caller, pool_id: str, decide: Callable[[Pool], Pool], *, now_ms: int
) -> Pool:
    """Read, decide, and store what was decided, unless somebody else was first."""
    before = await given.database.read(pools.get_pool, caller.project_id, pool_id)
    after = decide(before)
    if after == before:
        return before

    def store(tx: Transaction) -> Pool:
        now = pools.get_pool(tx.connection, caller.project_id, pool_id)
        check_changeable(now)
        has_moved = after.workspace_id != before.workspace_id
        if has_moved:
            jobs.check_workspace(tx.connection, caller.project_id, after.workspace_id)
        added = _node_count(after.lines) - (0 if has_moved else _node_count(before.lines))
        check_pool_quota(tx, caller.project_id, after.workspace_id, added)
        if is_resize(before.lines, after.lines):
            given.partitioning.check_may_resize(now)
            check_resizable(now)
            nodes = pool_nodes.list_partition_nodes(tx.connection, before.partition)
            check_locked_stay(nodes, after.lines)
        wished = replace(after, phase=now.phase, message=now.message)
        return pools.change_pool(tx, wished, now_ms=now_ms, actor=caller.user_name)

    return await given.database.write(store)


async def delete_pool(given: Pools, caller: Caller, pool_id: str, *, now_ms: int) -> Pool:
    """Begin to take it away: its jobs are stopped, then its nodes given back, then it is gone.

    To ask again changes nothing.
    """

    def delete(tx: Transaction) -> Pool:
        pool = pools.get_pool(tx.connection, caller.project_id, pool_id)
        if pool.is_public:
            check_changeable(pool)
        given.partitioning.check_may_delete(pool)
        if pool.phase is PoolPhase.DELETING:
            return pool
        return pools.move_pool(
            tx, pool, PoolEvent.DELETE_ASKED, now_ms=now_ms, actor=caller.user_name
        )

    return await given.database.write(delete)


# ---------------------------------------------------------------- node pools


async def create_line(
    given: Pools, caller: Caller, pool_id: str, wish: NewLine, *, now_ms: int
) -> Pool:
    """Add a node pool.

    Raises:
        NodePoolNameTaken: there is one of that name.
    """
    return await _change(
        given,
        caller,
        pool_id,
        lambda pool: with_line(pool, wish, given.flavor_codes),
        now_ms=now_ms,
    )


async def change_line(
    given: Pools,
    caller: Caller,
    pool_id: str,
    name: str,
    *,
    flavor_code: str | None,
    node_count: int | None,
    node_count_max: int | None,
    settings: Mapping[str, object],
    check: Callable[[Mapping[str, object]], None],
    now_ms: int,
) -> Pool:
    """Carry out a merge patch of one node pool; None stays as it is.

    `check` raises where the settings that come of it are none.
    """

    def decide(pool: Pool) -> Pool:
        line = get_line(pool, name)
        merged = merge_patch(line.settings, settings)
        assert isinstance(merged, dict)
        check(merged)
        wish = NewLine(
            where="spec.resources",
            flavor_code=flavor_code or line.flavor_code,
            node_count=line.node_count if node_count is None else node_count,
            node_count_max=node_count_max,
            settings=merged,
        )
        changed = resized_line(line, wish, given.flavor_codes)
        return with_changed_line(pool, replace(changed, settings=merged))

    return await _change(given, caller, pool_id, decide, now_ms=now_ms)


async def delete_line(
    given: Pools, caller: Caller, pool_id: str, name: str, *, now_ms: int
) -> Pool:
    """Take a node pool away; busy nodes of it drain. The pool as it was before."""
    before = await given.database.read(pools.get_pool, caller.project_id, pool_id)
    get_line(before, name)
    await _change(given, caller, pool_id, lambda pool: without_line(pool, name), now_ms=now_ms)
    return before


# ---------------------------------------------------------------- nodes


class NodeAction(StrEnum):
    """What `batch-update` does. The values are public."""

    OPEN_SPARE = "openHaRedundant"
    CLOSE_SPARE = "closeHaRedundant"
    CREATE_TAGS = "createTags"
    DELETE_TAGS = "deleteTags"


async def delete_nodes(
    given: Pools, caller: Caller, pool_id: str, names: Sequence[str], *, now_ms: int
) -> None:
    """Give nodes back by name, and make the pool so much smaller. Busy ones drain first.

    Raises:
        InvalidRequest: one is not there or locked, or none would stay; nothing was changed.
    """

    def delete(tx: Transaction) -> None:
        pool, nodes = _named_nodes(tx, caller, pool_id, names, field="deleteNodeNames")
        given.partitioning.check_may_resize(pool)
        locked = sorted(node.name for node in nodes if node.is_locked)
        if locked:
            raise InvalidRequest(
                f"deleteNodeNames has locked nodes: {', '.join(locked[:10])}. Unlock them first."
            )
        leaving = [node for node in nodes if node.phase is not NodePhase.DELETING]
        present = pool_nodes.list_partition_nodes(tx.connection, pool.partition)
        going = {node.name for node in leaving}
        if all(n.name in going or n.phase is NodePhase.DELETING for n in present):
            raise InvalidRequest(
                f"deleteNodeNames has every node of pool {pool_id}; one must stay. Delete the pool"
                " instead."
            )
        if leaving:
            actor = caller.user_name
            pools.change_pool(tx, without_nodes(pool, leaving), now_ms=now_ms, actor=actor)
            pool_nodes.mark_nodes(
                tx,
                leaving,
                NodePhase.DELETING,
                now_ms=now_ms,
                actor=actor,
                message=f"{actor} asked for it to go.",
            )

    await given.database.write(delete)


async def lock_nodes(
    given: Pools, caller: Caller, pool_id: str, names: Sequence[str], *, is_locked: bool
) -> list[Node]:
    """Keep nodes from new work and from being deleted by name, or let them again."""

    def lock(tx: Transaction) -> list[Node]:
        _, nodes = _named_nodes(tx, caller, pool_id, names, field="nodeNames")
        for node in nodes:
            pool_nodes.lock_node(tx, node, is_locked=is_locked)
        return nodes

    return await given.database.write(lock)


async def update_nodes(
    given: Pools,
    caller: Caller,
    pool_id: str,
    names: Sequence[str],
    action: NodeAction,
    *,
    change: TagChange | None,
) -> tuple[list[str], list[str]]:
    """(nodes that it was done to, nodes that are not there or are going).

    `change` is what the actions on tags do.
    """
    _check_keys(change)

    def update(tx: Transaction) -> tuple[list[str], list[str]]:
        pool = _changeable_pool(tx, caller, pool_id)
        staying = {
            node.name: node
            for node in pool_nodes.list_partition_nodes(tx.connection, pool.partition)
            if node.phase is not NodePhase.DELETING
        }
        done = [name for name in dict.fromkeys(names) if name in staying]
        for name in done:
            if change is None:
                _make_spare(tx, staying[name], is_spare=action is NodeAction.OPEN_SPARE)
            else:
                _tag(tx, staying[name], change)
        return done, [name for name in dict.fromkeys(names) if name not in staying]

    return await given.database.write(update)


def _make_spare(tx: Transaction, node: Node, *, is_spare: bool) -> None:
    pool_nodes.set_spare(tx, node, is_spare=is_spare)
    # Whatever it stood in for: from now on the user has the word.
    pool_nodes.tag_node(tx, node, own_tags(node))


def _tag(tx: Transaction, node: Node, change: TagChange) -> dict[str, str]:
    """The node's tags after it. What the platform notes there stays."""
    changed = changed_tags(own_tags(node), change)
    notes = {key: value for key, value in node.tags.items() if not is_own_tag(key)}
    pool_nodes.tag_node(tx, node, {**notes, **changed})
    return changed


def own_tags(node: Node) -> dict[str, str]:
    """Those that a user has set."""
    return {key: value for key, value in node.tags.items() if is_own_tag(key)}


def _check_keys(change: TagChange | None) -> None:
    """What is taken away may have any key."""
    if change is not None and change.action is not TagAction.DELETE:
        for key, _ in change.tags:
            check_key_is_free("tags", key)


async def tag_node(given: Pools, caller: Caller, name: str, change: TagChange) -> dict[str, str]:
    """Change the tags of one node, in whatever pool of the project; the tags after it.

    Raises:
        NodeUnknown: the project has none of that name.
        InvalidRequest: names the tag, or why the node cannot be changed; nothing was.
    """
    _check_keys(change)

    def tag(tx: Transaction) -> dict[str, str]:
        pool, node = find_own_node(tx.connection, caller.project_id, name)
        check_changeable(pool)
        return _tag(tx, node, change)

    return await given.database.write(tag)


def find_own_node(connection: Connection, project_id: str, name: str) -> tuple[Pool, Node]:
    """A node of that project by its name alone, and the pool that it is in.

    Raises:
        NodeUnknown: the project has none of that name.
    """
    pool_id = tags.find_pool_of_node(connection, project_id, name)
    pool = None if pool_id is None else pools.find_pool(connection, project_id, pool_id)
    node = None if pool is None else pool_nodes.find_node(connection, pool.partition, name)
    if pool is None or node is None:
        raise tags.node_unknown(name)
    return pool, node


async def tag_pool(
    given: Pools, caller: Caller, pool_id: str, change: TagChange, *, now_ms: int
) -> Pool:
    """Change the tags of a pool. What changes nothing is no change.

    Raises:
        InvalidRequest, PoolUnknown: nothing was changed.
    """
    _check_keys(change)

    def tag(tx: Transaction) -> Pool:
        before = pools.get_pool(tx.connection, caller.project_id, pool_id)
        after = tagged_pool(before, change)
        if after == before:
            return before
        return pools.change_pool(tx, after, now_ms=now_ms, actor=caller.user_name)

    return await given.database.write(tag)


def _changeable_pool(tx: Transaction, caller: Caller, pool_id: str) -> Pool:
    pool = pools.get_pool(tx.connection, caller.project_id, pool_id)
    check_changeable(pool)
    return pool


def _named_nodes(
    tx: Transaction, caller: Caller, pool_id: str, names: Sequence[str], *, field: str
) -> tuple[Pool, list[Node]]:
    """The pool, and every node that was named, each once.

    Raises:
        InvalidRequest: names those that are not there.
    """
    pool = _changeable_pool(tx, caller, pool_id)
    nodes = {n.name: n for n in pool_nodes.list_partition_nodes(tx.connection, pool.partition)}
    unknown = [name for name in dict.fromkeys(names) if name not in nodes]
    if unknown:
        told = ", ".join(name[:100] for name in unknown[:10])
        raise InvalidRequest(f"{field} has {told}; pool {pool_id} has no such nodes.")
    return pool, [nodes[name] for name in dict.fromkeys(names)]


# ---------------------------------------------------------------- what there is to ask for


async def count_free_nodes(given: Pools) -> dict[str, int]:
    """By flavor: how many nodes of it the hosts could give now, if nobody took anything else."""

    def read(connection: Connection) -> dict[str, int]:
        shares = shares_of(
            pool_nodes.list_hosts(connection),
            pool_nodes.list_nodes(connection),
            frozenset(workloads.list_held_cards(connection)),
        )
        if given.partitioning.hosts_are_whole:
            shares = [share for share in shares if share.owner is None]
        return {
            flavor.code: sum(share.most(flavor) for share in shares)
            for flavor in given.catalogue.flavors
        }

    return await given.database.scan(read)
