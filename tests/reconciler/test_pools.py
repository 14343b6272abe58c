"""Pools over a real store: what the reconciler makes of wishes, with jobs on their nodes."""

from dataclasses import replace
from typing import Final

import pytest

from muster.domain.catalogue import Catalogue
from muster.domain.permission import Role
from muster.domain.phase import Phase, Reason
from muster.domain.pool import Node, NodePhase, Pool, PoolPhase, Scope
from muster.domain.poollines import NewLine
from muster.domain.poolwish import NewPool, PoolChange
from muster.operations import pools as operations
from muster.operations.caller import Caller
from muster.store import pool_events, pool_nodes, pools
from tests.reconciler.site import CATALOGUE, GPU_POOL, GPUS_FLAVOR, PROJECT, Site

ANN: Final = Caller("a" * 32, "ann", PROJECT, Role.ADMINISTRATOR)


def given(site: Site, catalogue: Catalogue = CATALOGUE) -> operations.Pools:
    return operations.Pools(site.database, catalogue, 100)


async def the_pool(site: Site, pool_id: str = GPU_POOL) -> Pool | None:
    return await site.database.read(pools.find_pool, PROJECT, pool_id)


async def phase(site: Site, pool_id: str = GPU_POOL) -> PoolPhase:
    pool = await the_pool(site, pool_id)
    assert pool is not None
    return pool.phase


async def nodes(site: Site, partition: str = GPU_POOL) -> dict[str, Node]:
    found = await site.database.read(pool_nodes.list_partition_nodes, partition)
    return {node.name: node for node in found}


def lines(count: int) -> PoolChange:
    line = NewLine(where="", flavor_code=GPUS_FLAVOR.code, node_count=count)
    return PoolChange(lines=(line,))


async def resize(site: Site, count: int) -> None:
    await operations.change_pool(given(site), ANN, GPU_POOL, lines(count), now_ms=site.clock_ms())


async def lock(site: Site, *names: str, is_locked: bool = True) -> None:
    await operations.lock_nodes(given(site), ANN, GPU_POOL, names, is_locked=is_locked)


@pytest.mark.asyncio
async def test_deleting_a_pool_stops_its_jobs_then_gives_its_cards_back(site: Site) -> None:
    running = await site.submit("runs", flavor=GPUS_FLAVOR, workers=2)
    await site.settle()
    waiting = await site.submit("waits", flavor=GPUS_FLAVOR)
    await site.settle()

    deleted = await operations.delete_pool(given(site), ANN, GPU_POOL, now_ms=site.clock_ms())
    await site.settle()

    assert deleted.phase is PoolPhase.DELETING
    for version in (running, waiting):
        workload = await site.workload(version)
        assert (workload.phase, workload.reason) == (Phase.TERMINATED, Reason.POOL_DELETED)
    assert await the_pool(site) is None
    assert await nodes(site) == {}
    cards = {n.host_name: n.cards for n in (await nodes(site, "public")).values() if n.cards}
    assert cards == {"host-of-gpu-a": (0, 1), "host-of-gpu-b": (0, 1)}
    assert await site.differences() == []


@pytest.mark.asyncio
async def test_a_pool_that_goes_waits_for_jobs_that_take_their_time_to_end(site: Site) -> None:
    site.engine.ends_at_once = False
    running = await site.submit("runs", flavor=GPUS_FLAVOR)
    await site.settle()

    await operations.delete_pool(given(site), ANN, GPU_POOL, now_ms=site.clock_ms())
    await site.settle()

    assert await phase(site) is PoolPhase.DELETING
    assert [node.phase for node in (await nodes(site)).values()] == [NodePhase.DELETING]
    site.engine.finish(await site.attempt(running), 0, 143)
    await site.settle()
    assert await the_pool(site) is None


@pytest.mark.asyncio
async def test_a_drained_node_lets_its_job_go_on_then_goes(site: Site) -> None:
    both = await site.submit("both", flavor=GPUS_FLAVOR, workers=2)
    await site.settle()

    await resize(site, 1)
    await site.settle()
    after = await site.submit("after", flavor=GPUS_FLAVOR)
    await site.settle()

    assert sorted(node.phase for node in (await nodes(site)).values()) == [
        NodePhase.AVAILABLE,
        NodePhase.DELETING,
    ]
    assert (await site.workload(both)).phase is Phase.RUNNING
    assert (await site.workload(after)).phase is Phase.QUEUED
    for index in range(2):
        site.engine.finish(await site.attempt(both), index, 0)
    await site.settle()
    assert [node.phase for node in (await nodes(site)).values()] == [NodePhase.AVAILABLE]
    assert (await site.workload(after)).phase is Phase.RUNNING
    assert await site.differences() == []


@pytest.mark.asyncio
async def test_a_locked_node_takes_nothing_new_until_it_is_unlocked(site: Site) -> None:
    await lock(site, "gpu-a", "gpu-b")
    version = await site.submit("waits", flavor=GPUS_FLAVOR)
    await site.settle()
    assert (await site.workload(version)).phase is Phase.QUEUED

    await lock(site, "gpu-b", is_locked=False)
    await site.settle()

    workload = await site.workload(version)
    assert workload.phase is Phase.RUNNING
    assert [placement.node_name for placement in workload.placements] == ["gpu-b"]


@pytest.mark.asyncio
async def test_a_spare_node_steps_in_for_one_whose_host_is_down(site: Site) -> None:
    await operations.update_nodes(
        given(site), ANN, GPU_POOL, ["gpu-b"], operations.NodeAction.OPEN_SPARE, change=None
    )
    await site.settle()
    assert (await nodes(site))["gpu-b"].is_spare

    site.engine.take_down("host-of-gpu-a", "No power.")
    await site.settle()

    found = await nodes(site)
    assert found["gpu-a"].phase is NodePhase.ABNORMAL
    assert found["gpu-b"].takes_work
    assert await phase(site) is PoolPhase.RUNNING
    site.engine.bring_back("host-of-gpu-a")
    await site.settle()
    found = await nodes(site)
    assert (found["gpu-a"].takes_work, found["gpu-b"].is_spare) == (True, True)


@pytest.mark.asyncio
async def test_a_pool_is_abnormal_while_none_of_its_hosts_works(site: Site) -> None:
    for host in ("host-of-gpu-a", "host-of-gpu-b"):
        site.engine.take_down(host, "No power.")
    await site.settle()

    down = await the_pool(site)
    assert down is not None
    assert (down.phase, down.message) == (PoolPhase.ABNORMAL, "No power.")
    assert down.capacity.gpu_count == 0
    assert await site.differences() == []

    site.engine.bring_back("host-of-gpu-a")
    await site.settle()

    back = await the_pool(site)
    assert back is not None
    assert (back.phase, back.message, back.capacity.gpu_count) == (PoolPhase.RUNNING, "", 2)
    _, _, events = await site.database.read(
        pool_events.list_events, GPU_POOL, type_="Warning", is_ascending=True
    )
    assert [event.message for event in events if event.reason == pool_events.PHASE_CHANGED] == [
        "Pool status changed, from Running to Abnormal. No power."
    ]


@pytest.mark.asyncio
async def test_a_pool_that_no_host_has_room_for_fails_and_takes_nothing(
    site: Site,
) -> None:
    await operations.delete_pool(given(site), ANN, GPU_POOL, now_ms=site.clock_ms())
    await site.settle()
    wish = NewPool(
        display_name="fresh",
        workspace_id="0",
        scopes=(Scope.TRAIN,),
        lines=(NewLine(where="", flavor_code=GPUS_FLAVOR.code, node_count=2),),
    )

    made = await operations.create_pool(given(site), ANN, wish, now_ms=site.clock_ms())
    await site.settle()

    assert made.phase is PoolPhase.CREATING
    fresh = await the_pool(site, made.id)
    assert fresh is not None
    # The hosts of this site lend cards, and no CPUs beside them.
    assert fresh.phase is PoolPhase.CREATION_FAILED
    assert await nodes(site, made.id) == {}


@pytest.mark.asyncio
async def test_a_pool_that_is_withdrawn_twice_plans_nothing_more(site: Site) -> None:
    pool = await the_pool(site)
    assert pool is not None
    await site.database.write(pools.change_pool, replace(pool, lines=()))
    await site.settle()

    withdrawn = await the_pool(site)
    assert withdrawn is not None
    assert (withdrawn.phase, withdrawn.node_count) == (PoolPhase.ABNORMAL, 0)
    await site.settle()
    assert await the_pool(site) == withdrawn
