"""Objects in a folder: the object `/bucket/key` is the file `ROOT/bucket/key`.

No path ever leaves its bucket, by dots or by links. What takes long runs in a thread; a few
questions to the file system are asked in the event loop, as they are on the way of each submit.
"""

import asyncio
import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from weakref import WeakValueDictionary

from muster.beneath import files_beneath, open_beneath, remove_beneath, take_out
from muster.domain.errors import (
    CodeFolderInvalid,
    ObjectUnknown,
    StoragePathInvalid,
    StoreUnavailable,
)
from muster.objects.porter import Porter
from muster.objects.snapshots import Snapshots
from muster.objects.store import (
    CHUNK_BYTES,
    LIST_MAX,
    Files,
    Kind,
    ObjectInfo,
    Progress,
    check_code_size,
)
from muster.objects.url import ObjectUrl

QUICK_ENTRIES_MAX: Final = 16  # of a code folder that may be looked through in the event loop

# A file that changed so recently may change again without a new time stamp: read it each time.
_SETTLED_SECONDS: Final = 2.0
_SNAPSHOTS_REMEMBERED: Final = 1_000


@dataclass(slots=True, weakref_slot=True)
class _Copies:
    """Copies of one code folder, one after another: as long as somebody waits for one."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    digest: str | None = None  # what the last one came to; None: it failed, or is under way


class FolderStore:
    """Buckets as folders under one root, and snapshots of code beside them."""

    is_near = True
    makes_buckets = True

    def __init__(self, root: Path, snapshots: Path) -> None:
        self._root = root
        self.snapshots = Snapshots(snapshots)
        self._uploads = root / ".uploads"  # no bucket can have this name
        self._digests: dict[tuple[object, ...], str] = {}
        self._copies: WeakValueDictionary[ObjectUrl, _Copies] = WeakValueDictionary()
        for folder in (root, self._uploads):
            folder.mkdir(parents=True, exist_ok=True)

    async def find_trouble(self) -> str | None:
        if os.access(self._root, os.R_OK | os.W_OK | os.X_OK):
            return None
        return f"The folder of the object store, {self._root}, cannot be written."

    async def has_bucket(self, bucket: str) -> bool:
        return self._has_bucket(bucket)

    async def make_bucket(self, bucket: str) -> None:
        pass  # its first object will

    def _has_bucket(self, bucket: str) -> bool:
        return os.path.isdir(f"{self._root}/{bucket}")  # noqa: PTH112 - on the way of each submit

    async def find(self, url: ObjectUrl, *, field: str) -> Kind | None:
        return self._find(url, field)

    def _find(self, url: ObjectUrl, field: str) -> Kind | None:
        path = self.local_path(url, field=field)
        if path.is_file():
            return Kind.OBJECT
        return Kind.FOLDER if path.exists() else None

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

    async def put(
        self, url: ObjectUrl, chunks: AsyncIterator[bytes], *, size: int | None = None
    ) -> None:
        with self._writing(url) as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)

    @contextmanager
    def _writing(self, url: ObjectUrl) -> Iterator[BinaryIO]:
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

    async def describe(self, url: ObjectUrl) -> ObjectInfo:
        file, info = await asyncio.to_thread(self._open, url)
        file.close()
        return info

    async def open(self, url: ObjectUrl) -> tuple[AsyncGenerator[bytes, None], ObjectInfo]:
        file, info = await asyncio.to_thread(self._open, url)
        return _read_chunks(file), info

    def _open(self, url: ObjectUrl) -> tuple[BinaryIO, ObjectInfo]:
        file = self._object_file(url).open("rb")
        status = os.fstat(file.fileno())
        return file, ObjectInfo(
            key=url.key, size=status.st_size, modified_at_ms=int(status.st_mtime * 1000)
        )

    def _object_file(self, url: ObjectUrl) -> Path:
        path = self.local_path(url, field="key")
        if url.key.endswith("/") or not path.is_file():
            raise _object_unknown(url)
        return path

    async def delete(self, url: ObjectUrl) -> None:
        await asyncio.to_thread(self._delete, url)

    def _delete(self, url: ObjectUrl) -> None:
        path = self._object_file(url)
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

    async def list_objects(
        self, bucket: str, prefix: str, *, after: str = ""
    ) -> Sequence[ObjectInfo]:
        return await asyncio.to_thread(self._list_objects, bucket, prefix, after)

    def _list_objects(self, bucket: str, prefix: str, after: str) -> list[ObjectInfo]:
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

    async def keep_code(
        self,
        url: ObjectUrl,
        *,
        field: str = "app_url",
        before_copying: Callable[[], Awaitable[None]] | None = None,
    ) -> str:
        # The hop to a thread costs more than everything else that is asked of the objects: only
        # where there is something to copy.
        digest = self.find_snapshot(url, field=field)
        if digest is None:
            digest = await self._snapshot_together(url, field, before_copying)
        return digest

    async def _snapshot_together(
        self, url: ObjectUrl, field: str, before_copying: Callable[[], Awaitable[None]] | None
    ) -> str:
        """As `snapshot`; those who wait for one copy share the next.

        A folder that has just changed is copied for every submit: many at once wait for two.
        """
        copies = self._copies.setdefault(url, _Copies())
        begun = copies.begun
        async with copies.turn:
            # One that has begun since this caller asked has all that was there by then.
            if copies.begun == begun or copies.digest is None:
                if before_copying is not None:
                    await before_copying()
                copies.begun += 1
                copies.digest = None
                copies.digest = await asyncio.to_thread(self.snapshot, url, field=field)
            return copies.digest

    def snapshot(self, url: ObjectUrl, *, field: str = "app_url") -> str:
        """As `keep_code`, in a thread of the caller's."""
        folder = self.local_path(url, field=field)
        if not folder.is_dir():
            raise CodeFolderInvalid(f"{field} is '{url}'; there is no such folder.")
        listing = _code_listing(folder, url, field=field)
        key = (folder, *listing)
        digest = self._digests.get(key)
        if digest is None or not self.snapshots.use(digest):
            digest = self._keep(folder, [path for path, *_ in listing])
            if _is_settled(listing):
                self._remember(key, digest)
        return digest

    def find_snapshot(self, url: ObjectUrl, *, field: str = "app_url") -> str | None:
        """What `snapshot` would return, if that can be told without reading a file.

        Quick enough for the event loop: it looks at the entries of a small folder, nothing else.
        A folder that is large, has just changed or was never kept is for `snapshot` to look at.

        Raises:
            StoragePathInvalid: a link leads out of the bucket.
        """
        folder = self.local_path(url, field=field)
        try:
            listing = _quick_listing(str(folder))
        except OSError:
            return None
        digest = self._digests.get((folder, *listing)) if listing is not None else None
        if digest is None or not self.snapshots.use(digest):
            return None
        return digest

    async def list_code(self, url: ObjectUrl, *, field: str) -> Files:
        return await asyncio.to_thread(self._list_code, url, field)

    def _list_code(self, url: ObjectUrl, field: str) -> Files:
        folder = self.local_path(url, field=field)
        if not folder.is_dir():
            raise CodeFolderInvalid(f"{field} is '{url}'; there is no such folder.")
        return [(path, size) for path, size, *_ in _code_listing(folder, url, field=field)]

    def snapshot_folder(self, digest: str) -> Path:
        return self.snapshots.folder(digest)

    def _keep(self, folder: Path, paths: list[str]) -> str:
        """Copy first, then name the copy by what was copied: it cannot change any more."""
        with self.snapshots.taking() as taken:
            for path in paths:
                copy = taken / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / path, copy)
            return self.snapshots.keep(taken, paths)

    def _remember(self, key: tuple[object, ...], digest: str) -> None:
        if len(self._digests) >= _SNAPSHOTS_REMEMBERED:
            self._digests.clear()
        self._digests[key] = digest

    async def fetch(
        self,
        url: ObjectUrl,
        target: Path,
        *,
        field: str,
        progress: Progress,
        keeps: Callable[[str], bool] | None = None,
        porter: Porter | None = None,
    ) -> Path:
        return self.local_path(url, field=field)

    async def weigh(
        self,
        url: ObjectUrl,
        target: Path,
        *,
        field: str,
        keeps: Callable[[str], bool] | None = None,
    ) -> tuple[Path, int]:
        return self.local_path(url, field=field), 0  # nothing is moved

    async def store_folder(
        self,
        source: Path,
        url: ObjectUrl,
        *,
        field: str,
        progress: Progress,
        porter: Porter | None = None,
    ) -> None:
        await asyncio.to_thread(self._store_folder, source, url, field)

    def _store_folder(self, source: Path, url: ObjectUrl, field: str) -> None:
        refused: list[StoragePathInvalid] = []
        for path, _ in list(files_beneath(source)):
            try:
                self._take_file(source, path, url.below(path), field)
            except StoragePathInvalid as error:
                refused.append(error)  # the others can be stored
        if refused:
            raise refused[0]

    def _take_file(self, source: Path, path: str, url: ObjectUrl, field: str) -> None:
        """Move a file that a job has left, or copy it where it cannot be moved."""
        target = self.local_path(url, field=field)
        self._make_parents(url, target)
        if target.is_dir():
            raise StoragePathInvalid(f"{field}: '{url}' is to be an object, and is a folder.")
        draft = self._uploads / f"taken-{uuid.uuid4().hex}"
        try:
            take_out(source, path, draft)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._store_file(source, path, url)
            remove_beneath(source, path)
            return
        draft.replace(target)

    async def store_file(
        self,
        source: Path,
        url: ObjectUrl,
        *,
        field: str,
        below: str | None = None,
        porter: Porter | None = None,
    ) -> None:
        root, path = (source.parent, source.name) if below is None else (source, below)
        await asyncio.to_thread(self._store_file, root, path, url)

    def _store_file(self, root: Path, path: str, url: ObjectUrl) -> None:
        with os.fdopen(open_beneath(root, path), "rb") as file, self._writing(url) as target:
            shutil.copyfileobj(file, target, CHUNK_BYTES)

    async def close(self) -> None:
        """Nothing is under way that its caller does not wait for."""


async def _read_chunks(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


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


def _code_listing(folder: Path, url: ObjectUrl, *, field: str) -> list[_Entry]:
    """Every file of a code folder, in path order."""
    listing: list[_Entry] = []
    byte_count = 0
    for entry in _scan(str(folder), ""):
        byte_count += entry[1]
        listing.append(entry)
        check_code_size(url, file_count=len(listing), byte_count=byte_count, field=field)
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
