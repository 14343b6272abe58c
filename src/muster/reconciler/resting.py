"""Writes of what is done now and then: after each, others have the writer to themselves."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, Final, ParamSpec, TypeVar

from muster.store.database import Database
from muster.store.transaction import Transaction

P = ParamSpec("P")
T = TypeVar("T")

REST_SECONDS: Final = 0.02  # the least between two transactions
REST_FACTOR: Final = 3  # times as long as the last one took: a sweep has a quarter of the writer


@dataclass(frozen=True, slots=True)
class RestingWriter:
    """Writes to a store, and rests."""

    database: Database
    rest_seconds: float = REST_SECONDS  # 0.0: not at all

    async def write(
        self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `Database.write`; returns after the rest."""
        began_at = time.monotonic()
        result = await self.database.write(work, *args, **kwargs)
        if self.rest_seconds:
            took_seconds = time.monotonic() - began_at
            await asyncio.sleep(max(self.rest_seconds, took_seconds * REST_FACTOR))
        return result
