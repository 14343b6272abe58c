"""What is being fetched into job folders, or stored out of them, beside the passes.

A transfer may take hours; an action that a pass has set going may not, or a job could not even be
stopped meanwhile. So an action begins a transfer, and later passes ask what became of it. A server
that is killed loses nothing but the knowledge of it: the next one begins it again, and finds what
has been transferred.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import structlog

from muster.domain.errors import StoreUnavailable
from muster.objects.store import Progress

log = structlog.get_logger()

QUICK_SECONDS: Final = 0.2  # a transfer of few bytes is done within the action that begins it
TELL_SECONDS: Final = 5.0  # between two words about the progress of one transfer
RETRY_SECONDS: Final = 1.0  # after the first failure; twice as long after each further one
RETRY_SECONDS_MAX: Final = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NotYet:
    """It is under way, or waits to be tried again."""

    news: str | None = None  # for people; None: nothing that was not told lately
    is_carried: bool = False  # by a node of the job, which it holds meanwhile


@dataclass(slots=True)
class _Transfer(Generic[T]):
    task: "asyncio.Task[T] | None" = None  # None: it waits to be tried again
    progress: Progress = field(default_factory=Progress)
    failures: int = 0
    trouble: str = ""
    again_at: float = 0.0
    told_at: float = float("-inf")


class Transfers:
    """Transfers by key. Every method is for the event loop."""

    def __init__(self) -> None:
        self.on_end: Callable[[], None] = lambda: None  # called whenever one ends
        self._known: dict[str, _Transfer[Any]] = {}

    async def finish(
        self, key: str, what: str, begin: Callable[[Progress], Coroutine[Any, Any, T]]
    ) -> T | NotYet:
        """The result of a transfer, once it has one. The first call begins it.

        Args:
            key: of the transfer.
            what: is being done; for people.
            begin: makes the transfer. It is run again when it fails in a passing way.

        Raises:
            MusterError: the transfer has failed for good; the next call begins it anew.
        """
        transfer: _Transfer[T] = self._known.setdefault(key, _Transfer())
        loop = asyncio.get_running_loop()
        if transfer.task is None:
            if loop.time() < transfer.again_at:
                return NotYet()
            transfer.task = loop.create_task(begin(transfer.progress))
            transfer.task.add_done_callback(lambda _: self.on_end())
            await asyncio.wait({transfer.task}, timeout=QUICK_SECONDS)
        if not transfer.task.done():
            return self._news(transfer, what)
        try:
            result = transfer.task.result()
        except (StoreUnavailable, OSError) as error:
            return self._failed(transfer, what, error)
        except BaseException:
            self._known.pop(key, None)
            raise
        self._known.pop(key, None)
        return result

    def _news(self, transfer: _Transfer[T], what: str) -> NotYet:
        now = asyncio.get_running_loop().time()
        done = transfer.progress
        if now < transfer.told_at + TELL_SECONDS:
            return NotYet(is_carried=done.is_carried)
        transfer.told_at = now
        return NotYet(
            f"{what}: {done.file_count} files, {done.byte_count / 2**20:.1f} MiB so far.",
            is_carried=done.is_carried,
        )

    def _failed(
        self, transfer: _Transfer[T], what: str, error: "StoreUnavailable | OSError"
    ) -> NotYet:
        now = asyncio.get_running_loop().time()
        transfer.task = None
        wait_seconds = min(RETRY_SECONDS * 2**transfer.failures, RETRY_SECONDS_MAX)
        transfer.failures = min(transfer.failures + 1, 30)  # 2 to its power stays a number
        transfer.again_at = now + wait_seconds
        trouble = error.message if isinstance(error, StoreUnavailable) else f"{error}."
        news = None
        if trouble != transfer.trouble:
            log.warning("transfer_failed", what=what, why=trouble)
            news = f"{what} has failed and is tried again: {trouble}"
        transfer.trouble, transfer.told_at = trouble, now
        return NotYet(news)

    async def cancel(self, key: str) -> None:
        """End a transfer, if it is under way, and forget it."""
        transfer = self._known.pop(key, None)
        if transfer is not None and transfer.task is not None:
            transfer.task.cancel()
            await asyncio.wait({transfer.task})

    async def close(self) -> None:
        """End all of them. What has been transferred stays."""
        for key in list(self._known):
            await self.cancel(key)
