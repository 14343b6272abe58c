"""Lists: filter, sort, page and exact total.

The SQL of a list is put together from the constant fragments below, so that each variant can meet
its own index; every value is bound, and no user text ever becomes SQL text. Totals without a search
text are read from the roll-ups and cost the same at any size.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from muster.domain.phase import Phase
from muster.domain.resources import Resources
from muster.store.database import Connection

STREAM_CHUNK_ROWS: Final = 100  # larger chunks hold the interpreter, and so other calls, for longer

# A running version has no stored duration: it changes by itself.
_DURATION = "coalesce({table}.duration_ms, :now_ms - {table}.started_at_ms)"

JOB_SORT_KEYS: Final[Mapping[str, str]] = {
    "job_name": "job.name",
    "job_desc": "job.description",
    "status": "job.status",
    "duration": _DURATION.format(table="job"),
    "version_count": "job.version_count",
    "create_time": "job.id",  # ids and times are handed out together, ascending
    "engine_type": "job.engine_type",
}

VERSION_SORT_KEYS: Final[Mapping[str, str]] = {
    "create_time": "version.id",
    "job_desc": "version.description",
    "status": "version.status",
    "duration": _DURATION.format(table="version"),
    "job_name": "version.job_name",
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


_INDEXED_KEYS: Final = frozenset({"create_time", "status", "job_name"})
_QUICK_OFFSET_MAX: Final = 1_000


def is_quick(query: ListQuery) -> bool:
    """Whether a page is a bounded index read; anything else belongs into a thread."""
    return (
        query.sort_key in _INDEXED_KEYS
        and query.limit is not None
        and query.offset + query.limit <= _QUICK_OFFSET_MAX
        and not query.search
    )


def page_of_jobs(connection: Connection, query: ListQuery) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many match, the rows of the page). Reads an index and a counter, unless searching."""
    rows = connection.execute(*_select("job", _JOB_COLUMNS, JOB_SORT_KEYS, query)).fetchall()
    return count_jobs(connection, query), rows


def page_of_versions(connection: Connection, query: ListQuery) -> tuple[int, list[tuple[Any, ...]]]:
    """(how many match, the rows of the page)."""
    rows = connection.execute(
        *_select("version", _VERSION_COLUMNS, VERSION_SORT_KEYS, query)
    ).fetchall()
    return count_versions(connection, query), rows


def stream_versions(connection: Connection, query: ListQuery) -> Iterator[list[tuple[Any, ...]]]:
    """The rows in chunks of STREAM_CHUNK_ROWS, on the snapshot of the connection."""
    cursor = connection.execute(*_select("version", _VERSION_COLUMNS, VERSION_SORT_KEYS, query))
    while rows := cursor.fetchmany(STREAM_CHUNK_ROWS):
        yield rows


def count_jobs(connection: Connection, query: ListQuery) -> int:
    if query.search:
        where, values = _where("job", query)
        sql = f"SELECT count(*) FROM job WHERE {where}"  # noqa: S608 - constant fragments
    else:
        where, values = _where_total("job_total", query)
        sql = f"SELECT coalesce(sum(count), 0) FROM job_total WHERE {where}"  # noqa: S608
    [count] = connection.execute(sql, values).fetchone()
    return int(count)


def count_versions(connection: Connection, query: ListQuery) -> int:
    where, values = _where_total("version_total", query)
    sql = f"SELECT coalesce(sum(count), 0) FROM version_total WHERE {where}"  # noqa: S608
    [count] = connection.execute(sql, values).fetchone()
    return int(count)


def _select(
    table: str, columns: str, sort_keys: Mapping[str, str], query: ListQuery
) -> tuple[str, dict[str, Any]]:
    where, values = _where(table, query)
    direction = "DESC" if query.is_descending else "ASC"
    key = sort_keys[query.sort_key]
    paging = {
        "limit": -1 if query.limit is None else query.limit,
        "offset": query.offset,
        "now_ms": query.now_ms,
    }
    if key == f"{table}.id" and len(query.statuses) > 1 and not query.search:
        where, values = _where(table, replace(query, statuses=()))
        page = _merged_ids(table, where, query.statuses, direction, values)
        sql = (
            f"SELECT {columns} FROM {page} AS page"  # noqa: S608 - constant fragments
            f" JOIN {table} ON {table}.id = page.id ORDER BY {key} {direction}"
        )
        return sql, values | paging
    # The id breaks ties, ascending: so the order is total and pages neither repeat nor skip.
    order = f"{key} {direction}" if key == f"{table}.id" else f"{key} {direction}, {table}.id"
    sql = (
        f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {order}"  # noqa: S608
        " LIMIT :limit OFFSET :offset"
    )
    return sql, values | paging


def _merged_ids(
    table: str, where: str, statuses: Sequence[int], direction: str, values: dict[str, Any]
) -> str:
    """The ids of one page of several statuses, in id order.

    Each status lies in id order in its own stretch of the index; merging them reads as far as the
    page goes, where one condition on all of them would be answered by sorting every match.
    """
    names = _bind_statuses(tuple(dict.fromkeys(statuses)), values)  # each stretch once
    stretches = " UNION ALL ".join(
        f"SELECT {table}.id FROM {table} WHERE {where} AND {table}.status = :{name}"  # noqa: S608
        for name in names
    )
    return f"({stretches} ORDER BY 1 {direction} LIMIT :limit OFFSET :offset)"


def _where(table: str, query: ListQuery) -> tuple[str, dict[str, Any]]:
    where, values = _where_total(table, query)
    where += f" AND {table}.is_deleted = 0"
    if query.search:
        where += f" AND instr(lower({table}.name), lower(:search)) > 0"
        values["search"] = query.search
    return where, values


def _where_total(table: str, query: ListQuery) -> tuple[str, dict[str, Any]]:
    where = f"{table}.project_id = :project_id AND {table}.workspace_id = :workspace_id"
    values: dict[str, Any] = {"project_id": query.project_id, "workspace_id": query.workspace_id}
    if query.pool_id is not None:
        where += f" AND {table}.pool_id = :pool_id"
        values["pool_id"] = query.pool_id
    if query.statuses:
        where += f" AND {table}.status IN ({_placeholders(query.statuses, values)})"
    return where, values


def _placeholders(statuses: Sequence[int], values: dict[str, Any]) -> str:
    return ", ".join(f":{name}" for name in _bind_statuses(statuses, values))


def _bind_statuses(statuses: Sequence[int], values: dict[str, Any]) -> list[str]:
    names = [f"status_{index}" for index in range(len(statuses))]
    values |= dict(zip(names, statuses, strict=True))
    return names


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

TRAINING_SORT_KEYS: Final[Mapping[str, str]] = {
    "create_time": "version.id",
    "name": "version.job_name",
    "phase": "version.status",
    "duration": _DURATION.format(table="version"),
}

# What a search may look at. Each reads one row by its key, so that a count needs no join.
_SEARCHED: Final[Mapping[str, str]] = {
    "name": _TRAINING_NAME,
    "id": "(SELECT w.uid FROM workload AS w WHERE w.id = version.workload_id)",
    "pool_id": "(SELECT w.pool_id FROM workload AS w WHERE w.id = version.workload_id)",
    "user_id": (
        "(SELECT m.id FROM job AS j JOIN project AS p ON p.id = j.project_id"
        " JOIN member AS m ON m.account_id = p.account_id AND m.name = j.creator_name"
        " WHERE j.id = version.job_id)"
    ),
}

_OPERATORS: Final[Mapping[str, str]] = {
    "in": "coalesce({subject}, '') IN (SELECT value FROM json_each(:{name}))",
    "not": "coalesce({subject}, '') NOT IN (SELECT value FROM json_each(:{name}))",
    "like": (
        "EXISTS (SELECT 1 FROM json_each(:{name}) AS part"
        " WHERE instr(lower({subject}), lower(part.value)) > 0)"
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
            self.sort_key == "create_time"
            and not self.is_narrowed
            and self.offset + self.limit <= _QUICK_OFFSET_MAX
        )

    @property
    def is_narrowed(self) -> bool:
        """By more than the counters know of."""
        times = (self.created_from_ms, self.created_to_ms)
        return bool(self.terms) or any(time is not None for time in times)


def page_of_training_jobs(
    connection: Connection, search: TrainingSearch
) -> tuple[int, list[TrainingRow]]:
    """(how many match, the rows of the page)."""
    where, values = _where_training(search)
    direction = "DESC" if search.is_descending else "ASC"
    key = TRAINING_SORT_KEYS[search.sort_key]
    order = f"{key} {direction}" if key == "version.id" else f"{key} {direction}, version.id"
    sql = (
        f"SELECT {_TRAINING_COLUMNS} FROM {_TRAINING_TABLES}"  # noqa: S608 - constant fragments
        f" WHERE {where} ORDER BY {order} LIMIT :limit OFFSET :offset"
    )
    paged = values | {"now_ms": search.now_ms, "limit": search.limit, "offset": search.offset}
    if key == "version.id" and not search.is_narrowed and len(search.statuses or ()) > 1:
        assert search.statuses is not None
        each, _ = _where_training(replace(search, statuses=None))
        page_ids = _merged_ids("version", each, search.statuses, direction, paged)
        sql = (
            f"SELECT {_TRAINING_COLUMNS} FROM {page_ids} AS page"  # noqa: S608
            f" CROSS JOIN {_TRAINING_TABLES} WHERE version.id = page.id ORDER BY {order}"
        )
    page = [TrainingRow(*row) for row in connection.execute(sql, paged)]
    return _count_training(connection, search, where, values), page


def _count_training(
    connection: Connection, search: TrainingSearch, where: str, values: dict[str, Any]
) -> int:
    if search.is_narrowed:
        sql = f"SELECT count(*) FROM version WHERE {where}"  # noqa: S608 - constant fragments
    else:
        where, values = _where_training_total("version_total", search)
        sql = f"SELECT coalesce(sum(count), 0) FROM version_total WHERE {where}"  # noqa: S608
    [count] = connection.execute(sql, values).fetchone()
    return int(count)


def _where_training(search: TrainingSearch) -> tuple[str, dict[str, Any]]:
    where, values = _where_training_total("version", search)
    where += " AND version.is_deleted = 0"
    if search.created_from_ms is not None:
        where += " AND version.created_at_ms >= :created_from_ms"
        values["created_from_ms"] = search.created_from_ms
    if search.created_to_ms is not None:
        where += " AND version.created_at_ms <= :created_to_ms"
        values["created_to_ms"] = search.created_to_ms
    for index, term in enumerate(search.terms):
        name = f"term_{index}"
        condition = _OPERATORS[term.operator].format(subject=_SEARCHED[term.key], name=name)
        where += f" AND {condition}"
        values[name] = json.dumps(term.values)
    return where, values


def _where_training_total(table: str, search: TrainingSearch) -> tuple[str, dict[str, Any]]:
    where = f"{table}.project_id = :project_id AND {table}.workspace_id = :workspace_id"
    values: dict[str, Any] = {"project_id": search.project_id, "workspace_id": search.workspace_id}
    if search.statuses is not None:
        where += f" AND {table}.status IN ({_placeholders(search.statuses, values)})"
    return where, values


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
