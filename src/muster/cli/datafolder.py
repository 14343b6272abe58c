"""Commands that work on the data folder itself, beside a running server too."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from muster.operations.identity import Identity
    from muster.settings import Settings

T = TypeVar("T")

data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder."
)

project_option = click.option(
    "--project",
    "project_name",
    help="With --data: the project's name.  [default: default]",
)


def embedded_file(settings: "Settings", instead: str) -> Path:
    """The file of the embedded store.

    Args:
        settings: of the data folder.
        instead: what to use where the store is PostgreSQL.

    Raises:
        click.ClickException: it is no file.
    """
    if isinstance(settings.store, str):
        raise click.ClickException(f"The store is PostgreSQL, not a file; use {instead}.")
    return settings.store


def on_data_folder(data: Path | None, work: "Callable[[Identity], Awaitable[T]]") -> T:
    """Run something that reads.

    Raises:
        MusterError: there is no muster in the folder.
    """
    from muster.operations.identity import Identity
    from muster.settings import default_data_folder, load_settings
    from muster.store.addressed import open_database, require_current_store
    from muster.store.vault import Vault

    async def run() -> T:
        settings = load_settings(data or default_data_folder(), {})
        require_current_store(settings.store)
        database = open_database(settings.store)
        try:
            ident = Identity(
                database=database,
                vault=Vault(settings.data / "secret.key"),
                token_lifetime_ms=settings.token_hours * 3_600_000,
            )
            return await work(ident)
        finally:
            database.close()

    return asyncio.run(run())


def change_logins(data: Path | None, work: "Callable[[Identity], Awaitable[T]]") -> T:
    """Run something that changes who may do what; it counts once this returns."""
    from muster.api.remembered import REMEMBER_SECONDS
    from muster.settings import default_data_folder
    from muster.store.notice import give_notice

    result = on_data_folder(data, work)
    give_notice(data or default_data_folder(), longest_seconds=REMEMBER_SECONDS)
    return result
