"""The logs of a training job: the end, lines, and a link to the whole."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlencode

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.lookup import find_row
from muster.api.training_v2.views import task_id_of
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.domain.phase import FINISHED
from muster.operations import logs
from muster.operations.caller import Caller
from muster.wire import training_v2 as shapes
from muster.wire.decode import decode_query

PREVIEW_BYTES_MAX: Final = 5 << 20
LINK_MS: Final = 5 * 60_000  # as documented
CHUNK_BYTES: Final = 256 << 10
_LINKS: Final = "log links"  # what their signatures are for
_NOT_YET: Final = 204  # as documented, while a job that is not over has written nothing


@in_v2_words
async def preview_log(services: Services, request: Request) -> Reply:
    """The end of a log."""
    path = await _find_log(services, request)
    if path is None:
        return Reply(_NOT_YET, b"", [])
    content, size = await asyncio.to_thread(logs.read_tail, path, PREVIEW_BYTES_MAX)
    return json_reply(
        shapes.LogPreview(
            content=content.decode("utf-8", errors="replace"),
            current_size=len(content),
            full_size=size,
        )
    )


@in_v2_words
async def show_lines(services: Services, request: Request) -> Reply:
    """Lines before or after a cursor, as the v1 call has them."""
    query = decode_query(request.query, shapes.TaskLogQuery)
    cursor = logs.parse_cursor(str(query.base_line))
    path = await _find_log(services, request)
    if path is None:
        return Reply(_NOT_YET, b"", [])
    found = await asyncio.to_thread(
        logs.read_lines,
        path,
        cursor=cursor,
        line_count=query.lines,
        is_following=query.order == "desc",
    )
    return json_reply(
        shapes.TaskLogLines(
            content=found.content.decode("utf-8", errors="replace"),
            lines=found.line_count,
            start_line=str(found.start),
            end_line=str(found.end),
        )
    )


@in_v2_words
async def show_link(services: Services, request: Request) -> Reply:
    """A link to the log on this server; whoever has it may read the log until it expires."""
    query = decode_query(request.query, shapes.LogLinkQuery)
    wanted = query.content_type or request.header("content-type") or ""
    disposition = "attachment" if "octet-stream" in wanted else "inline"
    if await _find_log(services, request) is None:
        return Reply(_NOT_YET, b"", [])
    path = f"{request.raw_path.rstrip('/').removesuffix('/url')}/download"
    expires_ms = services.clock_ms() + LINK_MS
    asked = urlencode(
        {
            "expires": expires_ms,
            "disposition": disposition,
            "signature": _signature(services, path, expires_ms, disposition),
        }
    )
    url = f"{request.base_url}{path}?{asked}"
    return json_reply(shapes.LogLink(obs_url=url, shards=shapes.LogShards(object_urls=[url])))


@in_v2_words
async def open_link(services: Services, request: Request) -> Reply:
    """The whole log as it is now, byte for byte. The signature stands for the login."""
    query = decode_query(request.query, shapes.LogDownloadQuery)
    expected = _signature(services, request.raw_path, query.expires, query.disposition)
    if not hmac.compare_digest(expected.encode(), query.signature.encode()):
        raise errors.LinkInvalid("The link is not one that this server has made.")
    if query.expires < services.clock_ms():
        raise errors.LinkInvalid(
            "The link has expired: it is valid for 5 minutes. Get a new one from .../logs/url."
        )
    request.caller = Caller("", "a link", request.params[0], role=None)
    path = await _find_log(services, request)
    if path is None:
        return Reply(_NOT_YET, b"", [])
    file = await asyncio.to_thread(path.open, "rb")
    kind = "text/plain; charset=utf-8"
    if query.disposition == "attachment":
        kind = "application/octet-stream"
    name = f'{query.disposition}; filename="{request.params[1]}-{request.params[2]}.log"'
    headers = [
        (b"content-type", kind.encode()),
        (b"content-disposition", name.encode()),
        (b"x-content-type-options", b"nosniff"),  # a log may hold anything: browsers must not guess
        (b"cache-control", b"no-store"),
    ]
    return Reply(200, _chunks(file), headers)


def _signature(services: Services, path: str, expires_ms: int, disposition: str) -> str:
    return services.identity.vault.sign(_LINKS, f"{path}\n{expires_ms}\n{disposition}")


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


async def _find_log(services: Services, request: Request) -> Path | None:
    """The log that the path names; None while a job that is not over has written none."""
    row = await find_row(services, request)
    task_ids = [task_id_of(index) for index in range(row.task_count)]
    task_id = request.params[2]
    if task_id not in task_ids:
        raise errors.LogUnknown(
            f"task_id is {task_id[:100]!r}; this job has {', '.join(task_ids)}."
        )
    try:
        return await logs.find_log(
            services.database,
            services.jobs_folder,
            request.caller,
            job_id=row.job_id,
            version_id=row.version_id,
            name=logs.log_name(row.job_name, task_ids.index(task_id)),
        )
    except errors.LogNotReady:
        if row.phase in FINISHED:
            raise
        return None
