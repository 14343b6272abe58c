"""`muster role`: what users are in a project, or in one workspace of it."""

from pathlib import Path

import click

from muster.cli.accounts import role_choice
from muster.cli.datafolder import change_logins, data_option, on_data_folder
from muster.cli.job import json_option
from muster.cli.output import examples, print_json, print_table
from muster.domain.permission import Role

_project = click.option("--project", "project_name", default="default", show_default=True)
_workspace = click.option("--workspace", help="By name or id: in that workspace only.")


@click.group()
def role() -> None:
    """Roles: what users may do in a project, or in one workspace of it.

    \b
    administrator     everything
    resource-manager  reads all, makes and changes pools, sets quotas
    developer         reads all, runs jobs, notebooks and services, stores objects
    reader            reads all, asks services
    """  # noqa: D301 - the control character is for click: it keeps the lines apart


@role.command(
    "set",
    epilog=examples(
        "muster role set ada developer --project research",
        "muster role set ada reader --project research --workspace vision",
        "muster role set ada developer --high-priority",
    ),
)
@click.argument("user_name", metavar="USER")
@click.argument("role_name", metavar="ROLE", type=role_choice)
@_project
@_workspace
@click.option(
    "--high-priority/--no-high-priority",
    default=None,
    help="Whether the user may ask for the priority 3 in the project. Default: as it was."
    " Administrators and resource managers always may.",
)
@data_option
def set_role(
    user_name: str,
    role_name: str,
    project_name: str,
    workspace: str | None,
    data: Path | None,
    *,
    high_priority: bool | None,
) -> None:
    """Make a user something in a project, or in one workspace in place of that.

    ROLE is administrator, resource-manager, developer or reader. A user who was not in the project
    is from then on.
    """
    from muster.operations import identity

    if workspace is not None and high_priority is not None:
        raise click.UsageError("--high-priority is for the whole project, not for a workspace.")
    change_logins(
        data,
        lambda ident: identity.set_role(
            ident,
            user_name,
            Role(role_name),
            project_name=project_name,
            workspace=workspace,
            may_prioritise=high_priority,
        ),
    )
    click.echo(f"User {user_name} is {role_name} in {_where(project_name, workspace)}.")


def _where(project_name: str, workspace: str | None) -> str:
    if workspace is None:
        return f"project {project_name}"
    return f"workspace {workspace} of project {project_name}"


@role.command(
    "list", epilog=examples("muster role list", "muster role list --project research --json")
)
@_project
@json_option
@data_option
def list_roles(project_name: str, data: Path | None, *, as_json: bool) -> None:
    """List who is what in a project and in its workspaces."""
    from muster.operations import identity

    rows = on_data_folder(data, lambda ident: identity.list_roles(ident, project_name))
    if as_json:
        print_json(
            [
                {
                    "user": row.user_name,
                    "role": row.role,
                    "workspace_id": row.workspace_id,
                    "workspace_name": row.workspace_name,
                    "high_priority": row.may_prioritise,
                }
                for row in rows
            ]
        )
        return
    print_table(
        ("USER", "ROLE", "WORKSPACE", "HIGH PRIORITY"),
        (
            (
                row.user_name,
                row.role,
                row.workspace_name or "all",
                "yes" if row.may_prioritise else None,
            )
            for row in rows
        ),
    )


@role.command(
    "remove",
    epilog=examples(
        "muster role remove ada --project research",
        "muster role remove ada --project research --workspace vision",
    ),
)
@click.argument("user_name", metavar="USER")
@_project
@_workspace
@data_option
def remove_role(
    user_name: str, project_name: str, workspace: str | None, data: Path | None
) -> None:
    """Take a user out of a project, or give back in a workspace the role in the project."""
    from muster.operations import identity

    change_logins(
        data,
        lambda ident: identity.remove_role(
            ident, user_name, project_name=project_name, workspace=workspace
        ),
    )
    click.echo(
        f"User {user_name} has no role of its own in {_where(project_name, workspace)} any more."
    )
