"""Which tasks go to which nodes, and which cards they get. Pure: rooms in, placements out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from muster.domain.resources import Resources


class CardKind(StrEnum):
    """Accelerators by what runs on them, not by vendor. The values are public (inventory file)."""

    GPU = "gpu"
    NPU = "npu"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlacement:
    """One task of an attempt: the node it runs on and the cards that it alone may use."""

    index: int
    node_name: str
    card_kind: CardKind | None = None
    cards: tuple[int, ...] = ()  # device numbers on the machine, ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """What a node has left. Its free cards are named one by one, so that none is given twice."""

    name: str
    cpu_millis: int
    memory_mib: int
    card_kind: CardKind | None = None
    free_cards: tuple[int, ...] = ()

    @property
    def resources(self) -> Resources:
        return Resources(
            cpu_millis=self.cpu_millis,
            memory_mib=self.memory_mib,
            gpu_count=len(self.free_cards) if self.card_kind is CardKind.GPU else 0,
            npu_count=len(self.free_cards) if self.card_kind is CardKind.NPU else 0,
        )

    def without(self, task: Resources) -> "NodeRoom":
        """The room left once one such task has taken the lowest free cards."""
        return replace(
            self,
            cpu_millis=self.cpu_millis - task.cpu_millis,
            memory_mib=self.memory_mib - task.memory_mib,
            free_cards=self.free_cards[task.card_count :],
        )


def place(
    task: Resources, task_count: int, rooms: Iterable[NodeRoom]
) -> tuple[TaskPlacement, ...] | None:
    """Put `task_count` equal tasks on nodes: all of them, or None.

    Each goes to the fullest node that still takes it (fewest free cards, then least free CPU, then
    name), so that large rooms stay whole for large tasks. The same rooms give the same placement.
    """
    rooms_by_name = {room.name: room for room in rooms}
    placements = []
    for index in range(task_count):
        candidates = [room for room in rooms_by_name.values() if task.fits_in(room.resources)]
        if not candidates:
            return None
        room = min(candidates, key=lambda r: (len(r.free_cards), r.cpu_millis, r.name))
        cards = room.free_cards[: task.card_count]
        placements.append(
            TaskPlacement(
                index=index,
                node_name=room.name,
                card_kind=room.card_kind if cards else None,
                cards=cards,
            )
        )
        rooms_by_name[room.name] = room.without(task)
    return tuple(placements)


def most_that_fit(task: Resources, rooms: Sequence[NodeRoom], *, bound: int) -> int:
    """How many such tasks the rooms take together, counted up to `bound`."""
    total = 0
    for room in rooms:
        if total >= bound:
            break
        total += task.times_in(room.resources, bound=bound - total)
    return total
