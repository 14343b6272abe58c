"""Brings the store in line with what there is: at a start, and when a cluster has changed."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from muster.domain.catalogue import Catalogue
from muster.engines.engine import Cluster
from muster.inventory import Inventory, InventoryInvalid, declared_pools
from muster.reconciler.pools import settle_pools
from muster.store import catalogue_ids, identity, pool_nodes, pools
from muster.store.database import Database
from muster.store.transaction import Transaction

log = structlog.get_logger()


def store_inventory(
    tx: Transaction,
    inventory: Inventory,
    at_ms: int,
    *,
    hosts_are_whole: bool = False,
    withdraws: bool = True,
) -> Catalogue:
    """Bring the store in line with the inventory, and give flavors and engines their ids.

    Args:
        tx: the transaction to do it in.
        inventory: what there is.
        at_ms: now.
        hosts_are_whole: whether a host has nodes of one pool only.
        withdraws: whether pools that are declared no more go.
    """
    project_ids = {p.name: p.id for p in identity.list_projects(tx.connection)}
    for project_id in project_ids.values():
        pools.ensure_public_pool(tx, project_id, now_ms=at_ms)
    pool_nodes.put_hosts(tx, inventory.hosts)
    declared = declared_pools(inventory, project_ids, now_ms=at_ms)
    pools.apply_declared(tx, declared, now_ms=at_ms, withdraws=withdraws)
    settle_pools(
        tx,
        {flavor.code: flavor for flavor in inventory.flavors},
        now_ms=at_ms,
        hosts_are_whole=hosts_are_whole,
    )
    spec_ids = catalogue_ids.flavor_ids(tx, [flavor.code for flavor in inventory.flavors])
    engine_ids = catalogue_ids.ai_engine_ids(tx, [(e.name, e.version) for e in inventory.engines])
    return Catalogue.of(
        (replace(flavor, spec_id=spec_ids[flavor.code]) for flavor in inventory.flavors),
        (replace(e, engine_id=engine_ids[e.name, e.version]) for e in inventory.engines),
    )


def taking_in(
    read_inventory: Callable[[Cluster], Inventory],
    catalogue: Catalogue,
    clock_ms: Callable[[], int],
) -> Callable[[Database, Cluster], Awaitable[None]]:
    """What takes in a cluster that has changed: new nodes, and partitions of other nodes.

    A pool whose partition is there no more stays: it may come back. At a start it goes.
    """

    async def take_in(database: Database, cluster: Cluster) -> None:
        try:
            inventory = read_inventory(cluster)
        except InventoryInvalid as error:
            # As at a start, but for that a server which runs goes on.
            log.warning("inventory_invalid", why=error.message)
            await database.write(pool_nodes.put_hosts, cluster.hosts)
            return
        found = await database.write(
            store_inventory, inventory, clock_ms(), hosts_are_whole=True, withdraws=False
        )
        catalogue.add(found.flavors)

    return take_in
