"""Where a page ended, as clients hand it back: opaque to them, and theirs to keep for ever.

It names the last thing shown, so that what comes and goes between two pages shifts nothing.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from muster.domain.errors import QueryInvalid

_PREFIX = b"after:"


def cursor_after(name: str) -> str:
    return urlsafe_b64encode(_PREFIX + name.encode()).decode()


def name_before(cursor: str) -> str:
    """The name of the last thing shown; "" on the first page.

    Raises:
        QueryInvalid: the text is no cursor of ours.
    """
    if not cursor:
        return ""
    try:
        decoded = urlsafe_b64decode(cursor.encode("ascii"))
        if not decoded.startswith(_PREFIX):
            raise _no_cursor(cursor)
        return decoded.removeprefix(_PREFIX).decode()
    except (binascii.Error, UnicodeError) as error:
        raise _no_cursor(cursor) from error


def numbered_cursor(number: int) -> str:
    """Where events are listed, a cursor has the form of a UUID."""
    return str(UUID(int=number))


def number_before(cursor: str) -> int | None:
    """The number of the last event shown; None on the first page."""
    if not cursor:
        return None
    try:
        number = UUID(cursor).int
    except ValueError as error:
        raise _no_cursor(cursor) from error
    if number >= 1 << 63:
        raise _no_cursor(cursor)
    return number


def _no_cursor(cursor: str) -> QueryInvalid:
    return QueryInvalid(
        f"continue is {cursor[:100]!r}; it must be metadata.continue of the page before, or empty."
    )
