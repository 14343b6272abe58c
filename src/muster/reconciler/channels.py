"""Brings the inputs of a job to where its tasks run, and its results to where they were asked for.

Where the object store is near, inputs are used where they lie. Else they are fetched into the job
folder before the engine is told to start: every node sees that folder, so that no node needs keys.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from muster.domain.command import Run
from muster.domain.errors import InvalidRequest, StoreUnavailable
from muster.domain.jobfolder import (
    channel_folder,
    data_folder,
    fetched_folder,
    input_folder,
    log_file,
    output_folder,
)
from muster.objects.store import ObjectStore, Progress
from muster.objects.url import parse_url
from muster.reconciler.transfers import NotYet, Transfers


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Where a task finds what it was given."""

    data: Path | None  # what data_url names
    channels: dict[str, Path]  # named inputs (v2), by name


async def bring_inputs(
    run: Run,
    folder: Path,
    *,
    attempt_id: str,
    objects: ObjectStore,
    transfers: Transfers,
    keeps: Callable[[str], bool] | None = None,
) -> Inputs | NotYet:
    """Every input of an attempt, as a local path.

    Args:
        run: of a workload whose attempt is to start.
        folder: its job folder.
        attempt_id: of the attempt.
        objects: where the inputs are.
        transfers: that may be under way.
        keeps: which files of its inputs it needs, by their paths below them; None: all of them.

    Raises:
        InvalidRequest: an input is not there any more, or cannot be kept in files.
    """
    if objects.is_near or not (run.data_url or run.inputs):
        return await _fetch(run, folder, objects, Progress(), keeps)
    return await transfers.finish(
        _fetching(attempt_id),
        "Fetching its inputs",
        lambda progress: _fetch(run, folder, objects, progress, keeps),
    )


async def _fetch(
    run: Run,
    folder: Path,
    objects: ObjectStore,
    progress: Progress,
    keeps: Callable[[str], bool] | None,
) -> Inputs:
    async def fetch(text: str, field: str, target: Path) -> Path:
        url = parse_url(text, field=field)
        return await objects.fetch(url, target, field=field, progress=progress, keeps=keeps)

    progress.file_count = progress.byte_count = 0  # of this try
    data = None
    if run.data_url:
        data = await fetch(run.data_url, "data_url", data_folder(folder))
    channels = {
        channel.name: await fetch(
            channel.url, f"inputs.{channel.name}", input_folder(folder, channel.name)
        )
        for channel in run.inputs
    }
    return Inputs(data=data, channels=channels)


async def drop_inputs(
    folder: Path, *, attempt_id: str, objects: ObjectStore, transfers: Transfers
) -> None:
    """Take away what was fetched for an attempt that has ended, or will never start."""
    if objects.is_near:
        return
    await transfers.cancel(_fetching(attempt_id))
    await asyncio.to_thread(_remove_fetched, folder)


def _remove_fetched(folder: Path) -> None:
    shutil.rmtree(fetched_folder(folder), ignore_errors=True)
    with suppress(OSError):  # nothing else is in it where the attempt has never started
        folder.rmdir()


async def store_results(
    run: Run,
    folder: Path,
    *,
    attempt_id: str,
    task_count: int,
    objects: ObjectStore,
    transfers: Transfers,
) -> Sequence[str] | NotYet:
    """Store all that has a place to go; return why some of it has none any more.

    A bucket may have changed since the submit: what cannot go there goes nowhere, now or later, and
    must not keep the rest from being stored.

    Raises:
        StoreUnavailable: not now; what was stored stays stored.
    """
    if not objects.is_near:
        return await transfers.finish(
            f"store {attempt_id}",
            "Storing its results",
            lambda progress: _store(run, task_count, folder, objects, progress),
        )
    try:
        return await _store(run, task_count, folder, objects, Progress())
    except OSError as error:
        raise StoreUnavailable(
            f"Results cannot be stored at the moment: {error.strerror}."
        ) from error


async def _store(
    run: Run, task_count: int, folder: Path, objects: ObjectStore, progress: Progress
) -> Sequence[str]:
    folders = [(run.train_url, "train_url", output_folder(folder))] if run.train_url else []
    folders += [
        (channel.url, f"outputs.{channel.name}", channel_folder(folder, channel.name))
        for channel in run.outputs
    ]
    problems = []
    for text, field, source in folders:
        try:
            url = parse_url(text, field=field)
            await objects.store_folder(source, url, field=field, progress=progress)
        except InvalidRequest as error:
            problems.append(error.message)
    if run.log_url:
        try:
            await _store_logs(run, run.log_url, task_count, folder, objects)
        except InvalidRequest as error:
            problems.append(error.message)
    return problems


async def _store_logs(
    run: Run, log_url: str, task_count: int, folder: Path, objects: ObjectStore
) -> None:
    url = parse_url(log_url, field="log_url")
    for index in range(task_count):
        source = log_file(folder, index)
        if source.is_file() and not source.is_symlink():
            await objects.store_file(source, url.below(f"{run.job_name}.{index}"), field="log_url")


def _fetching(attempt_id: str) -> str:
    return f"fetch {attempt_id}"
