"""Lists of jobs, versions and job configurations: filter, sort, page and exact total.

What is asked for becomes a scope and a sort key; `store/paging/` finds the rows of the page. No
user text ever becomes SQL text.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from muster.store import named
from muster.store.connection import Connection
from muster.store.paging.by_part import count_of_part, first_by_name
from muster.store.paging.pages import TooFar as TooFar
from muster.store.paging.rows import Rows, Wanted, page_of, stream_of, stream_texts_of
from muster.store.paging.scope import (
    CREATED,
    DESCRIPTION,
    DURATION,
    ENGINE_TYPE,
    JOB_NAME,
    REMEMBERED_MAX,
    STATUS,
    VERSION_COUNT,
    VERSION_NAME,
    Candidates,
    Scope,
    SortKey,
    candidates_of,
    walk,
)
from muster.store.paging.totals import total_of, unfiltered

STREAM_CHUNK_ROWS: Final = 100  # larger chunks hold the interpreter, and so other calls, for longer
STREAM_TEXT_ROWS: Final = 500  # without the interpreter

JOB_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "job_name": JOB_NAME,
    "job_desc": DESCRIPTION,
    "status": STATUS,
    "duration": DURATION,
    "version_count": VERSION_COUNT,
    "create_time": CREATED,
    "engine_type": ENGINE_TYPE,
}

VERSION_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "create_time": CREATED,
    "job_desc": DESCRIPTION,
    "status": STATUS,
    "duration": DURATION,
    "job_name": VERSION_NAME,
}

# A running one has no stored duration: it changes by itself, and its start is told instead.
_JOB_ROWS: Final = Rows(
    "job.id, job.name, job.latest_version_id, job.status, job.created_at_ms, job.duration_ms,"
    " job.description, job.version_count, job.creator_name, job.started_at_ms",
    "job",
    "job",
)
_VERSION_COLUMNS: Final = (
    "version.id",
    "version.job_name",
    "version.status",
    "version.created_at_ms",
    "version.started_at_ms",
    "version.ended_at_ms",
    "version.duration_ms",
    "nullif(version.description, '')",
    "nullif(version.pool_id, '')",
    "version.flavor_code",
    "version.npu_count",
    "version.gpu_count",
)
_VERSION_ROWS: Final = Rows(", ".join(_VERSION_COLUMNS), "version", "version")
# Of one that runs, until the moment that was asked about.
_DURATION_NOW: Final = "coalesce(version.duration_ms, :now_ms - version.started_at_ms)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a list is asked for. `limit` None: everything."""

    project_id: str
    workspace_id: str
    sort_key: str  # a key of JOB_SORT_KEYS or VERSION_SORT_KEYS
    is_descending: bool
    offset: int
    limit: int | None
    now_ms: int  # one moment for every running duration that the list is sorted by
    statuses: tuple[int, ...] = ()  # none: all
    pool_id: str | None = None  # versions only
    search: str = ""  # jobs only: part of the name, any case
    is_bounded: bool = False  # TooFar rather than a read that others would feel


_QUICK_KEYS: Final = frozenset({"create_time", "status", "job_name"})
QUICK_OFFSET_MAX: Final = 1_000


def is_quick(query: ListQuery) -> bool:
    """Whether a page may be a bounded index read; anything else belongs into a thread.

    Whether it is one depends on what is stored, too: with `is_bounded`, TooFar tells that not.
    """
    return (
        query.sort_key in _QUICK_KEYS
        and query.limit is not None
        and query.offset + query.limit <= QUICK_OFFSET_MAX
        and not query.search
    )


def page_of_jobs(connection: Connection, query: ListQuery) -> tuple[int, list[Any]]:
    """(how many match, the rows of the page).

    A row: id, name, id of the latest version, status, created at, duration (None while it runs),
    description, versions, creator, started at.

    Raises:
        TooFar: it was asked for as a bounded read, and is none.
    """
    if query.is_bounded:
        scope, wanted = _bounded_jobs(query)
    else:
        scope, wanted = _job_scope(connection, query), _wanted(query, JOB_SORT_KEYS)
    return page_of(connection, scope, wanted, _JOB_ROWS, {})


def page_of_versions(connection: Connection, query: ListQuery) -> tuple[int, list[Any]]:
    """(how many match, the rows of the page).

    A row: id, name of its job, status, created, started and ended at, duration (None while it
    runs), description and pool (None: neither), flavor, NPUs, GPUs.

    Raises:
        TooFar: it was asked for as a bounded read, and is none.
    """
    if query.is_bounded:
        scope, wanted = _bounded_versions(query)
    else:
        scope, wanted = _version_scope(query), _wanted(query, VERSION_SORT_KEYS)
    return page_of(connection, scope, wanted, _VERSION_ROWS, {})


def stream_versions(connection: Connection, query: ListQuery) -> Iterator[list[Any]]:
    """The rows in chunks of STREAM_CHUNK_ROWS, on the snapshot of the connection."""
    return stream_of(
        connection,
        _version_scope(query),
        _wanted(query, VERSION_SORT_KEYS),
        _VERSION_ROWS,
        chunk_rows=STREAM_CHUNK_ROWS,
    )


def stream_versions_as_json(
    connection: Connection, query: ListQuery, names: Sequence[str]
) -> Iterator[bytes] | None:
    """The rows as JSON objects with commas in between, in chunks of STREAM_TEXT_ROWS.

    None where the store cannot write them itself: then `stream_versions` has them.

    Args:
        connection: on the snapshot.
        query: without a limit.
        names: of the fields, in the order of what a row of `page_of_versions` has.
    """
    columns = [_DURATION_NOW if c == "version.duration_ms" else c for c in _VERSION_COLUMNS]
    return stream_texts_of(
        connection,
        _version_scope(query),
        _wanted(query, VERSION_SORT_KEYS),
        tuple(zip(names, columns, strict=True)),
        {"now_ms": query.now_ms},
        chunk_rows=STREAM_TEXT_ROWS,
    )


@lru_cache(REMEMBERED_MAX)
def _bounded_jobs(query: ListQuery) -> tuple[Scope, Wanted]:
    assert not query.search, "a search is never bounded"
    return _place_of_jobs(query), _wanted(query, JOB_SORT_KEYS)


@lru_cache(REMEMBERED_MAX)
def _bounded_versions(query: ListQuery) -> tuple[Scope, Wanted]:
    return _version_scope(query), _wanted(query, VERSION_SORT_KEYS)


def _wanted(query: ListQuery, keys: Mapping[str, SortKey]) -> Wanted:
    return Wanted(
        key=keys[query.sort_key],
        is_descending=query.is_descending,
        offset=query.offset,
        limit=query.limit,
        now_ms=query.now_ms,
        is_bounded=query.is_bounded,
    )


def count_versions(connection: Connection, query: ListQuery) -> int:
    return total_of(connection, _version_scope(query))


def _job_scope(connection: Connection, query: ListQuery) -> Scope:
    place = _place_of_jobs(query)
    if not query.search:
        return place
    if "\0" in query.search:
        return replace(place, statuses=())  # no name has one, and a pattern would end there
    part = query.search.casefold()
    scope = replace(
        place,
        more=" AND name LIKE :search ESCAPE '\\'",
        more_values={"search": named.like(part)},
        name_part=part,
    )
    found = named.with_any([part], column="id")
    in_workspace = total_of(connection, unfiltered(place))
    if in_workspace <= LOOKED_THROUGH_MAX:
        return _looked_through(connection, scope)
    if place.statuses is not None and total_of(connection, place) <= FEW_FOUND_MAX:
        return _looked_through(connection, scope, STATUS)
    if found is None:
        return _with_short_part(connection, scope)
    return _searched(connection, scope, found, in_workspace)


def _with_short_part(connection: Connection, scope: Scope) -> Scope:
    """With how many there are, or with all of them, as far as names are learnt."""
    count = None
    if scope.statuses is None:
        count = count_of_part(connection, scope)
        if count is None:
            return _looked_through(connection, scope)
    if count is None or count <= FEW_FOUND_MAX:
        ids = first_by_name(connection, scope, FEW_FOUND_MAX + 1)
        if ids is None:
            return _looked_through(connection, scope)
        if len(ids) <= FEW_FOUND_MAX:
            return replace(scope, candidates=candidates_of("id", ids))
        count = count_of_part(connection, scope)
    return replace(scope, known_total=count)


def _looked_through(connection: Connection, scope: Scope, key: SortKey = JOB_NAME) -> Scope:
    """With the jobs as candidates, if they are few; of many, the first are soon walked to.

    What looks through the names, or through all of few statuses, remembers what it finds, and stops
    where that is much.
    """
    source, values = walk(scope, key)
    rows = connection.execute(
        f"SELECT id {source} LIMIT :limit",
        values | {"limit": FEW_FOUND_MAX + 1},
    ).fetchall()
    if len(rows) > FEW_FOUND_MAX:
        return scope
    return replace(scope, candidates=candidates_of("id", [id_ for (id_,) in rows]))


def _searched(connection: Connection, scope: Scope, found: Candidates, in_workspace: int) -> Scope:
    """With what a search finds, as far as that is quicker than walking the list."""
    ids = named.first_of(connection, scope, found, limit=FEW_FOUND_MAX + 1)
    if len(ids) <= FEW_FOUND_MAX:
        return replace(scope, candidates=candidates_of("id", ids))
    # To find a name takes as long as to walk two, and as long as eight where its job is looked up.
    whole = replace(scope, statuses=None)
    count = total = count_of_part(connection, whole, walked_to_one=WALKED_TO_ONE)
    if count is None:
        count = total = named.count_of(connection, scope, found)
    if count * FOUND_PART <= in_workspace:
        scope = replace(scope, counted_by=found, found_by=found)
    if scope.statuses is not None:
        total = count_of_part(connection, scope, walked_to_one=4 * WALKED_TO_ONE)
    return replace(scope, known_total=total)


def _place_of_jobs(query: ListQuery) -> Scope:
    return Scope(
        table="job",
        project_id=query.project_id,
        workspace_id=query.workspace_id,
        statuses=query.statuses or None,
    )


FEW_FOUND_MAX: Final = 2_000  # by a search; of so few, no other way to a page is looked for
LOOKED_THROUGH_MAX: Final = 5_000  # names: no search is quicker
WALKED_TO_ONE: Final = 2  # names for each that is known to be found
FOUND_PART: Final = 4  # with more than one name in so many, no search is quicker than the list


def _version_scope(query: ListQuery) -> Scope:
    return Scope(
        table="version",
        project_id=query.project_id,
        workspace_id=query.workspace_id,
        pool_ids=None if query.pool_id is None else (query.pool_id,),
        statuses=query.statuses or None,
    )


CONFIG_SORT_KEYS: Final[Mapping[str, str]] = {
    "config_name": "name",
    "config_desc": "description",
    "create_time": "created_at_ms",
}


def page_of_configs(
    connection: Connection,
    *,
    project_id: str,
    search: str,
    sort_key: str,
    is_descending: bool,
    offset: int,
    limit: int,
) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many match, the rows of the page) of a project's job configurations."""
    where = "project_id = :project_id AND instr(lower(name), lower(:search)) > 0"
    values = {"project_id": project_id, "search": search}
    [total] = connection.execute(
        f"SELECT count(*) FROM job_config WHERE {where}",  # noqa: S608
        values,
    ).fetchone()
    direction = "DESC" if is_descending else "ASC"
    rows = connection.execute(
        "SELECT name, description, config, created_at_ms FROM job_config"  # noqa: S608
        f" WHERE {where} ORDER BY {CONFIG_SORT_KEYS[sort_key]} {direction}, name"
        " LIMIT :limit OFFSET :offset",
        {**values, "limit": limit, "offset": offset},
    ).fetchall()
    return total, rows
