"""Pages of lists, held against a plain sort of all rows."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from random import Random
from types import ModuleType
from typing import Any, Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.phase import Phase, Reason, StatisticsState, view_of
from muster.domain.workload import WorkloadType
from muster.domain.workspace import Workspace
from muster.store import (
    identity,
    jobs,
    keyblocks,
    listing,
    pool_listing,
    tags,
    training_listing,
    training_terms,
    workspaces,
)
from muster.store.connection import Connection
from muster.store.counting import BLOCK_BITS
from muster.store.database import Database
from muster.store.history import is_out_of_order
from muster.store.listing import JOB_SORT_KEYS, VERSION_SORT_KEYS, ListQuery
from muster.store.paging import gathering, id_order, key_order, pages, ranked
from muster.store.paging.scope import DURATION, Scope
from muster.store.paging.totals import total_of
from muster.store.sqlite import SqliteDatabase, open_snapshot
from muster.store.tags import TagTerm
from muster.store.training_listing import TRAINING_SORT_KEYS, TrainingSearch
from muster.store.training_terms import SearchTerm
from muster.store.transaction import Transaction
from tests.store.rows import (
    ACCOUNT,
    GPU_POOL,
    OTHER_PROJECT,
    PROJECT,
    PUBLIC_POOL,
    TWO_GPUS,
    WAYS,
    WORKSPACE,
    add_job,
    add_version,
    bring_to,
    count_anew,
    find_differences,
    set_up_store,
)
from tests.store.test_jobs import delete_job, delete_version

ON_EVERY_POSTGRES = True

NOW_MS: Final = 50_000
ROWS: Final = 60

NAMES: Final = ("digits-08-V0002", "faces-10", "a_b-07-V0003", "x")
WORDS: Final = ("digits", "Digits", "faces", "words", "a_b", "a%b")

Row = dict[str, Any]

WHOLE: Final = ListQuery(
    project_id=PROJECT,
    workspace_id=WORKSPACE,
    sort_key="status",
    is_descending=True,
    offset=0,
    limit=None,
    now_ms=NOW_MS,
)


def fill(tx: Transaction, *, first: int = 0) -> None:
    """Jobs of all phases, with few different values, so that there are many ties."""
    random = Random(7)  # noqa: S311 - to be repeated, not to be secret
    for name in ("ann", "ben", "cat") if first == 0 else ():
        member = identity.Member(f"id-of-{name}", name, "", ACCOUNT)
        identity.insert_member(tx, member)
    phases = list(WAYS)
    for index in range(first, first + ROWS):
        # As if there were many more rows: so these lie in many blocks of ids.
        tx.execute("UPDATE sqlite_sequence SET seq = seq + ?", (random.randrange(9_000),))
        now_ms = 1_000 + 100 * (index // 3)
        job = add_job(
            tx,
            f"{random.choice(WORDS)}-{index:02}",
            project_id=OTHER_PROJECT if index % 10 == 9 else PROJECT,
            description=random.choice(["", "b", "a"]),
            engine_type=random.choice([1, 10, 100]),
            creator_name=("ann", "ben", "gone")[index % 3],
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


def tag(tx: Transaction) -> None:
    """Jobs with none, one or both of two tags; few values, so that many have the same."""
    versions = tx.execute("SELECT id FROM version WHERE is_deleted = 0 ORDER BY id").fetchall()
    for index, (version_id,) in enumerate(versions):
        given = {"team": ("vision", "audio", "")[index % 3]} if index % 4 else {}
        given |= {"cost": "7"} if index % 5 == 0 else {}
        tags.put_version_tags(tx, version_id, {}, given)


ALGORITHMS: Final = ("yolo", "Yolo-v2", "a_b", "100%", "It's")


def make_of_algorithms(tx: Transaction) -> None:
    """Two jobs in three, some of them like those that an older muster has stored."""
    for version_id, *_ in tx.execute("SELECT id FROM version").fetchall():
        name = (*ALGORITHMS, None, None, "yolo")[version_id % 8]
        config: Row = {"algorithm": {"name": name}} if name or version_id % 2 else {}
        if version_id % 3 == 0:
            config |= {"app_url": "/b/", "priority": 2}
        tx.execute("UPDATE version SET config = ? WHERE id = ?", (json.dumps(config), version_id))


def mix_times(tx: Transaction) -> None:
    """As if older history had come in later."""
    for table in ("job", "version"):
        tx.execute(
            f"UPDATE {table} SET created_at_ms = 900 + 100 * ((created_at_ms / 100 * 7 + id) % 23)"  # noqa: S608
        )
        for project_id in (PROJECT, OTHER_PROJECT):
            tx.execute(
                "INSERT INTO out_of_order (project_id, workspace_id, list) VALUES (?, ?, ?)",
                (project_id, WORKSPACE, table),
            )


async def settle_partly(database: Database) -> None:
    """Half of each list is counted; some of that is changed, deleted, or lives again afterwards."""
    for place in await database.scan(keyblocks.list_large_places, rows_min=1):
        await database.write(count_anew, place)
    await database.write(fill, first=ROWS)
    await database.write(change_some)
    for place in await database.scan(keyblocks.list_settled_places):
        orders = await database.scan(keyblocks.read_orders, place)
        await database.write(keyblocks.settle_next, place, orders, limit=9)
        await database.write(keyblocks.settle_gone, place, orders, limit=3)
        await database.write(keyblocks.settle_unsettled, place, orders, limit=3)
    assert await database.scan(find_differences) == []


def change_some(tx: Transaction) -> None:
    found = tx.execute("SELECT id, project_id FROM job WHERE is_deleted = 0 ORDER BY id").fetchall()
    for index, (job_id, project_id) in enumerate(found):
        job = jobs.get_job(tx.connection, project_id, job_id)
        if index % 11 == 3:
            delete_job(tx, job)
        elif index % 11 == 5:
            jobs.describe_job(tx, project_id, job_id, "c")
        elif index % 11 == 7 and job.latest_version_id is not None:
            delete_version(tx, job, job.latest_version_id)
        elif index % 11 == 9:
            bring_to(tx, add_version(tx, job, now_ms=9_000), Phase.RUNNING, now_ms=9_100)


# What is done only where there are many rows, or few, is done here with the same ones.
NEVER_ORDERED: Final = (gathering, "ORDERED_MAX", 0)
OVER_BLOCKS: Final = (id_order, "WALKED_MAX", -1)
NEVER_GATHERED: Final = (gathering, "GATHERED_MAX", 0)
SEARCHED: Final = (
    (training_terms, "FOUND_MAX", 0),
    (listing, "FEW_FOUND_MAX", 0),
    (listing, "LOOKED_THROUGH_MAX", 0),
    (listing, "FOUND_PART", 0),
)
WAYS_TO_A_PAGE: Final[dict[str, tuple[tuple[ModuleType, str, int], ...]]] = {
    "as it is": (),
    "over blocks and indexes": (
        OVER_BLOCKS,
        NEVER_GATHERED,
        NEVER_ORDERED,
        (id_order, "STRETCHES_MAX", 2),
    ),
    "gathered": (OVER_BLOCKS, (gathering, "_GATHER_COST", 0)),
    "out of order": (),
    "out of order, through the index": (NEVER_GATHERED, NEVER_ORDERED),
    "in chunks": (
        NEVER_GATHERED,
        (training_terms, "ALGORITHMS_MAX", 2),
        (key_order, "_CHUNK_ROWS", 2),
        (training_terms, "FOUND_MAX", 2),
        (listing, "FEW_FOUND_MAX", 2),
        (listing, "LOOKED_THROUGH_MAX", 0),
    ),
    "over key blocks": (
        NEVER_GATHERED,
        NEVER_ORDERED,
        (pages, "NEAR_ROWS", -1),
        (ranked, "_UNSETTLED_PART", 0),
    ),
    "out of order, over key blocks": (
        NEVER_GATHERED,
        (pages, "NEAR_ROWS", -1),
        (ranked, "_UNSETTLED_PART", 0),
    ),
    "found, and near": (*SEARCHED, (gathering, "_PASSED_TO_ONE", 1_000)),
    "found, and sorted": (*SEARCHED, (gathering, "_PASSED_TO_ONE", 0)),
}


@pytest.fixture(scope="module", params=list(WAYS_TO_A_PAGE))
def connection(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Connection]:
    """Of a database that is filled once for all tests here: they only read."""
    file = tmp_path_factory.mktemp("lists") / "muster.db"
    with closing(SqliteDatabase(file)) as database, pytest.MonkeyPatch.context() as patch:
        for module, name, value in WAYS_TO_A_PAGE[request.param]:
            patch.setattr(module, name, value)
        asyncio.run(database.write(set_up_store))
        asyncio.run(database.write(fill))
        asyncio.run(database.write(tag))
        asyncio.run(database.write(make_of_algorithms))
        if request.param.startswith("out of order"):
            asyncio.run(database.write(mix_times))
        if request.param.endswith("over key blocks"):
            asyncio.run(settle_partly(database))
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
    "create_time": lambda row: (row["created_at_ms"], row["id"]),
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


QUICK_KEYS: Final = ["create_time", "job_name", "status"]


@given(query=queries(QUICK_KEYS), few_max=st.sampled_from([0, 300]), passed_max=st.integers(0, 60))
def test_a_bounded_page_of_jobs_is_the_same_or_too_far(
    connection: Connection, query: ListQuery, few_max: int, passed_max: int
) -> None:
    whole = listing.page_of_jobs(connection, query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "FEW_MAX", few_max)
        patch.setattr(pages, "PASSED_MAX", passed_max)
        with suppress(listing.TooFar):
            assert listing.page_of_jobs(connection, replace(query, is_bounded=True)) == whole


@given(
    query=queries(QUICK_KEYS, pool_id=pool_ids),
    few_max=st.sampled_from([0, 300]),
    passed_max=st.integers(0, 60),
)
def test_a_bounded_page_of_versions_is_the_same_or_too_far(
    connection: Connection, query: ListQuery, few_max: int, passed_max: int
) -> None:
    whole = listing.page_of_versions(connection, query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "FEW_MAX", few_max)
        patch.setattr(pages, "PASSED_MAX", passed_max)
        with suppress(listing.TooFar):
            assert listing.page_of_versions(connection, replace(query, is_bounded=True)) == whole


def test_what_few_names_away_nobody_matches_is_too_far(connection: Connection) -> None:
    query = replace(WHOLE, sort_key="job_name", is_descending=False, statuses=(10,), limit=1)
    rows = sorted(rows_of(connection, "job"), key=lambda row: row["name"])
    rows = [row for row in rows if row["project_id"] == PROJECT]
    before = next(place for place, row in enumerate(rows) if row["status"] == 10)

    def bounded(passed_max: int) -> list[int]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gathering, "FEW_MAX", 0)
            patch.setattr(pages, "PASSED_MAX", passed_max)
            _, page = listing.page_of_jobs(connection, replace(query, is_bounded=True))
        return [row[0] for row in page]

    assert bounded(before + 1) == [rows[before]["id"]]
    with pytest.raises(listing.TooFar):
        bounded(before)


@given(query=queries(sorted(VERSION_SORT_KEYS), pool_id=pool_ids))
def test_a_stream_of_versions_is_the_same_as_one_long_page(
    connection: Connection, query: ListQuery
) -> None:
    _, page = listing.page_of_versions(connection, query)

    streamed = list(listing.stream_versions(connection, query))

    assert [row for chunk in streamed for row in chunk] == page
    assert all(len(chunk) <= listing.STREAM_CHUNK_ROWS for chunk in streamed)


@given(query=queries(sorted(VERSION_SORT_KEYS), pool_id=pool_ids), chunk_rows=st.integers(1, 9))
def test_what_the_store_writes_as_json_is_the_same_as_one_long_page(
    connection: Connection, query: ListQuery, chunk_rows: int
) -> None:
    _, page = listing.page_of_versions(connection, query)
    names = [f"field {number}" for number in range(12)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "STREAM_TEXT_ROWS", chunk_rows)
        chunks = listing.stream_versions_as_json(connection, query, names)
        written = None if chunks is None else [json.loads(b"[%s]" % chunk) for chunk in chunks]

    if written is None:  # several parts of an index have it, or ids do not tell its order
        in_order = not is_out_of_order(connection, query.project_id, query.workspace_id, "version")
        of_one_index = len(query.statuses) <= 1 and query.pool_id is None
        assert not (query.sort_key == "create_time" and in_order and of_one_index)
        return
    assert [list(row) for chunk in written for row in chunk] == [names] * len(page)
    shown = [[*row[:6], NOW_MS - row[4] if row[6] is None else row[6], *row[7:]] for row in page]
    assert [list(row.values()) for chunk in written for row in chunk] == shown
    assert all(len(chunk) == chunk_rows for chunk in written[:-1])


def training_name(row: Row) -> str:
    return str(row["job_name"]) + ("" if row["number"] == 1 else f"-V{row['number']:04d}")


TERM_SUBJECTS: Final[dict[str, Callable[[Row], str]]] = {
    "name": training_name,
    "id": lambda row: row["uid"],
    "pool_id": lambda row: row["pool_id"] or f"public-{row['project_id']}",
    "algorithm_name": lambda row: (
        (json.loads(row["config"]).get("algorithm") or {}).get("name") or ""
    ),
    "user_id": lambda row: {"ann": "id-of-ann", "ben": "id-of-ben"}.get(row["creator_name"], ""),
}


def meets(row: Row, term: SearchTerm) -> bool:
    subject = TERM_SUBJECTS[term.key](row)
    if term.operator == "like":
        return any(value.lower() in subject.lower() for value in term.values)
    return (subject in term.values) == (term.operator == "in")


def meets_tags(given: dict[str, str], search: TrainingSearch) -> bool:
    return has_tags(given, search.tags) and not (search.is_untagged and given)


def has_tags(given: dict[str, str], terms: Sequence[TagTerm]) -> bool:
    return all(
        term.key in given and (not term.values or given[term.key] in term.values) for term in terms
    )


def expected_versions(connection: Connection, search: TrainingSearch) -> list[int]:
    uids = dict(connection.execute("SELECT id, uid FROM workload"))
    creators = dict(connection.execute("SELECT id, creator_name FROM job"))
    rows = [
        row | {"uid": uids[row["workload_id"]], "creator_name": creators[row["job_id"]]}
        for row in rows_of(connection, "version")
    ]
    from_ms, to_ms = search.created_from_ms, search.created_to_ms
    matching = [
        row
        for row in rows
        if (row["project_id"], row["workspace_id"]) == (search.project_id, search.workspace_id)
        and (search.statuses is None or row["status"] in search.statuses)
        and (from_ms is None or row["created_at_ms"] >= from_ms)
        and (to_ms is None or row["created_at_ms"] <= to_ms)
        and all(meets(row, term) for term in search.terms)
        and meets_tags(tags.list_version_tags(connection, row["id"]), search)
    ]
    key = {"name": "job_name", "phase": "status"}.get(search.sort_key, search.sort_key)
    matching.sort(key=lambda row: row["id"])
    matching.sort(key=SORT_VALUES[key], reverse=search.is_descending)
    return [row["id"] for row in matching]


times = st.none() | st.integers(900, 3_100)
terms = st.lists(
    st.one_of(
        st.builds(
            SearchTerm,
            key=st.just("name"),
            operator=st.just("like"),
            values=st.lists(
                st.sampled_from(
                    [
                        "dig",
                        "DIGITS-0",
                        "_",
                        "%",
                        "-V",
                        "s-02-v",
                        "digits-1",
                        "s-4-V0002",
                        "es-",
                        "0002",
                        "a_b",
                        "1",
                    ]
                ),
                min_size=1,
                max_size=2,
            ).map(tuple),
        ),
        st.builds(
            SearchTerm,
            key=st.just("name"),
            operator=st.sampled_from(["in", "not"]),
            values=st.sampled_from([NAMES, NAMES[:1], NAMES[1:], ("nothing",)]),
        ),
        st.builds(
            SearchTerm,
            key=st.just("pool_id"),
            operator=st.sampled_from(["in", "not", "like"]),
            values=st.sampled_from([(GPU_POOL,), (f"public-{PROJECT}", GPU_POOL), ("x",)]),
        ),
        st.builds(
            SearchTerm,
            key=st.just("id"),
            operator=st.sampled_from(["in", "not", "like"]),
            values=st.sampled_from([(f"{1:016x}{1:016x}", f"{5:016x}{1:016x}"), ("1", "2")]),
        ),
        st.builds(
            SearchTerm,
            key=st.just("user_id"),
            operator=st.sampled_from(["in", "not"]),
            values=st.sampled_from(
                [("id-of-ann",), ("id-of-ben", "nobody"), ("id-of-cat",), ("nobody",)]
            ),
        ),
        st.builds(
            SearchTerm,
            key=st.just("algorithm_name"),
            operator=st.just("like"),
            values=st.sampled_from([("YOLO",), ("o", "_"), ("%",), ("'",), ("v2", "V2"), ("no",)]),
        ),
        st.builds(
            SearchTerm,
            key=st.just("algorithm_name"),
            operator=st.sampled_from(["in", "not"]),
            values=st.sampled_from([("yolo",), ("YOLO",), ("a_b", "Yolo-v2"), ALGORITHMS]),
        ),
    ),
    max_size=2,
).map(tuple)
tag_terms = st.sampled_from(
    [
        (TagTerm("team"),),
        (TagTerm("team", ("vision",)),),
        (TagTerm("team", ("audio", "nobody")), TagTerm("cost", ("7",))),
        (TagTerm("cost"), TagTerm("team")),
        (TagTerm("cost", ("8",)),),
        (TagTerm("no such' key"),),
    ]
)


@given(
    search=st.builds(
        TrainingSearch,
        project_id=st.sampled_from([PROJECT, PROJECT, OTHER_PROJECT, "nobody"]),
        workspace_id=st.sampled_from([WORKSPACE, WORKSPACE, WORKSPACE, "7"]),
        sort_key=st.sampled_from(sorted(TRAINING_SORT_KEYS)),
        is_descending=st.booleans(),
        offset=st.integers(0, ROWS),
        limit=st.integers(1, ROWS),
        now_ms=st.just(NOW_MS),
        statuses=st.none() | statuses,
        created_from_ms=times,
        created_to_ms=times,
        terms=st.just(()) | terms,
        tags=st.just(()) | tag_terms,
        is_untagged=st.sampled_from([False, False, False, True]),
    )
)
def test_a_page_of_a_search_is_that_part_of_all_versions_in_order(
    connection: Connection, search: TrainingSearch
) -> None:
    ids = expected_versions(connection, search)

    total, page = training_listing.page_of_training_jobs(connection, search)

    assert [row.version_id for row in page] == ids[search.offset : search.offset + search.limit]
    assert total == len(ids)


def state_of(row: Row) -> StatisticsState:
    return view_of(Phase(row["phase"]), Reason(row["reason"])).statistics


@given(
    project_id=st.sampled_from([PROJECT, PROJECT, OTHER_PROJECT]),
    pool_id=st.sampled_from([PUBLIC_POOL, GPU_POOL, f"public-{OTHER_PROJECT}", "nowhere"]),
    types=st.none() | st.lists(st.sampled_from(list(WorkloadType)), min_size=1, unique=True),
    states=st.none() | st.lists(st.sampled_from(list(StatisticsState)), min_size=1, unique=True),
    hosts=st.none() | st.lists(st.sampled_from(["shared", "gpu-a", "gpu-b", "x"]), min_size=1),
    hidden=st.sampled_from([(), ("7",), (WORKSPACE,)]),
    is_ascending=st.booleans(),
    offset=st.integers(0, ROWS),
    limit=st.integers(1, ROWS),
)
def test_a_page_of_the_workloads_of_a_pool_is_that_part_of_all_in_order(
    connection: Connection,
    project_id: str,
    pool_id: str,
    types: list[WorkloadType] | None,
    states: list[StatisticsState] | None,
    hosts: list[str] | None,
    hidden: tuple[str, ...],
    is_ascending: bool,
    offset: int,
    limit: int,
) -> None:
    ids = [
        row["id"]
        for row in sorted(rows_of(connection, "workload"), key=lambda row: row["id"])
        if (row["project_id"], row["pool_id"]) == (project_id, pool_id)
        and (types is None or row["type"] in types)
        and (states is None or state_of(row) in states)
        and row["workspace_id"] not in hidden
        and (
            hosts is None
            or (
                row["is_holding"]
                and any(place["node_name"] in hosts for place in json.loads(row["placements"]))
            )
        )
    ]
    ids = ids if is_ascending else ids[::-1]

    total, page = pool_listing.page_of_pool_workloads(
        connection,
        project_id=project_id,
        pool_id=pool_id,
        types=types,
        states=states,
        hosts=hosts,
        is_ascending=is_ascending,
        offset=offset,
        limit=limit,
        hidden_workspaces=hidden,
    )

    assert [row[0] for row in page] == ids[offset : offset + limit]
    assert total == len(ids)


@pytest.mark.parametrize("table", ["job", "version"])
def test_the_rows_lie_in_several_blocks_of_ids(connection: Connection, table: str) -> None:
    blocks = {row["id"] >> BLOCK_BITS for row in rows_of(connection, table)}

    assert len(blocks) > 3


@pytest.mark.parametrize("connection", ["over key blocks"], indirect=True)
@pytest.mark.parametrize("table", ["job", "version"])
def test_counts_of_key_blocks_agree_with_the_total_of_every_filter(
    connection: Connection, table: Literal["job", "version"]
) -> None:
    filters: list[dict[str, Any]] = [{}, {"statuses": (10,)}, {"statuses": (8, 10, 11)}]
    if table == "version":
        filters += [{"pool_ids": ("",)}, {"pool_ids": ("", GPU_POOL), "statuses": (10, 12)}]
    for one in filters:
        scope = Scope(table=table, project_id=PROJECT, workspace_id=WORKSPACE, **one)
        for key in keyblocks.SORTS[table]:
            total = total_of(connection, scope)
            if key == DURATION:
                total -= len(key_order.running(connection, scope, now_ms=0, is_descending=False))
            order = ranked.ranked(connection, scope, key, total=total)
            assert order is not None
            assert len(order.befores) > 5
            assert len(order.at(0, total)) == total


def test_every_kind_of_row_is_there_to_be_listed(connection: Connection) -> None:
    versions = rows_of(connection, "version")

    assert {row["status"] for row in versions} == {1, 5, 7, 8, 9, 10, 11, 12, 14}
    assert {row["pool_id"] for row in versions} == {"", GPU_POOL}
    running = [row for row in versions if row["duration_ms"] is None]
    assert len({duration_ms(row) for row in running}) < len(running)  # ties
    assert any(row["version_count"] == 0 for row in rows_of(connection, "job"))


@pytest.mark.parametrize("table", ["job", "version"])
def test_in_the_order_of_ids_the_times_of_creation_ascend_unless_it_is_noted(
    connection: Connection, table: str
) -> None:
    times = [
        row["created_at_ms"] for row in sorted(rows_of(connection, table), key=lambda r: r["id"])
    ]

    is_noted = is_out_of_order(connection, PROJECT, WORKSPACE, table)
    assert (times == sorted(times)) != is_noted


def test_all_pages_together_are_the_whole_list_once(connection: Connection) -> None:
    total, rows = listing.page_of_versions(connection, WHOLE)

    pages = [
        listing.page_of_versions(connection, replace(WHOLE, offset=offset, limit=7))[1]
        for offset in range(0, total, 7)
    ]

    assert [row for page in pages for row in page] == rows
    assert len(rows) == total


@pytest.mark.parametrize(
    ("few_found_max", "looked_through_max"), [(2_000, 5_000), (2_000, 0), (2, 5_000), (2, 0)]
)
@pytest.mark.asyncio
async def test_a_search_finds_jobs_that_it_has_learnt_and_those_that_it_has_not(
    database: Database,
    few_found_max: int,
    looked_through_max: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listing, "FEW_FOUND_MAX", few_found_max)
    monkeypatch.setattr(listing, "LOOKED_THROUGH_MAX", looked_through_max)

    def add_many(tx: Transaction) -> None:
        for number in range(300):
            add_job(tx, f"{'even' if number % 2 == 0 else 'odd'}-{number:03}")
        delete_job(tx, jobs.get_job(tx.connection, PROJECT, 1))  # even-000

    def find(connection: Connection, search: str) -> tuple[int, list[str]]:
        query = replace(
            WHOLE, sort_key="job_name", is_descending=False, limit=3, search=search, offset=147
        )
        total, rows = listing.page_of_jobs(connection, query)
        return total, [row[1] for row in rows]

    await database.write(add_many)  # of these, the embedded store learns 256 together

    assert await database.read(find, "EVEN-") == (149, ["even-296", "even-298"])
    assert await database.read(find, "odd") == (150, ["odd-295", "odd-297", "odd-299"])
    assert await database.read(find, "000") == (0, [])
    assert await database.read(find, "VE") == (149, ["even-296", "even-298"])
    assert await database.read(find, "-25") == (10, [])  # some of each
    assert await database.read(find, "_") == (0, [])
    assert await database.read(find, "e%n") == (0, [])
    assert await database.read(find_differences) == []


@pytest.mark.parametrize("few_found_max", [2_000, 2])
@pytest.mark.asyncio
async def test_a_search_knows_no_job_of_another_place(
    database: Database, few_found_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FEW_FOUND_MAX", few_found_max)
    monkeypatch.setattr(listing, "LOOKED_THROUGH_MAX", 0)

    def add_many(tx: Transaction) -> None:
        seven = Workspace(id="7", name="seven", created_at_ms=1_000)
        workspaces.insert_workspace(tx, PROJECT, seven)
        for number in range(600):
            place = ((PROJECT, WORKSPACE), (OTHER_PROJECT, WORKSPACE), (PROJECT, "7"))[number % 3]
            add_job(tx, f"same-{number:03}", project_id=place[0], workspace_id=place[1])

    def find(
        connection: Connection, project_id: str = PROJECT, workspace_id: str = WORKSPACE
    ) -> tuple[int, list[str]]:
        query = replace(WHOLE, sort_key="job_name", is_descending=False, limit=2, search="same")
        query = replace(query, project_id=project_id, workspace_id=workspace_id)
        total, rows = listing.page_of_jobs(connection, query)
        return total, [row[1] for row in rows]

    await database.write(add_many)

    assert await database.read(find) == (200, ["same-000", "same-003"])
    assert await database.read(find, workspace_id="7") == (200, ["same-002", "same-005"])
    assert await database.read(find, project_id=OTHER_PROJECT) == (200, ["same-001", "same-004"])
    assert await database.read(find, workspace_id="8") == (0, [])
    assert await database.read(find_differences) == []


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
