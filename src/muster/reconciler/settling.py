"""Counts ended rows of long lists by stretches of their orders: see `store/keyblocks.py`.

Few rows at a time, with rests in between: others wait for a write of it some milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from muster.reconciler.resting import REST_SECONDS, RestingWriter
from muster.store import keyblocks
from muster.store.database import Database
from muster.store.paging.ranked import is_worth_counting_anew, unsettled_total
from muster.store.paging.scope import Scope
from muster.store.paging.totals import total_of

DUE_ROWS: Final = 4_096  # behind the mark: fewer are read and sorted for a page in some 5 ms
BATCH_ROWS: Final = 512  # of one transaction: about 15 ms
BATCHES_BETWEEN_SPLITS: Final = 16  # of which a stretch may become half again as long as it should


@dataclass(slots=True, kw_only=True)
class Settler:
    """Keeps the counts of long lists near what there is."""

    database: Database
    rows_min: int = keyblocks.ROWS_MIN
    stretch_rows: int = keyblocks.STRETCH_ROWS
    due_rows: int = DUE_ROWS
    batch_rows: int = BATCH_ROWS
    rest_seconds: float = REST_SECONDS

    @property
    def _writer(self) -> RestingWriter:
        return RestingWriter(self.database, self.rest_seconds)

    async def settle_due(self) -> int:
        """Settle what has gathered in each list; return how many rows."""
        count = 0
        for place in await self.database.scan(keyblocks.list_large_places, rows_min=self.rows_min):
            if await self.database.scan(is_worth_counting_anew, place):
                count += await self._count_anew(place)
            await self._settle(keyblocks.settle_gone, place)
            count += await self._settle(keyblocks.settle_unsettled, place)
            if await self.database.scan(unsettled_total, place) >= self.due_rows:
                count += await self._settle(keyblocks.settle_next, place)
            await self._split(place)
        return count

    async def _count_anew(self, place: Scope) -> int:
        """Whatever is counted: drop it, and count all that there is."""
        await self._writer.write(keyblocks.forget, place)
        for key in keyblocks.SORTS[place.table]:
            await self._writer.write(keyblocks.forget_order, place, key)
        await self._writer.write(keyblocks.begin, place)
        for key in keyblocks.SORTS[place.table]:
            pieces = await self.database.scan(
                keyblocks.count_order, place, key, stretch_rows=self.stretch_rows
            )
            for first in range(0, len(pieces), keyblocks.PIECES_OF_WRITE):
                some = pieces[first : first + keyblocks.PIECES_OF_WRITE]
                await self._writer.write(keyblocks.write_pieces, place, key, first, some)
        await self._writer.write(keyblocks.make_ready, place)
        return await self.database.scan(total_of, place)

    async def _settle(self, settle: Callable[..., int], place: Scope) -> int:
        """Until there is less than a batch: what comes meanwhile is for the next sweep."""
        orders = await self.database.scan(keyblocks.read_orders, place)
        count = batches = 0
        settled = self.batch_rows
        while settled == self.batch_rows:
            settled = await self._writer.write(settle, place, orders, limit=self.batch_rows)
            count += settled
            batches += 1
            if batches % BATCHES_BETWEEN_SPLITS == 0:
                await self._split(place)
                orders = await self.database.scan(keyblocks.read_orders, place)
        return count

    async def _split(self, place: Scope) -> None:
        for split in await self.database.scan(
            keyblocks.plan_splits, place, stretch_rows=self.stretch_rows
        ):
            await self._writer.write(keyblocks.write_split, place, split)
