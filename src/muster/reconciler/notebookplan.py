"""Decides what becomes of a notebook: what is known of it in, one step out."""

from dataclasses import dataclass
from typing import Final

from muster.domain.notebook import (
    ANSWER_MS_MAX,
    COMING_UP,
    LeaseType,
    Notebook,
    NotebookEvent,
    NotebookStatus,
)
from muster.domain.phase import FINISHED, Phase

ACTIVITY_NOTED_MS: Final = 30_000  # what was done since is kept no more exactly than that


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a notebook besides its rows."""

    server_version: str = ""  # of what answers; "": nothing has yet
    note: str = ""  # how far its start is; of one that runs: that it does not answer
    failure: str = ""  # why it could not be started, by what was to start it
    last_words: str = ""  # the end of its log
    unstored: str = ""  # of one in a bucket that has ended: why its files are not all there
    last_active_ms: int = 0  # when something was last done in it
    active_as_of_ms: int = 0  # when that was found out


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event of a notebook, and what goes with it."""

    event: NotebookEvent
    reason: str = ""  # for people: why it ended
    stops_workload: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """It stays where it is; its note, or when it was last used, is new."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing of it runs any more: its storage goes, and then itself."""


S, E, P = NotebookStatus, NotebookEvent, Phase


def plan_notebook(notebook: Notebook, seen: Seen, *, now_ms: int) -> Step | Note | Remove | None:
    """The one thing to do now; None: nothing."""
    match notebook.status:
        case S.DELETING:
            return _while_deleting(notebook, seen)
        case S.STOPPING:
            return _while_stopping(notebook, seen)
        case S.ERROR:
            return Step(event=E.FOUND) if notebook.phase is P.RUNNING else None
        case S.RUNNING:
            return _while_running(notebook, seen, now_ms=now_ms)
        case status if status in COMING_UP:
            return _while_coming_up(notebook, seen, now_ms=now_ms)
        case _:
            return None


def _while_deleting(notebook: Notebook, seen: Seen) -> Step | Remove | None:
    if not notebook.is_at_rest:
        return None
    if seen.unstored:
        # They would be lost: whoever deletes it once more knows that.
        why = f"{_with_unstored('', seen)} Delete it once more to drop them."
        return Step(event=E.FAILED, reason=why)
    return Remove()


def _while_stopping(notebook: Notebook, seen: Seen) -> Step | None:
    if notebook.is_at_rest:
        return Step(event=E.ENDED, reason=_with_unstored(notebook.fail_reason, seen))
    if notebook.phase is P.STOP_FAILED:
        return Step(event=E.DIED, reason=notebook.phase_message or "It cannot be stopped.")
    return None


def _while_coming_up(notebook: Notebook, seen: Seen, *, now_ms: int) -> Step | Note | None:
    if notebook.phase is None:
        return Step(event=E.FAILED, reason="Nothing of it is left.")
    if notebook.phase in FINISHED:
        return Step(event=E.FAILED, reason=why_it_ended(notebook, seen))
    if notebook.phase is P.RUNNING and seen.server_version:
        return Step(event=E.READY)
    if notebook.phase is P.RUNNING and now_ms >= notebook.phase_since_ms + ANSWER_MS_MAX:
        # It would hold its node for good: its lease begins with its first answer.
        why = f"It did not answer within {ANSWER_MS_MAX // 60_000} minutes."
        return Step(event=E.FAILED, reason=why, stops_workload=True)
    return Note() if seen.note != notebook.note else None


def _while_running(notebook: Notebook, seen: Seen, *, now_ms: int) -> Step | Note | None:
    if notebook.phase in (P.TERMINATING, P.TERMINATED):  # somebody else has asked for it
        return Step(event=E.STOP_ASKED, reason=notebook.phase_message)
    if notebook.phase is P.COMPLETED:
        return Step(event=E.STOP_ASKED, reason="It was shut down from inside.")
    if notebook.phase is None or notebook.phase in FINISHED:
        return Step(event=E.DIED, reason=why_it_ended(notebook, seen))
    if notebook.phase is P.LOST:
        return Step(event=E.DIED, reason=notebook.phase_message or "It was lost.")
    over = _lease_is_over(notebook, seen, now_ms=now_ms)
    if over:
        return Step(event=E.STOP_ASKED, reason=over, stops_workload=True)
    is_used = seen.last_active_ms >= notebook.last_active_ms + ACTIVITY_NOTED_MS
    if is_used or seen.note != notebook.note:
        return Note()
    return None


def _lease_is_over(notebook: Notebook, seen: Seen, *, now_ms: int) -> str:
    """Why; "": it is not."""
    lease = notebook.lease
    ends_at_ms = lease.ends_at_ms(max(notebook.last_active_ms, seen.last_active_ms))
    if ends_at_ms is None or now_ms < ends_at_ms:
        return ""
    minutes = lease.duration_ms // 60_000
    if lease.type is LeaseType.TIMING:
        return f"Its lease of {minutes} minutes was over."
    if seen.active_as_of_ms < ends_at_ms:
        return ""  # whether it was used until then is not known yet
    return f"Nothing was done in it for {minutes} minutes."


def why_it_ended(notebook: Notebook, seen: Seen) -> str:
    """For people: the most that is known."""
    if seen.failure:
        return seen.failure
    said = _with_unstored(notebook.phase_message or f"It ended: {notebook.phase}.", seen)
    return f"{said} The end of its log:\n{seen.last_words}" if seen.last_words else said


def _with_unstored(reason: str, seen: Seen) -> str:
    if not seen.unstored:
        return reason
    return f"{reason} Some of its files could not be stored: {seen.unstored}".strip()
