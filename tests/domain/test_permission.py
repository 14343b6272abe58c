"""Roles and permissions: the one table, and the page about it."""

import re
from pathlib import Path

import pytest

from muster.domain.errors import Forbidden
from muster.domain.permission import PERMISSIONS, Permission, Role, may
from muster.domain.workspace import QUOTAS
from muster.operations.caller import Caller, check_priority, forbidden

PAGE = Path(__file__).parents[2] / "docs/permissions.md"
ROW = re.compile(r"^\| `(\w+:\w+)` \|[^|]*\|(.*)\|$", re.MULTILINE)


def caller(role: Role | None, **more: object) -> Caller:
    return Caller("u1", "eve", "p1", role, **more)  # type: ignore[arg-type]


def test_the_page_shows_the_table_as_it_is() -> None:
    rows = {name: cells.split("|") for name, cells in ROW.findall(PAGE.read_text())}

    assert list(rows) == [str(permission) for permission in Permission]
    for name, cells in rows.items():
        told = {role for role, cell in zip(Role, cells, strict=True) if cell.strip() == "yes"}
        assert told == {role for role in Role if may(role, Permission(name))}, name


def test_the_page_names_every_role_in_the_order_of_its_columns() -> None:
    [header] = re.findall(r"^\| permission \| allows \|(.*)\|$", PAGE.read_text(), re.MULTILINE)

    assert [cell.strip() for cell in header.split("|")] == [str(role) for role in Role]


def test_the_page_names_every_quota() -> None:
    assert all(f"`{resource}`" in PAGE.read_text() for resource in QUOTAS)


def test_an_administrator_may_do_everything_and_nobody_nothing() -> None:
    assert PERMISSIONS[Role.ADMINISTRATOR] == set(Permission)
    assert not any(may(None, permission) for permission in Permission)


def test_a_reader_may_do_nothing_that_every_other_role_may_not() -> None:
    for role in Role:
        assert PERMISSIONS[Role.READER] <= PERMISSIONS[role]


def test_a_refusal_names_the_role_the_permission_and_who_has_it() -> None:
    refusal = forbidden(caller(Role.READER), Permission.JOB_WRITE, Role.READER, "this project")

    assert refusal.message == (
        "User 'eve' is reader in this project and lacks the permission job:write, which"
        " administrator and developer have. An administrator can grant it with `muster role set`."
    )


def test_a_role_in_a_workspace_replaces_the_one_in_the_project() -> None:
    eve = caller(Role.DEVELOPER, workspace_roles={"w1": Role.READER, "w2": None})

    assert eve.may(Permission.JOB_WRITE, "0")
    assert not eve.may(Permission.JOB_WRITE, "w1")
    assert eve.may_enter("w1")
    assert not eve.may_enter("w2")
    assert not eve.may(Permission.JOB_READ, "w2")
    assert eve.hidden_workspaces == {"w2"}


@pytest.mark.parametrize(
    ("role", "may_prioritise", "is_let"),
    [
        (Role.ADMINISTRATOR, False, True),
        (Role.RESOURCE_MANAGER, False, True),
        (Role.DEVELOPER, False, False),
        (Role.DEVELOPER, True, True),
        (Role.READER, False, False),
    ],
)
def test_the_highest_priority_is_for_some(role: Role, may_prioritise: bool, is_let: bool) -> None:
    eve = caller(role, may_prioritise=may_prioritise)

    check_priority(eve, 2, workspace_id="0")
    if is_let:
        check_priority(eve, 3, workspace_id="0")
    else:
        with pytest.raises(Forbidden, match=r"priority is 3; user 'eve' is .* at most 2"):
            check_priority(eve, 3, workspace_id="0")


def test_the_role_in_the_workspace_counts_for_the_priority_too() -> None:
    eve = caller(Role.DEVELOPER, workspace_roles={"w1": Role.ADMINISTRATOR})

    check_priority(eve, 3, workspace_id="w1")
    with pytest.raises(Forbidden):
        check_priority(eve, 3, workspace_id="0")
