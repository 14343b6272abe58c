"""`muster check`."""

import sys
from pathlib import Path

import click

from muster.settings import default_data_folder


@click.command(
    epilog="""\b
Examples:
  muster check
  muster check --data /srv/muster
"""
)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="The data folder.")
def check(data: Path | None) -> None:
    """Recount everything and hold it against the counters.

    Works beside a running server. Exit code 1 if anything differs.
    """
    from muster.domain.errors import MusterError
    from muster.settings import load_settings
    from muster.store.addressed import open_snapshot, require_current_store
    from muster.store.recount import differences

    try:
        settings = load_settings(data or default_data_folder(), {})
        require_current_store(settings.store)
        with open_snapshot(settings.store) as connection:
            found = list(differences(connection))
            [versions] = connection.execute("SELECT count(*) FROM version").fetchone()
    except MusterError as error:
        click.echo(f"muster cannot check: {error.message}", err=True)
        sys.exit(1)
    for line in found:
        click.echo(line)
    if found:
        click.echo(f"{len(found)} differences.", err=True)
        sys.exit(1)
    click.echo(f"Exact: {versions} job versions recounted, 0 differences.")
