"""The keeper of visualization jobs: finds out when they answer, and brings them what they show.

A TensorBoard reads its own job folder only. The results are copied there, with what jobs write that
still run, and looked at again while it runs. Asking and copying go on beside the looks: one that is
slow holds up nobody. Whoever changes a job meanwhile wins; the next look sees it.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import structlog

from muster.domain.errors import MusterError, StaleWrite, StoreUnavailable
from muster.domain.jobfolder import channel_folder, data_folder, fetched_folder, output_folder
from muster.domain.phase import FINISHED, STOPPABLE, Event, Phase, Reason
from muster.domain.visualization import START_MS_MAX, Visualization
from muster.objects.store import ObjectStore, Progress
from muster.objects.url import parse_url
from muster.proxy.endpoint import read_endpoint
from muster.reconciler.act import MUSTER
from muster.reconciler.eventfiles import EventFiles, Source
from muster.reconciler.lastwords import read_last_words, read_start
from muster.reconciler.programclient import program_client
from muster.reconciler.rounds import Rounds
from muster.store import moves, visualizations, workloads
from muster.store.database import Database
from muster.store.transaction import Transaction
from muster.store.visualizations import Writer

log = structlog.get_logger()

COPY_SECONDS: Final = 5.0  # between two looks for more results
COPY_REST_FACTOR: Final = 20  # times as long as the last of them took, at least
ANSWER_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Known:
    """What is known of one attempt so far."""

    attempt_id: str
    files: EventFiles
    answers: bool = False
    is_copied: bool = False
    copies_at: float = float("-inf")  # when it is time to
    trouble: str = ""  # why there is no newer copy
    work: "dict[str, asyncio.Task[None]]" = field(default_factory=dict)  # under way, by its kind


@dataclass(slots=True)
class VisualizationKeeper:
    """Keeps what is known of every visualization job up to date, until it is cancelled."""

    database: Database
    objects: ObjectStore
    jobs_folder: Path
    clock_ms: Callable[[], int]
    _rounds: Rounds = field(default_factory=lambda: Rounds("visualization jobs"))
    _known: dict[int, _Known] = field(default_factory=dict)  # by visualization job
    _http: httpx.AsyncClient | None = None

    def on(self, database: Database) -> "VisualizationKeeper":
        """One that has asked nobody yet, on another view of the store."""
        return VisualizationKeeper(
            database=database,
            objects=self.objects,
            jobs_folder=self.jobs_folder,
            clock_ms=self.clock_ms,
        )

    def wake(self) -> None:
        """Look at once. Called in the event loop."""
        self._rounds.wake()

    async def run(self) -> None:
        """Look after look, until cancelled."""
        async with program_client(timeout_seconds=ANSWER_SECONDS) as self._http:
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
            except StoreUnavailable:
                raise  # the others would meet the same
            except Exception:  # the others are to be kept, whatever is the matter with this one
                log.exception("visualization_not_kept", job_id=one.id)
        return is_quick

    def _forget(self, gone: set[int]) -> None:
        for id_ in gone:
            known = self._known.pop(id_)
            known.files.is_over = True
            for task in known.work.values():
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
            files = EventFiles(data_folder(self.jobs_folder / one.attempt_id))
            known = self._known[one.id] = _Known(one.attempt_id, files)
        if time.monotonic() >= known.copies_at:
            self._begin(known, "copy", partial(self._copy, one, known))
        if one.is_answering:
            await self._note(one, note=known.trouble)
            return False
        if known.answers and known.is_copied:
            await self._note(one, answered=one.attempt_id)
            log.info("visualization_answers", job_id=one.id)
            return False
        if not known.answers:
            self._begin(known, "ask", partial(self._ask, one, known))
        folder = self.jobs_folder / one.attempt_id
        if self.clock_ms() >= (one.started_at_ms or 0) + START_MS_MAX:
            said = await asyncio.to_thread(read_last_words, folder)
            await self.database.write(_give_up, one, said, self.clock_ms())
            return False
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
        self._forget({one.id} & self._known.keys())
        if one.attempt_id is not None:
            copies = fetched_folder(self.jobs_folder / one.attempt_id)
            await asyncio.to_thread(shutil.rmtree, copies, ignore_errors=True)
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
        """Bring what is new, of jobs that run and of results."""
        began_at = time.monotonic()
        try:
            known.trouble = await self._bring(one, known.files)
        except MusterError as error:
            known.trouble = error.message
        except OSError as error:
            known.trouble = f"Its results cannot be copied: {error.strerror or error}."
        # With what there is it can be looked at, whatever is the matter with the rest.
        known.is_copied = True
        took_seconds = time.monotonic() - began_at
        known.copies_at = time.monotonic() + max(COPY_SECONDS, COPY_REST_FACTOR * took_seconds)
        self.wake()

    async def _bring(self, one: Visualization, files: EventFiles) -> str:
        """Returns why not everything is there; "": it is.

        Raises:
            MusterError, OSError: the results are not.
        """
        writers = await self.database.read(
            visualizations.list_writers, one.project_id, one.train_url
        )
        url = parse_url(one.train_url, field="train_url")
        sources = [Source(folder=self._folder_of(writer), place=writer.place) for writer in writers]
        if await self.objects.find(url, field="train_url") is not None:
            folder = await self.objects.fetch(
                url, files.target, field="train_url", progress=Progress()
            )
            if folder != files.target:
                sources.append(Source(folder=folder.resolve()))
        return await asyncio.to_thread(files.bring, sources)

    def _folder_of(self, writer: Writer) -> Path:
        """Where a job writes what is to be shown, until it ends."""
        folder = self.jobs_folder / writer.attempt_id
        output = channel_folder(folder, writer.output) if writer.output else output_folder(folder)
        return output / writer.part


def _give_up(tx: Transaction, one: Visualization, said: str, now_ms: int) -> None:
    """It would hold its node for good. Its log may say why it does not come up."""
    workload = workloads.get_workload(tx.connection, one.workload_id)
    if workload.phase not in STOPPABLE or workload.attempt_id != one.attempt_id:
        raise StaleWrite(f"Visualization job {one.id} was changed meanwhile.")
    why = f"It did not answer within {START_MS_MAX // 60_000} minutes."
    moves.move_workload(
        tx,
        workload,
        Event.STOP_ASKED,
        now_ms=now_ms,
        actor=MUSTER,
        reason=Reason.AUTO_STOPPED,
        message=f"{why} The end of its log:\n{said}" if said else why,
    )


def _write(tx: Transaction, changed: Visualization) -> None:
    """Raises StaleWrite unless the job is as it was looked at."""
    fresh = visualizations.get_visualization(tx.connection, changed.project_id, changed.id)
    if fresh.workload_id != changed.workload_id or fresh.attempt_id != changed.attempt_id:
        raise StaleWrite(f"Visualization job {changed.id} was changed meanwhile.")
    visualizations.update_visualization(tx, changed)
