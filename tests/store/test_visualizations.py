"""Visualization jobs and experiments in the store: the same answers from both stores."""

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import pytest

from muster.domain import errors
from muster.domain.experiment import Experiment
from muster.domain.phase import Phase
from muster.domain.program import Program
from muster.domain.resources import Resources
from muster.domain.visualization import STARTING_STATUS, Visualization, overlap
from muster.domain.workload import WorkloadType
from muster.store import experiments, visualizations, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.recount import differences
from muster.store.sqlite import migrate
from muster.store.transaction import Transaction
from muster.store.visualizations import VisualizationList
from tests.store.rows import GPU_POOL, OTHER_PROJECT, PROJECT

TASK: Final = Resources(cpu_millis=1000, memory_mib=1024)


def visualization(number: int, **more: Any) -> Visualization:
    given: dict[str, Any] = {
        "uid": f"{number:032x}", "project_id": PROJECT, "name": f"v-{number}", "user_name": "ada",
        "train_url": "/bucket/out/", "flavor_code": "cpu.1", "token": f"token-{number}",
        "created_at_ms": 100 - number, "workload_id": 0,
    }  # fmt: skip
    return Visualization(**given | more)


def add(tx: Transaction, one: Visualization) -> Visualization:
    """With a workload of its own."""
    new = workloads.NewWorkload(
        uid=f"{one.uid[1:]}w",
        project_id=one.project_id,
        workspace_id=one.workspace_id,
        pool_id=GPU_POOL,
        partition=GPU_POOL,
        type=WorkloadType.NOTEBOOK,
        name=one.name,
        flavor_code=one.flavor_code,
        task=TASK,
        task_count=1,
        priority=1,
        run=Program(name=one.name, argv=("tensorboard",)),
    )
    workload_id = workloads.insert_program(tx, new, now_ms=1)
    id_ = visualizations.insert_visualization(tx, replace(one, workload_id=workload_id))
    return visualizations.get_visualization(tx.connection, PROJECT, id_)


def _differences(connection: Connection) -> list[str]:
    return list(differences(connection))


@pytest.mark.asyncio
async def test_it_is_read_as_it_was_written_with_its_workload(database: Database) -> None:
    given = visualization(1, hours=3, description="words")

    stored = await database.write(add, given)

    expected = replace(given, id=stored.id, workload_id=stored.workload_id, phase=Phase.CREATING)
    assert stored == expected
    assert (stored.status, stored.is_watched, stored.hours) == (1, True, 3)
    assert await database.read(visualizations.list_watched) == [stored]
    assert await database.read(visualizations.find_by_uid, given.uid) == stored
    assert await database.scan(_differences) == []


@pytest.mark.asyncio
async def test_a_name_is_taken_once_in_a_workspace(database: Database) -> None:
    await database.write(add, visualization(1, name="same"))

    with pytest.raises(errors.NameTaken, match="same"):
        await database.write(add, visualization(2, name="same"))
    assert await database.scan(_differences) == []  # the workload of the second has gone, too


@pytest.mark.asyncio
async def test_a_change_is_refused_to_whoever_read_an_older_one(database: Database) -> None:
    stored = await database.write(add, visualization(1))
    changed = replace(stored, description="first", is_watched=False)
    await database.write(visualizations.update_visualization, changed)

    with pytest.raises(errors.StaleWrite):
        await database.write(
            visualizations.update_visualization, replace(stored, description="second")
        )
    after = await database.read(visualizations.get_visualization, PROJECT, stored.id)
    assert (after.description, after.revision) == ("first", 1)
    assert await database.read(visualizations.list_watched) == []


@pytest.mark.asyncio
async def test_another_project_has_it_not(database: Database) -> None:
    stored = await database.write(add, visualization(1))

    with pytest.raises(errors.JobUnknown):
        await database.read(visualizations.get_visualization, OTHER_PROJECT, stored.id)


@pytest.mark.asyncio
async def test_lists_are_filtered_sorted_and_cut_to_a_page(database: Database) -> None:
    for number, name in enumerate(("red", "Green", "blue"), start=1):
        await database.write(add, visualization(number, name=name, description=name[::-1]))

    async def names(**query: Any) -> list[str]:
        wanted = VisualizationList(project_id=PROJECT, workspace_id="0", **query)
        _, page = await database.read(visualizations.page_of_visualizations, wanted)
        return [one.name for one in page]

    assert await names() == ["red", "Green", "blue"]
    assert await names(is_descending=True) == ["blue", "Green", "red"]
    assert await names(sort_key="job_name") == ["Green", "blue", "red"]
    assert await names(sort_key="job_desc") == ["red", "blue", "Green"]  # der, eulb, neerG
    assert await names(sort_key="create_time") == ["blue", "Green", "red"]
    assert await names(sort_key="status") == ["red", "Green", "blue"]
    assert await names(part="RE") == ["red", "Green"]
    assert await names(statuses=(8, 12)) == []
    assert await names(statuses=(1,), offset=1, limit=1) == ["Green"]


@pytest.mark.parametrize(
    ("looked_at", "written_to", "expected"),
    [
        ("/b/run/", "/b/run/", ("", "")),
        ("/b/run/", "/b/run", ("", "")),
        ("/b/", "/b/run/1/", ("", "run/1")),
        ("/b/run/logs/", "/b/run/", ("logs", "")),
        ("/b/run/", "/b/run-2/", None),
        ("/b/run-2/", "/b/run", None),
        ("/b/run/", "/c/run/", None),
    ],
)
def test_how_what_is_looked_at_and_what_is_written_lie_in_each_other(
    looked_at: str, written_to: str, expected: tuple[str, str] | None
) -> None:
    assert overlap(looked_at, written_to) == expected


def test_it_is_running_once_it_answers() -> None:
    coming = visualization(1, phase=Phase.RUNNING, attempt_id="a", answered="before")

    assert coming.status == STARTING_STATUS == 7
    assert replace(coming, answered="a").status == 8
    assert replace(coming, answered="a", phase=Phase.TERMINATED).status == 12
    assert replace(coming, phase=None).status == 0


def test_what_remains_is_what_the_schedule_leaves() -> None:
    running = visualization(1, hours=1, phase=Phase.RUNNING, started_at_ms=1_000)

    assert running.remaining_ms(2_000) == 3_600_000 - 1_000
    assert running.remaining_ms(9_000_000) == 0
    assert replace(running, hours=None).remaining_ms(2_000) is None
    assert replace(running, phase=Phase.QUEUED, started_at_ms=None).remaining_ms(2_000) is None


def experiment(number: int, **more: Any) -> Experiment:
    given: dict[str, Any] = {
        "uid": f"{number:032x}", "project_id": PROJECT, "workspace_id": "0", "name": f"e-{number}",
        "created_at_ms": number, "updated_at_ms": 100 - number,
    }  # fmt: skip
    return Experiment(**given | more)


@pytest.mark.asyncio
async def test_experiments_are_listed_by_any_key(database: Database) -> None:
    for number in (1, 2, 3):
        await database.write(experiments.insert_experiment, experiment(number))

    async def names(sort_key: str, *, down: bool) -> list[str]:
        def read(connection: Connection) -> list[Experiment]:
            total, page = experiments.page_of_experiments(
                connection, PROJECT, "0", sort_key=sort_key, is_descending=down, offset=0, limit=9
            )
            assert total == 3
            return page

        return [one.name for one in await database.read(read)]

    assert await names("create_time", down=True) == ["e-3", "e-2", "e-1"]
    assert await names("update_time", down=True) == ["e-1", "e-2", "e-3"]
    assert await names("name", down=False) == ["e-1", "e-2", "e-3"]
    assert await names("job_count", down=True) == ["e-3", "e-2", "e-1"]  # equal: as their ids


@pytest.mark.asyncio
async def test_a_wrong_count_of_an_experiment_is_found(database: Database) -> None:
    await database.write(experiments.insert_experiment, experiment(1))

    def spoil(tx: Transaction) -> None:
        tx.execute("UPDATE experiment SET job_count = 2")
        tx.execute("INSERT INTO experiment_version (version_id, experiment_id) VALUES (999, 1)")

    await database.write(spoil)

    found = await database.scan(_differences)
    assert any(line.startswith("experiments_beside_their_jobs") for line in found)
    assert any(line.startswith("experiments_of_nobody") for line in found)


STATEMENTS: Final = {**visualizations.SQL, **experiments.SQL}
# Of what runs now: neither grows with what has been.
SMALL: Final = {"SCAN v USING INDEX visualization_watched", "SCAN w USING INDEX workload_active"}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_reads_more_than_what_it_is_about(name: str) -> None:
    statement = STATEMENTS[name]
    values = dict.fromkeys(re.findall(r":(\w+)", statement), "0")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        steps = [
            step[3]
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
            if step[3].startswith("SCAN") and step[3] not in SMALL
        ]

    assert steps == []
