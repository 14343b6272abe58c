"""The keeper of notebooks: finds out when they answer, ends their leases, and clears them away.

One look is read, ask, plan, one guarded write a notebook. Asking goes on beside it: a notebook that
does not answer holds up nobody. Whoever changes a notebook meanwhile wins; the next look sees it.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import structlog

from muster.beneath import remove_tree
from muster.domain.errors import NotebookStateInvalid, StaleWrite, StoreUnavailable
from muster.domain.notebook import (
    COMING_UP,
    FILES_FOLDER,
    REASON_LENGTH_MAX,
    LeaseType,
    Notebook,
    NotebookEvent,
    NotebookStatus,
    next_status,
)
from muster.domain.phase import FINISHED, STOPPABLE, Event, Phase, Reason
from muster.proxy.endpoint import read_endpoint
from muster.reconciler.act import MUSTER
from muster.reconciler.lastwords import read_last_words, read_start
from muster.reconciler.mirror import forget_trouble, read_trouble
from muster.reconciler.notebookplan import Note, Remove, Seen, Step, plan_notebook
from muster.reconciler.programclient import program_client
from muster.reconciler.rounds import QUICK_REST_SECONDS, Rounds
from muster.store import moves, notebooks, workloads
from muster.store.database import Database
from muster.store.transaction import Transaction

log = structlog.get_logger()

IDLE_LOOK_SECONDS: Final = 20.0  # between two questions whether one answers, and is used
ANSWER_SECONDS: Final = 5.0
MISSES_MAX: Final = 3  # questions without an answer: then nothing is done in it either
NO_ANSWER: Final = "JupyterLab does not answer any more; its kernels may still be at work."
_ENDING: Final = frozenset(
    {NotebookStatus.STOPPING, NotebookStatus.DELETING, NotebookStatus.RUNNING, *COMING_UP}
)  # where it matters, once it is at rest, whether its files are stored

_OVERTAKEN: Final = (StaleWrite, NotebookStateInvalid)


@dataclass(slots=True)
class _Asked:
    """What asking one attempt has come to so far."""

    attempt_id: str
    server_version: str = ""
    last_active_ms: int = 0
    active_as_of_ms: int = 0
    misses: int = 0
    is_answered: bool = False  # since it is asked whether it is used
    at: float = float("-inf")
    asking: "asyncio.Task[None] | None" = None


@dataclass(slots=True)
class NotebookKeeper:
    """Keeps every notebook as it is asked to be, until it is cancelled."""

    database: Database
    jobs_folder: Path
    folder: Path  # a folder below it is each notebook's storage
    clock_ms: Callable[[], int]
    _rounds: Rounds = field(default_factory=lambda: Rounds("notebooks"))
    _asked: dict[int, _Asked] = field(default_factory=dict)  # by notebook
    _http: httpx.AsyncClient | None = None

    def on(self, database: Database) -> "NotebookKeeper":
        """One that has asked nobody yet, on another view of the store."""
        return NotebookKeeper(
            database=database,
            jobs_folder=self.jobs_folder,
            folder=self.folder,
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
                asking = [asked.asking for asked in self._asked.values() if asked.asking]
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)

    async def look_once(self) -> bool:
        """Bring every notebook one step on; whether one of them is about to come up."""
        live = await self.database.read(notebooks.list_live_notebooks)
        self._forget({notebook.id for notebook in live})
        is_quick = False
        for notebook in live:
            try:
                await self._keep(notebook)
            except StoreUnavailable:
                raise
            except _OVERTAKEN as error:
                log.debug("notebook_overtaken", notebook=notebook.uid, why=error.message)
                is_quick = True
            except Exception:  # one notebook's trouble must not stop the others
                log.exception("notebook_failed", notebook=notebook.uid)
            is_quick |= notebook.status in COMING_UP and notebook.phase is Phase.RUNNING
        return is_quick

    def _forget(self, there: set[int]) -> None:
        for notebook_id in self._asked.keys() - there:
            asking = self._asked.pop(notebook_id).asking
            if asking is not None:
                asking.cancel()

    async def _keep(self, notebook: Notebook) -> None:
        now_ms = self.clock_ms()
        self._ask(notebook)
        seen = await self._look_at(notebook)
        step = plan_notebook(notebook, seen, now_ms=now_ms)
        match step:
            case None:
                return
            case Remove():
                await self._remove(notebook)
            case Note():
                await self.database.write(_note, notebook, seen)
            case Step():
                await self.database.write(_move, notebook, seen, step, now_ms=now_ms)
                if seen.unstored and notebook.status is NotebookStatus.DELETING:
                    await asyncio.to_thread(forget_trouble, self._files_of(notebook))
                log.info(
                    "notebook_moved",
                    notebook=notebook.uid,
                    status=next_status(notebook.status, step.event),
                    reason=step.reason,
                )
                self.wake()

    # ------------------------------------------------------------ looking

    async def _look_at(self, notebook: Notebook) -> Seen:
        asked = self._asked.get(notebook.id)
        if asked is not None and asked.attempt_id != notebook.attempt_id:
            asked = None
        seen = Seen(
            server_version=asked.server_version if asked else "",
            note=_note_of(notebook, asked),
            last_active_ms=asked.last_active_ms if asked else 0,
            active_as_of_ms=asked.active_as_of_ms if asked else 0,
        )
        has_ended = notebook.phase in FINISHED
        if notebook.volume.uri and notebook.is_at_rest and notebook.status in _ENDING:
            unstored = await asyncio.to_thread(read_trouble, self._files_of(notebook))
            seen = replace(seen, unstored=unstored)
        if notebook.attempt_id is None or not (notebook.status in COMING_UP or has_ended):
            return seen
        folder = self.jobs_folder / notebook.attempt_id
        note, failure = await asyncio.to_thread(read_start, folder)
        last_words = await asyncio.to_thread(read_last_words, folder) if has_ended else ""
        return replace(seen, note=note or notebook.note, failure=failure, last_words=last_words)

    def _ask(self, notebook: Notebook) -> None:
        """Ask it what there is to know, if it is time; the answer shows in a later look."""
        attempt_id = notebook.attempt_id
        if attempt_id is None or notebook.phase is not Phase.RUNNING:
            return
        is_coming_up = notebook.status in COMING_UP
        if not is_coming_up and notebook.status is not NotebookStatus.RUNNING:
            return
        asked = self._asked.get(notebook.id)
        if asked is None or asked.attempt_id != attempt_id:
            self._forget(self._asked.keys() - {notebook.id})  # what an earlier start has told
            asked = self._asked[notebook.id] = _Asked(attempt_id)
        period = QUICK_REST_SECONDS if is_coming_up else IDLE_LOOK_SECONDS
        if asked.asking is None and time.monotonic() >= asked.at + period:
            asked.at = time.monotonic()
            asked.asking = asyncio.create_task(self._note_answer(asked, notebook))

    async def _note_answer(self, asked: _Asked, notebook: Notebook) -> None:
        try:
            if notebook.status in COMING_UP:
                asked.server_version = await self._find_version(notebook)
                if asked.server_version:
                    self.wake()
                return
            as_of_ms = self.clock_ms()
            active_ms = await self._find_activity(notebook, as_of_ms)
            asked.misses = asked.misses + 1 if active_ms is None else 0
            asked.is_answered |= active_ms is not None
            if active_ms is not None or asked.misses >= MISSES_MAX:
                asked.last_active_ms = max(asked.last_active_ms, active_ms or 0)
                asked.active_as_of_ms = as_of_ms
        finally:
            asked.asking = None

    async def _find_version(self, notebook: Notebook) -> str:
        """Of the server that answers; "": none does."""
        found = await self._get(notebook, "api")
        return str(found.get("version", "")) if isinstance(found, dict) else ""

    async def _find_activity(self, notebook: Notebook, now_ms: int) -> int | None:
        """When something was last done in it: now, while a kernel is at work. None: unknown."""
        kernels = await self._get(notebook, "api/kernels") if _is_watched(notebook) else []
        status = await self._get(notebook, "api/status")
        if not isinstance(kernels, list) or not isinstance(status, dict):
            return None
        if any(kernel.get("execution_state") == "busy" for kernel in kernels):
            return now_ms
        try:
            return int(datetime.fromisoformat(status["last_activity"]).timestamp() * 1000)
        except (KeyError, TypeError, ValueError):
            return None

    async def _get(self, notebook: Notebook, path: str) -> Any:
        """The JSON that it answers; None where it does not."""
        assert notebook.attempt_id is not None
        assert self._http is not None
        endpoint = read_endpoint(self.jobs_folder / notebook.attempt_id)
        if endpoint is None:
            return None
        host, port = endpoint
        # Asked so, Jupyter does not take the question itself for activity.
        url = f"http://{host}:{port}/notebooks/{notebook.shown_id}/{path}?no_track_activity=1"
        try:
            reply = await self._http.get(url, headers={"Authorization": f"token {notebook.token}"})
            return reply.json() if reply.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            return None

    # ------------------------------------------------------------ doing

    def _files_of(self, notebook: Notebook) -> Path:
        return self.folder / notebook.uid / FILES_FOLDER

    async def _remove(self, notebook: Notebook) -> None:
        """The storage first: a crash between the two is made good by the next look."""
        try:
            await asyncio.to_thread(_remove_folder, self.folder / notebook.uid)
        except OSError as error:
            step = Step(
                event=NotebookEvent.FAILED,
                reason=f"Its storage cannot be removed: {error.strerror or error}.",
            )
            now_ms = self.clock_ms()
            await self.database.write(_move, notebook, Seen(), step, now_ms=now_ms)
            return
        await self.database.write(notebooks.delete_notebook, notebook)
        log.info("notebook_deleted", notebook=notebook.uid)


def _note_of(notebook: Notebook, asked: _Asked | None) -> str:
    """What is to be told of one that runs; nothing new, as long as too little is known."""
    if notebook.status is not NotebookStatus.RUNNING or asked is None:
        return notebook.note
    if asked.misses >= MISSES_MAX:
        return NO_ANSWER
    return "" if asked.is_answered and not asked.misses else notebook.note


def _is_watched(notebook: Notebook) -> bool:
    """Whether it matters when it was last used."""
    lease = notebook.lease
    return lease.is_enabled and lease.type is LeaseType.IDLE


def _note(tx: Transaction, notebook: Notebook, seen: Seen) -> None:
    fresh = _fresh(tx, notebook)
    noted = replace(
        fresh,
        note=seen.note,
        last_active_ms=max(fresh.last_active_ms, seen.last_active_ms),
    )
    notebooks.update_notebook(tx, noted)


def _move(tx: Transaction, notebook: Notebook, seen: Seen, step: Step, *, now_ms: int) -> None:
    """Carry one step out, on the notebook and its workload together."""
    fresh = _fresh(tx, notebook)
    status = next_status(fresh.status, step.event)
    if step.stops_workload and fresh.phase in STOPPABLE:
        moves.move_workload(
            tx,
            workloads.get_workload(tx.connection, fresh.workload_id),
            Event.STOP_ASKED,
            now_ms=now_ms,
            actor=MUSTER,
            reason=Reason.AUTO_STOPPED,
            message=step.reason,
        )
    moved = replace(
        fresh,
        status=status,
        fail_reason=step.reason[-REASON_LENGTH_MAX:],
        updated_at_ms=now_ms,
    )
    if status is NotebookStatus.RUNNING:
        # A lease counts from when there was something to use.
        is_ready = step.event is NotebookEvent.READY
        lease = replace(fresh.lease, since_ms=now_ms) if is_ready else fresh.lease
        moved = replace(
            moved,
            note="",
            lease=lease,
            server_version=seen.server_version or fresh.server_version,
            last_active_ms=now_ms,
        )
    notebooks.update_notebook(tx, moved)


def _fresh(tx: Transaction, notebook: Notebook) -> Notebook:
    """As it is now. Raises StaleWrite unless it is as it was looked at."""
    fresh = notebooks.find_notebook(tx.connection, notebook.uid)
    if fresh is None or (fresh.revision, fresh.phase) != (notebook.revision, notebook.phase):
        raise StaleWrite(f"Notebook {notebook.shown_id} was changed meanwhile.")
    return fresh


def _remove_folder(path: Path) -> None:
    with suppress(FileNotFoundError):
        remove_tree(path)
