"""Runs a program as a user without rights, who can reach this interpreter and these tests."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from muster.engines import confine
from muster.engines.isolation import _need, find_barred, find_installation
from muster.engines.view import Kind, Need

NOBODY: Final = 65_534
ROOT: Final = Path(__file__).parents[2]


def run_unprivileged(
    arguments: Sequence[str], *, folder: Path, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """(exit code, output) of this interpreter with these arguments.

    Args:
        arguments: of the interpreter.
        folder: that the user may write to, and begins in.
        environment: more of it.
    """
    log = folder / "log"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        **(environment or {}),
    }
    os.chown(folder, NOBODY, NOBODY)
    reads = [Path(sys.prefix), ROOT, *find_installation(sys.executable)]
    needs: list[Need] = [*map(_need, reads), _need(folder, is_writable=True)]
    places = [(Kind.EMPTY.value, str(path), "") for path in sorted(find_barred(needs))]
    for need in needs:
        kind = Kind.WRITE if need.is_writable else Kind.READ
        places += [(kind.value, str(path), str(need.real)) for path in {need.path, need.real}]
    pid = confine.spawn(
        argv=[sys.executable, *arguments],
        environment=variables,
        folder=str(folder),
        log=str(log),
        confinement={
            "user": NOBODY,
            "groups": [],
            "places": places,
            "hides_processes": False,
        },
        defaults=(),
    )
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
