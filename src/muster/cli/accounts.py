"""`muster project`, `user` and `key`: they work on the data folder, beside a running server too."""

import json
from itertools import groupby
from pathlib import Path

import click

from muster.cli.datafolder import change_logins, data_option, on_data_folder
from muster.cli.job import json_option
from muster.cli.output import examples, print_json, print_table, when
from muster.domain.permission import Role

role_choice = click.Choice([role.value for role in Role])


@click.group()
def project() -> None:
    """Projects: nothing is seen across them."""


@click.group()
def user() -> None:
    """Users, and what each may do in which project.

    `muster role` changes what a user may do.
    """


@click.group()
def key() -> None:
    """Access keys, for signed requests."""


@project.command("create", epilog=examples("muster project create research"))
@click.argument("name")
@data_option
def create_project(name: str, data: Path | None) -> None:
    """Make a project with a default workspace and a public pool."""
    from muster.operations import identity
    from muster.server import now_ms

    made = on_data_folder(data, lambda ident: identity.create_project(ident, name, now_ms=now_ms()))
    click.echo(json.dumps({"project_id": made.id, "project_name": made.name}))


@project.command("list", epilog=examples("muster project list", "muster project list --json"))
@json_option
@data_option
def list_projects(data: Path | None, *, as_json: bool) -> None:
    """List every project."""
    from muster.store import identity

    found = on_data_folder(data, lambda ident: ident.database.read(identity.list_projects))
    if as_json:
        print_json([{"project_id": one.id, "project_name": one.name} for one in found])
        return
    print_table(("NAME", "ID"), ((one.name, one.id) for one in found))


@user.command(
    "create",
    epilog=examples(
        "muster user create ada --project research",
        "muster user create eve --project research --role reader",
    ),
)
@click.argument("name")
@click.option("--project", "project_name", default="default", show_default=True)
@click.option(
    "--role",
    type=role_choice,
    help="What the user is in the project. Default: administrator for its first user, developer"
    " for each later one.",
)
@click.option("--high-priority", is_flag=True, help="May ask for the priority 3.")
@data_option
def create_user(
    name: str, project_name: str, role: str | None, data: Path | None, *, high_priority: bool
) -> None:
    """Make a user of a project and print the password, this once.

    The first user of a project becomes its administrator, each later one a developer, unless
    --role says otherwise.
    """
    from muster.operations import identity

    made = change_logins(
        data,
        lambda ident: identity.create_user(
            ident,
            name,
            project_name,
            role=Role(role) if role else None,
            may_prioritise=high_priority,
        ),
    )
    click.echo(
        json.dumps(
            {
                "user_id": made.member.id,
                "user": name,
                "domain": made.member.account.name,
                "role": made.role,
                "password": made.password,
            }
        )
    )


@user.command("list", epilog=examples("muster user list", "muster user list --json"))
@json_option
@data_option
def list_users(data: Path | None, *, as_json: bool) -> None:
    """List every user, with the role in each project."""
    from muster.store import identity

    rows = on_data_folder(data, lambda ident: ident.database.read(identity.list_memberships))
    if not as_json:
        print_table(
            ("NAME", "ENABLED", "PROJECT", "ROLE", "HIGH PRIORITY", "ID"),
            (
                (
                    row.user_name, _yes(row.is_enabled), row.project_name, row.role,
                    _yes(row.may_prioritise), row.user_id,
                )
                for row in rows
            ),
        )  # fmt: skip
        return
    users = []
    for user_id, of_user in groupby(rows, key=lambda row: row.user_id):
        own = list(of_user)
        users.append(
            {
                "user_id": user_id,
                "user": own[0].user_name,
                "is_enabled": own[0].is_enabled,
                "projects": [
                    {
                        "project_id": row.project_id,
                        "project_name": row.project_name,
                        "role": row.role,
                        "high_priority": row.may_prioritise,
                    }
                    for row in own
                    if row.project_id is not None
                ],
            }
        )
    print_json(users)


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


@user.command("disable", epilog=examples("muster user disable ada"))
@click.argument("name")
@data_option
def disable_user(name: str, data: Path | None) -> None:
    """Keep a user out: password, tokens and keys. At once; what the user runs goes on."""
    _enable_user(name, data, is_enabled=False)


@user.command("enable", epilog=examples("muster user enable ada"))
@click.argument("name")
@data_option
def enable_user(name: str, data: Path | None) -> None:
    """Let a user in again, with the same password, tokens and keys."""
    _enable_user(name, data, is_enabled=True)


def _enable_user(name: str, data: Path | None, *, is_enabled: bool) -> None:
    from muster.operations import identity

    change_logins(data, lambda ident: identity.set_user_enabled(ident, name, is_enabled=is_enabled))
    click.echo(f"User {name} is {'enabled' if is_enabled else 'disabled'}.")


@key.command("create", epilog=examples("muster key create ada"))
@click.argument("user_name", metavar="USER")
@data_option
def create_key(user_name: str, data: Path | None) -> None:
    """Make an access key for a user and print its secret, this once."""
    from muster.operations import identity
    from muster.server import now_ms

    access, secret = on_data_folder(
        data, lambda ident: identity.create_key(ident, user_name, now_ms=now_ms())
    )
    click.echo(json.dumps({"access_key": access, "secret_key": secret}))


@key.command(
    "list", epilog=examples("muster key list", "muster key list ada", "muster key list --json")
)
@click.argument("user_name", metavar="[USER]", required=False)
@json_option
@data_option
def list_keys(user_name: str | None, data: Path | None, *, as_json: bool) -> None:
    """List the access keys of a user, or of all, without their secrets."""
    from muster.operations import identity

    found = on_data_folder(data, lambda ident: identity.list_keys(ident, user_name))
    if as_json:
        print_json(
            [
                {
                    "access_key": one.access,
                    "user": one.user_name,
                    "is_enabled": one.is_enabled,
                    "create_time": one.created_at_ms,
                }
                for one in found
            ]
        )
        return
    print_table(
        ("ACCESS KEY", "USER", "ENABLED", "CREATED"),
        (
            (one.access, one.user_name, _yes(one.is_enabled), when(one.created_at_ms))
            for one in found
        ),
    )


@key.command("disable", epilog=examples("muster key disable MU0123456789ABCDEF"))
@click.argument("access_key")
@data_option
def disable_key(access_key: str, data: Path | None) -> None:
    """Refuse every request that is signed with a key. At once."""
    _enable_key(access_key, data, is_enabled=False)


@key.command("enable", epilog=examples("muster key enable MU0123456789ABCDEF"))
@click.argument("access_key")
@data_option
def enable_key(access_key: str, data: Path | None) -> None:
    """Take requests that are signed with a key again."""
    _enable_key(access_key, data, is_enabled=True)


def _enable_key(access_key: str, data: Path | None, *, is_enabled: bool) -> None:
    from muster.operations import identity

    change_logins(
        data, lambda ident: identity.set_key_enabled(ident, access_key, is_enabled=is_enabled)
    )
    click.echo(f"Key {access_key} is {'enabled' if is_enabled else 'disabled'}.")


@key.command("delete", epilog=examples("muster key delete MU0123456789ABCDEF"))
@click.argument("access_key")
@data_option
def delete_key(access_key: str, data: Path | None) -> None:
    """Delete a key for good. At once."""
    from muster.operations import identity

    change_logins(data, lambda ident: identity.delete_key(ident, access_key))
    click.echo(f"Key {access_key} is deleted.")
