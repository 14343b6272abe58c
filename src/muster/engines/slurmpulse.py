"""Whether Slurm answers, since when it does not, and what it said last."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Final

import structlog

from muster.domain.errors import EngineUnavailable

SILENCE_SECONDS: Final = 15.0  # without an answer, until its nodes count as down
REST_SECONDS_MAX: Final = 8.0  # one slow answer is no reason to take Slurm for silent
_HINT: Final = "Is its controller up? `scontrol ping` tells."

log = structlog.get_logger()


@dataclass(slots=True)
class Pulse:
    """Times are monotonic."""

    since: float = field(default_factory=time.monotonic)  # the first answer is waited for
    answered_at: float | None = None
    trouble: str = ""  # what the last call came to; "": it was answered

    def note_answer(self) -> None:
        if self.trouble:
            log.info("slurm_back")
        self.answered_at, self.trouble = time.monotonic(), ""

    def note_trouble(self, why: str) -> None:
        if not self.trouble:
            log.warning("slurm_away", why=why)
        self.trouble = why

    async def watch(
        self, step: Callable[[], Coroutine[None, None, None]], pause: float, share: float
    ) -> None:
        """Take a step again and again, until cancelled.

        Args:
            step: a look at something; one that fails is made again.
            pause: between two of them, in seconds; at least ...
            share: ... so many times as long as the last one took.
        """
        while True:
            began = time.monotonic()
            next_seconds = pause
            try:
                await step()
                rest_seconds = min(share * (time.monotonic() - began), REST_SECONDS_MAX)
                next_seconds = max(pause, rest_seconds)
            except EngineUnavailable as error:
                self.note_trouble(error.message)
            except Exception:  # a look that fails must not be the last one
                log.exception("slurm_engine_look_failed")
            await asyncio.sleep(next_seconds)

    @property
    def silence(self) -> str:
        """What is wrong with Slurm, for people; "" while it answers."""
        quiet = time.monotonic() - (self.answered_at or self.since)
        if quiet < SILENCE_SECONDS:
            return ""
        return f"Slurm has not answered for {_span(quiet)}. {self.trouble or _HINT}"


def _span(seconds: float) -> str:
    """In steps: every node's row says it, and is written again with each."""
    if seconds < 60:
        return f"{math.floor(seconds / SILENCE_SECONDS) * SILENCE_SECONDS:g} s"
    minutes = math.floor(seconds / 60)
    return f"{minutes} minute{'' if minutes == 1 else 's'}"
