"""What one run of the measurements was asked for, and how it tells how far it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.progress import Progress, TaskID

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"
CACHE = RESULTS / "cache"


class NotMeasured(Exception):
    """Something that it needs is not there; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    sizes: tuple[int, ...]  # versions stored, ascending
    is_quick: bool
    job_count: int  # short jobs to run through
    database: str | None  # of a shared store; None: SQLite in a file
    progress: Progress

    @property
    def on_which(self) -> str:
        """Store, for the name of a figure."""
        return ", PostgreSQL" if self.database else ""

    @property
    def of_whom(self) -> str:
        """The CPU is counted: PostgreSQL's own is not in it."""
        return " of the server alone" if self.database else ""

    def budget(self, of_sqlite: float) -> float | None:
        """None: there is none."""
        return None if self.database else of_sqlite

    @property
    def largest(self) -> int:
        return self.sizes[-1]

    def rounds(self, usual: int) -> int:
        return min(usual, 3) if self.is_quick else usual

    def requests(self, usual: int) -> int:
        return max(1, usual // 4) if self.is_quick else usual

    def track(self, steps: Sequence[T], what: str) -> Iterator[T]:
        """A progress bar over the steps, which goes when they are done."""
        task = self._begin(what, total=len(steps))
        try:
            for step in steps:
                yield step
                self.progress.advance(task)
        finally:
            self.progress.remove_task(task)

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """A line for something that cannot say how far it is."""
        task = self._begin(what, total=None)
        try:
            yield
        finally:
            self.progress.remove_task(task)

    def _begin(self, what: str, *, total: int | None) -> TaskID:
        if not self.progress.console.is_terminal:
            self.progress.console.print(f"{what} ...", markup=False, highlight=False)
        return self.progress.add_task(what, total=total)
