"""Pools, nodes, buckets, and ids that stay what they were."""

from dataclasses import replace

import pytest

from muster.domain.phase import Phase
from muster.domain.pool import PoolPhase
from muster.domain.resources import Resources
from muster.store import pools, workloads
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
    public_pools,
)


@pytest.mark.asyncio
async def test_pools_and_nodes_are_read_as_they_were_stored(database: Database) -> None:
    assert await database.read(pools.list_pools, PROJECT) == [gpu_pool(), public_pools()[0]]
    assert await database.read(pools.list_pools, OTHER_PROJECT) == [public_pools()[1]]
    assert set(await database.read(pools.list_nodes)) == set(NODES)
    assert await database.read(pools.list_partition_nodes, GPU_POOL) == list(NODES[1:])


@pytest.mark.asyncio
async def test_a_pool_is_not_found_from_another_project(database: Database) -> None:
    assert await database.read(pools.find_pool, PROJECT, GPU_POOL) == gpu_pool()
    assert await database.read(pools.find_pool, OTHER_PROJECT, GPU_POOL) is None


@pytest.mark.asyncio
async def test_a_pool_that_is_declared_no_more_is_gone(database: Database) -> None:
    await database.write(pools.replace_inventory, public_pools(), NODES[:1])

    assert await database.read(pools.find_pool, PROJECT, GPU_POOL) is None
    assert await database.read(pools.list_nodes) == [NODES[0]]


@pytest.mark.asyncio
async def test_a_pool_with_a_history_stays_without_nodes_until_it_is_declared_again(
    database: Database,
) -> None:
    await database.write(add_workload, phase=Phase.COMPLETED, pool_id=GPU_POOL, task=TWO_GPUS)

    await database.write(pools.replace_inventory, public_pools(), NODES[:1])

    withdrawn = await database.read(pools.find_pool, PROJECT, GPU_POOL)
    assert withdrawn == replace(
        gpu_pool(), phase=PoolPhase.ABNORMAL, node_count=0, capacity=Resources()
    )
    assert await counts_of(database, GPU_POOL) == {"Completed": 1}

    await database.write(pools.replace_inventory, [*public_pools(), gpu_pool()], NODES)

    assert await database.read(pools.find_pool, PROJECT, GPU_POOL) == gpu_pool()
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_new_start_keeps_the_time_at_which_a_pool_was_made(database: Database) -> None:
    later = replace(gpu_pool(), created_at_ms=9_000)

    await database.write(pools.replace_inventory, [*public_pools(), later], NODES)

    assert await database.read(pools.find_pool, PROJECT, GPU_POOL) == gpu_pool()


@pytest.mark.asyncio
async def test_flavors_and_engines_keep_their_ids(database: Database) -> None:
    first = await database.write(pools.flavor_ids, ["a", "b"])
    engines = await database.write(pools.ai_engine_ids, [("Python", "3.11")])

    second = await database.write(pools.flavor_ids, ["c", "b"])
    more = await database.write(pools.ai_engine_ids, [("Torch", "2"), ("Python", "3.11")])

    assert (second["a"], second["b"]) == (first["a"], first["b"])
    assert len({*second.values()}) == 3
    assert more["Python", "3.11"] == engines["Python", "3.11"] != more["Torch", "2"]


@pytest.mark.asyncio
async def test_a_bucket_belongs_to_who_claimed_it_first(database: Database) -> None:
    assert await database.write(pools.claim_bucket, OTHER_PROJECT, "data", is_there=False)

    assert not await database.write(pools.claim_bucket, PROJECT, "data", is_there=True)
    assert await database.write(pools.claim_bucket, OTHER_PROJECT, "data", is_there=True)
    assert await database.read(pools.may_use_bucket, OTHER_PROJECT, "data")
    assert not await database.read(pools.may_use_bucket, PROJECT, "data")
    assert await database.read(pools.list_buckets, OTHER_PROJECT) == ["data"]


@pytest.mark.asyncio
async def test_a_folder_that_nobody_has_claimed_is_the_default_projects(
    database: Database,
) -> None:
    assert await database.read(pools.may_use_bucket, PROJECT, "found")
    assert not await database.read(pools.may_use_bucket, OTHER_PROJECT, "found")

    assert not await database.write(pools.claim_bucket, OTHER_PROJECT, "found", is_there=True)
    assert await database.write(pools.claim_bucket, PROJECT, "found", is_there=True)


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
            "phases": None,
            "hosts": None,
            "is_ascending": True,
            "offset": 0,
            "limit": 10,
        }
        total, rows = await database.read(
            lambda connection: workloads.list_pool_workloads(connection, **{**asked, **filters})  # type: ignore[arg-type]
        )
        return total, [[w.id for w in made].index(row[0]) for row in rows]

    assert await listed() == (4, [0, 1, 2, 3])
    assert await listed(is_ascending=False, offset=1, limit=2) == (4, [2, 1])
    assert await listed(phases=["Queued", "Completed"]) == (2, [0, 3])
    assert await listed(types=["train"]) == (4, [0, 1, 2, 3])
    assert await listed(types=["notebook"]) == (0, [])
    assert await listed(hosts=["gpu-a"]) == (2, [1, 2])  # the completed one was there, and is not
    assert await listed(pool_id=PUBLIC_POOL, project_id=OTHER_PROJECT) == (0, [])
