"""Carries one action out: tells the engine, then records what is so now, guarded.

Every action may be done twice. A crash between telling and recording is a normal case: the next
pass observes, and records what it finds.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from muster.domain.command import Run, command_line
from muster.domain.errors import (
    EngineRefused,
    EngineUnavailable,
    InvalidRequest,
    StaleWrite,
    StoreUnavailable,
)
from muster.domain.jobfolder import channel_folder, log_file, output_folder
from muster.domain.phase import FINISHED, Event, Phase, Reason, next_phase
from muster.domain.training import Access
from muster.domain.workload import Workload
from muster.engines.engine import Engine, EngineRef
from muster.engines.engine import Launch as EngineLaunch
from muster.objects.folder import FolderStore, ObjectUrl, parse_url
from muster.reconciler.plan import Action, Admit, Clear, Launch, Outcome, Record, Stop, stopped
from muster.store import pools, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.workloads import EndAttempt, Happened, Hold, Move, Release, move_workloads

log = structlog.get_logger()

MUSTER: Final = "muster"  # the actor of what the platform does by itself


@dataclass(slots=True)
class Platform:
    """What actions are carried out with."""

    database: Database
    engine: Engine
    objects: FolderStore
    jobs_folder: Path
    clock_ms: Callable[[], int]
    stop_grace_seconds: float
    new_attempt_id: Callable[[], str] = lambda: uuid.uuid4().hex
    # When the engine was told to stop an attempt. A new server knows of none, and tells it again.
    stopping: dict[str, int] = field(default_factory=dict)

    def folder(self, attempt_id: str) -> Path:
        return self.jobs_folder / attempt_id


async def carry_out(action: Action, platform: Platform) -> None:
    """Do one action. One that somebody else has overtaken is dropped: the next pass sees why."""
    try:
        match action:
            case Admit():
                await _admit(action, platform)
            case Launch():
                await _launch(action.workload, platform)
            case Stop():
                await _stop(action.workload, platform)
            case Record():
                await _record(action, platform)
            case Clear():
                await _clear(action.workload, platform)
    except StaleWrite as stale:
        log.debug("action_overtaken", workload_id=action.workload.id, why=stale.message)


async def _admit(action: Admit, platform: Platform) -> None:
    now_ms = platform.clock_ms()
    steps: list[Happened | Hold] = []
    if action.workload.phase is Phase.CREATING:
        steps.append(Happened(event=Event.ENQUEUED, now_ms=now_ms, actor=MUSTER))
    attempt_id = platform.new_attempt_id()
    if action.placements is not None:
        steps.append(Hold(placements=tuple(action.placements), attempt_id=attempt_id))
        steps.append(Happened(event=Event.PLACED, now_ms=now_ms, actor=MUSTER))
    await _move(Move(workload=action.workload, steps=tuple(steps)), platform)


async def _move(move: Move, platform: Platform) -> Workload:
    """Together with all moves that are under way in this moment."""
    return await platform.database.write_together(move_workloads, move)


async def _launch(workload: Workload, platform: Platform) -> None:
    run = await platform.database.read(workloads.get_run, workload.id)
    try:
        host_names = await platform.database.read(_read_host_names, workload)
        launch = replace(await _prepare_launch(workload, run, platform), host_names=host_names)
        ref = await platform.engine.start(launch)
    except (EngineRefused, InvalidRequest) as refused:
        outcome = Outcome(Event.REFUSED, reason=Reason.ENGINE_REFUSED, message=str(refused.message))
        await _record_outcomes(workload, (outcome,), platform)
        return
    await platform.database.write(workloads.set_engine_ref, workload, ref)


async def _prepare_launch(workload: Workload, run: Run, platform: Platform) -> EngineLaunch:
    """Turn what was asked for into paths and a command line.

    Raises:
        EngineRefused: it asks for something that this server does not have.
    """
    if run.user_image_url:
        raise EngineRefused(
            f"It asks for the image {run.user_image_url!r}: this muster runs no images yet."
            " Give app_url and boot_file_url instead."
        )
    if run.has_volumes:
        raise EngineRefused("It asks for volumes: the local engine cannot mount any.")
    assert run.code is not None
    assert workload.attempt_id is not None
    folder = platform.folder(workload.attempt_id)
    data = None
    if run.data_url:
        url = parse_url(run.data_url, field="data_url")
        data = platform.objects.local_path(url, field="data_url")
    paths = _channel_paths(run, folder, platform.objects)
    return EngineLaunch(
        attempt_id=workload.attempt_id,
        argv=command_line(
            run,
            data=data,
            output=output_folder(folder),
            channels={
                channel.name: paths[channel.name]
                for channel in (*run.inputs, *run.outputs)
                if channel.access is Access.PARAMETER
            },
        ),
        environment={
            **run.environments,
            **{
                channel.name: str(paths[channel.name])
                for channel in (*run.inputs, *run.outputs)
                if channel.access is Access.ENVIRONMENT
            },
        },
        code=platform.objects.snapshot_folder(run.code),
        folder=folder,
        tasks=workload.placements,
        output_names=tuple(channel.name for channel in run.outputs),
        partition=workload.partition,
        task=workload.task,
        time_limit_ms=workload.time_limit_ms,
    )


def _read_host_names(connection: Connection, workload: Workload) -> tuple[str, ...]:
    """The host of each task's node; none where a node has left its pool meanwhile."""
    names = {placement.node_name for placement in workload.placements}
    nodes = {name: pools.find_node(connection, workload.partition, name) for name in names}
    hosts = {name: node.host_name for name, node in nodes.items() if node is not None}
    if len(hosts) < len(names):
        return ()
    return tuple(hosts[placement.node_name] for placement in workload.placements)


def _channel_paths(run: Run, folder: Path, objects: FolderStore) -> dict[str, Path]:
    """Where each named input and output lies, by name."""
    paths = {}
    for channel in run.inputs:
        field = f"inputs.{channel.name}"
        paths[channel.name] = objects.local_path(parse_url(channel.url, field=field), field=field)
    return paths | {channel.name: channel_folder(folder, channel.name) for channel in run.outputs}


async def _stop(workload: Workload, platform: Platform) -> None:
    assert workload.attempt_id is not None
    ref = await _find_ref(workload, platform)
    if ref is None:
        # It was never handed to the engine, and nobody else hands it over.
        await _record_outcomes(workload, (stopped(workload),), platform)
        return
    await platform.engine.stop(ref, platform.stop_grace_seconds)
    # Before it counts as told: without a reference nobody would observe that it has ended.
    await platform.database.write(workloads.set_engine_ref, workload, ref)
    platform.stopping.setdefault(workload.attempt_id, platform.clock_ms())


async def _find_ref(workload: Workload, platform: Platform) -> EngineRef | None:
    if workload.engine_ref is not None:
        return EngineRef(workload.engine_ref)
    if workload.attempt_id is None:
        return None
    return await platform.engine.find(workload.attempt_id, platform.folder(workload.attempt_id))


async def _record(action: Record, platform: Platform) -> None:
    is_end = any(outcome.event in _ENDING_EVENTS for outcome in action.outcomes)
    # One that was cleared holds nothing any more: its results were stored before that.
    if is_end and action.workload.is_holding and action.workload.attempt_id is not None:
        await _collect(action.workload, platform)
    await _record_outcomes(action.workload, action.outcomes, platform)


_ENDING_EVENTS: Final = frozenset(
    {Event.SUCCEEDED, Event.TASK_FAILED, Event.STOPPED, Event.RETRIED}
)


async def _collect(workload: Workload, platform: Platform) -> None:
    """Store what the tasks have written, before anybody is told that they have ended."""
    assert workload.attempt_id is not None
    run = await platform.database.read(workloads.get_run, workload.id)
    if not run.train_url and not run.log_url and not run.outputs:
        return
    folder = platform.folder(workload.attempt_id)
    try:
        problems = await asyncio.to_thread(
            _store_results, run, workload.task_count, folder, platform.objects
        )
    except OSError as error:
        raise StoreUnavailable(
            f"Results cannot be stored at the moment: {error.strerror}."
        ) from error
    for problem in problems:
        log.warning("results_not_stored", workload_id=workload.id, why=problem)


def _store_results(run: Run, task_count: int, folder: Path, objects: FolderStore) -> Sequence[str]:
    """Store all that has a place to go; return why some of it has none any more.

    A bucket may have changed since the submit: what cannot go there goes nowhere, now or later, and
    must not keep the rest from being stored.
    """
    folders = [(run.train_url, "train_url", output_folder(folder))] if run.train_url else []
    folders += [
        (channel.url, f"outputs.{channel.name}", channel_folder(folder, channel.name))
        for channel in run.outputs
    ]
    problems = []
    for text, field_name, source in folders:
        try:
            objects.store_folder(source, parse_url(text, field=field_name))
        except InvalidRequest as error:
            problems.append(error.message)
    if run.log_url:
        try:
            _store_logs(run, task_count, folder, objects, parse_url(run.log_url, field="log_url"))
        except InvalidRequest as error:
            problems.append(error.message)
    return problems


def _store_logs(
    run: Run, task_count: int, folder: Path, objects: FolderStore, url: ObjectUrl
) -> None:
    for index in range(task_count):
        source = log_file(folder, index)
        if source.is_file() and not source.is_symlink():
            key = f"{url.key.rstrip('/')}/{run.job_name}.{index}".lstrip("/")
            objects.store_file(source, ObjectUrl(url.bucket, key))


async def _record_outcomes(
    workload: Workload, outcomes: Sequence[Outcome], platform: Platform
) -> None:
    now_ms = platform.clock_ms()
    phase = workload.phase
    steps: list[Happened | Release | EndAttempt] = []
    for outcome in outcomes:
        phase = next_phase(phase, outcome.event)
        steps.append(
            Happened(
                event=outcome.event,
                now_ms=now_ms,
                actor=MUSTER,
                reason=outcome.reason,
                message=outcome.message,
                at_ms=outcome.at_ms,
            )
        )
    last = outcomes[-1]
    if last.event is Event.RETRIED:
        steps += [Release(), EndAttempt(ended_at_ms=last.at_ms or now_ms)]
    elif phase in FINISHED and phase is not Phase.STOP_FAILED:
        steps.append(Release())
    moved = await _move(Move(workload=workload, steps=tuple(steps)), platform)
    if workload.attempt_id is not None and not moved.is_holding:
        platform.stopping.pop(workload.attempt_id, None)
    log.info(
        "workload_moved",
        workload_id=moved.id,
        phase=moved.phase,
        reason=moved.reason,
        message=moved.message,
    )


async def _clear(workload: Workload, platform: Platform) -> None:
    """End what may be left of a lost attempt, then free its nodes."""
    assert workload.attempt_id is not None
    ref = await _find_ref(workload, platform)
    if ref is not None:
        if workload.attempt_id not in platform.stopping:
            await platform.engine.stop(ref, 0)
            platform.stopping[workload.attempt_id] = platform.clock_ms()
        seen = (await platform.engine.observe([ref]))[ref]
        if seen.tasks and not seen.is_over:
            return  # not yet: the next pass looks again
    await _collect(workload, platform)
    await _move(Move(workload=workload, steps=(Release(),)), platform)
    platform.stopping.pop(workload.attempt_id, None)


async def purge(platform: Platform) -> int:
    """Drop deleted workloads that nothing runs for any more; return how many."""
    purgeable = await platform.database.read(workloads.list_purgeable)
    for workload_id, attempts in purgeable:
        for attempt_id, engine_ref in attempts:
            ref = EngineRef(engine_ref) if engine_ref else None
            ref = ref or await platform.engine.find(attempt_id, platform.folder(attempt_id))
            if ref is not None:
                await platform.engine.forget(ref)
        await platform.database.write(workloads.purge_workload, workload_id)
    return len(purgeable)


PASSING: Final = (EngineUnavailable, StoreUnavailable)  # nothing has changed; the next pass retries
