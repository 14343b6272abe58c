"""What the local engine measures of its own machine, and how it makes means of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from muster.domain.placement import CardKind
from muster.engines.engine import CardUsage, HostUsage
from muster.engines.local import LocalEngine
from muster.engines.usage import NvidiaCards, UsageReader

DEADLINE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.01
CARD: Final = CardUsage(
    kind=CardKind.GPU, index=1, busy_percent=37.0, memory_used_mib=512, memory_total_mib=2048
)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(tmp_path / "jobs", read_cards=lambda: (CARD,))
    await engine.open(lambda: None)
    yield engine
    await engine.close()


@pytest.mark.asyncio
async def test_every_host_is_this_machine(engine: LocalEngine) -> None:
    sample = await engine.sample(["node-a", "node-b"])

    assert sample.tasks == ()
    assert set(sample.hosts) == {"node-a", "node-b"}
    host = sample.hosts["node-a"]
    assert host is sample.hosts["node-b"]
    assert host.cards == (CARD,)
    assert 0 < (host.memory_used_mib or 0) <= (host.memory_total_mib or 0)
    assert 0 <= (host.disk_free_mib or 0) <= (host.disk_total_mib or 0)


@pytest.mark.asyncio
async def test_the_cpus_of_the_host_have_a_mean_from_the_second_look_on(
    engine: LocalEngine,
) -> None:
    async def look() -> float | None:
        return (await engine.sample(["here"])).hosts["here"].cpu_percent

    async with asyncio.timeout(DEADLINE_SECONDS):
        while (percent := await look()) is None:  # noqa: ASYNC110 - the CPUs
            await asyncio.sleep(LOOK_SECONDS)

    assert 0 <= percent <= 100


def test_a_folder_that_cannot_be_looked_at_has_no_disk(tmp_path: Path) -> None:
    host, tasks = UsageReader(tmp_path / "missing", lambda: ()).read([])

    assert (host.disk_free_mib, host.disk_total_mib, host.cards, tasks) == (None, None, (), ())
    assert host != HostUsage()  # the rest is there


def test_a_machine_without_a_driver_has_no_cards() -> None:
    looks = 0

    def no_driver() -> None:
        nonlocal looks
        looks += 1

    read_cards = NvidiaCards(no_driver)

    assert [read_cards(), read_cards()] == [(), ()]
    assert looks == 1


class Readings:
    """A driver with three cards: one tells all, one is split, one has fallen off the bus."""

    gpu, used, total = 62, 3 << 30, 8 << 30

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - the library's names
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index == 2:
            raise self.NVMLError
        return index

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> "Readings":  # noqa: N802
        return self

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> "Readings":  # noqa: N802
        if handle == 1:
            raise self.NVMLError
        return self

    class NVMLError(Exception):
        pass


def test_what_a_card_does_not_tell_is_left_out() -> None:
    cards = NvidiaCards(Readings)()

    whole = CardUsage(
        kind=CardKind.GPU, index=0, busy_percent=62.0, memory_used_mib=3072, memory_total_mib=8192
    )
    split = CardUsage(kind=CardKind.GPU, index=1, memory_used_mib=3072, memory_total_mib=8192)
    assert cards == (whole, split)
