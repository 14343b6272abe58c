"""What nodes have left beside the workloads that hold some of them. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from muster.domain.placement import NodeRoom, TaskPlacement
from muster.domain.pool import Node
from muster.domain.workload import Workload


def rooms_for_work(nodes: Iterable[Node], holders: Iterable[Workload]) -> dict[str, NodeRoom]:
    """What new work finds, by node name. One that takes no work is left out."""
    rooms = {node.name: node.room for node in nodes if node.takes_work}
    # Summed up before any room is made anew: thousands may share a node.
    cpu_millis, memory_mib = dict.fromkeys(rooms, 0), dict.fromkeys(rooms, 0)
    cards: dict[str, set[int]] = {}
    for workload in holders:
        for placement in workload.placements:
            name = placement.node_name
            if name not in rooms:
                continue  # the node takes no work, or is there no more; what runs there goes on
            cpu_millis[name] += workload.task.cpu_millis
            memory_mib[name] += workload.task.memory_mib
            if placement.cards:
                cards.setdefault(name, set()).update(placement.cards)
    return {
        name: _less(
            room,
            cpu_millis=cpu_millis[name],
            memory_mib=memory_mib[name],
            cards=cards.get(name, frozenset()),
        )
        for name, room in rooms.items()
    }


def take(
    rooms: dict[str, NodeRoom], workload: Workload, placements: Sequence[TaskPlacement]
) -> None:
    for placement in placements:
        room = rooms.get(placement.node_name)
        if room is None:
            continue  # as above
        rooms[placement.node_name] = _less(
            room,
            cpu_millis=workload.task.cpu_millis,
            memory_mib=workload.task.memory_mib,
            cards=placement.cards,
        )


def _less(room: NodeRoom, *, cpu_millis: int, memory_mib: int, cards: Collection[int]) -> NodeRoom:
    return replace(
        room,
        cpu_millis=room.cpu_millis - cpu_millis,
        memory_mib=room.memory_mib - memory_mib,
        free_cards=tuple(card for card in room.free_cards if card not in cards),
    )
