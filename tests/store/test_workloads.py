"""Workloads: what a move writes, and what refuses it."""

import pytest

from muster.domain.command import Run
from muster.domain.errors import IllegalTransition, StaleWrite
from muster.domain.phase import FINISHED, Event, Phase, Reason, view_of
from muster.domain.placement import CardKind, TaskPlacement
from muster.domain.workload import Workload, WorkloadType
from muster.store import moves, purging, timeline, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction
from tests.store.rows import (
    GPU_POOL,
    ONE_CPU,
    PROJECT,
    PUBLIC_POOL,
    TWO_GPUS,
    WAYS,
    add_job,
    add_version,
    add_workload,
    bring_to,
    counts_of,
    find_differences,
    get_workload,
    hold,
    hold_nodes,
    move,
    release_nodes,
)


def events_of(connection: Connection, workload: Workload) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT event, phase_before, phase_after, reason, message, actor, at_ms"
        "  FROM event WHERE workload_id = ? ORDER BY seq",
        (workload.id,),
    ).fetchall()


def held_cards(connection: Connection) -> list[tuple[str, int, int]]:
    return connection.execute(
        "SELECT host_name, card, workload_id FROM card_hold ORDER BY host_name, card"
    ).fetchall()


@pytest.mark.asyncio
async def test_a_new_workload_is_creating_and_counted(database: Database) -> None:
    workload = await database.write(add_workload, task=TWO_GPUS, task_count=2, now_ms=5)

    assert workload.phase is Phase.CREATING
    assert workload.resources == TWO_GPUS * 2
    assert (workload.project_id, workload.pool_id) == (PROJECT, PUBLIC_POOL)
    assert (workload.type, workload.is_holding) == (WorkloadType.TRAIN, False)
    assert (workload.created_at_ms, workload.phase_since_ms) == (5, 5)
    assert await counts_of(database) == {"Creating": 1}


@pytest.mark.asyncio
async def test_times_of_creation_never_run_backwards(database: Database) -> None:
    times = [(await database.write(add_workload, str(n), now_ms=n)).created_at_ms for n in (9, 3)]
    jobs_made = [(await database.write(add_job, f"j{n}", now_ms=n)).created_at_ms for n in (20, 8)]

    assert times == [9, 9]
    assert jobs_made == [20, 20]


@pytest.mark.asyncio
async def test_a_run_is_given_back_as_it_was_stored(database: Database) -> None:
    workload = await database.write(add_workload, "digits")

    assert await database.read(workloads.get_run, workload.id) == Run(job_name="digits")


@pytest.mark.asyncio
async def test_a_workload_that_is_gone_is_a_stale_one(database: Database) -> None:
    with pytest.raises(StaleWrite, match="Workload 7 is gone"):
        await database.read(workloads.get_workload, 7)


@pytest.mark.parametrize("phase", WAYS)
@pytest.mark.asyncio
async def test_every_phase_is_stored_counted_and_shown(database: Database, phase: Phase) -> None:
    workload = await database.write(add_workload, phase=phase)

    stored = await get_workload(database, workload)
    assert stored == workload
    assert stored.phase is phase
    assert (stored.ended_at_ms is not None) == (phase in FINISHED)
    assert (await counts_of(database))[view_of(phase).statistics] == 1
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_each_move_writes_one_event_row(database: Database) -> None:
    workload = await database.write(add_workload, phase=Phase.QUEUED, now_ms=5)

    def stop(tx: Transaction) -> None:
        moves.move_workload(
            tx,
            workload,
            Event.STOP_ASKED,
            now_ms=7,
            actor="ben",
            reason=Reason.STOPPED_BY_USER,
            message="Enough.",
        )

    await database.write(stop)

    assert await database.read(events_of, workload) == [
        ("Enqueued", "Creating", "Queued", "", "", "ann", 5),
        ("StopAsked", "Queued", "Terminating", "StoppedByUser", "Enough.", "ben", 7),
    ]
    stored = await get_workload(database, workload)
    assert (stored.reason, stored.message) == (Reason.STOPPED_BY_USER, "Enough.")


@pytest.mark.asyncio
async def test_a_move_from_an_old_revision_is_refused_and_writes_nothing(
    database: Database,
) -> None:
    old = await database.write(add_workload)
    moved = await database.write(move, old, Event.ENQUEUED, now_ms=2_000)

    with pytest.raises(StaleWrite, match=f"Workload {old.id} was changed meanwhile"):
        await database.write(move, old, Event.REFUSED, now_ms=3_000)

    assert await get_workload(database, old) == moved
    assert len(await database.read(events_of, old)) == 1
    assert await counts_of(database) == {"Queue": 1}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_move_that_the_table_does_not_have_is_refused_and_writes_nothing(
    database: Database,
) -> None:
    workload = await database.write(add_workload, phase=Phase.COMPLETED)

    with pytest.raises(IllegalTransition):
        await database.write(move, workload, Event.STARTED, now_ms=3_000)

    assert await get_workload(database, workload) == workload
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_start_and_end_are_those_that_the_engine_tells(database: Database) -> None:
    workload = await database.write(add_workload, phase=Phase.STARTING, now_ms=1_000)

    workload = await database.write(move, workload, Event.STARTED, now_ms=2_000, at_ms=1_500)
    assert moves.duration_ms_of(workload) is None
    workload = await database.write(move, workload, Event.SUCCEEDED, now_ms=9_000, at_ms=4_500)

    assert (workload.started_at_ms, workload.ended_at_ms) == (1_500, 4_500)
    assert moves.duration_ms_of(workload) == 3_000
    assert await get_workload(database, workload) == workload


@pytest.mark.asyncio
async def test_no_clock_makes_it_start_before_it_was_made_or_end_before_it_started(
    database: Database,
) -> None:
    workload = await database.write(add_workload, phase=Phase.STARTING, now_ms=1_000)

    workload = await database.write(move, workload, Event.STARTED, now_ms=2_000, at_ms=500)
    workload = await database.write(move, workload, Event.SUCCEEDED, now_ms=3_000, at_ms=400)

    assert (workload.started_at_ms, workload.ended_at_ms) == (1_000, 1_000)


@pytest.mark.asyncio
async def test_what_was_found_again_runs_since_it_first_did(database: Database) -> None:
    lost = await database.write(add_workload, phase=Phase.LOST, now_ms=1_000)

    found = await database.write(move, lost, Event.FOUND, now_ms=9_000, at_ms=8_000)

    assert found.started_at_ms == 1_000


@pytest.mark.asyncio
async def test_what_was_lost_before_it_came_up_runs_since_it_was_found(
    database: Database,
) -> None:
    workload = await database.write(add_workload, phase=Phase.STARTING, now_ms=1_000)
    lost = await database.write(move, workload, Event.VANISHED, now_ms=2_000)

    found = await database.write(move, lost, Event.FOUND, now_ms=9_000, at_ms=8_000)

    assert found.started_at_ms == 8_000
    assert moves.duration_ms_of(found) is None
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_nodes_are_held_and_given_back(database: Database) -> None:
    queued = await database.write(
        add_workload, phase=Phase.QUEUED, pool_id=GPU_POOL, task=TWO_GPUS, task_count=2
    )

    held = await database.write(hold, queued)

    assert await get_workload(database, queued) == held
    assert [row[:2] for row in await database.read(held_cards)] == [
        ("host-of-gpu-a", 0),
        ("host-of-gpu-a", 1),
        ("host-of-gpu-a", 2),
        ("host-of-gpu-a", 3),
    ]
    counts = await counts_of(database, GPU_POOL)
    assert counts == {"Queue": 1, "cpu_millis": 4_000, "memory_mib": 4_096, "gpu_count": 4}

    released = await database.write(release_nodes, held)

    assert not (await get_workload(database, queued)).is_holding
    assert await database.read(held_cards) == []
    assert await counts_of(database, GPU_POOL) == {"Queue": 1}
    again = await database.write(release_nodes, released)
    assert again == released


@pytest.mark.asyncio
async def test_a_card_that_somebody_holds_is_refused_and_nothing_is_half_written(
    database: Database,
) -> None:
    first = await database.write(
        add_workload, "first", phase=Phase.STARTING, pool_id=GPU_POOL, task=TWO_GPUS
    )
    second = await database.write(
        add_workload, "second", phase=Phase.QUEUED, pool_id=GPU_POOL, task=TWO_GPUS
    )
    assert first.placements[0].cards == (0, 1)
    overlapping = (
        TaskPlacement(index=0, node_name="gpu-b", card_kind=CardKind.GPU, cards=(0, 1)),
        TaskPlacement(index=1, node_name="gpu-a", card_kind=CardKind.GPU, cards=(1, 2)),
    )
    before = await database.read(held_cards)

    with pytest.raises(StaleWrite, match="Card 1 of gpu-a is held by another workload"):
        await database.write(hold_nodes, second, overlapping, "f" * 32)

    assert await database.read(held_cards) == before
    assert await get_workload(database, second) == second
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_workload_that_holds_nodes_gets_no_others(database: Database) -> None:
    held = await database.write(add_workload, phase=Phase.STARTING, pool_id=GPU_POOL, task=TWO_GPUS)

    with pytest.raises(StaleWrite):
        await database.write(hold_nodes, held, held.placements, "f" * 32)

    assert (await get_workload(database, held)).attempt_id == held.attempt_id


@pytest.mark.asyncio
async def test_old_revisions_hold_release_and_refer_to_nothing(database: Database) -> None:
    queued = await database.write(add_workload, phase=Phase.QUEUED, pool_id=GPU_POOL, task=TWO_GPUS)
    held = await database.write(hold, queued)

    for work, args in (
        (hold_nodes, (queued, held.placements, "f" * 32)),
        (release_nodes, (held._replace(revision=queued.revision),)),
        (workloads.set_engine_ref, (queued, "ref")),
    ):
        with pytest.raises(StaleWrite):
            await database.write(work, *args)

    assert await get_workload(database, queued) == held


@pytest.mark.asyncio
async def test_an_engine_reference_is_kept(database: Database) -> None:
    workload = await database.write(add_workload, phase=Phase.STARTING)

    referred = await database.write(workloads.set_engine_ref, workload, "ref")
    again = await database.write(workloads.set_engine_ref, referred, "ref")

    assert again == referred == await get_workload(database, workload)
    assert referred.engine_ref == "ref"


@pytest.mark.asyncio
async def test_the_queue_is_in_order_of_priority_then_of_arrival(database: Database) -> None:
    def fill(tx: Transaction) -> list[int]:
        job = add_job(tx, "digits")
        made = [add_version(tx, job, priority=priority) for priority in (1, 3, 2, 3, 1)]
        return [move(tx, w, Event.ENQUEUED, now_ms=2_000).id for w in made]

    ids = await database.write(fill)

    queue = await database.read(workloads.list_queue, "public", limit=4)
    assert [ids.index(workload.id) for workload in queue] == [1, 3, 2, 0]
    places = await database.read(workloads.queue_positions, "public")
    assert [places[workload_id] for workload_id in ids] == [4, 1, 3, 2, 5]


@pytest.mark.asyncio
async def test_a_queue_that_is_known_in_part_is_read_as_it_is(database: Database) -> None:
    def fill(tx: Transaction, count: int) -> list[Workload]:
        job = add_job(tx, f"digits-{count}")
        made = [add_version(tx, job) for _ in range(count)]
        return [move(tx, w, Event.ENQUEUED, now_ms=2_000) for w in made]

    first = await database.write(fill, 3)
    known = {workload.id: workload for workload in first}
    await database.write(workloads.set_message, first[1], "it waits")
    await database.write(workloads.set_priority, first[2], 3)
    await database.write(fill, 2)
    await database.write(moves.move_workload, first[0], Event.STOP_ASKED, now_ms=3_000, actor="ann")

    for limit in (2, 10):
        read = await database.read(workloads.list_queue, "public", limit=limit, known=known)
        assert read == await database.read(workloads.list_queue, "public", limit=limit)


@pytest.mark.asyncio
async def test_the_reconciler_reads_what_is_not_at_rest(database: Database) -> None:
    for phase in WAYS:
        await database.write(add_workload, phase, phase=phase)

    active = await database.read(workloads.list_active)

    assert [workload.phase for workload in active] == [
        phase for phase in WAYS if phase not in FINISHED and phase is not Phase.QUEUED
    ]


@pytest.mark.asyncio
async def test_what_was_read_before_is_read_again_only_where_it_has_changed(
    database: Database,
) -> None:
    before = {}
    for name in ("kept", "told", "ended", "kept-too"):
        workload = await database.write(add_workload, name, phase=Phase.RUNNING)
        before[workload.id] = workload
    kept, told, ended, _ = before.values()
    await database.write(workloads.set_message, told, "Slow.")
    happened = moves.Happened(event=Event.SUCCEEDED, now_ms=9, actor="ann")
    done = moves.Move(workload=ended, steps=(happened, moves.Release()))
    await database.write(moves.move_workloads, [done])
    new = await database.write(add_workload, "new", phase=Phase.RUNNING)

    again = await database.read(workloads.list_active, before)

    assert again == await database.read(workloads.list_active)
    assert ended.id not in {workload.id for workload in again}
    assert again[-1] == new
    assert again[1].message == "Slow."
    assert again[0] is kept
    assert await database.read(workloads.list_active, {w.id: w for w in again}) == again


@pytest.mark.asyncio
async def test_a_deleted_workload_leaves_every_count_at_once(database: Database) -> None:
    workload = await database.write(add_workload, phase=Phase.RUNNING)

    deleted = await database.write(workloads.mark_deleted, workload)
    again = await database.write(workloads.mark_deleted, deleted)

    assert again == deleted == await get_workload(database, workload)
    held = {"cpu_millis": ONE_CPU.cpu_millis, "memory_mib": ONE_CPU.memory_mib}
    assert await counts_of(database) == held  # what still runs is held all the same


@pytest.mark.asyncio
async def test_only_what_nothing_runs_for_may_be_purged(database: Database) -> None:
    purgeable = []
    for phase in WAYS:
        workload = await database.write(add_workload, phase, phase=phase)
        await database.write(workloads.mark_deleted, workload)
        if phase in FINISHED:
            purgeable.append(workload.id)

    found = await database.read(purging.list_purgeable)

    assert [workload_id for workload_id, *_ in found] == purgeable
    await database.write(add_workload, "kept", phase=Phase.COMPLETED)
    assert len(await database.read(purging.list_purgeable)) == len(purgeable)


@pytest.mark.asyncio
async def test_a_lost_workload_may_be_purged_once_its_nodes_are_free(database: Database) -> None:
    lost = await database.write(add_workload, phase=Phase.LOST)
    lost = await database.write(workloads.mark_deleted, lost)
    assert await database.read(purging.list_purgeable) == []

    await database.write(release_nodes, lost)

    assert await database.read(purging.list_purgeable) == [(lost.id, [(lost.attempt_id, None)])]


async def retry(database: Database, workload: Workload, *, now_ms: int) -> Workload:
    """What the reconciler does with one that failed and may be tried again."""
    return await database.write(
        move, workload, Event.RETRIED, now_ms=now_ms, reason=Reason.TASK_EXIT
    )


@pytest.mark.asyncio
async def test_a_preempted_attempt_goes_into_the_history_and_costs_no_retry(
    database: Database,
) -> None:
    def add(tx: Transaction) -> Workload:
        version = add_version(tx, add_job(tx, "gives-way"), pool_id=GPU_POOL, task=TWO_GPUS)
        return bring_to(tx, version, Phase.RUNNING, now_ms=2_000)

    first = await database.write(add)

    queued = await database.write(
        move, first, Event.PREEMPTED, now_ms=3_000, reason=Reason.PREEMPTED
    )

    assert (queued.phase, queued.is_holding, queued.attempt_id) == (Phase.QUEUED, False, None)
    assert (queued.retries_left, queued.attempt_count) == (0, 1)
    assert await database.read(held_cards) == []
    [past] = (await database.read(timeline.list_past_attempts, [queued.id]))[queued.id]
    assert (past.number, past.reason) == (1, Reason.PREEMPTED)
    assert await database.scan(find_differences) == []


async def start_again(database: Database, workload: Workload, *, now_ms: int) -> Workload:
    placed = await database.write(move, workload, Event.PLACED, now_ms=now_ms)
    return await database.write(move, placed, Event.STARTED, now_ms=now_ms)


@pytest.mark.asyncio
async def test_one_that_is_tried_again_gives_back_its_nodes_and_keeps_its_first_start(
    database: Database,
) -> None:
    def add(tx: Transaction) -> Workload:
        version = add_version(tx, add_job(tx, "again"), pool_id=GPU_POOL, task=TWO_GPUS, retries=1)
        return bring_to(tx, version, Phase.RUNNING, now_ms=2_000)

    first = await database.write(add)

    queued = await retry(database, first, now_ms=3_000)

    assert queued == await get_workload(database, queued)
    assert (queued.phase, queued.is_holding, queued.attempt_id) == (Phase.QUEUED, False, None)
    assert (queued.started_at_ms, queued.retries_left) == (2_000, 0)
    assert await database.read(held_cards) == []
    assert await counts_of(database, GPU_POOL) == {"Queue": 1}
    assert await database.scan(find_differences) == []

    second = await start_again(database, queued, now_ms=4_000)

    assert (second.started_at_ms, second.attempt_started_at_ms) == (2_000, 4_000)
    assert (second.attempt_count, second.engine_ref) == (2, None)
    assert second.attempt_id != first.attempt_id
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_every_attempt_is_kept_with_what_became_of_it(database: Database) -> None:
    def add(tx: Transaction) -> Workload:
        version = add_version(tx, add_job(tx, "again"), retries=2)
        return bring_to(tx, version, Phase.RUNNING, now_ms=2_000)

    first = await database.write(add)
    first = await database.write(workloads.set_engine_ref, first, "ref-1")
    second = await start_again(database, await retry(database, first, now_ms=3_000), now_ms=4_000)
    third = await start_again(database, await retry(database, second, now_ms=5_000), now_ms=6_000)

    past = (await database.read(timeline.list_past_attempts, [third.id, 99]))[third.id]

    assert [(a.number, a.attempt_id, a.engine_ref) for a in past] == [
        (1, first.attempt_id, "ref-1"),
        (2, second.attempt_id, None),
    ]
    assert [(a.started_at_ms, a.ended_at_ms) for a in past] == [(2_000, 3_000), (4_000, 5_000)]
    assert {a.reason for a in past} == {Reason.TASK_EXIT}
    assert past[0].placements == first.placements

    with pytest.raises(StaleWrite):
        await retry(database, third, now_ms=7_000)  # it has none left


@pytest.mark.asyncio
async def test_a_deleted_one_goes_with_all_its_attempts(database: Database) -> None:
    def add(tx: Transaction) -> Workload:
        version = add_version(tx, add_job(tx, "again"), retries=1)
        return bring_to(tx, version, Phase.RUNNING, now_ms=2_000)

    first = await database.write(add)
    second = await start_again(database, await retry(database, first, now_ms=3_000), now_ms=4_000)
    ended = await database.write(move, second, Event.TASK_FAILED, now_ms=5_000)
    await database.write(workloads.mark_deleted, ended)

    [(workload_id, attempts)] = await database.read(purging.list_purgeable)

    assert attempts == [(first.attempt_id, None), (second.attempt_id, None)]
    await database.write(purging.purge_workload, workload_id)
    assert await database.read(timeline.list_past_attempts, [workload_id]) == {}


@pytest.mark.asyncio
async def test_events_are_numbered_without_a_gap(database: Database) -> None:
    one = await database.write(add_workload, "one", phase=Phase.RUNNING)
    other = await database.write(add_workload, "other", phase=Phase.QUEUED)
    await database.write(move, one, Event.SUCCEEDED, now_ms=9_000)

    events = [await database.read(timeline.list_events, w.id) for w in (one, other)]

    assert [[event.number for event in mine] for mine in events] == [[1, 2, 3, 4], [1]]


@pytest.mark.asyncio
async def test_whoever_stands_ahead_in_the_queue_is_counted(database: Database) -> None:
    def add(tx: Transaction, name: str, priority: int) -> Workload:
        version = add_version(tx, add_job(tx, name), priority=priority)
        return bring_to(tx, version, Phase.QUEUED, now_ms=2_000)

    low = await database.write(add, "low", 1)
    high = await database.write(add, "high", 3)
    last = await database.write(add, "last", 1)

    ahead = [await database.read(workloads.count_ahead, w) for w in (high, low, last)]

    assert ahead == [0, 1, 2]
