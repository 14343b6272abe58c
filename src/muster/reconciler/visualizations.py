"""The keeper of visualization jobs: finds out when they answer, and brings them their results.

Where the object store is near, a TensorBoard reads what lies there. Else the results are copied
into its job folder, and looked at again while it runs. Asking and copying go on beside the looks:
one that is slow holds up nobody. Whoever changes a job meanwhile wins; the next look sees it.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import structlog

from muster.domain.errors import MusterError, StaleWrite
from muster.domain.jobfolder import data_folder
from muster.domain.phase import FINISHED, Phase
from muster.domain.visualization import Visualization
from muster.objects.store import ObjectStore, Progress
from muster.objects.url import parse_url
from muster.proxy.endpoint import read_endpoint
from muster.reconciler.lastwords import read_last_words, read_start
from muster.reconciler.rounds import Rounds
from muster.store import visualizations
from muster.store.database import Database
from muster.store.transaction import Transaction

log = structlog.get_logger()

COPY_SECONDS: Final = 10.0  # between two looks for more results, where they are copied
ANSWER_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Known:
    """What is known of one attempt so far."""

    attempt_id: str
    answers: bool = False
    is_copied: bool = False
    copied_at: float = float("-inf")
    trouble: str = ""  # why there is no newer copy
    work: "dict[str, asyncio.Task[None]]" = field(default_factory=dict)  # under way, by its kind


@dataclass(slots=True)
class VisualizationKeeper:
    """Keeps what is known of every visualization job up to date, until it is cancelled."""

    database: Database
    objects: ObjectStore
    jobs_folder: Path
    _rounds: Rounds = field(default_factory=lambda: Rounds("visualization jobs"))
    _known: dict[int, _Known] = field(default_factory=dict)  # by visualization job
    _http: httpx.AsyncClient | None = None

    def on(self, database: Database) -> "VisualizationKeeper":
        """One that has asked nobody yet, on another view of the store."""
        return VisualizationKeeper(
            database=database, objects=self.objects, jobs_folder=self.jobs_folder
        )

    def wake(self) -> None:
        """Look at once. Called in the event loop."""
        self._rounds.wake()

    async def run(self) -> None:
        """Look after look, until cancelled."""
        # Never through a proxy that somebody has set for the rest of the world.
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as self._http:
            try:
                await self._rounds.run(self.look_once)
            finally:
                self._forget(set(self._known))

    async def look_once(self) -> bool:
        """Note what is new of every job; whether one of them is about to come up."""
        watched = await self.database.read(visualizations.list_watched)
        self._forget(self._known.keys() - {one.id for one in watched})
        is_quick = False
        for one in watched:
            try:
                is_quick |= await self._keep(one)
            except StaleWrite:
                is_quick = True
        return is_quick

    def _forget(self, gone: set[int]) -> None:
        for id_ in gone:
            for task in self._known.pop(id_).work.values():
                task.cancel()

    async def _keep(self, one: Visualization) -> bool:
        """Note what is new of one; whether it is about to come up."""
        if one.phase is None or one.phase in FINISHED:
            await self._end(one)
            return False
        if one.phase is not Phase.RUNNING or one.attempt_id is None:
            return False
        known = self._known.get(one.id)
        if known is None or known.attempt_id != one.attempt_id:
            self._forget({one.id} & self._known.keys())
            known = self._known[one.id] = _Known(one.attempt_id)
        if not self.objects.is_near and time.monotonic() >= known.copied_at + COPY_SECONDS:
            self._begin(known, "copy", partial(self._copy, one, known))
        if one.is_answering:
            await self._note(one, note=known.trouble)
            return False
        is_there = known.answers and (self.objects.is_near or known.is_copied)
        if is_there:
            await self._note(one, answered=one.attempt_id)
            log.info("visualization_answers", job_id=one.id)
            return False
        if not known.answers:
            self._begin(known, "ask", partial(self._ask, one, known))
        folder = self.jobs_folder / one.attempt_id
        note, _ = await asyncio.to_thread(read_start, folder)
        await self._note(one, note=known.trouble or note)
        return True

    def _begin(
        self, known: _Known, kind: str, work: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        """Let it go on beside the looks, unless it does already."""
        if kind not in known.work:
            task = known.work[kind] = asyncio.create_task(work())
            task.add_done_callback(lambda _: known.work.pop(kind, None))

    async def _end(self, one: Visualization) -> None:
        """It needs nobody any more; the end of its log tells why, where it was no wish."""
        note = ""
        if one.attempt_id is not None and one.phase is Phase.FAILED:
            folder = self.jobs_folder / one.attempt_id
            _, failure = await asyncio.to_thread(read_start, folder)
            note = failure or await asyncio.to_thread(read_last_words, folder)
        await self._note(one, note=note, is_watched=False)

    async def _note(self, one: Visualization, **changes: str | bool) -> None:
        changed = replace(one, **changes)  # type: ignore[arg-type]  # fields of it
        if changed != one:
            await self.database.write(_write, changed)

    async def _ask(self, one: Visualization, known: _Known) -> None:
        """Find out whether it answers."""
        assert self._http is not None
        endpoint = read_endpoint(self.jobs_folder / known.attempt_id)
        if endpoint is None:
            return
        host, port = endpoint
        try:
            reply = await self._http.get(f"http://{host}:{port}{one.base_path}/")
        except httpx.HTTPError:
            return
        if reply.status_code == 200:
            known.answers = True
            self.wake()

    async def _copy(self, one: Visualization, known: _Known) -> None:
        """Bring what is new of its results; a file is replaced once the new one is whole."""
        target = data_folder(self.jobs_folder / known.attempt_id)
        try:
            url = parse_url(one.train_url, field="train_url")
            await self.objects.fetch(url, target, field="train_url", progress=Progress())
            known.trouble = ""
        except MusterError as error:
            known.trouble = error.message
        except OSError as error:
            known.trouble = f"Its results cannot be copied: {error.strerror or error}."
        # With what there is it can be looked at, whatever is the matter with the rest.
        known.is_copied = True
        known.copied_at = time.monotonic()
        self.wake()


def _write(tx: Transaction, changed: Visualization) -> None:
    """Raises StaleWrite unless the job is as it was looked at."""
    fresh = visualizations.get_visualization(tx.connection, changed.project_id, changed.id)
    if fresh.workload_id != changed.workload_id or fresh.attempt_id != changed.attempt_id:
        raise StaleWrite(f"Visualization job {changed.id} was changed meanwhile.")
    visualizations.update_visualization(tx, changed)
