"""Pools and the nodes in them."""

from typing import Final

from muster.domain.placement import CardKind
from muster.domain.pool import (
    PUBLIC_PARTITION,
    Node,
    PoolPhase,
    Scope,
    pool_id_of,
    pool_over,
    public_pool,
    public_pool_id,
)
from muster.domain.resources import Resources

NODES: Final = [
    Node(name="a", partition="p", cpu_millis=4000, memory_mib=100),
    Node(
        name="b",
        partition="p",
        cpu_millis=2000,
        memory_mib=50,
        card_kind=CardKind.GPU,
        cards=(2, 3),
    ),
]


def test_a_pool_offers_what_its_nodes_have_together() -> None:
    pool = pool_over(
        NODES,
        project_id="7",
        display_name="research",
        partition="p",
        scopes=(Scope.TRAIN,),
        flavor_code="gpu.2",
        now_ms=5,
    )

    assert pool.capacity == Resources(cpu_millis=6000, memory_mib=150, gpu_count=2)
    assert (pool.node_count, pool.phase, pool.created_at_ms) == (2, PoolPhase.RUNNING, 5)
    assert not pool.is_public


def test_a_pool_without_nodes_offers_nothing() -> None:
    assert public_pool("7", [], now_ms=0).capacity == Resources()


def test_each_project_sees_the_public_nodes_as_a_pool_of_its_own() -> None:
    one, other = (public_pool(project_id, NODES, now_ms=0) for project_id in ("1", "2"))

    assert (one.id, other.id) == ("public-1", "public-2")
    assert one.partition == other.partition == PUBLIC_PARTITION
    assert one.is_public
    assert set(one.scopes) == set(Scope)
    assert public_pool_id("1") == one.id == pool_id_of("public", "1")


def test_an_empty_node_has_all_its_cards_free() -> None:
    assert NODES[1].room.free_cards == (2, 3)
    assert NODES[1].room.resources == Resources(cpu_millis=2000, memory_mib=50, gpu_count=2)
