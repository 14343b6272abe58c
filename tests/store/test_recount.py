"""A recount finds whatever is wrong: here the store is falsified by hand."""

import pytest

from muster.domain.history import HistoryRow
from muster.domain.phase import Phase
from muster.store.database import Database
from muster.store.history import insert_history
from muster.store.transaction import Transaction
from tests.store.rows import (
    GPU_POOL,
    PROJECT,
    TWO_GPUS,
    add_workload,
    find_differences,
    set_up_store,
)


@pytest.mark.parametrize(
    ("falsify", "finding"),
    [
        ("UPDATE tally SET running = running + 1", "tally"),
        ("UPDATE tally SET held_gpu_count = held_gpu_count + 1", "tally"),
        ("DELETE FROM tally", "tally"),
        ("INSERT INTO version_total VALUES ('x', '0', '', 7, 1)", "version_total"),
        ("UPDATE version_total SET count = count + 1", "version_total"),
        ("UPDATE job_total SET count = count + 1", "job_total"),
        ("UPDATE id_block SET count = count + 1 WHERE list = 'job'", "id_block"),
        ("UPDATE id_block SET block = 7 WHERE list = 'version'", "id_block"),
        ("DELETE FROM id_block WHERE list = 'pooled'", "id_block"),
        ("UPDATE workspace_use SET workload_count = workload_count + 1", "workspace_use"),
        ("UPDATE workspace_use SET gpu_count = gpu_count + 1", "workspace_use"),
        ("DELETE FROM workspace_use", "workspace_use"),
        ("INSERT INTO workspace_use VALUES ('x', '0', 'train', 1, 0, 0, 0, 0)", "workspace_use"),
        ("UPDATE version SET status = 10", "shows status 10"),
        ("UPDATE version SET duration_ms = 7", "versions_beside_their_workload"),
        ("UPDATE version SET started_at_ms = 7", "versions_beside_their_workload"),
        ("UPDATE job SET status = 10", "jobs_beside_their_latest_version"),
        ("UPDATE job SET version_count = 2", "jobs_beside_their_latest_version"),
        ("UPDATE job SET latest_version_id = NULL", "jobs_beside_their_latest_version"),
        ("UPDATE job SET duration_ms = 7", "jobs_beside_their_latest_version"),
        ("UPDATE job SET started_at_ms = 7", "jobs_beside_their_latest_version"),
        ("UPDATE event SET number = 9 WHERE number = 1", "events_with_a_gap"),
        ("UPDATE workload SET attempt_count = 2", "attempts_beside_their_count"),
        ("UPDATE workload SET is_holding = 0", "cards_held_by_nobody"),
        ("DELETE FROM card_hold WHERE card = 0", "cards_held_and_cards_placed"),
        (
            "UPDATE workload SET phase = 'Completed', ended_at_ms = 9",
            "workloads_that_hold_nodes_for_nothing",
        ),
    ],
)
@pytest.mark.asyncio
async def test_a_recount_finds_what_is_wrong(
    database: Database, falsify: str, finding: str
) -> None:
    await database.write(add_workload, phase=Phase.RUNNING, pool_id=GPU_POOL, task=TWO_GPUS)
    assert await database.scan(find_differences) == []

    def change(tx: Transaction) -> None:
        tx.execute(falsify)

    await database.write(change)

    assert any(finding in line for line in await database.scan(find_differences))


@pytest.mark.parametrize(
    "falsify",
    [
        "UPDATE job_search_mark SET id = 1",
        "INSERT INTO job_search (rowid, name) VALUES ((1 << 40) + 9, 'nobody')",
        "INSERT INTO job_search (rowid, name) SELECT id, name FROM job",  # in no place
    ],
)
@pytest.mark.asyncio
async def test_a_recount_finds_a_search_that_knows_too_little_or_too_much(
    embedded: Database, falsify: str
) -> None:
    await embedded.write(set_up_store)
    await embedded.write(add_workload)

    def change(tx: Transaction) -> None:
        tx.execute(falsify)

    await embedded.write(change)

    found = await embedded.scan(find_differences)
    assert any("jobs_beside_the_search" in line for line in found)


@pytest.mark.parametrize(
    ("falsify", "finding"),
    [
        (
            "UPDATE import_key SET source = '7:letters/2/5' WHERE source = '7:digits/2/5'",
            "imported_beside_their_line",
        ),
        (
            "UPDATE import_key SET source = '7:digits/2/4' WHERE source = '7:digits/2/5'",
            "imported_beside_their_line",
        ),
        ("DELETE FROM imported_job", "imported_beside_their_line"),
        (
            "INSERT INTO import_key SELECT project_id, source || ' ', version_id FROM import_key",
            "imported_from_two_lines",
        ),
        ("DELETE FROM import_key", "imported_without_their_line"),
        ("UPDATE imported_job SET source = '7:letters'", "imported_jobs_beside_their_name"),
        ("DELETE FROM out_of_order", "lists_out_of_order_and_not_noted"),
    ],
)
@pytest.mark.asyncio
async def test_a_recount_finds_what_is_wrong_with_history_that_was_moved_in(
    database: Database, falsify: str, finding: str
) -> None:
    def row(number: int, created_at_ms: int) -> HistoryRow:
        return HistoryRow(
            version_id=str(number),
            job_id="7",
            job_name="digits",
            status=10,
            created_at_ms=created_at_ms,
            ended_at_ms=created_at_ms,
        )

    rows = [row(1, 6), row(2, 5)]
    await database.write(insert_history, PROJECT, rows, actor="ann", now_ms=9, pool_as_public=False)
    assert await database.scan(find_differences) == []

    def change(tx: Transaction) -> None:
        tx.execute(falsify)

    await database.write(change)

    assert any(finding in line for line in await database.scan(find_differences))


@pytest.mark.asyncio
async def test_a_recount_finds_an_index_that_is_missing(embedded: Database) -> None:
    def drop(tx: Transaction) -> None:
        tx.execute("DROP INDEX version_by_name")

    await embedded.write(drop)

    assert await embedded.scan(find_differences) == ["index: version_by_name is missing"]
