"""What the store has said a moment ago, and what it is being asked: once for all who wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

REMEMBER_SECONDS: Final = 2.0
REMEMBERED_MAX: Final = 10_000


class Remembered(Generic[K, V]):
    """Answers by key, each for REMEMBER_SECONDS.

    One that many clients need is too old for all of them at once: the first of them asks.

    Args:
        read: gets the answer. What it raises, everybody who waits is raised; nothing is remembered.
    """

    def __init__(self, read: Callable[[K], Awaitable[V]]) -> None:
        self._read = read
        self._known: dict[K, tuple[V, float]] = {}  # and until when
        self._reading: dict[K, asyncio.Task[V]] = {}

    def find(self, key: K) -> V | None:
        """What is remembered; None: nothing, or it is too old."""
        known = self._known.get(key)
        return known[0] if known is not None and known[1] >= time.monotonic() else None

    async def get(self, key: K) -> V:
        """What is remembered, else what the store says now."""
        known = self._known.get(key)
        if known is not None and known[1] >= time.monotonic():
            return known[0]
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read_and_keep(key))
        return await asyncio.shield(reading)  # who goes away takes it from nobody else

    async def _read_and_keep(self, key: K) -> V:
        this = asyncio.current_task()
        try:
            value = await self._read(key)
        except BaseException:
            if self._reading.get(key) is this:
                self.forget(key)
            raise
        # Else it was forgotten meanwhile, and this may be what had been true before.
        if self._reading.get(key) is this:
            del self._reading[key]
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[key] = value, time.monotonic() + REMEMBER_SECONDS
        return value

    def forget(self, key: K) -> None:
        """Who asks from now on gets what is true from now on."""
        self._known.pop(key, None)
        self._reading.pop(key, None)

    def forget_all(self) -> None:
        self._known.clear()
        self._reading.clear()
