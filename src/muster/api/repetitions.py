"""Failures that come by the hundred, such as those of an outage, in few lines of the log."""

from typing import Final

REPEAT_SECONDS: Final = 10.0
REASONS_MAX: Final = 100  # that are told apart


class Repetitions:
    """Which of many failures are worth a line: the first of a reason, then one in a while."""

    def __init__(self) -> None:
        self._kept_back: dict[str, int] = {}  # since the last line, by reason
        self._told_at: dict[str, float] = {}

    def to_tell(self, why: str, now: float) -> int | None:
        """How many of this reason no line has told of yet, beside this one; None: nor shall this.

        Args:
            why: the reason, as the line would have it.
            now: seconds of a clock that only goes forward.
        """
        told_at = self._told_at.get(why)
        if told_at is not None and now - told_at < REPEAT_SECONDS:
            self._kept_back[why] += 1
            return None
        if told_at is None and len(self._told_at) >= REASONS_MAX:
            self._told_at.clear()
            self._kept_back.clear()
        kept_back = self._kept_back.get(why, 0)
        self._told_at[why], self._kept_back[why] = now, 0
        return kept_back
