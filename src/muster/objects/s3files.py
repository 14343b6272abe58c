"""Objects of S3 as files of a folder, and files as objects: many at a time, each of them once."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from muster.domain.errors import CodeFolderInvalid, StoragePathInvalid, StoreUnavailable
from muster.objects.s3bucket import Entry, S3Bucket
from muster.objects.store import Progress
from muster.objects.url import KEY_PART_LENGTH_MAX, ObjectUrl

T = TypeVar("T")

Listing = list[tuple[str, Entry]]  # by path below the folder


async def files_below(bucket: S3Bucket, url: ObjectUrl) -> AsyncGenerator[tuple[str, Entry], None]:
    """(path below the URL, entry) of every object; that of a mark of the folder itself is empty."""
    folder = url.key.rstrip("/")
    skipped = len(folder) + 1 if folder else 0
    async for entry in bucket.list_entries(folder):
        yield entry.key[skipped:], entry


async def without_markers(
    bucket: S3Bucket, url: ObjectUrl, listing: Listing, lanes: asyncio.Semaphore, *, field: str
) -> Listing:
    """In path order, without the empty objects that some tools put where a folder is to be seen."""
    parents = {parent for path, _ in listing for parent in _parents(path)}
    kept: dict[str, Entry] = {}

    async def look(item: tuple[str, Entry]) -> None:
        path, entry = item
        if path in parents and entry.size:
            raise CodeFolderInvalid(
                f"{field} is '{url}'; {path!r} is an object, and objects lie below it: they cannot"
                " both be files."
            )
        if path in parents or (entry.size == 0 and await bucket.head(entry.key) is None):
            return
        kept[path] = entry

    await for_each(each(listing), look, lanes)
    return sorted(kept.items())


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def check_file_name(url: ObjectUrl, path: str, field: str) -> None:
    """Refuse what is a key in S3, and no path in a file system."""
    parts = path.split("/")
    is_too_long = max(len(part.encode()) for part in parts) > KEY_PART_LENGTH_MAX
    if is_too_long or not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
        raise StoragePathInvalid(
            f"{field} is '{url}'; the object {path!r} below it cannot be a file: each part of its"
            f" name must have 1 to {KEY_PART_LENGTH_MAX} bytes, and be neither '.' nor '..'."
        )


async def fetch_object(
    bucket: S3Bucket, entry: Entry, file: Path, parts: Path, progress: Progress
) -> None:
    """Fetch an object into a file, unless it is there; half of one is gone on with."""
    if is_fetched(file, entry):
        progress.byte_count += entry.size
    else:
        part = parts / part_name(entry)
        start = part.stat().st_size if entry.etag and part.exists() else 0
        if start > entry.size:
            start = 0
        progress.byte_count += start
        await save(bucket.read(entry, start=start), part, progress, start=start)
        if part.stat().st_size != entry.size:
            # A server that was taken for dead has written to it, too.
            part.unlink()
            raise StoreUnavailable(f"The object {entry.key!r} was written to by two at a time.")
        os.utime(part, ns=(modified_ns(entry), modified_ns(entry)))
        file.parent.mkdir(parents=True, exist_ok=True)
        part.replace(file)
    progress.file_count += 1


def is_fetched(file: Path, entry: Entry) -> bool:
    try:
        status = file.lstat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (entry.size, modified_ns(entry))


def modified_ns(entry: Entry) -> int:
    """The time that its file gets."""
    return int(entry.modified_at.timestamp()) * 1_000_000_000


def part_name(entry: Entry) -> str:
    """What half a file is called: by the version of its object."""
    return hashlib.sha256(f"{entry.key}\0{entry.etag}".encode()).hexdigest()


async def save(
    chunks: AsyncGenerator[bytes, None], file: Path, progress: Progress, *, start: int = 0
) -> None:
    with file.open("ab" if start else "wb") as opened:
        async for chunk in chunks:
            await asyncio.to_thread(opened.write, chunk)
            progress.byte_count += len(chunk)


async def for_each(
    items: AsyncGenerator[T, None], do: Callable[[T], Awaitable[None]], lanes: asyncio.Semaphore
) -> None:
    """Do it for all of them, as many at a time as there are lanes; an error ends the rest."""
    tasks: set[asyncio.Task[None]] = set()
    try:
        async for item in items:
            await lanes.acquire()
            task = asyncio.ensure_future(_done(do(item)))
            task.add_done_callback(lambda _: lanes.release())
            tasks = {other for other in tasks if not _is_finished(other)} | {task}
        while tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks = {other for other in tasks if not _is_finished(other)}
    finally:
        await items.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def each(items: Sequence[T]) -> AsyncGenerator[T, None]:
    for item in items:
        yield item


async def _done(work: Awaitable[None]) -> None:
    await work


def _is_finished(task: "asyncio.Task[None]") -> bool:
    """Raises what it has raised."""
    if not task.done():
        return False
    task.result()
    return True
