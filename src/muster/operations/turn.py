"""Answers that are shared by all who ask within one turn of the event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class SharedInTurn:
    """Remembers what was asked of something outside, no longer than it may be told to others.

    Whoever asks in this turn of the loop had sent the request before the turn began: an answer
    found since then is one that its own question could have got. In the next turn it is gone, so
    that nobody misses what was changed before he asked.
    """

    _answers: dict[Hashable, Any] = field(default_factory=dict)
    _turn: int = 0
    _is_ending: bool = False

    async def ask(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer for `key`. One that takes longer than this turn is its asker's alone."""
        if key in self._answers:
            answer: T = self._answers[key]
            return answer
        if not self._is_ending:
            self._is_ending = True
            asyncio.get_running_loop().call_soon(self._end_turn)
        turn = self._turn
        answer = await ask()
        if turn == self._turn:
            self._answers[key] = answer
        return answer

    def _end_turn(self) -> None:
        self._answers.clear()
        self._turn += 1
        self._is_ending = False
