"""What a notebook's user has installed, as far as its files say.

All of them are that user's, who may put a link anywhere, at any time: none is followed.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from muster.domain.errors import ImageInvalid

_ORIGIN_FILE: Final = "direct_url.json"
_ORIGIN_BYTES_MAX: Final = 10_000
_ENTRIES_MAX: Final = 20_000
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def read_records(layer: Path) -> dict[str, bytes]:
    """The names in the folder of packages of a layer, and where each record says that it is from.

    Raises:
        ImageInvalid: there is no such folder, or it cannot be read.
    """
    try:
        with _folder(layer) as top, _folder("lib", top) as lib:
            [version] = [name for name in _names(lib) if name.startswith("python")]
            with _folder(version, lib) as python, _folder("site-packages", python) as packages:
                return {entry: _origin_of(entry, packages) for entry in _names(packages)}
    except (OSError, ValueError) as error:
        raise ImageInvalid(
            f"The notebook's environment is not as it was made ({error}). Empty its folder"
            " ($VIRTUAL_ENV in a terminal), and start the notebook again."
        ) from error


def _names(folder: int) -> list[str]:
    names = os.listdir(folder)
    if len(names) > _ENTRIES_MAX:
        raise ValueError(f"a folder has more than {_ENTRIES_MAX} entries")
    return names


@contextmanager
def _folder(path: Path | str, parent: int | None = None) -> Iterator[int]:
    opened = os.open(path, _OPEN_FOLDER, dir_fd=parent)
    try:
        yield opened
    finally:
        os.close(opened)


def _origin_of(entry: str, packages: int) -> bytes:
    if not entry.endswith(".dist-info"):
        return b""
    try:
        with _folder(entry, packages) as record:
            file = os.open(_ORIGIN_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=record)
            with os.fdopen(file, "rb") as opened:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    return b"?"
                return opened.read(_ORIGIN_BYTES_MAX) or b"?"
    except FileNotFoundError:
        return b""
    except OSError:
        return b"?"  # whatever it is, it is no record of an origin
