"""The Protocol that every object store keeps, and the values it speaks in.

Two keep it: `folder.py`, whose bytes lie on this file system, and `s3.py`. Their contract suite is
`tests/objects/test_contract.py`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from muster.domain.errors import CodeTooLarge, CodeTooManyFiles
from muster.objects.porter import Porter
from muster.objects.snapshots import Snapshots
from muster.objects.url import ObjectUrl

LIST_MAX: Final = 1000
CODE_FILES_MAX: Final = 10_000
CODE_BYTES_MAX: Final = 1 << 30
CHUNK_BYTES: Final = 1 << 20  # what is read, written and sent at a time

Files = Sequence[tuple[str, int]]  # (path below a folder, bytes)


class Kind(Enum):
    """What lies where a URL points to."""

    OBJECT = "object"
    FOLDER = "folder"  # nothing but the objects whose keys begin with it


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    key: str
    size: int
    modified_at_ms: int


@dataclass(slots=True)
class Progress:
    """How far a transfer has come; for people."""

    file_count: int = 0
    byte_count: int = 0
    is_carried: bool = False  # by a node of the job, which it holds meanwhile


class ObjectStore(Protocol):
    """Bytes by key, in buckets. Whose a bucket is, is not known here.

    Everything that names an object or a folder may raise StoragePathInvalid, where the name cannot
    be kept, and StoreUnavailable, where the store gives no answer: then nothing has changed, and
    the same call may work later. Nothing waits for that longer than some seconds, transfers aside.
    """

    snapshots: Snapshots
    is_near: bool  # on this file system: what it holds is used where it lies
    makes_buckets: bool  # the first object makes its bucket; else `make_bucket` does

    async def find_trouble(self) -> str | None:
        """What keeps the store from working, for people; None: it answers."""

    async def has_bucket(self, bucket: str) -> bool:
        """Whether there is such a bucket."""

    async def make_bucket(self, bucket: str) -> None:
        """Make a bucket that is not there, where the first object would not make it.

        Raises:
            StoragePathInvalid: the name is no name for one, or is taken; or it may not be made.
        """

    async def find(self, url: ObjectUrl, *, field: str) -> Kind | None:
        """What lies there; None: nothing. Where both do, the object counts."""

    async def describe(self, url: ObjectUrl) -> ObjectInfo:
        """Raises ObjectUnknown where there is no such object."""

    async def open(self, url: ObjectUrl) -> tuple[AsyncGenerator[bytes, None], ObjectInfo]:
        """The object, for reading in chunks.

        Raises:
            ObjectUnknown: there is no such object.
        """

    async def put(
        self, url: ObjectUrl, chunks: AsyncIterator[bytes], *, size: int | None = None
    ) -> None:
        """Store an object. It appears whole at the end; whatever `chunks` raises, not at all.

        Args:
            url: where; the first object makes the bucket, where the store makes buckets.
            chunks: its bytes. Few of them are in memory at a time.
            size: of the whole in bytes, where it is known before.
        """

    async def delete(self, url: ObjectUrl) -> None:
        """Raises ObjectUnknown where there is no such object."""

    async def list_objects(
        self, bucket: str, prefix: str, *, after: str = ""
    ) -> Sequence[ObjectInfo]:
        """Objects whose key begins with `prefix` and comes after `after`, in key order.

        Returns:
            LIST_MAX of them, and one more where there are more.
        """

    async def list_code(self, url: ObjectUrl, *, field: str) -> Files:
        """Every file that `keep_code` would keep, in path order.

        Raises:
            CodeFolderInvalid, CodeTooManyFiles, CodeTooLarge: as `keep_code` would.
        """

    async def keep_code(
        self,
        url: ObjectUrl,
        *,
        field: str = "app_url",
        before_copying: Callable[[], Awaitable[None]] | None = None,
    ) -> str:
        """Keep the folder as it is now; return the digest that names the snapshot.

        The same content is kept once, however often it is submitted.

        Args:
            url: of the folder.
            field: of the request; errors name it.
            before_copying: run where something has to be copied; what it raises, this raises.

        Raises:
            CodeFolderInvalid: there is no such folder.
            CodeTooManyFiles, CodeTooLarge: it is no code folder any more.
        """

    def snapshot_folder(self, digest: str) -> Path:
        """Where a snapshot lies, on this file system."""

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
        """The local file or folder that holds what the URL names.

        Args:
            url: of an object or a folder.
            target: a folder to put it into, where it is not near. What an earlier call has
                fetched is not fetched again.
            field: of the request; errors name it.
            progress: counts what has been fetched.
            keeps: of a folder, which files are wanted, by their paths below it; None: all of them.
                Where nothing has to be fetched, the others are there as well.
            porter: moves the bytes, as far as it can.

        Raises:
            StoragePathInvalid: there is nothing there, or it cannot be kept in files.
        """

    async def weigh(
        self,
        url: ObjectUrl,
        target: Path,
        *,
        field: str,
        keeps: Callable[[str], bool] | None = None,
    ) -> tuple[Path, int]:
        """What `fetch` would return, and how many bytes it would have to move at most.

        Raises:
            StoragePathInvalid: there is nothing there.
        """

    async def store_folder(
        self,
        source: Path,
        url: ObjectUrl,
        *,
        field: str,
        progress: Progress,
        porter: Porter | None = None,
    ) -> None:
        """Move every file below `source` to the same place below the URL. May be done again.

        A job has written there, and no link in it is followed.
        """

    async def store_file(
        self,
        source: Path,
        url: ObjectUrl,
        *,
        field: str,
        below: str | None = None,
        porter: Porter | None = None,
    ) -> None:
        """Copy one file to the URL.

        Args:
            source: the file.
            url: where it goes.
            field: of the request; errors name it.
            below: the file's path, where `source` is a folder that a job has written to: no link
                below that is followed.
            porter: moves the bytes, as far as it can.

        Raises:
            OSError: there is no such file, or something else is in its place.
        """

    async def close(self) -> None:
        """End what is under way."""


def check_code_size(url: ObjectUrl, *, file_count: int, byte_count: int, field: str) -> None:
    """Refuse what is no code folder any more."""
    if file_count > CODE_FILES_MAX:
        raise CodeTooManyFiles(
            f"{field} is '{url}'; it holds more than {CODE_FILES_MAX} files."
            " Keep data under data_url."
        )
    if byte_count > CODE_BYTES_MAX:
        raise CodeTooLarge(
            f"{field} is '{url}'; it holds more than {CODE_BYTES_MAX >> 20} MiB."
            " Keep data under data_url."
        )
