"""Workloads that serve: notebooks, and instances of services."""

from dataclasses import replace

import pytest

from muster.domain.errors import QuotaExceeded
from muster.domain.phase import Event, Phase
from muster.domain.program import Program
from muster.domain.workload import WorkloadType
from muster.domain.workspace import QuotaResource
from muster.store import archive, purging, workloads, workspaces
from muster.store.connection import Connection
from muster.store.counting import HELD, SQL, STATES
from muster.store.database import Database
from muster.store.transaction import Transaction
from muster.store.workloads import NewWorkload, insert_program
from tests.store.rows import (
    ONE_CPU,
    PROJECT,
    PUBLIC_POOL,
    add_workload,
    bring_to,
    find_differences,
    move,
)

LATER_MS = 1 << 50
DIGEST = "d" * 64
NOTES = Program(
    name="notes",
    argv=("python3", "-m", "jupyterlab", "--x=ü"),
    environment={"A": "1"},
    code=DIGEST,
    folder="/srv/notes",
)
NEW = NewWorkload(
    uid="f" * 32,
    project_id=PROJECT,
    workspace_id="0",
    pool_id=PUBLIC_POOL,
    partition="public",
    type=WorkloadType.NOTEBOOK,
    name="notes",
    flavor_code="cpu.1",
    task=ONE_CPU,
    task_count=1,
    priority=1,
    run=NOTES,
)


async def tally_of(database: Database, type_: WorkloadType) -> dict[str, int]:
    """What the statistics count of a type, without the zeros."""

    def read(connection: Connection) -> dict[str, int]:
        rows = {
            (project, kind): values
            for project, _, kind, *values in connection.execute(SQL["list_tallies"])
        }
        names = (*STATES, *HELD)
        values = rows.get((PROJECT, type_.value), [0] * len(names))
        return {str(name): value for name, value in zip(names, values, strict=True) if value}

    return await database.read(read)


async def snapshot_uses(database: Database) -> dict[str, int]:
    def read(connection: Connection) -> dict[str, int]:
        return {digest: n for digest, n, *_ in connection.execute(SQL["list_snapshot_uses"])}

    return await database.read(read)


@pytest.mark.asyncio
async def test_one_is_stored_counted_and_read_again(database: Database) -> None:
    workload_id = await database.write(insert_program, NEW, now_ms=7)

    workload = await database.read(workloads.get_workload, workload_id)
    assert (workload.phase, workload.type) == (Phase.CREATING, WorkloadType.NOTEBOOK)
    assert (workload.created_at_ms, workload.task_count) == (7, 1)
    assert await database.read(workloads.get_run, workload_id) == NOTES
    assert await tally_of(database, WorkloadType.NOTEBOOK) == {"Creating": 1}
    assert await tally_of(database, WorkloadType.TRAIN) == {}
    assert await snapshot_uses(database) == {DIGEST: 1}
    assert await database.read(find_differences) == []


@pytest.mark.asyncio
async def test_ids_and_times_go_on_after_those_of_other_workloads(database: Database) -> None:
    before = await database.write(add_workload, "before", now_ms=9)

    served = await database.write(insert_program, NEW, now_ms=3)
    after = await database.write(add_workload, "after", now_ms=4)

    found = await database.read(workloads.get_workload, served)
    assert before.id < served < after.id
    assert (found.created_at_ms, after.created_at_ms) == (9, 9)


@pytest.mark.asyncio
async def test_two_in_one_transaction_are_two(database: Database) -> None:
    def insert_two(tx: Transaction) -> list[int]:
        other = replace(NEW, uid="e" * 32, type=WorkloadType.INFER)
        return [insert_program(tx, new, now_ms=1) for new in (NEW, other)]

    first, second = await database.write(insert_two)

    assert first != second
    assert await tally_of(database, WorkloadType.INFER) == {"Creating": 1}
    assert await snapshot_uses(database) == {DIGEST: 2}
    assert await database.read(find_differences) == []


@pytest.mark.asyncio
async def test_a_workspace_without_room_refuses_it_and_nothing_is_stored(
    database: Database,
) -> None:
    def allow_one(tx: Transaction) -> None:
        quotas = {QuotaResource("devenv.instances"): 1}
        workspaces.put_quotas(tx, PROJECT, "0", quotas, now_ms=1)

    await database.write(allow_one)
    await database.write(insert_program, NEW, now_ms=1)

    with pytest.raises(QuotaExceeded, match=r"devenv\.instances"):
        await database.write(insert_program, replace(NEW, uid="e" * 32), now_ms=1)

    assert await tally_of(database, WorkloadType.NOTEBOOK) == {"Creating": 1}
    assert await database.read(find_differences) == []


@pytest.mark.asyncio
async def test_one_that_ended_long_ago_is_archived_and_read_again(database: Database) -> None:
    workload_id = await database.write(insert_program, NEW, now_ms=1)
    workload = await database.read(workloads.get_workload, workload_id)

    def run_to_its_end(tx: Transaction) -> None:
        move(tx, bring_to(tx, workload, Phase.RUNNING, now_ms=2), Event.TASK_FAILED, now_ms=3)

    await database.write(run_to_its_end)
    due = await database.scan(archive.list_due, ended_before_ms=LATER_MS, limit=10)
    assert await database.write(archive.archive_workloads, due) == 1

    assert await database.read(workloads.get_run, workload_id) == NOTES
    assert await database.read(find_differences) == []


@pytest.mark.asyncio
async def test_one_that_is_deleted_leaves_no_trace(database: Database) -> None:
    workload_id = await database.write(insert_program, NEW, now_ms=1)
    workload = await database.read(workloads.get_workload, workload_id)

    def end(tx: Transaction) -> None:
        ended = move(
            tx, bring_to(tx, workload, Phase.RUNNING, now_ms=2), Event.TASK_FAILED, now_ms=3
        )
        workloads.mark_deleted(tx, ended)

    await database.write(end)
    assert await tally_of(database, WorkloadType.NOTEBOOK) == {}
    assert [id_ for id_, _ in await database.read(purging.list_purgeable)] == [workload_id]
    await database.write(purging.purge_workload, workload_id)

    assert await snapshot_uses(database) in ({}, {DIGEST: 0})
    assert await database.read(find_differences) == []
