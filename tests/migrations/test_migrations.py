"""Old data still reads: databases as earlier musters left them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from muster.domain.phase import Phase
from muster.domain.placement import CardKind
from muster.domain.pool import DEFAULT_LINE, Host, PoolPhase
from muster.store import archive, identity, named, pool_nodes, pools, workloads
from muster.store.connection import Connection
from muster.store.paging.scope import Scope
from muster.store.recount import differences
from muster.store.sqlite import SqliteDatabase
from muster.store.statements import load_migrations
from muster.store.training_listing import TrainingSearch, page_of_training_jobs
from muster.store.training_terms import SearchTerm
from muster.store.transaction import Transaction

HERE: Final = Path(__file__).parent


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data folder's database as schema 1 left it, with a job that runs on card 1."""
    file = tmp_path / "muster.db"
    with closing(sqlite3.connect(file)) as connection:
        _, script = load_migrations()[0]
        connection.executescript(script)
        connection.executescript((HERE / "schema_1.sql").read_text(encoding="utf-8"))
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    return file


def put_the_only_host(tx: Transaction) -> None:
    host = Host(
        name="renamed-since",
        cpu_millis=16_000,
        memory_mib=192_000,
        card_kind=CardKind.GPU,
        cards=(0, 1, 2, 3),
    )
    pool_nodes.put_hosts(tx, [host])


def the_project(connection: Connection) -> str:
    [project] = identity.list_projects(connection)
    return project.id


@pytest.mark.asyncio
async def test_jobs_pools_and_counts_of_schema_1_are_read_as_they_were(old: Path) -> None:
    database = SqliteDatabase(old)
    try:
        project_id = await database.read(the_project)
        public, research = await database.read(pools.list_pools, project_id)

        assert (public.display_name, research.display_name) == ("public", "research")
        assert research.phase is PoolPhase.RUNNING
        assert [(line.name, line.node_count) for line in research.lines] == [(DEFAULT_LINE, 2)]
        active = await database.read(workloads.list_active)
        assert [workload.phase for workload in active] == [Phase.RUNNING]
        [queued] = await database.read(workloads.list_queue, research.partition, limit=9)
        assert queued.task_count == 2
        assert await database.scan(lambda connection: list(differences(connection))) == []
    finally:
        database.close()


@pytest.mark.asyncio
async def test_nodes_and_held_cards_of_schema_1_become_those_of_the_only_host_under_its_old_name(
    old: Path,
) -> None:
    database = SqliteDatabase(old)
    try:
        await database.write(put_the_only_host)

        nodes = await database.read(pool_nodes.list_nodes)
        assert {node.name: node.host_name for node in nodes if node.line_name} == {
            "research-1": "vm",
            "research-2": "vm",
        }
        assert await database.read(workloads.list_held_cards) == [("vm", 1)]
    finally:
        database.close()


@pytest.mark.asyncio
async def test_events_of_schema_1_are_numbered_without_a_gap(old: Path) -> None:
    database = SqliteDatabase(old)

    def gaps(connection: Connection) -> list[object]:
        return connection.execute(
            "SELECT workload_id FROM event GROUP BY workload_id HAVING max(number) <> count(*)"
        ).fetchall()

    try:
        assert await database.read(gaps) == []
    finally:
        database.close()


@pytest.mark.asyncio
async def test_names_that_schema_6_had_learnt_are_found_in_their_place_and_deleted_ones_no_more(
    old: Path,
) -> None:
    with closing(sqlite3.connect(old)) as connection:
        for number, script in load_migrations()[1:6]:
            connection.executescript(f"{script}\nPRAGMA user_version = {number};")
        [first, second, *_] = connection.execute("SELECT id, name FROM job ORDER BY id").fetchall()
        connection.execute("UPDATE job SET is_deleted = 1 WHERE id = ?", first[:1])
        connection.commit()
    database = SqliteDatabase(old)

    def found(connection: Connection, name: str) -> list[int]:
        candidates = named.with_any([name.lower()], column="id")
        assert candidates is not None
        [(project_id, workspace_id)] = connection.execute(
            "SELECT DISTINCT project_id, workspace_id FROM job"
        ).fetchall()
        scope = Scope(table="job", project_id=project_id, workspace_id=workspace_id)
        elsewhere = Scope(table="job", project_id=project_id, workspace_id="elsewhere")
        assert named.count_of(connection, elsewhere, candidates) == 0
        return named.first_of(connection, scope, candidates, limit=9)

    try:
        assert await database.read(found, first[1]) == []
        assert await database.read(found, second[1]) == [second[0]]
    finally:
        database.close()


ALGORITHM_SCHEMA: Final = 12  # from which on names of algorithms have an index


@pytest.mark.asyncio
async def test_jobs_of_an_algorithm_that_were_made_before_its_index_are_found_by_its_name(
    old: Path,
) -> None:
    whole = '{"worker_server_num":1,"algorithm":{"id":"7","name":"Yolo"},"priority":null}'
    short = '{"algorithm":{"name":"Yolo"}}'  # of an archived one
    with closing(sqlite3.connect(old)) as connection:
        for number, script in load_migrations()[1 : ALGORITHM_SCHEMA - 1]:
            connection.executescript(f"{script}\nPRAGMA user_version = {number};")
        for version_id, config in ((1, whole), (5, short), (6, '{"algorithm":{"id":"7"}}')):
            connection.execute("UPDATE version SET config = ? WHERE id = ?", (config, version_id))
        connection.commit()
    database = SqliteDatabase(old)

    def found(connection: Connection, project_id: str, operator: str, name: str) -> list[int]:
        search = TrainingSearch(
            project_id=project_id,
            workspace_id="0",
            sort_key="create_time",
            is_descending=False,
            offset=0,
            limit=9,
            now_ms=2**50,
            terms=(SearchTerm(key="algorithm_name", operator=operator, values=(name,)),),
        )
        total, rows = page_of_training_jobs(connection, search)
        assert total == len(rows)
        return [row.version_id for row in rows]

    try:
        project_id = await database.read(the_project)
        assert await database.read(found, project_id, "like", "yolo") == [1, 5]
        assert await database.read(found, project_id, "in", "Yolo") == [1, 5]
        assert await database.read(found, project_id, "in", "yolo") == []
        assert await database.read(found, project_id, "not", "Yolo") == [2, 3, 6, 7]
    finally:
        database.close()


@pytest.mark.asyncio
async def test_ended_jobs_of_schema_1_are_archived_from_where_they_stand(old: Path) -> None:
    database = SqliteDatabase(old)
    try:
        before = await database.read(workloads.get_run, 1)
        due = await database.scan(archive.list_due, ended_before_ms=2**60, limit=9)

        assert await database.write(archive.archive_workloads, due) == 4
        assert await database.read(workloads.get_run, 1) == before
        assert await database.scan(lambda connection: list(differences(connection))) == []
    finally:
        database.close()
