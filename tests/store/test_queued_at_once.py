"""A version that is queued in the transaction that accepts it."""

from dataclasses import replace
from typing import Any, Final

import pytest

from muster.domain.phase import Event, Phase
from muster.store import jobs, moves, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.submissions import Submission, insert_submission
from muster.store.transaction import Transaction
from tests.store.rows import GPU_POOL, PROJECT, a_submission, counts_of, find_differences

MADE_MS: Final = 5_000


def queued_at_once(submission: Submission) -> Submission:
    assert submission.version is not None
    return replace(submission, version=replace(submission.version, enqueued_by="muster"))


def submit(tx: Transaction, submission: Submission) -> int:
    """The id of its workload."""
    made = insert_submission(tx, submission)
    [workload_id] = jobs.list_version_workloads(tx.connection, made.job_id)
    return workload_id


def submit_and_queue(tx: Transaction, submission: Submission) -> int:
    """As the reconciler queues what was only accepted."""
    workload_id = submit(tx, submission)
    accepted = workloads.get_workload(tx.connection, workload_id)
    moves.move_workload(tx, accepted, Event.ENQUEUED, now_ms=MADE_MS, actor="muster")
    return workload_id


def rows_of(connection: Connection, workload_id: int) -> dict[str, list[Any]]:
    """Everything that is stored of it, but ids, its name and how often it was written."""
    own = {"id", "uid", "name", "job_id", "workload_id", "job_name", "latest_version_id", "seq"}
    found = {}
    for table, where in (
        ("workload", "id = :id"),
        ("event", "workload_id = :id"),
        ("version", "workload_id = :id"),
        ("job", "latest_version_id = (SELECT id FROM version WHERE workload_id = :id)"),
    ):
        cursor = connection.execute(f"SELECT * FROM {table} WHERE {where}", {"id": workload_id})  # noqa: S608
        assert cursor.description is not None
        names = [column[0] for column in cursor.description]
        shown = [name for name in names if name not in own | {"revision"}]
        found[table] = [
            {name: value for name, value in zip(names, row, strict=True) if name in shown}
            for row in cursor.fetchall()
        ]
    return found


@pytest.mark.asyncio
async def test_it_is_stored_as_if_it_had_been_queued_a_moment_later(database: Database) -> None:
    submission = a_submission("a", pool_id=GPU_POOL, now_ms=MADE_MS)
    job = submission.job
    assert not isinstance(job, int)

    at_once = await database.write(submit, queued_at_once(submission))
    later = await database.write(
        submit_and_queue,
        replace(
            submission,
            job=replace(job, name="b"),
            version=replace(submission.version, workload_uid="0" * 32),  # type: ignore[type-var]
        ),
    )

    rows = [await database.read(rows_of, workload_id) for workload_id in (at_once, later)]
    assert rows[0] == rows[1]
    assert [len(found) for found in rows[0].values()] == [1, 1, 1, 1]
    assert rows[0]["workload"][0]["phase"] == "Queued"
    assert await counts_of(database, GPU_POOL) == {"Queue": 2}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_it_can_be_placed_and_stopped_like_any_that_waits(database: Database) -> None:
    ids = [
        await database.write(submit, queued_at_once(a_submission(name, now_ms=MADE_MS)))
        for name in "abc"
    ]

    queue = await database.read(workloads.list_queue, "public", limit=10)
    assert [workload.id for workload in queue] == ids
    stopped = await database.write(
        moves.move_workload, queue[0], Event.STOP_ASKED, now_ms=MADE_MS + 1, actor="ann"
    )

    assert stopped.phase is Phase.TERMINATING
    left = await database.read(workloads.list_queue, "public", limit=10)
    assert [workload.id for workload in left] == ids[1:]
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_further_version_is_queued_at_once_and_its_job_shows_that(
    database: Database,
) -> None:
    submission = queued_at_once(a_submission("again", now_ms=MADE_MS))
    first = await database.write(insert_submission, submission)
    assert submission.version is not None

    await database.write(
        insert_submission,
        replace(
            submission,
            job=first.job_id,
            version=replace(submission.version, workload_uid="1" * 32),
        ),
    )

    job = await database.read(jobs.get_job, PROJECT, first.job_id)
    assert (job.version_count, job.status) == (2, 7)
    assert await counts_of(database) == {"Queue": 2}
    assert await database.scan(find_differences) == []
