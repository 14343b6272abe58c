"""Asks an instance whether it is well: by a GET, or by nothing more than a connection."""

import asyncio
from contextlib import suppress
from typing import Final

from muster.domain.model import Health

_STATUS_LINE_MAX: Final = 256
_WELL: Final = range(200, 400)


async def is_well(host: str, port: int, health: Health) -> bool:
    """Whether it answers as `health` asks for, within its time."""
    writer = None
    try:
        async with asyncio.timeout(health.timeout_seconds):
            reader, writer = await asyncio.open_connection(host, port, limit=_STATUS_LINE_MAX)
            if not health.path:
                return True
            writer.write(
                f"GET {health.path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: */*\r\n"
                "Connection: close\r\n\r\n".encode("ascii")
            )
            return _status_of(await reader.readline()) in _WELL
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with suppress(OSError):
                writer.transport.abort()  # what is left of the answer is of no interest


def _status_of(line: bytes) -> int:
    """Of `HTTP/1.1 200 OK`; 0 where it is no such line."""
    parts = line.split(maxsplit=2)
    is_http = len(parts) >= 2 and parts[0].startswith(b"HTTP/") and parts[1].isdigit()
    return int(parts[1]) if is_http else 0
