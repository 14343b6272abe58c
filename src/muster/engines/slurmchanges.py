"""What muster changes about a Slurm cluster: pure, from what was seen and what is wished for.

What it changes bears its mark, with the id of a pool: a partition of its own is named after the
pool, and a node that it drains says in its reason which pool has locked it. What others have made
or drained is left alone, and so is what another muster has on the same cluster.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from muster.engines.engine import ClusterWish
from muster.engines.slurmcommands import SlurmCluster, SlurmNode

PARTITION_PREFIX: Final = "muster-"  # of those that muster makes; the id of the pool follows
RESUME: Final = "State=RESUME"
_LOCKED: Final = "muster: locked in pool {pool_id}"
_LOCKED_BY: Final = re.compile(r"muster: locked in pool (\S+)")
_DRAINED: Final = frozenset({"drained", "draining"})
_MARKS: Final = "*~#!%$@^-+"


@dataclass(frozen=True, slots=True)
class Change:
    """One command of `scontrol`, and what it is for."""

    verb: str
    arguments: tuple[str, ...]
    pools: frozenset[str]  # who waits for it
    hosts: frozenset[str] = frozenset()  # that it drains or takes back

    @property
    def is_resume(self) -> bool:
        return RESUME in self.arguments


def plan_changes(
    cluster: SlurmCluster, wish: ClusterWish, *, may_change_partitions: bool
) -> list[Change]:
    """What is to be done for the cluster to be as it is wished for. Pure.

    Partitions come first: jobs wait for them. What bears the mark of a pool that is not in
    `wish.own` is another muster's.
    """
    changes: list[Change] = []
    if may_change_partitions:
        changes += _partitions_to_set(cluster, wish)
    changes += _nodes_to_drain(cluster, wish)
    changes += _nodes_to_resume(cluster, wish)
    if may_change_partitions:
        changes += _partitions_to_drop(cluster, wish)
    return changes


def _partitions_to_set(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    known = {node.name for node in cluster.nodes}
    members = members_of(cluster)
    for pool_id, hosts in sorted(wish.made.items()):
        name = partition_name(pool_id)
        wanted = hosts & known  # Slurm refuses the whole for one that it does not have
        there = set(members.get(name, ()))
        if wanted and wanted != there:
            nodes = f"Nodes={','.join(sorted(wanted))}"
            verb = "update" if there else "create"
            limits = ("MaxTime=INFINITE", "State=UP")
            yield Change(verb, (f"PartitionName={name}", nodes, *limits), frozenset({pool_id}))


def _partitions_to_drop(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    for name in cluster.partitions:
        pool_id = pool_of_partition(name)
        if pool_id in wish.own and not wish.made.get(pool_id):
            yield Change("delete", (f"PartitionName={name}",), frozenset({pool_id}))


def _nodes_to_drain(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    wanted: dict[str, list[str]] = {}
    for node in cluster.nodes:
        pool_id = wish.drained.get(node.name)
        if pool_id is not None and not is_drained(node):
            wanted.setdefault(pool_id, []).append(node.name)
    for pool_id, hosts in sorted(wanted.items()):
        reason = f"Reason={_LOCKED.format(pool_id=pool_id)}"
        yield _update_nodes(hosts, frozenset({pool_id}), "State=DRAIN", reason)


def _nodes_to_resume(cluster: SlurmCluster, wish: ClusterWish) -> Iterator[Change]:
    marked = {node.name: locked_by(node) for node in cluster.nodes}
    free = {
        name: pool_id
        for name, pool_id in marked.items()
        if pool_id in wish.own and name not in wish.drained
    }
    if free:
        pools = frozenset(pool_id for pool_id in free.values() if pool_id is not None)
        yield _update_nodes(list(free), pools, RESUME)


def _update_nodes(hosts: Sequence[str], pools: frozenset[str], *settings: str) -> Change:
    names = f"NodeName={','.join(sorted(hosts))}"
    return Change("update", (names, *settings), pools, frozenset(hosts))


def members_of(seen: SlurmCluster) -> dict[str, list[str]]:
    """The nodes of each partition."""
    members: dict[str, list[str]] = {name: [] for name in seen.partitions}
    for node in seen.nodes:
        for name in node.partitions:
            members[name].append(node.name)
    return members


def partition_name(pool_id: str) -> str:
    """What muster calls the partition that it makes for a pool."""
    return PARTITION_PREFIX + pool_id


def pool_of_partition(name: str) -> str | None:
    """The pool that a partition was made for; None where muster has not made it."""
    return name.removeprefix(PARTITION_PREFIX) if name.startswith(PARTITION_PREFIX) else None


def marks_of(cluster: SlurmCluster) -> Iterator[str]:
    """Pools that something in the cluster was changed for."""
    for name in cluster.partitions:
        if (pool_id := pool_of_partition(name)) is not None:
            yield pool_id
    for node in cluster.nodes:
        if (pool_id := locked_by(node)) is not None:
            yield pool_id


def locked_by(node: SlurmNode) -> str | None:
    """The pool that a node was drained for; None where muster has not drained it."""
    found = _LOCKED_BY.fullmatch(node.reason) if is_drained(node) else None
    return found[1] if found else None


def is_drained(node: SlurmNode) -> bool:
    return node.state.rstrip(_MARKS) in _DRAINED
