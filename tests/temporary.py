"""Where tests keep their files: in memory, where there is enough of it.

What a test writes is gone a moment later, and waiting for a disk was a third of the time.
`PYTEST_DEBUG_TEMPROOT=/tmp` keeps the files on the disk.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import psutil

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
_FREE_BYTES_MIN: Final = 4 << 30  # a run of all tests takes a tenth of it
_NAME: Final = "PYTEST_DEBUG_TEMPROOT"  # pytest's own, and so that of tmp_path


def choose_temporary_folder() -> None:
    """For this process and those that it starts. Left alone where somebody has chosen."""
    if _NAME not in os.environ and _has_room():
        os.environ[_NAME] = str(_MEMORY)


def temporary_folder() -> Path:
    """Its path is short: those of sockets end at 107 characters."""
    return Path(os.environ.get(_NAME, tempfile.gettempdir()))


def _has_room() -> bool:
    """Programs are run from there, too; some machines do not allow that, or give it 64 MiB."""
    try:
        flags = os.statvfs(_MEMORY).f_flag
        free = min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available)
    except OSError:
        return False
    is_usable = os.access(_MEMORY, os.W_OK) and not flags & (os.ST_NOEXEC | os.ST_RDONLY)
    return is_usable and free >= _FREE_BYTES_MIN
