"""Snapshots of code: folders named by the digest of what they hold, so that none ever changes.

They lie in the data folder, whatever store the code came from: all servers of one database and all
nodes of a cluster share that folder, and a job starts without asking the object store for its code.
Everything here blocks: call it in a thread.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from muster.domain.errors import StoreUnavailable

_TOUCHED_SECONDS: Final = 3_600  # a snapshot that is used all the time is not touched each time
_TAKING: Final = ".taking-"
_DROPPING: Final = ".dropping-"


class Snapshots:
    """A folder of snapshots. Any number of threads and servers may use it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def folder(self, digest: str) -> Path:
        return self._root / digest

    @contextmanager
    def taking(self) -> Iterator[Path]:
        """A folder to gather the files of a snapshot in, before `keep`; gone at the end."""
        try:
            folder = Path(tempfile.mkdtemp(dir=self._root, prefix=_TAKING))
        except OSError as error:
            raise _cannot_copy(error) from error
        try:
            yield folder
        except OSError as error:
            raise _cannot_copy(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, taken: Path, paths: Iterable[str]) -> str:
        """Make a folder of `taking` the snapshot of its content; return the digest of that.

        Args:
            taken: the folder, which is gone afterwards.
            paths: of its files, in order.
        """
        digest = hashlib.sha256()
        for path in paths:
            file = taken / path
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
            mode = file.stat().st_mode & 0o777
            digest.update(f"{len(path)}:{path}:{mode:o}:".encode() + content)
        name = digest.hexdigest()
        if not self.use(name):
            try:
                taken.rename(self._root / name)
            except OSError:
                if not self.use(name):
                    raise
        return name

    def use(self, digest: str) -> bool:
        """Whether there is such a snapshot; from now on it counts as just used."""
        folder = f"{self._root}/{digest}"
        try:
            if time.time() - os.stat(folder).st_mtime <= _TOUCHED_SECONDS:  # noqa: PTH116 - quick
                return True  # nobody drops one that was used so lately
            with self._locked(fcntl.LOCK_SH):
                os.utime(folder)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Other threads, and other servers on the same folder, wait for it too."""
        handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)

    def list_unused(self, *, idle_seconds: float) -> list[str]:
        """Digests of the snapshots that nobody has taken for so long."""
        return [
            entry.name
            for entry in self._root.iterdir()
            if not entry.name.startswith(".") and _is_idle(entry, idle_seconds)
        ]

    def drop(self, digest: str, *, idle_seconds: float) -> bool:
        """Remove a snapshot, unless it was taken again meanwhile; whether it is gone.

        Whoever takes it at the same moment either keeps it here, or finds none and copies anew.
        """
        assert idle_seconds > _TOUCHED_SECONDS, "one that is in use is touched so seldom"
        folder = self._root / digest
        doomed = self._root / f"{_DROPPING}{digest}-{time.time_ns()}"
        with self._locked(fcntl.LOCK_EX):
            if not folder.is_dir():
                return True
            if not _is_idle(folder, idle_seconds):
                return False
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return True

    def drop_remnants(self, *, idle_seconds: float) -> None:
        """Remove what a server that was killed has left of a snapshot, half taken or half gone."""
        for entry in self._root.iterdir():
            if entry.name.startswith((_TAKING, _DROPPING)) and _is_idle(entry, idle_seconds):
                shutil.rmtree(entry, ignore_errors=True)


def _cannot_copy(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"The code cannot be copied at the moment: {error.strerror}.")


def _is_idle(folder: Path, idle_seconds: float) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > idle_seconds
    except FileNotFoundError:
        return False
