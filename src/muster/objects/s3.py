"""Objects in S3, or in what speaks its language, such as OBS, MinIO and Ceph.

`s3://` keeps each bucket of muster's as a bucket of the account;
`s3://BUCKET/PREFIX` keeps all of them in one bucket, as folders below the prefix.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from muster.beneath import files_beneath, open_beneath, remove_beneath
from muster.domain.errors import (
    CodeFolderInvalid,
    InvalidRequest,
    ObjectUnknown,
    StoragePathInvalid,
    StoreUnavailable,
)
from muster.objects.porter import Porter
from muster.objects.s3bucket import (
    BucketForbidden,
    BucketMissing,
    Entry,
    ObjectChanged,
    ObjectMissing,
    S3Bucket,
    S3Options,
)
from muster.objects.s3files import (
    Listing,
    check_file_name,
    each,
    fetch_object,
    files_below,
    for_each,
    save,
    without_markers,
)
from muster.objects.s3porter import fetch_by, send_by
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

SUBMIT_SECONDS: Final = 20.0  # for a submit to wait for its code; taking it goes on
CHECK_SECONDS: Final = 3.0
FILES_AT_ONCE: Final = 8  # fetched or stored by all jobs together; as many of code
BUCKETS_REMEMBERED_MAX: Final = 1_000
SNAPSHOTS_REMEMBERED_MAX: Final = 1_000
CHANGES_MAX: Final = 3  # of code while it is copied, until a submit is refused

_ANY_BUCKET: Final = "muster-asks-whether-s3-is-there"  # an account answers that there is none


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where buckets are kept: in one bucket below a prefix, or, without one, in the account."""

    bucket: str = ""
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> "S3Place":
        """Read `s3://` or `s3://BUCKET/PREFIX`."""
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return cls(bucket, prefix.strip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}{f'/{self.prefix}' if self.prefix else ''}"


class S3Store:
    """Buckets in S3, and snapshots of code in a folder."""

    is_near = False

    def __init__(self, options: S3Options, place: S3Place, snapshots: Path) -> None:
        self.snapshots = Snapshots(snapshots)
        self.makes_buckets = bool(place.bucket)
        self._options = options
        self._place = place
        self._probe = S3Bucket(options, place.bucket or _ANY_BUCKET)
        self._buckets: dict[str, S3Bucket] = {}
        self._digests: dict[tuple[object, ...], str] = {}
        self._takings: dict[tuple[object, ...], asyncio.Task[str]] = {}
        self._lanes = asyncio.Semaphore(FILES_AT_ONCE)
        self._code_lanes = asyncio.Semaphore(FILES_AT_ONCE)  # a submit waits behind no input

    async def find_trouble(self) -> str | None:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                is_there = await self._probe.is_there()
        except TimeoutError:
            return (
                f"The object store at {self._options.shown} gave no answer within"
                f" {CHECK_SECONDS:.0f} s."
            )
        except StoreUnavailable as error:
            if not self._place.bucket and "AccessDenied" in error.message:
                return None  # it answers, and no bucket was to be expected there
            return error.message
        if self._place.bucket and not is_there:
            return (
                f"The object store at {self._options.shown} has no bucket {self._place.bucket!r},"
                f" which --objects {self._place} names. Make it there, or name another."
            )
        return None

    def _bucket(self, name: str) -> S3Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= BUCKETS_REMEMBERED_MAX:
                self._buckets.clear()
            place = self._place
            if place.bucket:
                prefix = f"{place.prefix}/{name}".lstrip("/")
                bucket = S3Bucket(self._options, place.bucket, prefix)
            else:
                bucket = S3Bucket(self._options, name)
            self._buckets[name] = bucket
        return bucket

    async def has_bucket(self, bucket: str) -> bool:
        if self._place.bucket:
            return await self._bucket(bucket).find_first("") is not None
        try:
            return await self._bucket(bucket).is_there()
        except BucketForbidden as error:
            raise StoragePathInvalid(error.message) from error  # another account's, as a rule

    async def make_bucket(self, bucket: str) -> None:
        if not self._place.bucket:
            await self._bucket(bucket).make()

    async def find(self, url: ObjectUrl, *, field: str) -> Kind | None:
        bucket = self._bucket(url.bucket)
        with self._naming(url, field):
            if url.key and not url.key.endswith("/") and await bucket.head(url.key) is not None:
                return Kind.OBJECT
            found = await bucket.find_first(url.key.rstrip("/"))
        return None if found is None else Kind.FOLDER

    @contextmanager
    def _naming(self, url: ObjectUrl, field: str) -> Iterator[None]:
        """Let errors say what of the request they are about."""
        try:
            yield
        except BucketMissing as error:
            if self._place.bucket:
                raise BucketMissing(f"{field} is '{url}': {error.message}") from error
            raise StoragePathInvalid(f"{field} is '{url}'; {error.message}") from error
        except StoreUnavailable as error:
            raise type(error)(f"{field} is '{url}': {error.message}") from error

    async def describe(self, url: ObjectUrl) -> ObjectInfo:
        return _info(await self._entry(url))

    async def _entry(self, url: ObjectUrl) -> Entry:
        entry = None
        if url.key and not url.key.endswith("/"):
            entry = await self._bucket(url.bucket).head(url.key)
        if entry is None:
            raise ObjectUnknown(f"There is no object {url}.")
        return entry

    async def open(self, url: ObjectUrl) -> tuple[AsyncGenerator[bytes, None], ObjectInfo]:
        entry = await self._entry(url)
        return self._bucket(url.bucket).read(entry), _info(entry)

    async def put(
        self, url: ObjectUrl, chunks: AsyncIterator[bytes], *, size: int | None = None
    ) -> None:
        await self._bucket(url.bucket).put(url.key, chunks, size=size)

    async def delete(self, url: ObjectUrl) -> None:
        await self._entry(url)  # S3 would not tell
        await self._bucket(url.bucket).delete(url.key)

    async def list_objects(
        self, bucket: str, prefix: str, *, after: str = ""
    ) -> Sequence[ObjectInfo]:
        folder, _, name = prefix.rpartition("/")
        begin = max(after, _just_before(prefix) if name else "")
        found: list[ObjectInfo] = []
        async for entry in self._bucket(bucket).list_entries(folder, after=begin):
            if entry.key.startswith(prefix) and entry.key > after:
                found.append(_info(entry))
            elif found or entry.key > prefix:
                break  # they come in order
            if len(found) > LIST_MAX:
                break
        return found

    # ------------------------------------------------------------------ snapshots of code

    async def list_code(self, url: ObjectUrl, *, field: str) -> Files:
        listing = await self._list_code(url, field)
        with self._naming(url, field):
            files = await self._files_of(url, listing, field)
        return [(path, entry.size) for path, entry in files]

    async def keep_code(
        self,
        url: ObjectUrl,
        *,
        field: str = "app_url",
        before_copying: Callable[[], Awaitable[None]] | None = None,
    ) -> str:
        for _ in range(CHANGES_MAX):
            listing = await self._list_code(url, field)
            key = (url, *((path, entry.size, entry.etag) for path, entry in listing))
            digest = self._digests.get(key)
            if digest is not None and await asyncio.to_thread(self.snapshots.use, digest):
                return digest
            if before_copying is not None:
                await before_copying()
            try:
                with self._naming(url, field):
                    digest = await self._take_together(key, url, listing, field)
            except (ObjectChanged, ObjectMissing):
                continue
            self._remember(key, digest)
            return digest
        raise StoreUnavailable(
            f"{field} is '{url}'; its code was changed while it was copied. Submit again when it"
            " stays as it is."
        )

    async def _take_together(
        self, key: tuple[object, ...], url: ObjectUrl, listing: Listing, field: str
    ) -> str:
        """All that submit the same code at the same time wait for one copy of it."""
        taking = self._takings.get(key)
        if taking is None:
            taking = asyncio.create_task(self._take(url, listing, field))
            self._takings[key] = taking
            taking.add_done_callback(lambda _: self._takings.pop(key, None))
        try:
            async with asyncio.timeout(SUBMIT_SECONDS):
                return await asyncio.shield(taking)
        except TimeoutError as error:
            # It goes on: a submit that comes later finds it done.
            taking.add_done_callback(partial(self._taken_late, key))
            raise StoreUnavailable(
                f"Copying the code from the object store takes longer than {SUBMIT_SECONDS:.0f} s."
                " It goes on; submit again in a while."
            ) from error

    def _taken_late(self, key: tuple[object, ...], taking: "asyncio.Task[str]") -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._remember(key, taking.result())

    async def _take(self, url: ObjectUrl, listing: Listing, field: str) -> str:
        bucket = self._bucket(url.bucket)
        with self.snapshots.taking() as taken:

            async def take(item: tuple[str, Entry]) -> None:
                path, entry = item
                file = taken / path
                file.parent.mkdir(parents=True, exist_ok=True)
                await save(bucket.read(entry), file, Progress())
                file.chmod(0o644)

            files = await self._files_of(url, listing, field)
            await for_each(each(files), take, self._code_lanes)
            return await asyncio.to_thread(self.snapshots.keep, taken, [path for path, _ in files])

    async def _files_of(self, url: ObjectUrl, listing: Listing, field: str) -> Listing:
        bucket = self._bucket(url.bucket)
        return await without_markers(bucket, url, listing, self._code_lanes, field=field)

    async def _list_code(self, url: ObjectUrl, field: str) -> Listing:
        """All that lies below the folder, marks of folders too."""
        bucket = self._bucket(url.bucket)
        listing: Listing = []
        byte_count = 0
        is_there = False
        with self._naming(url, field):
            async for path, entry in files_below(bucket, url):
                is_there = True
                if path:
                    check_file_name(url, path, field)
                    listing.append((path, entry))
                    byte_count += entry.size
                check_code_size(url, file_count=len(listing), byte_count=byte_count, field=field)
            if not is_there:
                raise CodeFolderInvalid(f"{field} is '{url}'; there is no such folder.")
        return listing

    def _remember(self, key: tuple[object, ...], digest: str) -> None:
        if len(self._digests) >= SNAPSHOTS_REMEMBERED_MAX:
            self._digests.clear()
        self._digests[key] = digest

    def snapshot_folder(self, digest: str) -> Path:
        return self.snapshots.folder(digest)

    # ------------------------------------------------------------------ inputs and results

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
        bucket = self._bucket(url.bucket)
        parts = target.with_name(f".{target.name}.parts")
        name, found = await self._find_input(url, keeps, field=field)

        async def fetch(item: tuple[str, Entry]) -> None:
            path, entry = item
            if not path or (entry.size == 0 and await bucket.head(entry.key) is None):
                return  # a folder, as some tools put one there
            check_file_name(url, path, field)
            try:
                if porter is None:
                    await fetch_object(bucket, entry, target / path, parts, progress)
                elif not await fetch_by(porter, bucket, entry, target, path, parts, progress):
                    async with self._lanes:
                        await fetch_object(bucket, entry, target / path, parts, progress)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise StoragePathInvalid(
                    f"{field} is '{url}'; the object {entry.key!r} cannot be a file: a part of its"
                    " name is an object, or objects lie below it."
                ) from error

        for folder in (target, parts):
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        with self._naming(url, field):
            await for_each(found, fetch, self._lanes if porter is None else porter.lanes)
        await asyncio.to_thread(shutil.rmtree, parts)
        return target / name

    async def weigh(
        self,
        url: ObjectUrl,
        target: Path,
        *,
        field: str,
        keeps: Callable[[str], bool] | None = None,
    ) -> tuple[Path, int]:
        name, found = await self._find_input(url, keeps, field=field)
        with self._naming(url, field):
            return target / name, sum([entry.size async for _, entry in found])

    async def _find_input(
        self, url: ObjectUrl, keeps: Callable[[str], bool] | None, *, field: str
    ) -> tuple[str, AsyncGenerator[tuple[str, Entry], None]]:
        """The name of a single object, or "", and what is wanted of all that is there."""
        kind = await self.find(url, field=field)
        if kind is None:
            raise StoragePathInvalid(f"{field} is '{url}'; there is nothing there.")
        if kind is Kind.OBJECT:
            name = url.key.rpartition("/")[2]
            with self._naming(url, field):
                return name, each([(name, await self._entry(url))])
        return "", _only(files_below(self._bucket(url.bucket), url), keeps)

    async def store_folder(
        self,
        source: Path,
        url: ObjectUrl,
        *,
        field: str,
        progress: Progress,
        porter: Porter | None = None,
    ) -> None:
        bucket = self._bucket(url.bucket)
        refused: list[InvalidRequest] = []

        async def store(path: str) -> None:
            try:
                size = await self._store_file(
                    source, path, bucket, url.below(path), porter, removes=True
                )
            except InvalidRequest as error:
                refused.append(error)  # the others can be stored
                return
            await asyncio.to_thread(remove_beneath, source, path)
            progress.file_count += 1
            progress.byte_count += size if porter is None else 0  # it counts by itself

        paths = await asyncio.to_thread(lambda: [path for path, _ in files_beneath(source)])
        with self._naming(url, field):
            await for_each(each(paths), store, self._lanes if porter is None else porter.lanes)
        if refused:
            raise refused[0]

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
        with self._naming(url, field):
            await self._store_file(root, path, self._bucket(url.bucket), url, porter)

    async def _store_file(
        self,
        root: Path,
        path: str,
        bucket: S3Bucket,
        url: ObjectUrl,
        porter: Porter | None = None,
        *,
        removes: bool = False,
    ) -> int:
        """By the porter, or else by this server; the bytes of the file."""
        if porter is None:
            return await self._put_file(root, path, bucket, url)
        size = await send_by(
            porter, bucket, url.key, root, path, removes=removes, lanes=self._lanes
        )
        if size is not None:
            return size
        async with self._lanes:
            return await self._put_file(root, path, bucket, url)

    async def _put_file(self, root: Path, path: str, bucket: S3Bucket, url: ObjectUrl) -> int:
        with os.fdopen(open_beneath(root, path), "rb") as file:
            size = os.fstat(file.fileno()).st_size

            async def chunks() -> AsyncGenerator[bytes, None]:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk

            await bucket.put(url.key, chunks(), size=size)
        return size

    async def close(self) -> None:
        takings = list(self._takings.values())
        for taking in takings:
            taking.cancel()
        await asyncio.gather(*takings, return_exceptions=True)


async def _only(
    found: AsyncGenerator[tuple[str, Entry], None], keeps: Callable[[str], bool] | None
) -> AsyncGenerator[tuple[str, Entry], None]:
    async for path, entry in found:
        if keeps is None or keeps(path):
            yield path, entry


def _info(entry: Entry) -> ObjectInfo:
    return ObjectInfo(
        key=entry.key, size=entry.size, modified_at_ms=int(entry.modified_at.timestamp() * 1000)
    )


def _just_before(prefix: str) -> str:
    """A key that comes before all that begin with the prefix, and after nearly all others."""
    number = ord(prefix[-1]) - 1
    if chr(number) == "/":
        number -= 1  # no part of a key may be empty
    if 0xD800 <= number <= 0xDFFF:
        number = 0xD7FF  # what lies between is no character
    return f"{prefix[:-1]}{chr(number)}\U0010ffff"
