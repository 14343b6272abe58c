"""Elastic flavors: a number of cards, with their share of the node."""

import pytest

from muster.domain.flavor import ELASTIC_CARDS, Flavor, elastic_flavor
from muster.domain.resources import Resources

ONE, FOUR = "modelarts.pool.visual.xlarge", "modelarts.pool.visual.4xlarge"


def node(code: str, cards: int, **kind: int) -> Flavor:
    task = Resources(
        cpu_millis=10_000, memory_mib=80_000, gpu_count=cards if not kind else 0, **kind
    )
    return Flavor(spec_id=1, code=code, task=task, card_model="T4", task_count_max=2)


def test_cards_come_with_their_share_of_the_node() -> None:
    flavor = elastic_flavor(FOUR, [node("whole", 8)])

    assert flavor is not None
    assert flavor.task == Resources(cpu_millis=5_000, memory_mib=40_000, gpu_count=4)
    assert (flavor.code, flavor.card_model) == (FOUR, "T4")
    assert flavor.task_count_max == 4


def test_it_is_a_part_of_the_smallest_node_that_has_so_many() -> None:
    flavor = elastic_flavor(FOUR, [node("large", 16), node("small", 2), node("fitting", 4)])

    assert flavor is not None
    assert flavor.task == Resources(cpu_millis=10_000, memory_mib=80_000, gpu_count=4)


def test_npus_are_given_where_the_nodes_have_those() -> None:
    flavor = elastic_flavor(ONE, [node("npus", 0, npu_count=8)])

    assert flavor is not None
    assert (flavor.task.gpu_count, flavor.task.npu_count) == (0, 1)


@pytest.mark.parametrize("code", ELASTIC_CARDS)
def test_without_so_many_cards_on_a_node_there_is_none(code: str) -> None:
    assert elastic_flavor(code, [node("few", ELASTIC_CARDS[code] - 1)]) is None
