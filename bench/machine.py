"""The machine that something was measured on, in words."""

import os
import platform
import sqlite3
import statistics
import subprocess
from pathlib import Path
from typing import Any, Final

from bench.load import raw_request, run_load
from bench.servers import empty_server

# Requests per CPU-second of the empty handler on the machine that rates and times are wanted of.
WANTED_OF: Final = 61_900
REQUESTS: Final = 5_000
ROUNDS: Final = 5
CLIENTS: Final = 16

ROOT = Path(__file__).parent.parent


def describe_machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "empty_handler_per_cpu_second": _empty_handler_per_cpu_second(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "commit": _commit(),
    }


def in_words(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cpus']} CPUs of {machine['cpu']}, {machine['memory_gib']} GiB,"
        f" {machine['system']}, Python {machine['python']}, SQLite {machine['sqlite']};"
        f" load average {machine['load_average'][0]} at the start; commit {machine['commit']}."
        f" Its empty handler has {machine['empty_handler_per_cpu_second']:,} requests per"
        f" CPU-second, {machine['empty_handler_per_cpu_second'] / WANTED_OF:.2f} of the machine"
        " that rates and times are wanted of"
    )


def _empty_handler_per_cpu_second() -> int:
    with empty_server() as empty:
        nothing = [raw_request("GET", empty.port, "/", {})] * REQUESTS
        loads = [run_load(empty.pid, empty.port, nothing, clients=CLIENTS) for _ in range(ROUNDS)]
    return round(statistics.median(load.per_cpu_second for load in loads))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """With a "+" where the working tree differs from it."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=7"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
