"""Answers that are shared by all who ask within one turn of the event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Asked:
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answers: list[Any] = field(default_factory=list)  # the one; none where there was an error


@dataclass(slots=True)
class SharedInTurn:
    """Knows what was asked of something outside, no longer than it may be told to others.

    Whoever asks in this turn of the loop had sent the request before the turn began: an answer
    found since then is one that its own question could have got, however long it takes. In the
    next turn the question is gone, so that nobody misses what was changed before he asked.
    """

    _asked: dict[Hashable, _Asked] = field(default_factory=dict)  # in this turn

    async def ask(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer for `key`. Where it is an error, each of the others asks for himself."""
        asked = self._asked.get(key)
        if asked is not None:
            await asked.ended.wait()
            return asked.answers[0] if asked.answers else await ask()
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._asked.clear)
        asked = self._asked[key] = _Asked()
        try:
            answer = await ask()
            asked.answers.append(answer)
        finally:
            asked.ended.set()
        return answer
