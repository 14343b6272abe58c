"""The status codes of the v1 API in words, and back. Read off the one table of phases."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from muster.domain.phase import FINISHED, Phase, Reason, StatisticsState, view_of

_PAIRS: Final = [(phase, reason) for phase in Phase for reason in (Reason.NONE, *Reason)]


def _words() -> Mapping[int, str]:
    words: dict[int, str] = {}
    for phase, reason in _PAIRS:
        status = view_of(phase, reason).v1_status
        # A reason with a code of its own names it better than the phase that it shares.
        words.setdefault(status, phase if status == view_of(phase).v1_status else reason)
    return words


def _codes() -> Mapping[str, frozenset[int]]:
    codes = defaultdict(set)
    for phase, reason in _PAIRS:
        view = view_of(phase, reason)
        for name in (phase, view.v2_phase, view.statistics, _WORDS[view.v1_status]):
            codes[name.casefold()].add(view.v1_status)
    return {name: frozenset(found) for name, found in codes.items()}


_STATES: Final[Mapping[int, StatisticsState]] = {
    view_of(*pair).v1_status: view_of(*pair).statistics for pair in reversed(_PAIRS)
}
_WORDS: Final = _words()
_CODES: Final = _codes()

STATUS_NAMES: Final = tuple(sorted(_WORDS.values()))
FINISHED_STATUSES: Final = frozenset(
    view_of(phase, reason).v1_status for phase, reason in _PAIRS if phase in FINISHED
)
COMPLETED: Final = view_of(Phase.COMPLETED).v1_status
QUEUED: Final = view_of(Phase.QUEUED).v1_status

_STYLES: Final[Mapping[StatisticsState, str]] = {
    StatisticsState.QUEUE: "blue",
    StatisticsState.PENDING: "blue",
    StatisticsState.CREATING: "blue",
    StatisticsState.RUNNING: "cyan",
    StatisticsState.COMPLETED: "green",
    StatisticsState.TERMINATING: "yellow",
    StatisticsState.TERMINATED: "yellow",
    StatisticsState.FAILED: "red",
    StatisticsState.ABNORMAL: "red",
}


def word_of(status: int) -> str:
    """What people call a status code."""
    return _WORDS.get(status, f"status {status}")


def style_of(status: int) -> str:
    """The colour of a status code on a terminal."""
    return _STYLES[_STATES[status]] if status in _STATES else ""


def codes_of(names: Iterable[str]) -> list[int]:
    """The codes that words stand for: `failed` is every way to fail. A number stands for itself.

    Raises:
        KeyError: there is no such word.
    """
    found: set[int] = set()
    for name in names:
        found |= {int(name)} if name.isdecimal() else _CODES[name.casefold()]
    return sorted(found)
