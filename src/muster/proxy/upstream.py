"""Where a request is passed on to, and how that may end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from muster.proxy.connection import Connection

ANSWER_SECONDS: Final = 3600.0  # where nobody says otherwise


class Outcome(StrEnum):
    """How a request ended, as far as its program is concerned."""

    ANSWERED = "answered"  # whatever its status
    CLIENT_LEFT = "client left"
    REFUSED = "refused"  # by muster: its body is too large, or it has too many connections
    UNREACHABLE = "unreachable"  # no connection: nothing of the request has reached it
    TIMED_OUT = "timed out"  # nothing came within `answer_seconds`
    BROKEN = "broken"  # the connection ended in the middle, or what came is no HTTP


@dataclass(slots=True)
class Hold:
    """What a site has of a request that is under way: it may end one that is left lying."""

    connection: Connection | None = None  # that it goes over; None: it goes over none

    @property
    def silent_seconds(self) -> float:
        """How long nothing has come of the program, or since it was asked."""
        return float("inf") if self.connection is None else self.connection.silent_seconds

    def end_if_silent(self, seconds: float, failure: Exception) -> None:
        """End it, unless it has moved since, or waits for its client and not for the program."""
        if self.connection is not None:
            self.connection.end_if_silent(seconds, failure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The program that a request is passed on to, and how.

    `host` and `port` come from its `endpoint.json` (`domain/jobfolder.py`).
    """

    host: str
    port: int
    path: str  # what to ask it for, starting with "/", encoded; refused when it climbs
    query: str = ""  # without the "?"; what is for muster alone (`token`) has been taken out
    prefix: str = ""  # what the client's path has before `path`: put before the paths it answers
    headers: Mapping[str, str] = field(default_factory=dict)  # in place of the client's
    reply_headers: tuple[tuple[str, str], ...] = ()  # added to the answer, such as a cookie to set
    key: str = ""  # whose it is (a notebook, an instance); websockets are counted by it
    answer_seconds: float = ANSWER_SECONDS  # for its first byte, and between two of them
    request_bytes_max: int | None = None  # of its body; None: what the server allows
    hold: Hold = field(default_factory=Hold)

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path
