"""How often services are called: counted here, and written to the store now and then.

A server that is killed loses the counts of the last seconds.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from muster.domain.errors import StoreUnavailable
from muster.store import service_records
from muster.store.database import Database
from muster.store.service_records import Calls

log = structlog.get_logger()

FLUSH_SECONDS: Final = 5.0

Key = tuple[int, str]  # a service, and a model of it


class CallCounts:
    """Belongs to one event loop."""

    def __init__(self, database: Database, clock_ms: Callable[[], int]) -> None:
        self._database = database
        self._clock_ms = clock_ms
        self._calls: dict[Key, Calls] = {}
        self._being_written: dict[Key, Calls] = {}
        self._flushing = asyncio.Lock()
        self._minutes: dict[int, Counter[int]] = {}  # by minute of the clock, then by service

    def add(self, service_id: int, model_id: str, *, is_failure: bool) -> None:
        key = (service_id, model_id)
        self._calls[key] = self._calls.get(key, Calls()) + Calls(1, int(is_failure))
        minute = self._clock_ms() // 60_000
        if minute not in self._minutes:
            before = self._minutes.get(minute - 1, Counter())
            self._minutes = {minute - 1: before, minute: Counter()}
        self._minutes[minute][service_id] += 1

    def unwritten(self) -> Mapping[Key, Calls]:
        """What has been counted here and is not in the store yet."""
        return _sum(self._calls, self._being_written)

    def per_minute(self, service_id: int) -> int:
        """Of the last whole minute, or of this one where that has more; by this server."""
        minute = self._clock_ms() // 60_000
        counted = (self._minutes.get(one, Counter()) for one in (minute - 1, minute))
        return max(count[service_id] for count in counted)

    async def flush(self) -> None:
        """Write what is counted to the store; what cannot be written is kept."""
        async with self._flushing:
            if not self._calls:
                return
            self._being_written, self._calls = self._calls, {}
            try:
                await self._database.write(service_records.add_calls, self._being_written)
            except StoreUnavailable as error:
                log.debug("calls_not_written", why=error.message)
                self._calls = _sum(self._calls, self._being_written)
            finally:
                self._being_written = {}


def _sum(one: Mapping[Key, Calls], other: Mapping[Key, Calls]) -> dict[Key, Calls]:
    return {key: one.get(key, Calls()) + other.get(key, Calls()) for key in {*one, *other}}
