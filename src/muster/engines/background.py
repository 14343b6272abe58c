"""What an engine does beside its callers: what blocks, in threads; what takes long, in tasks."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import structlog

from muster.domain.errors import EngineUnavailable, MusterError

THREADS_MAX: Final = 8  # for files; its own, so that a large copy does not hold up the database

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()


class Background:
    """Threads and tasks of one engine that is open. Made in its event loop."""

    def __init__(self, engine: str, jobs_folder: Path) -> None:
        self._engine = engine
        self._jobs_folder = jobs_folder
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(
            THREADS_MAX, thread_name_prefix=f"{engine.lower()}-engine"
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what blocks elsewhere. What the system refuses now, it may allow later."""
        work = partial(function, *args, **kwargs)
        try:
            return await self._loop.run_in_executor(self._threads, work)
        except OSError as error:
            raise EngineUnavailable(
                f"The {self._engine} engine cannot work in {self._jobs_folder}: {_in_words(error)}"
            ) from error

    def begin(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    async def finish(self) -> None:
        """Wait for every task: each is short, but may call for another."""
        while finishing := set(self._tasks):
            await asyncio.gather(*finishing, return_exceptions=True)
            self._tasks -= finishing

    def close(self) -> None:
        self._threads.shutdown()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # What a start has to say is told to who waits for it; of the rest nobody would hear.
        if error is not None and not isinstance(error, MusterError):
            event = f"{self._engine.lower()}_engine_task_failed"
            log.error(event, exc_info=error)


def _in_words(error: OSError) -> str:
    """A copy of many files fails with a list: the first tells, and as a rule all are alike."""
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        _source, _target, why = error.args[0][0]
        return str(why)
    return str(error)
