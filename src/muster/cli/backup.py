"""`muster backup` and `muster migrate`: the database as a whole."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from muster.cli.datafolder import data_option, embedded_file
from muster.cli.output import console, examples, note


@click.command(
    epilog=examples("muster backup muster-monday.db", "muster backup /mnt/b.db --data D")
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@data_option
def backup(file: Path, data: Path | None) -> None:
    """Copy the database at one moment into FILE, beside a running server too.

    The copy is looked through before it gets its name: of a database that is damaged there is none.

    FILE holds muster.db: accounts, roles, pools, jobs with all their history, every count. It does
    not hold secret.key, without which no stored access key opens: copy that file once, and keep it
    apart. Nor objects/, snapshots/ (code and models as they were given), notebooks/, images/ (what
    was saved of notebooks), environments/ (what an operator has put there) and jobs/ (logs, and
    .users.json: whose files are whose): copy these folders as you like. metrics.db may be lost.
    For a store on PostgreSQL there is pg_dump.

    \b
    To restore:
      1. stop the server
      2. put FILE in the place of DATA/muster.db; delete DATA/muster.db-wal and DATA/muster.db-shm
      3. put secret.key beside it, if it is not there
      4. start the server; `muster check` recounts

    Jobs that ran at that moment, and whose folders are gone, are lost and count as failed.
    """  # noqa: D301 - the control character is for click: it keeps the lines apart
    from muster.settings import default_data_folder, load_settings
    from muster.store.addressed import require_store
    from muster.store.backup import back_up

    settings = load_settings(data or default_data_folder(), {})
    database = embedded_file(settings, "pg_dump")
    require_store(database)
    with _progress() as advance:
        size = back_up(database, file.absolute(), advance)
    click.echo(f"{file} holds the database ({size:,} bytes).")
    key = settings.data / "secret.key"
    if key.is_file():
        note(f"It opens with {key}, which is not in it; keep a copy apart.")
    else:
        note(f"There is no {key}. Without that file no stored access key opens: look for a copy.")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import Progress

    with Progress(console=console(is_error=True), transient=True) as progress:
        task = progress.add_task("Copying", total=None)
        yield lambda done, pages: progress.update(task, completed=done, total=pages)


@click.command(epilog=examples("muster migrate", "muster migrate --data /srv/muster"))
@data_option
def migrate(data: Path | None) -> None:
    """Bring the database of a stopped server up to date; each start of the server does it, too.

    Take a copy with `muster backup` first: the way back is that copy.
    """
    from muster.datafolder import locked_data_folder
    from muster.settings import default_data_folder, load_settings
    from muster.store.addressed import open_database, require_store
    from muster.store.backup import schema_of
    from muster.store.sqlite import open_snapshot
    from muster.store.statements import load_migrations

    settings = load_settings(data or default_data_folder(), {})
    require_store(settings.store)
    if isinstance(settings.store, str):
        open_database(settings.store).close()
        click.echo(f"The database is up to date: schema {len(load_migrations())}.")
        return
    file = settings.store
    with open_snapshot(file) as connection:
        before = schema_of(connection)
    with locked_data_folder(settings.data, database=file):
        open_database(file).close()
        with open_snapshot(file) as connection:
            after = schema_of(connection)
    if before == after:
        click.echo(f"{file} is up to date: schema {after}.")
    else:
        click.echo(f"{file} was brought from schema {before} to {after}.")
