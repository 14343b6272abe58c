"""What pools and locks ask of a cluster that the engine manages, and what it says of itself."""

from dataclasses import replace
from typing import Final

import pytest

from muster.domain.phase import Phase
from muster.domain.pool import Host, Node, NodePhase, Pool, PoolPhase, Scope
from muster.engines.engine import Cluster
from muster.operations import pools as operations
from muster.reconciler.clusterwish import wish_for
from muster.store import pool_nodes
from muster.store.database import Database
from tests.reconciler.site import GPU_POOL, GPUS_FLAVOR, HOSTS, Site
from tests.reconciler.test_pools import ANN, given, lock, nodes, phase, the_pool

OWN: Final = frozenset({"a"})


def pool(name: str, *, declared: str | None = None) -> Pool:
    return Pool(
        id=name,
        project_id="p",
        display_name=name,
        partition=name,
        phase=PoolPhase.RUNNING,
        scopes=tuple(Scope),
        declared=declared,
    )


def node(name: str, host: str, partition: str = "a", *, is_locked: bool = False) -> Node:
    return Node(
        name=name,
        partition=partition,
        cpu_millis=1,
        memory_mib=1,
        host_name=host,
        is_locked=is_locked,
    )


# ---------------------------------------------------------------- what is wished


def test_a_pool_of_the_api_has_a_partition_of_its_hosts() -> None:
    found = [node("a-1", "h1"), node("a-2", "h1"), node("a-3", "h2"), node("h3", "h3", "public")]

    wish = wish_for([pool("a")], found, own=OWN, starting=())

    assert wish.made == {"a": {"h1", "h2"}}
    assert wish.partitions == {}


def test_a_declared_pool_uses_the_partition_that_is_named_for_it() -> None:
    declared = [pool("a", declared='{"partition":"train"}'), pool("b", declared="{}")]

    wish = wish_for(declared, [node("a-1", "h1")], own=OWN, starting=())

    assert wish.partitions == {"a": "train"}
    assert wish.made == {}


def test_a_host_is_drained_once_all_its_nodes_are_locked() -> None:
    found = [
        node("a-1", "h1", is_locked=True),
        node("a-2", "h1"),
        node("a-3", "h2", is_locked=True),
        node("a-4", "h2", is_locked=True),
    ]

    assert wish_for([pool("a")], found, own=OWN, starting=()).drained == {"h2": "a"}


def test_a_host_is_not_drained_while_work_comes_up_there() -> None:
    found = [node("a-1", "h1", is_locked=True)]

    assert wish_for([pool("a")], found, own=OWN, starting={"a-1"}).drained == {}


# ---------------------------------------------------------------- what a pass makes of it


def cluster_of(*hosts: Host, **more: object) -> Cluster:
    return Cluster(hosts=hosts, **more)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_the_engine_is_told_what_pools_and_locks_ask_for(site: Site) -> None:
    site.engine.cluster = cluster_of(*HOSTS)
    await site.settle()
    before = site.engine.wish

    await lock(site, "gpu-a")
    await site.settle()

    assert before is not None
    assert before.drained == {}
    assert site.engine.wish == replace(before, drained={"host-of-gpu-a": GPU_POOL})


@pytest.mark.asyncio
async def test_a_lock_waits_for_work_that_comes_up_and_takes_hold_then(site: Site) -> None:
    site.engine.cluster = cluster_of(*HOSTS)
    site.engine.comes_up_at_once = False
    job = await site.submit("slow", flavor=GPUS_FLAVOR)
    await site.settle()
    assert (await site.workload(job)).phase is Phase.STARTING
    [placed] = (await site.workload(job)).placements

    await lock(site, placed.node_name)
    await site.settle()
    told_early = site.engine.wish
    site.engine.come_up(await site.attempt(job))
    await site.settle()

    assert told_early is not None
    assert told_early.drained == {}
    assert site.engine.wish is not None
    assert list(site.engine.wish.drained) == [f"host-of-{placed.node_name}"]
    assert (await site.workload(job)).phase is Phase.RUNNING


@pytest.mark.asyncio
async def test_what_bears_the_mark_of_a_past_pool_is_known_to_be_its_own(site: Site) -> None:
    site.engine.cluster = cluster_of(*HOSTS, marked=frozenset({GPU_POOL, "a-strangers"}))
    await operations.delete_pool(given(site), ANN, GPU_POOL, now_ms=site.clock_ms())
    await site.settle()

    assert await the_pool(site) is None
    assert site.engine.wish is not None
    assert GPU_POOL in site.engine.wish.own
    assert "a-strangers" not in site.engine.wish.own


@pytest.mark.asyncio
async def test_an_engine_without_machines_of_its_own_is_told_nothing(site: Site) -> None:
    await lock(site, "gpu-a")
    await site.settle()

    assert site.engine.wish is None


@pytest.mark.asyncio
async def test_a_partition_that_cannot_be_used_takes_its_pool_down_with_the_reason(
    site: Site,
) -> None:
    site.engine.cluster = cluster_of(*HOSTS, unusable={GPU_POOL: "It is gone."})
    await site.settle()
    found, in_pool = await the_pool(site), await nodes(site)

    site.engine.cluster = cluster_of(*HOSTS)
    await site.settle()

    assert found is not None
    assert (found.phase, found.message) == (PoolPhase.ABNORMAL, "It is gone.")
    assert {node.phase for node in in_pool.values()} == {NodePhase.ABNORMAL}
    assert await phase(site) is PoolPhase.RUNNING


@pytest.mark.asyncio
async def test_a_cluster_that_has_grown_is_taken_in_once(site: Site) -> None:
    taken: list[set[str]] = []

    async def take_in(database: Database, cluster: Cluster) -> None:
        taken.append({host.name for host in cluster.hosts})
        await database.write(pool_nodes.put_hosts, cluster.hosts)

    site.reconciler.take_in = take_in
    site.engine.cluster = cluster_of(*HOSTS)
    await site.settle()
    new = Host(name="new", cpu_millis=1_000, memory_mib=1_024)
    site.engine.cluster = cluster_of(*HOSTS, new)
    await site.settle()
    site.engine.cluster = cluster_of(*HOSTS, replace(new, is_up=False, message="It is down."))
    await site.settle()

    known = {host.name for host in HOSTS}
    assert taken == [known, known | {"new"}]
    assert "new" in await nodes(site, "public")


@pytest.mark.asyncio
async def test_a_cluster_without_nodes_is_not_believed(site: Site) -> None:
    site.engine.cluster = cluster_of(*HOSTS)
    await site.settle()

    site.engine.cluster = cluster_of()
    await site.settle()

    assert {node.phase for node in (await nodes(site)).values()} == {NodePhase.AVAILABLE}
