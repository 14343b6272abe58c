"""What is done now and then: ended jobs are counted, old ones archived, unused code is dropped.

Small steps with rests between them: nobody waits for a sweep for more than a few milliseconds. Each
step may be done twice, and a server that dies between two of them leaves nothing half done.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from muster.domain.errors import StaleWrite, StoreUnavailable
from muster.engines.attemptfiles import remove_work
from muster.objects.store import ObjectStore
from muster.reconciler.learning import NameLearner
from muster.reconciler.resting import REST_SECONDS, RestingWriter
from muster.reconciler.settling import Settler
from muster.store import archive
from muster.store.archive import Due
from muster.store.database import Database

log = structlog.get_logger()

SWEEP_SECONDS: Final = 60.0  # between two looks for jobs that have become old
SNAPSHOT_SWEEP_SECONDS: Final = 3_600.0
CHUNK_WORKLOADS: Final = 200  # read and packed together, in a thread
BATCH_ROWS: Final = 100  # that one transaction changes: about 2 ms
SNAPSHOT_IDLE_SECONDS: Final = 86_400  # a submit that took one has long been stored, or refused


@dataclass(slots=True)
class Sweeper:
    """Archives what ended long ago, and drops snapshots of code without a workload."""

    database: Database
    objects: ObjectStore
    jobs_folder: Path
    clock_ms: Callable[[], int]
    archive_after_ms: int | None  # None: never
    rest_seconds: float = REST_SECONDS
    is_failing: bool = False
    _snapshots_at: float = field(default=float("-inf"))

    def on(self, database: Database) -> "Sweeper":
        """The same on another view of the store."""
        return replace(self, database=database)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self._sweep_and_survive()
            await asyncio.sleep(SWEEP_SECONDS)

    async def _sweep_and_survive(self) -> None:
        try:
            await NameLearner(database=self.database).learn_due()
            await Settler(database=self.database).settle_due()
            await self.archive_due()
            if time.monotonic() > self._snapshots_at + SNAPSHOT_SWEEP_SECONDS:
                await self.drop_snapshots()
                self._snapshots_at = time.monotonic()
        except (StoreUnavailable, StaleWrite, OSError) as error:
            if not self.is_failing:
                log.warning("sweeping_paused", why=str(error))
            self.is_failing = True
        except Exception:  # the next sweep may be fine
            log.exception("sweep_failed")
        else:
            self.is_failing = False

    async def archive_due(self) -> int:
        """Archive every workload that ended long enough ago; return how many."""
        if self.archive_after_ms is None:
            return 0
        ended_before_ms = self.clock_ms() - self.archive_after_ms
        count = 0
        while due := await self.database.scan(
            archive.list_due, ended_before_ms=ended_before_ms, limit=CHUNK_WORKLOADS
        ):
            # First: after a crash they are due again, and what is left in their folders goes then.
            await asyncio.to_thread(self._remove_work, due)
            done = 0
            for batch in batches(due):
                done += await self._archive(batch)
            count += done
            if not done:
                break  # whatever overtook all of them: the next sweep sees them as they are then
        if count:
            log.info("workloads_archived", count=count)
        return count

    async def _archive(self, batch: Sequence[Due]) -> int:
        writer = RestingWriter(self.database, self.rest_seconds)
        return await writer.write(archive.archive_workloads, batch)

    def _remove_work(self, due: Sequence[Due]) -> None:
        for one in due:
            for attempt_id in one.attempt_ids:
                remove_work(self.jobs_folder / attempt_id)

    async def drop_snapshots(self, *, idle_seconds: float = SNAPSHOT_IDLE_SECONDS) -> int:
        """Drop the snapshots of code that no workload was made from; return how many.

        One that was taken after this began to look is kept: it counts as just used, and so does
        one whose workload is not stored yet.
        """
        began_at = time.time()
        await asyncio.to_thread(self.objects.snapshots.drop_remnants, idle_seconds=idle_seconds)
        idle = await asyncio.to_thread(
            self.objects.snapshots.list_unused, idle_seconds=idle_seconds
        )
        dropped = []
        for start in range(0, len(idle), CHUNK_WORKLOADS):
            digests = idle[start : start + CHUNK_WORKLOADS]
            used = await self.database.read_fresh(archive.used_snapshots, digests)
            for digest in digests:
                # Idle since before the look at the store, not only since now.
                since_seconds = idle_seconds + (time.time() - began_at)
                if digest not in used and await asyncio.to_thread(
                    self.objects.snapshots.drop, digest, idle_seconds=since_seconds
                ):
                    dropped.append(digest)
            await self.database.write(archive.forget_snapshots, digests)
        if dropped:
            log.info("snapshots_dropped", count=len(dropped))
        return len(dropped)


def batches(due: Sequence[Due]) -> Iterator[list[Due]]:
    """In their order, each of so few rows that a transaction is short. At least one a batch."""
    batch: list[Due] = []
    rows = 0
    for one in due:
        if batch and rows + one.row_count > BATCH_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(one)
        rows += one.row_count
    if batch:
        yield batch
