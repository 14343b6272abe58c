"""Many ended versions at once: stored, counted, once only, and out again."""

from typing import Any

import pytest

from muster.domain.history import ENDED, HistoryRow
from muster.domain.phase import Event, Phase, Reason
from muster.store import jobs, timeline, training_listing, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.history import (
    Moved,
    count_history,
    insert_history,
    is_out_of_order,
    stream_history,
)
from muster.store.manyrows import ROWS_OF_STATEMENT
from muster.store.transaction import Transaction
from tests.store.rows import (
    GPU_POOL,
    OTHER_PROJECT,
    PROJECT,
    add_job,
    add_workload,
    counts_of,
    find_differences,
)

ON_EVERY_POSTGRES = True

NOW_MS = 1_000_000


def row(number: int = 1, **changes: Any) -> HistoryRow:
    """The one version of a job of its own, unless told otherwise."""
    made = HistoryRow(
        version_id=str(number),
        job_id=str(number),
        job_name=f"job-{number}",
        status=10,
        created_at_ms=1_000 + number,
        started_at_ms=1_500 + number,
        ended_at_ms=2_000 + number,
        flavor_code="elsewhere.gpu.2",
        gpu_count=2,
    )
    return made._replace(**changes)


async def move_in(
    database: Database, *rows: HistoryRow, project_id: str = PROJECT, as_public: bool = False
) -> Moved:
    return await database.write(
        insert_history, project_id, rows, actor="ann", now_ms=NOW_MS, pool_as_public=as_public
    )


async def everything(database: Database, project_id: str = PROJECT) -> list[HistoryRow]:
    def read(connection: Connection) -> list[HistoryRow]:
        return [row for rows in stream_history(connection, project_id) for row in rows]

    return await database.read(read)


@pytest.mark.asyncio
async def test_every_status_reads_back_as_it_was_and_is_counted(database: Database) -> None:
    rows = [row(number, status=status) for number, status in enumerate(ENDED, start=1)]

    moved = await move_in(database, *rows)

    assert (moved.imported, moved.present, moved.refused) == (len(ENDED), 0, [])
    assert [found.status for found in await everything(database)] == list(ENDED)
    assert await counts_of(database) == {
        "Completed": 1,
        "Terminated": 2,
        "Failed": 3,
        "Abnormal": 5,
    }
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_more_rows_than_one_statement_takes_come_in_as_well(database: Database) -> None:
    count = 2 * ROWS_OF_STATEMENT + 3

    moved = await move_in(database, *(row(number) for number in range(1, count + 1)))

    assert moved.imported == count
    assert await database.read(count_history, PROJECT) == count
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_came_in_before_is_left_out(database: Database) -> None:
    await move_in(database, row(1), row(2))

    moved = await move_in(database, row(1), row(2), row(3))

    assert (moved.imported, moved.present) == (1, 2)
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_was_deleted_may_come_in_once_more(database: Database) -> None:
    await move_in(database, row(1))

    def delete(tx: Transaction) -> None:
        [(job_id,)] = tx.execute("SELECT id FROM job").fetchall()
        job = jobs.get_job(tx.connection, PROJECT, job_id)
        for workload_id in jobs.list_version_workloads(tx.connection, job.id):
            workload = workloads.get_workload(tx.connection, workload_id)
            workloads.mark_deleted(tx, workload)
        jobs.hide_job(tx, job)

    await database.write(delete)

    moved = await move_in(database, row(1))

    assert (moved.imported, moved.present) == (1, 0)
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_versions_of_one_job_are_numbered_and_its_job_shows_the_last(
    database: Database,
) -> None:
    def version(place: int, **changes: Any) -> HistoryRow:
        return row(place)._replace(job_id="7", job_name="digits", **changes)

    await move_in(database, version(1), version(2, number=5))
    await move_in(database, version(3, status=11))

    def read(connection: Connection) -> tuple[jobs.Job, list[jobs.Version]]:
        [(job_id,)] = connection.execute("SELECT id FROM job").fetchall()
        job = jobs.get_job(connection, PROJECT, job_id)
        return job, jobs.list_job_versions(connection, job.id, offset=0, limit=-1)

    job, versions = await database.read(read)
    assert (job.version_count, job.status, job.created_at_ms) == (3, 11, 1_001)
    assert [version.name for version in versions] == ["V0006", "V0005", "V0001"]
    assert await database.scan(find_differences) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workspace_id": "elsewhere"}, "workspace_id is 'elsewhere'; this project has no such"),
        ({"pool_id": "p7"}, "pool_id is 'p7'; this project has no pool of that id or name"),
        ({"job_name": "taken"}, "job_name is 'taken'; workspace '0' has another job of that name"),
    ],
)
@pytest.mark.asyncio
async def test_one_that_fits_nowhere_is_refused_and_the_others_come_in(
    database: Database, changes: dict[str, str], said: str
) -> None:
    await database.write(add_job, "taken")

    moved = await move_in(database, row(1), row(2, **changes), row(3))

    [(place, why)] = moved.refused
    assert (place, moved.imported) == (1, 2)
    assert why.startswith(said)
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_pool_is_found_by_id_then_by_name_then_if_asked_for_as_the_public_one(
    database: Database,
) -> None:
    rows = [
        row(1, pool_id=GPU_POOL),
        row(2, pool_id="another", pool_name="gpus"),
        row(3, pool_id="unknown"),
    ]

    moved = await move_in(database, *rows, as_public=True)

    assert moved.refused == []
    found = await everything(database)
    assert [found.pool_id for found in found] == [GPU_POOL, GPU_POOL, ""]
    assert found[2].message == "It ran in the pool unknown."
    assert (await counts_of(database, GPU_POOL))["Completed"] == 2
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_comes_out_goes_in_elsewhere_as_the_same(database: Database) -> None:
    await move_in(
        database,
        row(1, job_description="digits", description="digits", creator_name="eve"),
        row(2, started_at_ms=None, status=3, message="No such image."),
        row(3, worker_count=2, reason=Reason.TASK_EXIT, status=11, job_created_at_ms=5),
    )
    out = await everything(database)

    await move_in(database, *out, project_id=OTHER_PROJECT)

    def plain(found: HistoryRow) -> HistoryRow:
        return found._replace(version_id="", job_id="", uid="")

    again = await everything(database, OTHER_PROJECT)
    assert [plain(found) for found in again] == [plain(found) for found in out]
    # An id is used by one workload only: those of another project get new ones.
    assert not {found.uid for found in again} & {found.uid for found in out}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_is_here_by_itself_does_not_come_in_beside_itself(database: Database) -> None:
    await database.write(add_workload, phase=Phase.COMPLETED)
    out = await everything(database)

    moved = await move_in(database, *out)

    assert (len(out), moved.imported, moved.present) == (1, 0, 1)


@pytest.mark.asyncio
async def test_a_workload_keeps_its_id_where_nobody_has_it(database: Database) -> None:
    uid = "12345678123482348234123456789abc"

    await move_in(database, row(1, uid=uid))

    assert [found.uid for found in await everything(database)] == [uid]


@pytest.mark.asyncio
async def test_its_one_event_tells_who_moved_it_in(database: Database) -> None:
    await move_in(database, row(1))

    def read(connection: Connection) -> list[timeline.WorkloadEvent]:
        [(workload_id,)] = connection.execute("SELECT id FROM workload").fetchall()
        return timeline.list_events(connection, workload_id)

    [event] = await database.read(read)
    assert (event.event, event.phase_after, event.actor, event.at_ms) == (
        Event.IMPORTED,
        Phase.COMPLETED,
        "ann",
        NOW_MS,
    )


@pytest.mark.parametrize(
    ("batches", "is_noted"),
    [([[1, 2], [3]], False), ([[2, 1]], True), ([[2], [1]], True), ([[1], [1]], False)],
)
@pytest.mark.asyncio
async def test_a_list_that_something_older_came_into_later_is_noted(
    database: Database, batches: list[list[int]], is_noted: bool
) -> None:
    for batch in batches:
        await move_in(database, *(row(number) for number in batch))

    for list_ in ("job", "version"):
        assert await database.read(is_out_of_order, PROJECT, "0", list_) == is_noted
        assert not await database.read(is_out_of_order, OTHER_PROJECT, "0", list_)


@pytest.mark.asyncio
async def test_what_runs_is_no_history(database: Database) -> None:
    await database.write(add_workload, "runs", phase=Phase.RUNNING)
    await database.write(add_workload, "ended", phase=Phase.FAILED)

    assert [found.job_name for found in await everything(database)] == ["ended"]
    assert await database.read(count_history, PROJECT) == 1


@pytest.mark.asyncio
async def test_hidden_workspaces_are_left_out(database: Database) -> None:
    await move_in(database, row(1))

    def read(connection: Connection) -> list[list[HistoryRow]]:
        return list(stream_history(connection, PROJECT, {"0"}))

    assert await database.read(read) == []
    assert await database.read(count_history, PROJECT, {"0"}) == 0


@pytest.mark.asyncio
async def test_a_range_of_times_is_exact_where_older_history_came_in_later(
    database: Database,
) -> None:
    await move_in(database, row(10), row(11))
    await move_in(database, row(1), row(2))

    def made_between(connection: Connection, start: int, end: int) -> tuple[int, set[str]]:
        total, rows = training_listing.page_of_training_jobs(
            connection,
            training_listing.TrainingSearch(
                project_id=PROJECT,
                workspace_id="0",
                sort_key="create_time",
                is_descending=True,
                offset=0,
                limit=10,
                now_ms=NOW_MS,
                created_from_ms=start,
                created_to_ms=end,
            ),
        )
        return total, {row.name for row in rows}

    assert await database.read(made_between, 1_002, 1_010) == (2, {"job-2", "job-10"})
    assert await database.read(made_between, 1_011, 9_999) == (1, {"job-11"})
