"""The rhythm of keepers: what fails is looked at again, what is told is looked at soon."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from muster.domain.errors import StoreUnavailable
from muster.reconciler import rounds
from muster.reconciler.rounds import Rounds


@asynccontextmanager
async def going(kept: Rounds, look_once: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
    task = asyncio.create_task(kept.run(look_once))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.asyncio
@pytest.mark.timeout(300)
@pytest.mark.parametrize("error", [StoreUnavailable("away"), ZeroDivisionError()])
async def test_a_look_that_fails_is_followed_by_another(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(rounds, "REST_SECONDS", 0.01)
    looks = 0
    enough = asyncio.Event()

    async def look_once() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise error
        enough.set()
        return False

    kept = Rounds("things")
    async with going(kept, look_once):
        await enough.wait()

    assert not kept.is_failing


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_what_is_told_while_it_rests_is_looked_at_before_the_rest_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "REST_SECONDS", 3_600)
    looked: asyncio.Queue[None] = asyncio.Queue()

    async def look_once() -> bool:
        looked.put_nowait(None)
        return False

    kept = Rounds("things")
    async with going(kept, look_once):
        await looked.get()
        kept.wake()
        await looked.get()

    assert looked.empty()
