"""What every plan keeps to, and what each rule decides."""

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.phase import Event, Phase, Reason
from muster.domain.placement import CardKind, TaskPlacement
from muster.domain.pool import Node, NodePhase
from muster.domain.resources import Resources
from muster.domain.workload import Workload, turn
from muster.engines.engine import Observation, TaskObservation
from muster.reconciler.plan import (
    RETRY_TIMEOUT_MS,
    Action,
    Admit,
    Clear,
    Feed,
    Launch,
    Outcome,
    Record,
    Stop,
    Tell,
    World,
    plan,
    rests_until_ms,
)
from tests.reconciler.worlds import (
    LONG_AGO_MS,
    NOW_MS,
    carried_out,
    ended,
    gone,
    make_workload,
    never_up,
    rooms_left,
    running,
    starting,
    whole_worlds,
    with_workloads,
    worlds,
)

ROUNDS_MAX: Final = 12

# ---------------------------------------------------------------- every plan


def placed(actions: list[Action]) -> list[tuple[Workload, TaskPlacement]]:
    return [
        (action.workload, placement)
        for action in actions
        if isinstance(action, Admit)
        for placement in action.placements or ()
    ]


@settings(max_examples=200)
@given(worlds)
def test_a_plan_never_hands_out_more_than_is_free(world: World) -> None:
    given_out = placed(plan(world))

    for partition, nodes in world.nodes.items():
        for room in rooms_left(nodes, world.active):
            here = [(w, p) for w, p in given_out if p.node_name == room.name]
            assert not here or room.name in {node.name for node in nodes if node.takes_work}
            assert all(workload.partition == partition for workload, _ in here)
            if here:
                total = sum((workload.task for workload, _ in here), Resources())
                assert total.fits_in(room.resources)
            cards = [card for _, placement in here for card in placement.cards]
            assert len(cards) == len(set(cards))
            assert set(cards) <= set(room.free_cards)


@settings(max_examples=200)
@given(whole_worlds())
def test_no_job_overtakes_one_ahead_of_it_in_its_partition(
    made: tuple[World, list[Workload]],
) -> None:
    world, workloads = made
    planned = plan(world)
    ended = {action.workload.id for action in planned if isinstance(action, Record)}
    waiting = [
        w for w in workloads if w.phase in (Phase.CREATING, Phase.QUEUED) and w.id not in ended
    ]

    admitted = {w.id for w, _ in placed(planned)}

    for workload in waiting:
        if workload.id in admitted:
            ahead = [
                other
                for other in waiting
                if other.partition == workload.partition and turn(other) < turn(workload)
            ]
            assert all(other.id in admitted for other in ahead)


@given(whole_worlds())
def test_once_a_plan_has_been_carried_out_there_is_soon_nothing_left_to_do(
    made: tuple[World, list[Workload]],
) -> None:
    world, workloads = made
    planned = plan(world)

    for _ in range(ROUNDS_MAX):
        world, workloads = carried_out(world, workloads, planned)
        done = {(type(a), a.workload.id, a.workload.phase) for a in planned}
        planned = plan(world)
        assert not done & {(type(a), a.workload.id, a.workload.phase) for a in planned}

    assert planned == []


@given(worlds)
def test_the_same_world_gives_the_same_plan(world: World) -> None:
    copy = replace(world, active=list(world.active), observations=dict(world.observations))

    assert plan(copy) == plan(world)


@given(worlds)
def test_the_order_in_which_rows_are_read_does_not_change_what_is_done(world: World) -> None:
    other_way = replace(
        world,
        active=list(world.active)[::-1],
        nodes={name: world.nodes[name][::-1] for name in sorted(world.nodes, reverse=True)},
    )

    assert sorted(map(repr, plan(other_way))) == sorted(map(repr, plan(world)))


@given(worlds)
def test_nothing_is_done_for_a_workload_that_an_action_is_under_way_for(world: World) -> None:
    assert not {action.workload.id for action in plan(world)} & world.busy


@given(worlds)
def test_an_action_is_for_a_workload_as_it_was_read(world: World) -> None:
    read = [*world.active, *(w for queue in world.queues.values() for w in queue)]

    assert all(action.workload in read for action in plan(world))


@given(worlds, st.integers(0, 10_000_000))
def test_what_may_rest_needs_nothing_until_its_time(world: World, later_ms: int) -> None:
    moving = {action.workload.id for action in plan(world)} | world.busy
    until_ms = {w.id: rests_until_ms(w) for w in world.active if w.id in world.observations}
    later = replace(world, now_ms=world.now_ms + later_ms)

    at_rest = {i for i, end in until_ms.items() if end and later.now_ms < end} - moving

    assert plan(replace(later, at_rest=at_rest)) == plan(later)


@given(whole_worlds(), st.integers(0, 10_000_000))
def test_time_alone_never_starts_or_ends_what_runs_without_a_limit(
    made: tuple[World, list[Workload]], later_ms: int
) -> None:
    world, workloads = made
    world = with_workloads(world, [w._replace(time_limit_ms=None) for w in workloads])
    later = replace(world, now_ms=world.now_ms + later_ms)

    def ends(actions: list[Action]) -> set[int]:
        return {a.workload.id for a in actions if isinstance(a, Record)}

    new = ends(plan(later)) - ends(plan(world))

    by_id = {w.id: w for w in workloads}
    assert {by_id[workload_id].phase for workload_id in new} <= {
        Phase.TERMINATING,
        Phase.LOST,
        Phase.QUEUED,  # one that has waited too long to be tried again
    }
    assert all(by_id[i].attempt_count for i in new if by_id[i].phase is Phase.QUEUED)


@given(worlds)
def test_nothing_is_tried_again_more_often_than_it_may_be(world: World) -> None:
    retried = [
        action.workload
        for action in plan(world)
        if isinstance(action, Record) and action.outcomes[-1].event is Event.RETRIED
    ]

    assert all(workload.retries_left for workload in retried)
    assert all(workload.phase is not Phase.TERMINATING for workload in retried)


# ---------------------------------------------------------------- one workload


def plan_for(
    workload: Workload,
    *tasks: TaskObservation,
    is_observed: bool = True,
    told_at_ms: int | None = None,
    was_preempted: bool = False,
) -> list[Action]:
    """What is planned for one workload, `tasks` being what the engine reports of it."""
    assert workload.attempt_id or told_at_ms is None
    seen = Observation(tasks=tasks, was_preempted=was_preempted)
    return plan(
        World(
            now_ms=NOW_MS,
            active=[workload],
            observations={workload.id: seen} if is_observed else {},
            stopping={} if told_at_ms is None else {f"a{workload.id}": told_at_ms},
        )
    )


def holding(phase: Phase, *, task_count: int = 1, phase_since_ms: int = NOW_MS) -> Workload:
    return make_workload(
        phase,
        task_count=task_count,
        is_holding=True,
        engine_ref="a1",
        phase_since_ms=phase_since_ms,
    )


def only_outcome(actions: list[Action]) -> Outcome:
    [record] = actions
    assert isinstance(record, Record)
    [outcome] = record.outcomes
    return outcome


STARTING: Final = holding(Phase.STARTING)
RUNNING: Final = holding(Phase.RUNNING)
TERMINATING: Final = holding(Phase.TERMINATING)._replace(
    reason=Reason.STOPPED_BY_USER, message="Enough."
)


def test_what_holds_its_nodes_is_launched() -> None:
    workload = make_workload(Phase.STARTING, is_holding=True)

    assert plan_for(workload, is_observed=False) == [Launch(workload)]


def test_what_was_launched_is_waited_for() -> None:
    assert plan_for(STARTING, starting()) == []
    assert plan_for(STARTING, is_observed=False) == []


def test_why_the_engines_own_queue_holds_it_is_told_once() -> None:
    why = "Others have its nodes."
    held = Observation(tasks=(starting(),), waiting=why)

    def planned(workload: Workload, seen: Observation) -> list[Action]:
        return plan(World(now_ms=NOW_MS, active=[workload], observations={workload.id: seen}))

    assert planned(STARTING, held) == [Tell(STARTING, why)]
    assert planned(STARTING._replace(message=why), held) == []
    assert planned(RUNNING, replace(held, tasks=(running(),))) == []


def test_inputs_that_its_nodes_wait_for_are_moved_there() -> None:
    seen = Observation(tasks=(starting(),), awaits_inputs=True)

    def planned(workload: Workload) -> list[Action]:
        return plan(World(now_ms=NOW_MS, active=[workload], observations={workload.id: seen}))

    assert planned(STARTING) == [Feed(STARTING)]
    assert planned(TERMINATING) == [Stop(TERMINATING)]


def test_it_runs_once_its_first_task_is_up() -> None:
    actions = plan_for(STARTING, starting(0), running(1, since_ms=70), running(2, since_ms=60))

    assert only_outcome(actions) == Outcome(Event.STARTED, at_ms=60)


def test_what_has_come_and_gone_between_two_passes_has_started_and_ended() -> None:
    assert plan_for(STARTING, ended(0, at_ms=900)) == [
        Record(
            STARTING,
            (Outcome(Event.STARTED, at_ms=100), Outcome(Event.SUCCEEDED, at_ms=900)),
        )
    ]


def test_what_cannot_be_started_tells_why() -> None:
    outcome = only_outcome(plan_for(STARTING, never_up("There is no such program.")))

    assert outcome == Outcome(
        Event.REFUSED, reason=Reason.ENGINE_REFUSED, message="There is no such program."
    )


def test_what_never_came_up_says_so_even_without_a_reason() -> None:
    assert only_outcome(plan_for(STARTING, never_up(""))).message == "It never came up."


@pytest.mark.parametrize("tasks", [(), (gone(),)])
def test_what_vanished_before_it_came_up_is_lost(tasks: tuple[TaskObservation, ...]) -> None:
    outcome = only_outcome(plan_for(STARTING, *tasks))

    assert (outcome.event, outcome.reason) == (Event.VANISHED, Reason.LOST)


def test_what_runs_is_left_alone() -> None:
    assert plan_for(RUNNING, running(0), running(1), ended(0, 2)) == []
    assert plan_for(RUNNING, is_observed=False) == []


def test_it_has_succeeded_when_every_task_has() -> None:
    outcome = only_outcome(plan_for(RUNNING, ended(0, 0, at_ms=700), ended(0, 1, at_ms=300)))

    assert outcome == Outcome(Event.SUCCEEDED, at_ms=700)


def test_an_exit_code_is_told() -> None:
    outcome = only_outcome(plan_for(RUNNING, ended(0, 0), ended(3, 1)))

    assert (outcome.event, outcome.reason) == (Event.TASK_FAILED, Reason.TASK_EXIT)
    assert outcome.message == "Task 1 ended with exit code 3."


def test_a_signal_is_told() -> None:
    outcome = only_outcome(plan_for(RUNNING, ended(128 + 9)))

    assert (outcome.event, outcome.reason) == (Event.TASK_FAILED, Reason.TASK_SIGNAL)
    assert outcome.message == "Task 0 was ended by signal 9."


def test_of_several_failures_the_first_is_told() -> None:
    outcome = only_outcome(plan_for(RUNNING, ended(1, 0, at_ms=500), ended(2, 1, at_ms=400)))

    assert outcome.message == "Task 1 ended with exit code 2."
    assert outcome.at_ms == 500


@pytest.mark.parametrize("failed", [ended(3, 1), gone(1)])
def test_a_task_that_failed_stops_the_others(failed: TaskObservation) -> None:
    assert plan_for(RUNNING, running(0), failed) == [Stop(RUNNING)]


def test_the_others_are_stopped_once() -> None:
    assert plan_for(RUNNING, running(0), ended(3, 1), told_at_ms=NOW_MS) == []


def test_a_failure_found_with_the_start_is_recorded_and_stops_the_others() -> None:
    assert plan_for(STARTING, running(0), ended(3, 1)) == [
        Record(STARTING, (Outcome(Event.STARTED, at_ms=100),)),
        Stop(STARTING),
    ]


def test_tasks_that_were_stopped_because_of_another_are_not_what_went_wrong() -> None:
    stopped = ended(143, 0, was_stopped=True, at_ms=100)

    outcome = only_outcome(plan_for(RUNNING, stopped, ended(3, 1, at_ms=200)))

    assert outcome.message == "Task 1 ended with exit code 3."


def test_it_is_lost_if_a_task_vanished_and_the_others_were_stopped_for_it() -> None:
    outcome = only_outcome(plan_for(RUNNING, ended(143, 0, was_stopped=True), gone(1)))

    assert (outcome.event, outcome.reason) == (Event.VANISHED, Reason.LOST)
    assert outcome.message.startswith("Task 1 left neither a process nor a result")


def test_it_has_failed_if_a_task_failed_by_itself_though_another_vanished() -> None:
    assert only_outcome(plan_for(RUNNING, ended(3, 0), gone(1))).event is Event.TASK_FAILED


def test_a_task_that_was_stopped_by_nobody_known_has_failed() -> None:
    outcome = only_outcome(plan_for(RUNNING, ended(0, 0), ended(143, 1, was_stopped=True)))

    assert (outcome.event, outcome.reason) == (Event.TASK_FAILED, Reason.TASK_SIGNAL)


def test_what_the_engine_does_not_know_any_more_is_lost() -> None:
    outcome = only_outcome(plan_for(RUNNING))

    assert outcome.event is Event.VANISHED
    assert outcome.message.startswith("It left neither")


def test_a_stop_of_what_holds_nothing_is_done_at_once() -> None:
    workload = make_workload(Phase.TERMINATING)._replace(
        reason=Reason.STOPPED_BY_USER, message="Enough."
    )

    outcome = only_outcome(plan_for(workload, is_observed=False))

    assert outcome == Outcome(Event.STOPPED, reason=Reason.STOPPED_BY_USER, message="Enough.")


@pytest.mark.parametrize("engine_ref", [None, "a1"])
def test_the_engine_is_told_to_stop_what_may_run(engine_ref: str | None) -> None:
    workload = TERMINATING._replace(engine_ref=engine_ref)

    assert plan_for(workload, running(), is_observed=engine_ref is not None) == [Stop(workload)]


def test_a_stop_is_told_once_and_waited_for() -> None:
    assert plan_for(TERMINATING, running(), told_at_ms=NOW_MS - 1_000) == []


def test_a_stop_that_has_reached_every_task_keeps_its_reason() -> None:
    outcome = only_outcome(plan_for(TERMINATING, ended(143, was_stopped=True), told_at_ms=1))

    assert outcome == Outcome(Event.STOPPED, reason=Reason.STOPPED_BY_USER, message="Enough.")


def test_a_stop_that_came_too_late_completes() -> None:
    outcome = only_outcome(plan_for(TERMINATING, ended(0, 0), ended(0, 1), told_at_ms=1))

    assert outcome == Outcome(Event.SUCCEEDED, at_ms=200)


def test_a_stop_that_came_too_late_fails_what_had_failed() -> None:
    outcome = only_outcome(plan_for(TERMINATING, ended(3, 0), ended(0, 1), told_at_ms=1))

    assert (outcome.event, outcome.reason) == (Event.TASK_FAILED, Reason.TASK_EXIT)


@pytest.mark.parametrize(
    "tasks",
    [(ended(0, 0), ended(143, 1, was_stopped=True)), (ended(0, 0), gone(1)), (gone(),), ()],
)
def test_a_stop_that_reached_a_part_of_it_has_stopped_it(
    tasks: tuple[TaskObservation, ...],
) -> None:
    assert only_outcome(plan_for(TERMINATING, *tasks, told_at_ms=1)).event is Event.STOPPED


def test_a_stop_is_given_up_after_its_time() -> None:
    outcome = only_outcome(plan_for(TERMINATING, running(), told_at_ms=LONG_AGO_MS))

    assert (outcome.event, outcome.reason) == (Event.STOP_GIVEN_UP, Reason.PROCESSES_LEFT)


def test_the_time_of_a_stop_counts_from_when_the_engine_was_told() -> None:
    workload = TERMINATING._replace(phase_since_ms=LONG_AGO_MS)  # the server was down

    assert plan_for(workload, running()) == [Stop(workload)]
    assert plan_for(workload, running(), told_at_ms=NOW_MS) == []


def test_what_could_not_be_stopped_keeps_its_nodes_until_it_has_ended() -> None:
    workload = holding(Phase.STOP_FAILED)

    assert plan_for(workload, running()) == []
    assert plan_for(workload, ended(137, was_stopped=True)) == [Clear(workload)]


def test_a_lost_workload_that_runs_after_all_is_found() -> None:
    outcome = only_outcome(plan_for(holding(Phase.LOST), running(since_ms=70)))

    assert outcome == Outcome(Event.FOUND, at_ms=70)


@pytest.mark.parametrize("tasks", [(), (gone(),), (ended(0),), (starting(),)])
def test_the_nodes_of_a_lost_workload_are_cleared(tasks: tuple[TaskObservation, ...]) -> None:
    workload = holding(Phase.LOST)

    assert plan_for(workload, *tasks) == [Clear(workload)]


def test_a_lost_workload_is_given_up_after_its_time() -> None:
    workload = make_workload(Phase.LOST, phase_since_ms=LONG_AGO_MS)._replace(
        message="Task 0 left no result."
    )

    outcome = only_outcome(plan_for(workload, is_observed=False))

    assert outcome == Outcome(Event.GIVEN_UP, reason=Reason.LOST, message="Task 0 left no result.")
    assert plan_for(make_workload(Phase.LOST), is_observed=False) == []


def test_a_lost_workload_is_not_given_up_while_it_holds_nodes() -> None:
    workload = holding(Phase.LOST, phase_since_ms=LONG_AGO_MS)

    assert plan_for(workload, gone()) == [Clear(workload)]
    assert plan_for(workload, is_observed=False) == []


# ---------------------------------------------------------------- retries


def may_retry(workload: Workload, retries: int = 1) -> Workload:
    return workload._replace(retries_left=retries, attempt_count=1, message="It was lost.")


def test_what_failed_is_tried_again_while_it_may_be() -> None:
    outcome = only_outcome(plan_for(may_retry(RUNNING), ended(3)))

    assert (outcome.event, outcome.reason, outcome.at_ms) == (Event.RETRIED, Reason.TASK_EXIT, 200)
    assert outcome.message == "Task 0 ended with exit code 3."
    assert only_outcome(plan_for(RUNNING, ended(3))).event is Event.TASK_FAILED


def test_what_succeeded_is_not_tried_again() -> None:
    assert only_outcome(plan_for(may_retry(RUNNING), ended(0))).event is Event.SUCCEEDED


def test_what_a_user_stopped_is_not_tried_again() -> None:
    stopping = may_retry(TERMINATING)

    assert only_outcome(plan_for(stopping, ended(143, was_stopped=True))).event is Event.STOPPED
    assert only_outcome(plan_for(stopping, ended(3))).event is Event.TASK_FAILED


def test_a_lost_one_is_tried_again_once_its_nodes_are_cleared() -> None:
    lost = may_retry(holding(Phase.LOST))

    assert plan_for(lost, gone()) == [Clear(lost)]
    outcome = only_outcome(plan_for(lost._replace(is_holding=False), is_observed=False))
    assert (outcome.event, outcome.message) == (Event.RETRIED, "It was lost.")


def test_a_lost_one_that_was_deleted_is_not_tried_again() -> None:
    lost = may_retry(make_workload(Phase.LOST))._replace(is_deleted=True)

    assert plan_for(lost, is_observed=False) == []


TAKEN: Final = replace(gone(), message="Slurm ended the job: PREEMPTED.")


@pytest.mark.parametrize("retries", [0, 1])
def test_what_was_preempted_waits_again_whether_or_not_it_may_be_tried_again(retries: int) -> None:
    workload = may_retry(RUNNING, retries)

    outcome = only_outcome(plan_for(workload, TAKEN, was_preempted=True))

    assert (outcome.event, outcome.reason) == (Event.PREEMPTED, Reason.PREEMPTED)
    assert outcome.message == TAKEN.message


def test_what_is_taken_off_the_clusters_queue_before_it_came_up_waits_again() -> None:
    outcome = only_outcome(plan_for(STARTING, TAKEN, was_preempted=True))

    assert (outcome.event, outcome.reason) == (Event.PREEMPTED, Reason.PREEMPTED)


def test_a_task_that_failed_before_the_rest_was_preempted_fails_the_job() -> None:
    outcome = only_outcome(plan_for(RUNNING, ended(3), TAKEN, was_preempted=True))

    assert outcome.event is Event.TASK_FAILED


def test_a_stop_of_what_is_preempted_meanwhile_is_a_stop() -> None:
    assert only_outcome(plan_for(TERMINATING, TAKEN, was_preempted=True)).event is Event.STOPPED


def test_one_that_was_preempted_waits_for_ever() -> None:
    workload = waiting(1, 1)._replace(
        attempt_count=1,
        phase_since_ms=NOW_MS - 10 * RETRY_TIMEOUT_MS,
        reason=Reason.PREEMPTED,
    )

    assert plan(World(now_ms=NOW_MS, queues={"p": [workload]}, nodes={"p": ()})) == []


def test_one_that_waits_too_long_to_be_tried_again_is_given_up() -> None:
    def given_up_after(waited_ms: int, *nodes: Node) -> list[Action]:
        workload = waiting(1, 1)._replace(
            attempt_count=1,
            phase_since_ms=NOW_MS - waited_ms,
            reason=Reason.TASK_EXIT,
            message="Task 0 ended with exit code 3.",
        )
        return plan(World(now_ms=NOW_MS, queues={"p": [workload]}, nodes={"p": nodes}))

    outcome = only_outcome(given_up_after(RETRY_TIMEOUT_MS + 1))

    assert (outcome.event, outcome.reason) == (Event.GIVEN_UP, Reason.TASK_EXIT)
    assert outcome.message == (
        "Task 0 ended with exit code 3. For 30 minutes there were no nodes to try it again on."
    )
    assert given_up_after(RETRY_TIMEOUT_MS) == []
    # A server that was down for so long tries first.
    [admission] = given_up_after(RETRY_TIMEOUT_MS + 1, NODE)
    assert isinstance(admission, Admit)


# ---------------------------------------------------------------- time limits


def limited(workload: Workload, *, over_by_ms: int) -> Workload:
    return workload._replace(started_at_ms=NOW_MS - 7_200_000 - over_by_ms, time_limit_ms=7_200_000)


def test_what_has_run_for_its_limit_is_stopped() -> None:
    outcome = only_outcome(plan_for(limited(RUNNING, over_by_ms=0), running()))

    assert outcome == Outcome(
        Event.STOP_ASKED,
        reason=Reason.AUTO_STOPPED,
        message="Its time limit of 2 hours is over.",
    )
    assert plan_for(limited(RUNNING, over_by_ms=-1), running()) == []


def test_what_ended_by_itself_at_its_limit_has_ended_by_itself() -> None:
    workload = limited(RUNNING, over_by_ms=5)

    assert only_outcome(plan_for(workload, ended(0))).event is Event.SUCCEEDED


def test_one_that_waits_to_be_tried_again_is_stopped_at_its_limit() -> None:
    workload = limited(waiting(1, 1)._replace(attempt_count=1), over_by_ms=1)

    actions = plan(World(now_ms=NOW_MS, queues={"p": [workload]}, nodes={"p": [NODE]}))

    assert only_outcome(actions).event is Event.STOP_ASKED


def test_one_without_a_start_has_time() -> None:
    workload = STARTING._replace(time_limit_ms=1)

    assert plan_for(workload, starting()) == []


# ---------------------------------------------------------------- the queue

NODE: Final = Node(
    name="n",
    partition="p",
    cpu_millis=4,
    memory_mib=4,
    card_kind=CardKind.GPU,
    cards=(0, 1),
)


def waiting(
    workload_id: int, cpu_millis: int, *, priority: int = 1, phase: Phase = Phase.QUEUED
) -> Workload:
    return make_workload(
        phase,
        workload_id=workload_id,
        task=Resources(cpu_millis=cpu_millis),
        priority=priority,
    )


def admissions(*workloads: Workload, queue_limit: int = 64, busy: int = 0) -> dict[int, bool]:
    """For which workloads an admission is planned, and whether it gets nodes with it."""
    queue = [w for w in workloads if w.phase is Phase.QUEUED]
    actions = plan(
        World(
            now_ms=NOW_MS,
            active=[w for w in workloads if w.phase is not Phase.QUEUED],
            queues={"p": sorted(queue, key=turn)},
            queue_limit=queue_limit,
            nodes={"p": [NODE]},
            busy=frozenset([busy]),
        )
    )
    return {
        action.workload.id: action.placements is not None
        for action in actions
        if isinstance(action, Admit)
    }


def test_the_queue_is_served_until_its_head_does_not_fit() -> None:
    assert admissions(waiting(1, 2), waiting(2, 3), waiting(3, 1)) == {1: True}


def test_priority_goes_first() -> None:
    assert admissions(waiting(1, 3), waiting(2, 3, priority=2)) == {2: True}


def test_a_new_workload_gets_its_nodes_at_once_if_it_is_its_turn() -> None:
    assert admissions(waiting(1, 3, phase=Phase.CREATING)) == {1: True}


def test_a_new_workload_queues_if_it_is_not_its_turn() -> None:
    assert admissions(waiting(1, 5), waiting(2, 1, phase=Phase.CREATING)) == {2: False}


def test_a_new_workload_of_high_priority_passes_the_queue() -> None:
    new = waiting(2, 3, phase=Phase.CREATING, priority=3)

    assert admissions(waiting(1, 3), new) == {2: True}


def test_nobody_passes_one_whose_admission_is_under_way() -> None:
    assert admissions(waiting(1, 1), waiting(2, 1), busy=1) == {}


def test_a_new_workload_does_not_pass_the_part_of_the_queue_that_was_not_read() -> None:
    new = waiting(9, 1, phase=Phase.CREATING)

    assert admissions(waiting(1, 1), waiting(2, 1), new, queue_limit=2) == {
        1: True,
        2: True,
        9: False,
    }
    assert admissions(waiting(1, 1), waiting(2, 1), new, queue_limit=3) == {
        1: True,
        2: True,
        9: True,
    }


def test_what_others_hold_is_not_free() -> None:
    holder = make_workload(
        Phase.RUNNING, workload_id=1, task=Resources(cpu_millis=2), is_holding=True
    )._replace(
        placements=(TaskPlacement(index=0, node_name="n"),),
    )

    assert admissions(holder, waiting(2, 3)) == {}
    assert admissions(holder, waiting(2, 2)) == {2: True}


def test_what_runs_on_a_node_that_left_the_inventory_takes_nothing_from_the_others() -> None:
    holder = make_workload(
        Phase.RUNNING, workload_id=1, task=Resources(cpu_millis=4), is_holding=True
    )._replace(
        placements=(TaskPlacement(index=0, node_name="gone"),),
    )

    assert admissions(holder, waiting(2, 4)) == {2: True}


@pytest.mark.parametrize(
    "closed",
    [
        {"is_locked": True},
        {"is_spare": True},
        {"phase": NodePhase.ABNORMAL},
        {"phase": NodePhase.DELETING},
    ],
)
def test_a_node_that_takes_no_work_gets_nothing_new(closed: dict[str, Any]) -> None:
    new = waiting(1, 1)

    def placed_on(*nodes: Node) -> list[str]:
        actions = plan(World(now_ms=NOW_MS, queues={"p": [new]}, nodes={"p": nodes}))
        return [placement.node_name for _, placement in placed(actions)]

    assert placed_on(replace(NODE, **closed)) == []
    assert placed_on(replace(NODE, **closed), replace(NODE, name="open")) == ["open"]


def test_a_partition_without_nodes_admits_nobody() -> None:
    new = waiting(1, 0, phase=Phase.CREATING)._replace(partition="nowhere")

    assert admissions(new) == {1: False}
