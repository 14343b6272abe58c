"""Lists of v2 training jobs: search, sort, page and exact total.

Each version of a job is one of them. What is asked for becomes a scope and a sort key, as in
`listing.py`; `training_terms.py` narrows the scope.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from muster.domain.phase import Phase
from muster.domain.resources import Resources
from muster.store import tags
from muster.store.archive import restored_config
from muster.store.connection import Connection
from muster.store.history import is_out_of_order
from muster.store.listing import QUICK_OFFSET_MAX
from muster.store.paging.pages import TooFar as TooFar
from muster.store.paging.rows import Rows, Wanted, page_of
from muster.store.paging.scope import (
    CREATED,
    DURATION,
    STATUS,
    VERSION_NAME,
    Scope,
    SortKey,
)
from muster.store.paging.totals import first_id_since
from muster.store.tags import TagTerm
from muster.store.training_terms import (
    TRAINING_NAME,
    SearchTerm,
    with_pools,
    with_tags,
    with_terms,
)

TRAINING_SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "create_time": CREATED,
    "name": VERSION_NAME,
    "phase": STATUS,
    "duration": DURATION,
}

_TRAINING_COLUMNS = (
    f"{TRAINING_NAME}, version.job_name, version.id, version.job_id, version.workspace_id,"
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
    tags: tuple[TagTerm, ...] = ()
    is_untagged: bool = False  # without any tag
    is_bounded: bool = False  # TooFar rather than a read that others would feel

    @property
    def is_quick(self) -> bool:
        """Whether it may be a bounded index read; anything else belongs into a thread."""
        return (
            TRAINING_SORT_KEYS[self.sort_key] in (CREATED, STATUS)
            and not self.terms
            and not self.tags
            and not self.is_untagged
            and self.created_from_ms is None
            and self.created_to_ms is None
            and self.offset + self.limit <= QUICK_OFFSET_MAX
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


def _training_scope(connection: Connection, search: TrainingSearch) -> Scope:
    scope = Scope(
        table="version",
        project_id=search.project_id,
        workspace_id=search.workspace_id,
        statuses=search.statuses,
    )
    scope = _within_times(connection, scope, search.created_from_ms, search.created_to_ms)
    scope = with_pools(connection, scope, search.terms)
    if search.is_untagged:
        scope = replace(scope, more=scope.more + tags.UNTAGGED)
    scope = with_tags(connection, scope, search.tags)
    return with_terms(connection, scope, search.terms)


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
