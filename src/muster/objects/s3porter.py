"""What a porter is given to do for a transfer, and what the server does of it itself."""

import asyncio
import hashlib
import os
import uuid
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from muster.beneath import open_beneath, read_beneath
from muster.objects.porter import Fetch, Porter, Send
from muster.objects.s3bucket import PARTS_MAX, Entry, S3Bucket
from muster.objects.s3files import each, for_each, is_fetched, modified_ns, part_name
from muster.objects.s3uploads import (
    UPLOAD_ID_LENGTH_MAX,
    begin_upload,
    complete_upload,
    list_parts,
)
from muster.objects.store import CHUNK_BYTES, Progress

WHOLE_BYTES_MAX: Final = 32 << 20  # what is sent at once; more goes in parts
PUT_BYTES_MAX: Final = 5 << 30  # of S3: what can be sent at once
PART_BYTES: Final = 16 << 20
PARTS_AT_ONCE: Final = 16  # of one file
_MEMORY_BYTES_MAX: Final = 1 << 20  # of one upload: the ETags of 10,000 parts and more


class Upload(msgspec.Struct, kw_only=True):
    """What is remembered of an upload in parts, until the job's folder goes."""

    upload_id: str
    part_bytes: int
    etags: dict[int, str] = {}  # of all parts, once they are to become an object


async def fetch_by(
    porter: Porter, bucket: S3Bucket, entry: Entry, root: Path, path: str, parts: Path,
    progress: Progress,
) -> bool:  # fmt: skip
    """Have an object fetched into a file, unless it is there; False: it was not."""
    if is_fetched(root / path, entry):
        progress.byte_count += entry.size
    else:
        errand = Fetch(
            root=str(root),
            path=path,
            # Not the server's own: a node that was taken for dead may still write to it.
            part=str(parts / f"{part_name(entry)}.node"),
            size=entry.size,
            etag=entry.etag or "",
            modified_ns=modified_ns(entry),
        )
        if await porter.carry(errand, lambda: bucket.sign("GET", entry.key)) is None:
            return False
    progress.file_count += 1
    return True


async def send_by(
    porter: Porter,
    bucket: S3Bucket,
    key: str,
    root: Path,
    path: str,
    *,
    removes: bool,
    lanes: asyncio.Semaphore,
) -> int | None:
    """Have a file stored; its bytes, or None: it was not.

    Args:
        porter: has it stored.
        bucket: where.
        key: likewise.
        root: a folder that a job has written to; no link below it is followed.
        path: of the file, below it.
        removes: it may be removed once it is stored.
        lanes: for what the server sends itself.

    Raises:
        StoreUnavailable: parts of it are stored, and stay for the next try.
    """
    size = await asyncio.to_thread(_size, root, path)
    if size > WHOLE_BYTES_MAX and bucket.signs_parts:
        await _InParts(porter, bucket, key, root, path, size, lanes).send()
        return size
    if size > PUT_BYTES_MAX:
        return None
    errand = Send(root=str(root), path=path, size=size, start=0, length=size, removes=removes)
    etag = await porter.carry(errand, lambda: bucket.sign("PUT", key))
    return None if etag is None else size


def _size(root: Path, path: str) -> int:
    fd = open_beneath(root, path)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def part_bytes_of(size: int) -> int:
    """As S3 allows only so many parts, those of a very large object are larger."""
    return max(PART_BYTES, -(-size // PARTS_MAX))


class _InParts:
    """One file that is stored in parts. S3 knows which of them it has."""

    def __init__(
        self, porter: Porter, bucket: S3Bucket, key: str, root: Path, path: str, size: int,
        lanes: asyncio.Semaphore,
    ) -> None:  # fmt: skip
        self.porter, self.bucket, self.key = porter, bucket, key
        self.root, self.path, self.size, self.lanes = root, path, size, lanes
        self.part_bytes = part_bytes_of(size)
        digest = hashlib.sha256(f"{key}\0{size}".encode()).hexdigest()
        self.memory = porter.memory / f"upload-{digest[:32]}.json"

    async def send(self) -> None:
        upload = await asyncio.to_thread(self._recall)
        stored = None
        if upload is not None:
            stored = await list_parts(self.bucket, self.key, upload.upload_id)
            if stored is None and upload.etags and await self._is_there():
                return  # it was completed, and nobody lived to tell
        if upload is None or stored is None:
            upload_id = await begin_upload(self.bucket, self.key)
            upload, stored = Upload(upload_id=upload_id, part_bytes=self.part_bytes), {}
            await asyncio.to_thread(self._remember, upload)
        missing = set(range(1, -(-self.size // self.part_bytes) + 1)) - stored.keys()
        etags = dict(stored)

        async def send(number: int) -> None:
            etags[number] = await self._send_part(upload.upload_id, number)

        await for_each(each(sorted(missing)), send, asyncio.Semaphore(PARTS_AT_ONCE))
        upload.etags = etags
        await asyncio.to_thread(self._remember, upload)
        await complete_upload(self.bucket, self.key, upload.upload_id, upload.etags)

    async def _send_part(self, upload_id: str, number: int) -> str:
        start = (number - 1) * self.part_bytes
        length = min(self.part_bytes, self.size - start)
        query = {"partNumber": str(number), "uploadId": upload_id}
        errand = Send(
            root=str(self.root), path=self.path, size=self.size, start=start, length=length,
            removes=False, upload=upload_id,
        )  # fmt: skip
        sign = partial(self.bucket.sign, "PUT", self.key, query)
        etag = await self.porter.carry(errand, sign)
        if etag:
            return etag
        async with self.lanes:
            chunks = self._read(start, length)
            reply = await self.bucket.request("PUT", self.key, query, chunks, length=length)
        return str(reply.headers["ETag"])

    async def _read(self, start: int, length: int) -> AsyncGenerator[bytes, None]:
        with os.fdopen(await asyncio.to_thread(open_beneath, self.root, self.path), "rb") as file:
            for at in range(start, start + length, CHUNK_BYTES):
                most = min(CHUNK_BYTES, start + length - at)
                yield await asyncio.to_thread(os.pread, file.fileno(), most, at)

    async def _is_there(self) -> bool:
        found = await self.bucket.head(self.key)
        return found is not None and found.size == self.size

    def _recall(self) -> Upload | None:
        memory = self.porter.memory  # a job may have put anything there
        try:
            text = read_beneath(memory, self.memory.name, limit=_MEMORY_BYTES_MAX)
            upload = msgspec.json.decode(text, type=Upload)
        except (OSError, msgspec.DecodeError):
            return None
        is_ours = upload.part_bytes == self.part_bytes
        return upload if is_ours and len(upload.upload_id) <= UPLOAD_ID_LENGTH_MAX else None

    def _remember(self, upload: Upload) -> None:
        draft = self.memory.with_name(f".{uuid.uuid4().hex}")
        draft.write_bytes(msgspec.json.encode(upload))
        draft.replace(self.memory)
