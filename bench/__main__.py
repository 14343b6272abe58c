"""Run the measurements. A table for people, JSON for machines."""

import argparse
import fcntl
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from bench import (
    creates,
    deep,
    history,
    importing,
    jobs,
    lists,
    mlflow,
    moves,
    notebook,
    proxy,
    quotas,
    search,
    service,
    slurm,
    start,
    statistics_call,
    stream,
)
from bench.figure import Figure, shown_rows
from bench.machine import describe_machine, in_words
from bench.run import CACHE, RESULTS, NotMeasured, Run

INTERRUPTED = 130  # as a shell reports a command that was ended by Ctrl-C
SIZES = (1_000, 100_000, 1_000_000)
SIZES_QUICK = (1_000, 20_000)
SIZE_MAX = 20_000_000
JOBS, JOBS_QUICK = 1_000, 100


@dataclass(frozen=True, slots=True)
class Measurement:
    measure: Callable[[Run], list[Figure]]
    what: str


MEASUREMENTS: Mapping[str, Measurement] = {
    "start": Measurement(start.measure, "from the command to the first answer; idle memory"),
    "statistics": Measurement(statistics_call.measure, "the statistics call, at every size"),
    "lists": Measurement(lists.measure, "pages with exact totals, at every size"),
    "deep": Measurement(deep.measure, "pages at any depth, with any filter, at the largest size"),
    "history": Measurement(history.measure, "further calls, at the largest size"),
    "moves": Measurement(moves.measure, "300 durable moves a second beside reads; a recount"),
    "stream": Measurement(stream.measure, "limit=0: memory, first byte, rate"),
    "search": Measurement(search.measure, "by part of a name; other calls beside it"),
    "creates": Measurement(creates.measure, "durable creates over HTTP, 64 clients"),
    "import": Measurement(importing.measure, "job history moved in from a file"),
    "quotas": Measurement(quotas.measure, "what quotas add to a create"),
    "jobs": Measurement(jobs.measure, "real jobs, from submit to their end"),
    "slurm": Measurement(slurm.measure, "jobs on a private Slurm cluster beside plain sbatch"),
    "proxy": Measurement(proxy.measure, "what passing requests on to programs costs"),
    "service": Measurement(service.measure, "requests through a service; updates under load"),
    "notebook": Measurement(notebook.measure, "from create to a notebook's first page"),
    "mlflow": Measurement(mlflow.measure, "the same page from MLflow's runs/search"),
}

_EPILOG = """\
measurements:
{measurements}

examples:
  make bench
  make bench BENCH_ARGS=--quick
  make bench BENCH_ARGS="lists statistics --rows 1000,100000"
  make bench BENCH_ARGS="search stream --rows 10000000"
  make bench BENCH_ARGS="jobs --jobs 10000"
  make bench BENCH_ARGS="creates --database postgresql://127.0.0.1/bench"
  make bench BENCH_ARGS="statistics lists --rows 1000,100000 --database postgresql://127.0.0.1/bench"

Stores with so many rows are made once, and kept in bench/results/cache; so is MLflow.
"""


def main() -> int:
    # So that SIGTERM takes down what was started, as Ctrl-C does, in the background too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    parser, arguments = _parsed()
    names = arguments.names or list(MEASUREMENTS)
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    console = Console(stderr=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            machine = describe_machine()
            figures, notes = _measure_all(console, arguments, names)
    except BlockingIOError:
        console.print("Another run measures here; two at once would measure each other.")
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; every server has ended, and what was half made is gone.")
        return INTERRUPTED
    _print_table(figures, machine, notes)
    if arguments.markdown:
        print(_markdown(figures))
    print(f"as JSON: {_write_json(figures, machine, notes)}", file=sys.stderr)
    return 1 if any(note.is_failure for note in notes) else 0


def _parsed() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    listed = "\n".join(f"  {name:12}{m.what}" for name, m in MEASUREMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG.format(measurements=listed),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (all)")
    parser.add_argument(
        "--rows",
        type=_sizes,
        help="versions stored, by comma (1000,100000,1000000; with --quick 1000,20000)",
    )
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, in 3 minutes")
    parser.add_argument(
        "--jobs", type=int, help=f"short jobs to run through ({JOBS:,}; 10000 for the record)"
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="measure on PostgreSQL: creates, statistics, lists, deep, search, stream",
    )
    parser.add_argument("--markdown", action="store_true", help="print the table for a page, too")
    return parser, parser.parse_args()


def _sizes(text: str) -> tuple[int, ...]:
    sizes = sorted({int(part.replace("_", "")) for part in text.split(",")})
    if not 1 <= sizes[0] <= sizes[-1] <= SIZE_MAX:
        raise argparse.ArgumentTypeError(f"from 1 to {SIZE_MAX:,}")
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class Note:
    """A measurement that has no figures, and why."""

    name: str
    why: str
    is_failure: bool


def _measure_all(
    console: Console, arguments: argparse.Namespace, names: Sequence[str]
) -> tuple[list[Figure], list[Note]]:
    figures: list[Figure] = []
    notes: list[Note] = []
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        run = Run(
            sizes=arguments.rows or (SIZES_QUICK if arguments.quick else SIZES),
            is_quick=arguments.quick,
            job_count=arguments.jobs or (JOBS_QUICK if arguments.quick else JOBS),
            database=arguments.database,
            progress=progress,
        )
        for name in run.track(names, "all"):
            began = time.monotonic()
            try:
                figures += MEASUREMENTS[name].measure(run)
            except NotMeasured as error:
                notes.append(Note(name, str(error), is_failure=False))
            except Exception as error:  # noqa: BLE001 - the others are to be measured all the same
                notes.append(Note(name, f"failed: {error!r}", is_failure=True))
                progress.console.print(traceback.format_exc(), markup=False)
            seconds = time.monotonic() - began
            progress.console.print(f"measured {name} in {seconds:.0f} s", highlight=False)
    return figures, notes


def _print_table(figures: list[Figure], machine: dict[str, Any], notes: list[Note]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title=f"muster on {in_words(machine)}")
    for column in ("what", "rows", "measured", "budget", "verdict", "how"):
        table.add_column(column, justify="right" if column in ("rows", "measured") else "left")
    for figure in figures:
        style = "red" if figure.is_met is False else ""
        table.add_row(*_cells(figure), style=style)
    console.print(table)
    for note in notes:
        console.print(f"{note.name} was not measured: {note.why}", markup=False)


def _cells(figure: Figure) -> tuple[str, ...]:
    rows = shown_rows(figure.rows)
    return figure.what, rows, figure.shown, figure.budget, figure.verdict, figure.how


def _markdown(figures: list[Figure]) -> str:
    lines = ["| what | rows | measured | budget | verdict | how |", "|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(figure))} |" for figure in figures]
    return "\n".join(lines)


def _write_json(figures: list[Figure], machine: dict[str, Any], notes: list[Note]) -> Path:
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    document = {
        "machine": machine,
        "figures": [figure.as_json() for figure in figures],
        "not_measured": {note.name: note.why for note in notes},
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
