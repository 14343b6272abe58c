"""Worlds to plan in: by hand, at random, and as they are once a plan has been carried out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from muster.domain.phase import FINISHED, Event, Phase, next_phase
from muster.domain.placement import CardKind, NodeRoom, place
from muster.domain.pool import Node
from muster.domain.resources import Resources
from muster.domain.workload import Workload, WorkloadType, turn
from muster.engines.engine import Observation, TaskObservation, TaskState
from muster.reconciler.plan import Action, Admit, Clear, Feed, Launch, Record, Stop, Tell, World

NOW_MS: Final = 10_000_000
LONG_AGO_MS: Final = NOW_MS - 2_000_000  # longer than any timeout

PARTITIONS: Final = ("p", "q")
ONE_CPU: Final = Resources(cpu_millis=1)


def make_workload(
    phase: Phase,
    *,
    workload_id: int = 1,
    partition: str = "p",
    task: Resources = ONE_CPU,
    task_count: int = 1,
    priority: int = 1,
    is_holding: bool = False,
    engine_ref: str | None = None,
    phase_since_ms: int = NOW_MS,
) -> Workload:
    workload = Workload(
        id=workload_id,
        project_id="1",
        pool_id="public-1",
        partition=partition,
        type=WorkloadType.TRAIN,
        task=task,
        task_count=task_count,
        priority=priority,
        phase=phase,
        phase_since_ms=phase_since_ms,
    )
    if not is_holding:
        return workload
    return workload._replace(is_holding=True, attempt_id=f"a{workload_id}", engine_ref=engine_ref)


def running(index: int = 0, *, since_ms: int = 100) -> TaskObservation:
    return TaskObservation(index=index, state=TaskState.RUNNING, started_at_ms=since_ms)


def starting(index: int = 0) -> TaskObservation:
    return TaskObservation(index=index, state=TaskState.STARTING)


def ended(
    exit_code: int, index: int = 0, *, was_stopped: bool = False, at_ms: int = 200
) -> TaskObservation:
    return TaskObservation(
        index=index,
        state=TaskState.ENDED,
        exit_code=exit_code,
        was_stopped=was_stopped,
        started_at_ms=100,
        ended_at_ms=at_ms,
    )


def never_up(message: str, index: int = 0) -> TaskObservation:
    return TaskObservation(
        index=index, state=TaskState.ENDED, exit_code=127, ended_at_ms=200, message=message
    )


def gone(index: int = 0) -> TaskObservation:
    return TaskObservation(index=index, state=TaskState.GONE)


def rooms_left(nodes: Iterable[Node], workloads: Iterable[Workload]) -> list[NodeRoom]:
    """What the holders among the workloads leave of the nodes."""
    held = [(w.task, p) for w in workloads if w.is_holding for p in w.placements]
    return [
        replace(
            node.room,
            cpu_millis=node.cpu_millis - sum(task.cpu_millis for task, _ in here),
            memory_mib=node.memory_mib - sum(task.memory_mib for task, _ in here),
            free_cards=tuple(c for c in node.cards if all(c not in p.cards for _, p in here)),
        )
        for node in nodes
        for here in [[(task, p) for task, p in held if p.node_name == node.name]]
    ]


@st.composite
def nodes_of(draw: st.DrawFn, partition: str) -> tuple[Node, ...]:
    def node(index: int) -> Node:
        cards = draw(st.integers(0, 3))
        return Node(
            name=f"{partition}-{index}",
            partition=partition,
            cpu_millis=draw(st.integers(1, 8)),
            memory_mib=draw(st.integers(1, 8)),
            card_kind=CardKind.GPU if cards else None,
            cards=tuple(range(cards)),
            is_locked=draw(st.integers(0, 5)) == 5,
        )

    return tuple(node(index) for index in range(draw(st.sampled_from([2, 3, 1, 0]))))


@st.composite
def observations(draw: st.DrawFn, task_count: int) -> Observation:
    def task(index: int) -> TaskObservation:
        return draw(
            st.sampled_from(
                [
                    starting(index),
                    running(index),
                    ended(0, index),
                    ended(3, index),
                    ended(143, index, was_stopped=True),
                    never_up("There is no such program.", index),
                    gone(index),
                ]
            )
        )

    is_known = draw(st.integers(0, 9)) > 0
    return Observation(
        tasks=tuple(task(index) for index in range(task_count if is_known else 0)),
        waiting=draw(st.sampled_from(["", "Others have its nodes."])),
    )


@st.composite
def histories(draw: st.DrawFn, workload: Workload) -> Workload:
    """With what it may have behind it: a start, and attempts that failed; and what it has left."""
    had_started = workload.phase not in (Phase.QUEUED, Phase.STARTING)
    was_retried = draw(st.integers(0, 2)) == 2
    return workload._replace(
        retries_left=draw(st.sampled_from([0, 0, 1, 3])),
        attempt_count=workload.attempt_count + was_retried,
        started_at_ms=LONG_AGO_MS if had_started or was_retried else None,
        time_limit_ms=draw(st.sampled_from([None, None, 60_000, 10_000_000])),
    )


HOLDING: Final = (Phase.STARTING, Phase.RUNNING, Phase.TERMINATING, Phase.LOST, Phase.STOP_FAILED)
WAITING: Final = (Phase.CREATING, Phase.QUEUED, Phase.QUEUED, Phase.TERMINATING, Phase.LOST)


@st.composite
def whole_worlds(draw: st.DrawFn) -> tuple[World, list[Workload]]:
    """A world as it can come about, and every workload in it: a long queue is not read whole."""
    nodes = {partition: draw(nodes_of(partition)) for partition in PARTITIONS}
    workloads: list[Workload] = []
    for workload_id in range(1, draw(st.sampled_from([6, 9, 3, 0])) + 1):
        partition = draw(st.sampled_from(PARTITIONS))
        workload = make_workload(
            draw(st.sampled_from(WAITING)),
            workload_id=workload_id,
            partition=partition,
            task=Resources(
                cpu_millis=draw(st.integers(0, 3)),
                memory_mib=draw(st.integers(0, 2)),
                gpu_count=draw(st.sampled_from([0, 0, 1, 2])),
            ),
            task_count=draw(st.sampled_from([1, 1, 2, 3])),
            priority=draw(st.integers(1, 3)),
            phase_since_ms=draw(st.sampled_from([NOW_MS, LONG_AGO_MS])),
        )
        placements = place(
            workload.task, workload.task_count, rooms_left(nodes[partition], workloads)
        )
        if placements is not None and draw(st.sampled_from([True, True, False])):
            phase = draw(st.sampled_from(HOLDING))
            may_lack_reference = phase in (Phase.STARTING, Phase.TERMINATING)
            workload = workload._replace(
                phase=phase,
                is_holding=True,
                attempt_id=f"a{workload_id}",
                engine_ref=None
                if may_lack_reference and draw(st.booleans())
                else f"a{workload_id}",
                placements=placements,
                attempt_count=1,
            )
        if workload.is_holding or workload.phase is Phase.QUEUED:
            workload = draw(histories(workload))
        workloads.append(workload)
    seen = {
        w.id: draw(observations(w.task_count)) for w in workloads if w.is_holding and w.engine_ref
    }
    attempts = [w.attempt_id for w in workloads if w.attempt_id is not None]
    told = draw(st.sets(st.sampled_from(attempts))) if attempts else set()
    some = st.sets(st.integers(1, len(workloads)), max_size=2) if workloads else st.just(set())
    busy: set[int] = draw(some) if draw(st.integers(0, 3)) == 3 else set()
    world = World(
        now_ms=NOW_MS,
        queue_limit=draw(st.integers(1, 5)),
        nodes=nodes,
        observations=seen,
        busy=frozenset(busy),
        stopping={a: draw(st.sampled_from([NOW_MS, LONG_AGO_MS])) for a in sorted(told)},
    )
    return with_workloads(world, workloads), workloads


worlds: Final = whole_worlds().map(lambda made: made[0])


def with_workloads(world: World, workloads: Sequence[Workload]) -> World:
    """The world as the store shows it: what is not at rest, and the head of each queue."""
    queued = sorted((w for w in workloads if w.phase is Phase.QUEUED), key=turn)
    at_rest = FINISHED | {Phase.QUEUED}
    return replace(
        world,
        active=[w for w in workloads if w.phase not in at_rest or w.is_holding],
        queues={
            partition: [w for w in queued if w.partition == partition][: world.queue_limit]
            for partition in world.nodes
        },
    )


def carried_out(
    world: World, workloads: Sequence[Workload], actions: Sequence[Action]
) -> tuple[World, list[Workload]]:
    """What is so once the engine and the store have done what was planned, and nothing else."""
    rows = {workload.id: workload for workload in workloads}
    seen, told = dict(world.observations), dict(world.stopping)
    for action in actions:
        workload = rows[action.workload.id]
        match action:
            case Admit(placements=placements):
                workload = _after(workload, Event.ENQUEUED if _is_new(workload) else None)
                if placements is not None:
                    workload = _after(workload, Event.PLACED)._replace(
                        is_holding=True,
                        attempt_id=f"a{workload.id}-{workload.attempt_count + 1}",
                        attempt_count=workload.attempt_count + 1,
                        placements=placements,
                    )
            case Launch():
                workload = workload._replace(engine_ref=workload.attempt_id)
                tasks = tuple(starting(index) for index in range(workload.task_count))
                seen[workload.id] = Observation(tasks=tasks)
            case Feed():
                seen[workload.id] = replace(seen[workload.id], awaits_inputs=False)
            case Stop():
                assert workload.attempt_id is not None
                told[workload.attempt_id] = world.now_ms
                if workload.engine_ref is None:  # the engine has never heard of it
                    workload = _after(workload, Event.STOPPED)._replace(is_holding=False)
            case Record(outcomes=outcomes):
                for outcome in outcomes:
                    workload = _after(workload, outcome.event)
                    if outcome.event in (Event.RETRIED, Event.PREEMPTED):
                        costs = 1 if outcome.event is Event.RETRIED else 0
                        workload = workload._replace(
                            is_holding=False,
                            attempt_id=None,
                            engine_ref=None,
                            placements=(),
                            retries_left=workload.retries_left - costs,
                        )
                if workload.phase in FINISHED and workload.phase is not Phase.STOP_FAILED:
                    workload = workload._replace(is_holding=False)
            case Clear():
                workload = workload._replace(is_holding=False)
            case Tell(message=message):
                workload = workload._replace(message=message)
        rows[workload.id] = workload
    after = list(rows.values())
    holding = {w.id for w in after if w.is_holding}
    world = replace(
        world, observations={k: v for k, v in seen.items() if k in holding}, stopping=told
    )
    return with_workloads(world, after), after


def _is_new(workload: Workload) -> bool:
    return workload.phase is Phase.CREATING


def _after(workload: Workload, event: Event | None) -> Workload:
    if event is None:
        return workload
    return workload._replace(phase=next_phase(workload.phase, event), phase_since_ms=NOW_MS)
