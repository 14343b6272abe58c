"""`muster export`: the history of jobs, out."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from muster.cli.connection import connect
from muster.cli.datafolder import data_option, project_option
from muster.cli.output import NO_FILE, examples, note

if TYPE_CHECKING:
    from muster.client.client import Client


@click.command(
    "export",
    epilog=examples(
        "muster export history.jsonl",
        "muster export history.jsonl --data /srv/muster",
        "muster export - | muster import - --data /srv/another",
    ),
)
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@data_option
@project_option
@click.pass_context
def export_history(
    context: click.Context, file: Path, data: Path | None, project_name: str | None
) -> None:
    """Write every version that has ended as JSON lines, as `muster import` takes them.

    All of them are of one moment. FILE is there once it is complete; - is stdout. With --data it is
    read from the data folder, beside a running server too; else the server is asked. Code, logs and
    results are not in it: `muster backup` keeps the database, and folders can be copied.
    """
    if project_name is not None and data is None:
        raise click.UsageError("--project belongs to --data; credentials are for one project.")
    chunks: AbstractContextManager[Iterable[bytes]]
    if data is None:
        chunks = _from_server(connect(context))
    else:
        chunks = _from_folder(data, project_name or "default")
    with chunks as pieces:
        if str(file) == NO_FILE:
            out = sys.stdout.buffer
            count = _write_all(pieces, out)
            out.flush()
        else:
            count = _write_whole(pieces, file)
    note(f"{count:,} versions were exported.")


def _write_whole(pieces: Iterable[bytes], file: Path) -> int:
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as out:
            count = _write_all(pieces, out)
        part.replace(file)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_all(pieces: Iterable[bytes], out: IO[bytes]) -> int:
    count = 0
    for piece in pieces:
        out.write(piece)
        count += piece.count(b"\n")
    return count


@contextmanager
def _from_server(client: "AbstractContextManager[Client]") -> Iterator[Iterable[bytes]]:
    with client as connected:
        yield connected.export_history()


@contextmanager
def _from_folder(data: Path, project_name: str) -> Iterator[Iterable[bytes]]:
    from muster.settings import load_settings
    from muster.store import identity
    from muster.store.addressed import open_snapshot, require_current_store
    from muster.store.history import stream_history
    from muster.wire.history import encode_line

    settings = load_settings(data, {})
    require_current_store(settings.store)
    with open_snapshot(settings.store) as connection:
        ids = {project.name: project.id for project in identity.list_projects(connection)}
        if project_name not in ids:
            raise click.ClickException(
                f"There is no project {project_name!r}; there are {', '.join(sorted(ids))}."
            )
        yield (
            b"".join(map(encode_line, rows))
            for rows in stream_history(connection, ids[project_name])
        )
