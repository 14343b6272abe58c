"""Lists: filter, sort, page and exact total.

What is asked for becomes a scope and a sort key; `store/paging.py` finds the ids of the page, and
the rows are read by their ids. No user text ever becomes SQL text.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, NamedTuple

from muster.domain.phase import Phase, StatisticsState, view_of
from muster.domain.resources import Resources
from muster.store.connection import Connection
from muster.store.counting import SQL, STATES
from muster.store.history import is_out_of_order
from muster.store.paging import (
    CREATED,
    DURATION,
    STATUS,
    Candidates,
    Scope,
    SortKey,
    Statement,
    first_id_since,
    page_of_candidates,
    page_statements,
    stream_ids,
    total_of,
)
from muster.store.statements import load_statements

SEARCH: Final = load_statements("search")

STREAM_CHUNK_ROWS: Final = 100  # larger chunks hold the interpreter, and so other calls, for longer

# A running version has no stored duration: it changes by itself.
_DURATION = "coalesce({table}.duration_ms, :now_ms - {table}.started_at_ms)"

JOB_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "job_name": SortKey("name", "by_name", is_unique=True),
    "job_desc": SortKey("description", "by_description"),
    "status": STATUS,
    "duration": DURATION,
    "version_count": SortKey("version_count", "by_version_count"),
    "create_time": CREATED,  # ids and times are handed out together, ascending
    "engine_type": SortKey("engine_type", "by_engine_type"),
}

VERSION_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "create_time": CREATED,
    "job_desc": SortKey("description", "by_description"),
    "status": STATUS,
    "duration": DURATION,
    "job_name": SortKey("job_name", "by_name"),
}

_JOB_COLUMNS = (
    "job.id, job.name, job.latest_version_id, job.status, job.created_at_ms, "
    f"{_DURATION.format(table='job')}, job.description, job.version_count, job.creator_name"
)
_VERSION_COLUMNS = (
    "version.id, version.job_name, version.status, version.created_at_ms, version.started_at_ms, "
    f"version.ended_at_ms, {_DURATION.format(table='version')}, version.description, "
    "version.pool_id, version.flavor_code, version.npu_count, version.gpu_count"
)
_THESE = "SELECT value AS id FROM json_each(:ids)"


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a list shows of the rows whose ids it has found."""

    columns: str
    table: str
    tables: str  # that and what is joined to it

    def by_ids(self, ids: str) -> str:
        return (
            f"SELECT {self.columns} FROM ({ids}) AS page"  # noqa: S608 - constant fragments
            f" CROSS JOIN {self.tables} WHERE {self.table}.id = page.id"
        )

    def of(self, statement: Statement) -> str:
        """Read along the index where the page is one walk of it: nothing is looked up twice."""
        if statement.source and self.tables == self.table:
            return f"SELECT {self.columns} {statement.source}"
        return self.by_ids(statement.ids)


_JOB_ROWS = _Rows(_JOB_COLUMNS, "job", "job")
_VERSION_ROWS = _Rows(_VERSION_COLUMNS, "version", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a list is asked for. `limit` None: everything."""

    project_id: str
    workspace_id: str
    sort_key: str  # a key of JOB_SORT_KEYS or VERSION_SORT_KEYS
    is_descending: bool
    offset: int
    limit: int | None
    now_ms: int  # one moment for every running duration of the page
    statuses: tuple[int, ...] = ()  # none: all
    pool_id: str | None = None  # versions only
    search: str = ""  # jobs only: part of the name, any case


_QUICK_KEYS: Final = frozenset({"create_time", "status", "job_name"})
_QUICK_OFFSET_MAX: Final = 1_000


def is_quick(query: ListQuery) -> bool:
    """Whether a page is a bounded index read; anything else belongs into a thread."""
    return (
        query.sort_key in _QUICK_KEYS
        and query.limit is not None
        and query.offset + query.limit <= _QUICK_OFFSET_MAX
        and not query.search
    )


def page_of_jobs(connection: Connection, query: ListQuery) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many match, the rows of the page)."""
    scope = _job_scope(connection, query)
    return _page(connection, scope, JOB_SORT_KEYS[query.sort_key], query, _JOB_ROWS)


def page_of_versions(connection: Connection, query: ListQuery) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many match, the rows of the page)."""
    scope = _version_scope(query)
    return _page(connection, scope, VERSION_SORT_KEYS[query.sort_key], query, _VERSION_ROWS)


def stream_versions(connection: Connection, query: ListQuery) -> Iterator[list[tuple[Any, ...]]]:
    """The rows in chunks of STREAM_CHUNK_ROWS, on the snapshot of the connection."""
    ids = stream_ids(
        connection,
        _version_scope(query),
        VERSION_SORT_KEYS[query.sort_key],
        is_descending=query.is_descending,
        offset=query.offset,
        now_ms=query.now_ms,
    )
    ids = islice(ids, query.limit)
    sql = _VERSION_ROWS.by_ids(_THESE)
    while chunk := list(islice(ids, STREAM_CHUNK_ROWS)):
        values = {"ids": json.dumps(chunk), "now_ms": query.now_ms}
        yield connection.execute(sql, values).fetchall()


def count_versions(connection: Connection, query: ListQuery) -> int:
    return total_of(connection, _version_scope(query))


def _job_scope(connection: Connection, query: ListQuery) -> Scope:
    part = query.search.casefold()
    return Scope(
        table="job",
        project_id=query.project_id,
        workspace_id=query.workspace_id,
        statuses=query.statuses or None,
        more=" AND instr(lower(name), :search) > 0" if query.search else "",
        more_values={"search": part} if part else {},
        candidates=_jobs_with(connection, [part], column="id") if part else None,
    )


FOUND_MAX: Final = 50_000  # by a search; with more, walking the list finds a page sooner
_GRAM_LENGTH: Final = 3


def _jobs_with(connection: Connection, parts: Sequence[str], *, column: str) -> Candidates | None:
    """The jobs that have any of some parts in their names, and perhaps others.

    None where the search does not help: a part is shorter than what it knows, or found too often.
    """
    if any(len(part) < _GRAM_LENGTH for part in parts):
        return None
    words = " OR ".join('"' + part.replace('"', '""') + '"' for part in parts)
    found = connection.execute(SEARCH["find_jobs"], {"words": words, "limit": FOUND_MAX + 1})
    ids = [id_ for (id_,) in found]
    if len(ids) > FOUND_MAX:
        return None
    ids += [id_ for (id_,) in connection.execute(SEARCH["list_jobs_not_searchable"])]
    return Candidates(column, ids)


def _version_scope(query: ListQuery) -> Scope:
    return Scope(
        table="version",
        project_id=query.project_id,
        workspace_id=query.workspace_id,
        pool_id=query.pool_id,
        statuses=query.statuses or None,
    )


def _page(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    query: "ListQuery | TrainingSearch",
    rows: _Rows,
) -> tuple[int, list[tuple[Any, ...]]]:
    if scope.candidates is not None:
        total, statement = page_of_candidates(
            connection,
            scope,
            key,
            is_descending=query.is_descending,
            offset=query.offset,
            limit=query.limit,
            now_ms=query.now_ms,
        )
        values = statement.values | {"now_ms": query.now_ms}
        return total, connection.execute(rows.of(statement), values).fetchall()
    total = total_of(connection, scope)
    statements = page_statements(
        connection,
        scope,
        key,
        is_descending=query.is_descending,
        offset=query.offset,
        limit=total if query.limit is None else query.limit,
        total=total,
        now_ms=query.now_ms,
    )
    page: list[tuple[Any, ...]] = []
    for statement in statements:
        values = statement.values | {"now_ms": query.now_ms}
        page += connection.execute(rows.of(statement), values)
    return total, page


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
    "name": SortKey("job_name", "by_name"),
    "phase": STATUS,
    "duration": DURATION,
}

# What a search may look at. Each reads one row by its key, so that a count needs no join.
_SEARCHED: Final[Mapping[str, str]] = {
    "name": _TRAINING_NAME,
    "id": "(SELECT w.uid FROM workload AS w WHERE w.id = version.workload_id)",
    "pool_id": "(SELECT w.pool_id FROM workload AS w WHERE w.id = version.workload_id)",
    "algorithm_name": "coalesce(json_extract(version.config, '$.algorithm.name'), '')",
    "user_id": (
        "(SELECT m.id FROM job AS j JOIN project AS p ON p.id = j.project_id"
        " JOIN member AS m ON m.account_id = p.account_id AND m.name = j.creator_name"
        " WHERE j.id = version.job_id)"
    ),
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
    f" {_DURATION.format(table='version')}, version.pool_id, version.flavor_code, version.config,"
    " job.creator_name, workload.uid, workload.phase, workload.reason, workload.message,"
    " workload.task_count, workload.priority, workload.id, workload.attempt_count,"
    " workload.attempt_started_at_ms, workload.task_cpu_millis, workload.task_memory_mib,"
    " workload.task_gpu_count, workload.task_npu_count"
)
_TRAINING_TABLES = (
    "version JOIN job ON job.id = version.job_id JOIN workload ON workload.id = version.workload_id"
)
_TRAINING_ROWS = _Rows(_TRAINING_COLUMNS, "version", _TRAINING_TABLES)


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
    duration_ms: int | None
    pool_id: str  # '' is the public pool
    flavor_code: str
    config: str  # JSON, as `domain.training.TrainingConfig`
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
    key: str  # of _SEARCHED
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

    @property
    def is_quick(self) -> bool:
        """Whether it is a bounded index read; anything else belongs into a thread."""
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
    """(how many match, the rows of the page)."""
    scope = _training_scope(connection, search)
    key = TRAINING_SORT_KEYS[search.sort_key]
    total, page = _page(connection, scope, key, search, _TRAINING_ROWS)
    return total, [TrainingRow(*row) for row in page]


def _training_scope(connection: Connection, search: TrainingSearch) -> Scope:
    from_ms, to_ms = search.created_from_ms, search.created_to_ms
    more = ""
    values: dict[str, str] = {}
    for index, term in enumerate(search.terms):
        name = f"term_{index}"
        operator, given = term.operator, term.values
        if operator == "like":
            given = tuple(value.casefold() for value in given)
            if len(given) == 1:  # as a rule; it costs a tenth of looking through a list
                operator, values[name] = "like one", given[0]
        condition = _OPERATORS[operator].format(subject=_SEARCHED[term.key], name=name)
        more += f" AND {condition}"
        values.setdefault(name, json.dumps(given))
    whole = Scope(
        table="version",
        project_id=search.project_id,
        workspace_id=search.workspace_id,
        statuses=search.statuses,
        more=more,
        more_values=values,
        candidates=_training_candidates(connection, search.terms),
    )
    if from_ms is None and to_ms is None:
        return whole
    if is_out_of_order(connection, search.project_id, search.workspace_id, "version"):
        # Ids do not tell times where older history came in later: every row is looked at.
        return replace(
            whole,
            more=f"{more} AND created_at_ms BETWEEN :from_ms AND :to_ms",
            more_values={
                **values,
                "from_ms": 0 if from_ms is None else from_ms,
                "to_ms": _LATEST_MS if to_ms is None else to_ms,
            },
        )
    place = replace(whole, statuses=None, more="", more_values={}, candidates=None)
    return replace(
        whole,
        id_from=None if from_ms is None else first_id_since(connection, place, from_ms),
        id_below=None if to_ms is None else first_id_since(connection, place, to_ms + 1),
    )


_LATEST_MS: Final = 2**63 - 1


# Where a part may stand, wholly or in part, in what a name has behind that of its job: -V0002.
_IN_NUMBER: Final = re.compile(r"(-|-v\d*)\Z|\Av?\d*\Z")


def _training_candidates(connection: Connection, terms: Sequence[SearchTerm]) -> Candidates | None:
    """What the first of the terms that an index can answer finds."""
    for term in terms:
        if (term.key, term.operator) == ("id", "in"):
            uids = {"uids": json.dumps(term.values)}
            found = connection.execute(SEARCH["find_versions_by_uid"], uids)
            return Candidates("id", [id_ for (id_,) in found])
        if (term.key, term.operator) == ("name", "like"):
            # What may stand there is left out: the rest is in the name of the job for sure.
            parts = [_IN_NUMBER.sub("", value.casefold()) for value in term.values]
            found_jobs = _jobs_with(connection, parts, column="job_id")
            if found_jobs is not None:
                return found_jobs
    return None


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


# ------------------------------------------------------------------ the workloads of a pool

_POOL_WORKLOAD_COLUMNS = (
    "w.id, w.uid, w.pool_id, w.type, w.name, w.flavor_code, w.phase, w.reason, w.task_count,"
    " w.task_cpu_millis, w.task_memory_mib, w.task_gpu_count, w.task_npu_count, w.priority,"
    " w.created_at_ms, w.started_at_ms, w.ended_at_ms, w.phase_since_ms, w.placements,"
    " w.is_holding, w.partition"
)
_POOL_WORKLOAD_ROWS = _Rows(_POOL_WORKLOAD_COLUMNS, "w", "workload AS w")
_POOL_WORKLOADS = (
    "SELECT id FROM workload INDEXED BY {index}"
    " WHERE project_id = :project_id AND pool_id = :pool_id AND is_deleted = 0"
)
_ON_HOSTS = (
    " AND is_holding = 1 AND EXISTS (SELECT 1 FROM json_each(workload.placements) AS p"
    " WHERE json_extract(p.value, '$.node_name') IN (SELECT value FROM json_each(:hosts)))"
)
_NOT_HIDDEN = " AND workspace_id NOT IN (SELECT value FROM json_each(:hidden))"


def page_of_pool_workloads(
    connection: Connection,
    *,
    project_id: str,
    pool_id: str,
    types: Sequence[str] | None,
    states: Sequence[StatisticsState] | None,
    hosts: Sequence[str] | None,
    is_ascending: bool,
    offset: int,
    limit: int,
    hidden_workspaces: Iterable[str] = (),
) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many match, the rows of the page). Filters that are not asked for are None.

    The total comes from the tally. It is counted where no tally helps: of what is on some hosts,
    which is bounded, and for who may not see every workspace.
    """
    counts = _tallied(connection, project_id, pool_id, types, states)
    values = {"project_id": project_id, "pool_id": pool_id}
    more = ""
    if hosts is not None:
        more += _ON_HOSTS
        values["hosts"] = json.dumps(list(hosts))
    if hidden := sorted(hidden_workspaces):
        more += _NOT_HIDDEN
        values["hidden"] = json.dumps(hidden)
    index = "workload_by_pool" if hosts is None else "workload_holding"
    if types is None and states is None:
        stretches = [_POOL_WORKLOADS.format(index=index) + more]
    else:
        stretches = []
        for number, (type_, state) in enumerate(counts):
            phases = [phase for phase in Phase if view_of(phase).statistics is state]
            for place, phase in enumerate(phases):
                names = f"type_{number}", f"phase_{number}_{place}"
                values |= dict(zip(names, (type_, phase), strict=True))
                index = "workload_by_phase" if hosts is None else "workload_holding"
                stretches.append(
                    _POOL_WORKLOADS.format(index=index)
                    + f" AND type = :{names[0]} AND phase = :{names[1]}{more}"
                )
    total = sum(counts.values())
    if more:
        total = sum(
            connection.execute(f"SELECT count(*) FROM ({stretch})", values).fetchone()[0]  # noqa: S608
            for stretch in stretches
        )
    limit = min(limit, total - offset)
    if limit <= 0:
        return total, []
    # Walked to from its nearer end.
    is_reversed = offset > total // 2
    direction = "ASC" if is_ascending != is_reversed else "DESC"
    page = f"{' UNION ALL '.join(stretches)} ORDER BY 1 {direction} LIMIT :limit OFFSET :offset"
    paged = {
        **values,
        "limit": limit,
        "offset": total - offset - limit if is_reversed else offset,
    }
    rows = connection.execute(_POOL_WORKLOAD_ROWS.by_ids(page), paged).fetchall()
    return total, rows[::-1] if is_reversed else rows


def _tallied(
    connection: Connection,
    project_id: str,
    pool_id: str,
    types: Sequence[str] | None,
    states: Sequence[StatisticsState] | None,
) -> dict[tuple[str, StatisticsState], int]:
    """What the tally counts of some types and states, where it counts any."""
    rows = connection.execute(
        SQL["tallies_of_pool"], {"project_id": project_id, "pool_id": pool_id}
    )
    return {
        (type_, state): count
        for type_, *counts in rows
        if types is None or type_ in types
        for state, count in zip(STATES, counts, strict=True)
        if count and (states is None or state in states)
    }
