"""Brings the inputs of a job to where its tasks run, and its results to where they were asked for.

Where the object store is near, inputs are used where they lie. Else they are fetched into the job
folder, which every node sees, before the engine is told to start. What is worth it is moved by a
node of the job itself, between its start and that of its tasks, and after their end; see
`porters.py`. No node needs keys.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

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
from muster.engines.porter import INPUTS, RESULTS, has_results
from muster.objects.porter import Porter
from muster.objects.store import ObjectStore, Progress
from muster.objects.url import parse_url
from muster.reconciler.porters import has_porter, is_done, porter_of
from muster.reconciler.transfers import NotYet, Transfers

FETCHING: Final = "Fetching its inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Where a task finds what it was given."""

    data: Path | None  # what data_url names
    channels: dict[str, Path]  # named inputs (v2), by name
    awaited_bytes: int = 0  # that are yet to be moved by a node of the job; 0: all is there


async def bring_inputs(
    run: Run,
    folder: Path,
    *,
    attempt_id: str,
    objects: ObjectStore,
    transfers: Transfers,
    keeps: Callable[[str], bool] | None = None,
    node_bytes: int = 0,
) -> Inputs | NotYet:
    """Every input of an attempt, as a local path.

    Args:
        run: of a workload whose attempt is to start.
        folder: its job folder.
        attempt_id: of the attempt.
        objects: where the inputs are.
        transfers: that may be under way.
        keeps: which files of its inputs it needs, by their paths below them; None: all of them.
        node_bytes: from so many on they are left to a node of the job, see `feed_inputs`; 0: none.

    Raises:
        InvalidRequest: an input is not there any more, or cannot be kept in files.
    """
    if objects.is_near or not (run.data_url or run.inputs):
        return await _fetch(run, folder, objects, Progress(), keeps)
    if node_bytes:
        weighed = await transfers.finish(
            _weighing(attempt_id), FETCHING, lambda _: _weigh(run, folder, objects, keeps)
        )
        if isinstance(weighed, NotYet) or weighed.awaited_bytes >= node_bytes:
            return weighed
    return await transfers.finish(
        _fetching(attempt_id),
        FETCHING,
        lambda progress: _fetch(run, folder, objects, progress, keeps),
    )


async def feed_inputs(
    run: Run,
    folder: Path,
    *,
    attempt_id: str,
    objects: ObjectStore,
    transfers: Transfers,
    keeps: Callable[[str], bool] | None = None,
) -> NotYet | None:
    """Have a node of an attempt that has been started fetch its inputs; None: its tasks may start.

    The arguments, and what it raises, are as those of `bring_inputs`.
    """
    if await asyncio.to_thread(is_done, folder, INPUTS):
        return None
    fed = await transfers.finish(
        _fetching(attempt_id),
        FETCHING,
        lambda progress: _feed(run, folder, objects, progress, keeps),
    )
    return fed if isinstance(fed, NotYet) else None


async def _feed(
    run: Run,
    folder: Path,
    objects: ObjectStore,
    progress: Progress,
    keeps: Callable[[str], bool] | None,
) -> None:
    async with porter_of(folder, INPUTS, progress) as porter:
        if porter is None:
            raise StoreUnavailable(f"The folder {folder} cannot be used to tell its node anything.")
        await _fetch(run, folder, objects, progress, keeps, porter)
        await porter.dismiss()


async def _weigh(
    run: Run, folder: Path, objects: ObjectStore, keeps: Callable[[str], bool] | None
) -> Inputs:
    """Where every input will be, and how much they are."""
    weight = 0

    async def weigh(text: str, field: str, target: Path) -> Path:
        nonlocal weight
        url = parse_url(text, field=field)
        path, byte_count = await objects.weigh(url, target, field=field, keeps=keeps)
        weight += byte_count
        return path

    inputs = await _each_input(run, folder, weigh)
    return replace(inputs, awaited_bytes=weight)


async def _fetch(
    run: Run,
    folder: Path,
    objects: ObjectStore,
    progress: Progress,
    keeps: Callable[[str], bool] | None,
    porter: Porter | None = None,
) -> Inputs:
    async def fetch(text: str, field: str, target: Path) -> Path:
        url = parse_url(text, field=field)
        return await objects.fetch(
            url, target, field=field, progress=progress, keeps=keeps, porter=porter
        )

    progress.file_count = progress.byte_count = 0  # of this try
    return await _each_input(run, folder, fetch)


async def _each_input(
    run: Run, folder: Path, do: Callable[[str, str, Path], Awaitable[Path]]
) -> Inputs:
    """Do it for the URL, the field and the local folder of each; it returns where the input is."""
    data = None
    if run.data_url:
        data = await do(run.data_url, "data_url", data_folder(folder))
    channels = {
        channel.name: await do(
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
    await transfers.cancel(_weighing(attempt_id))
    await transfers.cancel(_fetching(attempt_id))
    await asyncio.to_thread(_remove_fetched, folder)


def _remove_fetched(folder: Path) -> None:
    dropped = folder / ".dropped"
    with suppress(OSError):
        # A node that still moves something into it finds no folder to go on in.
        fetched_folder(folder).rename(dropped)
    shutil.rmtree(dropped, ignore_errors=True)
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
    node_bytes: int = 0,
) -> Sequence[str] | NotYet:
    """Store all that has a place to go; return why some of it has none any more.

    A bucket may have changed since the submit: what cannot go there goes nowhere, now or later, and
    must not keep the rest from being stored.

    From `node_bytes` on a node of the job is to move it; 0: none is there.

    Raises:
        StoreUnavailable: not now; what was stored stays stored.
    """
    if not objects.is_near:
        return await transfers.finish(
            f"store {attempt_id}",
            "Storing its results",
            lambda progress: _store_by_node(run, task_count, folder, objects, progress, node_bytes),
        )
    try:
        return await _store(run, task_count, folder, objects, Progress())
    except OSError as error:
        raise StoreUnavailable(
            f"Results cannot be stored at the moment: {error.strerror}."
        ) from error


async def _store_by_node(
    run: Run,
    task_count: int,
    folder: Path,
    objects: ObjectStore,
    progress: Progress,
    node_bytes: int,
) -> Sequence[str]:
    """As `_store`; by a node of the job where it waits for that."""
    if not node_bytes or not await asyncio.to_thread(_is_worth_a_node, run, folder, node_bytes):
        return await _store(run, task_count, folder, objects, progress)
    async with porter_of(folder, RESULTS, progress) as porter:
        problems = await _store(run, task_count, folder, objects, progress, porter)
        if porter is not None:
            await porter.dismiss()
        return problems


def _is_worth_a_node(run: Run, folder: Path, node_bytes: int) -> bool:
    """By the same measure as the node's own, or it has come already and there is less by now."""
    if has_porter(folder, RESULTS):
        return True
    return has_results(str(folder), list(result_folders(run)), node_bytes)


def result_folders(run: Run) -> tuple[str, ...]:
    """Where tasks write what is to be stored, below the job folder."""
    train = (output_folder(Path()),) if run.train_url else ()
    named = (channel_folder(Path(), channel.name) for channel in run.outputs)
    return tuple(map(str, (*train, *named)))


async def _store(
    run: Run,
    task_count: int,
    folder: Path,
    objects: ObjectStore,
    progress: Progress,
    porter: Porter | None = None,
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
            await objects.store_folder(source, url, field=field, progress=progress, porter=porter)
        except InvalidRequest as error:
            problems.append(error.message)
    if run.log_url:
        try:
            await _store_logs(run, run.log_url, task_count, folder, objects, porter)
        except InvalidRequest as error:
            problems.append(error.message)
    return problems


async def _store_logs(
    run: Run,
    log_url: str,
    task_count: int,
    folder: Path,
    objects: ObjectStore,
    porter: Porter | None,
) -> None:
    url = parse_url(log_url, field="log_url")
    for index in range(task_count):
        source = log_file(folder, index)
        if source.is_file() and not source.is_symlink():
            target = url.below(f"{run.job_name}.{index}")
            await objects.store_file(source, target, field="log_url", porter=porter)


def _weighing(attempt_id: str) -> str:
    return f"weigh {attempt_id}"


def _fetching(attempt_id: str) -> str:
    return f"fetch {attempt_id}"
