"""The machine that something was measured on, in words."""

import os
import platform
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def describe_machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "commit": _commit(),
    }


def in_words(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cpus']} CPUs of {machine['cpu']}, {machine['memory_gib']} GiB,"
        f" {machine['system']}, Python {machine['python']}, SQLite {machine['sqlite']};"
        f" load average {machine['load_average'][0]} at the start; commit {machine['commit']}"
    )


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
