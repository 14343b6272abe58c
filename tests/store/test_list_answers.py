"""What is kept of lists while commits go by: never an old answer, and no reading in vain."""

import asyncio
import math
from functools import partial
from random import Random
from typing import Any, Final

import pytest

from muster.domain.phase import Event, Phase
from muster.domain.workload import Workload
from muster.store import jobs, listing, sqlite
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.listchanges import PROJECTS_REMEMBERED_MAX, ListChanges
from muster.store.listing import ListQuery
from muster.store.service_records import Calls, add_calls
from muster.store.submissions import insert_submissions
from muster.store.transaction import Transaction, tells_lists
from muster.store.workloads import set_message
from tests.store.rows import (
    GPU_POOL,
    OTHER_PROJECT,
    PROJECT,
    WORKSPACE,
    a_submission,
    add_workload,
    move,
    set_up_store,
)
from tests.store.test_random_operations import User

OPERATIONS: Final = 100


def a_query(sort_key: str, **filters: Any) -> ListQuery:
    return ListQuery(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key=sort_key,
        is_descending=True,
        offset=0,
        limit=20,
        now_ms=0,
        **filters,
    )


JOBS: Final = (a_query("job_name"), a_query("status", statuses=(7, 8)))
VERSIONS: Final = (a_query("create_time"), a_query("job_name", pool_id=GPU_POOL, statuses=(8, 10)))


class Reader:
    """Asks for pages, and counts how often the database was."""

    def __init__(self) -> None:
        self.asked = 0

    def jobs(self, connection: Connection, query: ListQuery) -> object:
        self.asked += 1
        live = jobs.count_live_jobs(connection, query.project_id)
        return live, listing.page_of_jobs(connection, query)

    def versions(self, connection: Connection, query: ListQuery) -> object:
        self.asked += 1
        return listing.page_of_versions(connection, query)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.asyncio
async def test_a_page_is_what_is_stored_after_every_operation(
    database: Database, seed: int
) -> None:
    user, reader = User(Random(seed)), Reader()  # noqa: S311 - to be repeated, not to be secret
    told = (user.submit, user.run_again, user.move_some, user.move_some, user.move_some)

    for operation in range(OPERATIONS):
        user.now_ms += 1
        act = user.random.choice((*map(tells_of, told), user.act))
        await database.write(act)

        for work, queries in ((reader.jobs, JOBS), (reader.versions, VERSIONS)):
            for query in queries:
                kept = await database.read_lists(PROJECT, work, query)
                assert kept == await database.read(work, query), f"operation {operation}"


def tells_of(act: Any) -> Any:
    """All that it does is done by functions that tell the lists that they change."""
    return tells_lists(partial(act))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer becomes too old by the clock."""
    monkeypatch.setattr(sqlite, "SNAPSHOT_SECONDS_MAX", math.inf)


@tells_lists
def submit_elsewhere(tx: Transaction) -> None:
    insert_submissions(tx, [a_submission("other", project_id=OTHER_PROJECT)])


@tells_lists
def wait_for_its_tasks(tx: Transaction, workload: Workload) -> None:
    """Queued or Starting: the lists show the same."""
    move(tx, workload, Event.PLACED, now_ms=5_000)


@tells_lists
def submit_here_and_fail(tx: Transaction) -> None:
    insert_submissions(tx, [a_submission("new")])
    raise ZeroDivisionError


@pytest.mark.usefixtures("patient")
@pytest.mark.asyncio
async def test_commits_that_change_no_list_of_a_project_leave_its_answers(
    embedded: Database,
) -> None:
    await embedded.write(set_up_store)
    workload = await embedded.write(add_workload, phase=Phase.QUEUED)
    reader = Reader()
    before = await embedded.read_lists(PROJECT, reader.jobs, JOBS[1])

    await embedded.write(submit_elsewhere)
    workload = await embedded.write(set_message, workload, "it waits for a card")
    await embedded.write(wait_for_its_tasks, workload)
    await embedded.write(add_calls, {(1, ""): Calls(invocations=1)})

    assert await embedded.read_lists(PROJECT, reader.jobs, JOBS[1]) == before
    assert reader.asked == 1


@pytest.mark.usefixtures("patient")
@pytest.mark.asyncio
async def test_commits_that_do_not_tell_what_they_change_leave_no_answer(
    embedded: Database,
) -> None:
    await embedded.write(set_up_store)
    reader = Reader()
    for project_id in (PROJECT, OTHER_PROJECT):
        await embedded.read_lists(project_id, reader.jobs, JOBS[0])

    await embedded.write(lambda _tx: None)

    for project_id in (PROJECT, OTHER_PROJECT):
        await embedded.read_lists(project_id, reader.jobs, JOBS[0])
    assert reader.asked == 4


@pytest.mark.usefixtures("patient")
@pytest.mark.asyncio
async def test_a_write_that_fails_beside_others_hides_nothing_of_what_they_change(
    embedded: Database,
) -> None:
    await embedded.write(set_up_store)
    await embedded.write(add_workload, "digits")
    reader = Reader()
    await embedded.read_lists(PROJECT, reader.versions, VERSIONS[0])

    outcomes = await asyncio.gather(
        embedded.write(submit_here_and_fail),
        *(embedded.write_together(insert_submissions, a_submission(name)) for name in "abc"),
        embedded.write(submit_elsewhere),
        return_exceptions=True,
    )

    kept = await embedded.read_lists(PROJECT, reader.versions, VERSIONS[0])
    assert isinstance(outcomes[0], ZeroDivisionError)
    assert kept == await embedded.read(reader.versions, VERSIONS[0])
    assert kept[0] == 4  # type: ignore[index]


def test_of_more_projects_than_are_remembered_everything_has_changed() -> None:
    changes = ListChanges()
    for commit in range(1, PROJECTS_REMEMBERED_MAX + 1):
        changes.note(commit, {str(commit)})
    assert (changes.last("1"), changes.last("never seen")) == (1, 0)

    changes.note(20_000, {"one more"})

    assert (changes.last("1"), changes.last("never seen")) == (20_000, 20_000)


@pytest.mark.asyncio
async def test_pages_that_have_become_too_old_take_no_memory(
    embedded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(embedded, sqlite.SqliteDatabase)
    await embedded.write(set_up_store)
    monkeypatch.setattr(sqlite, "SNAPSHOT_SECONDS_MAX", -1.0)
    for query in JOBS:
        await embedded.read_lists(PROJECT, Reader().jobs, query)

    await embedded.read(jobs.count_live_jobs, PROJECT)

    assert embedded._of_lists == {}
