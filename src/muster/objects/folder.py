"""Objects in a folder: the object `/bucket/key` is the file `ROOT/bucket/key`.

No path ever leaves its bucket, by dots or by links. Everything here blocks: call it in a thread.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from muster.domain.errors import (
    CodeFolderInvalid,
    CodeTooLarge,
    CodeTooManyFiles,
    ObjectUnknown,
    StoragePathInvalid,
    StoreUnavailable,
)

BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
KEY_LENGTH_MAX: Final = 1024
KEY_PART_LENGTH_MAX: Final = 255  # as file systems have it
LIST_MAX: Final = 1000
CODE_FILES_MAX: Final = 10_000
CODE_BYTES_MAX: Final = 1 << 30
COPY_CHUNK_BYTES: Final = 1 << 20
URLS_REMEMBERED_MAX: Final = 1_000
QUICK_ENTRIES_MAX: Final = 16  # of a code folder that may be looked through in the event loop

# A file that changed so recently may change again without a new time stamp: read it each time.
_SETTLED_SECONDS: Final = 2.0
_SNAPSHOTS_REMEMBERED: Final = 1_000
_TOUCHED_SECONDS: Final = 3_600  # a snapshot that is used all the time is not touched each time
_TAKING: Final = ".taking-"
_DROPPING: Final = ".dropping-"


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """A bucket and a key in it; the key of a bucket itself is empty."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"/{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    key: str
    size: int
    modified_at_ms: int


@lru_cache(URLS_REMEMBERED_MAX)
def parse_url(text: str, *, field: str) -> ObjectUrl:
    """Read `/bucket/key`, `obs://bucket/key` or `s3://bucket/key`.

    Raises:
        StoragePathInvalid: it is none of these, or climbs out of its bucket.
    """
    path = re.sub(r"^(obs|s3)://", "/", text)
    bucket, _, key = path.removeprefix("/").partition("/")
    if not path.startswith("/") or not BUCKET_NAME.fullmatch(bucket):
        raise StoragePathInvalid(
            f"{field} is {text!r}; it must be /BUCKET/KEY or obs://BUCKET/KEY, the bucket of 1 to"
            " 63 letters, digits, '.', '_' and '-'."
        )
    return ObjectUrl(bucket, _checked_key(key, text, field))


def _checked_key(key: str, text: str, field: str) -> str:
    parts = key.split("/")
    if ".." in parts or "." in parts or "\0" in key or "\\" in key:
        raise StoragePathInvalid(
            f"{field} is {text!r}; a path may not contain '.', '..', '\\' or a zero byte as a part:"
            " it must stay inside its bucket."
        )
    for what, most, length in (
        ("is", KEY_LENGTH_MAX, len(key.encode())),
        ("has a part that is", KEY_PART_LENGTH_MAX, max(len(part.encode()) for part in parts)),
    ):
        if length > most:
            raise StoragePathInvalid(
                f"{field} {what} {length} bytes long; at most {most} are allowed."
            )
    return "/".join(part for part in parts if part) + ("/" if key.endswith("/") else "")


class FolderStore:
    """Buckets as folders under one root, and snapshots of code beside them."""

    def __init__(self, root: Path, snapshots: Path) -> None:
        self._root = root
        self._snapshots = snapshots
        self._uploads = root / ".uploads"  # no bucket can have this name
        self._digests: dict[tuple[object, ...], str] = {}
        for folder in (root, snapshots, self._uploads):
            folder.mkdir(parents=True, exist_ok=True)

    def has_bucket(self, bucket: str) -> bool:
        return os.path.isdir(f"{self._root}/{bucket}")  # noqa: PTH112 - on the way of each submit

    def local_path(self, url: ObjectUrl, *, field: str) -> Path:
        """The file or folder that the URL names, whether it is there or not.

        Raises:
            StoragePathInvalid: a link leads out of the bucket.
        """
        bucket = self._root / url.bucket
        path = bucket / url.key
        # To resolve a path asks the system about each part of it: only where there is a link.
        if self._has_link(url) and not _leads_into(path, bucket):
            raise StoragePathInvalid(f"{field} is '{url}'; a link in it leads out of its bucket.")
        return path

    def _has_link(self, url: ObjectUrl) -> bool:
        path = str(self._root)
        for part in (url.bucket, *filter(None, url.key.split("/"))):
            path = f"{path}/{part}"
            if os.path.islink(path):  # noqa: PTH114 - text paths: this is on the way of each submit
                return True
        return False

    @contextmanager
    def writing(self, url: ObjectUrl) -> Iterator[BinaryIO]:
        """A file to write the object to; it appears whole at the end, or not at all."""
        path = self.local_path(url, field="key")
        handle, name = tempfile.mkstemp(dir=self._uploads)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            self._make_parents(url, path)
            temporary.chmod(0o644)
            temporary.replace(path)
        except IsADirectoryError as error:
            raise StoragePathInvalid(
                f"key is {url.key!r}; a folder of that name exists."
            ) from error
        except OSError as error:
            raise StoreUnavailable(
                f"The object store cannot be written: {error.strerror}."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _make_parents(self, url: ObjectUrl, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise StoragePathInvalid(
                f"key is {url.key!r}; a part of it is an object, so nothing can lie below it."
            ) from error

    def open(self, url: ObjectUrl) -> tuple[BinaryIO, ObjectInfo]:
        """The object for reading.

        Raises:
            ObjectUnknown: there is no such object.
        """
        path = self.local_path(url, field="key")
        if not path.is_file():
            raise _object_unknown(url)
        file = path.open("rb")
        status = os.fstat(file.fileno())
        return file, ObjectInfo(
            key=url.key, size=status.st_size, modified_at_ms=int(status.st_mtime * 1000)
        )

    def delete(self, url: ObjectUrl) -> None:
        path = self.local_path(url, field="key")
        if not path.is_file():
            raise _object_unknown(url)
        path.unlink()
        self._drop_empty_parents(url.bucket, path.parent)

    def _drop_empty_parents(self, bucket: str, folder: Path) -> None:
        """A folder is only there because of the objects in it."""
        while folder != self._root / bucket:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def list_objects(self, bucket: str, prefix: str, *, after: str = "") -> list[ObjectInfo]:
        """Objects whose key begins with `prefix` and comes after `after`, in key order."""
        root = self._root / bucket
        found = []
        for path in _files_below(root / prefix.rpartition("/")[0]):
            key = path.relative_to(root).as_posix()
            if key.startswith(prefix) and key > after:
                status = path.stat()
                found.append(
                    ObjectInfo(
                        key=key,
                        size=status.st_size,
                        modified_at_ms=int(status.st_mtime * 1000),
                    )
                )
        return sorted(found, key=lambda info: info.key)[: LIST_MAX + 1]

    def snapshot(self, url: ObjectUrl) -> str:
        """Keep the folder as it is now; return the digest that names the copy.

        The same content is kept once, however often it is submitted.

        Raises:
            CodeFolderInvalid: there is no such folder.
            CodeTooManyFiles, CodeTooLarge: it is no code folder any more.
        """
        folder = self.local_path(url, field="app_url")
        if not folder.is_dir():
            raise CodeFolderInvalid(f"app_url is '{url}'; there is no such folder.")
        listing = _code_listing(folder, url)
        key = (folder, *listing)
        digest = self._digests.get(key)
        if digest is None or not self._use_snapshot(digest):
            digest = self._keep(folder, [path for path, *_ in listing])
            if _is_settled(listing):
                self._remember(key, digest)
        return digest

    def find_snapshot(self, url: ObjectUrl) -> str | None:
        """What `snapshot` would return, if that can be told without reading a file.

        Quick enough for the event loop: it looks at the entries of a small folder, nothing else.
        A folder that is large, has just changed or was never kept is for `snapshot` to look at.

        Raises:
            StoragePathInvalid: a link leads out of the bucket.
        """
        folder = self.local_path(url, field="app_url")
        try:
            listing = _quick_listing(str(folder))
        except OSError:
            return None
        digest = self._digests.get((folder, *listing)) if listing is not None else None
        if digest is None or not self._use_snapshot(digest):
            return None
        return digest

    def list_code(self, url: ObjectUrl, *, field: str) -> list[tuple[str, int]]:
        """(path below it, size) of every file that `snapshot` would keep, in path order.

        Raises:
            CodeFolderInvalid, CodeTooManyFiles, CodeTooLarge: as `snapshot` would.
        """
        folder = self.local_path(url, field=field)
        if not folder.is_dir():
            raise CodeFolderInvalid(f"{field} is '{url}'; there is no such folder.")
        return [(path, size) for path, size, *_ in _code_listing(folder, url, field=field)]

    def snapshot_folder(self, digest: str) -> Path:
        return self._snapshots / digest

    def _keep(self, folder: Path, paths: list[str]) -> str:
        """Copy first, then name the copy by what was copied: it cannot change any more."""
        temporary = Path(tempfile.mkdtemp(dir=self._snapshots, prefix=_TAKING))
        try:
            digest = hashlib.sha256()
            for path in paths:
                copy = temporary / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / path, copy)
                content = hashlib.sha256(copy.read_bytes()).digest()
                mode = copy.stat().st_mode & 0o777
                digest.update(f"{len(path)}:{path}:{mode:o}:".encode() + content)
            name = digest.hexdigest()
            if not self._use_snapshot(name):
                try:
                    temporary.rename(self._snapshots / name)
                except OSError:
                    if not self._use_snapshot(name):
                        raise
        except OSError as error:
            raise StoreUnavailable(
                f"The code cannot be copied at the moment: {error.strerror}."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return name

    def _use_snapshot(self, digest: str) -> bool:
        """Whether there is such a snapshot; from now on it counts as just used."""
        folder = f"{self._snapshots}/{digest}"
        try:
            if time.time() - os.stat(folder).st_mtime <= _TOUCHED_SECONDS:  # noqa: PTH116 - ditto
                return True  # nobody drops one that was used so lately
            with self._locked_snapshots(fcntl.LOCK_SH):
                os.utime(folder)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _locked_snapshots(self, kind: int) -> Iterator[None]:
        """Other threads, and other servers on the same folder, wait for it too."""
        handle = os.open(self._snapshots, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, kind)
            yield
        finally:
            os.close(handle)

    def list_unused_snapshots(self, *, idle_seconds: float) -> list[str]:
        """Digests of the snapshots that nobody has taken for so long."""
        return [
            entry.name
            for entry in self._snapshots.iterdir()
            if not entry.name.startswith(".") and _is_idle(entry, idle_seconds)
        ]

    def drop_snapshot(self, digest: str, *, idle_seconds: float) -> bool:
        """Remove a snapshot, unless it was taken again meanwhile; whether it is gone.

        Whoever takes it at the same moment either keeps it here, or finds none and copies anew.
        """
        assert idle_seconds > _TOUCHED_SECONDS, "one that is in use is touched so seldom"
        folder = self._snapshots / digest
        doomed = self._snapshots / f"{_DROPPING}{digest}-{time.time_ns()}"
        with self._locked_snapshots(fcntl.LOCK_EX):
            if not folder.is_dir():
                return True
            if not _is_idle(folder, idle_seconds):
                return False
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        return True

    def drop_remnants(self, *, idle_seconds: float) -> None:
        """Remove what a server that was killed has left of a snapshot, half taken or half gone."""
        for entry in self._snapshots.iterdir():
            if entry.name.startswith((_TAKING, _DROPPING)) and _is_idle(entry, idle_seconds):
                shutil.rmtree(entry, ignore_errors=True)

    def _remember(self, key: tuple[object, ...], digest: str) -> None:
        if len(self._digests) >= _SNAPSHOTS_REMEMBERED:
            self._digests.clear()
        self._digests[key] = digest

    def store_folder(self, source: Path, url: ObjectUrl) -> None:
        """Move every file below `source` to the same place below the URL. May be done again."""
        for path in list(_files_below(source)):
            relative = path.relative_to(source).as_posix()
            target_url = ObjectUrl(url.bucket, f"{url.key.rstrip('/')}/{relative}".lstrip("/"))
            target = self.local_path(target_url, field="train_url")
            self._make_parents(target_url, target)
            shutil.move(path, target)

    def store_file(self, source: Path, url: ObjectUrl) -> None:
        """Copy one file to the URL."""
        with source.open("rb") as file, self.writing(url) as target:
            shutil.copyfileobj(file, target, COPY_CHUNK_BYTES)


def _is_idle(folder: Path, idle_seconds: float) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > idle_seconds
    except FileNotFoundError:
        return False


def _leads_into(path: Path, bucket: Path) -> bool:
    try:
        return path.resolve().is_relative_to(bucket.resolve())
    except (OSError, RuntimeError):  # links that lead to each other
        return False


def _object_unknown(url: ObjectUrl) -> ObjectUnknown:
    return ObjectUnknown(f"There is no object {url}.")


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files only: a link could lead anywhere."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


# Of one file: relative path, size, time of change in ns, inode. The time is that of the inode:
# nobody can set it back, and a new mode changes it, too.
_Entry = tuple[str, int, int, int]


def _code_listing(folder: Path, url: ObjectUrl, *, field: str = "app_url") -> list[_Entry]:
    """Every file of a code folder, in path order."""
    listing: list[_Entry] = []
    total_bytes = 0
    for entry in _scan(str(folder), ""):
        total_bytes += entry[1]
        listing.append(entry)
        if len(listing) > CODE_FILES_MAX:
            raise CodeTooManyFiles(
                f"{field} is '{url}'; it holds more than {CODE_FILES_MAX} files."
                " Keep data under data_url."
            )
        if total_bytes > CODE_BYTES_MAX:
            raise CodeTooLarge(
                f"{field} is '{url}'; it holds more than {CODE_BYTES_MAX >> 20} MiB."
                " Keep data under data_url."
            )
    return sorted(listing)


def _quick_listing(folder: str) -> list[_Entry] | None:
    """As `_code_listing`, of a folder with few entries; None: there are too many."""
    listing: list[_Entry] = []
    waiting, left = [(folder, "")], QUICK_ENTRIES_MAX
    while waiting:
        path, prefix = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return None
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                elif entry.is_file(follow_symlinks=False):
                    listing.append(_entry_of(entry, prefix))
    return sorted(listing)


def _scan(folder: str, prefix: str) -> Iterator[_Entry]:
    """Regular files below a folder, as `_files_below`, with what their entries tell."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file(follow_symlinks=False):
                yield _entry_of(entry, prefix)


def _entry_of(entry: "os.DirEntry[str]", prefix: str) -> _Entry:
    status = entry.stat(follow_symlinks=False)
    return f"{prefix}{entry.name}", status.st_size, status.st_ctime_ns, status.st_ino


def _is_settled(listing: list[_Entry]) -> bool:
    newest_ns = max((changed_ns for _, _, changed_ns, _ in listing), default=0)
    return time.time_ns() - newest_ns > _SETTLED_SECONDS * 1e9
