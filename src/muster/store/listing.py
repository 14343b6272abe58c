"""Lists: filter, sort, page and exact total.

What is asked for becomes a scope and a sort key; `store/paging/` finds the rows of the page. No
user text ever becomes SQL text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

from muster.domain.phase import Phase
from muster.domain.pool import public_pool_id
from muster.domain.resources import Resources
from muster.store import named
from muster.store.archive import restored_config
from muster.store.connection import Connection
from muster.store.history import is_out_of_order
from muster.store.paging.pages import TooFar as TooFar
from muster.store.paging.rows import Rows, Wanted, page_of, stream_of, stream_texts_of
from muster.store.paging.scope import (
    CREATED,
    DURATION,
    JOB_NAME,
    REMEMBERED_MAX,
    STATUS,
    VERSION_NAME,
    Candidates,
    Scope,
    SortKey,
    candidates_of,
    walk,
)
from muster.store.paging.totals import first_id_since, total_of, unfiltered
from muster.store.statements import load_statements

SEARCH: Final = load_statements("search")

STREAM_CHUNK_ROWS: Final = 100  # larger chunks hold the interpreter, and so other calls, for longer
STREAM_TEXT_ROWS: Final = 500  # without the interpreter

JOB_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "job_name": JOB_NAME,
    "job_desc": SortKey("description", "by_description"),
    "status": STATUS,
    "duration": DURATION,
    "version_count": SortKey("version_count", "by_version_count", has_filters=False),
    "create_time": CREATED,
    "engine_type": SortKey("engine_type", "by_engine_type", has_filters=False),
}

VERSION_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "create_time": CREATED,
    "job_desc": SortKey("description", "by_description"),
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
_QUICK_OFFSET_MAX: Final = 1_000


def is_quick(query: ListQuery) -> bool:
    """Whether a page may be a bounded index read; anything else belongs into a thread.

    Whether it is one depends on what is stored, too: with `is_bounded`, TooFar tells that not.
    """
    return (
        query.sort_key in _QUICK_KEYS
        and query.limit is not None
        and query.offset + query.limit <= _QUICK_OFFSET_MAX
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
    )
    found = named.with_any([part], column="id")
    in_workspace = total_of(connection, unfiltered(place))
    if found is None or in_workspace <= LOOKED_THROUGH_MAX:
        return _looked_through(connection, scope)
    return _searched(connection, scope, found, in_workspace)


def _looked_through(connection: Connection, scope: Scope) -> Scope:
    """With the jobs as candidates, if they are few; of many, the first are soon walked to.

    What looks through the names remembers what it finds, and stops where that is much.
    """
    source, values = walk(scope, JOB_NAME)
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
    count = named.count_of(connection, scope, found)
    if count * FOUND_PART <= in_workspace:
        scope = replace(scope, counted_by=found, found_by=found)
    return replace(scope, known_total=None if scope.statuses else count)


def _place_of_jobs(query: ListQuery) -> Scope:
    return Scope(
        table="job",
        project_id=query.project_id,
        workspace_id=query.workspace_id,
        statuses=query.statuses or None,
    )


FOUND_MAX: Final = 50_000  # candidates: their keys are kept in memory
FEW_FOUND_MAX: Final = 2_000  # by a search; of so few, no other way to a page is looked for
LOOKED_THROUGH_MAX: Final = 5_000  # names: no search is quicker
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


# ------------------------------------------------------------------ v2 training jobs

# A version after the first needs a name of its own where each version is a job.
_TRAINING_NAME = (
    "CASE WHEN version.number = 1 THEN version.job_name"
    " ELSE version.job_name || printf('-V%04d', version.number) END"
)

TRAINING_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "create_time": CREATED,
    "name": VERSION_NAME,
    "phase": STATUS,
    "duration": DURATION,
}

# What a search may look at. Each reads one row by its key, so that a count needs no join.
_SEARCHED: Final[Mapping[str, str]] = {
    "name": _TRAINING_NAME,
    "id": "(SELECT w.uid FROM workload AS w WHERE w.id = version.workload_id)",
    "algorithm_name": "coalesce(json_extract(version.config, '$.algorithm.name'), '')",
    "user_id": "(SELECT j.creator_name FROM job AS j WHERE j.id = version.job_id)",
}

_OPERATORS: Final[Mapping[str, str]] = {
    "in": "coalesce({subject}, '') IN (SELECT value FROM json_each(:{name}))",
    "not": "coalesce({subject}, '') NOT IN (SELECT value FROM json_each(:{name}))",
    "like one": "instr(lower({subject}), :{name}) > 0",
    "like": (
        "EXISTS (SELECT 1 FROM json_each(:{name}) AS part"
        " WHERE instr(lower({subject}), part.value) > 0)"
    ),
}

_TRAINING_COLUMNS = (
    f"{_TRAINING_NAME}, version.job_name, version.id, version.job_id, version.workspace_id,"
    f" version.description, version.created_at_ms, version.started_at_ms, version.ended_at_ms,"
    " coalesce(version.duration_ms, :now_ms - version.started_at_ms), version.pool_id,"
    " version.flavor_code, coalesce(version_config.config, version.config),"
    " job.creator_name, workload.uid, workload.phase, workload.reason, workload.message,"
    " workload.task_count, workload.priority, workload.id, workload.attempt_count,"
    " workload.attempt_started_at_ms, workload.task_cpu_millis, workload.task_memory_mib,"
    " workload.task_gpu_count, workload.task_npu_count, archived.body"
)
_TRAINING_TABLES = (
    "version JOIN job ON job.id = version.job_id JOIN workload ON workload.id = version.workload_id"
    " LEFT JOIN version_config ON version_config.workload_id = workload.id"
    " LEFT JOIN archived ON archived.workload_id = workload.id"
)
_TRAINING_ROWS: Final = Rows(_TRAINING_COLUMNS, "version", _TRAINING_TABLES, id_place=2)


class TrainingRow(NamedTuple):
    """A v2 training job: one version, with what its job and its workload know of it."""

    name: str
    job_name: str
    version_id: int
    job_id: int
    workspace_id: str
    description: str
    created_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None
    duration_ms: int | None  # of one that runs: until the moment that was asked about
    pool_id: str  # '' is the public pool
    flavor_code: str
    kept_config: str  # of an archived one, only what a search looks for
    creator_name: str
    uid: str
    phase: str
    reason: str
    message: str
    task_count: int
    priority: int
    workload_id: int
    attempt_count: int
    attempt_started_at_ms: int | None
    task_cpu_millis: int
    task_memory_mib: int
    task_gpu_count: int
    task_npu_count: int
    archived: bytes | None  # see store/archive.py

    @property
    def config(self) -> str:
        """JSON, as `domain.training.TrainingConfig`. Unpacked only where it is asked for."""
        return restored_config(self.kept_config, self.archived)

    @property
    def task(self) -> Resources:
        return Resources(
            cpu_millis=self.task_cpu_millis,
            memory_mib=self.task_memory_mib,
            gpu_count=self.task_gpu_count,
            npu_count=self.task_npu_count,
        )

    @property
    def was_retried(self) -> bool:
        """Whether it may have attempts that have ended before its last one."""
        return self.attempt_count > (0 if self.phase == Phase.QUEUED else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTerm:
    key: str  # of _SEARCHED, or `pool_id`
    operator: str  # of _OPERATORS
    values: tuple[str, ...]  # any of them


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSearch:
    """What a search of v2 training jobs is for. Every condition must hold."""

    project_id: str
    workspace_id: str
    sort_key: str  # of TRAINING_SORT_KEYS
    is_descending: bool
    offset: int
    limit: int
    now_ms: int
    statuses: tuple[int, ...] | None = None  # None: all
    created_from_ms: int | None = None
    created_to_ms: int | None = None
    terms: tuple[SearchTerm, ...] = ()
    is_bounded: bool = False  # TooFar rather than a read that others would feel

    @property
    def is_quick(self) -> bool:
        """Whether it may be a bounded index read; anything else belongs into a thread."""
        return (
            TRAINING_SORT_KEYS[self.sort_key] in (CREATED, STATUS)
            and not self.terms
            and self.created_from_ms is None
            and self.created_to_ms is None
            and self.offset + self.limit <= _QUICK_OFFSET_MAX
        )


def page_of_training_jobs(
    connection: Connection, search: TrainingSearch
) -> tuple[int, list[TrainingRow]]:
    """(how many match, the rows of the page).

    The rows are as at the moment 0, the same whenever they are read: one that runs has a duration
    below 0, to which the present is to be added.

    Raises:
        TooFar: it was asked for as a bounded read, and is none.
    """
    total, page = page_of(
        connection,
        _training_scope(connection, search),
        Wanted(
            key=TRAINING_SORT_KEYS[search.sort_key],
            is_descending=search.is_descending,
            offset=search.offset,
            limit=search.limit,
            now_ms=search.now_ms,
            is_bounded=search.is_bounded,
        ),
        _TRAINING_ROWS,
        {"now_ms": 0},
    )
    return total, [TrainingRow(*row) for row in page]


def _training_scope(connection: Connection, search: TrainingSearch) -> Scope:
    scope = Scope(
        table="version",
        project_id=search.project_id,
        workspace_id=search.workspace_id,
        statuses=search.statuses,
    )
    scope = _within_times(connection, scope, search.created_from_ms, search.created_to_ms)
    pools = [term for term in search.terms if term.key == "pool_id"]
    if pools:
        scope = replace(scope, pool_ids=_pools_meeting(connection, scope, pools))
    return _with_terms(connection, scope, [term for term in search.terms if term not in pools])


def _within_times(
    connection: Connection, scope: Scope, from_ms: int | None, to_ms: int | None
) -> Scope:
    if from_ms is None and to_ms is None:
        return scope
    if is_out_of_order(connection, scope.project_id, scope.workspace_id, "version"):
        # Ids do not tell times where older history came in later.
        return replace(
            scope,
            more=" AND created_at_ms BETWEEN :from_ms AND :to_ms",
            more_values={
                "from_ms": 0 if from_ms is None else from_ms,
                "to_ms": _LATEST_MS if to_ms is None else to_ms,
            },
            has_times=True,
        )
    place = replace(scope, statuses=None)
    return replace(
        scope,
        id_from=None if from_ms is None else first_id_since(connection, place, from_ms),
        id_below=None if to_ms is None else first_id_since(connection, place, to_ms + 1),
    )


_LATEST_MS: Final = 2**63 - 1


def _pools_meeting(
    connection: Connection, scope: Scope, terms: Sequence[SearchTerm]
) -> tuple[str, ...] | None:
    """Those pools that meet all of the terms; None: all of them do.

    Pools are few, and the counters know in which of them anything ran.
    """
    public = public_pool_id(scope.project_id)
    place = {"project_id": scope.project_id, "workspace_id": scope.workspace_id}
    pool_ids = [pool_id for (pool_id,) in connection.execute(SEARCH["list_pools"], place)]
    meeting = [id_ for id_ in pool_ids if all(_is_met(term, id_ or public) for term in terms)]
    return None if meeting == pool_ids else tuple(meeting)


def _is_met(term: SearchTerm, text: str) -> bool:
    if term.operator == "like":
        return any(value.casefold() in text.casefold() for value in term.values)
    return (text in term.values) == (term.operator == "in")


def _with_terms(connection: Connection, scope: Scope, terms: Sequence[SearchTerm]) -> Scope:
    """What an index answers becomes candidates; every row met must meet all terms."""
    was_counted = scope.is_counted
    more = scope.more
    values = dict(scope.more_values)
    for index, term in enumerate(terms):
        name = f"term_{index}"
        operator, given = term.operator, term.values
        if term.key == "user_id":
            given = tuple(_creators(connection, scope.project_id, given))
        if operator == "like":
            given = tuple(value.casefold() for value in given)
            if len(given) == 1:  # as a rule; it costs a tenth of looking through a list
                operator, values[name] = "like one", given[0]
        more += f" AND {_OPERATORS[operator].format(subject=_SEARCHED[term.key], name=name)}"
        values.setdefault(name, json.dumps(given))
    scope = replace(scope, more=more, more_values=values)
    for term in terms:
        found = _candidates(connection, scope, term)
        if found is None:
            continue
        is_few = found.is_known or named.are_at_most(connection, scope, found, FOUND_MAX)
        if term.operator != "not" and is_few:
            return replace(scope, candidates=found)
        if term.operator != "not" or (was_counted and len(terms) == 1):
            return replace(scope, counted_by=found, counts_others=term.operator == "not")
    return scope


def _candidates(connection: Connection, scope: Scope, term: SearchTerm) -> Candidates | None:
    """What an index has of one term, or of its contrary; None: no index knows."""
    match term.key, term.operator:
        case "id", "in" | "not":
            uids = {"uids": json.dumps(term.values)}
            found = connection.execute(SEARCH["find_versions_by_uid"], uids)
            return candidates_of("id", [id_ for (id_,) in found])
        case "id", "like" if all(len(value) >= _UID_LENGTH for value in term.values):
            # In which id is a whole one? In itself.
            values = tuple(value.casefold() for value in term.values)
            return _candidates(connection, scope, replace(term, operator="in", values=values))
        case "name", "in" | "not":
            return candidates_of("id", _find_named(connection, scope, term.values))
        case "user_id", "in" | "not":
            names = _creators(connection, scope.project_id, term.values)
            return Candidates("job_id", SEARCH["jobs_of_creators"], {"creators": json.dumps(names)})
        case "name", "like":
            # What may stand there is left out: the rest is in the name of the job for sure.
            parts = [_IN_NUMBER.sub("", value.casefold()) for value in term.values]
            return named.with_any(parts, column="job_id")
        case _:
            return None


_UID_LENGTH: Final = 32  # of a workload

# Where a part may stand, wholly or in part, in what a name has behind that of its job: -V0002.
_IN_NUMBER: Final = re.compile(r"(-|-v\d*)\Z|\Av?\d*\Z")
_NUMBER: Final = re.compile(r"-V\d{4,}\Z")


def _find_named(connection: Connection, scope: Scope, names: Sequence[str]) -> list[int]:
    """The versions that have these names."""
    of_jobs = {_NUMBER.sub("", name) for name in names}.union(names)
    found = connection.execute(
        SEARCH["find_versions_of_names"],
        {
            "project_id": scope.project_id,
            "workspace_id": scope.workspace_id,
            "names": json.dumps(sorted(of_jobs)),
        },
    )
    return [
        id_
        for id_, name, number in found
        if (name if number == 1 else f"{name}-V{number:04d}") in names
    ]


def _creators(connection: Connection, project_id: str, user_ids: Sequence[str]) -> list[str]:
    """The names that those users put on their jobs."""
    found = connection.execute(
        SEARCH["list_creators"], {"project_id": project_id, "user_ids": json.dumps(user_ids)}
    )
    return [name for (name,) in found]


def find_training_job(
    connection: Connection, *, project_id: str, uid: str, now_ms: int
) -> TrainingRow | None:
    """One that is not deleted, by the id of its workload."""
    row = connection.execute(
        f"SELECT {_TRAINING_COLUMNS} FROM {_TRAINING_TABLES}"  # noqa: S608 - constant fragments
        " WHERE workload.uid = :uid AND version.project_id = :project_id"
        " AND version.is_deleted = 0",
        {"uid": uid, "project_id": project_id, "now_ms": now_ms},
    ).fetchone()
    return None if row is None else TrainingRow(*row)
