"""The two lists of everything, v1: pages, and the overview as a stream.

A page is rendered once for all who ask until a commit changes a list of the project; only what
runs changes by itself, and is rendered for each. What a query means is remembered, too: to read it
takes as long as to answer it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from muster.api.http import Reply, Request, begun
from muster.api.services import Services
from muster.domain.errors import InvalidRequest
from muster.domain.phase import V1_STATUS_MAX
from muster.domain.pool import public_pool_id
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.store import jobs, listing
from muster.store.connection import Connection
from muster.store.listing import ListQuery
from muster.wire.decode import decode_query
from muster.wire.training import (
    JobList,
    JobRow,
    JobsQuery,
    Statuses,
    UserView,
    VersionOverview,
    VersionRow,
    VersionsQuery,
)

QUERIES_REMEMBERED_MAX: Final = 1_024  # of each list
QUERY_REMEMBERED_LENGTH_MAX: Final = 256

# Sent together: to hand them over takes longer than to make them. Each is made by itself still, as
# the interpreter is held meanwhile.
STREAM_PIECES: Final = 5

_ENCODER: Final = msgspec.json.Encoder()
SHARED_ROWS_MAX: Final = 100  # longer pages are few, and would take memory until the next commit


def parse_statuses(value: Statuses) -> tuple[int, ...]:
    """A code, several by comma, or the parameter repeated: any of them matches."""
    if value is None or value == "":
        return ()
    values = value if isinstance(value, list) else [value]
    codes = set()
    for text in ",".join(str(item) for item in values).split(","):
        code = _STATUS_CODES.get(text.strip())
        if code is None:
            raise InvalidRequest(
                f"status is {text[:_SHOWN_LENGTH_MAX]!r}; it must be codes from 0 to"
                f" {V1_STATUS_MAX}, separated by commas."
            )
        codes.add(code)
    return tuple(sorted(codes))


_STATUS_CODES: Final = {str(code): code for code in range(V1_STATUS_MAX + 1)}
_SHOWN_LENGTH_MAX: Final = 100


async def list_jobs(services: Services, request: Request) -> Reply:
    wanted = await _wanted(request, _jobs_wanted, _jobs_wanted_before)
    return await _page(services, wanted, _page_of_jobs)


async def list_versions(services: Services, request: Request) -> Reply:
    wanted = await _wanted(request, _versions_wanted, _versions_wanted_before)
    if wanted.limit is not None:
        return await _page(services, wanted, _page_of_versions)
    wanted = replace(wanted, now_ms=services.clock_ms())
    await services.database.read(_check_workspace, wanted)
    chunks = services.database.stream(_overview_chunks, wanted)
    return Reply(200, await begun(chunks))


# ------------------------------------------------------------------ what is asked for


async def _wanted(request: Request, read: "_Reader", read_before: "_Reader") -> ListQuery:
    """What the query asks for, as it was read the first time that it came."""
    body = await request.body()
    asked = (request.caller.project_id, request.raw_query, body)
    if len(asked[1]) + len(body) > QUERY_REMEMBERED_LENGTH_MAX:
        return read(*asked)
    return read_before(*asked)


_Reader = Callable[[str, str, bytes], ListQuery]


def _jobs_wanted(project_id: str, raw_query: str, body: bytes) -> ListQuery:
    query = decode_query(_parsed(raw_query), JobsQuery, body=body)
    asked = ListQuery(
        project_id=project_id,
        workspace_id=query.workspace_id or DEFAULT_WORKSPACE_ID,
        sort_key=query.sortBy or query.sort_by or "job_name",
        is_descending=query.order == "desc",
        offset=(query.page - 1) * query.per_page,
        limit=query.per_page,
        now_ms=0,
        statuses=parse_statuses(query.status),
        search=query.search_content,
    )
    return replace(asked, is_bounded=listing.is_quick(asked))


def _versions_wanted(project_id: str, raw_query: str, body: bytes) -> ListQuery:
    query = decode_query(_parsed(raw_query), VersionsQuery, body=body)
    pool_id = query.pool_id or None
    if pool_id == public_pool_id(project_id):
        pool_id = ""
    asked = ListQuery(
        project_id=project_id,
        workspace_id=query.workspace_id or DEFAULT_WORKSPACE_ID,
        sort_key=query.sort_by or query.sortBy or "create_time",
        is_descending=query.order == "desc",
        offset=query.offset,
        limit=query.limit or None,
        now_ms=0,
        statuses=parse_statuses(query.status),
        pool_id=pool_id,
    )
    return replace(asked, is_bounded=listing.is_quick(asked))


def _parsed(raw_query: str) -> dict[str, list[str]]:
    return parse_qs(raw_query, keep_blank_values=True)


_jobs_wanted_before: Final = lru_cache(QUERIES_REMEMBERED_MAX)(_jobs_wanted)
_versions_wanted_before: Final = lru_cache(QUERIES_REMEMBERED_MAX)(_versions_wanted)


# ------------------------------------------------------------------ a page


@dataclass(frozen=True, slots=True)
class _Live:
    """A page with something on it that runs."""

    answer: JobList | VersionOverview
    running: Sequence[tuple[JobRow | VersionRow, int]]  # and since when

    def render(self, now_ms: int) -> bytes:
        for row, started_at_ms in self.running:
            row.duration = now_ms - started_at_ms
        return _ENCODER.encode(self.answer)


_Page = bytes | _Live  # rendered, if none of it changes by itself
_ReadPage = Callable[[Connection, ListQuery, int], _Page | None]  # None: too far to be bounded


async def _page(services: Services, wanted: ListQuery, work: _ReadPage) -> Reply:
    now_ms = services.clock_ms()
    page = None
    if wanted.is_bounded:
        # No time is in it: a bounded page is never sorted by duration.
        if (wanted.limit or 0) <= SHARED_ROWS_MAX:
            page = await services.database.read_lists(
                wanted.project_id, work, wanted, services.job_quota
            )
        else:
            page = await services.database.read(work, wanted, services.job_quota)
    if page is None:
        wanted = replace(wanted, now_ms=now_ms, is_bounded=False)
        page = await services.database.scan(work, wanted, services.job_quota)
        assert page is not None, "nothing is too far for a scan"
    return Reply(200, page if isinstance(page, bytes) else page.render(now_ms))


def _check_workspace(connection: Connection, query: ListQuery) -> None:
    if query.workspace_id != DEFAULT_WORKSPACE_ID:
        jobs.check_workspace(connection, query.project_id, query.workspace_id)


def _page_of_jobs(connection: Connection, query: ListQuery, quota: int) -> _Page | None:
    _check_workspace(connection, query)
    try:
        total, rows = listing.page_of_jobs(connection, query)
    except listing.TooFar:
        return None
    live = jobs.count_live_jobs(connection, query.project_id)
    shown = [
        JobRow(id_, name, version_id, status, created, duration or 0, text, versions, UserView(who))
        for id_, name, version_id, status, created, duration, text, versions, who, _ in rows
    ]
    running = [(view, row[9]) for view, row in zip(shown, rows, strict=True) if row[5] is None]
    answer = JobList(
        job_total_count=total, job_count_limit=max(0, quota - live), quotas=quota, jobs=shown
    )
    return _Live(answer, running) if running else _ENCODER.encode(answer)


def _page_of_versions(connection: Connection, query: ListQuery, _quota: int) -> _Page | None:
    _check_workspace(connection, query)
    try:
        total, rows = listing.page_of_versions(connection, query)
    except listing.TooFar:
        return None
    shown = [VersionRow(*row) for row in rows]
    running = [(view, row[4]) for view, row in zip(shown, rows, strict=True) if row[6] is None]
    answer = VersionOverview(
        total_count=total, offset=query.offset, limit=query.limit or 0, versions=shown
    )
    return _Live(answer, running) if running else _ENCODER.encode(answer)


# ------------------------------------------------------------------ the whole overview


def _overview_chunks(connection: Connection, query: ListQuery) -> Iterator[bytes]:
    """The whole overview as JSON, piece by piece, from one snapshot."""
    total = listing.count_versions(connection, query)
    head = _ENCODER.encode(
        VersionOverview(total_count=total, offset=query.offset, limit=0, versions=[])
    )
    yield head.removesuffix(b"]}")
    chunks = listing.stream_versions_as_json(connection, query, _VERSION_FIELDS)
    if chunks is None:
        chunks = _rendered(connection, query)
    separator = b""
    for chunk in chunks:
        yield separator + chunk
        separator = b","
    yield b"]}"


_VERSION_FIELDS: Final = tuple(field.encode_name for field in msgspec.structs.fields(VersionRow))


def _rendered(connection: Connection, query: ListQuery) -> Iterator[bytes]:
    pieces = (
        _ENCODER.encode([_streamed(row, query.now_ms) for row in rows])[1:-1]
        for rows in listing.stream_versions(connection, query)
    )
    while sent := b",".join(islice(pieces, STREAM_PIECES)):
        yield sent


def _streamed(row: Sequence[Any], now_ms: int) -> VersionRow:
    view = VersionRow(*row)
    if row[6] is None:
        view.duration = now_ms - row[4]
    return view
