"""Jobs that ended long ago are packed away, and nobody sees a difference."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest

from muster.domain.command import Run
from muster.domain.phase import Event, Phase
from muster.store import (
    archive,
    jobs,
    listing,
    pool_listing,
    purging,
    timeline,
    training_listing,
    workloads,
)
from muster.store.archive import Archived, ArchiveUnreadable, pack, unpack
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.history import stream_history
from muster.store.listing import ListQuery
from muster.store.training_listing import TrainingSearch
from muster.store.training_terms import SearchTerm
from muster.store.transaction import Transaction
from tests.store.rows import (
    GPU_POOL,
    ONE_CPU,
    PROJECT,
    PUBLIC_POOL,
    TWO_GPUS,
    WORKSPACE,
    add_job,
    add_version,
    add_workload,
    bring_to,
    find_differences,
    move,
)
from tests.store.test_history import move_in, row
from tests.store.test_jobs import delete_job

END_MS: Final = 5_000  # when the jobs here end
LATER_MS: Final = 9_000


def fill(tx: Transaction) -> None:
    """Ended and live ones; some were retried, some have several versions or made of algorithms."""
    for number, phase in enumerate((Phase.COMPLETED, Phase.FAILED, Phase.CREATE_FAILED) * 2):
        pool_id, task = (GPU_POOL, TWO_GPUS) if number % 2 else ("", ONE_CPU)
        job = add_job(tx, f"digits-{number}", now_ms=END_MS - 100)
        for _ in range(1 + number % 3):
            workload = add_version(tx, job, pool_id=pool_id, task=task, now_ms=END_MS - 100)
            bring_to(tx, workload, phase, now_ms=END_MS)
    add_retried(tx)
    add_workload(tx, "still-running", phase=Phase.RUNNING, now_ms=END_MS)
    add_workload(tx, "ended-just-now", phase=Phase.COMPLETED, now_ms=LATER_MS)
    tx.execute(
        "UPDATE version SET config = ? WHERE number = 1 AND job_name LIKE 'digits-%'",
        ('{"algorithm":{"name":"yolo"}}',),
    )
    tx.execute(
        "UPDATE version_config SET config = ? WHERE workload_id IN (SELECT workload_id"
        " FROM version WHERE number = 1 AND job_name LIKE 'digits-%')",
        ('{"worker_server_num":1,"algorithm":{"id":"77","name":"yolo"},"priority":2}',),
    )


def add_retried(tx: Transaction) -> None:
    workload = add_version(tx, add_job(tx, "retried", now_ms=END_MS), retries=2, now_ms=END_MS)
    for event in (
        *(Event.ENQUEUED, Event.PLACED, Event.STARTED, Event.RETRIED),
        *(Event.PLACED, Event.STARTED, Event.SUCCEEDED),
    ):
        workload = move(tx, workload, event, now_ms=END_MS)


async def archive_all(
    database: Database, *, ended_before_ms: int = LATER_MS, limit: int = 100
) -> int:
    due = await database.scan(archive.list_due, ended_before_ms=ended_before_ms, limit=limit)
    return await database.write(archive.archive_workloads, due)


def query(**more: Any) -> ListQuery:
    given: dict[str, Any] = {
        "project_id": PROJECT,
        "workspace_id": WORKSPACE,
        "sort_key": "create_time",
        "is_descending": True,
        "offset": 0,
        "limit": 100,
        "now_ms": LATER_MS,
    }
    return ListQuery(**(given | more))


def search(*terms: SearchTerm, **more: Any) -> TrainingSearch:
    return TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key="create_time",
        is_descending=True,
        offset=0,
        limit=100,
        now_ms=LATER_MS,
        terms=terms,
        **more,
    )


def all_that_is_shown(connection: Connection) -> dict[str, Any]:
    """Whatever any call reads of any job, but for guards of writes."""
    ids = [id_ for [id_] in connection.execute("SELECT id FROM workload ORDER BY id")]
    job_ids = [id_ for [id_] in connection.execute("SELECT id FROM job ORDER BY id")]
    by_algorithm = SearchTerm(key="algorithm_name", operator="in", values=("yolo",))
    total, found = training_listing.page_of_training_jobs(connection, search())
    return {
        "workloads": [workloads.get_workload(connection, id_)._replace(revision=0) for id_ in ids],
        "runs": [workloads.get_run(connection, id_) for id_ in ids],
        "events": [timeline.list_events(connection, id_) for id_ in ids],
        "attempts": timeline.list_past_attempts(connection, ids),
        "versions": [
            jobs.list_job_versions(connection, id_, offset=0, limit=-1) for id_ in job_ids
        ],
        "page of jobs": listing.page_of_jobs(connection, query()),
        "page of versions": listing.page_of_versions(connection, query()),
        "by other keys": [
            sorted(listing.page_of_versions(connection, query(sort_key=key))[1])
            for key in listing.VERSION_SORT_KEYS
        ],
        "search": (total, [(row[:12], row.config, row[13:-1]) for row in found]),
        "by algorithm": training_listing.page_of_training_jobs(connection, search(by_algorithm))[0],
        "of a pool": pool_listing.page_of_pool_workloads(
            connection,
            project_id=PROJECT,
            pool_id=PUBLIC_POOL,
            types=None,
            states=None,
            hosts=None,
            is_ascending=True,
            offset=0,
            limit=100,
        )[0],
        "history": [row for rows in stream_history(connection, PROJECT) for row in rows],
    }


async def count(database: Database, statement: str) -> int:
    def read(connection: Connection) -> int:
        return int(connection.execute(statement).fetchone()[0])

    return await database.read(read)


@pytest.mark.asyncio
async def test_what_is_archived_is_shown_as_before_and_counted_as_before(
    database: Database,
) -> None:
    await database.write(fill)
    before = await database.scan(all_that_is_shown)

    done = await archive_all(database)

    assert done == await count(database, "SELECT count(*) FROM archived") == 13
    assert await database.scan(all_that_is_shown) == before
    assert before["by algorithm"] == 6
    assert len(before["attempts"]) == 1
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_what_was_packed_is_gone_from_where_it_was(database: Database) -> None:
    await database.write(fill)

    await archive_all(database)

    for table in ("event", "past_attempt"):
        left = (
            f"SELECT count(*) FROM {table}"  # noqa: S608
            " WHERE workload_id IN (SELECT id FROM workload WHERE is_archived = 1)"
        )
        assert await count(database, left) == 0, table
    text = "SELECT coalesce(sum(length(run)), 0) FROM workload WHERE is_archived = 1"
    assert await count(database, text) == 0


@pytest.mark.asyncio
async def test_only_what_ended_before_the_limit_is_due_and_the_oldest_first(
    database: Database,
) -> None:
    running = [
        await database.write(add_workload, f"job-{number}", phase=Phase.RUNNING, now_ms=500)
        for number in range(4)
    ]
    for workload, end_ms in zip(running, (3_000, 2_000, 1_000), strict=False):
        await database.write(move, workload, Event.SUCCEEDED, now_ms=end_ms)

    due = await database.scan(archive.list_due, ended_before_ms=3_000, limit=10)

    assert [one.workload_id for one in due] == [3, 2]


@pytest.mark.asyncio
async def test_what_still_holds_nodes_after_its_end_is_not_due(database: Database) -> None:
    def stop_in_vain(tx: Transaction) -> None:
        workload = add_workload(tx, phase=Phase.RUNNING, pool_id=GPU_POOL, task=TWO_GPUS)
        workload = move(tx, workload, Event.STOP_ASKED, now_ms=2_000)
        move(tx, workload, Event.STOP_GIVEN_UP, now_ms=2_000)

    await database.write(stop_in_vain)

    assert await archive_all(database) == 0


@pytest.mark.asyncio
async def test_one_that_is_deleted_while_it_is_packed_is_left_out(database: Database) -> None:
    await database.write(add_workload, "kept", phase=Phase.FAILED)
    await database.write(add_workload, "deleted", phase=Phase.FAILED)
    due = await database.scan(archive.list_due, ended_before_ms=LATER_MS, limit=10)
    job = await database.read(jobs.get_job, PROJECT, 2)
    await database.write(delete_job, job)

    assert await database.write(archive.archive_workloads, due) == 1
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_the_same_batch_twice_archives_once(database: Database) -> None:
    await database.write(fill)
    due = await database.scan(archive.list_due, ended_before_ms=LATER_MS, limit=100)

    assert await database.write(archive.archive_workloads, due) == len(due)
    assert await database.write(archive.archive_workloads, due) == 0
    assert await database.scan(find_differences) == []


@pytest.mark.asyncio
async def test_an_archived_job_is_deleted_without_a_trace(database: Database) -> None:
    await database.write(add_coded, "a" * 64)
    await archive_all(database)
    job = await database.read(jobs.get_job, PROJECT, 1)

    await database.write(delete_job, job)
    await database.write(purge_all)

    for table in ("job", "version", "workload", "event", "archived"):
        assert await count(database, f"SELECT count(*) FROM {table}") == 0, table  # noqa: S608
    assert await database.scan(find_differences) == []


def purge_all(tx: Transaction) -> None:
    for workload_id, _ in purging.list_purgeable(tx.connection):
        purging.purge_workload(tx, workload_id)


@pytest.mark.asyncio
async def test_every_attempt_of_an_archived_job_is_known_when_it_is_purged(
    database: Database,
) -> None:
    await database.write(add_retried)
    await archive_all(database)
    job = await database.read(jobs.get_job, PROJECT, 1)

    await database.write(delete_job, job)

    [(_, attempts)] = await database.read(purging.list_purgeable)
    assert len(attempts) == 2


@pytest.mark.asyncio
async def test_history_that_is_moved_in_is_archived_as_well(database: Database) -> None:
    await move_in(database, *(row(number) for number in range(1, 80)))
    before = await database.scan(all_that_is_shown)

    assert await archive_all(database, limit=50) == 50
    assert await archive_all(database, limit=50) == 29

    assert await database.scan(all_that_is_shown) == before
    assert (await move_in(database, row(7))).present == 1
    assert await database.scan(find_differences) == []


@pytest.mark.parametrize(
    ("falsify", "finding"),
    [
        ("DELETE FROM archived", "archived_without_their_row"),
        ("UPDATE workload SET is_archived = 0", "archived_of_nobody"),
        ("UPDATE workload SET run = '{}'", "archived_and_still_here"),
        (
            "INSERT INTO event (workload_id, number, at_ms, event, phase_before, phase_after,"
            " reason, message, actor) VALUES (1, 1, 1, 'Started', 'a', 'b', '', '', '')",
            "archived_and_still_here",
        ),
        ("UPDATE workload SET attempt_count = 3", "it keeps"),
        ("UPDATE snapshot_use SET workload_count = 2", "snapshot_use"),
        ("DELETE FROM snapshot_use", "snapshot_use"),
        ("UPDATE archived SET body = :damaged", "damaged"),
        ("UPDATE archived SET body = :newer", "has the format ff"),
    ],
)
@pytest.mark.asyncio
async def test_a_recount_finds_what_is_wrong_with_the_archive(
    database: Database, falsify: str, finding: str
) -> None:
    await database.write(add_coded, "a" * 64)
    await archive_all(database)
    assert await database.scan(find_differences) == []

    def change(tx: Transaction) -> None:
        values = {"damaged": b"\x01\x00\x00", "newer": b"\xff"}
        named = {name: value for name, value in values.items() if f":{name}" in falsify}
        tx.execute(falsify, named)

    await database.write(change)

    assert any(finding in line for line in await database.scan(find_differences))


def add_coded(tx: Transaction, digest: str) -> None:
    """A job that ran code."""
    run = Run(job_name="coded", code=digest)
    workload = add_workload(tx, "coded", phase=Phase.COMPLETED)
    text = msgspec.json.encode(run).decode()
    tx.execute("UPDATE workload_run SET run = ? WHERE workload_id = ?", (text, workload.id))
    tx.counts.snapshot(digest, 1)


@pytest.mark.asyncio
async def test_a_snapshot_is_used_as_long_as_a_workload_was_made_from_it(
    database: Database,
) -> None:
    digests = ["a" * 64, "b" * 64]

    async def used() -> set[str]:
        return await database.read(archive.used_snapshots, digests)

    await database.write(add_coded, digests[0])
    assert await used() == {digests[0]}
    await archive_all(database)
    assert await used() == {digests[0]}
    await database.write(delete_job, await database.read(jobs.get_job, PROJECT, 1))
    assert await used() == {digests[0]}
    await database.write(purge_all)
    assert await used() == set()
    await database.write(archive.forget_snapshots, digests)
    assert await count(database, "SELECT count(*) FROM snapshot_use") == 0


ONE: Final = Archived(
    run=msgspec.Raw(b'{"job_name":"digits","code":null}'),
    placements=msgspec.Raw(b'[{"index":0,"node_name":"n-1"}]'),
    config=msgspec.Raw(b'{"worker_server_num":1}'),
    events=[(1_700_000_000_000, "Enqueued", "Creating", "Queued", "", "", "muster", 1)],
    attempts=[(1, "a" * 32, None, "[]", None, 1_700_000_000_001, "TaskExit", "It failed.")],
)
# As it was packed when format 1 was made: it has to be readable for ever.
PACKED_1: Final = bytes.fromhex(
    "0178f95f6a7297432d115232d33381610bcbf6d070c055d8e4e91a82d214f6bc4279f8c5824c00c6"
    "0b01a0a40389bfe858280bd9564394caceb344210d5c07ea29c5c6c60200d9c94f3e"
)


def test_what_was_packed_in_format_1_is_readable_for_ever() -> None:
    assert contents(unpack(PACKED_1)) == contents(ONE)


def test_what_is_packed_is_unpacked_to_the_byte() -> None:
    assert contents(unpack(pack(ONE))) == contents(ONE)


def contents(one: Archived) -> Sequence[object]:
    return bytes(one.run), bytes(one.placements), bytes(one.config), one.events, one.attempts


@pytest.mark.parametrize("body", [b"", b"\x02abc", b"\x01abc", PACKED_1[:-3]])
def test_what_is_damaged_or_newer_is_refused(body: bytes) -> None:
    with pytest.raises(ArchiveUnreadable):
        unpack(body)
