"""Notebooks and images in the store: the same answers from both stores."""

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from muster.domain import errors
from muster.domain.image import Arch, Image, ImagePath
from muster.domain.notebook import (
    LIVE,
    CustomSpec,
    Lease,
    LeaseType,
    Notebook,
    NotebookStatus,
    Volume,
    VolumeCategory,
)
from muster.domain.phase import Phase
from muster.domain.program import Program
from muster.domain.resources import Resources
from muster.domain.workload import WorkloadType
from muster.store import images, notebooks, purging, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.notebooks import SORT_KEYS, NotebookList
from muster.store.recount import differences
from muster.store.sqlite import migrate
from muster.store.transaction import Transaction
from tests.store.rows import GPU_POOL, PROJECT

TASK: Final = Resources(cpu_millis=1000, memory_mib=1024)


def notebook(number: int, **more: Any) -> Notebook:
    given: dict[str, Any] = {
        "uid": f"{number:032x}", "project_id": PROJECT, "name": f"n-{number}",
        "description": "", "user_id": "u", "user_name": "ada", "flavor_code": "cpu.1",
        "image_id": "i", "pool_id": GPU_POOL, "token": f"token-{number}",
        "lease": Lease(since_ms=1, updated_at_ms=2), "created_at_ms": number,
        "updated_at_ms": 100 - number, "workload_id": 0,
    }  # fmt: skip
    return Notebook(**given | more)


def add(tx: Transaction, one: Notebook) -> Notebook:
    """With a workload of its own."""
    new = workloads.NewWorkload(
        uid=f"{one.uid[1:]}w",
        project_id=one.project_id,
        workspace_id=one.workspace_id,
        pool_id=one.pool_id,
        partition=one.pool_id,
        type=WorkloadType.NOTEBOOK,
        name=one.name,
        flavor_code=one.flavor_code,
        task=TASK,
        task_count=1,
        priority=1,
        run=Program(name=one.name, argv=("jupyter",)),
    )
    workload_id = workloads.insert_program(tx, new, now_ms=1)
    notebooks.insert_notebook(tx, replace(one, workload_id=workload_id))
    return notebooks.get_notebook(tx.connection, PROJECT, one.uid)


async def names(database: Database, **query: Any) -> list[str]:
    wanted = NotebookList(project_id=PROJECT, workspace_id="0", **query)
    total, page = await database.read(notebooks.page_of_notebooks, wanted)
    assert total >= len(page)
    return [one.name for one in page]


@pytest.mark.asyncio
async def test_a_notebook_is_read_as_it_was_written_with_its_workload(database: Database) -> None:
    given = notebook(
        1,
        custom_spec=CustomSpec(cpus=0.5, memory_mib=600),
        volume=Volume(category=VolumeCategory.EVS, capacity_gb=7),
        lease=Lease(type=LeaseType.IDLE, duration_ms=9, since_ms=1, updated_at_ms=2),
        tags={"ü": "1"},
        description="first",
        fail_reason="why",
        note="how far",
        server_version="2",
        last_active_ms=5,
    )

    stored = await database.write(add, given)

    expected = replace(
        given, id=stored.id, workload_id=stored.workload_id, phase=Phase.CREATING, phase_since_ms=1
    )
    assert stored == expected
    assert await database.scan(_differences) == []


def _differences(connection: Connection) -> list[str]:
    return list(differences(connection))


@pytest.mark.asyncio
async def test_a_change_is_refused_to_whoever_read_an_older_one(database: Database) -> None:
    stored = await database.write(add, notebook(1))
    changed = replace(stored, name="first", status=NotebookStatus.RUNNING)
    after = await database.write(notebooks.update_notebook, changed)

    with pytest.raises(errors.StaleWrite):
        await database.write(notebooks.update_notebook, replace(stored, name="second"))
    read = await database.read(notebooks.get_notebook, PROJECT, stored.uid)
    assert read == after
    assert (read.name, read.status, read.revision) == ("first", NotebookStatus.RUNNING, 1)


@pytest.mark.asyncio
async def test_lists_are_filtered_sorted_and_paged(database: Database) -> None:
    for one in (
        notebook(1, name="b", user_id="x", tags={"team": "a"}),
        notebook(2, name="a", status=NotebookStatus.STOPPED, description="Speech"),
        notebook(3, name="c", image_id="other", tags={"team": "a", "stage": "b"}),
    ):
        await database.write(add, one)

    assert await names(database) == ["c", "a", "b"]  # newest first
    assert await names(database, sort_keys=("name",), is_descending=False) == ["a", "b", "c"]
    for key in SORT_KEYS:
        both = [await names(database, sort_keys=(key,), is_descending=way) for way in (True, False)]
        assert both[0] == both[1][::-1], key
    assert await names(database, offset=1, limit=1) == ["a"]
    assert await names(database, user_id="x") == ["b"]
    assert await names(database, user_id="x", owner_id="u") == []
    assert await names(database, statuses=frozenset({"STOPPED", "ERROR"})) == ["a"]
    assert await names(database, description="spee") == ["a"]
    assert await names(database, image_uids=frozenset({"other"})) == ["c"]
    assert await names(database, pool_ids=frozenset({"none"})) == []
    assert await names(database, tags={"team": "a"}) == ["c", "b"]
    assert await names(database, tags={"team": "a", "stage": "b"}) == ["c"]
    assert await names(database, uid=f"{2:032x}") == ["a"]
    tags = await database.read(notebooks.tags_of_notebooks, PROJECT, "0")
    assert tags == {"team": {"a"}, "stage": {"b"}}


@pytest.mark.asyncio
async def test_the_keeper_sees_what_is_live_and_nothing_else(database: Database) -> None:
    stored_ones = {NotebookStatus(s) for s in NotebookStatus}
    for number, status in enumerate(sorted(stored_ones), start=1):
        await database.write(add, notebook(number, status=status))

    live = await database.read(notebooks.list_live_notebooks)
    assert {one.status for one in live} == LIVE
    assert all(one.phase is Phase.CREATING for one in live)


@pytest.mark.asyncio
async def test_a_notebook_outlives_the_rows_of_its_workload(database: Database) -> None:
    stored = await database.write(add, notebook(1))

    def purge(tx: Transaction) -> None:
        workload = workloads.get_workload(tx.connection, stored.workload_id)
        workloads.mark_deleted(tx, workload)
        purging.purge_workload(tx, stored.workload_id)

    await database.write(purge)
    left = await database.read(notebooks.get_notebook, PROJECT, stored.uid)
    assert (left.phase, left.attempt_id, left.is_at_rest) == (None, None, True)
    assert await database.scan(_differences) == []


@pytest.mark.asyncio
async def test_a_project_has_a_bounded_number(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebooks, "NOTEBOOKS_MAX", 1)
    await database.write(add, notebook(1))

    with pytest.raises(errors.TooManyNotebooks):
        await database.write(add, notebook(2))
    assert await names(database) == ["n-1"]
    assert await database.scan(_differences) == []


@pytest.mark.asyncio
async def test_images_are_kept_once_a_path_and_not_dropped_while_in_use(
    database: Database,
) -> None:
    image = Image(
        uid="i",
        project_id=PROJECT,
        path=ImagePath(namespace="local", name="torch", tag="2"),
        interpreter="/opt/torch/bin/python",
        arch=Arch.AARCH64,
        resource_categories=("CPU",),
        user_name="ada",
    )
    await database.write(images.insert_image, image)

    assert await database.read(images.find_image, PROJECT, "i") == image
    assert await database.read(images.list_images, PROJECT) == [image]
    assert await database.read(images.find_image, "elsewhere", "i") is None
    with pytest.raises(errors.ImageTaken):
        await database.write(images.insert_image, replace(image, uid="j"))
    stored = await database.write(add, notebook(1))
    with pytest.raises(errors.ImageInUse):
        await database.write(images.delete_image, image)
    await database.write(notebooks.delete_notebook, stored)
    await database.write(images.delete_image, image)
    with pytest.raises(errors.ImageUnknown):
        await database.write(images.delete_image, image)


@pytest.mark.parametrize("name", sorted(notebooks.SQL))
def test_no_statement_looks_through_a_whole_table(name: str) -> None:
    statement = notebooks.SQL[name]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        values = dict.fromkeys(re.findall(r":(\w+)", statement), "")
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()

    scans = [step[3] for step in plan if step[3].startswith("SCAN")]
    # The index has no more than what is live.
    allowed = {"list_live_notebooks": ["SCAN n USING INDEX notebook_live"]}
    assert scans == allowed.get(name, [])


def test_the_index_of_what_is_live_has_the_words_of_the_domain() -> None:
    migration = Path(notebooks.__file__).parent / "sql/migrations/0008_notebooks.sql"
    match = re.search(r"WHERE status IN \(([^)]*)\)", migration.read_text())

    assert match is not None
    assert set(re.findall(r"\w+", match[1])) == set(LIVE)
    assert match[0] in notebooks.SQL["list_live_notebooks"].replace("n.status", "status")
