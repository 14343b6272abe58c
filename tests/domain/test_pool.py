"""Pools and the nodes in them."""

from dataclasses import replace
from typing import Any, Final

import pytest

from muster.domain.errors import IllegalTransition
from muster.domain.placement import CardKind
from muster.domain.pool import (
    PUBLIC_PARTITION,
    USABLE,
    Node,
    NodePhase,
    PoolEvent,
    PoolLine,
    PoolPhase,
    Scope,
    capacity_of,
    next_pool_phase,
    pool_id_of,
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


def test_nodes_offer_what_they_have_together_and_broken_ones_nothing() -> None:
    broken = replace(NODES[0], name="c", phase=NodePhase.ABNORMAL)

    assert capacity_of([*NODES, broken]) == Resources(cpu_millis=6000, memory_mib=150, gpu_count=2)


@pytest.mark.parametrize(
    ("change", "takes_work"),
    [
        ({}, True),
        ({"is_locked": True}, False),
        ({"is_spare": True}, False),
        ({"phase": NodePhase.ABNORMAL}, False),
        ({"phase": NodePhase.DELETING}, False),
        ({"phase": NodePhase.CREATING}, False),
    ],
)
def test_a_node_takes_work_only_while_nothing_speaks_against_it(
    change: dict[str, Any], takes_work: bool
) -> None:
    assert replace(NODES[0], **change).takes_work is takes_work


def test_every_pool_can_be_deleted_once_and_only_running_ones_take_work() -> None:
    for phase in PoolPhase:
        if phase is PoolPhase.DELETING:
            with pytest.raises(IllegalTransition):
                next_pool_phase(phase, PoolEvent.DELETE_ASKED)
        else:
            assert next_pool_phase(phase, PoolEvent.DELETE_ASKED) is PoolPhase.DELETING
    assert {PoolPhase.RUNNING, PoolPhase.SCALING_FAILED} == USABLE


def test_a_pool_is_down_while_its_nodes_may_come_back() -> None:
    line = PoolLine(name="a", flavor_code="gpu.2", node_count=1)
    running = replace(public_pool("7", [], now_ms=0), lines=(line,))
    abnormal = replace(running, phase=PoolPhase.ABNORMAL)

    assert not running.is_down
    assert abnormal.is_down
    assert not replace(abnormal, lines=()).is_down  # the inventory declares it no more
    assert not replace(running, phase=PoolPhase.DELETING).is_down


def test_only_a_pool_of_one_flavor_has_one_for_jobs_that_name_none() -> None:
    pool = replace(
        public_pool("7", [], now_ms=0),
        lines=(PoolLine(name="a", flavor_code="gpu.2", node_count=1),),
    )
    other = PoolLine(name="b", flavor_code="gpu.1", node_count=1)

    assert pool.flavor_code == "gpu.2"
    assert replace(pool, lines=(*pool.lines, other)).flavor_code == ""


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
