"""Brings event files to where a TensorBoard reads them: of results, and of jobs that still write.

What a job writes comes under its train_url when it ends. To be seen before, its event files are
copied while it runs, at the same paths below the folder that is looked at, so that nothing jumps
when it ends. They only ever grow: what is new of one is added to its copy.

A job may put anything in its folders at any moment: no link is followed there, and a depth, a
number and a size bound what one can make of this.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

FILES_MAX: Final = 10_000  # that are shown
ENTRIES_MAX: Final = 200_000  # that are looked at in one look
DEPTH_MAX: Final = 32
BYTES_MAX: Final = 16 << 30
CHUNK_BYTES: Final = 1 << 20

_NAMED: Final = "tfevents"  # as TensorBoard itself tells event files from others
_READ_ONLY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PASSABLE: Final = 0o755  # whatever the server's umask is
_READABLE: Final = 0o644
_PLUGINS: Final = "plugins"  # a folder of more that it reads: profiles, projections


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder with event files in it, and where they show up."""

    folder: Path
    place: str = ""  # below the folder that is looked at; "": there itself


@dataclass(slots=True)
class _Copy:
    """What has been copied of one file."""

    source: tuple[int, int]  # device and inode: another file of that name is copied anew
    size: int


_NOTHING: Final = _Copy((-1, -1), 0)


class TooMuchError(Exception):
    """A bound is reached; the message says which, for people."""


@dataclass(slots=True)
class EventFiles:
    """The copies for one TensorBoard. One thread at a time has it."""

    target: Path
    is_over: bool = False  # set by whoever does not need them any more
    _copies: dict[str, _Copy] = field(default_factory=dict)  # by path below the target
    _byte_count: int = 0  # of them together

    def bring(self, sources: Sequence[Source]) -> str:
        """Copy what is new. Of files of one path the first source has it.

        Returns:
            why not everything is there, for people; "": it is.
        """
        _make_folder(self.target)
        seen: set[str] = set()
        trouble = ""
        for source in sources:
            try:
                for path, name, folder in _files_of(source):
                    if self.is_over:
                        return ""
                    if path not in seen:
                        seen.add(path)
                        self._bring(path, name, folder)
            except TooMuchError as error:
                trouble = str(error)
            except OSError as error:
                trouble = f"Some event files cannot be copied: {error.strerror or error}."
        return trouble

    def _bring(self, path: str, name: str, folder: int) -> None:
        try:
            # A job may have put a link or a pipe in its place by now.
            handle = os.open(name, _READ_ONLY, dir_fd=folder)
        except OSError:
            return
        with os.fdopen(handle, "rb", buffering=0) as source:
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode):
                self._copy(path, source, status)

    def _copy(self, path: str, source: BinaryIO, status: os.stat_result) -> None:
        target = self.target / path
        inode = (status.st_dev, status.st_ino)
        known = self._copies.get(path, _NOTHING)
        is_the_same = known.source == inode and known.size <= status.st_size
        start = known.size if is_the_same and _size_of(target) == known.size else 0
        if is_the_same and start == status.st_size:
            return
        self._check_bounds(path, known.size, status.st_size)
        if start:
            with target.open("ab") as file:
                size = _add(source, file, start=start, end=status.st_size)
        else:
            _make_folder(target.parent)
            draft = target.with_name(f".{target.name}.new")
            with draft.open("wb") as file:
                os.fchmod(file.fileno(), _READABLE)
                size = _add(source, file, start=0, end=status.st_size)
            draft.replace(target)
        self._copies[path] = _Copy(inode, size)
        self._byte_count += size - known.size

    def _check_bounds(self, path: str, size_before: int, size: int) -> None:
        if path not in self._copies and len(self._copies) >= FILES_MAX:
            raise TooMuchError(f"Only the first {FILES_MAX} event files are shown.")
        if self._byte_count - size_before + size > BYTES_MAX:
            raise TooMuchError(
                f"Only {BYTES_MAX >> 20} MiB of event files are shown; the others do not fit."
            )


def _make_folder(folder: Path) -> None:
    """With those around it, for everybody to read: a TensorBoard may run as another user."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(_PASSABLE)


def _size_of(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:
        return -1


def _add(source: BinaryIO, file: BinaryIO, *, start: int, end: int) -> int:
    """Copy that part, unless it ends before; where it was at its end."""
    source.seek(start)
    while start < end and (chunk := source.read(min(CHUNK_BYTES, end - start))):
        file.write(chunk)
        start += len(chunk)
    return start


def _files_of(source: Source) -> Iterator[tuple[str, str, int]]:
    """(path below what is looked at, name, handle of its folder) of what TensorBoard reads.

    Links are neither followed nor shown.

    Raises:
        TooMuchError: there are too many entries to look at.
    """
    count = 0
    places = [source.place] if source.place else []
    top = os.fspath(source.folder)
    # A job has not written yet, or has just ended.
    with suppress(FileNotFoundError, NotADirectoryError):
        for parent, folders, names, handle in os.fwalk(top):
            count += len(folders) + len(names)
            if count > ENTRIES_MAX:
                raise TooMuchError(f"Only the first {ENTRIES_MAX} files were looked at.")
            below = os.path.relpath(parent, top)
            parts = [] if below == "." else below.split("/")
            if len(parts) >= DEPTH_MAX:
                folders.clear()
            is_plugin = _PLUGINS in parts
            for name in names:
                if is_plugin or _NAMED in name:
                    with suppress(FileNotFoundError):
                        if stat.S_ISREG(os.lstat(name, dir_fd=handle).st_mode):
                            yield "/".join([*places, *parts, name]), name, handle
