"""Which tasks go to which nodes, and which cards they get."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.placement import CardKind, NodeRoom, TaskPlacement, most_that_fit, place
from muster.domain.resources import Resources

amounts = st.integers(0, 8)
counts = st.integers(0, 12)


@st.composite
def tasks(draw: st.DrawFn) -> Resources:
    kind = draw(st.sampled_from([None, *CardKind]))
    cards = draw(st.integers(1, 3)) if kind else 0
    return Resources(
        cpu_millis=draw(amounts),
        memory_mib=draw(amounts),
        gpu_count=cards if kind is CardKind.GPU else 0,
        npu_count=cards if kind is CardKind.NPU else 0,
    )


@st.composite
def nodes(draw: st.DrawFn, name: str) -> NodeRoom:
    kind = draw(st.sampled_from([None, *CardKind]))
    cards = draw(st.sets(st.integers(0, 7))) if kind else set()
    return NodeRoom(
        name=name,
        cpu_millis=draw(st.integers(-2, 12)),  # less than nothing: the inventory was cut down
        memory_mib=draw(st.integers(-2, 12)),
        card_kind=kind,
        free_cards=tuple(sorted(cards)),
    )


@st.composite
def node_rooms(draw: st.DrawFn) -> list[NodeRoom]:
    return [draw(nodes(f"node-{index}")) for index in range(draw(st.integers(0, 4)))]


def on_node(placements: Sequence[TaskPlacement], room: NodeRoom) -> list[TaskPlacement]:
    return [placement for placement in placements if placement.node_name == room.name]


@given(tasks(), counts, node_rooms())
def test_a_placement_never_takes_more_than_is_free(
    task: Resources, count: int, rooms: list[NodeRoom]
) -> None:
    placements = place(task, count, rooms) or ()

    for room in rooms:
        here = on_node(placements, room)
        assert not here or (task * len(here)).fits_in(room.resources)


@given(tasks(), counts, node_rooms())
def test_no_card_is_given_twice_nor_one_that_is_not_free(
    task: Resources, count: int, rooms: list[NodeRoom]
) -> None:
    placements = place(task, count, rooms) or ()

    for room in rooms:
        given_out = Counter(card for p in on_node(placements, room) for card in p.cards)
        assert all(times == 1 for times in given_out.values())
        assert set(given_out) <= set(room.free_cards)


@given(tasks(), counts, node_rooms())
def test_all_tasks_are_placed_or_none_is(
    task: Resources, count: int, rooms: list[NodeRoom]
) -> None:
    placements = place(task, count, rooms)

    if placements is not None:
        assert [p.index for p in placements] == list(range(count))
        assert all(len(p.cards) == task.card_count for p in placements)
        assert all((p.card_kind is None) == (not p.cards) for p in placements)


@given(tasks(), counts, node_rooms())
def test_the_same_nodes_give_the_same_placement_in_whatever_order_they_come(
    task: Resources, count: int, rooms: list[NodeRoom]
) -> None:
    assert place(task, count, rooms) == place(task, count, rooms[::-1])


@given(tasks(), counts, node_rooms())
def test_counting_what_fits_agrees_with_placing_it(
    task: Resources, count: int, rooms: list[NodeRoom]
) -> None:
    fits = place(task, count, rooms) is not None

    assert (most_that_fit(task, rooms, bound=count) == count) == fits


@given(tasks(), counts, node_rooms())
def test_counting_what_fits_keeps_its_bound(
    task: Resources, count: int, rooms: list[NodeRoom]
) -> None:
    most = most_that_fit(task, rooms, bound=count)

    assert 0 <= most <= count
    assert place(task, most, rooms) is not None


def room(name: str, *, cpu_millis: int = 4, cards: tuple[int, ...] = ()) -> NodeRoom:
    return NodeRoom(
        name=name,
        cpu_millis=cpu_millis,
        memory_mib=100,
        card_kind=CardKind.GPU if cards else None,
        free_cards=cards,
    )


def test_a_task_goes_to_the_fullest_node_that_takes_it() -> None:
    task = Resources(cpu_millis=1, gpu_count=2)
    rooms = [room("a", cards=(0, 1, 2, 3)), room("b", cards=(0, 1)), room("c", cards=(0,))]

    assert place(task, 1, rooms) == (
        TaskPlacement(index=0, node_name="b", card_kind=CardKind.GPU, cards=(0, 1)),
    )


def test_a_task_without_cards_leaves_the_nodes_with_cards_alone() -> None:
    task = Resources(cpu_millis=2)
    rooms = [room("a", cards=(0,)), room("b")]

    placements = place(task, 3, rooms)

    assert placements is not None
    assert [p.node_name for p in placements] == ["b", "b", "a"]
    assert all(p.cards == () and p.card_kind is None for p in placements)


def test_cards_of_another_kind_do_not_count() -> None:
    assert place(Resources(npu_count=1), 1, [room("a", cards=(0, 1))]) is None
