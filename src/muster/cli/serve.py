"""`muster serve`."""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from muster.settings import default_data_folder

if TYPE_CHECKING:
    from muster.server import Server

_EXAMPLES = """\b
Examples:
  muster serve
  muster serve --port 9000 --data /srv/muster
  muster serve --inventory cluster.toml
  muster serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
  muster serve --objects s3://my-bucket/muster --s3-endpoint https://minio.example.org

Each option can also be set as MUSTER_... in the environment (MUSTER_PORT=9000), or as a line in
DATA/muster.toml (port = 9000). docs/settings.md has those that are no options, too.
"""


@click.command(epilog=_EXAMPLES)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes any free one.  [default: 8080]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that everything is kept in.  [default: ~/.local/share/muster]",
)
@click.option(
    "--database",
    help="SQLite file, or postgresql://USER@HOST/NAME, which several servers may share."
    "  [default: DATA/muster.db]",
)
@click.option(
    "--objects",
    help="Object store: a folder, s3://BUCKET/PREFIX, or s3:// for the buckets of an account."
    "  [default: DATA/objects]",
)
@click.option("--s3-endpoint", help="Address of what speaks S3.  [default: AWS]")
@click.option("--s3-region", help="Its region.")
@click.option("--engine", help="What runs the jobs: local or slurm.  [default: local]")
@click.option(
    "--isolation",
    help="Of jobs from the server and each other, on the local engine: auto, users, bubblewrap or"
    " off.  [default: auto]",
)
@click.option(
    "--inventory",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of nodes, flavors and pools.  [default: this machine as found]",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key, PEM.")
@click.option(
    "--allow-plain-http",
    is_flag=True,
    default=None,
    help="Listen beyond this machine without TLS; something in front must do it.",
)
@click.option(
    "--archive-after-days",
    type=int,
    help="Pack jobs away that ended so long ago; all calls still show them.  [default: never]",
)
@click.option("--log-level", help="debug, info, warning or error.  [default: info]")
def serve(data: Path | None, **flags: Any) -> None:
    """Run the server: API, queue and jobs in one process."""
    with _only_importing():
        from muster.datafolder import locked_data_folder
        from muster.domain.errors import MusterError
        from muster.grounds import isolation_sought
        from muster.logging import set_up_logging
        from muster.settings import load_settings, unknown_variables

    try:
        settings = load_settings(data or default_data_folder(), flags)
        set_up_logging(settings.log_level)
        _warn_of(unknown_variables(os.environ))
        folder = locked_data_folder(
            settings.data, database=settings.database_file, is_shared=settings.is_shared
        )
        with folder, isolation_sought(settings) as sought:
            # Most of a start, and a task that is tried for isolation takes its time meanwhile.
            with _only_importing():
                from muster.server import serve as run_server
            with _runner() as runner:
                runner.run(run_server(settings, sought, _tell_ready))
    except KeyboardInterrupt:
        sys.exit(130)
    except MusterError as error:
        click.echo(f"muster cannot start: {error.message}", err=True)
        sys.exit(1)


def _warn_of(unknown: Mapping[str, str | None]) -> None:
    if unknown:
        told = (f"{name} ({meant}?)" if meant else name for name, meant in unknown.items())
        click.echo(f"There is no such setting, and nothing reads it: {', '.join(told)}", err=True)


@contextmanager
def _only_importing() -> Iterator[None]:
    """Let imports do nothing besides: a quarter of what they take of the CPU.

    What they make stays, so that nothing of it needs to be collected. And structlog imports rich
    where it finds it, which a server has no use for.
    """
    has_rich = "rich" in sys.modules
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # as if it were not installed
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if not has_rich:
            del sys.modules["rich"]


def _runner() -> asyncio.Runner:
    """On uvloop where it has a wheel; plain asyncio elsewhere."""
    try:
        import uvloop
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _tell_ready(url: str, server: "Server") -> None:
    data = server.settings.data
    click.echo(f"muster is ready on {url}")
    click.echo(server.isolation, err=True)
    if server.first is not None:
        click.echo(f"Credentials of the administrator: {data / 'credentials.json'}", err=True)
    sys.stdout.flush()
