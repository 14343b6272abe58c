"""What a Slurm cluster has, as an inventory: its nodes are hosts, its partitions are pools."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from muster.domain.errors import EngineUnavailable
from muster.domain.pool import Host
from muster.engines.discovery import Machine
from muster.engines.engine import Cluster
from muster.engines.slurmchanges import pool_of_partition
from muster.engines.slurmcommands import SlurmCluster, SlurmCommands
from muster.engines.slurmnodes import keep_known, read_known
from muster.inventory import (
    FlavorEntry,
    Inventory,
    InventoryFile,
    InventoryInvalid,
    MachineEntry,
    PoolEntry,
    build_inventory,
)

NODE_FLAVOR: Final = "{partition}.node"  # all that a node of the partition has
_OWN_MACHINE: Final = Machine(host_name="", cpu_count=1, memory_mib=0, card_kind=None, cards=())

log = structlog.get_logger()


async def read_cluster(commands: SlurmCommands, file: Path) -> SlurmCluster:
    """The cluster as it is, or as it was when last seen: a server starts without Slurm, too.

    Args:
        commands: that ask it.
        file: where it is kept for the next time.

    Raises:
        EngineUnavailable: Slurm does not answer, and never has.
    """
    try:
        cluster = await commands.read_cluster()
    except EngineUnavailable as error:
        known = await asyncio.to_thread(read_known, file)
        if known is None:
            raise
        log.warning("slurm_away", why=error.message, inventory_from=str(file))
        return known
    await asyncio.to_thread(keep_known, cluster, file)
    return cluster


def slurm_inventory(
    file: InventoryFile, cluster: Cluster, public_partition: str | None = None
) -> Inventory:
    """What there is in all: hosts from Slurm; pools from its partitions and from the file.

    Args:
        file: what the operator declares beside.
        cluster: as it was seen.
        public_partition: where public jobs go, by a setting; None: to the cluster's default one.
            A node that neither it nor any pool has is left out: no job could be submitted to it.

    Raises:
        InventoryInvalid: the file declares machines, too, or is wrong in itself.
    """
    if file.nodes or file.machine != MachineEntry():
        raise InventoryInvalid(
            "With the engine slurm, nodes come from Slurm: take [machine] and [[nodes]] out of the"
            " inventory file."
        )
    if not cluster.hosts:
        raise InventoryInvalid("Slurm has no nodes: see `sinfo --Node`.")
    if public_partition is None or public_partition not in cluster.partitions:
        return build_inventory(with_partitions(file, cluster), _OWN_MACHINE, cluster.hosts)
    file = with_partitions(file, replace(cluster, public_partition=public_partition))
    used = {*cluster.partitions[public_partition], *(h for pool in file.pools for h in pool.hosts)}
    hosts = [host for host in cluster.hosts if host.name in used]
    return build_inventory(file, _OWN_MACHINE, hosts)


def with_partitions(file: InventoryFile, cluster: Cluster) -> InventoryFile:
    """The file, and a pool of whole nodes for each partition beside the default one.

    A node that several of them have is the first one's. A pool that the file declares under the
    name of a partition takes its place.
    """
    names = {pool.name for pool in file.pools}
    dealt: set[str] = set()
    flavors, pools = list(file.flavors), list(file.pools)
    by_name = {host.name: host for host in cluster.hosts}
    for partition, members in cluster.partitions.items():
        hosts = [by_name[name] for name in members if name not in dealt]
        if partition == cluster.public_partition or partition in names or not hosts:
            continue
        if pool_of_partition(partition) is not None:
            continue  # made by muster, for a pool that its store knows
        try:
            flavor = node_flavor(partition, hosts)
            pool = msgspec.convert(
                {
                    "name": partition,
                    "flavor": flavor.code,
                    "count": len(hosts),
                    "hosts": [host.name for host in hosts],
                    "partition": partition,
                },
                PoolEntry,
            )
        except msgspec.ValidationError as error:
            log.warning("slurm_partition_left_out", partition=partition, why=str(error))
            continue
        dealt.update(host.name for host in hosts)
        flavors.append(flavor)
        pools.append(pool)
    return msgspec.structs.replace(file, flavors=flavors, pools=pools)


def node_flavor(partition: str, hosts: list[Host]) -> FlavorEntry:
    """What every host of a partition has."""
    kinds = {host.card_kind for host in hosts}
    kind = kinds.pop() if len(kinds) == 1 else None
    cards = min(len(host.cards) for host in hosts) if kind is not None else 0
    return FlavorEntry(
        code=NODE_FLAVOR.format(partition=partition),
        cpus=min(host.cpu_millis for host in hosts) / 1000,
        memory_gib=min(host.memory_mib for host in hosts) / 1024,
        gpus=cards if kind == "gpu" else 0,
        npus=cards if kind == "npu" else 0,
        card_model=hosts[0].card_model if kind is not None else "",
    )
