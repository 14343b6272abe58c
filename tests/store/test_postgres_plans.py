"""On PostgreSQL, too, no list reads a table from end to end, or sorts more than a page of it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from muster.domain.history import HistoryRow
from muster.domain.phase import StatisticsState
from muster.domain.workload import WorkloadType
from muster.reconciler.learning import NameLearner
from muster.reconciler.settling import Settler
from muster.store import listing, pool_listing, training_listing, training_terms
from muster.store.connection import Cursor, Values
from muster.store.dialect import in_postgres
from muster.store.history import insert_history
from muster.store.listing import JOB_SORT_KEYS, VERSION_SORT_KEYS
from muster.store.paging import pages, ranked
from muster.store.postgres.connection import PostgresConnection
from muster.store.postgres.database import PostgresDatabase
from muster.store.postgres.rows import encoded, in_one_value
from muster.store.statements import load_statements
from muster.store.tags import TagTerm
from muster.store.training_listing import TRAINING_SORT_KEYS, TrainingSearch
from muster.store.training_terms import SearchTerm
from muster.store.transaction import Transaction
from tests.postgres import postgres_kinds
from tests.store.rows import GPU_POOL, PROJECT, WORKSPACE, add_workload, set_up_store
from tests.store.test_plans import list_query
from tests.stores import Stores

# Enough that reading all of it would cost more than any way that leads to a page.
VERSIONS: Final = 24_000
SORTED_MAX: Final = VERSIONS // 8  # of what is sorted at once: some rows of a filter, never all
STATUSES: Final = ((), (11,), (5, 10, 11, 12))
LARGE: Final = frozenset(
    {"job", "version", "workload", "event", "past_attempt", "import_key", "version_tag"}
)
ENDED: Final = (10, 10, 10, 10, 10, 10, 11, 12)

KIND: Final = postgres_kinds()[0]


def history() -> list[HistoryRow]:
    """Three versions a job, every eighth in the dedicated pool."""
    return [
        HistoryRow(
            version_id=str(number),
            job_id=str(number // 3),
            job_name=f"digits-{number // 3:05}",
            job_description=f"about {number % 977}",
            description=f"about {number % 977}",
            workspace_id=WORKSPACE,
            status=ENDED[number % len(ENDED)],
            created_at_ms=1_000 + number,
            started_at_ms=1_000 + number,
            ended_at_ms=1_000 + number + number * 7919 % 5_000,
            pool_id=GPU_POOL if number % 8 == 0 else "",
            flavor_code="any",
        )
        for number in range(VERSIONS)
    ]


async def fill(database: PostgresDatabase) -> None:
    # In small writes: PostgreSQL ends a transaction in which a busy machine pauses for a second.
    def put(tx: Transaction, part: list[HistoryRow]) -> None:
        moved = insert_history(tx, PROJECT, part, actor="x", now_ms=100_000, pool_as_public=False)
        assert moved.imported == len(part), moved.refused[:3]

    rows = history()
    await database.write(set_up_store)
    for start in range(0, VERSIONS, 1_000):
        await database.write(put, rows[start : start + 1_000])
    await database.write(add_workload, "waits", now_ms=100_000)
    await Settler(database=database, rows_min=1_000, stretch_rows=512, rest_seconds=0).settle_due()
    await NameLearner(database=database, names_min=1_000, rest_seconds=0).learn_due()
    for part in range(VERSIONS // 1_000):
        await database.write(tag, part)
        await database.write(make_of_algorithms, part)


def tag(tx: Transaction, part: int) -> None:
    """Every version, and few in a further way."""
    for key, every in (("kind", 1), ("team", 100)):
        tx.execute(
            "INSERT INTO version_tag (version_id, key, value, project_id, workspace_id)"
            " SELECT id, CAST(:key AS text), 'x', project_id, workspace_id FROM version"
            " WHERE is_deleted = 0 AND id % :parts = :part AND id % :every = 0",
            {"key": key, "parts": VERSIONS // 1_000, "part": part, "every": every},
        )


def make_of_algorithms(tx: Transaction, part: int) -> None:
    """Half of all, most of those of one and the same."""
    tx.execute(
        "UPDATE version SET config = CASE WHEN id % 40 = 0 THEN :rare ELSE :common END"
        " WHERE id % :parts = :part AND id % 2 = 0",
        {
            "rare": '{"algorithm": {"name": "yolo"}}',
            "common": '{"algorithm": {"name": "a_b"}}',
            "parts": VERSIONS // 1_000,
            "part": part,
        },
    )


class Watched(PostgresConnection):
    """Remembers the plan of each statement that it runs."""

    def __init__(self, raw: "psycopg.Connection[Any]") -> None:
        super().__init__(raw)
        self.plans: list[tuple[str, dict[str, Any]]] = []

    def execute(self, sql: str, values: Values = (), /) -> Cursor:
        if sql.startswith(("SELECT", "WITH")):
            statement = in_postgres(sql)
            [[[plan]]] = self.raw.execute(
                f"EXPLAIN (FORMAT JSON) {statement.text}",
                statement.values(values) or None,
            ).fetchall()
            self.plans.append((sql, plan["Plan"] if isinstance(plan, dict) else plan))
        return super().execute(sql, values)


@pytest.fixture(scope="module")
def connection(stores: Stores) -> Iterator[Watched]:
    with stores.fresh(KIND, Path()) as database:
        assert isinstance(database, PostgresDatabase)
        asyncio.run(fill(database))
        with database.walking_connection() as raw:
            raw.autocommit = True
            raw.execute("VACUUM ANALYZE")
            yield Watched(raw)


def faults(connection: Watched, read: Callable[[], object]) -> list[str]:
    connection.plans.clear()
    read()
    assert connection.plans
    return [f"{fault} in {sql}" for sql, plan in connection.plans for fault in faults_of(plan)]


def faults_of(step: dict[str, Any]) -> Iterator[str]:
    """The steps of a plan that grow with the table."""
    if step["Node Type"] == "Seq Scan" and step["Relation Name"] in LARGE:
        yield f"Seq Scan on {step['Relation Name']}"
    if step["Node Type"] == "Sort" and step["Plan Rows"] > SORTED_MAX:
        yield f"Sort of {step['Plan Rows']} rows"
    for child in step.get("Plans", ()):
        yield from faults_of(child)


@pytest.mark.parametrize("search", ["", "gits-004", "gits", "04", "g"])
@pytest.mark.parametrize("sort_key", sorted(JOB_SORT_KEYS))
def test_the_list_of_jobs(connection: Watched, sort_key: str, search: str) -> None:
    for is_descending, statuses, offset in product([False, True], STATUSES, (0, 4_000, 7_990)):
        query = list_query(sort_key, is_descending, statuses, offset=offset, search=search)

        assert faults(connection, partial(listing.page_of_jobs, connection, query)) == []
        with suppress(listing.TooFar):
            bounded = replace(query, is_bounded=True, search="")
            assert faults(connection, partial(listing.page_of_jobs, connection, bounded)) == []


@pytest.mark.parametrize("pool_id", [None, "", GPU_POOL])
@pytest.mark.parametrize("sort_key", sorted(VERSION_SORT_KEYS))
def test_the_list_of_versions(connection: Watched, sort_key: str, pool_id: str | None) -> None:
    for is_descending, statuses, offset in product([False, True], STATUSES, (0, 1_500, 23_990)):
        query = list_query(sort_key, is_descending, statuses, offset=offset, pool_id=pool_id)

        assert faults(connection, partial(listing.page_of_versions, connection, query)) == []


@pytest.mark.parametrize("pool_id", [None, GPU_POOL])
@pytest.mark.parametrize("sort_key", sorted(VERSION_SORT_KEYS))
def test_versions_over_counts_of_each_order(
    connection: Watched, monkeypatch: pytest.MonkeyPatch, sort_key: str, pool_id: str | None
) -> None:
    monkeypatch.setattr(pages, "NEAR_ROWS", -1)
    monkeypatch.setattr(ranked, "_UNSETTLED_PART", 0)
    for is_descending, statuses, offset in product([False, True], STATUSES, (0, 1_500)):
        query = list_query(sort_key, is_descending, statuses, offset=offset, pool_id=pool_id)

        assert faults(connection, partial(listing.page_of_versions, connection, query)) == []


@pytest.mark.parametrize("sort_key", sorted(JOB_SORT_KEYS))
def test_jobs_over_counts_of_each_order(
    connection: Watched, monkeypatch: pytest.MonkeyPatch, sort_key: str
) -> None:
    monkeypatch.setattr(pages, "NEAR_ROWS", -1)
    monkeypatch.setattr(ranked, "_UNSETTLED_PART", 0)
    for is_descending, statuses, offset in product([False, True], STATUSES, (0, 4_000)):
        query = list_query(sort_key, is_descending, statuses, offset=offset)

        assert faults(connection, partial(listing.page_of_jobs, connection, query)) == []


TERMS: Final = {
    "no term": (),
    "part of the name": (SearchTerm(key="name", operator="like", values=("gits-004",)),),
    "ids": (SearchTerm(key="id", operator="in", values=(f"{1:032x}",)),),
    "a rare algorithm": (SearchTerm(key="algorithm_name", operator="like", values=("YO",)),),
    "algorithms": (SearchTerm(key="algorithm_name", operator="in", values=("a_b", "yolo")),),
    "other algorithms": (SearchTerm(key="algorithm_name", operator="not", values=("a_b",)),),
}


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS.keys())
@pytest.mark.parametrize("sort_key", sorted(TRAINING_SORT_KEYS))
def test_the_search_of_training_jobs(
    connection: Watched, sort_key: str, terms: tuple[SearchTerm, ...]
) -> None:
    for is_descending, statuses, offset in product([False, True], STATUSES, (0, 12_000)):
        search = TrainingSearch(
            project_id=PROJECT,
            workspace_id=WORKSPACE,
            sort_key=sort_key,
            is_descending=is_descending,
            offset=offset,
            limit=5,
            now_ms=200_000,
            statuses=statuses or None,
            terms=terms,
        )

        assert (
            faults(connection, partial(training_listing.page_of_training_jobs, connection, search))
            == []
        )


@pytest.mark.parametrize("algorithms_max", [0, 10_000])
@pytest.mark.parametrize("operator", ["like", "in", "not"])
def test_what_is_made_of_an_algorithm_is_found_in_an_index_of_its_own(
    connection: Watched, monkeypatch: pytest.MonkeyPatch, operator: str, algorithms_max: int
) -> None:
    monkeypatch.setattr(training_terms, "ALGORITHMS_MAX", algorithms_max)
    search = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key="create_time",
        is_descending=True,
        offset=0,
        limit=5,
        now_ms=200_000,
        terms=(SearchTerm(key="algorithm_name", operator=operator, values=("yolo",)),),
    )

    found = faults(connection, partial(training_listing.page_of_training_jobs, connection, search))

    assert found == []
    finding = [
        {step.get("Index Name") for step in steps_of(plan)}
        for sql, plan in connection.plans
        if sql.startswith(("WITH", "SELECT count(*) FROM (SELECT"))
    ]
    assert len(finding) == 1 + (operator == "like")
    assert all("version_by_algorithm" in used for used in finding)


@pytest.mark.parametrize("found_max", [100, 50_000])
@pytest.mark.parametrize("sort_key", sorted(TRAINING_SORT_KEYS))
@pytest.mark.parametrize(
    "terms",
    [(TagTerm("team", ("x", "y")),), (TagTerm("kind", ("x",)), TagTerm("team")), (TagTerm("no"),)],
)
def test_the_search_of_training_jobs_by_their_tags(
    connection: Watched,
    monkeypatch: pytest.MonkeyPatch,
    terms: tuple[TagTerm, ...],
    sort_key: str,
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
        now_ms=200_000,
        created_from_ms=10_000,
        tags=terms,
    )

    read = partial(training_listing.page_of_training_jobs, connection, search)

    assert faults(connection, read) == []


@pytest.mark.parametrize("types", [None, list(WorkloadType)])
@pytest.mark.parametrize("states", [None, list(StatisticsState), [StatisticsState.FAILED]])
@pytest.mark.parametrize("hosts", [None, ["shared"]])
def test_the_workloads_of_a_pool(
    connection: Watched,
    types: list[WorkloadType] | None,
    states: list[StatisticsState] | None,
    hosts: list[str] | None,
) -> None:
    for is_ascending, offset in product([False, True], (0, 10_000)):
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
            ),
        )

        assert found == []


def test_a_scan_and_a_sort_would_be_found(connection: Watched) -> None:
    found = faults(
        connection, lambda: connection.execute("SELECT id FROM version ORDER BY config").fetchall()
    )

    assert [fault.split(" in ")[0] for fault in found] == [
        f"Sort of {VERSIONS + 1} rows",
        "Seq Scan on version",
    ]


LIVE: Final = (1, 7, 8, 9)  # one job of 8,000 is
PASSED_MAX: Final = 600


class Counting(Watched):
    """Counts the rows that its statements pass without taking them."""

    passed = 0

    def execute(self, sql: str, values: Values = (), /) -> Cursor:
        if sql.startswith(("SELECT", "WITH")):
            statement = in_postgres(sql)
            [[[plan]]] = self.raw.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}",
                statement.values(values) or None,
            ).fetchall()
            self.passed += passed_by(plan["Plan"])
        return super().execute(sql, values)


def passed_by(step: dict[str, Any]) -> int:
    own: int = step.get("Rows Removed by Filter", 0) * step["Actual Loops"]
    return own + sum(map(passed_by, step.get("Plans", ())))


@pytest.mark.parametrize("sort_key", sorted(JOB_SORT_KEYS))
def test_jobs_that_few_statuses_have_are_not_looked_for_among_all(
    connection: Watched, sort_key: str
) -> None:
    for is_descending, is_bounded in product([False, True], [True, False]):
        query = list_query(sort_key, is_descending, LIVE, is_bounded=is_bounded)
        counting = Counting(connection.raw)
        try:
            total, _ = listing.page_of_jobs(counting, query)
        except listing.TooFar:
            continue

        assert total == 1
        assert counting.passed <= PASSED_MAX, query


BY_NAME: Final = {
    "submissions": "find_taken_names",
    "history": "find_jobs",
    "jobs": "find_job_by_name",
}


@pytest.fixture(scope="module")
def fresh(stores: Stores) -> Iterator[PostgresDatabase]:
    """Its tables have been looked through by nobody yet: as in the first minute of each store."""
    with stores.fresh(KIND, Path()) as database:
        assert isinstance(database, PostgresDatabase)
        yield database


def planned_by_writer(database: PostgresDatabase, text: str, values: Any) -> dict[str, Any]:
    statement = in_postgres(text)

    def explain(tx: Transaction) -> dict[str, Any]:
        assert isinstance(tx.connection, PostgresConnection)
        [[[plan]]] = tx.connection.raw.execute(
            f"EXPLAIN (FORMAT JSON) {statement.text}", statement.values(values)
        ).fetchall()
        found: dict[str, Any] = plan["Plan"]
        return found

    return asyncio.run(database.write(explain))


def steps_of(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield step
    for child in step.get("Plans", ()):
        yield from steps_of(child)


@pytest.mark.parametrize("name", ["move_workloads", "show_in_version", "show_in_job"])
def test_moves_go_along_an_index_however_small_the_table(
    fresh: PostgresDatabase, name: str
) -> None:
    text, names = in_one_value(load_statements("moves")[name])

    plan = planned_by_writer(fresh, text, (encoded(names, [(1, *[None] * (len(names) - 1))]),))

    assert [*faults_of(plan)] == []
    assert "Index Cond" in str(plan), plan


@pytest.mark.parametrize(("noun", "name"), BY_NAME.items())
def test_names_are_looked_for_along_their_own_index(
    fresh: PostgresDatabase, noun: str, name: str
) -> None:
    values = {"project_id": PROJECT, "workspace_id": WORKSPACE, "name": "a", "names": '["a"]'}

    plan = planned_by_writer(fresh, load_statements(noun)[name], values)

    [found] = [step for step in steps_of(plan) if step.get("Relation Name") == "job"]
    assert found["Index Name"] == "job_by_name"
    assert "name = " in found["Index Cond"]


def test_a_check_looks_at_all_versions_at_once_and_not_for_each_job(connection: Watched) -> None:
    """Without statistics, as after an import, each look would be at every version."""
    sql = load_statements("check")["jobs_beside_their_latest_version"]

    assert connection.execute(sql).fetchall() == []

    [_, plan] = connection.plans[-1]
    assert "SubPlan" not in str(plan)
