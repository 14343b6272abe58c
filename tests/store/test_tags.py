"""Tags of training jobs: what is kept of them, and that a recount finds what does not belong."""

import pytest

from muster.domain.tag import TagAction, TagChange
from muster.operations.tags import tag_version
from muster.store import jobs, tags
from muster.store.database import Database
from muster.store.recount import differences
from muster.store.transaction import Transaction
from tests.store.rows import OTHER_PROJECT, PROJECT, WORKSPACE, add_job, add_version
from tests.store.test_jobs import delete_job, delete_version


def add(tx: Transaction, name: str = "tagged", *, project_id: str = PROJECT) -> jobs.Job:
    """A job with one version."""
    job = add_job(tx, name, project_id=project_id, now_ms=1_000)
    add_version(tx, job, now_ms=1_000)
    return jobs.get_job(tx.connection, project_id, job.id)


def version_of(job: jobs.Job) -> int:
    assert job.latest_version_id is not None
    return job.latest_version_id


def change(*pairs: tuple[str, str | None], action: TagAction = TagAction.CREATE) -> TagChange:
    return TagChange(action=action, tags=pairs)


@pytest.mark.asyncio
async def test_a_version_has_the_tags_that_it_was_given_last(database: Database) -> None:
    version_id = version_of(await database.write(add))

    await tag_version(database, version_id, change(("team", "a"), ("cost", "7")))
    told = await tag_version(database, version_id, change(("team", "b"), ("key", None)))
    left = await tag_version(database, version_id, change(("cost", None), action=TagAction.DELETE))

    assert told == {"team": "b", "cost": "7", "key": ""}
    assert left == {"team": "b", "key": ""}
    assert await database.read(tags.list_version_tags, version_id) == left


@pytest.mark.asyncio
async def test_all_tags_are_those_of_the_workspaces_that_are_asked_for(database: Database) -> None:
    for name, project_id, value in (
        ("one", PROJECT, "a"), ("two", PROJECT, "a"), ("three", PROJECT, "b"),
        ("theirs", OTHER_PROJECT, "c"),
    ):  # fmt: skip

        def write(
            tx: Transaction, name: str = name, project_id: str = project_id, value: str = value
        ) -> None:
            job = add(tx, name, project_id=project_id)
            tags.put_version_tags(tx, version_of(job), {}, {"team": value})

        await database.write(write)

    async def found(*workspace_ids: str) -> list[tuple[str, str]]:
        return sorted(await database.read(tags.list_workspace_tags, PROJECT, workspace_ids))

    assert await found(WORKSPACE) == [("team", "a"), ("team", "b")]
    assert await found() == await found("7") == []


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.asyncio
async def test_a_deleted_version_has_no_tags_and_gets_none(
    database: Database, *, whole: bool
) -> None:
    job = await database.write(add)
    version_id = version_of(job)
    await tag_version(database, version_id, change(("team", "a")))

    if whole:
        await database.write(delete_job, job)
    else:
        await database.write(delete_version, job, version_id)

    assert await database.read(tags.list_version_tags, version_id) == {}
    assert await tag_version(database, version_id, change(("team", "a"))) is None
    assert await database.scan(lambda connection: list(differences(connection))) == []


@pytest.mark.asyncio
async def test_a_tag_of_nobody_is_found(database: Database) -> None:
    def spoil(tx: Transaction) -> None:
        tx.execute(
            "INSERT INTO version_tag (version_id, key, value, project_id, workspace_id)"
            " VALUES (999, 'team', 'a', ?, ?)",
            (PROJECT, WORKSPACE),
        )

    await database.write(spoil)

    found = await database.scan(lambda connection: list(differences(connection)))
    assert found == ["tags_of_nobody: (999, 'team')"]
