"""What is to be done next. Pure: a World in, actions out; the same World gives the same plan."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from muster.domain.phase import Event, Phase, Reason
from muster.domain.placement import NodeRoom, TaskPlacement, place
from muster.domain.pool import Node
from muster.domain.room import rooms_for_work, take
from muster.domain.workload import Workload, turn
from muster.engines.engine import Observation, TaskObservation, TaskState

SIGNAL_EXIT_CODES: Final = 128  # an exit code above it tells the signal that ended the process
RETRY_TIMEOUT_MS: Final = 30 * 60_000  # how long one waits for nodes to be tried again
FOR_EVER_MS: Final = 1 << 62

# In which one that has ended may have given its nodes back, and wait for its results to be stored.
STORING: Final = frozenset({Phase.STARTING, Phase.RUNNING, Phase.TERMINATING})

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that a plan may look at, read at one moment."""

    now_ms: int
    active: Sequence[Workload] = ()  # everything not at rest, the queues aside
    queues: Mapping[str, Sequence[Workload]] = field(default_factory=dict)  # heads, by partition
    queue_limit: int = 64  # a queue of this length may go on beyond what was read
    nodes: Mapping[str, Sequence[Node]] = field(default_factory=dict)  # by partition
    observations: Mapping[int, Observation] = field(default_factory=dict)  # by workload id
    busy: frozenset[int] = frozenset()  # workloads that an action is under way for
    at_rest: Collection[int] = frozenset()  # nothing is to be done for them: see `rests_until_ms`
    stopping: Mapping[str, int] = field(default_factory=dict)  # when an attempt was told to stop
    lost_timeout_ms: int = 600_000
    stop_timeout_ms: int = 600_000
    retry_timeout_ms: int = RETRY_TIMEOUT_MS


@dataclass(frozen=True, slots=True)
class Outcome:
    """One event to record, and what is known about it."""

    event: Event
    at_ms: int | None = None
    reason: Reason = Reason.NONE
    message: str = ""


@dataclass(frozen=True, slots=True)
class Admit:
    """Put a new workload into its queue, and give it nodes at once if it is its turn."""

    workload: Workload
    placements: tuple[TaskPlacement, ...] | None


@dataclass(frozen=True, slots=True)
class Launch:
    """Tell the engine to start what holds its nodes."""

    workload: Workload


@dataclass(frozen=True, slots=True)
class Feed:
    """Have its inputs moved to where its nodes wait for them."""

    workload: Workload


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell the engine to end every process of the attempt."""

    workload: Workload


@dataclass(frozen=True, slots=True)
class Record:
    """Write down what happened. One that ends the workload gives its nodes back with it."""

    workload: Workload
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Clear:
    """Nothing of it runs any more, as far as the engine can tell: make sure, and free its nodes."""

    workload: Workload


@dataclass(frozen=True, slots=True)
class Tell:
    """Let everybody who looks at it see why the engine's own queue holds it."""

    workload: Workload
    message: str


Action = Admit | Launch | Feed | Stop | Record | Clear | Tell


def plan(world: World) -> list[Action]:
    """Decide what to do for every workload that nothing is under way for.

    In a queue, priority goes first, then who came first; the head waits for room and holds up those
    behind it, so that a large workload is never starved by small ones.
    """
    actions: list[Action] = []
    for workload in world.active:
        if workload.id in world.at_rest:
            continue
        if workload.id not in world.busy and workload.phase is not Phase.CREATING:
            actions += _for_active(workload, world)
    new: dict[str, list[Workload]] = {}
    for workload in world.active:
        if workload.phase is Phase.CREATING:
            new.setdefault(workload.partition, []).append(workload)
    for partition in sorted(world.queues.keys() | new.keys()):
        actions += _admissions(partition, new.get(partition, ()), world)
    return actions


def rests_until_ms(workload: Workload) -> int | None:
    """Until when nothing is to be done for one that a plan has nothing to do for; None: unknown.

    That holds as long as its row is the same, and the engine sees the same of it: then only its
    time limit counts.
    """
    if workload.phase not in (Phase.STARTING, Phase.RUNNING) or workload.engine_ref is None:
        return None
    return FOR_EVER_MS if workload.ends_by_ms is None else workload.ends_by_ms


def _admissions(partition: str, new: Sequence[Workload], world: World) -> list[Action]:
    queue = list(world.queues.get(partition, ()))
    # What was not read stands behind what was: nobody may pass it.
    last_read = turn(queue[-1]) if len(queue) >= world.queue_limit else None
    queue += new
    if not queue:
        return []  # what holds its nodes may be thousands: they are summed up only for somebody
    rooms = _rooms(partition, world)
    actions: list[Action] = []
    is_blocked = False
    for workload in sorted(queue, key=turn):
        is_blocked = is_blocked or (last_read is not None and turn(workload) > last_read)
        if workload.id in world.busy:
            is_blocked = True  # its admission is under way: nobody passes it
            continue
        if stop := _stop_when_due(workload, world):
            actions.append(stop)
            continue
        placements = (
            None if is_blocked else place(workload.task, workload.task_count, rooms.values())
        )
        if placements is None and (given_up := _give_up_retry(workload, world)):
            actions.append(given_up)
            continue
        if placements is None:
            is_blocked = True
        else:
            take(rooms, workload, placements)
        if placements is not None or workload.phase is Phase.CREATING:
            actions.append(Admit(workload, placements))
    return actions


def _give_up_retry(workload: Workload, world: World) -> Action | None:
    """The end of one that has waited too long to be tried again, and still finds no room."""
    waits_ms = world.now_ms - workload.phase_since_ms
    if workload.reason is Reason.PREEMPTED:
        return None  # it has not failed: it waits as long as one that has never run
    if not workload.attempt_count or waits_ms <= world.retry_timeout_ms:
        return None
    message = (
        f"{workload.message} For {_span(world.retry_timeout_ms)} there were no nodes to try it"
        " again on."
    ).strip()
    given_up = Outcome(Event.GIVEN_UP, reason=workload.reason, message=message)
    return Record(workload, (given_up,))


def _rooms(partition: str, world: World) -> dict[str, NodeRoom]:
    holders = (w for w in world.active if w.is_holding and w.partition == partition)
    return rooms_for_work(world.nodes.get(partition, ()), holders)


def _for_active(workload: Workload, world: World) -> list[Action]:
    seen = world.observations.get(workload.id)
    match workload.phase:
        case Phase.STARTING:
            return _for_starting(workload, seen, world)
        case Phase.RUNNING:
            return _for_running(workload, seen, world, ())
        case Phase.TERMINATING:
            return _for_terminating(workload, seen, world)
        case Phase.LOST:
            return _for_lost(workload, seen, world)
        case Phase.STOP_FAILED:
            return [Clear(workload)] if seen is not None and seen.is_over else []
        case (
            Phase.CREATING
            | Phase.QUEUED
            | Phase.TERMINATED
            | Phase.COMPLETED
            | Phase.FAILED
            | Phase.CREATE_FAILED
            | Phase.UNKNOWN
        ):
            return []


def _for_starting(workload: Workload, seen: Observation | None, world: World) -> list[Action]:
    if workload.engine_ref is None:
        return [Launch(workload)]
    if seen is None:
        return []
    started = [task.started_at_ms for task in seen.tasks if task.started_at_ms is not None]
    if not started and not seen.is_over and (stop := _stop_when_due(workload, world)):
        return [stop]  # it has run before
    if started:
        return _for_running(workload, seen, world, (Outcome(Event.STARTED, at_ms=min(started)),))
    if seen.is_gone:
        lost = _preempted(seen) if seen.was_preempted else _vanished(seen)
        return [Record(workload, (lost,))]
    if seen.is_over:
        message = next((task.message for task in seen.tasks if task.message), "It never came up.")
        refused = Outcome(Event.REFUSED, reason=Reason.ENGINE_REFUSED, message=message)
        return [Record(workload, (refused,))]
    if seen.awaits_inputs:
        return [Feed(workload)]
    if seen.waiting and seen.waiting != workload.message:
        return [Tell(workload, seen.waiting)]
    return []


def _for_running(
    workload: Workload,
    seen: Observation | None,
    world: World,
    before: tuple[Outcome, ...],
) -> list[Action]:
    """A running workload, or (with `before`) one that was found to run just now."""
    if seen is None:
        return [Record(workload, before)] if before else []
    if seen.is_over:
        return [Record(workload, (*before, _ending_of_attempt(workload, seen)))]
    if stop := _stop_when_due(workload, world):
        return [Record(workload, (*before, *stop.outcomes))]
    actions: list[Action] = [Record(workload, before)] if before else []
    if any(_has_failed(task) for task in seen.tasks) and workload.attempt_id not in world.stopping:
        # One task without the others is no use: they would wait for it until the end of days.
        actions.append(Stop(workload))
    return actions


def _stop_when_due(workload: Workload, world: World) -> Record | None:
    """A stop of what has run for as long as it may. The limit counts from the first start on."""
    if workload.ends_by_ms is None or world.now_ms < workload.ends_by_ms:
        return None
    message = f"Its time limit of {_span(workload.time_limit_ms or 0)} is over."
    stop = Outcome(Event.STOP_ASKED, reason=Reason.AUTO_STOPPED, message=message)
    return Record(workload, (stop,))


def _span(milliseconds: int) -> str:
    count, unit = milliseconds // _MINUTE_MS, "minute"
    if milliseconds % _HOUR_MS == 0:
        count, unit = milliseconds // _HOUR_MS, "hour"
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _for_terminating(workload: Workload, seen: Observation | None, world: World) -> list[Action]:
    if seen is not None and seen.is_over:
        return [Record(workload, (_ending_of_stopped(workload, seen),))]
    if not workload.is_holding:
        return [Record(workload, (stopped(workload),))]
    told_at_ms = world.stopping.get(workload.attempt_id or "")
    if told_at_ms is None:
        return [Stop(workload)]
    if world.now_ms - told_at_ms > world.stop_timeout_ms:
        given_up = Outcome(
            Event.STOP_GIVEN_UP,
            reason=Reason.PROCESSES_LEFT,
            message="Processes are left that do not end, even when killed; their nodes stay held.",
        )
        return [Record(workload, (given_up,))]
    return []


def _for_lost(workload: Workload, seen: Observation | None, world: World) -> list[Action]:
    if workload.is_holding and seen is not None:
        up_since = [t.started_at_ms for t in seen.tasks if t.state is TaskState.RUNNING]
        if up_since:
            return [Record(workload, (Outcome(Event.FOUND, at_ms=up_since[0]),))]
        return [Clear(workload)]
    if not workload.is_holding and workload.retries_left and not workload.is_deleted:
        retried = Outcome(Event.RETRIED, reason=workload.reason, message=workload.message)
        return [Record(workload, (retried,))]
    if world.now_ms - workload.phase_since_ms > world.lost_timeout_ms and not workload.is_holding:
        given_up = Outcome(Event.GIVEN_UP, reason=Reason.LOST, message=workload.message)
        return [Record(workload, (given_up,))]
    return []


def _has_failed(task: TaskObservation) -> bool:
    return task.state is TaskState.GONE or bool(task.exit_code)


def _ending_of_attempt(workload: Workload, seen: Observation) -> Outcome:
    """As `_ending`; a failure is not the end while the workload may be tried again."""
    ending = _ending(seen)
    if ending.event is Event.TASK_FAILED and workload.retries_left:
        return replace(ending, event=Event.RETRIED)
    return ending


def _ending(seen: Observation) -> Outcome:
    """What became of an attempt that is over and that no user has stopped."""
    ended_at_ms = max((t.ended_at_ms for t in seen.tasks if t.ended_at_ms), default=None)
    failed = [task for task in seen.tasks if task.exit_code]
    # Tasks that were ended because another one failed or vanished are not what went wrong.
    by_themselves = [task for task in failed if not task.was_stopped]
    if by_themselves:
        return _task_failed(by_themselves, ended_at_ms)
    if not seen.tasks or any(task.state is TaskState.GONE for task in seen.tasks):
        if seen.was_preempted:
            return replace(_preempted(seen), at_ms=ended_at_ms)
        return replace(_vanished(seen), at_ms=ended_at_ms)
    if failed:
        return _task_failed(failed, ended_at_ms)
    return Outcome(Event.SUCCEEDED, at_ms=ended_at_ms)


def _task_failed(failed: Sequence[TaskObservation], ended_at_ms: int | None) -> Outcome:
    """Tell of the one that failed first."""
    task = min(failed, key=lambda t: (t.ended_at_ms or 0, t.index))
    code = task.exit_code or 0
    if code > SIGNAL_EXIT_CODES:
        reason, how = Reason.TASK_SIGNAL, f"was ended by signal {code - SIGNAL_EXIT_CODES}"
    else:
        reason, how = Reason.TASK_EXIT, f"ended with exit code {code}"
    message = f"Task {task.index} {how}.{f' {task.message}' if task.message else ''}"
    return Outcome(Event.TASK_FAILED, at_ms=ended_at_ms, reason=reason, message=message)


def _ending_of_stopped(workload: Workload, seen: Observation) -> Outcome:
    """A stop was asked for: did it reach the tasks, or had they ended by themselves before?"""
    had_ended = seen.tasks and all(
        task.state is TaskState.ENDED and not task.was_stopped for task in seen.tasks
    )
    return _ending(seen) if had_ended else stopped(workload)


def stopped(workload: Workload) -> Outcome:
    """The end of a stop: it keeps the reason and the words of who asked for it."""
    return Outcome(Event.STOPPED, reason=workload.reason, message=workload.message)


def _preempted(seen: Observation) -> Outcome:
    """It costs no retry: the job did nothing wrong."""
    message = next((task.message for task in seen.tasks if task.message), "")
    return Outcome(Event.PREEMPTED, reason=Reason.PREEMPTED, message=message)


def _vanished(seen: Observation) -> Outcome:
    lost = [str(task.index) for task in seen.tasks if task.state is TaskState.GONE]
    which = f"Task {', '.join(lost)}" if lost else "It"
    why = next((task.message for task in seen.tasks if task.message), "")
    why = why or "The machine was restarted, or somebody killed its supervisor."
    return Outcome(
        Event.VANISHED,
        reason=Reason.LOST,
        message=f"{which} left neither a process nor a result. {why}",
    )
