"""`muster demo`: a guided tour on a server of its own, which leaves nothing behind."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.job import print_jobs
from muster.cli.output import (
    console,
    duration,
    examples,
    print_table,
    status_text,
    table,
    when,
)
from muster.cli.pool import print_statistics
from muster.cli.status import word_of
from muster.client.errors import ClientError

if TYPE_CHECKING:
    from rich.table import Table

    from muster.client.client import Client
    from muster.demo.server import OwnServer
    from muster.demo.tour import Part, Tour

_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(epilog=examples("muster demo", "muster demo --keep demo-data"))
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Put everything into this new folder, and leave it there.",
)
def demo(*, keep: Path | None) -> None:
    """Run real training jobs on a server of their own, and show them counted.

    Takes under a minute on most machines. Jobs complete, fail, queue, get stopped; then the server
    is stopped and everything is removed again.
    """
    if find_spec("sklearn") is None:
        raise click.ClickException(
            "The demo needs scikit-learn. Run `make demo`, or `pip install 'muster[demo]'`."
        )
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise click.UsageError(f"--keep {keep}: the folder must be new or empty.")
    started = time.monotonic()
    with _signals_interrupt(), _folder(keep) as folder:
        complaints = _give_tour(folder)
    if keep is not None:
        click.echo(f"Kept: {keep}. Look around in it with: muster serve --data {keep / 'data'}")
    if complaints:
        raise click.ClickException("Not as told: " + "; ".join(complaints) + ".")
    click.echo(f"All as told, in {time.monotonic() - started:.0f} s.")


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Whatever asks this process to end does it as Ctrl-C does, so that everything is put away."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Nothing interrupts this part, which is short; the interrupt comes after it."""
    noted = []

    # A handler, for signals that are ignored or blocked would be so in child processes as well.
    def note_it(number: int, _: object) -> None:
        noted.append(number)

    before = {number: signal.signal(number, note_it) for number in _ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if noted:
        raise KeyboardInterrupt


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="muster-demo-"))
    try:
        yield folder
    finally:
        with _undisturbed():
            shutil.rmtree(folder, ignore_errors=True)


def _give_tour(folder: Path) -> list[str]:
    """The whole story; in which points it did not come true."""
    from muster.client.client import Client
    from muster.demo.server import OwnServer
    from muster.demo.tour import Tour

    click.echo("Starting a server of its own ...")
    server: OwnServer | None = None
    client: Client | None = None
    try:
        with _undisturbed():
            server = OwnServer(folder)
        credentials = server.wait_until_ready()
        client = Client(credentials)
        click.echo(f"muster is ready on {credentials.url}. Submitting real training jobs ...\n")
        tour = Tour(client)
        tour.submit()
        _show_progress(tour)
        complaints = tour.complaints()
        _show_answers(tour)
        _show_accuracies(tour)
    finally:
        with _undisturbed():
            complaint = _put_away(server, client)
    return [*complaints, *complaint]


def _put_away(server: "OwnServer | None", client: "Client | None") -> list[str]:
    """Stop what still runs, then the server."""
    from muster.demo.tour import stop_everything

    complaints = []
    if client is not None:
        try:
            stop_everything(client)
        except ClientError as error:
            complaints.append(f"the jobs could not be stopped: {error.message}")
        client.close()
    if server is not None and (exit_code := server.stop()) != 0:
        complaints.append(f"the server ended with exit code {exit_code}")
    return complaints


def _show_progress(tour: "Tour") -> None:
    """A table that stays in place on a terminal; elsewhere a line for every change."""
    out = console()
    if out.is_terminal:
        from rich.live import Live

        with Live(console=out, auto_refresh=False) as live:
            for _ in tour.watch():
                live.update(_progress_table(tour.parts), refresh=True)
    else:
        shown: dict[int, int] = {}
        for _ in tour.watch():
            for part in tour.parts:
                if shown.get(part.version_id) != part.status:
                    shown[part.version_id] = part.status
                    click.echo(f"{_name(part):<20} {word_of(part.status)}")
    click.echo(f"\nWaiting in the queue at once: up to {tour.queued_most}.")


def _name(part: "Part") -> str:
    return f"{part.chapter.job_name} {part.version_name}"


def _progress_table(parts: "list[Part]") -> "Table":
    return table(
        ("JOB", "WHAT", "STATUS", "RAN", "EPOCH", "ACCURACY"),
        (
            (
                _name(part),
                part.chapter.tells,
                status_text(part.status),
                duration(part.duration_ms),
                part.epoch,
                _accuracy(part),
            )
            for part in parts
        ),
        right=("RAN", "EPOCH", "ACCURACY"),
    )


def _accuracy(part: "Part") -> str | None:
    return None if part.accuracy is None else f"{part.accuracy:.3f}"


def _show_answers(tour: "Tour") -> None:
    """The three calls that muster is about, and what they answer."""
    client, pool_id = tour.client, tour.pool_id
    project_id = client.credentials.project_id

    _heading(f"GET /v2/{project_id}/statistics/pools/{pool_id}/workloads")
    print_statistics(client.pool_statistics(pool_id))

    _heading(f"GET /v1/{project_id}/training-jobs/versions")
    versions = client.list_versions()
    _print_versions(versions)
    click.echo(f"total_count {versions['total_count']}")

    _heading(f"GET /v1/{project_id}/training-jobs")
    jobs = client.list_jobs()
    print_jobs(jobs["jobs"])
    click.echo(f"job_total_count {jobs['job_total_count']}")


def _heading(call: str) -> None:
    from rich.text import Text

    click.echo()
    console().print(Text(call, style="bold"))


def _print_versions(answer: dict[str, Any]) -> None:
    print_table(
        ("VERSION", "NAME", "STATUS", "CREATED", "DURATION", "FLAVOR", "GPUS", "NPUS"),
        (
            (
                row["version_id"],
                row["version_name"],
                status_text(row["status"]),
                when(row["create_time"]),
                duration(row["duration"]),
                row["flavor_code"],
                row["gpu_num"],
                row["npu_num"],
            )
            for row in answer["versions"]
        ),
        right=("VERSION", "DURATION", "GPUS", "NPUS"),
    )


def _show_accuracies(tour: "Tour") -> None:
    """What the jobs have learnt, read from their logs."""
    click.echo("\nLast line of each log:")
    print_table(
        ("JOB", "LEARNING RATE", "ACCURACY", "LAST LINE"),
        (
            (_name(part), part.chapter.learning_rate, _accuracy(part), part.last_line)
            for part in tour.parts
        ),
        right=("LEARNING RATE", "ACCURACY"),
    )
    click.echo()
