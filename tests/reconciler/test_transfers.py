"""Transfers: begun once, asked after by later passes, tried again, ended at any time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from muster.domain.errors import StoragePathInvalid, StoreUnavailable
from muster.objects.store import Progress
from muster.reconciler import transfers as transfers_module
from muster.reconciler.transfers import NotYet, Transfers

pytestmark = pytest.mark.asyncio

STEPS_MAX = 500


@dataclass
class Work:
    """Something to transfer, that a test lets go on."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    errors: list[Exception] = field(default_factory=list)
    was_cancelled: bool = False

    async def run(self, progress: Progress) -> str:
        self.begun += 1
        progress.file_count, progress.byte_count = 3, 5 << 20
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr(transfers_module, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(transfers_module, "RETRY_SECONDS", 0.0)


@pytest.fixture
def transfers() -> Transfers:
    return Transfers()


async def ask(transfers: Transfers, work: Work) -> str | NotYet:
    return await transfers.finish("it", "Fetching its inputs", work.run)


async def settled(look: Callable[[], Awaitable[str | NotYet]]) -> str:
    for _ in range(STEPS_MAX):
        found = await look()
        if isinstance(found, str):
            return found
        await asyncio.sleep(0)
    raise AssertionError("it does not end")


async def test_a_transfer_is_begun_once_and_its_result_is_told_once(transfers: Transfers) -> None:
    work = Work()

    first, second = await ask(transfers, work), await ask(transfers, work)

    assert first == NotYet("Fetching its inputs: 3 files, 5.0 MiB so far.")
    assert second == NotYet(None), "nothing new so soon"
    work.go_on.set()
    assert await settled(lambda: ask(transfers, work)) == "done"
    assert work.begun == 1
    await ask(transfers, work)
    assert work.begun == 2, "nothing is kept of one that has ended"


async def test_whoever_waits_is_woken_when_it_ends(transfers: Transfers) -> None:
    work = Work()
    woken = asyncio.Event()
    transfers.on_end = woken.set
    await ask(transfers, work)
    assert not woken.is_set()

    work.go_on.set()

    await asyncio.wait_for(woken.wait(), 10)


@pytest.mark.parametrize("error", [StoreUnavailable("S3 is away."), OSError(28, "No space left")])
async def test_what_fails_for_now_is_tried_again_and_told_once(
    transfers: Transfers, error: Exception
) -> None:
    work = Work(errors=[error, error])
    work.go_on.set()
    told: list[str] = []

    async def look() -> str | NotYet:
        found = await ask(transfers, work)
        if isinstance(found, NotYet) and found.news and "failed" in found.news:
            told.append(found.news)
        return found

    assert await settled(look) == "done"

    assert work.begun == 3
    why = error.message if isinstance(error, StoreUnavailable) else "[Errno 28] No space left."
    assert told == [f"Fetching its inputs has failed and is tried again: {why}"]


async def test_one_that_has_failed_rests_before_it_is_tried_again(
    transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers_module, "RETRY_SECONDS", 3_600.0)
    monkeypatch.setattr(transfers_module, "RETRY_SECONDS_MAX", 3_600.0)
    work = Work(errors=[StoreUnavailable("S3 is away.")])
    work.go_on.set()

    for _ in range(20):
        assert isinstance(await ask(transfers, work), NotYet)
        await asyncio.sleep(0)

    assert work.begun == 1


async def test_what_fails_for_good_is_raised(transfers: Transfers) -> None:
    work = Work(errors=[StoragePathInvalid("There is nothing there.")])
    work.go_on.set()

    with pytest.raises(StoragePathInvalid, match="nothing there"):
        await settled(lambda: ask(transfers, work))

    assert await settled(lambda: ask(transfers, work)) == "done"


async def test_one_that_is_cancelled_is_over_at_once_and_may_begin_anew(
    transfers: Transfers,
) -> None:
    work = Work()
    await ask(transfers, work)
    await asyncio.sleep(0)

    await transfers.cancel("it")
    await transfers.cancel("another, that was never there")

    assert work.was_cancelled
    work.go_on.set()
    assert await settled(lambda: ask(transfers, work)) == "done"
    assert work.begun == 2


async def test_closing_ends_all_of_them(transfers: Transfers) -> None:
    works = [Work() for _ in range(3)]
    for number, work in enumerate(works):
        await transfers.finish(str(number), "Storing", work.run)
    await asyncio.sleep(0)

    await transfers.close()

    assert all(work.was_cancelled for work in works)
