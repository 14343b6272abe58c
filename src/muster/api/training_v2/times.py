"""Times: taken in epoch milliseconds, told as text."""

from datetime import UTC, datetime
from typing import Final

TIME_MS_MAX: Final = 253_402_300_799_000  # the end of the year 9999


def rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).isoformat()
