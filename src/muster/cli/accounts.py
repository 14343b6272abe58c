"""`muster project`, `user` and `key`: they work on the data folder, beside a running server too."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from muster.operations import identity
from muster.operations.identity import Identity
from muster.server import now_ms
from muster.settings import default_data_folder, load_settings
from muster.store.database import Database
from muster.store.vault import Vault

T = TypeVar("T")

_data = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder."
)


@click.group()
def project() -> None:
    """Projects: nothing is seen across them."""


@click.group()
def user() -> None:
    """Users, each of one project."""


@click.group()
def key() -> None:
    """Access keys, for signed requests."""


@project.command("create", epilog="\b\nExample:\n  muster project create research")
@click.argument("name")
@_data
def create_project(name: str, data: Path | None) -> None:
    """Make a project with a default workspace and a public pool."""
    made = _run(data, lambda ident: identity.create_project(ident, name, now_ms=now_ms()))
    click.echo(json.dumps({"project_id": made.id, "project_name": made.name}))


@user.command("create", epilog="\b\nExample:\n  muster user create ada --project research")
@click.argument("name")
@click.option("--project", "project_name", default="default", show_default=True)
@_data
def create_user(name: str, project_name: str, data: Path | None) -> None:
    """Make a user and print the password, this once."""
    member, password = _run(data, lambda ident: identity.create_user(ident, name, project_name))
    click.echo(
        json.dumps(
            {
                "user_id": member.id,
                "user": name,
                "domain": member.account.name,
                "password": password,
            }
        )
    )


@key.command("create", epilog="\b\nExample:\n  muster key create ada")
@click.argument("user_name", metavar="USER")
@_data
def create_key(user_name: str, data: Path | None) -> None:
    """Make an access key for a user and print its secret, this once."""
    access, secret = _run(
        data, lambda ident: identity.create_key(ident, user_name, now_ms=now_ms())
    )
    click.echo(json.dumps({"access_key": access, "secret_key": secret}))


def _run(data: Path | None, work: Callable[[Identity], Awaitable[T]]) -> T:
    from muster.domain.errors import MusterError

    async def run() -> T:
        settings = load_settings(data or default_data_folder(), {})
        if not settings.database_file.is_file():
            click.echo(
                f"There is no muster in {settings.data}; start `muster serve` on it once.", err=True
            )
            sys.exit(1)
        database = Database(settings.database_file)
        try:
            ident = Identity(
                database=database,
                vault=Vault(settings.data / "secret.key"),
                token_lifetime_ms=settings.token_hours * 3_600_000,
            )
            return await work(ident)
        finally:
            database.close()

    try:
        return asyncio.run(run())
    except MusterError as error:
        click.echo(error.message, err=True)
        sys.exit(1)
