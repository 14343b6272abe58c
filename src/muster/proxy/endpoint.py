"""Where a program answers, as its shim has written it down; see `domain/jobfolder.py`."""

import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from muster.domain.jobfolder import endpoint_file

_BYTES_MAX: Final = 4096


class _Endpoint(msgspec.Struct):
    host: str
    port: int


def read_endpoint(folder: Path, task_index: int = 0) -> tuple[str, int] | None:
    """(host, port) of a task; None: it does not say yet, or what is there is none of ours.

    It stays the same as long as the attempt runs. A program owns its folder, and might put anything
    in the place of the file: a link is not followed, a pipe not waited for.

    Args:
        folder: of the attempt.
        task_index: of the task.
    """
    try:
        fd = os.open(
            endpoint_file(folder, task_index),
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        )
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        told = msgspec.json.decode(os.read(fd, _BYTES_MAX), type=_Endpoint)
    except (OSError, msgspec.DecodeError):
        return None
    finally:
        os.close(fd)
    if not told.host or not 0 < told.port < 1 << 16:
        return None
    return told.host, told.port
