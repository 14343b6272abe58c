"""Why a workload waits, what would give it room, and when. Pure: a queue and its nodes in.

It tells what `reconciler/plan.py` does: the head of a queue waits for room, and whoever stands
behind it waits for the head. The work is bounded, whatever the queue: what lies beyond the bounds
is not foretold.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from muster.domain.phase import Phase
from muster.domain.placement import NodeRoom, TaskPlacement, place
from muster.domain.pool import USABLE, Node, NodePhase, PoolPhase
from muster.domain.resources import Resources
from muster.domain.room import rooms_for_work, take
from muster.domain.workload import Workload, turn

QUEUE_MAX: Final = 64  # of a queue: so many are explained and foretold
WORK_MAX: Final = 100_000  # tasks times nodes that one forecast may look at
PRUNED_MAX: Final = 64  # workloads of which those are sought that must really end
NAMED_MAX: Final = 5  # that a message names


class WaitingReason(StrEnum):
    """Why it waits. The values are public; messages may change."""

    NEXT = "Next"  # there is room: it gets its nodes in the next moment
    BEHIND_OTHERS = "BehindOthers"
    LACKS_CARDS = "LacksCards"
    LACKS_CPU = "LacksCpu"
    LACKS_MEMORY = "LacksMemory"
    LACKS_NODES = "LacksNodes"  # some of its tasks would fit, but not all at once
    NODES_UNAVAILABLE = "NodesUnavailable"  # locked, kept spare, or broken
    NEVER_FITS = "NeverFits"  # the pool has become too small for it
    POOL_NOT_RUNNING = "PoolNotRunning"


W = WaitingReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A partition at one moment."""

    now_ms: int
    pool_phase: PoolPhase = PoolPhase.RUNNING
    queue: Sequence[Workload]  # whoever waits, from the head on; at most QUEUE_MAX
    nodes: Sequence[Node]
    holders: Sequence[Workload]  # whoever holds some of the nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What one that waits may be told."""

    reason: WaitingReason
    position: int  # 1 is the head
    needs: int = 0  # cards, thousandths of a CPU, MiB on one node; or tasks: as `reason` says
    has: int = 0  # likewise: what there is for it now, at most
    nodes: tuple[str, ...] = ()  # that are there and take no work
    why: str = ""  # they take none: of all of them where it is the same, or of the first
    unblocked_by: tuple[int, ...] = ()  # workloads whose ends together would make room
    pool_phase: PoolPhase = PoolPhase.RUNNING
    predicted_start_ms: int | None = None  # at the latest, if nobody passes it; None: not known

    @property
    def missing(self) -> int:
        return self.needs - self.has


def behind(position: int) -> Waiting:
    """Of one that stands further back than a scene reaches."""
    return Waiting(reason=W.BEHIND_OTHERS, position=position)


def explain(scene: Scene) -> dict[int, Waiting]:
    """Why each of the queue waits, by workload id."""
    queue = sorted(scene.queue, key=turn)
    forecasts = _foretell(queue, scene)
    return {
        workload.id: _explain(workload, position, forecasts[workload.id], scene)
        for position, workload in enumerate(queue, start=1)
    }


@dataclass(frozen=True, slots=True)
class _Forecast:
    start_ms: int | None = None
    is_now: bool = False  # nothing has to end before


def _explain(workload: Workload, position: int, forecast: _Forecast, scene: Scene) -> Waiting:
    waiting = Waiting(
        reason=W.BEHIND_OTHERS, position=position, predicted_start_ms=forecast.start_ms
    )
    if forecast.is_now:
        return replace(waiting, reason=W.NEXT)
    return _explain_head(workload, waiting, scene) if position == 1 else waiting


def _explain_head(workload: Workload, waiting: Waiting, scene: Scene) -> Waiting:
    rooms = rooms_for_work(scene.nodes, scene.holders)
    if _count(workload.task, rooms.values()) >= workload.task_count:
        return replace(waiting, reason=W.NEXT)
    if scene.pool_phase not in {*USABLE, PoolPhase.ABNORMAL}:  # of one that is down, nodes say why
        return replace(waiting, reason=W.POOL_NOT_RUNNING, pool_phase=scene.pool_phase)
    there = [node for node in scene.nodes if node.phase is not NodePhase.DELETING]
    if (most := _count(workload.task, (n.room for n in there))) < workload.task_count:
        return replace(waiting, reason=W.NEVER_FITS, needs=workload.task_count, has=most)
    at_work = [node.room for node in there if node.takes_work]
    if (most := _count(workload.task, at_work)) < workload.task_count:
        idle = sorted((n for n in there if not n.takes_work), key=lambda node: node.name)
        return replace(
            waiting,
            reason=W.NODES_UNAVAILABLE,
            needs=workload.task_count,
            has=most,
            nodes=tuple(node.name for node in idle),
            why=_why_idle([node.message for node in idle]),
        )
    reason, needs, has = _what_lacks(workload, list(rooms.values()))
    return replace(
        waiting,
        reason=reason,
        needs=needs,
        has=has,
        unblocked_by=_who_must_end(workload, scene),
    )


def _why_idle(messages: Sequence[str]) -> str:
    """What nodes say in common; otherwise the first one's words, which are a beginning."""
    if len(set(messages)) == 1:
        return messages[0]
    return f"The first: {messages[0]}" if messages[0] else ""


def _what_lacks(workload: Workload, rooms: Sequence[NodeRoom]) -> tuple[WaitingReason, int, int]:
    """(what it lacks, how much of it a task needs on one node, the most that a node has)."""
    task = workload.task
    if has := _count(task, rooms):
        return W.LACKS_NODES, workload.task_count, has
    # One after the other: the rarest first, then among the nodes that have enough of that.
    enough = [r for r in rooms if _cards(task, r) >= task.card_count]
    if not enough:
        return W.LACKS_CARDS, task.card_count, max((_cards(task, r) for r in rooms), default=0)
    with_cpu = [r for r in enough if r.cpu_millis >= task.cpu_millis]
    if not with_cpu:
        return W.LACKS_CPU, task.cpu_millis, max(0, *(r.cpu_millis for r in enough), 0)
    return W.LACKS_MEMORY, task.memory_mib, max(0, *(r.memory_mib for r in with_cpu), 0)


def _cards(task: Resources, room: NodeRoom) -> int:
    """How many free cards it has of the kind that the task asks for."""
    has = room.resources
    return has.npu_count if task.npu_count else has.gpu_count


def _count(task: Resources, rooms: Iterable[NodeRoom]) -> int:
    """How many such tasks the rooms take together."""
    return sum(_capacity(task, room) for room in rooms)


def _capacity(task: Resources, room: NodeRoom) -> int:
    has = room.resources
    pairs = (
        (task.cpu_millis, has.cpu_millis),
        (task.memory_mib, has.memory_mib),
        (task.gpu_count, has.gpu_count),
        (task.npu_count, has.npu_count),
    )
    if any(there < 0 for _, there in pairs):
        return 0  # more was promised of it than it has
    return min((there // asked for asked, there in pairs if asked), default=_ANY_NUMBER)


_ANY_NUMBER: Final = 1_000_000  # of tasks that ask for nothing


def _end_ms(workload: Workload, scene: Scene) -> int | None:
    """When a holder gives its nodes back at the latest; None: it may hold them for ever."""
    match workload.phase:
        case Phase.TERMINATING:
            return scene.now_ms  # its tasks were told to end
        case Phase.STARTING | Phase.RUNNING:
            return _end_of_run(workload, scene.now_ms)
        case _:
            return None


def _end_of_run(workload: Workload, start_ms: int) -> int | None:
    """Of one that starts, or goes on, at `start_ms`."""
    if workload.time_limit_ms is None:
        return None
    return max(start_ms, workload.ends_by_ms or start_ms + workload.time_limit_ms)


def _foretell(queue: Sequence[Workload], scene: Scene) -> dict[int, _Forecast]:
    """Let the holders end one after the other, and everybody start when it is their turn."""
    forecasts = dict.fromkeys((workload.id for workload in queue), _Forecast())
    nodes = {node.name: node for node in scene.nodes if node.takes_work}
    rooms = rooms_for_work(scene.nodes, scene.holders)
    ends: list[tuple[int, int, Workload, tuple[TaskPlacement, ...]]] = []
    for holder in scene.holders:
        if (end_ms := _end_ms(holder, scene)) is not None:
            heapq.heappush(ends, (end_ms, holder.id, holder, holder.placements))
    now_ms, has_waited, work = scene.now_ms, False, 0
    for workload in queue:
        while _count(workload.task, rooms.values()) < workload.task_count:
            work += len(rooms) + 1
            if not ends or work > WORK_MAX:
                return forecasts
            end_ms, _, holder, placements = heapq.heappop(ends)
            now_ms, has_waited = max(now_ms, end_ms), True
            _give_back(rooms, nodes, holder, placements)
        work += len(rooms) * workload.task_count
        if work > WORK_MAX:
            return forecasts
        placed = place(workload.task, workload.task_count, rooms.values())
        assert placed is not None, "equal tasks that fit by their number can be placed"
        take(rooms, workload, placed)
        forecasts[workload.id] = _Forecast(now_ms, not has_waited)
        if (end_ms_of_run := _end_of_run(workload, now_ms)) is not None:
            heapq.heappush(ends, (end_ms_of_run, workload.id, workload, placed))
    return forecasts


def _give_back(
    rooms: dict[str, NodeRoom],
    nodes: Mapping[str, Node],
    workload: Workload,
    placements: Iterable[TaskPlacement],
) -> None:
    for placement in placements:
        room = rooms.get(placement.node_name)
        if room is None:
            continue  # nobody new is put there
        own = set(nodes[placement.node_name].cards)
        rooms[placement.node_name] = replace(
            room,
            cpu_millis=room.cpu_millis + workload.task.cpu_millis,
            memory_mib=room.memory_mib + workload.task.memory_mib,
            free_cards=tuple(sorted({*room.free_cards, *(own & set(placement.cards))})),
        )


def _who_must_end(workload: Workload, scene: Scene) -> tuple[int, ...]:
    """Holders whose ends together make room: whoever ends first, as far as that is known."""
    nodes = {node.name: node for node in scene.nodes if node.takes_work}

    def fits_without(gone: Sequence[Workload]) -> bool:
        rooms = rooms_for_work(scene.nodes, scene.holders)
        for holder in gone:
            _give_back(rooms, nodes, holder, holder.placements)
        return _count(workload.task, rooms.values()) >= workload.task_count

    def when(holder: Workload) -> tuple[bool, int, int]:
        end_ms = _end_ms(holder, scene)
        return (end_ms is None, end_ms or 0, holder.id)

    inside = [h for h in scene.holders if any(p.node_name in nodes for p in h.placements)]
    order = sorted(inside, key=when)
    few, enough = 0, len(order)
    if not fits_without(order):
        return ()
    while few < enough:  # more ends never give less room
        middle = (few + enough) // 2
        few, enough = (few, middle) if fits_without(order[:middle]) else (middle + 1, enough)
    must_end = order[:enough]
    if len(must_end) <= PRUNED_MAX:
        for holder in must_end.copy():
            others = [other for other in must_end if other is not holder]
            if fits_without(others):
                must_end = others
    return tuple(holder.id for holder in must_end)


def message_of(waiting: Waiting, blockers: Sequence[str] = (), others: int = 0) -> str:
    """For people. `blockers` are those of `unblocked_by` that the reader may see; `others` not."""
    told = _told(waiting)
    if blockers or others:
        who = list(blockers[:NAMED_MAX])
        if more := len(blockers) - len(who):
            who.append(f"{more} more")
        if others:
            which = "other projects" if others > 1 else "another project"
            who.append(f"{others} workload{'s' if others > 1 else ''} of {which}")
        told += f" It can start once these have ended: {', '.join(who)}."
    return told


def _told(waiting: Waiting) -> str:
    needs, has = waiting.needs, waiting.has
    match waiting.reason:
        case W.NEXT:
            return "It is next: there is room for it."
        case W.BEHIND_OTHERS:
            ahead = waiting.position - 1
            return f"{ahead} {'workload stands' if ahead == 1 else 'workloads stand'} before it."
        case W.LACKS_CARDS:
            cards = "1 card" if needs == 1 else f"{needs} cards"
            return f"A task needs {cards} on one node; no node has more than {has} free."
        case W.LACKS_CPU:
            return (
                f"A task needs {needs / 1000:g} CPUs on one node; no node that would do has more"
                f" than {has / 1000:g} free."
            )
        case W.LACKS_MEMORY:
            return (
                f"A task needs {needs / 1024:g} GiB of memory on one node; no node that would do"
                f" has more than {has / 1024:g} GiB free."
            )
        case W.LACKS_NODES:
            return f"It needs room for {needs} tasks at once; there is room for {has}."
        case W.NODES_UNAVAILABLE:
            shown = list(waiting.nodes[:NAMED_MAX])
            if more := len(waiting.nodes) - len(shown):
                shown.append(f"{more} more")
            names = ", ".join(shown)
            return f"Nodes that it needs take no work at the moment: {names}. {waiting.why}".strip()
        case W.NEVER_FITS:
            return (
                f"The pool has become too small for it: it has room for {has} of its {needs} tasks"
                " even when it is empty. Enlarge the pool, or stop the job."
            )
        case W.POOL_NOT_RUNNING:
            return f"Its pool is {waiting.pool_phase}."
