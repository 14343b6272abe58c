"""Why a workload waits: the same as what a plan will do, told in words."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.phase import Phase
from muster.domain.placement import CardKind, TaskPlacement
from muster.domain.pool import Node, NodePhase, PoolPhase
from muster.domain.resources import Resources
from muster.domain.waiting import Scene, Waiting, WaitingReason, behind, explain, message_of
from muster.domain.workload import Workload, turn
from muster.reconciler.plan import Admit, World, plan
from tests.reconciler.worlds import (
    NOW_MS,
    PARTITIONS,
    make_workload,
    whole_worlds,
    with_workloads,
)

TWO_CARDS = Resources(cpu_millis=1000, memory_mib=1024, gpu_count=2)
ROOM = (
    WaitingReason.LACKS_CARDS,
    WaitingReason.LACKS_CPU,
    WaitingReason.LACKS_MEMORY,
    WaitingReason.LACKS_NODES,
)
HOUR_MS = 3_600_000


def gpu_node(name: str, **more: object) -> Node:
    node = Node(
        name=name,
        partition="p",
        cpu_millis=8_000,
        memory_mib=8_192,
        card_kind=CardKind.GPU,
        cards=(0, 1, 2, 3),
    )
    return replace(node, **more)  # type: ignore[arg-type]


def queued(
    workload_id: int, task: Resources = TWO_CARDS, task_count: int = 1, priority: int = 1
) -> Workload:
    return make_workload(
        Phase.QUEUED, workload_id=workload_id, task=task, task_count=task_count, priority=priority
    )


def holder(
    workload_id: int,
    node_name: str,
    cards: tuple[int, ...],
    *,
    limit_ms: int | None = None,
    project_id: str = "1",
) -> Workload:
    return make_workload(
        Phase.RUNNING,
        workload_id=workload_id,
        task=Resources(cpu_millis=1000, memory_mib=1024, gpu_count=len(cards)),
        is_holding=True,
    )._replace(
        project_id=project_id,
        started_at_ms=NOW_MS,
        time_limit_ms=limit_ms,
        placements=(
            TaskPlacement(index=0, node_name=node_name, card_kind=CardKind.GPU, cards=cards),
        ),
    )


def explain_head(
    head: Workload, nodes: list[Node], holders: list[Workload], phase: PoolPhase = PoolPhase.RUNNING
) -> Waiting:
    scene = Scene(now_ms=NOW_MS, pool_phase=phase, queue=[head], nodes=nodes, holders=holders)
    return explain(scene)[head.id]


def test_one_for_which_there_is_room_is_next() -> None:
    waiting = explain_head(queued(1), [gpu_node("a")], [])

    assert (waiting.reason, waiting.predicted_start_ms) == (WaitingReason.NEXT, NOW_MS)


def test_one_that_lacks_cards_is_told_how_many_and_whose_end_would_free_them() -> None:
    holders = [holder(1, "a", (0, 1, 2)), holder(2, "b", (0, 1, 2, 3))]

    waiting = explain_head(queued(9), [gpu_node("a"), gpu_node("b")], holders)

    assert waiting.reason is WaitingReason.LACKS_CARDS
    assert (waiting.needs, waiting.has, waiting.missing) == (2, 1, 1)
    assert waiting.unblocked_by == (1,)
    assert waiting.predicted_start_ms is None
    assert message_of(waiting, ["train-1"]) == (
        "A task needs 2 cards on one node; no node has more than 1 free."
        " It can start once these have ended: train-1."
    )


def test_only_those_are_named_that_really_have_to_end() -> None:
    first_to_end = holder(1, "a", (0,), limit_ms=HOUR_MS)
    in_the_way = holder(2, "b", (0, 1, 2, 3), limit_ms=2 * HOUR_MS)
    task = Resources(cpu_millis=1, gpu_count=4)

    waiting = explain_head(
        queued(9, task), [gpu_node("a", cards=(0,)), gpu_node("b")], [first_to_end, in_the_way]
    )

    assert waiting.unblocked_by == (2,)
    assert waiting.predicted_start_ms == NOW_MS + 2 * HOUR_MS


def test_one_that_lacks_cpu_or_memory_is_told_so_though_there_are_cards() -> None:
    small = gpu_node("a", cpu_millis=2_000, memory_mib=2_048)
    busy = holder(1, "a", (0,))

    wants_cpu = explain_head(queued(9, replace(TWO_CARDS, cpu_millis=2_000)), [small], [busy])
    wants_memory = explain_head(queued(9, replace(TWO_CARDS, memory_mib=2_048)), [small], [busy])

    assert (wants_cpu.reason, wants_cpu.missing) == (WaitingReason.LACKS_CPU, 1_000)
    assert (wants_memory.reason, wants_memory.missing) == (WaitingReason.LACKS_MEMORY, 1_024)


def test_a_gang_of_which_some_would_fit_lacks_nodes() -> None:
    holders = [holder(1, "b", (0, 1, 2))]

    waiting = explain_head(queued(9, task_count=4), [gpu_node("a"), gpu_node("b")], holders)

    assert waiting.reason is WaitingReason.LACKS_NODES
    assert (waiting.needs, waiting.has) == (4, 2)
    assert waiting.unblocked_by == (1,)


def test_nodes_that_all_say_the_same_say_why_it_waits() -> None:
    silent = {"phase": NodePhase.ABNORMAL, "message": "Slurm has not answered for 15 s."}
    nodes = [gpu_node("a", **silent), gpu_node("b", **silent)]

    waiting = explain_head(queued(9), nodes, [])

    assert message_of(waiting) == (
        "Nodes that it needs take no work at the moment: a, b. Slurm has not answered for 15 s."
    )


def test_of_nodes_that_say_different_things_the_first_ones_reason_is_told() -> None:
    nodes = [
        gpu_node("b", phase=NodePhase.ABNORMAL, message="Bad fan."),
        gpu_node("a", phase=NodePhase.ABNORMAL, message="'a' is drained: Duplicate jobid."),
    ]
    locked = gpu_node("a", is_locked=True)

    told = message_of(explain_head(queued(9), nodes, []))

    assert told.endswith(": a, b. The first: 'a' is drained: Duplicate jobid.")
    assert message_of(explain_head(queued(9), [nodes[0], locked], [])).endswith(": a, b.")


def test_locked_nodes_that_it_needs_are_named() -> None:
    nodes = [gpu_node("a", is_locked=True), gpu_node("b", phase=NodePhase.ABNORMAL)]

    waiting = explain_head(queued(9), nodes, [])

    assert (waiting.reason, waiting.nodes) == (WaitingReason.NODES_UNAVAILABLE, ("a", "b"))
    assert "a, b" in message_of(waiting)


def test_one_that_is_too_large_for_what_the_pool_has_become_never_fits() -> None:
    waiting = explain_head(
        queued(9, task_count=4), [gpu_node("a"), gpu_node("b", phase=NodePhase.DELETING)], []
    )

    assert (waiting.reason, waiting.needs, waiting.has) == (WaitingReason.NEVER_FITS, 4, 2)
    assert waiting.predicted_start_ms is None


def test_a_pool_that_was_made_in_vain_is_said_not_to_run() -> None:
    waiting = explain_head(queued(9), [], [], PoolPhase.CREATION_FAILED)

    assert waiting.reason is WaitingReason.POOL_NOT_RUNNING
    assert message_of(waiting) == "Its pool is CreationFailed."


def test_of_a_pool_without_a_working_node_it_is_said_what_the_nodes_say() -> None:
    nodes = [gpu_node("a", phase=NodePhase.ABNORMAL, message="No power.")]

    waiting = explain_head(queued(9), nodes, [], PoolPhase.ABNORMAL)

    assert waiting.reason is WaitingReason.NODES_UNAVAILABLE
    assert message_of(waiting).endswith("take no work at the moment: a. No power.")


def test_starts_are_foretold_in_turn_from_the_limits_of_those_before() -> None:
    running = holder(1, "a", (0, 1, 2, 3), limit_ms=HOUR_MS)
    all_cards = Resources(cpu_millis=1, gpu_count=4)
    second = queued(2, all_cards)._replace(time_limit_ms=3 * HOUR_MS)
    third = queued(3, all_cards)
    fourth = queued(4, all_cards)

    explained = explain(
        Scene(
            now_ms=NOW_MS,
            queue=[second, third, fourth],
            nodes=[gpu_node("a")],
            holders=[running],
        )
    )

    starts = [explained[w].predicted_start_ms for w in (2, 3, 4)]
    assert starts == [NOW_MS + HOUR_MS, NOW_MS + 4 * HOUR_MS, None]  # the third has no limit
    assert [explained[w].position for w in (2, 3, 4)] == [1, 2, 3]
    assert explained[3].reason is WaitingReason.BEHIND_OTHERS


def test_what_other_projects_run_is_counted_and_not_named() -> None:
    waiting = explain_head(queued(9), [gpu_node("a")], [holder(1, "a", (0, 1, 2, 3))])

    assert message_of(waiting, [], 1).endswith("have ended: 1 workload of another project.")
    assert message_of(behind(3)) == "2 workloads stand before it."


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Scene, list[Workload]]:
    """A partition of a world, and everybody who waits in it; some nodes take no work."""
    world, workloads = draw(whole_worlds())
    partition = draw(st.sampled_from(PARTITIONS))
    mine = [
        w._replace(
            time_limit_ms=draw(st.sampled_from([None, 60_000, HOUR_MS])),
            started_at_ms=NOW_MS - 90_000 if w.phase is Phase.RUNNING else None,
        )
        for w in workloads
        if w.partition == partition
    ]
    waits = [w for w in mine if w.phase in (Phase.CREATING, Phase.QUEUED)]
    scene = Scene(
        now_ms=NOW_MS,
        queue=waits,
        nodes=[
            replace(node, is_locked=draw(st.integers(0, 4)) == 4) for node in world.nodes[partition]
        ],
        holders=[w for w in mine if w.is_holding],
    )
    return scene, waits


@given(scenes())
def test_the_position_is_the_number_of_those_ahead_and_one(
    drawn: tuple[Scene, list[Workload]],
) -> None:
    scene, waits = drawn

    explained = explain(scene)

    assert explained.keys() == {w.id for w in waits}
    for workload in waits:
        ahead = sum(turn(other) < turn(workload) for other in waits)
        assert explained[workload.id].position == ahead + 1


@given(scenes())
def test_the_head_is_never_behind_others(drawn: tuple[Scene, list[Workload]]) -> None:
    for waiting in explain(drawn[0]).values():
        if waiting.position == 1:
            assert waiting.reason is not WaitingReason.BEHIND_OTHERS


@given(scenes())
def test_a_predicted_start_is_never_before_now_nor_before_that_of_those_ahead(
    drawn: tuple[Scene, list[Workload]],
) -> None:
    earlier = NOW_MS

    for waiting in sorted(explain(drawn[0]).values(), key=lambda w: w.position):
        if waiting.predicted_start_ms is not None:
            assert waiting.predicted_start_ms >= earlier
            earlier = waiting.predicted_start_ms


@given(scenes())
def test_whoever_must_end_makes_room_by_that(drawn: tuple[Scene, list[Workload]]) -> None:
    scene, _ = drawn

    for waiting in explain(scene).values():
        if waiting.position == 1 and waiting.unblocked_by:
            left = [w for w in scene.holders if w.id not in waiting.unblocked_by]
            later = explain(replace(scene, holders=left))
            assert {w.reason for w in later.values() if w.position == 1} == {WaitingReason.NEXT}


@given(whole_worlds())
def test_what_a_plan_starts_now_is_next_and_nobody_else_is(
    drawn: tuple[World, list[Workload]],
) -> None:
    world, workloads = drawn
    # Nobody is under way, and nobody is at the end of the time that it has.
    workloads = [w._replace(time_limit_ms=None, attempt_count=0) for w in workloads]
    world = with_workloads(replace(world, busy=frozenset(), queue_limit=100), workloads)
    starts = {
        action.workload.id
        for action in plan(world)
        if isinstance(action, Admit) and action.placements is not None
    }

    for partition in PARTITIONS:
        mine = [w for w in workloads if w.partition == partition]
        scene = Scene(
            now_ms=NOW_MS,
            queue=[w for w in mine if w.phase in (Phase.CREATING, Phase.QUEUED)],
            nodes=world.nodes[partition],
            holders=[w for w in mine if w.is_holding],
        )
        for workload_id, waiting in explain(scene).items():
            assert (waiting.reason is WaitingReason.NEXT) == (workload_id in starts)
