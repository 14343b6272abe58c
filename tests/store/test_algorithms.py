"""Algorithms in the store: rows, names, pages, and what a workspace with some is."""

from dataclasses import replace
from typing import Any

import pytest

from muster.domain.algorithm import (
    ALGORITHMS_MAX,
    Algorithm,
    AlgorithmList,
    AutoSearch,
    Constraint,
    DeclaredInput,
    DeclaredOutput,
    DeclaredParameter,
    EngineName,
    Recipe,
    RemoteConstraint,
    RewardAttribute,
)
from muster.domain.errors import AlgorithmNameTaken, AlgorithmUnknown, TrainingQuotaExceeded
from muster.domain.requirement import Requirement, RequirementKey
from muster.domain.workspace import Workspace
from muster.store import algorithms, workspaces
from muster.store.database import Database
from muster.store.transaction import Transaction
from tests.store.rows import ACCOUNT, OTHER_PROJECT, PROJECT, WORKSPACE

FULL = Algorithm(
    id="a" * 32,
    project_id=PROJECT,
    workspace_id=WORKSPACE,
    name="mnist",
    description="Reads digits",
    creator_name="ada",
    recipe=Recipe(
        code_dir="/bucket/code/",
        boot_file="/bucket/code/main.py",
        engine=EngineName(engine_id="python-3", engine_name="python", engine_version="3"),
        parameters=(
            DeclaredParameter(
                name="rate", value="0.1", constraint=Constraint(type="Float", valid_range=("0",))
            ),
        ),
        inputs=(
            DeclaredInput(
                name="data",
                remote_constraints=(RemoteConstraint(data_type="obs", attributes=({"a": "b"},)),),
            ),
        ),
        outputs=(DeclaredOutput(name="model", description="What was learned"),),
        takes_more_parameters=False,
    ),
    requirements=(Requirement(key=RequirementKey.FLAVOR_TYPE, values=("CPU", "GPU")),),
    auto_search=AutoSearch(reward_attrs=(RewardAttribute(name="acc", mode="max"),)),
    code_bytes=7,
    created_at_ms=5,
    updated_at_ms=6,
)


def numbered(number: int, **changes: Any) -> Algorithm:
    return replace(FULL, id=f"{number:032x}", name=f"a-{number}", **changes)


def insert_all(tx: Transaction, *made: Algorithm) -> None:
    for algorithm in made:
        algorithms.insert_algorithm(tx, algorithm)


async def listed(database: Database, **asked: Any) -> tuple[int, list[str]]:
    """(how many match, the names on the page)."""
    query = AlgorithmList(
        **{"project_id": PROJECT, "workspace_id": WORKSPACE, "limit": 50} | asked  # type: ignore[arg-type]  # by name
    )
    total, page = await database.read(algorithms.page_of_algorithms, query)
    return total, [algorithm.name for algorithm in page]


@pytest.mark.asyncio
async def test_what_is_stored_is_read_again(database: Database) -> None:
    await database.write(algorithms.insert_algorithm, FULL)

    assert await database.read(algorithms.get_algorithm, PROJECT, FULL.id) == FULL


@pytest.mark.asyncio
async def test_an_algorithm_of_another_project_is_not_there(database: Database) -> None:
    await database.write(algorithms.insert_algorithm, FULL)

    assert await database.read(algorithms.find_algorithm, OTHER_PROJECT, FULL.id) is None
    where = await database.read(algorithms.find_workspace_of_algorithm, OTHER_PROJECT, FULL.id)
    assert where is None
    assert await listed(database, project_id=OTHER_PROJECT) == (0, [])
    for write in (
        database.write(algorithms.delete_algorithm, OTHER_PROJECT, FULL.id),
        database.write(algorithms.update_algorithm, replace(FULL, project_id=OTHER_PROJECT)),
    ):
        with pytest.raises(AlgorithmUnknown):
            await write
    assert await database.read(algorithms.get_algorithm, PROJECT, FULL.id) == FULL


@pytest.mark.asyncio
async def test_a_name_is_taken_in_its_workspace_only(database: Database) -> None:
    there = Workspace(id="w" * 32, name="team-w")
    await database.write(workspaces.insert_workspace, PROJECT, there)
    await database.write(algorithms.insert_algorithm, FULL)
    second = numbered(2)

    with pytest.raises(AlgorithmNameTaken):
        await database.write(algorithms.insert_algorithm, replace(second, name=FULL.name))
    elsewhere = replace(second, name=FULL.name, workspace_id=there.id)
    await database.write(algorithms.insert_algorithm, elsewhere)
    await database.write(algorithms.insert_algorithm, numbered(3))

    with pytest.raises(AlgorithmNameTaken):
        await database.write(algorithms.update_algorithm, replace(numbered(3), name=FULL.name))


@pytest.mark.asyncio
async def test_a_change_is_read_again_and_a_deleted_one_is_gone(database: Database) -> None:
    await database.write(algorithms.insert_algorithm, FULL)
    changed = replace(FULL, name="other", recipe=Recipe(command="x", image_url="y"), code_bytes=0)

    await database.write(algorithms.update_algorithm, changed)

    assert await database.read(algorithms.get_algorithm, PROJECT, FULL.id) == changed
    await database.write(algorithms.delete_algorithm, PROJECT, FULL.id)
    with pytest.raises(AlgorithmUnknown):
        await database.read(algorithms.get_algorithm, PROJECT, FULL.id)
    await database.write(algorithms.insert_algorithm, FULL)  # the name is free again


@pytest.mark.asyncio
async def test_a_project_has_a_bounded_number_of_them(database: Database) -> None:
    await database.write(insert_all, *(numbered(number) for number in range(ALGORITHMS_MAX)))

    with pytest.raises(TrainingQuotaExceeded):
        await database.write(algorithms.insert_algorithm, FULL)


@pytest.mark.asyncio
async def test_pages_are_sorted_grouped_and_neither_repeat_nor_skip(database: Database) -> None:
    made = [
        numbered(number, created_at_ms=9, updated_at_ms=9 - number, creator_name="ab"[number % 2])
        for number in range(5)
    ]
    await database.write(insert_all, *made)

    newest = ["a-4", "a-3", "a-2", "a-1", "a-0"]
    assert await listed(database) == (5, newest)
    assert await listed(database, limit=2, offset=3) == (5, newest[3:])
    assert await listed(database, limit=2, offset=5) == (5, [])
    assert await listed(database, is_descending=False) == (5, newest[::-1])
    assert await listed(database, sort_key="update_time") == (5, newest[::-1])
    by_creator = ["a-0", "a-2", "a-4", "a-1", "a-3"]
    grouped = await listed(database, sort_key="name", group_key="user_name", is_descending=False)
    assert grouped == (5, by_creator)
    grouped = await listed(database, sort_key="name", group_key="user_name")
    assert grouped == (5, ["a-4", "a-2", "a-0", "a-3", "a-1"])


@pytest.mark.asyncio
async def test_a_part_of_a_name_is_found_in_any_case(database: Database) -> None:
    await database.write(insert_all, FULL, numbered(1), numbered(11))

    assert await listed(database, name="MNI") == (1, ["mnist"])
    assert await listed(database, name="1", is_descending=False) == (2, ["a-1", "a-11"])
    assert await listed(database, name="%") == (0, [])


@pytest.mark.asyncio
async def test_a_workspace_counts_its_algorithms(database: Database) -> None:
    await database.write(algorithms.insert_algorithm, FULL)

    contents = await database.read(workspaces.count_contents, PROJECT, WORKSPACE)

    assert contents.algorithm_count == 1


@pytest.mark.asyncio
async def test_the_account_of_a_project_is_known(database: Database) -> None:
    assert await database.read(algorithms.find_project_account, PROJECT) == ACCOUNT.id
