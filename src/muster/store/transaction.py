"""One write: its statements, and what they count."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from muster.store.connection import Connection
from muster.store.counting import Counts

Work = TypeVar("Work", bound=Callable[..., Any])

_MARK: Final = "reads_no_counters"
_TELLS: Final = "tells_lists"


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
        self.changed_lists: set[str] = set()  # of these projects; see `tells_lists`


def reads_no_counters(work: Work) -> Work:
    """Mark a write that reads no table of counters, unless together with `tx.counts.pending_...`.

    The counters of many such writes in one commit are written once. Before any other write they
    are brought up to date: one that is not marked reads them as they are.
    """
    setattr(work, _MARK, True)
    return work


def tells_lists(work: Work) -> Work:
    """Mark a write that names in `tx.changed_lists` the projects whose lists it changes.

    Those are the v1 lists of jobs and of versions, with all that a page of them shows. Any other
    write is taken to change the lists of every project: one that forgets the mark is slow, not
    wrong.
    """
    setattr(work, _TELLS, True)
    return work


def may_defer_counters(work: Callable[..., Any]) -> bool:
    """Whether a write is marked with `reads_no_counters`."""
    return getattr(work, _MARK, False) is True


def is_telling_lists(work: Callable[..., Any]) -> bool:
    """Whether a write is marked with `tells_lists`."""
    return getattr(work, _TELLS, False) is True


def marked_as(work: Callable[..., Any], wrapped: Work) -> Work:
    """`wrapped`, which does what `work` does and changes nothing besides, with its marks."""
    for mark in (_MARK, _TELLS):
        setattr(wrapped, mark, getattr(work, mark, False))
    return wrapped
