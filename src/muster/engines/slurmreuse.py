"""Slurm jobs that run further attempts: which ones may, and how one is handed over.

A start by `sbatch` costs the cluster many times what a program of some milliseconds does. So where
jobs of one kind come thick and fast, a Slurm job whose attempt has ended waits a moment for another
attempt of just that kind, until it is REUSE_SECONDS old: see docs/decisions/0026.

The hand-over is one atomic link in the folder of the attempt that has ended: either the engine's,
which names the next attempt, or that of the node, which takes none any more.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from sys import intern
from typing import Final, TypeVar

from muster.engines import shim, slurmjob
from muster.engines.engine import Launch

BURST_STARTS: Final = 8  # of one kind, on whatever nodes ...
BURST_SECONDS: Final = 10.0  # ... within so long: more are to be expected
WAIT_SECONDS: Final = 3.0  # for which a node then waits for the next one
KINDS_MAX: Final = 1_000
SPARE_MAX: Final = 1_000  # of one kind

# What differs between two jobs that are alike in all that Slurm decides by.
_OF_ITS_OWN: Final = ("--job-name=", "--comment=", "--chdir=", "--output=")

K = TypeVar("K")
V = TypeVar("V")

Kind = str  # what is asked of Slurm, in a line; jobs of one kind are the same to it
Shape = tuple[object, ...]  # likewise, but for the node


def kind_of(submit: Sequence[str]) -> Kind:
    """The arguments of `sbatch` less the script, and less what only names the attempt."""
    return intern(" ".join(part for part in submit[:-1] if not part.startswith(_OF_ITS_OWN)))


def shape_of(launch: Launch) -> Shape:
    first = launch.tasks[0]
    return (
        launch.partition,
        launch.priority,
        launch.time_limit_ms,
        launch.task,
        len(launch.tasks),
        first.card_kind,
        len(first.cards),
    )


class SpareJobs:
    """Slurm jobs whose attempt has ended, and which may still take another. Times are monotonic."""

    def __init__(self) -> None:
        self._starts: OrderedDict[Shape, deque[float]] = OrderedDict()
        self._spare: OrderedDict[Kind, deque[tuple[str, float]]] = OrderedDict()

    def note_start(self, launch: Launch, now: float) -> float:
        """Take in that one is started; return how long its job is to wait for another, in seconds.

        Nodes are kept waiting only where more like it are to be expected.
        """
        shape = shape_of(launch)
        starts = self._starts.setdefault(shape, deque(maxlen=BURST_STARTS))
        starts.append(now)
        _drop_oldest(self._starts, shape)
        is_burst = len(starts) == BURST_STARTS and now - starts[0] <= BURST_SECONDS
        return WAIT_SECONDS if is_burst else 0.0

    def add(self, kind: Kind, attempt_id: str, now: float) -> None:
        """The job of this attempt waits for another one."""
        self._spare.setdefault(kind, deque(maxlen=SPARE_MAX)).append((attempt_id, now))
        _drop_oldest(self._spare, kind)

    def take(self, kind: Kind, now: float) -> str | None:
        """The attempt whose job may take one of this kind; the latest, as it waits longest."""
        spare = self._spare.get(kind)
        while spare:
            attempt_id, since = spare.pop()
            if now - since <= WAIT_SECONDS:
                return attempt_id
        return None


def _drop_oldest(kinds: OrderedDict[K, V], latest: K) -> None:
    kinds.move_to_end(latest)
    if len(kinds) > KINDS_MAX:
        kinds.popitem(last=False)


def hand_over(jobs_folder: Path, attempt_id: str, *, to_job_of: str) -> bool:
    """Give an attempt to the job that another one has run in; False: it takes none any more.

    Blocks: call it in a thread. Whoever is killed now has started nothing: the attempt is claimed
    as by any job, and one that nobody claims is submitted after a while.
    """
    content = {"attempt_id": attempt_id}
    try:
        return shim.claim(str(jobs_folder / to_job_of), content, slurmjob.NEXT_FILE)
    except OSError:  # its folder is gone; or the disk is full, which a submit will tell
        return False
