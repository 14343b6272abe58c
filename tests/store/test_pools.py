"""Pools, nodes, buckets, and ids that stay what they were."""

import re
from dataclasses import replace
from typing import Final

import pytest

from muster.domain.errors import PoolChanged
from muster.domain.flavor import Flavor
from muster.domain.phase import Phase
from muster.domain.pool import NodePhase, Pool, PoolPhase
from muster.domain.resources import Resources
from muster.reconciler.pools import settle_pools
from muster.store import buckets, catalogue_ids, pool_events, pool_listing, pool_nodes, pools
from muster.store.database import Database
from tests.store.rows import (
    GPU_POOL,
    NODES,
    OTHER_PROJECT,
    PROJECT,
    PUBLIC_POOL,
    TWO_GPUS,
    add_workload,
    counts_of,
    find_differences,
    gpu_pool,
)

FLAVORS: Final = {
    "gpu.4": Flavor(
        spec_id=1,
        code="gpu.4",
        task=Resources(cpu_millis=16_000, memory_mib=65_536, gpu_count=4),
    )
}


async def the_pool(database: Database, pool_id: str = GPU_POOL) -> Pool:
    pool = await database.read(pools.find_pool, PROJECT, pool_id)
    assert pool is not None
    return pool


async def settle(database: Database, now_ms: int = 1_000) -> None:
    await database.write(settle_pools, FLAVORS, now_ms=now_ms)


@pytest.mark.asyncio
async def test_pools_and_nodes_are_read_as_they_were_stored(database: Database) -> None:
    pool = await the_pool(database)

    assert (pool.phase, pool.lines, pool.scopes) == (
        PoolPhase.RUNNING,
        gpu_pool().lines,
        gpu_pool().scopes,
    )
    assert pool.node_count == 2
    assert pool.capacity == NODES[1].room.resources * 2
    assert await database.read(pool_nodes.list_partition_nodes, GPU_POOL) == list(NODES[1:])
    assert [p.display_name for p in await database.read(pools.list_pools, OTHER_PROJECT)] == [
        "public"
    ]


@pytest.mark.asyncio
async def test_a_pool_is_not_found_from_another_project(database: Database) -> None:
    assert await database.read(pools.find_pool, OTHER_PROJECT, GPU_POOL) is None


@pytest.mark.asyncio
async def test_a_pool_that_is_declared_no_more_is_gone_and_its_cards_are_public(
    database: Database,
) -> None:
    await database.write(pools.apply_declared, [], now_ms=1_000)
    await settle(database)

    assert await database.read(pools.find_pool, PROJECT, GPU_POOL) is None
    nodes = await database.read(pool_nodes.list_nodes)
    assert {node.name: node.cards for node in nodes if node.cards} == {
        "host-of-gpu-a": (0, 1, 2, 3),
        "host-of-gpu-b": (0, 1, 2, 3),
    }


@pytest.mark.asyncio
async def test_a_pool_with_a_history_stays_without_nodes_until_it_is_declared_again(
    database: Database,
) -> None:
    await database.write(add_workload, phase=Phase.COMPLETED, pool_id=GPU_POOL, task=TWO_GPUS)

    await database.write(pools.apply_declared, [], now_ms=1_000)
    await settle(database)

    withdrawn = await the_pool(database)
    assert (withdrawn.phase, withdrawn.node_count) == (PoolPhase.ABNORMAL, 0)
    assert withdrawn.capacity == Resources()
    assert await counts_of(database, GPU_POOL) == {"Completed": 1}

    await database.write(pools.apply_declared, [gpu_pool()], now_ms=2_000)
    await settle(database, 2_000)

    back = await the_pool(database)
    assert (back.phase, back.node_count) == (PoolPhase.RUNNING, 2)
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_a_user_changed_stays_until_the_inventory_says_something_new(
    database: Database,
) -> None:
    pool = await the_pool(database)
    smaller = replace(pool, lines=(replace(pool.lines[0], node_count=1),))
    await database.write(pools.change_pool, smaller)

    await database.write(pools.apply_declared, [gpu_pool()], now_ms=1_000)
    assert (await the_pool(database)).lines == smaller.lines

    await database.write(
        pools.apply_declared, [replace(gpu_pool(), declared="otherwise")], now_ms=2_000
    )
    assert (await the_pool(database)).lines == gpu_pool().lines


@pytest.mark.asyncio
async def test_of_two_changes_from_the_same_reading_one_wins(database: Database) -> None:
    pool = await the_pool(database)
    await database.write(pools.change_pool, replace(pool, labels={"who": "first"}))

    with pytest.raises(PoolChanged):
        await database.write(pools.change_pool, replace(pool, labels={"who": "second"}))

    assert (await the_pool(database)).labels == {"who": "first"}


@pytest.mark.asyncio
async def test_every_move_of_a_pool_and_its_nodes_is_numbered_without_a_gap(
    database: Database,
) -> None:
    pool = await the_pool(database)
    await database.write(
        pools.change_pool, replace(pool, lines=(replace(pool.lines[0], node_count=1),))
    )
    await settle(database)

    total, _, events = await database.read(pool_events.list_events, GPU_POOL, is_ascending=True)

    assert [event.number for event in events] == list(range(1, total + 1))
    assert [event.message for event in events if event.reason == pool_events.PHASE_CHANGED] == [
        "Pool status changed, from Creating to Running."
    ]
    assert events[-1].node_name in {"gpu-a", "gpu-b"}
    assert events[-1].message.endswith("count from 2/0/0/0 to 1/0/0/0, timestamp: 1.")


@pytest.mark.asyncio
async def test_of_several_nodes_that_move_at_once_each_has_an_event_of_its_own(
    database: Database,
) -> None:
    nodes = [replace(NODES[1], name=name, cards=()) for name in ("new-1", "new-2")]
    pool = await the_pool(database)
    larger = replace(pool, lines=(replace(pool.lines[0], node_count=4),))
    await database.write(pools.change_pool, larger, now_ms=1_000, actor="ann")

    await database.write(pool_nodes.add_nodes, nodes, now_ms=2_000, actor="muster")
    await database.write(
        pool_nodes.mark_nodes, nodes, NodePhase.ABNORMAL, now_ms=3_000, actor="muster"
    )

    _, _, events = await database.read(pool_events.list_events, GPU_POOL, is_ascending=True)
    told = [
        (event.node_name, event.type, event.message.split(" count from ")[-1]) for event in events
    ]
    assert told[-5:] == [
        (None, "Normal", "2/0/0/0 to 2/0/2/0, timestamp: 1."),
        ("new-1", "Normal", "2/0/2/0 to 3/0/1/0, timestamp: 2."),
        ("new-2", "Normal", "3/0/1/0 to 4/0/0/0, timestamp: 2."),
        ("new-1", "Warning", "4/0/0/0 to 3/1/0/0, timestamp: 3."),
        ("new-2", "Warning", "3/1/0/0 to 2/2/0/0, timestamp: 3."),
    ]


@pytest.mark.asyncio
async def test_a_name_that_a_deleted_pool_had_gets_an_id_of_its_own(database: Database) -> None:
    await database.write(pools.end_pool, await the_pool(database), now_ms=1_000)

    pool_id = await database.read(pools.free_pool_id, "gpus", PROJECT)

    assert re.fullmatch(rf"gpus-[0-9a-f]{{4}}-{PROJECT}", pool_id)


@pytest.mark.asyncio
async def test_flavors_and_engines_keep_their_ids(database: Database) -> None:
    first = await database.write(catalogue_ids.flavor_ids, ["a", "b"])
    engines = await database.write(catalogue_ids.ai_engine_ids, [("Python", "3.11")])

    second = await database.write(catalogue_ids.flavor_ids, ["c", "b"])
    more = await database.write(catalogue_ids.ai_engine_ids, [("Torch", "2"), ("Python", "3.11")])

    assert (second["a"], second["b"]) == (first["a"], first["b"])
    assert len({*second.values()}) == 3
    assert more["Python", "3.11"] == engines["Python", "3.11"] != more["Torch", "2"]


@pytest.mark.asyncio
async def test_a_bucket_belongs_to_who_claimed_it_first(database: Database) -> None:
    assert await database.write(buckets.claim_bucket, OTHER_PROJECT, "data", is_there=False)

    assert not await database.write(buckets.claim_bucket, PROJECT, "data", is_there=True)
    assert await database.write(buckets.claim_bucket, OTHER_PROJECT, "data", is_there=True)
    assert await database.read(buckets.may_use_bucket, OTHER_PROJECT, "data")
    assert not await database.read(buckets.may_use_bucket, PROJECT, "data")
    assert await database.read(buckets.list_buckets, OTHER_PROJECT) == ["data"]


@pytest.mark.asyncio
async def test_a_folder_that_nobody_has_claimed_is_the_default_projects(
    database: Database,
) -> None:
    assert await database.read(buckets.may_use_bucket, PROJECT, "found")
    assert not await database.read(buckets.may_use_bucket, OTHER_PROJECT, "found")

    assert not await database.write(buckets.claim_bucket, OTHER_PROJECT, "found", is_there=True)
    assert await database.write(buckets.claim_bucket, PROJECT, "found", is_there=True)


@pytest.mark.asyncio
async def test_the_workloads_of_a_pool_are_filtered_and_paged(database: Database) -> None:
    made = [
        await database.write(
            add_workload, phase, phase=phase, pool_id=GPU_POOL, task=TWO_GPUS, now_ms=5
        )
        for phase in (Phase.QUEUED, Phase.RUNNING, Phase.STARTING, Phase.COMPLETED)
    ]
    await database.write(add_workload, "elsewhere")

    async def listed(**filters: object) -> tuple[int, list[int]]:
        asked: dict[str, object] = {
            "project_id": PROJECT,
            "pool_id": GPU_POOL,
            "types": None,
            "states": None,
            "hosts": None,
            "is_ascending": True,
            "offset": 0,
            "limit": 10,
        }
        total, rows = await database.read(
            lambda connection: pool_listing.page_of_pool_workloads(
                connection,
                **{**asked, **filters},  # type: ignore[arg-type]
            )
        )
        return total, [[w.id for w in made].index(row[0]) for row in rows]

    assert await listed() == (4, [0, 1, 2, 3])
    assert await listed(is_ascending=False, offset=1, limit=2) == (4, [2, 1])
    assert await listed(states=["Queue", "Completed"]) == (2, [0, 3])
    assert await listed(types=["train"]) == (4, [0, 1, 2, 3])
    assert await listed(types=["notebook"]) == (0, [])
    assert await listed(hosts=["gpu-a"]) == (2, [1, 2])  # the completed one was there, and is not
    assert await listed(pool_id=PUBLIC_POOL, project_id=OTHER_PROJECT) == (0, [])
