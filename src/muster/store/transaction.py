"""One write: its statements, and what they count."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from muster.store.connection import Connection
from muster.store.counting import Counts

Work = TypeVar("Work", bound=Callable[..., Any])

_MARK: Final = "reads_no_counters"


class Transaction:
    """One writer's view of the database. What it counts is written at its end, in key order.

    Args:
        connection: where its statements run.
        before: what writes before it in the same commit have counted, and nobody has written yet.
    """

    def __init__(self, connection: Connection, before: Counts | None = None) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.counts = Counts(before)
        self.has_work = False  # set by what leaves something for the reconciler to do
        self.changes_logins = False  # set by what other servers must not remember otherwise


def reads_no_counters(work: Work) -> Work:
    """Mark a write that reads no table of counters, unless together with `tx.counts.pending_...`.

    The counters of many such writes in one commit are written once. Before any other write they
    are brought up to date: one that is not marked reads them as they are.
    """
    setattr(work, _MARK, True)
    return work


def may_defer_counters(work: Callable[..., Any]) -> bool:
    """Whether a write is marked so."""
    return getattr(work, _MARK, False) is True
