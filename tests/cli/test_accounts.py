"""`muster project`, `user`, `role` and `key` on a data folder without a server."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from muster.cli.main import main
from muster.operations.identity import Identity, set_up
from muster.store.sqlite import SqliteDatabase
from muster.store.vault import Vault

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as the first start of a server leaves it."""
    data = tmp_path_factory.mktemp("accounts")

    async def begin() -> None:
        database = SqliteDatabase(data / "muster.db")
        vault = Vault(data / "secret.key")
        await set_up(Identity(database=database, vault=vault, token_lifetime_ms=1), now_ms=0)
        database.close()

    asyncio.run(begin())
    return data


@pytest.fixture
def run(data: Path) -> Run:
    return lambda *args: CliRunner().invoke(main, [*args, "--data", str(data)])


@pytest.fixture
def research(run: Run) -> str:
    run("project", "create", "research")
    return "research"


def told(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def answer(result: Result) -> list[dict[str, object]]:
    return list(json.loads(told(result)))


def refusal(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


def roles(run: Run, project: str) -> dict[str, str]:
    rows = answer(run("role", "list", "--project", project, "--json"))
    return {str(row["user"]): str(row["role"]) for row in rows if row["workspace_id"] is None}


@pytest.mark.parametrize("group_name", ["project", "user", "role", "key"])
def test_every_command_has_help_with_examples(group_name: str) -> None:
    group = main.get_command(click.Context(main), group_name)
    assert isinstance(group, click.Group)

    for name in group.commands:
        result = CliRunner().invoke(main, [group_name, name, "--help"])
        assert result.exit_code == 0
        assert f"Examples: \n    muster {group_name} {name} " in result.output.replace("\n", " \n")


def test_the_first_user_of_a_project_administers_it_and_later_ones_develop(
    run: Run, research: str
) -> None:
    first = json.loads(told(run("user", "create", "ada", "--project", research)))
    later = json.loads(told(run("user", "create", "bob", "--project", research)))
    chosen = json.loads(
        told(run("user", "create", "cas", "--project", research, "--role", "reader"))
    )

    assert [made["role"] for made in (first, later, chosen)] == [
        "administrator", "developer", "reader",
    ]  # fmt: skip
    assert set(first) == {"user_id", "user", "domain", "role", "password"}
    assert {"ada": "administrator", "bob": "developer", "cas": "reader"}.items() <= (
        roles(run, research).items()
    )


def test_projects_are_listed(run: Run, research: str) -> None:
    listed = answer(run("project", "list", "--json"))

    assert [row["project_name"] for row in listed] == ["default", "research"]
    assert told(run("project", "list")).splitlines()[0].split() == ["NAME", "ID"]


def test_users_are_listed_with_what_they_are_where(run: Run, research: str) -> None:
    run("user", "create", "dan", "--project", research, "--role", "developer", "--high-priority")
    run("role", "set", "dan", "reader")

    [dan] = [row for row in answer(run("user", "list", "--json")) if row["user"] == "dan"]

    assert dan["is_enabled"] is True
    projects = dan["projects"]
    assert isinstance(projects, list)
    assert [(row["project_name"], row["role"], row["high_priority"]) for row in projects] == [
        ("default", "reader", False),
        ("research", "developer", True),
    ]
    table = told(run("user", "list"))
    assert "HIGH PRIORITY" in table
    assert "password" not in table.lower()


def test_a_user_is_disabled_and_enabled(run: Run, research: str) -> None:
    run("user", "create", "eve", "--project", research)

    def is_enabled() -> object:
        rows = answer(run("user", "list", "--json"))
        return next(row["is_enabled"] for row in rows if row["user"] == "eve")

    assert told(run("user", "disable", "eve")) == "User eve is disabled."
    assert is_enabled() is False
    assert told(run("user", "enable", "eve")) == "User eve is enabled."
    assert is_enabled() is True


def test_roles_are_set_and_removed(run: Run, research: str) -> None:
    run("user", "create", "fay", "--project", research, "--role", "reader")

    done = told(run("role", "set", "fay", "resource-manager", "--project", research))

    assert done == "User fay is resource-manager in project research."
    assert roles(run, research)["fay"] == "resource-manager"
    run("role", "remove", "fay", "--project", research)
    assert "fay" not in roles(run, research)
    assert "has no role in project 'research'" in refusal(
        run("role", "remove", "fay", "--project", research)
    )


def test_the_right_to_the_highest_priority_stays_unless_it_is_named(
    run: Run, research: str
) -> None:
    run("user", "create", "gus", "--project", research, "--high-priority")

    def has_it() -> bool:
        rows = answer(run("role", "list", "--project", research, "--json"))
        return next(bool(row["high_priority"]) for row in rows if row["user"] == "gus")

    run("role", "set", "gus", "reader", "--project", research)
    assert has_it()
    run("role", "set", "gus", "reader", "--project", research, "--no-high-priority")
    assert not has_it()


def test_a_role_in_a_workspace_stands_beside_the_one_in_the_project(
    run: Run, research: str
) -> None:
    run("user", "create", "hal", "--project", research, "--role", "reader")

    told(run("role", "set", "hal", "developer", "--project", research, "--workspace", "default"))

    rows = answer(run("role", "list", "--project", research, "--json"))
    own = [(row["role"], row["workspace_name"]) for row in rows if row["user"] == "hal"]
    assert own == [("reader", None), ("developer", "default")]
    told(run("role", "remove", "hal", "--project", research, "--workspace", "0"))
    assert roles(run, research)["hal"] == "reader"


def test_keys_are_listed_disabled_enabled_and_deleted(run: Run, research: str) -> None:
    run("user", "create", "ida", "--project", research)
    made = json.loads(told(run("key", "create", "ida")))
    access = made["access_key"]

    def listed() -> list[dict[str, object]]:
        return answer(run("key", "list", "ida", "--json"))

    assert [(row["access_key"], row["is_enabled"]) for row in listed()] == [(access, True)]
    assert made["secret_key"] not in told(run("key", "list"))
    assert told(run("key", "disable", access)) == f"Key {access} is disabled."
    assert listed()[0]["is_enabled"] is False
    assert told(run("key", "enable", access)) == f"Key {access} is enabled."
    assert told(run("key", "delete", access)) == f"Key {access} is deleted."
    assert listed() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("user", "create", "x", "--project", "nowhere"), "There is no project 'nowhere'"),
        (("user", "create", "sp ace"), "The user name is 'sp ace'"),
        (("user", "create", "admin"), "A user named 'admin' exists"),
        (("user", "disable", "nobody"), "There is no user 'nobody'"),
        (("role", "set", "nobody", "reader"), "There is no user 'nobody'"),
        (("role", "set", "admin", "reader", "--project", "nowhere"), "There is no project"),
        (("role", "set", "admin", "reader", "--workspace", "moon"), "has no workspace 'moon'"),
        (("role", "remove", "admin", "--workspace", "default"), "no role of its own in workspace"),
        (("role", "list", "--project", "nowhere"), "There is no project 'nowhere'"),
        (("key", "create", "nobody"), "There is no user 'nobody'"),
        (("key", "list", "nobody"), "There is no user 'nobody'"),
        (("key", "disable", "MUNONE"), "There is no access key 'MUNONE'"),
        (("key", "delete", "MUNONE"), "There is no access key 'MUNONE'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    run: Run, arguments: tuple[str, ...], says: str
) -> None:
    assert says in refusal(run(*arguments))


def test_a_role_in_a_workspace_is_for_those_in_the_project(run: Run, research: str) -> None:
    run("user", "create", "jan", "--project", "default")

    result = run("role", "set", "jan", "reader", "--project", research, "--workspace", "0")

    assert "User 'jan' is not in project 'research'" in refusal(result)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("role", "set", "admin", "king"), "'king' is not one of 'administrator'"),
        (("user", "create", "x", "--role", "king"), "'king' is not one of 'administrator'"),
        (("role", "set", "admin", "reader", "--workspace", "0", "--high-priority"),
         "for the whole project"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told(run: Run, arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert says in result.stderr


def test_a_folder_without_a_muster_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["user", "list", "--data", str(tmp_path)])

    assert "There is no muster in" in refusal(result)
