"""Keeps a folder and objects alike: fetched before a program starts, stored once it has ended.

Three are compared: what is here (files), what is there (objects), and what was alike when they were
last compared (`known`). So what was changed or deleted on one side is told from what the other side
has changed, and nothing is moved twice. Each step may be cut short anywhere and done again.
"""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from muster.beneath import (
    files_beneath,
    move_in,
    opened_folder,
    remove_beneath,
    set_time_beneath,
)
from muster.domain.errors import (
    InvalidRequest,
    ObjectUnknown,
    StoragePathInvalid,
    StoreUnavailable,
)
from muster.domain.program import Mirror
from muster.objects.store import LIST_MAX, ObjectStore, Progress
from muster.objects.url import ObjectUrl, parse_url
from muster.reconciler.transfers import NotYet, Transfers

T = TypeVar("T")

FILES_MAX: Final = 20_000  # of one folder
LANES: Final = 8  # files moved at a time
FIELD: Final = "Its storage"  # what errors call it
_KNOWN_FILE: Final = "mirror.json"  # beside the folder
_PARTS_FOLDER: Final = "fetching"  # likewise

# Of a file or an object: bytes, and when it was changed, in milliseconds. What is fetched or stored
# gets the time of its object: a file that still has it is as it was.
Stamp = tuple[int, int]
Stamps = dict[str, Stamp]  # by path below the folder


class Known(msgspec.Struct, kw_only=True):
    """What is remembered beside the folder."""

    stamps: Stamps = {}
    trouble: str = ""  # why something of the folder is not stored; for people


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    fetched: Sequence[str]
    dropped: Sequence[str]  # files of which the objects are gone
    known: Stamps  # once it is carried out


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlan:
    stored: Sequence[str]
    dropped: Sequence[str]  # objects of which the files are gone


def plan_fetch(known: Stamps, *, here: Stamps, there: Stamps) -> FetchPlan:
    """What makes the files as the objects are. A file that could not be stored is left alone."""

    def is_fetched(path: str) -> bool:
        if path not in here:
            return True
        is_same = here[path] == there[path] or known.get(path) == there[path]
        return not is_same and here[path] == known.get(path)

    fetched = {path for path in there if is_fetched(path)}
    dropped = {path for path in known if path not in there and here.get(path) == known[path]}
    alike = {path: there[path] for path in there if path in fetched or here[path] == there[path]}
    unstored = {path: known[path] for path in known if path in here and path not in dropped}
    return FetchPlan(fetched=sorted(fetched), dropped=sorted(dropped), known={**unstored, **alike})


def plan_store(known: Stamps, *, here: Stamps, there: Stamps) -> StorePlan:
    """What makes the objects as the files are, as far as they were changed or deleted here."""
    stored = [path for path in sorted(here) if path not in there or here[path] != known.get(path)]
    dropped = [p for p in sorted(known) if p not in here and there.get(p) == known[p]]
    return StorePlan(stored=stored, dropped=dropped)


# ---------------------------------------------------------------- beside the passes


async def bring_mirror(
    mirror: Mirror, *, attempt_id: str, objects: ObjectStore, transfers: Transfers
) -> NotYet | None:
    """Fetch it before an attempt starts; None: it is there.

    Raises:
        InvalidRequest: the bucket is gone, or what is in it cannot be kept in files.
    """
    return await transfers.finish(
        _fetching(attempt_id),
        "Fetching its files",
        lambda progress: fetch_mirror(mirror, objects, progress),
    )


async def cancel_mirror(attempt_id: str, transfers: Transfers) -> None:
    """Fetch no more for an attempt that will not start."""
    await transfers.cancel(_fetching(attempt_id))


async def return_mirror(
    mirror: Mirror, *, attempt_id: str, objects: ObjectStore, transfers: Transfers
) -> NotYet | None:
    """Store it once an attempt has ended; None: all is stored that can be."""
    return await transfers.finish(
        f"store {attempt_id}",
        "Storing its files",
        lambda progress: store_mirror(mirror, objects, progress),
    )


def _fetching(attempt_id: str) -> str:
    return f"mirror {attempt_id}"


# ---------------------------------------------------------------- one transfer


async def fetch_mirror(mirror: Mirror, objects: ObjectStore, progress: Progress) -> None:
    """Make the files of the folder as the objects are.

    Raises:
        InvalidRequest: the bucket is gone, or an object cannot be a file.
        StoreUnavailable, OSError: not now; what was fetched stays.
    """
    progress.file_count = progress.byte_count = 0  # of this try
    url, folder = parse_url(mirror.url, field=FIELD), Path(mirror.folder)
    there = await _objects_below(objects, url)
    known, here = await asyncio.to_thread(_prepare, folder)
    plan = plan_fetch(known, here=here, there=there)
    await asyncio.to_thread(_begin_fetch, folder, plan)
    parts = folder.with_name(_PARTS_FOLDER)

    async def fetch(path: str) -> None:
        await _fetch_file(objects, url.below(path), there[path], parts, folder, path)
        progress.file_count += 1
        progress.byte_count += there[path][0]

    await _for_each(plan.fetched, fetch)
    await asyncio.to_thread(shutil.rmtree, parts)


async def store_mirror(mirror: Mirror, objects: ObjectStore, progress: Progress) -> None:
    """Make the objects as the files of the folder are; what keeps one from it is written down.

    Raises:
        StoreUnavailable, OSError: not now; what was stored stays.
    """
    progress.file_count = progress.byte_count = 0  # of this try
    folder = Path(mirror.folder)
    known = _read(folder)
    try:
        url = parse_url(mirror.url, field=FIELD)
        there = await _objects_below(objects, url)
        here = await asyncio.to_thread(_files_of, folder)
        _check_count(url, len(here))
    except InvalidRequest as error:
        known.trouble = error.message
        await asyncio.to_thread(_write, folder, known)
        return
    plan = plan_store(known.stamps, here=here, there=there)
    troubles: list[str] = []
    stored: list[str] = []

    async def store(path: str) -> None:
        try:
            _check_key(url, url.below(path).key)
            await objects.store_file(folder, url.below(path), field=FIELD, below=path)
        except InvalidRequest as error:
            troubles.append(error.message)  # the others can be stored
            return
        stored.append(path)
        progress.file_count += 1
        progress.byte_count += here[path][0]

    async def drop(path: str) -> None:
        with suppress(ObjectUnknown):
            await objects.delete(url.below(path))

    # First: a folder may have taken the place of a file.
    await _for_each(plan.dropped, drop)
    await _for_each(plan.stored, store)
    stamps = {p: stamp for p, stamp in known.stamps.items() if p not in plan.dropped}
    if stored:
        there = await _objects_below(objects, url)
        stamps |= await asyncio.to_thread(_mark_stored, folder, stored, here, there)
    trouble = f"{troubles[0]} ({len(troubles)} files like that)" if troubles else ""
    await asyncio.to_thread(_write, folder, Known(stamps=stamps, trouble=trouble))


def read_trouble(folder: Path) -> str:
    """Why something of the folder is not stored; "": all of it is."""
    return _read(folder).trouble


def forget_trouble(folder: Path) -> None:
    """Its user has been told."""
    known = _read(folder)
    known.trouble = ""
    _write(folder, known)


async def _objects_below(objects: ObjectStore, url: ObjectUrl) -> Stamps:
    """Every object that is to be a file.

    Raises:
        StoragePathInvalid: there is no such bucket, or one of them cannot be a file.
    """
    if not await objects.has_bucket(url.bucket):
        raise StoragePathInvalid(f"{FIELD} is '{url}'; there is no bucket {url.bucket!r}.")
    found: Stamps = {}
    after = ""
    while page := await objects.list_objects(url.bucket, url.key, after=after):
        for info in page[:LIST_MAX]:
            after = info.key
            if not info.key.endswith("/"):  # that is how some tools mark a folder
                _check_key(url, info.key)
                found[info.key.removeprefix(url.key)] = (info.size, info.modified_at_ms)
        _check_count(url, len(found))
        if len(page) <= LIST_MAX:
            break
    for folder in {parent for path in found for parent in _parents(path)} & found.keys():
        if found.pop(folder)[0]:
            raise StoragePathInvalid(
                f"{FIELD} is '{url}'; {folder!r} below it is an object, and objects lie below"
                " that: they cannot both be files."
            )
    return found


def _check_count(url: ObjectUrl, count: int) -> None:
    if count > FILES_MAX:
        raise StoragePathInvalid(
            f"{FIELD} is '{url}'; it holds more than {FILES_MAX} files, the most of a notebook."
        )


def _check_key(url: ObjectUrl, key: str) -> None:
    """Refuse what is a key and no path in a file system, or the other way round."""
    text = f"/{url.bucket}/{key}"
    try:
        is_same = str(parse_url(text, field=FIELD)) == text
    except UnicodeEncodeError:
        is_same = False
    if not is_same:
        raise StoragePathInvalid(
            f"{FIELD} is '{url}'; {key!r} cannot be both an object and a file."
        )


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


async def _fetch_file(
    objects: ObjectStore, url: ObjectUrl, stamp: Stamp, parts: Path, folder: Path, path: str
) -> None:
    """It appears whole, with the time of its object."""
    part = parts / hashlib.sha256(url.key.encode()).hexdigest()
    try:
        chunks, info = await objects.open(url)
    except ObjectUnknown as error:
        raise StoreUnavailable(f"The object '{url}' has just been deleted.") from error
    try:
        with part.open("wb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
            # It is known already: emptied by a power loss, it would look like one that was changed
            # here, and be stored over the object.
            await asyncio.to_thread(_keep_on_disk, file)
    finally:
        await chunks.aclose()
    if info.size != stamp[0] or part.stat().st_size != stamp[0]:
        raise StoreUnavailable(f"The object '{url}' has just been changed.")
    os.utime(part, ns=(stamp[1] * 1_000_000,) * 2)
    await asyncio.to_thread(move_in, part, folder, path)


def _keep_on_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


async def _for_each(paths: Sequence[str], do: Callable[[str], Awaitable[T]]) -> None:
    """LANES of them at a time; an error ends it once those under way have ended."""
    for start in range(0, len(paths), LANES):
        lanes = [do(path) for path in paths[start : start + LANES]]
        for result in await asyncio.gather(*lanes, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


# ---------------------------------------------------------------- files


def _prepare(folder: Path) -> tuple[Stamps, Stamps]:
    """(what is known, what is here), once nothing is left of an earlier try."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder.with_name(_PARTS_FOLDER))
    return _read(folder).stamps, _files_of(folder)


def _begin_fetch(folder: Path, plan: FetchPlan) -> None:
    """Make room for what is to be fetched, and write down what is known then."""
    for path in (*plan.dropped, *plan.fetched):
        # Before it is known: else an old file would look like one that was changed here.
        remove_beneath(folder, path)
    _make_folders(folder, plan.fetched)
    _write(folder, Known(stamps=plan.known))
    folder.with_name(_PARTS_FOLDER).mkdir()


def _files_of(folder: Path) -> Stamps:
    """Regular files only: a link could lead anywhere."""
    return {
        path: (status.st_size, status.st_mtime_ns // 1_000_000)
        for path, status in files_beneath(folder)
    }


def _make_folders(folder: Path, paths: Sequence[str]) -> None:
    """For what is to be fetched.

    Raises:
        StoragePathInvalid: a file or a link is in the way, or a folder is where a file is to be.
    """
    for path in paths:
        parent, _, name = path.rpartition("/")
        try:
            with opened_folder(folder, parent, makes_it=True) as opened:
                is_free = not _is_there(name, opened)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            is_free = False
        if not is_free:
            raise StoragePathInvalid(
                f"{FIELD} cannot be fetched: {path!r} is an object, and something else of that"
                " name is in the notebook, which is not stored."
            )


def _mark_stored(folder: Path, stored: Sequence[str], here: Stamps, there: Stamps) -> Stamps:
    """Give each file the time of its object; the stamps of those that are alike now."""
    found = _files_of(folder)
    alike = {
        path: there[path]
        for path in stored
        if path in there and found.get(path) == here[path] and there[path][0] == here[path][0]
    }
    for path, stamp in alike.items():
        set_time_beneath(folder, path, stamp[1] * 1_000_000)
    return alike


def _is_there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _read(folder: Path) -> Known:
    """What is remembered; nothing, where it cannot be read: then files win over objects."""
    try:
        return msgspec.json.decode(folder.with_name(_KNOWN_FILE).read_bytes(), type=Known)
    except (FileNotFoundError, msgspec.DecodeError):
        return Known()


def _write(folder: Path, known: Known) -> None:
    file = folder.with_name(_KNOWN_FILE)
    draft = file.with_suffix(".draft")
    with draft.open("wb") as out:
        out.write(msgspec.json.encode(known))
        _keep_on_disk(out)
    draft.replace(file)
