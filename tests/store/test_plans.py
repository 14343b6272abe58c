"""No list scans a table or sorts more than a page, whatever it is asked for."""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Final

import pytest

from muster.domain.phase import StatisticsState
from muster.domain.workload import WorkloadType
from muster.store import (
    listing,
    networks,
    pool_listing,
    tags,
    training_listing,
    training_terms,
    workloads,
)
from muster.store.connection import Connection
from muster.store.listing import JOB_SORT_KEYS, VERSION_SORT_KEYS, ListQuery
from muster.store.paging import gathering, id_order, pages, ranked
from muster.store.paging.gathering import entries_of_candidates
from muster.store.paging.scope import CREATED, Scope, candidates_of
from muster.store.sqlite import SqliteDatabase, open_snapshot
from muster.store.tags import TagTerm
from muster.store.training_listing import TRAINING_SORT_KEYS, TrainingSearch
from muster.store.training_terms import SearchTerm
from tests.store.rows import GPU_POOL, PROJECT, WORKSPACE, set_up_store
from tests.store.test_listing import fill, make_of_algorithms, settle_partly, tag

STATUSES: Final = ((), (7,), (5, 8, 10, 11))

# What is read whole: an answer of the same statement, the list of a parameter, nothing at all.
READ_WHOLE: Final = (
    "SCAN page",
    "SCAN chunk",
    "SCAN passed",
    "SCAN json_each",
    "SCAN part",
    "SCAN p ",
    "SCAN CONSTANT ROW",
    "SCAN candidate ",
    "SCAN found ",
    "SCAN u ",
    "SCAN w USING COVERING INDEX sqlite_autoindex_workload_1 ",  # ids: no order tells their parts
    "SCAN job_search ",
    "SCAN job_search_mark ",
    "SCAN named ",  # names that are found one by one
)

# These may be sorted: they are as many as there are pools and statuses, or no more of them is kept
# than a page, of what a search has found.
COUNTERS: Final = re.compile(
    r"FROM (version|job)_total\s|FROM key_block\s|AS candidate .* LIMIT \d"
)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """With every way to a page taken, however few rows there are."""
    file = tmp_path_factory.mktemp("plans") / "muster.db"
    with closing(SqliteDatabase(file)) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_order, "WALKED_MAX", -1)
        patch.setattr(gathering, "GATHERED_MAX", 0)
        patch.setattr(listing, "LOOKED_THROUGH_MAX", 0)
        patch.setattr(listing, "FOUND_PART", 0)
        asyncio.run(database.write(set_up_store))
        asyncio.run(database.write(fill))
        asyncio.run(database.write(tag))
        asyncio.run(database.write(make_of_algorithms))
        asyncio.run(settle_partly(database))
        with open_snapshot(file) as connection:
            yield connection


def plan(connection: Connection, read: Callable[[], object]) -> list[tuple[str, str]]:
    """(statement, step) of all that `read` asks for."""
    statements: list[str] = []
    assert isinstance(connection, sqlite3.Connection)
    connection.set_trace_callback(statements.append)
    try:
        read()
    finally:
        connection.set_trace_callback(None)
    assert statements
    return [
        (statement, step[3])
        for statement in dict.fromkeys(statements)
        # What the search asks its own tables is its own affair.
        if statement.startswith(("SELECT", "WITH")) and "'main'.'job_search" not in statement
        for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]


def faults(connection: Connection, read: Callable[[], object]) -> list[str]:
    """The steps that grow with the table."""
    return [
        f"{step} in {statement}"
        for statement, step in plan(connection, read)
        if ("TEMP B-TREE" in step and not COUNTERS.search(statement))
        or (step.startswith("SCAN") and not f"{step} ".startswith(READ_WHOLE))
    ]


def stream(connection: Connection, query: ListQuery) -> None:
    for _ in listing.stream_versions(connection, query):
        pass


def stream_as_json(connection: Connection, query: ListQuery) -> None:
    names = [str(number) for number in range(12)]
    written = listing.stream_versions_as_json(connection, query, names)
    for _ in listing.stream_versions(connection, query) if written is None else written:
        pass


def list_query(
    sort_key: str,
    is_descending: bool,
    statuses: tuple[int, ...],
    *,
    offset: int = 0,
    limit: int | None = 5,
    **more: Any,
) -> ListQuery:
    return ListQuery(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key=sort_key,
        is_descending=is_descending,
        offset=offset,
        limit=limit,
        now_ms=50_000,
        statuses=statuses,
        **more,
    )


@pytest.mark.parametrize(
    ("sort_key", "is_descending", "statuses"),
    [*product(sorted(JOB_SORT_KEYS), [False, True], STATUSES)],
)
@pytest.mark.parametrize(
    ("search", "few_found_max"), [("", 2_000), ("dig", 2_000), ("dig", 0), ("d", 2_000)]
)
def test_the_list_of_jobs(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    sort_key: str,
    is_descending: bool,
    statuses: tuple[int, ...],
    search: str,
    few_found_max: int,
) -> None:
    monkeypatch.setattr(listing, "FEW_FOUND_MAX", few_found_max)
    for offset in (0, 7, 30):
        query = list_query(sort_key, is_descending, statuses, offset=offset, search=search)

        assert faults(connection, partial(listing.page_of_jobs, connection, query)) == []


@pytest.mark.parametrize(
    ("sort_key", "is_descending", "statuses"),
    [*product(sorted(VERSION_SORT_KEYS), [False, True], STATUSES)],
)
@pytest.mark.parametrize("pool_id", [None, "", GPU_POOL])
def test_the_list_of_versions(
    connection: Connection,
    sort_key: str,
    is_descending: bool,
    statuses: tuple[int, ...],
    pool_id: str | None,
) -> None:
    for offset in (0, 5, 30):
        query = list_query(sort_key, is_descending, statuses, offset=offset, pool_id=pool_id)

        assert faults(connection, partial(listing.page_of_versions, connection, query)) == []
        assert faults(connection, partial(stream, connection, query)) == []
        assert faults(connection, partial(stream_as_json, connection, query)) == []


@pytest.mark.parametrize(
    ("sort_key", "is_descending", "statuses"),
    [*product(sorted(VERSION_SORT_KEYS), [False, True], STATUSES)],
)
@pytest.mark.parametrize("pool_id", [None, GPU_POOL])
def test_versions_over_counts_of_each_order(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    sort_key: str,
    is_descending: bool,
    statuses: tuple[int, ...],
    pool_id: str | None,
) -> None:
    monkeypatch.setattr(pages, "NEAR_ROWS", -1)
    monkeypatch.setattr(ranked, "_UNSETTLED_PART", 0)
    for offset in (0, 5, 30):
        query = list_query(sort_key, is_descending, statuses, offset=offset, pool_id=pool_id)

        assert faults(connection, partial(listing.page_of_versions, connection, query)) == []


@pytest.mark.parametrize(
    ("sort_key", "is_descending", "statuses"),
    [*product(sorted(JOB_SORT_KEYS), [False, True], STATUSES)],
)
def test_jobs_over_counts_of_each_order(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    sort_key: str,
    is_descending: bool,
    statuses: tuple[int, ...],
) -> None:
    monkeypatch.setattr(pages, "NEAR_ROWS", -1)
    monkeypatch.setattr(ranked, "_UNSETTLED_PART", 0)
    for offset in (0, 5, 30):
        query = list_query(sort_key, is_descending, statuses, offset=offset)

        assert faults(connection, partial(listing.page_of_jobs, connection, query)) == []


@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize("statuses", STATUSES)
def test_bounded_pages_by_name(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    is_descending: bool,
    statuses: tuple[int, ...],
) -> None:
    monkeypatch.setattr(gathering, "FEW_MAX", 0)  # these are sorted

    query = list_query("job_name", is_descending, statuses, is_bounded=True)

    assert faults(connection, partial(listing.page_of_jobs, connection, query)) == []
    with suppress(listing.TooFar):  # of versions that have one name, the ids ascend
        read = partial(listing.page_of_versions, connection, replace(query, pool_id=GPU_POOL))
        assert faults(connection, read) == []


TERMS: Final = {
    "no term": (),
    "part of the name": (SearchTerm(key="name", operator="like", values=("dig",)),),
    "a short part": (SearchTerm(key="name", operator="like", values=("d",)),),
    "names": (SearchTerm(key="name", operator="in", values=("digits-01",)),),
    "ids": (SearchTerm(key="id", operator="in", values=(f"{1:032x}",)),),
    "a whole id as a part": (SearchTerm(key="id", operator="like", values=(f"{1:032X}",)),),
    "a part of an id": (SearchTerm(key="id", operator="like", values=("0001",)),),
    "parts of ids": (SearchTerm(key="id", operator="like", values=("0001", "2")),),
    "a pool": (SearchTerm(key="pool_id", operator="not", values=(GPU_POOL,)),),
    "pools": (SearchTerm(key="pool_id", operator="like", values=("g", "x")),),
    "a user": (SearchTerm(key="user_id", operator="in", values=("id-of-ann",)),),
    "other users": (SearchTerm(key="user_id", operator="not", values=("id-of-ann",)),),
    "other names": (SearchTerm(key="name", operator="not", values=("digits-01",)),),
    "other ids": (SearchTerm(key="id", operator="not", values=(f"{1:032x}",)),),
    "an algorithm": (SearchTerm(key="algorithm_name", operator="in", values=("yolo",)),),
    "algorithms": (SearchTerm(key="algorithm_name", operator="in", values=("yolo", "a_b")),),
    "other algorithms": (SearchTerm(key="algorithm_name", operator="not", values=("yolo",)),),
    "a part of an algorithm": (SearchTerm(key="algorithm_name", operator="like", values=("y",)),),
    "an algorithm and a user": (
        SearchTerm(key="algorithm_name", operator="like", values=("o", "_")),
        SearchTerm(key="user_id", operator="in", values=("id-of-ann",)),
    ),
}


@pytest.mark.parametrize(
    ("sort_key", "is_descending", "statuses"),
    [*product(sorted(TRAINING_SORT_KEYS), [False, True], STATUSES)],
)
@pytest.mark.parametrize("times", [(None, None), (1_500, 2_500)])
@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())
def test_the_search_of_training_jobs(
    connection: Connection,
    sort_key: str,
    is_descending: bool,
    statuses: tuple[int, ...],
    times: tuple[int | None, int | None],
    terms: tuple[SearchTerm, ...],
) -> None:
    for offset in (0, 10, 30):
        search = TrainingSearch(
            project_id=PROJECT,
            workspace_id=WORKSPACE,
            sort_key=sort_key,
            is_descending=is_descending,
            offset=offset,
            limit=5,
            now_ms=50_000,
            statuses=statuses or None,
            created_from_ms=times[0],
            created_to_ms=times[1],
            terms=terms,
        )

        assert (
            faults(connection, partial(training_listing.page_of_training_jobs, connection, search))
            == []
        )


@pytest.mark.parametrize("found_max", [0, 50_000])
@pytest.mark.parametrize("times", [(None, None), (1_500, 2_500)])
@pytest.mark.parametrize("sort_key", sorted(TRAINING_SORT_KEYS))
@pytest.mark.parametrize(
    "terms",
    [
        (TagTerm("team"),),
        (TagTerm("team", ("vision",)),),
        (TagTerm("team", ("vision", "audio")), TagTerm("cost", ("7",))),
    ],
)
def test_the_search_of_training_jobs_by_their_tags(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    terms: tuple[TagTerm, ...],
    sort_key: str,
    times: tuple[int | None, int | None],
    found_max: int,
) -> None:
    monkeypatch.setattr(training_terms, "FOUND_MAX", found_max)
    search = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key=sort_key,
        is_descending=True,
        offset=0,
        limit=5,
        now_ms=50_000,
        created_from_ms=times[0],
        created_to_ms=times[1],
        tags=terms,
    )
    read = partial(training_listing.page_of_training_jobs, connection, search)

    assert faults(connection, read) == []
    steps = [step for _, step in plan(connection, read)]
    assert any("COVERING INDEX version_tag_by_key" in step for step in steps)


@pytest.mark.parametrize("sort_key", sorted(TRAINING_SORT_KEYS))
@pytest.mark.parametrize("statuses", [None, (10,)])
def test_the_search_of_training_jobs_without_tags(
    connection: Connection, sort_key: str, statuses: tuple[int, ...] | None
) -> None:
    search = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key=sort_key,
        is_descending=True,
        offset=10,
        limit=5,
        now_ms=50_000,
        statuses=statuses,
        is_untagged=True,
    )

    read = partial(training_listing.page_of_training_jobs, connection, search)

    assert faults(connection, read) == []


@pytest.mark.parametrize("name", sorted({**tags.SQL, **networks.SQL}))
def test_no_statement_about_tags_or_networks_scans(connection: Connection, name: str) -> None:
    assert isinstance(connection, sqlite3.Connection)
    statement = {**tags.SQL, **networks.SQL}[name]
    values = dict.fromkeys(re.findall(r":(\w+)", statement))

    steps = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()

    found = [step[3] for step in steps if step[3].startswith("SCAN")]
    assert [step for step in found if not step.startswith("SCAN json_each")] == []


@pytest.mark.parametrize(
    ("part", "found_max", "step"),
    [
        (f"{1:032X}", 50, "SEARCH w USING COVERING INDEX sqlite_autoindex_workload_1 (uid=?)"),
        (f"{1:031x}", 50, "SCAN w USING COVERING INDEX sqlite_autoindex_workload_1"),
        ("0", 0, "SEARCH version USING INDEX version_by_id (project_id=? AND workspace_id=?)"),
    ],
)
def test_a_part_of_an_id_is_looked_for_among_ids_alone_unless_it_is_in_many(
    connection: Connection,
    part: str,
    found_max: int,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_terms, "FOUND_MAX", found_max)
    search = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key="create_time",
        is_descending=True,
        offset=0,
        limit=5,
        now_ms=50_000,
        terms=(SearchTerm(key="id", operator="like", values=(part,)),),
    )

    steps = plan(connection, partial(training_listing.page_of_training_jobs, connection, search))

    assert step in [step for _, step in steps]
    assert any("version_by_id" in step for _, step in steps) == (found_max == 0)


@pytest.mark.parametrize("sort_key", sorted(TRAINING_SORT_KEYS))
@pytest.mark.parametrize("operator", ["like", "in", "not"])
@pytest.mark.parametrize("ordered_max", [0, 50_000])
@pytest.mark.parametrize("algorithms_max", [0, 10_000])
def test_what_is_made_of_an_algorithm_is_found_and_counted_in_an_index_of_its_own(
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
    sort_key: str,
    operator: str,
    ordered_max: int,
    algorithms_max: int,
) -> None:
    monkeypatch.setattr(gathering, "ORDERED_MAX", ordered_max)
    monkeypatch.setattr(training_terms, "ALGORITHMS_MAX", algorithms_max)
    search = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key=sort_key,
        is_descending=True,
        offset=0,
        limit=5,
        now_ms=50_000,
        terms=(SearchTerm(key="algorithm_name", operator=operator, values=("yolo",)),),
    )
    read = partial(training_listing.page_of_training_jobs, connection, search)

    assert faults(connection, read) == []
    counting = [step for sql, step in plan(connection, read) if sql.startswith("SELECT count(*) F")]
    assert any("version_by_algorithm" in step for step in counting)
    assert not any("version_by_id" in step or "INTEGER PRIMARY KEY" in step for step in counting)


@pytest.mark.parametrize("operator", ["in", "not"])
def test_the_jobs_of_a_user_are_counted_without_looking_at_their_versions(
    connection: Connection, operator: str
) -> None:
    search = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key="create_time",
        is_descending=True,
        offset=0,
        limit=5,
        now_ms=50_000,
        terms=(SearchTerm(key="user_id", operator=operator, values=("id-of-ann",)),),
    )

    steps = plan(connection, partial(training_listing.page_of_training_jobs, connection, search))

    counting = [step for sql, step in steps if sql.startswith(("SELECT count", "SELECT coalesce"))]
    assert any("job_by_creator" in step for step in counting)
    assert not any("version_by" in step or "SEARCH version " in step for step in counting)


@pytest.mark.parametrize("is_ascending", [False, True])
@pytest.mark.parametrize("types", [None, list(WorkloadType)])
@pytest.mark.parametrize("states", [None, list(StatisticsState)])
@pytest.mark.parametrize("hosts", [None, ["shared"]])
@pytest.mark.parametrize("hidden", [(), ("7",)])
def test_the_workloads_of_a_pool(
    connection: Connection,
    is_ascending: bool,
    types: list[WorkloadType] | None,
    states: list[StatisticsState] | None,
    hosts: list[str] | None,
    hidden: tuple[str, ...],
) -> None:
    for offset in (0, 10, 40):
        found = faults(
            connection,
            partial(
                pool_listing.page_of_pool_workloads,
                connection,
                project_id=PROJECT,
                pool_id=f"public-{PROJECT}",
                types=types,
                states=states,
                hosts=hosts,
                is_ascending=is_ascending,
                offset=offset,
                limit=5,
                hidden_workspaces=hidden,
            ),
        )

        assert found == []


@pytest.mark.parametrize("column", ["id", "job_id"])
def test_candidates_are_looked_up_one_by_one(connection: Connection, column: str) -> None:
    scope = Scope(
        table="version",
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        candidates=candidates_of(column, [1, 2]),
    )

    steps = plan(
        connection,
        partial(
            entries_of_candidates, connection, scope, CREATED, is_descending=True, now_ms=50_000
        ),
    )

    [lookup] = [step for _, step in steps if step.startswith("SEARCH version")]
    assert ("rowid=?" if column == "id" else "job_id=?") in lookup


def test_a_scan_and_a_sort_would_be_found(connection: Connection) -> None:
    found = faults(
        connection, lambda: connection.execute("SELECT id FROM version ORDER BY config").fetchall()
    )

    assert [fault.split(" in ")[0] for fault in found] == [
        "SCAN version",
        "USE TEMP B-TREE FOR ORDER BY",
    ]


def test_what_the_reconciler_reads_in_every_pass_is_found_by_what_is_active(
    connection: Connection,
) -> None:
    first = workloads.list_active(connection)
    known = {workload.id: workload._replace(revision=-1) for workload in first[:2]}

    steps = {step for _, step in plan(connection, lambda: workloads.list_active(connection, known))}

    assert len(known) == 2
    assert steps <= {
        "SCAN workload USING INDEX workload_active",
        "SEARCH workload USING INTEGER PRIMARY KEY (rowid=?)",
        "LIST SUBQUERY 1",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
    }
    assert "SCAN workload USING INDEX workload_active" in steps


def test_the_head_of_a_queue_is_walked_to_along_its_index(connection: Connection) -> None:
    [(partition,)] = connection.execute(
        "SELECT partition FROM workload WHERE phase = 'Queued' LIMIT 1"
    ).fetchall()
    first = workloads.list_queue(connection, partition, limit=9)
    known = {workload.id: workload._replace(revision=-1) for workload in first[:2]}
    read = partial(workloads.list_queue, connection, partition, limit=9, known=known)

    steps = {step for _, step in plan(connection, read)}

    assert "SEARCH workload USING INDEX workload_queue (partition=?)" in steps
    assert steps <= {
        "SEARCH workload USING INDEX workload_queue (partition=?)",
        "SEARCH workload USING INTEGER PRIMARY KEY (rowid=?)",
        "LIST SUBQUERY 1",
        "SCAN json_each VIRTUAL TABLE INDEX 1:",
    }
