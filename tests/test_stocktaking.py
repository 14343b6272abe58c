"""The store follows a cluster that changes while the server runs."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from muster.domain.catalogue import Catalogue
from muster.domain.placement import CardKind
from muster.domain.pool import Host, Pool, PoolPhase
from muster.engines.engine import Cluster
from muster.inventory import InventoryFile, PoolEntry
from muster.slurmcluster import slurm_inventory
from muster.stocktaking import store_inventory, taking_in
from muster.store import identity, pool_nodes, pools
from muster.store.addressed import open_database
from muster.store.database import Database
from muster.store.transaction import Transaction

PROJECT: Final = "1" * 32
TRAIN: Final = f"train-{PROJECT}"


def host(name: str, *, cpus: int = 16) -> Host:
    return Host(
        name=name,
        cpu_millis=cpus * 1000,
        memory_mib=65_536,
        card_kind=CardKind.GPU,
        cards=tuple(range(8)),
    )


CLUSTER: Final = Cluster(
    hosts=(host("n1"), host("n2"), host("n3")),
    partitions={"all": ("n1", "n2", "n3"), "train": ("n3",)},
    public_partition="all",
)


class Store:
    """What a server has of a cluster."""

    def __init__(self, database: Database, file: InventoryFile) -> None:
        self.database = database
        self.file = file

    async def start(self) -> None:
        def set_up(tx: Transaction) -> None:
            account = identity.Named("a" * 32, "default")
            identity.insert_account(tx, account)
            project = identity.Project(PROJECT, "default", account)
            identity.insert_project(tx, project, is_default=True, now_ms=0)

        await self.database.write(set_up)
        inventory = slurm_inventory(self.file, CLUSTER)
        self.catalogue: Catalogue = await self.database.write(
            store_inventory, inventory, 1_000, hosts_are_whole=True
        )

    async def take_in(self, cluster: Cluster) -> None:
        take_in = taking_in(
            lambda seen: slurm_inventory(self.file, seen), self.catalogue, lambda: 2_000
        )
        await take_in(self.database, cluster)

    async def pool(self, pool_id: str) -> Pool | None:
        return await self.database.read(pools.find_pool, PROJECT, pool_id)

    async def hosts_of(self, partition: str) -> set[str]:
        found = await self.database.read(pool_nodes.list_partition_nodes, partition)
        return {node.host_name for node in found}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = open_database(tmp_path / "muster.db")
    yield found
    found.close()


def test_nodes_and_partitions_that_are_new_are_there_at_once(database: Database) -> None:
    async def run() -> None:
        store = Store(database, InventoryFile())
        await store.start()
        grown = replace(
            CLUSTER,
            hosts=(*CLUSTER.hosts, host("n4", cpus=32), host("n5")),
            partitions={**CLUSTER.partitions, "train": ("n3", "n5"), "night": ("n4",)},
        )

        await store.take_in(grown)

        assert await store.hosts_of(TRAIN) == {"n3", "n5"}
        assert await store.hosts_of(f"night-{PROJECT}") == {"n4"}
        assert await store.hosts_of("public") == {"n1", "n2"}
        night = store.catalogue.find_flavor("night.node")
        assert night is not None
        assert night.task.cpu_millis == 32_000
        assert store.catalogue.flavor(night.spec_id) is night
        assert night in store.catalogue.flavors

    asyncio.run(run())


def test_a_partition_that_is_gone_leaves_its_pool_as_it_is(database: Database) -> None:
    async def run() -> None:
        store = Store(database, InventoryFile())
        await store.start()

        await store.take_in(replace(CLUSTER, partitions={"all": ("n1", "n2", "n3")}))

        pool = await store.pool(TRAIN)
        assert pool is not None
        assert (pool.phase, pool.node_count) == (PoolPhase.RUNNING, 1)

    asyncio.run(run())


def test_an_inventory_that_has_become_impossible_still_lets_new_nodes_in(
    database: Database,
) -> None:
    async def run() -> None:
        wants_much = PoolEntry(name="much", flavor="modelarts.vm.gpu.8", count=2)
        store = Store(database, InventoryFile(pools=[wants_much]))
        await store.start()

        await store.take_in(Cluster(hosts=(host("n3"), host("n9")), partitions={"train": ("n3",)}))

        hosts = await database.read(pool_nodes.list_hosts)
        assert {each.name for each in hosts if each.is_present} == {"n3", "n9"}
        assert await store.pool(f"much-{PROJECT}") is not None

    asyncio.run(run())
