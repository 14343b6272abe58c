"""Looks at nodes and running tasks again and again, and keeps what it sees.

`measure` is pure: a look, the nodes and what is placed on them go in, values out.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from muster.domain.errors import EngineUnavailable, StoreUnavailable
from muster.domain.metric import NodeMetric, NodeReading, Reading, TaskMetric, TaskReading
from muster.domain.placement import CardKind, TaskPlacement
from muster.domain.pool import PUBLIC_PARTITION, Node
from muster.domain.workload import Workload
from muster.engines.engine import CardUsage, Engine, EngineRef, HostUsage, Sample, TaskUsage
from muster.store import pool_nodes, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.metrics import MetricsStore

log = structlog.get_logger()

# Also a task that ends before its turn comes is seen once, if it runs for so long.
FIRST_SIGHT_SECONDS: Final = 0.5
# Times as long as the sample before it took: so those out of turn cost 1 % of a core at most, also
# on a host with thousands of processes where something starts all the time.
REST_FACTOR: Final = 100


@dataclass(slots=True)
class Sampler:
    """Takes a sample every so many seconds, and soon after something has started."""

    database: Database
    engine: Engine
    metrics: MetricsStore
    clock_ms: Callable[[], int]
    interval_seconds: float
    is_failing: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Something may have started. Called in the event loop."""
        self._changed.set()

    async def run(self) -> None:
        """Sample until cancelled. Nothing is lost by that but the sample under way."""
        while True:
            self._changed.clear()
            began_at = time.monotonic()
            await self._sample_and_survive()
            took_seconds = time.monotonic() - began_at
            with suppress(TimeoutError):
                async with asyncio.timeout(self.interval_seconds):
                    await asyncio.sleep(took_seconds * REST_FACTOR)
                    await self._changed.wait()
                    # What starts together is looked at together, and has done something by then.
                    await asyncio.sleep(FIRST_SIGHT_SECONDS)

    async def _sample_and_survive(self) -> None:
        try:
            await self.sample_once()
        except (EngineUnavailable, StoreUnavailable) as error:
            if not self.is_failing:
                log.warning("sampling_paused", why=error.message)
            self.is_failing = True
        except Exception:  # the loop must go on: the next sample may be fine
            log.exception("sample_failed")
        else:
            if self.is_failing:
                log.info("sampling_again")
            self.is_failing = False

    async def sample_once(self) -> None:
        # In a thread: ten thousand rows would hold up every request.
        nodes, holding = await self.database.scan(_read_rows)
        sample = await self.engine.sample({node.host_name for node in nodes})
        readings = list(measure(sample, nodes, holding))
        await self.metrics.add(readings, now_ms=self.clock_ms())


def _read_rows(connection: Connection) -> tuple[list[Node], list[Workload]]:
    active = workloads.list_active(connection)
    return pool_nodes.list_nodes(connection), [w for w in active if w.is_holding]


def measure(
    sample: Sample, nodes: Sequence[Node], holding: Iterable[Workload]
) -> Iterator[Reading]:
    """What a sample says of each node and each task; what it does not say is left out.

    A node of the public partition is its host. One of a pool is a share of it: its CPUs and memory
    are busy as far as the tasks that were put there use them, of what the node has. The disk is the
    host's either way, and cards are the node's own.
    """
    used = {(task.ref, task.index): task for task in sample.tasks}
    hosts = {node.name: sample.hosts.get(node.host_name) for node in nodes}
    on_node: dict[str, list[TaskUsage]] = {node.name: [] for node in nodes}
    for workload in holding:
        for placement in workload.placements:
            task = used.get((EngineRef(workload.engine_ref or ""), placement.index))
            if task is not None:
                on_node.setdefault(placement.node_name, []).append(task)
                host = hosts.get(placement.node_name)
                yield from _task_readings(workload, placement, task, host)
    for node in nodes:
        host = hosts[node.name]
        if host is not None:
            yield from _node_readings(node, host, on_node[node.name])


def _task_readings(
    workload: Workload, placement: TaskPlacement, task: TaskUsage, host: HostUsage | None
) -> Iterator[TaskReading]:
    cards = _cards(host, placement.card_kind, placement.cards)
    values = {
        TaskMetric.CPU: _percent(task.cpu_millis, workload.task.cpu_millis),
        TaskMetric.MEMORY: _percent(task.memory_mib, workload.task.memory_mib),
        _TASK_CARDS[placement.card_kind or CardKind.GPU]: _busy(cards),
        _TASK_CARD_MEMORY[placement.card_kind or CardKind.GPU]: _card_memory(cards),
    }
    for metric, value in values.items():
        if value is not None:
            yield TaskReading(
                workload_id=workload.id, task_index=placement.index, metric=metric, value=value
            )


def _node_readings(
    node: Node, host: HostUsage, tasks: Sequence[TaskUsage]
) -> Iterator[NodeReading]:
    is_host = node.partition == PUBLIC_PARTITION
    cards = _cards(host, node.card_kind, node.cards)
    disk_used_mib = _difference(host.disk_total_mib, host.disk_free_mib)
    values = {
        NodeMetric.CPU: host.cpu_percent
        if is_host
        else _percent(_sum(task.cpu_millis for task in tasks), node.cpu_millis),
        NodeMetric.MEMORY: _percent(host.memory_used_mib, host.memory_total_mib)
        if is_host
        else _percent(_sum(task.memory_mib for task in tasks), node.memory_mib),
        _NODE_CARDS[node.card_kind or CardKind.GPU]: _busy(cards),
        _NODE_CARD_MEMORY[node.card_kind or CardKind.GPU]: _card_memory(cards),
        NodeMetric.DISK: host.disk_total_mib,
        NodeMetric.DISK_FREE: host.disk_free_mib,
        NodeMetric.DISK_USED: _percent(disk_used_mib, host.disk_total_mib),
    }
    for metric, value in values.items():
        if value is not None:
            yield NodeReading(
                partition=node.partition, node_name=node.name, metric=metric, value=float(value)
            )


_TASK_CARDS: Final[Mapping[CardKind, TaskMetric]] = {
    CardKind.GPU: TaskMetric.GPU,
    CardKind.NPU: TaskMetric.NPU,
}
_TASK_CARD_MEMORY: Final[Mapping[CardKind, TaskMetric]] = {
    CardKind.GPU: TaskMetric.GPU_MEMORY,
    CardKind.NPU: TaskMetric.NPU_MEMORY,
}
_NODE_CARDS: Final[Mapping[CardKind, NodeMetric]] = {
    CardKind.GPU: NodeMetric.GPU,
    CardKind.NPU: NodeMetric.NPU,
}
_NODE_CARD_MEMORY: Final[Mapping[CardKind, NodeMetric]] = {
    CardKind.GPU: NodeMetric.GPU_MEMORY,
    CardKind.NPU: NodeMetric.NPU_MEMORY,
}


def _cards(
    host: HostUsage | None, kind: CardKind | None, indexes: Collection[int]
) -> list[CardUsage]:
    """Those of the cards that could be read; one that was only declared never can."""
    if host is None:
        return []
    return [card for card in host.cards if card.kind is kind and card.index in indexes]


def _busy(cards: Sequence[CardUsage]) -> float | None:
    """The mean of the cards that tell."""
    known = [card.busy_percent for card in cards if card.busy_percent is not None]
    return sum(known) / len(known) if known else None


def _card_memory(cards: Sequence[CardUsage]) -> float | None:
    """In percent of what the cards that tell have together."""
    known = [
        (card.memory_used_mib, card.memory_total_mib)
        for card in cards
        if card.memory_used_mib is not None and card.memory_total_mib is not None
    ]
    return _percent(sum(used for used, _ in known), sum(total for _, total in known))


def _percent(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def _sum(amounts: Iterable[int | None]) -> int | None:
    """Of nothing 0; unknown as soon as one of them is."""
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part
