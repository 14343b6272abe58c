"""Our object API: what people and the command line reach buckets through."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256

from muster.api.authenticate import declared_hash
from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain.errors import ObjectUnknown, SignatureWrong
from muster.objects.store import LIST_MAX, ObjectInfo
from muster.objects.url import ObjectUrl, parse_url
from muster.operations.buckets import make_bucket
from muster.store import buckets
from muster.wire.decode import decode_query
from muster.wire.objects import BucketList, ObjectList, ObjectRow, ObjectsQuery, StoredObject


async def _own_url(services: Services, request: Request) -> ObjectUrl:
    """The object that the path names, in a bucket of the caller's; else as if it were not there."""
    url = _url(request)
    project_id = request.caller.project_id
    if not await services.database.read(buckets.may_use_bucket, project_id, url.bucket):
        raise ObjectUnknown(f"There is no object {url}.")
    return url


def _url(request: Request) -> ObjectUrl:
    bucket, key = request.params
    url = parse_url(f"/{bucket}/{key}", field="path")
    if url.bucket != bucket:  # an encoded slash in the bucket's segment
        raise ObjectUnknown(f"There is no bucket {bucket!r}.")
    return url


async def put_object(services: Services, request: Request) -> Reply:
    """Store the body; the first object makes the bucket. It appears whole, or not at all."""
    url = _url(request)
    if not url.key or url.key.endswith("/"):
        raise ObjectUnknown(f"'{url}' names a folder; an object needs a name after the last '/'.")
    project_id = request.caller.project_id
    is_there = await services.objects.has_bucket(url.bucket)
    if is_there or services.objects.makes_buckets:
        is_own = await services.database.write(
            buckets.claim_bucket, project_id, url.bucket, is_there=is_there
        )
    else:
        is_own = await make_bucket(services.database, services.objects, project_id, url.bucket)
    if not is_own:
        raise ObjectUnknown(f"This project has no bucket {url.bucket!r}, and the name is taken.")
    expected = declared_hash(request)
    digest = sha256()
    size = 0

    async def checked_chunks() -> AsyncIterator[bytes]:
        nonlocal size
        async for chunk in request.chunks():
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        if expected is not None and digest.hexdigest() != expected.lower():
            raise SignatureWrong("The body is not the one that was signed.")

    await services.objects.put(url, checked_chunks(), size=_declared_size(request))
    return json_reply(
        StoredObject(bucket=url.bucket, key=url.key, size=size, sha256=digest.hexdigest())
    )


def _declared_size(request: Request) -> int | None:
    """None: it is sent in pieces until there are no more."""
    declared = request.header("content-length") or ""
    return int(declared) if declared.isascii() and declared.isdecimal() else None


async def get_object(services: Services, request: Request) -> Reply:
    url = await _own_url(services, request)
    chunks, info = await services.objects.open(url)
    return Reply(200, chunks, _object_headers(info))


async def head_object(services: Services, request: Request) -> Reply:
    url = await _own_url(services, request)
    info = await services.objects.describe(url)
    return Reply(200, _nothing(), _object_headers(info))


def _object_headers(info: ObjectInfo) -> list[tuple[bytes, bytes]]:
    modified = datetime.fromtimestamp(info.modified_at_ms / 1000, UTC)
    return [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(info.size).encode()),
        (b"last-modified", modified.strftime("%a, %d %b %Y %H:%M:%S GMT").encode()),
    ]


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield  # makes this a generator


async def delete_object(services: Services, request: Request) -> Reply:
    url = await _own_url(services, request)
    await services.objects.delete(url)
    return Reply(204, b"", [])


async def list_objects(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, ObjectsQuery)
    bucket = parse_url(f"/{request.params[0]}/", field="path").bucket
    if bucket != request.params[0]:
        raise ObjectUnknown(f"There is no bucket {request.params[0]!r}.")
    prefix = parse_url(f"/{bucket}/{query.prefix}", field="prefix").key
    project_id = request.caller.project_id
    is_own = await services.database.read(buckets.may_use_bucket, project_id, bucket)
    if not is_own or not await _is_bucket(services, project_id, bucket):
        raise ObjectUnknown(f"This project has no bucket {bucket!r}.")
    found = await services.objects.list_objects(bucket, prefix, after=query.after)
    return json_reply(
        ObjectList(
            bucket=bucket,
            prefix=prefix,
            objects=[
                ObjectRow(key=info.key, size=info.size, modified=info.modified_at_ms)
                for info in found[:LIST_MAX]
            ],
            is_truncated=len(found) > LIST_MAX,
        )
    )


async def _is_bucket(services: Services, project_id: str, bucket: str) -> bool:
    """Whether there is one of the project's by that name; a store may forget one that is empty."""
    if await services.objects.has_bucket(bucket):
        return True
    return bucket in await services.database.read(buckets.list_buckets, project_id)


async def list_buckets(services: Services, request: Request) -> Reply:
    project_id = request.caller.project_id
    return json_reply(BucketList(await services.database.read(buckets.list_buckets, project_id)))
