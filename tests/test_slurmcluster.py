"""A Slurm cluster as an inventory."""

import asyncio
from pathlib import Path

import pytest

from muster.domain.errors import EngineUnavailable
from muster.engines.engine import Cluster
from muster.engines.slurmcommands import SlurmCommands, parse_cluster
from muster.engines.slurmnodes import cluster_of
from muster.inventory import (
    InventoryFile,
    InventoryInvalid,
    MachineEntry,
    PoolEntry,
    declared_pools,
)
from muster.slurmcluster import read_cluster, slurm_inventory

CLUSTER = cluster_of(
    parse_cluster("""\
n1|all*|16|65536|idle|gpu:8|127.0.0.1|none
n2|all*|16|65536|idle|gpu:8|127.0.0.1|none
n2|train|16|65536|idle|gpu:8|127.0.0.1|none
n3|all*|4|8000|idle|npu:4|127.0.0.1|none
n3|short|4|8000|idle|npu:4|127.0.0.1|none
n3|Odd_Name|4|8000|idle|npu:4|127.0.0.1|none
n1|muster-mine-0123|16|65536|idle|gpu:8|127.0.0.1|none
""")
)


def test_nodes_are_hosts_whose_cpus_are_promised_once() -> None:
    inventory = slurm_inventory(InventoryFile(), CLUSTER)

    hosts = {host.name: (host.cpu_millis, host.memory_mib, host.cards) for host in inventory.hosts}
    assert hosts["n3"] == (4000, 8000, (0, 1, 2, 3))
    assert hosts["n1"] == (16000, 65536, tuple(range(8)))


def test_both_kinds_of_cards_have_flavors() -> None:
    codes = {flavor.code for flavor in slurm_inventory(InventoryFile(), CLUSTER).flavors}

    assert {"modelarts.vm.gpu.8", "modelarts.vm.npu.4"} <= codes


def test_each_partition_beside_the_default_one_is_a_pool_of_its_nodes() -> None:
    inventory = slurm_inventory(InventoryFile(), CLUSTER)

    pools = {pool.name: (pool.hosts, pool.flavor, pool.count) for pool in inventory.pools}
    assert pools == {
        "train": (["n2"], "train.node", 1),
        "short": (["n3"], "short.node", 1),
    }
    declared = declared_pools(inventory, {"default": "p"}, now_ms=0)
    assert sorted(pool.declared_partition for pool in declared) == ["short", "train"]


def test_the_partition_that_public_jobs_go_to_is_no_pool_of_its_own() -> None:
    inventory = slurm_inventory(InventoryFile(), CLUSTER, "train")

    assert {pool.name: pool.hosts for pool in inventory.pools} == {"short": ["n3"]}
    # No job could be submitted to n1: only a partition has it whose name makes no pool.
    assert {host.name for host in inventory.hosts} == {"n2", "n3"}


def test_a_pool_of_the_file_takes_the_place_of_the_partition_of_its_name() -> None:
    own = PoolEntry(name="train", flavor="modelarts.vm.gpu.1", count=8, partition="train")

    inventory = slurm_inventory(InventoryFile(pools=[own]), CLUSTER)

    assert [pool for pool in inventory.pools if pool.name == "train"] == [own]


def test_a_file_that_declares_machines_is_refused() -> None:
    with pytest.raises(InventoryInvalid, match="nodes come from Slurm"):
        slurm_inventory(InventoryFile(machine=MachineEntry(cpus=4)), CLUSTER)


def test_a_cluster_without_nodes_is_refused() -> None:
    with pytest.raises(InventoryInvalid, match="no nodes"):
        slurm_inventory(InventoryFile(), Cluster(hosts=()))


def test_a_server_starts_on_what_it_knew_while_slurm_is_away(tmp_path: Path) -> None:
    commands, file = SlurmCommands(folder=tmp_path), tmp_path / "slurm.json"
    with pytest.raises(EngineUnavailable, match="cannot be run here"):
        asyncio.run(read_cluster(commands, file))
    answer = tmp_path / "sinfo"
    answer.write_text("#!/bin/sh\necho 'n1|all*|2|4096|idle|(null)|127.0.0.1|none'\n")
    answer.chmod(0o755)
    known = asyncio.run(read_cluster(commands, file))
    answer.unlink()

    assert asyncio.run(read_cluster(commands, file)) == known
    assert [node.name for node in known.nodes] == ["n1"]
