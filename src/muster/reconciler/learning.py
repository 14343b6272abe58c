"""Learns the names of the jobs of large workspaces: see `store/nameparts.py`.

Few names at a time, with rests in between: others wait for a write of it some milliseconds.
"""

from dataclasses import dataclass
from typing import Final

from muster.reconciler.resting import REST_SECONDS, RestingWriter
from muster.store import nameparts
from muster.store.database import Database
from muster.store.nameparts import Place

BATCH_NAMES: Final = 512  # of one transaction: about 10 ms


@dataclass(slots=True, kw_only=True)
class NameLearner:
    """Keeps what is known of names near what there is."""

    database: Database
    names_min: int = nameparts.NAMES_MIN
    stretch_names: int = nameparts.STRETCH_NAMES
    batch_names: int = BATCH_NAMES
    rest_seconds: float = REST_SECONDS

    @property
    def _writer(self) -> RestingWriter:
        return RestingWriter(self.database, self.rest_seconds)

    async def learn_due(self) -> int:
        """Learn the names that have come since; return how many."""
        count = 0
        places = await self.database.scan(nameparts.list_large_places, names_min=self.names_min)
        for place, name_count in places.items():
            stretch_names = max(self.stretch_names, name_count // nameparts.STRETCHES)
            count += await self._learn(place, stretch_names)
        return count

    async def _learn(self, place: Place, stretch_names: int) -> int:
        if await self.database.scan(nameparts.read_names, place) is None:
            await self._writer.write(nameparts.begin, place)
        count = 0
        while learnt := await self._writer.write(
            nameparts.learn_next,
            place,
            limit=self.batch_names,
            stretch_names=stretch_names,
        ):
            count += learnt
            if learnt < self.batch_names:
                break
        return count
