"""The rhythm of a keeper: it looks, rests, and looks again, whatever a look comes to."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from muster.domain.errors import StaleWrite, StoreUnavailable

log = structlog.get_logger()

REST_SECONDS: Final = 1.0
QUICK_REST_SECONDS: Final = 0.1  # while something is about to come up: its user waits
GATHER_SECONDS: Final = 0.02  # what happens together is looked at together
REST_FACTOR: Final = 4  # times as long as the last look took, at least: other work wakes it, too

PASSING: Final = (StaleWrite, StoreUnavailable)  # nothing has changed; the next look retries


@dataclass(slots=True)
class Rounds:
    """Look after look. Belongs to one event loop."""

    kept: str  # what is kept, for the log
    is_failing: bool = False
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Let the next look come at once. Called in the event loop."""
        self._wake.set()

    async def run(self, look_once: Callable[[], Awaitable[bool]]) -> None:
        """Until it is cancelled.

        Args:
            look_once: returns whether something is about to come up.
        """
        while True:
            self._wake.clear()
            began_at = time.monotonic()
            is_quick = await self._look_and_survive(look_once)
            took_seconds = time.monotonic() - began_at
            with suppress(TimeoutError):
                async with asyncio.timeout(QUICK_REST_SECONDS if is_quick else REST_SECONDS):
                    await self._wake.wait()
            await asyncio.sleep(max(GATHER_SECONDS, took_seconds * REST_FACTOR))

    async def _look_and_survive(self, look_once: Callable[[], Awaitable[bool]]) -> bool:
        try:
            is_quick = await look_once()
        except PASSING as error:
            if not self.is_failing:
                log.warning("keeper_paused", kept=self.kept, why=error.message)
            self.is_failing = True
            return False
        except Exception:  # the next look may be fine, and everything that is kept needs it
            log.exception("keeper_failed", kept=self.kept)
            return False
        self.is_failing = False
        return is_quick
