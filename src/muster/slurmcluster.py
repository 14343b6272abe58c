"""What a Slurm cluster has, as an inventory: its nodes are hosts, its partitions are pools."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from muster.domain.errors import EngineUnavailable
from muster.domain.pool import Host, pool_id_of
from muster.engines.discovery import Machine
from muster.engines.slurmcommands import SlurmCluster, SlurmCommands, SlurmNode
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
        known = await asyncio.to_thread(_read_known, file)
        if known is None:
            raise
        log.warning("slurm_away", why=error.message, inventory_from=str(file))
        return known
    await asyncio.to_thread(_keep, cluster, file)
    return cluster


def _read_known(file: Path) -> SlurmCluster | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=SlurmCluster)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _keep(cluster: SlurmCluster, file: Path) -> None:
    draft = file.with_suffix(".new")
    draft.write_bytes(msgspec.json.encode(cluster))
    draft.replace(file)


def slurm_inventory(file: InventoryFile, cluster: SlurmCluster) -> Inventory:
    """What there is in all: nodes from Slurm; pools from its partitions and from the file.

    Raises:
        InventoryInvalid: the file declares machines, too, or is wrong in itself.
    """
    if file.nodes or file.machine != MachineEntry():
        raise InventoryInvalid(
            "With the engine slurm, nodes come from Slurm: take [machine] and [[nodes]] out of the"
            " inventory file."
        )
    if not cluster.nodes:
        raise InventoryInvalid("Slurm has no nodes: see `sinfo --Node`.")
    return build_inventory(
        with_partitions(file, cluster), _OWN_MACHINE, [host_of(node) for node in cluster.nodes]
    )


def host_of(node: SlurmNode) -> Host:
    return Host(
        name=node.name,
        cpu_millis=node.cpu_count * 1000,
        memory_mib=node.memory_mib,
        card_kind=node.card_kind,
        card_model=node.card_model,
        cards=tuple(range(node.card_count)),
        is_up=node.is_up,
        message=node.message,
    )


def with_partitions(file: InventoryFile, cluster: SlurmCluster) -> InventoryFile:
    """The file, and a pool of whole nodes for each partition beside the default one.

    A node that several of them have is the first one's. A pool that the file declares under the
    name of a partition takes its place.
    """
    names = {pool.name for pool in file.pools}
    dealt: set[str] = set()
    flavors, pools = list(file.flavors), list(file.pools)
    for partition in cluster.partitions:
        nodes = [
            node
            for node in cluster.nodes
            if partition in node.partitions and node.name not in dealt
        ]
        if partition == cluster.default_partition or partition in names or not nodes:
            continue
        try:
            flavor = node_flavor(partition, nodes)
            pool = msgspec.convert(
                {
                    "name": partition,
                    "flavor": flavor.code,
                    "count": len(nodes),
                    "hosts": [node.name for node in nodes],
                    "partition": partition,
                },
                PoolEntry,
            )
        except msgspec.ValidationError as error:
            log.warning("slurm_partition_left_out", partition=partition, why=str(error))
            continue
        dealt.update(node.name for node in nodes)
        flavors.append(flavor)
        pools.append(pool)
    return msgspec.structs.replace(file, flavors=flavors, pools=pools)


def node_flavor(partition: str, nodes: list[SlurmNode]) -> FlavorEntry:
    """What every node of a partition has."""
    kinds = {node.card_kind for node in nodes}
    kind = kinds.pop() if len(kinds) == 1 else None
    cards = min(node.card_count for node in nodes) if kind is not None else 0
    return FlavorEntry(
        code=NODE_FLAVOR.format(partition=partition),
        cpus=min(node.cpu_count for node in nodes),
        memory_gib=min(node.memory_mib for node in nodes) / 1024,
        gpus=cards if kind == "gpu" else 0,
        npus=cards if kind == "npu" else 0,
        card_model=nodes[0].card_model if kind is not None else "",
    )


def partitions_of_pools(inventory: Inventory, project_ids: Mapping[str, str]) -> Mapping[str, str]:
    """Where the jobs of each declared pool go, by its id."""
    return {
        pool_id_of(pool.name, project_ids[pool.project]): pool.partition
        for pool in inventory.pools
        if pool.partition and pool.project in project_ids
    }
