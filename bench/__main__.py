"""Run the measurements: `python -m bench [NAME ...]`. A table for people, JSON for machines."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import history, jobs, lists, quotas, start, statistics_call
from bench.figure import Figure

RESULTS = Path(__file__).parent / "results"

MEASUREMENTS: Mapping[str, Callable[[int], list[Figure]]] = {
    "start": start.measure,
    "statistics": statistics_call.measure,
    "lists": lists.measure,
    "history": history.measure,
    "quotas": quotas.measure,
    "jobs": jobs.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(MEASUREMENTS)} (all)")
    parser.add_argument(
        "--jobs", type=int, default=1_000, help="short jobs to run through (10000 for the record)"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - MEASUREMENTS.keys()
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    figures: list[Figure] = []
    for name, measure in MEASUREMENTS.items():
        if not arguments.names or name in arguments.names:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures += measure(arguments.jobs)
    _print_table(figures)
    print(f"as JSON: {_write_json(figures)}", file=sys.stderr)
    return 0


def _print_table(figures: list[Figure]) -> None:
    table = Table(title=f"muster on {os.cpu_count()} CPUs, Python {platform.python_version()}")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_column("wanted", justify="right")
    table.add_column("how", style="dim")
    for figure in figures:
        style = "" if figure.is_met is not False else "red"
        table.add_row(figure.what, figure.shown, figure.wanted, figure.how, style=style)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _write_json(figures: list[Figure]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    document = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "figures": [figure.as_json() for figure in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
