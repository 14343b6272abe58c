"""How the engine's cluster is to be, as far as pools and locks say so. Pure but for the reading."""

from collections.abc import Collection, Iterable, Sequence

from muster.domain.phase import Phase
from muster.domain.pool import PUBLIC_PARTITION, Node, Pool
from muster.engines.engine import ClusterWish
from muster.store import pool_nodes, pools, workloads
from muster.store.connection import Connection


def read_wish(connection: Connection, marked: Collection[str]) -> tuple[ClusterWish, bool]:
    """(what is wished, whether work that starts now holds some of it up).

    Args:
        connection: a snapshot of the store.
        marked: pools that something in the cluster was changed for; some may be another muster's.
    """
    present = pools.list_present_pools(connection)
    ids = {pool.id for pool in present}
    past = {pool_id for pool_id in marked if pools.is_id_used(connection, pool_id)}
    starting = {
        task.node_name
        for workload in workloads.list_active(connection)
        if workload.phase is Phase.STARTING
        for task in workload.placements
    }
    nodes = pool_nodes.list_nodes(connection)
    wish = wish_for(present, nodes, own=ids | past, starting=starting)
    locked = wish_for(present, nodes, own=ids | past, starting=())
    return wish, wish != locked


def wish_for(
    present: Iterable[Pool],
    nodes: Sequence[Node],
    *,
    own: Collection[str],
    starting: Collection[str],
) -> ClusterWish:
    """What pools and locks come to.

    Args:
        present: all pools.
        nodes: all nodes.
        own: ids of pools that are or were this store's.
        starting: nodes that work was put on which is not up yet. It would wait there for ever on a
            node that is drained, so that the lock of such a node takes hold a little later.
    """
    dedicated = [node for node in nodes if node.partition != PUBLIC_PARTITION]
    open_hosts = {
        node.host_name for node in dedicated if not node.is_locked or node.name in starting
    }
    hosts: dict[str, set[str]] = {}
    for node in dedicated:
        hosts.setdefault(node.partition, set()).add(node.host_name)
    present = [pool for pool in present if not pool.is_public]
    return ClusterWish(
        # A host of several nodes is drained once all of them are locked.
        drained={
            node.host_name: node.partition for node in dedicated if node.host_name not in open_hosts
        },
        partitions={pool.id: name for pool in present if (name := pool.declared_partition)},
        made={
            pool.id: frozenset(hosts.get(pool.partition, ()))
            for pool in present
            if pool.declared is None
        },
        own=frozenset(own),
    )
