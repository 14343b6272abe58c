"""History made elsewhere: many ended versions at once in, and all of them out again.

Ids are handed out here and the rows written table by table: that is ten times as quick as one
version after the other, and everything is counted in the same transaction all the same.
"""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import count
from typing import Any, Final

import msgspec

from muster.domain.history import ENDED, HistoryRow, ending_of
from muster.domain.phase import Event, Reason, StatisticsState, view_of
from muster.domain.pool import public_pool_id
from muster.domain.workload import WorkloadType
from muster.store.connection import Connection
from muster.store.counting import BLOCK_BITS
from muster.store.ids import Ids
from muster.store.keyblocks import unsettle_jobs
from muster.store.manyrows import run_for_rows
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("history")

EXPORT_CHUNK_ROWS: Final = 200
CACHED_MAX: Final = 1_024  # texts that many rows have in common


@dataclass(slots=True)
class Moved:
    """What became of some rows."""

    imported: int = 0
    present: int = 0  # they came in earlier
    refused: list[tuple[int, str]] = field(default_factory=list)  # (place among the rows, why)


@dataclass(slots=True)
class _Job:
    """A job that gets versions, as it will be when all of them are in."""

    id: int
    source: str
    first: HistoryRow | None  # None: the job was there before
    was_status: int
    next_number: int
    count: int = 0
    latest_id: int = 0
    latest: HistoryRow | None = None


def insert_history(
    tx: Transaction,
    project_id: str,
    rows: Sequence[HistoryRow],
    *,
    actor: str,
    now_ms: int,
    pool_as_public: bool,
) -> Moved:
    """Store versions that have ended, and count them. What cannot be stored is refused one by one.

    Args:
        tx: the transaction to do it in.
        project_id: where they go.
        rows: as checked by `check_row`; no two of one source. Oldest first, so that lists in id
            order are in time order; else `is_out_of_order` is true from then on.
        actor: who moves them in; named as the creator of jobs whose history names nobody.
        now_ms: when.
        pool_as_public: what ran in a pool that the project has not goes to its public one.
    """
    moved = Moved()
    sources = [row.source for row in rows]
    known = _Known.read(tx.connection, project_id, rows, sources)
    jobs = _find_jobs(tx.connection, project_id, rows)
    ids = Ids.read(tx)
    new_uids = _uids()
    made = _Made(project_id=project_id, public_pool=known.public_pool, actor=actor, now_ms=now_ms)
    changed: dict[int, _Job] = {}
    for place, (row, source) in enumerate(zip(rows, sources, strict=True)):
        if known.has(source, row.uid):
            moved.present += 1
            continue
        pool = known.pool_of(row, pool_as_public=pool_as_public)
        job = jobs.get((row.workspace_id, row.job_name))
        why = known.refusal(row, pool, job)
        if why or pool is None:
            moved.refused.append((place, why))
            continue
        if job is None:
            ids.job += 1
            job = _Job(ids.job, row.source_job, row, was_status=0, next_number=1)
            jobs[row.workspace_id, row.job_name] = job
        changed[job.id] = job
        ids.version += 1
        ids.workload += 1
        uid = row.uid if row.uid and row.uid not in known.taken_uids else next(new_uids)
        known.taken_uids.add(uid)
        made.add(row, job, pool, ids.workload, ids.version, uid)
        made.sources.append((project_id, source, ids.version))
    _note_order(tx, project_id, changed.values(), made.versions)
    _write_jobs(tx, project_id, changed.values(), actor)
    made.write(tx)
    ids.keep(tx)
    moved.imported = len(made.versions)
    return moved


_Row = tuple[Any, ...]


@dataclass(slots=True)
class _Made:
    """Rows to be written, table by table, and what they count. Enums go in as the text they are."""

    project_id: str
    public_pool: str
    actor: str
    now_ms: int
    workloads: list[_Row] = field(default_factory=list)
    versions: list[_Row] = field(default_factory=list)
    events: list[_Row] = field(default_factory=list)
    sources: list[_Row] = field(default_factory=list)
    in_pools: Counter[tuple[str, StatisticsState]] = field(default_factory=Counter)
    in_lists: Counter[tuple[str, str, int, int]] = field(default_factory=Counter)

    def add(
        self,
        row: HistoryRow,
        job: _Job,
        pool: tuple[str, str],
        workload_id: int,
        version_id: int,
        uid: str,
    ) -> None:
        project_id = self.project_id
        pool_id, partition = pool
        is_public = pool_id == self.public_pool
        shown_pool = "" if is_public else pool_id
        workspace_id, name, status = row.workspace_id, row.job_name, row.status
        phase, reason, state = _ending(status, row.reason)
        tasks, gpus, npus = _tasks_of(row)
        number = max(job.next_number, row.number or 0)
        created, started, ended = row.created_at_ms, row.started_at_ms, row.ended_at_ms
        message = row.message or (_other_pool(row) if is_public and row.pool_id != pool_id else "")
        self.workloads.append(
            (workload_id, uid, project_id, workspace_id, pool_id, partition, name, row.flavor_code,
             tasks, gpus, npus, _run_of(name), phase, reason, message, created, ended, started,
             ended)
        )  # fmt: skip
        self.versions.append(
            (version_id, job.id, workload_id, project_id, workspace_id, shown_pool, number, name,
             row.description, row.flavor_code, row.gpu_count, row.npu_count,
             _config_of(row.worker_count, shown_pool), status, created, started, ended,
             0 if started is None else ended - started)
        )  # fmt: skip
        self.events.append((workload_id, self.now_ms, _IMPORTED, phase, phase, reason, self.actor))
        self.in_pools[pool_id, state] += 1
        self.in_lists[workspace_id, shown_pool, status, version_id >> BLOCK_BITS] += 1
        job.count += 1
        job.next_number = number + 1
        job.latest_id, job.latest = version_id, row

    def write(self, tx: Transaction) -> None:
        for (pool_id, state), count_ in self.in_pools.items():
            tx.counts.workload(self.project_id, pool_id, WorkloadType.TRAIN, state, count_)
        for (workspace_id, pool_id, status, block), count_ in self.in_lists.items():
            tx.counts.version(
                self.project_id,
                workspace_id,
                pool_id,
                status,
                count_,
                version_id=block << BLOCK_BITS,
            )
        _insert(tx, "insert_workload", self.workloads)
        _insert(tx, "insert_version", self.versions)
        _insert(tx, "insert_event", self.events)
        # In the order of their key: each page of it is found and changed once.
        self.sources.sort()
        _insert(tx, "insert_source", self.sources)


def _insert(tx: Transaction, statement: str, rows: Sequence[_Row]) -> None:
    run_for_rows(tx.connection, SQL[statement], rows)


_ENCODER: Final = msgspec.json.Encoder()
_IMPORTED: Final = Event.IMPORTED.value


def _json(values: object) -> str:
    return _ENCODER.encode(values).decode()


@cache
def _ending(status: int, reason: Reason) -> tuple[str, str, StatisticsState]:
    phase, kept = ending_of(status, reason)
    return phase.value, kept.value, view_of(phase, kept).statistics


@dataclass(slots=True, kw_only=True)
class _Known:
    """What is there already, as far as some rows ask for it."""

    sources: set[str]
    own_uids: set[str]  # of versions that are there, in this project
    taken_uids: set[str]  # in any project, deleted or not
    workspaces: set[str]
    public_pool: str
    pools: Mapping[str, tuple[str, str]]  # (id, partition) by id
    pools_by_name: Mapping[str, tuple[str, str]]

    @classmethod
    def read(
        cls,
        connection: Connection,
        project_id: str,
        rows: Sequence[HistoryRow],
        sources: Sequence[str],
    ) -> "_Known":
        def of_project(statement: str, **values: object) -> list[Any]:
            key = {"project_id": project_id, **values}
            return connection.execute(SQL[statement], key).fetchall()

        uids = connection.execute(
            SQL["find_uids"], {"uids": _json([row.uid for row in rows if row.uid])}
        ).fetchall()
        pools = of_project("list_pools")
        return cls(
            sources={source for (source,) in of_project("find_sources", sources=_json(sources))},
            own_uids={uid for uid, owner, gone in uids if owner == project_id and not gone},
            taken_uids={uid for uid, *_ in uids},
            workspaces={id_ for (id_,) in of_project("list_workspaces")},
            public_pool=public_pool_id(project_id),
            pools={id_: (id_, partition) for id_, _, partition in pools},
            pools_by_name={name: (id_, partition) for id_, name, partition in pools},
        )

    def has(self, source: str, uid: str) -> bool:
        return source in self.sources or uid in self.own_uids

    def pool_of(self, row: HistoryRow, *, pool_as_public: bool) -> tuple[str, str] | None:
        """(id, partition): by id, else by name, else as the caller has it."""
        public = self.pools[self.public_pool]
        if not row.pool_id:
            return public
        found = self.pools.get(row.pool_id) or self.pools_by_name.get(row.pool_name)
        return found or (public if pool_as_public else None)

    def refusal(self, row: HistoryRow, pool: tuple[str, str] | None, job: _Job | None) -> str:
        """Why it cannot be stored; "": it can."""
        if row.workspace_id not in self.workspaces:
            return (
                f"workspace_id is {row.workspace_id!r}; this project has no such workspace."
                " The default one is '0'."
            )
        if pool is None:
            return (
                f"pool_id is {row.pool_id!r}; this project has no pool of that id or name."
                " Make one, or count it in the public pool (--pool-as-public)."
            )
        if job is not None and job.source != row.source_job:
            return (
                f"job_name is {row.job_name!r}; workspace {row.workspace_id!r} has another job of"
                " that name, which is not from this history."
            )
        return ""


def _find_jobs(
    connection: Connection, project_id: str, rows: Iterable[HistoryRow]
) -> dict[tuple[str, str], _Job]:
    """Jobs that have the names of the rows, by workspace and name."""
    names = sorted({(row.workspace_id, row.job_name) for row in rows})
    found = connection.execute(SQL["find_jobs"], {"project_id": project_id, "names": _json(names)})
    return {
        (workspace_id, name): _Job(
            job_id, source or "", None, was_status=status, next_number=next_number
        )
        for workspace_id, name, job_id, status, next_number, source in found
    }


def _uids() -> Iterator[str]:
    """New ids of workloads, as UUIDs of version 8: ascending, which costs an index the least."""
    begin = f"{secrets.token_hex(6)}8{secrets.token_hex(2)[1:]}8{secrets.token_hex(4)[1:]}"
    for number in count():
        yield f"{begin}{number:08x}"


def _tasks_of(row: HistoryRow) -> tuple[int, int, int]:
    """(tasks, GPUs of one, NPUs of one): the cards are told over all workers."""
    tasks = row.worker_count
    if row.gpu_count % tasks or row.npu_count % tasks:
        return 1, row.gpu_count, row.npu_count
    return tasks, row.gpu_count // tasks, row.npu_count // tasks


def _other_pool(row: HistoryRow) -> str:
    return f"It ran in the pool {row.pool_name or row.pool_id}." if row.pool_id else ""


@lru_cache(maxsize=CACHED_MAX)
def _run_of(job_name: str) -> str:
    """As `domain.command.Run`; what is not said is at its default."""
    return _ENCODER.encode({"job_name": job_name}).decode()


@lru_cache(maxsize=CACHED_MAX)
def _config_of(worker_count: int, pool_id: str) -> str:
    """As `TrainingConfig`: what is known of what was asked for. It cannot be run again."""
    config = {"worker_server_num": worker_count, "pool_id": pool_id or None}
    return _ENCODER.encode(config).decode()


def _note_order(
    tx: Transaction,
    project_id: str,
    changed: Iterable[_Job],
    versions: Iterable[tuple[Any, ...]],
) -> None:
    """Note which lists are not in time order any more. Before the rows are written."""
    made = {
        "job": [
            (job.first.workspace_id, _job_created_at(job.first))
            for job in changed
            if job.first is not None
        ],
        "version": [(row[4], row[14]) for row in versions],
    }
    for list_, rows in made.items():
        newest: dict[str, int] = {}
        for workspace_id, created_at_ms in rows:
            key = {"project_id": project_id, "workspace_id": workspace_id}
            if workspace_id not in newest:
                found = tx.execute(SQL[_NEWEST[list_]], key).fetchone()
                newest[workspace_id] = found[0] if found else 0
            if created_at_ms < newest[workspace_id]:
                tx.execute(SQL["note_out_of_order"], {**key, "list": list_})
            newest[workspace_id] = max(newest[workspace_id], created_at_ms)


_NEWEST: Final = {"job": "newest_job", "version": "newest_version"}


def is_out_of_order(connection: Connection, project_id: str, workspace_id: str, list_: str) -> bool:
    """Whether ids of a workspace's "job" or "version" list may not ascend with create times."""
    key = {"project_id": project_id, "workspace_id": workspace_id, "list": list_}
    return connection.execute(SQL["is_out_of_order"], key).fetchone() is not None


def _write_jobs(tx: Transaction, project_id: str, changed: Iterable[_Job], actor: str) -> None:
    new, extended, sources = [], [], []
    # What changes, by workspace, status and block: far fewer than jobs.
    counted: Counter[tuple[str, int, int]] = Counter()
    for job in changed:
        latest, first = job.latest, job.first
        assert latest is not None
        shown = (latest.status, latest.started_at_ms, latest.duration_ms)
        if first is None:
            extended.append((job.count, job.next_number, job.latest_id, *shown, job.id))
            counted[latest.workspace_id, job.was_status, job.id >> BLOCK_BITS] -= 1
        else:
            new.append(
                (job.id, project_id, first.workspace_id, first.job_name, first.job_description,
                 first.creator_name or actor, _job_created_at(first), job.count, job.next_number,
                 job.latest_id, *shown)
            )  # fmt: skip
            sources.append((job.id, job.source))
        counted[latest.workspace_id, latest.status, job.id >> BLOCK_BITS] += 1
    for (workspace_id, status, block), by in counted.items():
        tx.counts.job(project_id, workspace_id, status, by, job_id=block << BLOCK_BITS)
    unsettle_jobs(tx, [row[-1] for row in extended])
    _insert(tx, "insert_job", new)
    _insert(tx, "insert_imported_job", sources)
    tx.connection.executemany(SQL["extend_job"], extended)


def _job_created_at(first: HistoryRow) -> int:
    return first.created_at_ms if first.job_created_at_ms is None else first.job_created_at_ms


# ------------------------------------------------------------------ out


def count_history(connection: Connection, project_id: str, hidden: Iterable[str] = ()) -> int:
    """How many rows `stream_history` has."""
    [count] = connection.execute(
        SQL["count_history"],
        {
            "project_id": project_id,
            "hidden": _json(sorted(hidden)),
            "statuses": _json(list(ENDED)),
        },
    ).fetchone()
    return int(count)


def stream_history(
    connection: Connection, project_id: str, hidden: Iterable[str] = ()
) -> Iterator[list[HistoryRow]]:
    """Every ended version of a project in chunks, on the snapshot of the connection.

    Args:
        connection: of one snapshot.
        project_id: whose.
        hidden: ids of workspaces to leave out.
    """
    cursor = connection.execute(
        SQL["list_history"], {"project_id": project_id, "hidden": _json(sorted(hidden))}
    )
    while rows := cursor.fetchmany(EXPORT_CHUNK_ROWS):
        yield [_row(row) for row in rows]


def _row(row: Sequence[Any]) -> HistoryRow:
    return HistoryRow(
        version_id=str(row[0]),
        job_id=str(row[1]),
        job_name=row[2],
        job_description=row[3],
        description=row[4],
        workspace_id=row[5],
        status=row[6],
        reason=Reason(row[7]),
        message=row[8],
        created_at_ms=row[9],
        started_at_ms=row[10],
        ended_at_ms=row[11],
        pool_id=row[12],
        pool_name=row[13],
        flavor_code=row[14],
        gpu_count=row[15],
        npu_count=row[16],
        worker_count=row[17],
        creator_name=row[18],
        uid=row[19],
        number=row[20],
        job_created_at_ms=row[21],
    )
