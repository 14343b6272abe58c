"""Whether the server lives, is ready, and what Prometheus wants to know."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain.errors import EngineUnavailable, StoreUnavailable
from muster.store import counting
from muster.store.connection import Connection

# Whoever asks gives up after as long as that, and learns nothing then.
READY_SECONDS_MAX: Final = 2.0


async def show_alive(services: Services, request: Request) -> Reply:
    return json_reply({"status": "alive", "version": services.version})


async def show_ready(services: Services, request: Request) -> Reply:
    """Ready means: the store, the engine and the object store answer."""
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            await services.database.read(_touch_store)
    except TimeoutError as error:
        raise StoreUnavailable(
            f"The database has not answered for {READY_SECONDS_MAX:g} seconds."
        ) from error
    trouble = await services.engine_trouble()
    if trouble is not None:
        raise EngineUnavailable(trouble)
    trouble = await services.objects.find_trouble()
    if trouble is not None:
        raise StoreUnavailable(trouble)
    return json_reply({"status": "ready", "version": services.version})


def _touch_store(connection: Connection) -> None:
    connection.execute("SELECT 1 FROM account LIMIT 1").fetchone()


async def show_metrics(services: Services, request: Request) -> Reply:
    """Workloads by type and state, from the same counters as the statistics call.

    Needs no login, so it adds all projects up and names none.
    """
    from prometheus_client.exposition import (
        CONTENT_TYPE_LATEST,
        generate_latest,
    )
    from prometheus_client.metrics_core import GaugeMetricFamily
    from prometheus_client.registry import CollectorRegistry

    counts = await services.database.read(_count_by_type)
    workloads = GaugeMetricFamily(
        "muster_workloads", "Workloads by type and state.", labels=["type", "state"]
    )
    held = GaugeMetricFamily(
        "muster_held_resources", "What workloads hold now.", labels=["type", "resource"]
    )
    for (type_, name), count in sorted(counts.items()):
        family = held if name in counting.HELD else workloads
        family.add_metric([type_, name], count)

    class Tallies:
        def collect(self) -> Iterator[GaugeMetricFamily]:
            yield workloads
            yield held

    registry = CollectorRegistry()
    registry.register(Tallies())
    return Reply(200, generate_latest(registry), [(b"content-type", CONTENT_TYPE_LATEST.encode())])


def _count_by_type(connection: Connection) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for _, _, type_, *values in connection.execute(counting.SQL["list_tallies"]):
        for name, value in zip((*counting.STATES, *counting.HELD), values, strict=True):
            counts[type_, name] += value
    return counts
