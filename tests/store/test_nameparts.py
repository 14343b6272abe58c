"""What is learnt of names tells of searches what the names themselves do."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.reconciler.learning import NameLearner
from muster.store import jobs, listing, nameparts, training_listing, training_terms
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.listing import ListQuery
from muster.store.nameparts import Stretch, bits_of, parts_of, split
from muster.store.paging import by_part
from muster.store.sqlite import SqliteDatabase, open_snapshot
from muster.store.training_listing import TrainingSearch
from muster.store.training_terms import SearchTerm
from muster.store.transaction import Transaction
from tests.store.rows import (
    OTHER_PROJECT,
    PROJECT,
    WORKSPACE,
    add_job,
    add_version,
    find_differences,
    set_up_store,
)
from tests.store.test_jobs import delete_job
from tests.store.test_listing import expected_versions
from tests.store.test_plans import faults

PLACE: Final = (PROJECT, WORKSPACE)
BY_NAME: Final = ListQuery(
    project_id=PROJECT,
    workspace_id=WORKSPACE,
    sort_key="job_name",
    is_descending=False,
    offset=0,
    limit=10,
    now_ms=50_000,
)
NAMES: Final = st.text("abcXYZ09-_", min_size=1, max_size=9)

# ------------------------------------------------------------------ parts


@given(name=NAMES, part=st.text("abcxyz09-_", min_size=1, max_size=2))
def test_a_name_has_the_parts_of_one_and_two_characters_that_stand_in_it(
    name: str, part: str
) -> None:
    assert (part in parts_of(name)) == (part in name.lower())


@given(name=st.text(min_size=1, max_size=9), part=st.text(min_size=1, max_size=4))
def test_the_bits_of_a_name_have_those_of_every_part_that_stands_in_it(
    name: str, part: str
) -> None:
    parts = {part[begin:end] for begin in range(len(part)) for end in range(len(part) + 1)}

    whole, needed = bits_of(parts_of(name + part)), bits_of(parts_of(part))

    assert whole & needed == needed
    assert all(bits_of([one]) for one in parts if 1 <= len(one) <= 2)


@given(names=st.sets(NAMES), stretch_names=st.integers(2, 12))
def test_a_split_leaves_every_name_in_one_stretch_that_tells_of_it(
    names: set[str], stretch_names: int
) -> None:
    ordered = sorted(names)

    stretches = split("", ordered, stretch_names)

    assert stretches[0].low == ""
    assert [one.low for one in stretches[1:]] == sorted({one.low for one in stretches[1:]})
    assert sum(one.name_count for one in stretches) == len(names)
    begin = 0
    for one in stretches:
        own = ordered[begin : begin + one.name_count]
        begin += one.name_count
        assert one == Stretch(
            one.low,
            len(own),
            one.prefix,
            bits_of({part for name in own for part in parts_of(name)}),
        )
        assert all(name.startswith(one.prefix) and name >= one.low for name in own)
        assert len(own) < 2 * stretch_names


def test_a_split_cuts_where_names_begin_to_be_others() -> None:
    names = sorted(f"{word}-{number:03}" for word in ("alpha", "beta") for number in range(100))

    stretches = split("", names, 80)

    assert [(one.prefix, one.name_count) for one in stretches] == [
        ("alpha-0", 100),
        ("beta-0", 100),
    ]


# ------------------------------------------------------------------ searches


def the_jobs(tx: Transaction) -> None:
    """Names as people give them, and a few in other places; some of them deleted."""
    random = Random(11)  # noqa: S311 - to be repeated, not to be secret
    for number in range(220):
        words = (
            random.choice(["llama", "Llama", "bert", "gpt"]),
            random.choice(["wiki", "a_b", "x"]),
        )
        job = add_job(
            tx,
            f"{'-'.join(words)}-{random.randrange(16**4):04x}{number % 7}",
            project_id=OTHER_PROJECT if number % 9 == 8 else PROJECT,
            description=random.choice("ab"),
        )
        for _ in range(number % 3):
            add_version(tx, job)
        if number % 17 == 16:
            delete_job(tx, job)
    for name in ("l", "Q", "zz"):
        add_job(tx, name)


def delete_some(tx: Transaction) -> None:
    for job_id in range(5, 200, 23):
        row = tx.execute(
            "SELECT project_id, is_deleted FROM job WHERE id = ?", (job_id,)
        ).fetchone()
        if row is not None and not row[1]:
            delete_job(tx, jobs.get_job(tx.connection, row[0], job_id))


async def learn_most(database: Database) -> None:
    """All but the last, so that they lie in many stretches; some are deleted afterwards."""
    await database.write(nameparts.begin, PLACE)
    for _ in range(16):
        await database.write(nameparts.learn_next, PLACE, limit=10, stretch_names=4)
    await database.write(delete_some)
    assert await database.scan(find_differences) == []


WAYS: Final[dict[str, dict[str, int]]] = {
    "all found are few": {},
    "some found are few": {"FEW_FOUND_MAX": 12},
    "many are found": {"FEW_FOUND_MAX": 2, "FOUND_PART": 1},
    "counted by walking": {"FEW_FOUND_MAX": 2, "FOUND_PART": 1, "WALKED_TO_ONE": 1_000},
}


@pytest.fixture(scope="module", params=WAYS)
def searched(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Connection]:
    """Jobs of which most are learnt, and searched in as if there were many more of them."""
    file = tmp_path_factory.mktemp("names") / "muster.db"
    with closing(SqliteDatabase(file)) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "LOOKED_THROUGH_MAX", 0)
        patch.setattr(by_part, "WALKED_NAMES", 9)
        patch.setattr(by_part, "UNLEARNT_PART", 2)
        for name, value in WAYS[request.param].items():
            patch.setattr(listing, name, value)
            if name == "FEW_FOUND_MAX":
                patch.setattr(training_terms, "FOUND_MAX", value)
        asyncio.run(database.write(set_up_store))
        asyncio.run(database.write(the_jobs))
        asyncio.run(learn_most(database))
        with open_snapshot(file) as connection:
            yield connection


def expected(connection: Connection, query: ListQuery) -> list[int]:
    """All that is looked for, by a plain statement."""
    column = {"job_name": "name", "create_time": "id", "job_desc": "description"}[query.sort_key]
    direction = " DESC" if query.is_descending else ""
    statuses = f" AND status IN ({', '.join(map(str, query.statuses))})" if query.statuses else ""
    rows = connection.execute(
        "SELECT id FROM job WHERE project_id = ? AND workspace_id = ? AND is_deleted = 0"  # noqa: S608
        f" AND instr(lower(name), lower(?)) > 0{statuses} ORDER BY {column}{direction}, id",
        (query.project_id, query.workspace_id, query.search),
    )
    return [id_ for (id_,) in rows]


SEARCHES: Final = st.one_of(
    st.sampled_from(["l", "ll", "LL", "wi", "q", "zz", "z", "!", "é", "%", "_", "a_", "-x-", "-0"]),
    st.sampled_from(["llama", "LLAMA-", "wiki", "bert-a_b-", "gpt", "a%b", "t-x", "-wiki-0"]),
    st.text("abglmtwikx0123456789-_", min_size=1, max_size=3),
)


@given(
    search=SEARCHES,
    project_id=st.sampled_from([PROJECT, PROJECT, PROJECT, OTHER_PROJECT]),
    sort_key=st.sampled_from(["job_name", "job_name", "create_time", "job_desc"]),
    is_descending=st.booleans(),
    statuses=st.sampled_from([(), (), (0,), (1, 7), (1,), (12,)]),
    offset=st.integers(0, 200),
    limit=st.none() | st.integers(1, 60),
)
def test_a_page_of_a_search_and_its_total_are_those_of_a_plain_statement(
    searched: Connection, search: str, **asked: Any
) -> None:
    query = replace(BY_NAME, search=search, **asked)
    ids = expected(searched, query)

    total, rows = listing.page_of_jobs(searched, query)

    end = None if query.limit is None else query.offset + query.limit
    assert [row[0] for row in rows] == ids[query.offset : end]
    assert total == len(ids)


@given(
    part=SEARCHES,
    project_id=st.sampled_from([PROJECT, PROJECT, PROJECT, OTHER_PROJECT]),
    sort_key=st.sampled_from(["create_time", "name", "phase"]),
    is_descending=st.booleans(),
    statuses=st.sampled_from([None, None, (1,), (8, 12)]),
    offset=st.integers(0, 150),
    limit=st.integers(1, 60),
)
def test_a_page_of_versions_by_a_part_of_their_names_is_that_of_all_in_order(
    searched: Connection, part: str, **asked: Any
) -> None:
    search = TrainingSearch(
        workspace_id=WORKSPACE,
        now_ms=50_000,
        terms=(SearchTerm(key="name", operator="like", values=(part,)),),
        **asked,
    )
    ids = expected_versions(searched, search)

    total, rows = training_listing.page_of_training_jobs(searched, search)

    assert [row.version_id for row in rows] == ids[search.offset : search.offset + search.limit]
    assert total == len(ids)


@pytest.mark.parametrize("searched", ["many are found"], indirect=True)
def test_a_search_for_one_or_two_characters_neither_counts_names_nor_passes_those_without_them(
    searched: Connection,
) -> None:
    assert isinstance(searched, sqlite3.Connection)
    statements: list[str] = []
    searched.set_trace_callback(statements.append)
    try:
        total, [row] = listing.page_of_jobs(searched, replace(BY_NAME, search="wi", limit=1))
    finally:
        searched.set_trace_callback(None)

    assert total > 20
    assert "wiki" in row[1]
    walks = [one for one in statements if "job_by_name" in one]
    assert walks
    assert all("name >= " in one or "name < " in one for one in walks)
    assert not any("count(*)" in one for one in walks)


@pytest.mark.parametrize(
    "change",
    [
        {"search": "ll"},
        {"search": "w", "is_descending": True, "offset": 3},
        {"search": "zz", "statuses": (1,)},
        {"search": "wiki", "statuses": (0, 1)},
        {"search": "LLAMA-", "is_descending": True, "offset": 20},
        {"search": "wi", "sort_key": "create_time"},
    ],
)
def test_no_search_scans_a_table_or_sorts_more_than_a_page(
    searched: Connection, change: dict[str, Any]
) -> None:
    query = replace(BY_NAME, **change)

    assert faults(searched, lambda: listing.page_of_jobs(searched, query)) == []


@pytest.mark.parametrize("part", ["ll", "zz", "wiki", "llama"])
@pytest.mark.parametrize("sort_key", ["create_time", "name"])
def test_no_search_of_versions_scans_a_table_or_sorts_more_than_a_page(
    searched: Connection, part: str, sort_key: str
) -> None:
    search = TrainingSearch(
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        sort_key=sort_key,
        is_descending=True,
        offset=0,
        limit=5,
        now_ms=50_000,
        terms=(SearchTerm(key="name", operator="like", values=(part,)),),
    )

    read = partial(training_listing.page_of_training_jobs, searched, search)

    assert faults(searched, read) == []


def test_what_is_learnt_lies_in_many_stretches_and_not_all_is_learnt(searched: Connection) -> None:
    names = nameparts.read_names(searched, PLACE)

    [newest] = searched.execute("SELECT max(id) FROM job").fetchone()
    assert names is not None
    assert len(names.stretches) > 20
    assert 0 < names.learnt_id < newest - 10


# ------------------------------------------------------------------ learnt


@pytest.mark.asyncio
async def test_a_search_finds_the_same_before_and_after_names_are_learnt_on_every_store(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH_MAX", 0)
    monkeypatch.setattr(listing, "FEW_FOUND_MAX", 2)
    await database.write(the_jobs)
    searches = [
        replace(BY_NAME, search=search, offset=offset, is_descending=is_descending)
        for search in ("l", "ll", "wi", "_", "zz", "llama", "wiki-")
        for offset in (0, 30)
        for is_descending in (False, True)
    ]
    before = [await database.scan(listing.page_of_jobs, query) for query in searches]

    learner = NameLearner(
        database=database, names_min=100, stretch_names=8, batch_names=50, rest_seconds=0
    )
    count = await learner.learn_due()

    assert count > 150
    assert await learner.learn_due() == 0
    assert await database.scan(find_differences) == []
    assert [await database.scan(listing.page_of_jobs, query) for query in searches] == before


@pytest.mark.asyncio
async def test_names_of_few_jobs_are_not_learnt(database: Database) -> None:
    await database.write(the_jobs)

    assert await NameLearner(database=database).learn_due() == 0
    assert await database.scan(nameparts.read_names, PLACE) is None


@pytest.mark.asyncio
async def test_a_job_that_is_deleted_is_counted_no_more_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH_MAX", 0)
    await database.write(the_jobs)
    await NameLearner(database=database, names_min=1, rest_seconds=0).learn_due()
    query = replace(BY_NAME, search="zz")
    [total, [row]] = await database.scan(listing.page_of_jobs, query)
    assert total == 1

    def delete(tx: Transaction) -> None:
        delete_job(tx, jobs.get_job(tx.connection, PROJECT, row[0]))

    await database.write(delete)

    assert await database.scan(listing.page_of_jobs, query) == (0, [])
    assert await database.scan(nameparts.count_learnt, PLACE, "zz") == 0
    assert await database.scan(find_differences) == []


@pytest.mark.parametrize(
    ("falsify", "finding"),
    [
        ("UPDATE name_part SET count = count + 1 WHERE part = 'll'", "name_part"),
        ("DELETE FROM name_part WHERE part = 'x'", "name_part"),
        ("UPDATE name_stretch SET name_count = name_count + 1", "name_stretch"),
        ("UPDATE name_stretch SET parts = '1'", "name_stretch"),
        ("UPDATE name_stretch SET prefix = 'nobody'", "name_stretch"),
        ("DELETE FROM name_stretch", "name_stretch"),
        ("UPDATE name_mark SET learnt_id = learnt_id - 9", "name_part"),
    ],
)
@pytest.mark.asyncio
async def test_a_recount_finds_what_is_told_wrongly_of_names(
    database: Database, falsify: str, finding: str
) -> None:
    await database.write(the_jobs)
    await NameLearner(database=database, names_min=1, rest_seconds=0).learn_due()
    assert await database.scan(find_differences) == []

    def change(tx: Transaction) -> None:
        tx.execute(falsify)

    await database.write(change)

    assert any(finding in line for line in await database.scan(find_differences))
