"""One bucket of an S3 account, or a part of one, as obstore speaks to it.

Errors leave here in muster's words. Keys never get into a message.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store as Client

from muster.domain.errors import BodyTooLarge, StoragePathInvalid, StoreUnavailable
from muster.objects.porter import SIGNED_SECONDS
from muster.objects.s3signing import sign_again
from muster.objects.store import CHUNK_BYTES, LIST_MAX

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Config, S3Credential

PART_BYTES: Final = 8 << 20  # S3 takes parts from 5 MiB on
PARTS_MAX: Final = 10_000  # of one object, by S3
PARTS_AT_ONCE: Final = 3  # of one object; so many parts of it are in memory
REQUEST_SECONDS: Final = 10.0  # for anything but the bytes of an object
CONNECT_SECONDS: Final = 3
STALL_SECONDS: Final = 30  # without a byte, a connection counts as cut
TRANSFER_SECONDS: Final = 3_600  # for one request, however many bytes it moves
RETRIES: Final = 3  # of one request
READ_TRIES: Final = 5  # to go on with an object that was cut, without a byte in between
READ_BACKOFF_SECONDS: Final = 0.2  # after the first cut; twice as long after each further one

_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_NO_BUCKET: Final = frozenset({"NoSuchBucket", "InvalidBucketName"})
_BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # of S3; ours are wider
_FORBIDDEN: Final = frozenset({"AccessDenied", "AllAccessDisabled"})
_WHY_NO_BUCKET: Final = {
    "BucketAlreadyExists": "the name is taken by another account",
    "InvalidBucketName": "a name has 3 to 63 lower-case letters, digits, '-' and '.'",
    "TooManyBuckets": "the account may have no more",
    "AccessDenied": "this server's keys may not make any (s3:CreateBucket)",
}
_REFUSED: Final = re.compile(r"status code: (401|403)\b")

T = TypeVar("T")
Method = Literal["GET", "POST", "PUT"]


class BucketMissing(StoreUnavailable):
    """S3 has no such bucket."""


class KeysRefused(StoreUnavailable):
    """S3 does not let this server's keys do it."""


class BucketForbidden(KeysRefused):
    """The keys are known, and may not use this bucket."""


class ObjectChanged(StoreUnavailable):
    """The object is another one than it was when it was listed."""


class ObjectMissing(StoreUnavailable):
    """There is no such object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """How to reach an account. What is None is found as AWS's own tools find it."""

    endpoint: str | None = None  # None: AWS, by region
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    path_style: bool | None = None  # None: where an endpoint is given

    @property
    def shown(self) -> str:
        return self.endpoint or "AWS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An object as S3 lists it."""

    key: str
    size: int
    modified_at: datetime
    etag: str | None

    @classmethod
    def of(cls, meta: "ObjectMeta") -> "Entry":
        return cls(
            key=meta["path"],
            size=meta["size"],
            modified_at=meta["last_modified"],
            etag=meta["e_tag"],
        )


class S3Bucket:
    """The objects of a bucket whose keys begin with a prefix; keys are told without it."""

    def __init__(self, options: S3Options, name: str, prefix: str = "") -> None:
        self.name = name
        self._shown = options.shown
        self._location = _location(options.region)
        self._secret_key = options.secret_key
        self._client = _client(options, name, prefix)

    async def is_there(self) -> bool:
        """Whether S3 has the bucket, whatever is in it."""
        try:
            await self.find_first("")
        except BucketMissing:
            return False
        return True

    async def make(self) -> None:
        """Make it in the account; it may be there already.

        Raises:
            StoragePathInvalid: S3 refuses to.
        """
        if not _BUCKET_NAME.fullmatch(self.name):
            raise self._refusal("InvalidBucketName")
        # obstore makes no buckets, but it signs the address that makes one.
        address = await self._asked(
            lambda: obstore.sign_async(self._client, "PUT", "", timedelta(seconds=REQUEST_SECONDS))
        )
        reply = await self._asked(lambda: _put(address, self._location))
        match = _CODE.search(reply.text)
        code = match[1] if match else f"HTTP {reply.status_code}"
        if reply.is_success or code == "BucketAlreadyOwnedByYou":
            return
        if reply.is_server_error:
            raise self.failed(f"has failed ({code})")
        raise self._refusal(code)

    def _refusal(self, code: str) -> StoragePathInvalid:
        return StoragePathInvalid(
            f"There is no bucket {self.name!r}, and the object store at {self._shown} makes none:"
            f" {_WHY_NO_BUCKET.get(code, code)}."
        )

    async def find_first(self, folder: str) -> Entry | None:
        """Some object below a folder."""
        return await self._asked(lambda: self._find_first(folder))

    async def _find_first(self, folder: str) -> Entry | None:
        async for page in obstore.list(self._client, folder or None, chunk_size=1):
            for meta in page:
                return Entry.of(meta)
        return None

    async def head(self, key: str) -> Entry | None:
        """None: there is no such object, or no such bucket: S3 does not tell one from the other."""
        try:
            return Entry.of(await self._asked(lambda: obstore.head_async(self._client, key)))
        except (ObjectMissing, BucketMissing):
            return None

    async def list_entries(self, folder: str, *, after: str = "") -> AsyncGenerator[Entry, None]:
        """Everything below a folder whose key comes after `after`, in key order."""
        try:
            pages = obstore.list(
                self._client, folder or None, offset=after or None, chunk_size=LIST_MAX
            ).__aiter__()
        except _LIBRARY_ERRORS as error:
            raise self._translated(error) from error
        while (page := await self._asked(lambda: anext(pages, None))) is not None:
            for meta in page:
                yield Entry.of(meta)

    async def read(self, entry: Entry, *, start: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes of an object from `start`. A connection that is cut is made again.

        Raises:
            ObjectChanged, ObjectMissing: it is not what was listed any more.
            StoreUnavailable: it was cut READ_TRIES times without a byte in between.
        """
        at, cuts = start, 0
        while at < entry.size:
            try:
                async for chunk in self._read(entry, at):
                    at, cuts = at + len(chunk), 0
                    yield chunk
                if at < entry.size:
                    raise self.failed(f"ended after {at} of {entry.size} bytes", entry.key)
            except (ObjectChanged, ObjectMissing, BucketMissing, KeysRefused):
                raise
            except StoreUnavailable:
                cuts += 1
                if cuts >= READ_TRIES:
                    raise
                await asyncio.sleep(READ_BACKOFF_SECONDS * 2 ** (cuts - 1))

    async def _read(self, entry: Entry, start: int) -> AsyncGenerator[bytes, None]:
        try:
            reply = await obstore.get_async(
                self._client,
                entry.key,
                options={"if_match": entry.etag, "range": {"offset": start}}
                if start
                else {"if_match": entry.etag},
            )
            async for chunk in reply.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except _LIBRARY_ERRORS as error:
            raise self._translated(error, entry.key) from error

    async def put(self, key: str, chunks: AsyncIterator[bytes], *, size: int | None = None) -> None:
        """Store an object; of a large one, few parts are in memory at a time.

        It appears whole at the end; whatever `chunks` raises, not at all.
        """
        part_bytes = max(PART_BYTES, -(-(size or 0) // PARTS_MAX))
        begin = await _first_part(chunks, part_bytes)
        if len(begin) < part_bytes:
            await self._told(lambda: obstore.put_async(self._client, key, begin), key)
            return
        await self._told(
            lambda: obstore.put_async(
                self._client,
                key,
                _continued(begin, chunks, most=part_bytes * PARTS_MAX),
                use_multipart=True,
                chunk_size=part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            ),
            key,
        )

    async def delete(self, key: str) -> None:
        """Gone, whether it was there or not."""
        await self._asked(lambda: obstore.delete_async(self._client, key))

    @property
    def signs_parts(self) -> bool:
        """Whether `sign` takes a query: obstore, which knows the keys of a role, signs none."""
        return self._secret_key is not None

    async def sign(self, method: Method, key: str, query: Mapping[str, str] | None = None) -> str:
        """An address that one request is good by, if it begins within SIGNED_SECONDS."""
        expires = timedelta(seconds=SIGNED_SECONDS)
        try:
            address = await self._asked(
                lambda: obstore.sign_async(self._client, method, key, expires)
            )
        except TypeError as error:  # that is how it refuses a key
            raise self._translated(ValueError(str(error)), key) from error
        if not query:
            return address
        assert self._secret_key is not None, "signs_parts"
        return sign_again(address, method=method, query=query, secret_key=self._secret_key)

    async def request(
        self,
        method: Method,
        key: str,
        query: Mapping[str, str],
        content: bytes | AsyncIterator[bytes] = b"",
        *,
        length: int | None = None,
    ) -> httpx.Response:
        """The answer to what obstore does not ask; of `content` that comes in chunks, its length.

        Raises:
            ObjectMissing: what the query names is not there.
        """
        address = await self.sign(method, key, query)
        headers = {} if length is None else {"Content-Length": str(length)}
        try:
            async with httpx.AsyncClient(timeout=STALL_SECONDS) as client:
                reply = await client.request(method, address, content=content, headers=headers)
        except _LIBRARY_ERRORS as error:
            raise self._translated(error, key) from error
        if reply.is_success and not (method == "POST" and _CODE.search(reply.text)):
            return reply
        text = f"status code: {reply.status_code} {reply.text}"
        is_missing = reply.status_code == httpx.codes.NOT_FOUND
        raise self._translated(FileNotFoundError(text) if is_missing else OSError(text), key)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer that is awaited for REQUEST_SECONDS at most."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await ask()
        except TimeoutError as error:
            raise self.failed(f"gave no answer within {REQUEST_SECONDS:.0f} s") from error
        except _LIBRARY_ERRORS as error:
            raise self._translated(error) from error

    async def _told(self, tell: Callable[[], Awaitable[T]], key: str) -> T:
        try:
            return await tell()
        except _LIBRARY_ERRORS as error:
            raise self._translated(error, key) from error

    def _translated(self, error: Exception, key: str = "") -> StoreUnavailable | StoragePathInvalid:
        text = str(error)
        code = match[1] if (match := _CODE.search(text)) else ""
        if code in _NO_BUCKET:
            return BucketMissing(f"The object store at {self._shown} has no bucket {self.name!r}.")
        if isinstance(error, FileNotFoundError):
            return ObjectMissing(f"There is no object {key!r} in bucket {self.name!r}.")
        if isinstance(error, PreconditionError):
            return ObjectChanged(
                f"The object {key!r} in bucket {self.name!r} was changed while it was read."
            )
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(text):
            kind = BucketForbidden if code in _FORBIDDEN else KeysRefused
            return kind(
                f"The object store at {self._shown} refuses this server's keys for bucket"
                f" {self.name!r}{f' ({code})' if code else ''}. Its operator must give it keys that"
                " may read, write and list there."
            )
        if isinstance(error, InvalidPathError | ValueError):
            why = text.partition("\n")[0]
            return StoragePathInvalid(
                f"A key in bucket {self.name!r} cannot be used; no part of a key may be empty, '.'"
                f" or '..', or hold a control character: {why}."
            )
        if "error sending request" in text or isinstance(error, httpx.TransportError):
            return self.failed("cannot be reached", key)
        return self.failed(f"has failed ({code or _first_line(text)})", key)

    def failed(self, what: str, key: str = "") -> StoreUnavailable:
        """The error that tells so."""
        where = f"object {key!r} in bucket" if key else "bucket"
        return StoreUnavailable(
            f"The object store at {self._shown} {what}, for {where} {self.name!r}."
        )


# Besides its own, obstore raises those of Python that fit.
_LIBRARY_ERRORS: Final = (BaseError, OSError, ValueError, httpx.TransportError)


async def _put(address: str, body: bytes) -> httpx.Response:
    async with httpx.AsyncClient(timeout=REQUEST_SECONDS) as client:
        return await client.put(address, content=body)


def _location(region: str | None) -> bytes:
    """Where a new bucket is to be, as S3 wants it; nothing: in its first region."""
    if region in {None, "us-east-1"}:
        return b""
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


async def _first_part(chunks: AsyncIterator[bytes], part_bytes: int) -> bytes:
    """At least so many bytes, or all there are."""
    first = bytearray()
    async for chunk in chunks:
        first += chunk
        if len(first) >= part_bytes:
            break
    return bytes(first)


async def _continued(
    first: bytes, chunks: AsyncIterator[bytes], *, most: int
) -> AsyncGenerator[bytes, None]:
    yield first
    sent = len(first)
    async for chunk in chunks:
        sent += len(chunk)
        if sent > most:
            raise BodyTooLarge(
                f"An object whose size is not told before may have {most >> 20} MiB in S3; send it"
                " with its Content-Length."
            )
        yield chunk


def _first_line(text: str) -> str:
    """What went wrong, without the address that obstore names with it."""
    line = text.partition("\n")[0]
    return line.rpartition(" - ")[2].strip() or line[:200]


def _client(options: S3Options, name: str, prefix: str) -> Client:
    config: S3Config = {}
    is_path_style = options.path_style if options.path_style is not None else bool(options.endpoint)
    if options.endpoint:
        # By this name, so that a variable of the environment does not win over it.
        config["aws_endpoint_url_s3"] = (
            options.endpoint.rstrip("/") if is_path_style else _of_bucket(options.endpoint, name)
        )
    if options.region:
        config["region"] = options.region
    config["virtual_hosted_style_request"] = not is_path_style
    config["disable_bulk_delete"] = True  # not every store that speaks S3 has it
    return Client(
        name,
        prefix=prefix or None,
        config=config,
        credential_provider=_keys_of(options),
        client_options={
            "allow_http": (options.endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "read_timeout": timedelta(seconds=STALL_SECONDS),
            "timeout": timedelta(seconds=TRANSFER_SECONDS),
        },
        retry_config={
            "max_retries": RETRIES,
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
            "retry_timeout": timedelta(seconds=60),
        },
    )


def _keys_of(options: S3Options) -> "Callable[[], S3Credential] | None":
    """Exactly these keys; None: whatever is found as AWS's own tools find it."""
    if options.access_key is None or options.secret_key is None:
        return None
    keys: S3Credential = {
        "access_key_id": options.access_key,
        "secret_access_key": options.secret_key,
        "token": options.session_token,
        "expires_at": None,
    }
    return lambda: keys


def _of_bucket(endpoint: str, name: str) -> str:
    """The address of a bucket, where that is part of the host's name."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{name}.{parts.netloc}{parts.path.rstrip('/')}"
