"""Carries one action out: tells the engine, then records what is so now, guarded.

Every action may be done twice. A crash between telling and recording is a normal case: the next
pass observes, and records what it finds.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from muster.domain.command import Run
from muster.domain.errors import (
    EngineRefused,
    EngineUnavailable,
    InvalidRequest,
    StaleWrite,
    StoreUnavailable,
)
from muster.domain.phase import FINISHED, Event, Phase, Reason, next_phase
from muster.domain.program import Program
from muster.domain.workload import Workload
from muster.engines.engine import Engine, EngineRef
from muster.objects.store import ObjectStore
from muster.reconciler.channels import (
    Inputs,
    bring_inputs,
    drop_inputs,
    feed_inputs,
    result_folders,
    store_results,
)
from muster.reconciler.launches import (
    channels_of,
    moved_of,
    prepare_program,
    prepare_run,
    read_host_names,
    share_of_inputs,
)
from muster.reconciler.mirror import bring_mirror, cancel_mirror, return_mirror
from muster.reconciler.plan import (
    STORING,
    Action,
    Admit,
    Clear,
    Feed,
    Launch,
    Outcome,
    Record,
    Stop,
    Tell,
    stopped,
)
from muster.reconciler.transfers import NotYet, Transfers
from muster.store import purging, workloads
from muster.store.database import Database
from muster.store.moves import EndAttempt, Happened, Hold, Move, Release, move_workloads
from muster.store.transaction import Transaction

log = structlog.get_logger()

MUSTER: Final = "muster"  # the actor of what the platform does by itself
PASSING: Final = (EngineUnavailable, StoreUnavailable)  # nothing has changed; the next pass retries


@dataclass(slots=True)
class Platform:
    """What actions are carried out with."""

    database: Database
    engine: Engine
    objects: ObjectStore
    jobs_folder: Path
    clock_ms: Callable[[], int]
    stop_grace_seconds: float
    node_bytes: int = 0  # of one job, from which on its nodes move its objects; 0: they never do
    new_attempt_id: Callable[[], str] = lambda: uuid.uuid4().hex
    # When the engine was told to stop an attempt. A new server knows of none, and tells it again.
    stopping: dict[str, int] = field(default_factory=dict)
    transfers: Transfers = field(default_factory=Transfers)

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
            case Feed():
                await _feed(action.workload, platform)
            case Stop():
                await _stop(action.workload, platform)
            case Record():
                await _record(action, platform)
            case Clear():
                await _clear(action.workload, platform)
            case Tell():
                await tell([action], platform)
    except StaleWrite as stale:
        log.debug("action_overtaken", workload_id=action.workload.id, why=stale.message)


async def tell(tells: Sequence[Tell], platform: Platform) -> None:
    """All in one transaction. One that somebody else has overtaken hinders no other one."""

    def write(tx: Transaction) -> None:
        for each in tells:
            with suppress(StaleWrite):
                workloads.set_message(tx, each.workload, each.message)

    if tells:
        await platform.database.write(write)


async def _admit(action: Admit, platform: Platform) -> None:
    now_ms = platform.clock_ms()
    steps: list[Happened | Hold] = []
    if action.workload.phase is Phase.CREATING:
        steps.append(Happened(event=Event.ENQUEUED, now_ms=now_ms, actor=MUSTER))
    if action.placements is not None:
        attempt_id = platform.new_attempt_id()
        steps.append(Hold(placements=tuple(action.placements), attempt_id=attempt_id))
        steps.append(Happened(event=Event.PLACED, now_ms=now_ms, actor=MUSTER))
    await _move(Move(workload=action.workload, steps=tuple(steps)), platform)


async def _move(move: Move, platform: Platform) -> Workload:
    """Together with all moves that are under way in this moment.

    What only tells how things stand waits a little for others: nodes taken or given back do not.
    """
    is_patient = not any(isinstance(step, Hold | Release) for step in move.steps)
    return await platform.database.write_together(move_workloads, move, is_patient=is_patient)


async def _launch(workload: Workload, platform: Platform) -> None:
    assert workload.attempt_id is not None
    folder = platform.folder(workload.attempt_id)
    run = await platform.database.read(workloads.get_run, workload.id)
    try:
        host_names = await platform.database.read(read_host_names, workload)
        if isinstance(run, Program):
            if not await _bring_mirror(workload, run, platform):
                return
            inputs = await _bring_inputs(
                workload, channels_of(run), platform, keeps=share_of_inputs(run)
            )
            if inputs is None:
                return
            prepared = prepare_program(workload, run, inputs, folder, platform.objects)
        else:
            inputs = await _bring_inputs(workload, run, platform)
            if inputs is None:
                return
            prepared = prepare_run(workload, run, inputs, folder, platform.objects)
        launch = replace(
            prepared,
            host_names=host_names,
            awaited_bytes=inputs.awaited_bytes,
            result_folders=result_folders(moved_of(run)),
            result_bytes=platform.node_bytes,
        )
        ref = await platform.engine.start(launch)
    except (EngineRefused, InvalidRequest) as refused:
        outcome = Outcome(Event.REFUSED, reason=Reason.ENGINE_REFUSED, message=str(refused.message))
        await _drop_inputs(workload, platform)
        await _record_outcomes(workload, (outcome,), platform)
        return
    except EngineUnavailable as error:
        message = f"It could not be started yet: {error.message}"
        if workload.message != message:
            await platform.database.write(workloads.set_message, workload, message)
        raise
    workload = await platform.database.write(workloads.set_engine_ref, workload, ref)
    if workload.message:  # of what it waited for until now
        await platform.database.write(workloads.set_message, workload, "")


async def _feed(workload: Workload, platform: Platform) -> None:
    """Have its inputs fetched by a node that waits for them; what can never be ends its start."""
    assert workload.attempt_id is not None
    run = await platform.database.read(workloads.get_run, workload.id)
    try:
        not_yet = await feed_inputs(
            moved_of(run),
            platform.folder(workload.attempt_id),
            attempt_id=workload.attempt_id,
            objects=platform.objects,
            transfers=platform.transfers,
            keeps=share_of_inputs(run),
        )
    except InvalidRequest as refused:
        outcome = Outcome(Event.REFUSED, reason=Reason.ENGINE_REFUSED, message=refused.message)
        ref = await _find_ref(workload, platform)
        assert ref is not None, "it waits for its inputs, so the engine has it"
        await platform.engine.stop(ref, 0)
        await _drop_inputs(workload, platform)
        await _record_outcomes(workload, (outcome,), platform)
        return
    if not_yet is not None:
        await _tell(workload, not_yet, platform)
    elif workload.message:  # of what it waited for until now
        await platform.database.write(workloads.set_message, workload, "")


async def _bring_inputs(
    workload: Workload,
    run: Run,
    platform: Platform,
    *,
    keeps: Callable[[str], bool] | None = None,
) -> Inputs | None:
    """None: they are being fetched; a later pass finds them there."""
    assert workload.attempt_id is not None
    inputs = await bring_inputs(
        run,
        platform.folder(workload.attempt_id),
        attempt_id=workload.attempt_id,
        objects=platform.objects,
        transfers=platform.transfers,
        keeps=keeps,
        node_bytes=platform.node_bytes,
    )
    if not isinstance(inputs, NotYet):
        return inputs
    await _tell(workload, inputs, platform)
    return None


async def _bring_mirror(workload: Workload, program: Program, platform: Platform) -> bool:
    """Whether its files are there; else they are being fetched, and a later pass finds them."""
    return await _carry_mirror(bring_mirror, workload, program, platform)


async def _carry_mirror(
    carry: Callable[..., Awaitable[NotYet | None]],
    workload: Workload,
    program: Program,
    platform: Platform,
) -> bool:
    """Whether all of it has been carried; True where there is no mirror."""
    assert workload.attempt_id is not None
    if program.mirror is None:
        return True
    not_yet = await carry(
        program.mirror,
        attempt_id=workload.attempt_id,
        objects=platform.objects,
        transfers=platform.transfers,
    )
    if not_yet is not None:
        await _tell(workload, not_yet, platform)
    return not_yet is None


async def _tell(workload: Workload, not_yet: NotYet, platform: Platform) -> None:
    """Let everybody who looks at it see why it goes no further."""
    # One that is being stopped keeps the words of who asked for that.
    if not_yet.news is not None and workload.phase in (Phase.STARTING, Phase.RUNNING):
        await platform.database.write(workloads.set_message, workload, not_yet.news)


async def _drop_inputs(workload: Workload, platform: Platform) -> None:
    assert workload.attempt_id is not None
    await cancel_mirror(workload.attempt_id, platform.transfers)
    await drop_inputs(
        platform.folder(workload.attempt_id),
        attempt_id=workload.attempt_id,
        objects=platform.objects,
        transfers=platform.transfers,
    )


async def _stop(workload: Workload, platform: Platform) -> None:
    assert workload.attempt_id is not None
    ref = await _find_ref(workload, platform)
    if ref is None:
        # It was never handed to the engine, and nobody else hands it over.
        await _drop_inputs(workload, platform)
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
    if is_end and _has_results(action.workload):
        was_preempted = any(outcome.event is Event.PREEMPTED for outcome in action.outcomes)
        if not await _collect(action.workload, platform, has_nodes=not was_preempted):
            return  # not yet: the next pass looks again
    is_refused = any(outcome.event is Event.REFUSED for outcome in action.outcomes)
    if is_refused and action.workload.attempt_id is not None:
        await _drop_inputs(action.workload, platform)
    await _record_outcomes(action.workload, action.outcomes, platform)


def _has_results(workload: Workload) -> bool:
    """There may be some to be stored. Those of a lost one were, before it was cleared."""
    was_cleared = workload.phase is Phase.LOST and not workload.is_holding
    return workload.attempt_id is not None and not was_cleared


_ENDING_EVENTS: Final = frozenset(
    {Event.SUCCEEDED, Event.TASK_FAILED, Event.STOPPED, Event.RETRIED, Event.PREEMPTED}
)


async def _collect(workload: Workload, platform: Platform, *, has_nodes: bool) -> bool:
    """Store what the tasks have written, before anybody is told that they have ended.

    Args:
        workload: that has ended, or is lost.
        platform: to do it with.
        has_nodes: one of them may be there to move it.

    Returns:
        Whether all is stored that can be.
    """
    assert workload.attempt_id is not None
    run = await platform.database.read(workloads.get_run, workload.id)
    if isinstance(run, Program):
        is_returned = await _return_mirror(workload, run, platform)
        if not is_returned or not (run.inputs or run.outputs):
            return is_returned
        run = channels_of(run)
    if run.train_url or run.log_url or run.outputs:
        problems = await store_results(
            run,
            platform.folder(workload.attempt_id),
            attempt_id=workload.attempt_id,
            task_count=workload.task_count,
            objects=platform.objects,
            transfers=platform.transfers,
            node_bytes=platform.node_bytes if has_nodes else 0,
        )
        if isinstance(problems, NotYet):
            if not problems.is_carried:
                workload = await _give_back(workload, platform)
            await _tell(workload, problems, platform)
            return False
        for problem in problems:
            log.warning("results_not_stored", workload_id=workload.id, why=problem)
    await _drop_inputs(workload, platform)
    return True


async def _give_back(workload: Workload, platform: Platform) -> Workload:
    """Let others have its nodes: nothing of it runs, and to store its results may take hours."""
    if workload.phase not in STORING or not workload.is_holding:
        return workload
    return await _move(Move(workload=workload, steps=(Release(),)), platform)


async def _return_mirror(workload: Workload, program: Program, platform: Platform) -> bool:
    """Whether its files are stored; whatever else it keeps it has written where it stays."""
    return await _carry_mirror(return_mirror, workload, program, platform)


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
    if last.event in (Event.RETRIED, Event.PREEMPTED):
        is_preempted = last.event is Event.PREEMPTED
        ended = EndAttempt(ended_at_ms=last.at_ms or now_ms, is_preempted=is_preempted)
        steps += [Release(), ended]
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
    if not await _collect(workload, platform, has_nodes=False):
        return
    await _move(Move(workload=workload, steps=(Release(),)), platform)
    platform.stopping.pop(workload.attempt_id, None)


async def purge(platform: Platform) -> int:
    """Drop deleted workloads that nothing runs for any more; return how many."""
    purgeable = await platform.database.read(purging.list_purgeable)
    for workload_id, attempts in purgeable:
        for attempt_id, engine_ref in attempts:
            ref = EngineRef(engine_ref) if engine_ref else None
            ref = ref or await platform.engine.find(attempt_id, platform.folder(attempt_id))
            if ref is not None:
                await platform.engine.forget(ref)
        await platform.database.write(purging.purge_workload, workload_id)
    return len(purgeable)
