"""Pages of lists, held against a plain sort of all rows."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.store import jobs, listing
from muster.store.database import Connection, Database, Transaction, open_snapshot
from muster.store.listing import JOB_SORT_KEYS, VERSION_SORT_KEYS, ListQuery
from tests.store.rows import (
    GPU_POOL,
    OTHER_PROJECT,
    PROJECT,
    TWO_GPUS,
    WAYS,
    WORKSPACE,
    add_job,
    add_version,
    bring_to,
    set_up_store,
)
from tests.store.test_jobs import delete_job, delete_version

NOW_MS: Final = 50_000
ROWS: Final = 60

WORDS: Final = ("digits", "Digits", "faces", "words", "a_b", "a%b")

Row = dict[str, Any]


def fill(tx: Transaction) -> None:
    """Jobs of all phases, with few different values, so that there are many ties."""
    random = Random(7)  # noqa: S311 - to be repeated, not to be secret
    phases = list(WAYS)
    for index in range(ROWS):
        now_ms = 1_000 + 100 * (index // 3)
        job = add_job(
            tx,
            f"{random.choice(WORDS)}-{index:02}",
            project_id=OTHER_PROJECT if index % 10 == 9 else PROJECT,
            description=random.choice(["", "b", "a"]),
            engine_type=random.choice([1, 10, 100]),
            now_ms=now_ms,
        )
        for _ in range(random.randrange(4)):
            gpus = job.project_id == PROJECT and random.random() < 0.3
            workload = add_version(
                tx,
                job,
                pool_id=GPU_POOL if gpus else "",
                task=replace(TWO_GPUS, gpu_count=0),
                now_ms=now_ms,
            )
            workload = bring_to(
                tx, workload, random.choice(phases), now_ms=now_ms + random.randrange(3) * 100
            )
        if index % 13 == 12:
            delete_job(tx, job)
        elif index % 7 == 6:
            latest = jobs.get_job(tx.connection, job.project_id, job.id).latest_version_id
            if latest is not None:
                delete_version(tx, job, latest)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Of a database that is filled once for all tests here: they only read."""
    file = tmp_path_factory.mktemp("lists") / "muster.db"
    with closing(Database(file)) as database:
        asyncio.run(database.write(set_up_store))
        asyncio.run(database.write(fill))
        with open_snapshot(file) as connection:
            yield connection


def rows_of(connection: Connection, table: str) -> list[Row]:
    cursor = connection.execute(f"SELECT * FROM {table} WHERE is_deleted = 0")  # noqa: S608
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def duration_ms(row: Row) -> int:
    """A running one counts up to now."""
    if row["duration_ms"] is not None:
        return int(row["duration_ms"])
    return NOW_MS - int(row["started_at_ms"])


SORT_VALUES: Final[dict[str, Callable[[Row], Any]]] = {
    "create_time": lambda row: row["id"],  # ids and times ascend together: see below
    "duration": duration_ms,
    "engine_type": lambda row: row["engine_type"],
    "job_desc": lambda row: row["description"],
    "job_name": lambda row: row.get("job_name", row.get("name")),
    "status": lambda row: row["status"],
    "version_count": lambda row: row["version_count"],
}


def expected_ids(rows: list[Row], query: ListQuery) -> list[int]:
    """Filter and sort as the API documents it; the id breaks ties, ascending."""
    matching = [
        row
        for row in rows
        if (row["project_id"], row["workspace_id"]) == (query.project_id, query.workspace_id)
        and (not query.statuses or row["status"] in query.statuses)
        and (query.pool_id is None or row["pool_id"] == query.pool_id)
        and query.search.lower() in SORT_VALUES["job_name"](row).lower()
    ]
    matching.sort(key=lambda row: row["id"])
    matching.sort(key=SORT_VALUES[query.sort_key], reverse=query.is_descending)
    return [row["id"] for row in matching]


def page_of(ids: list[int], query: ListQuery) -> list[int]:
    end = None if query.limit is None else query.offset + query.limit
    return ids[query.offset : end]


statuses = st.sets(st.sampled_from([0, 1, 5, 7, 8, 9, 10, 11, 12, 14, 13])).map(
    lambda chosen: tuple(sorted(chosen))
)


def queries(sort_keys: list[str], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[ListQuery]:
    return st.builds(
        ListQuery,
        project_id=st.sampled_from([PROJECT, PROJECT, OTHER_PROJECT, "nobody"]),
        workspace_id=st.sampled_from([WORKSPACE, WORKSPACE, WORKSPACE, "7"]),
        sort_key=st.sampled_from(sort_keys),
        is_descending=st.booleans(),
        offset=st.integers(0, ROWS),
        limit=st.none() | st.integers(1, ROWS),
        now_ms=st.just(NOW_MS),
        statuses=statuses,
        **more,
    )


searches = st.sampled_from(["", "", "dig", "DIG", "_", "%", "-1", "a_b", "nothing"])
pool_ids = st.sampled_from([None, "", GPU_POOL, "nowhere"])


@given(query=queries(sorted(JOB_SORT_KEYS), search=searches))
def test_a_page_of_jobs_is_that_part_of_all_jobs_in_order(
    connection: Connection, query: ListQuery
) -> None:
    ids = expected_ids(rows_of(connection, "job"), query)

    total, page = listing.page_of_jobs(connection, query)

    assert [row[0] for row in page] == page_of(ids, query)
    assert total == len(ids)


@given(query=queries(sorted(VERSION_SORT_KEYS), pool_id=pool_ids))
def test_a_page_of_versions_is_that_part_of_all_versions_in_order(
    connection: Connection, query: ListQuery
) -> None:
    ids = expected_ids(rows_of(connection, "version"), query)

    total, page = listing.page_of_versions(connection, query)

    assert [row[0] for row in page] == page_of(ids, query)
    assert total == len(ids)


@given(query=queries(sorted(VERSION_SORT_KEYS), pool_id=pool_ids))
def test_a_stream_of_versions_is_the_same_as_one_long_page(
    connection: Connection, query: ListQuery
) -> None:
    _, page = listing.page_of_versions(connection, query)

    streamed = list(listing.stream_versions(connection, query))

    assert [row for chunk in streamed for row in chunk] == page
    assert all(len(chunk) <= listing.STREAM_CHUNK_ROWS for chunk in streamed)


def test_every_kind_of_row_is_there_to_be_listed(connection: Connection) -> None:
    versions = rows_of(connection, "version")

    assert {row["status"] for row in versions} == {1, 5, 7, 8, 9, 10, 11, 12, 14}
    assert {row["pool_id"] for row in versions} == {"", GPU_POOL}
    running = [row for row in versions if row["duration_ms"] is None]
    assert len({duration_ms(row) for row in running}) < len(running)  # ties
    assert any(row["version_count"] == 0 for row in rows_of(connection, "job"))


@pytest.mark.parametrize("table", ["job", "version"])
def test_in_the_order_of_ids_the_times_of_creation_ascend(
    connection: Connection, table: str
) -> None:
    times = [
        row["created_at_ms"] for row in sorted(rows_of(connection, table), key=lambda r: r["id"])
    ]

    assert times == sorted(times)


def test_all_pages_together_are_the_whole_list_once(connection: Connection) -> None:
    whole = ListQuery(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key="status",
        is_descending=True,
        offset=0,
        limit=None,
        now_ms=NOW_MS,
    )
    total, rows = listing.page_of_versions(connection, whole)

    pages = [
        listing.page_of_versions(connection, replace(whole, offset=offset, limit=7))[1]
        for offset in range(0, total, 7)
    ]

    assert [row for page in pages for row in page] == rows
    assert len(rows) == total


@pytest.mark.parametrize(
    ("change", "is_quick"),
    [
        ({}, True),
        ({"sort_key": "duration"}, False),
        ({"search": "dig"}, False),
        ({"limit": None}, False),
        ({"offset": 999_990}, False),
    ],
)
def test_only_bounded_reads_of_an_index_are_done_in_the_event_loop(
    change: dict[str, Any], is_quick: bool
) -> None:
    query = ListQuery(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key="create_time",
        is_descending=True,
        offset=0,
        limit=10,
        now_ms=NOW_MS,
    )

    assert listing.is_quick(replace(query, **change)) == is_quick


@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize("sort_key", sorted(listing.CONFIG_SORT_KEYS))
@pytest.mark.asyncio
async def test_job_configurations_are_filtered_sorted_and_paged(
    database: Database, sort_key: str, is_descending: bool
) -> None:
    configs = [
        jobs.JobConfig(
            name=f"{word}-{index}",
            description="ba"[index % 2],
            config="{}",
            created_at_ms=index // 2,
        )
        for index, word in enumerate(WORDS)
    ]
    for config in configs:
        await database.write(jobs.insert_config, PROJECT, config)

    total, page = await database.read(
        listing.page_of_configs,
        project_id=PROJECT,
        search="DIG",
        sort_key=sort_key,
        is_descending=is_descending,
        offset=1,
        limit=1,
    )

    found = sorted((c for c in configs if "dig" in c.name.lower()), key=lambda c: c.name)
    field = {
        "config_name": "name",
        "config_desc": "description",
        "create_time": "created_at_ms",
    }[sort_key]
    found.sort(key=lambda c: getattr(c, field), reverse=is_descending)
    assert [row[0] for row in page] == [found[1].name]
    assert total == len(found) == 2
