"""Where a program answers, as its shim has written it down; see `domain/jobfolder.py`."""

import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Final

import msgspec

from muster.domain.jobfolder import endpoint_file

REMEMBERED_MAX: Final = 10_000
_BYTES_MAX: Final = 4096


class _Endpoint(msgspec.Struct):
    host: str
    port: int


class Endpoints:
    """Where attempts listen, read once of each: it stays the same as long as one runs."""

    def __init__(self, jobs_folder: Path) -> None:
        self._jobs_folder = jobs_folder
        self._found: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def find(self, attempt_id: str) -> tuple[str, int] | None:
        """As `read_endpoint`."""
        found = self._found.get(attempt_id)
        if found is None:
            found = read_endpoint(self._jobs_folder / attempt_id)
            if found is None:
                return None
            self._found[attempt_id] = found
            if len(self._found) > REMEMBERED_MAX:
                self._found.popitem(last=False)
        return found

    def forget(self, attempt_id: str) -> None:
        """Nothing listens there: look again the next time."""
        self._found.pop(attempt_id, None)


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
