"""Training jobs and their versions: what is made, shown and taken away."""

from collections.abc import Awaitable, Callable

import pytest

from muster.domain.errors import JobUnknown, NameTaken, QuotaExceeded, WorkspaceUnknown
from muster.domain.phase import FINISHED, Event, Phase, view_of
from muster.store import jobs, purging, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.submissions import Submission, insert_submission
from muster.store.transaction import Transaction
from tests.store.rows import (
    OTHER_PROJECT,
    PROJECT,
    WORKSPACE,
    a_submission,
    add_job,
    add_version,
    add_workload,
    bring_to,
    counts_of,
    find_differences,
    move,
)


def purge_all(tx: Transaction) -> None:
    for workload_id, *_ in purging.list_purgeable(tx.connection):
        purging.purge_workload(tx, workload_id)


def rows_left(connection: Connection) -> dict[str, int]:
    tables = ("job", "version", "workload", "event", "card_hold")
    return {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        for table in tables
    }


def delete_version(tx: Transaction, job: jobs.Job, version_id: int) -> None:
    version = jobs.get_version(tx.connection, job.project_id, job.id, version_id)
    jobs.hide_version(tx, jobs.get_job(tx.connection, job.project_id, job.id), version_id)
    workloads.mark_deleted(tx, workloads.get_workload(tx.connection, version.workload_id))


def delete_job(tx: Transaction, job: jobs.Job) -> None:
    doomed = jobs.list_version_workloads(tx.connection, job.id)
    jobs.hide_job(tx, jobs.get_job(tx.connection, job.project_id, job.id))
    for workload_id in doomed:
        workloads.mark_deleted(tx, workloads.get_workload(tx.connection, workload_id))


def job_with_versions(tx: Transaction, *phases: Phase) -> jobs.Job:
    job = add_job(tx, "digits")
    for phase in phases:
        bring_to(tx, add_version(tx, job), phase, now_ms=2_000)
    return jobs.get_job(tx.connection, PROJECT, job.id)


def versions_of(connection: Connection, job: jobs.Job) -> list[jobs.Version]:
    return jobs.list_job_versions(connection, job.id, offset=0, limit=-1)


@pytest.mark.asyncio
async def test_a_job_without_versions_is_unknown_in_its_status(database: Database) -> None:
    job = await database.write(add_job, "digits")

    assert (job.status, job.version_count, job.latest_version_id) == (0, 0, None)
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_job_shows_its_latest_version(database: Database) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED, Phase.RUNNING)

    newest, oldest = await database.read(versions_of, job)
    assert (newest.name, oldest.name) == ("V0002", "V0001")
    assert newest.pre_version_id == oldest.id
    assert (job.latest_version_id, job.version_count) == (newest.id, 2)
    assert (newest.status, oldest.status) == (8, 10)
    assert job.status == 8
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_an_older_version_that_moves_does_not_change_what_the_job_shows(
    database: Database,
) -> None:
    job = await database.write(job_with_versions, Phase.RUNNING, Phase.QUEUED)
    older = (await database.read(versions_of, job))[1]
    workload = await database.read(workloads.get_workload, older.workload_id)

    await database.write(move, workload, Event.SUCCEEDED, now_ms=9_000)

    assert (await database.read(jobs.get_job, PROJECT, job.id)).status == 7
    assert await counts_of(database) == {"Completed": 1, "Queue": 1}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_name_is_taken_once_a_workspace_until_the_job_is_deleted(
    database: Database,
) -> None:
    job = await database.write(add_job, "digits")

    with pytest.raises(NameTaken, match="Job name:digits is existed"):
        await database.write(add_job, "digits")
    assert await database.read(jobs.is_name_taken, PROJECT, WORKSPACE, "digits")
    assert not await database.read(jobs.is_name_taken, OTHER_PROJECT, WORKSPACE, "digits")
    await database.write(add_job, "digits", project_id=OTHER_PROJECT)

    await database.write(delete_job, job)

    assert not await database.read(jobs.is_name_taken, PROJECT, WORKSPACE, "digits")
    await database.write(add_job, "digits")
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_the_version_before_is_shown_once_the_latest_is_deleted(
    database: Database,
) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED, Phase.FAILED)
    newest, oldest = await database.read(versions_of, job)

    await database.write(delete_version, job, newest.id)

    shown = await database.read(jobs.get_job, PROJECT, job.id)
    assert (shown.latest_version_id, shown.status, shown.version_count) == (oldest.id, 10, 1)
    assert await counts_of(database) == {"Completed": 1}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_version_numbers_are_never_used_again(database: Database) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED, Phase.FAILED)
    newest, oldest = await database.read(versions_of, job)
    for version in (newest, oldest):
        await database.write(delete_version, job, version.id)
    await database.write(purge_all)
    empty = await database.read(jobs.get_job, PROJECT, job.id)
    assert (empty.status, empty.version_count, empty.latest_version_id) == (0, 0, None)

    await database.write(add_version, job)

    assert [v.name for v in await database.read(versions_of, job)] == ["V0003"]
    assert await database.scan(find_differences) == []


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.TERMINATING, Phase.COMPLETED])
@pytest.mark.asyncio
async def test_a_deleted_version_is_in_no_count_however_it_goes_on(
    database: Database, phase: Phase
) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED, phase)
    newest = (await database.read(versions_of, job))[0]

    await database.write(delete_version, job, newest.id)
    workload = await database.read(workloads.get_workload, newest.workload_id)
    for event in {
        Phase.RUNNING: (Event.STOP_ASKED, Event.STOPPED),
        Phase.TERMINATING: (Event.STOPPED,),
    }.get(phase, ()):
        workload = await database.write(move, workload, event, now_ms=9_000)
        assert await counts_of(database) in (
            {"Completed": 1},
            {"Completed": 1, "cpu_millis": 1_000, "memory_mib": 1_024},
        )
        assert await database.scan(find_differences) == []

    assert workload.phase in FINISHED


@pytest.mark.asyncio
async def test_a_deleted_job_is_gone_for_everybody_and_from_every_count(
    database: Database,
) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED, Phase.FAILED)
    version_id = job.latest_version_id
    assert version_id is not None

    await database.write(delete_job, job)

    readings: list[Callable[[], Awaitable[object]]] = [
        lambda: database.read(jobs.get_job, PROJECT, job.id),
        lambda: database.read(jobs.get_version, PROJECT, job.id, version_id),
        lambda: database.write(jobs.describe_job, PROJECT, job.id, "still there?"),
    ]
    for reading in readings:
        with pytest.raises(JobUnknown):
            await reading()
    assert await counts_of(database) == {}
    assert await database.scan(find_differences) == []

    await database.write(purge_all)

    assert set((await database.read(rows_left)).values()) == {0}
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_job_is_purged_with_its_last_version(database: Database) -> None:
    job = await database.write(job_with_versions, Phase.RUNNING, Phase.COMPLETED)
    await database.write(delete_job, job)

    await database.write(purge_all)

    assert (await database.read(rows_left))["job"] == 1  # one version still runs
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_a_job_that_never_had_a_version_goes_at_once(database: Database) -> None:
    job = await database.write(add_job, "digits")

    await database.write(delete_job, job)

    assert (await database.read(rows_left))["job"] == 0
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_nothing_is_seen_across_projects(database: Database) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED)
    version_id = job.latest_version_id
    assert version_id is not None

    with pytest.raises(JobUnknown, match=f"job_id is {job.id}; this project has no such"):
        await database.read(jobs.get_job, OTHER_PROJECT, job.id)
    with pytest.raises(JobUnknown):
        await database.read(jobs.get_version, OTHER_PROJECT, job.id, version_id)
    with pytest.raises(JobUnknown):
        await database.write(jobs.describe_job, OTHER_PROJECT, job.id, "mine")


@pytest.mark.asyncio
async def test_a_version_belongs_to_its_job(database: Database) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED)
    other = await database.write(add_job, "other")

    with pytest.raises(JobUnknown, match=f"job {other.id} has no such version"):
        await database.read(jobs.get_version, PROJECT, other.id, job.latest_version_id or 0)


@pytest.mark.asyncio
async def test_a_new_description_is_shown_with_the_job_and_its_versions(
    database: Database,
) -> None:
    job = await database.write(job_with_versions, Phase.COMPLETED)

    await database.write(jobs.describe_job, PROJECT, job.id, "the good one")

    assert (await database.read(jobs.get_job, PROJECT, job.id)).description == "the good one"

    def described(connection: Connection) -> list[tuple[str]]:
        return connection.execute("SELECT description FROM version").fetchall()

    assert await database.read(described) == [("the good one",)]


@pytest.mark.asyncio
async def test_the_quota_counts_what_is_not_at_rest(database: Database) -> None:
    live = 0
    for phase in Phase:
        if phase in (Phase.STOP_FAILED, Phase.UNKNOWN):
            continue
        await database.write(add_workload, phase, phase=phase)
        live += view_of(phase).v1_status in (1, 7, 8, 9, 14)

        assert await database.read(jobs.count_live_jobs, PROJECT) == live

    def submit(name: str, project_id: str, quota: int) -> Submission:
        return a_submission(name, project_id=project_id, job_quota=quota)

    await database.write(insert_submission, submit("one-more", PROJECT, live + 1))
    live += 1
    with pytest.raises(QuotaExceeded, match=f"has {live} live jobs and may have {live}"):
        await database.write(insert_submission, submit("too-many", PROJECT, live))
    await database.write(insert_submission, submit("elsewhere", OTHER_PROJECT, 1))


@pytest.mark.asyncio
async def test_an_unknown_workspace_is_refused(database: Database) -> None:
    await database.read(jobs.check_workspace, PROJECT, WORKSPACE)

    with pytest.raises(WorkspaceUnknown, match="workspace_id is '7'"):
        await database.read(jobs.check_workspace, PROJECT, "7")


def config(name: str, *, description: str = "") -> jobs.JobConfig:
    return jobs.JobConfig(name=name, description=description, config="{}", created_at_ms=5)


@pytest.mark.asyncio
async def test_a_job_configuration_lives_under_its_name(database: Database) -> None:
    await database.write(jobs.insert_config, PROJECT, config("digits"))

    with pytest.raises(NameTaken, match="config_name is 'digits'"):
        await database.write(jobs.insert_config, PROJECT, config("digits"))
    await database.write(jobs.update_config, PROJECT, config("digits", description="new"))
    stored = await database.read(jobs.get_config, PROJECT, "digits")
    assert stored == config("digits", description="new")
    with pytest.raises(JobUnknown):
        await database.read(jobs.get_config, OTHER_PROJECT, "digits")

    await database.write(jobs.delete_config, PROJECT, "digits")

    with pytest.raises(JobUnknown, match="config_name is 'digits'"):
        await database.write(jobs.delete_config, PROJECT, "digits")
