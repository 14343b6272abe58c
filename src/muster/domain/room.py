"""What nodes have left beside the workloads that hold some of them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from muster.domain.placement import NodeRoom, TaskPlacement
from muster.domain.pool import Node
from muster.domain.workload import Workload


def rooms_for_work(nodes: Iterable[Node], holders: Iterable[Workload]) -> dict[str, NodeRoom]:
    """What new work finds, by node name. One that takes no work is left out."""
    rooms = {node.name: node.room for node in nodes if node.takes_work}
    for workload in holders:
        take(rooms, workload, workload.placements)
    return rooms


def take(
    rooms: dict[str, NodeRoom], workload: Workload, placements: Sequence[TaskPlacement]
) -> None:
    for placement in placements:
        room = rooms.get(placement.node_name)
        if room is None:
            continue  # the node takes no work, or is there no more; what runs there goes on
        rooms[placement.node_name] = replace(
            room,
            cpu_millis=room.cpu_millis - workload.task.cpu_millis,
            memory_mib=room.memory_mib - workload.task.memory_mib,
            free_cards=tuple(card for card in room.free_cards if card not in placement.cards),
        )
