"""Who moves objects in the server's place: requests to S3 by addresses that the server signs.

What is signed follows from what the server itself has listed, never from what a porter says: nobody
can ask for an address.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

SIGNED_SECONDS: Final = 900  # for a request to begin; S3 lets one that has begun go on


class Fetch(msgspec.Struct, frozen=True, kw_only=True, tag="fetch"):
    """An object that is to become a file."""

    root: str  # a folder that is there
    path: str  # of the file, below it
    part: str  # where it grows until it is whole
    size: int
    etag: str  # of what was listed; "": S3 has told none
    modified_ns: int


class Send(msgspec.Struct, frozen=True, kw_only=True, tag="send"):
    """A file, or a part of one, that is to be stored."""

    root: str
    path: str
    size: int  # of the whole file
    start: int
    length: int
    removes: bool  # once it is stored
    upload: str = ""  # that it is a part of


Errand = Fetch | Send


def name_of(errand: Errand) -> str:
    """The same for the same errand, whichever server gives it."""
    return hashlib.sha256(msgspec.json.encode(errand)).hexdigest()[:32]


class Porter(Protocol):
    """Moves bytes for one transfer. Errands are independent of each other."""

    memory: Path  # a folder for what the next server has to know of uploads
    lanes: asyncio.Semaphore  # for so many errands at a time

    async def carry(self, errand: Errand, sign: Callable[[], Awaitable[str]]) -> str | None:
        """The ETag that S3 gave it, or ""; None: it was not done, and the server is to do it.

        Args:
            errand: may be given again, by another server too.
            sign: an address for it, good for SIGNED_SECONDS; asked for again when it was too late.
        """
