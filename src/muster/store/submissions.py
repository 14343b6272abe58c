"""What users submit: jobs and their versions, many at once.

What may be stored is decided for all of it first; then the rows are written table by table, as
they stay. One statement for many rows costs hardly more than one for one.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from muster.domain.command import Run
from muster.domain.errors import MusterError, QuotaExceeded, StoragePathInvalid
from muster.domain.phase import LIVE_STATUSES, Event, Phase, next_phase, view_of
from muster.domain.resources import Resources
from muster.domain.workload import WorkloadType
from muster.store.archive import kept_config
from muster.store.buckets import claim_bucket
from muster.store.experiments import put_version
from muster.store.ids import Ids
from muster.store.jobs import (
    NO_VERSION_STATUS,
    Job,
    count_live_jobs,
    describe_job,
    get_job,
    name_taken,
    workspace_unknown,
)
from muster.store.keyblocks import unsettle_jobs
from muster.store.manyrows import run_for_rows
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, reads_no_counters, tells_lists
from muster.store.workloads import NewWorkload, count_new_workload, insert_workloads
from muster.store.workspaces import WorkloadRoom

SQL: Final = load_statements("submissions")

_ACCEPTED: Final = view_of(Phase.CREATING).v1_status
# What its first move comes to, where that is made in the transaction that accepts a version.
_QUEUED: Final = next_phase(Phase.CREATING, Event.ENQUEUED)

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    workspace_id: str
    name: str
    description: str
    creator_name: str
    engine_type: int = 0  # until it has a version


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version with everything looked up that storing it takes."""

    workload_uid: str
    pool_id: str
    partition: str
    is_in_public_pool: bool
    flavor_code: str
    task: Resources  # what one worker holds
    task_count: int
    priority: int
    engine_type: int
    run: Run
    config: str  # JSON, as `wire.training.VersionConfig`
    pre_version_id: int | None = None
    time_limit_ms: int | None = None
    retries: int = 0
    experiment_uid: str = ""  # that it stands in, if that is still there; "": in none
    claims: tuple[tuple[str, bool], ...] = ()  # buckets for results, and whether they are there
    enqueued_by: str = ""  # who puts it into its queue at once; "": it is only accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What one caller asks for: a new job, a version of one, or both. All or nothing."""

    project_id: str
    job: NewJob | int  # or the id of the one that it is a further version of
    version: NewVersion | None  # None: a job without a version
    job_quota: int  # live jobs that the project may have
    now_ms: int
    description: str = ""  # replaces that of a job which is there already, unless it is empty


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedVersion:
    job_id: int
    job_name: str
    status: int  # in which it was accepted, whatever has happened to it since
    created_at_ms: int
    version_id: int | None = None  # None: the job was made without a version
    version_number: int | None = None
    workload_uid: str | None = None


@reads_no_counters
@tells_lists
def insert_submissions(
    tx: Transaction, submissions: Sequence[Submission]
) -> list[SubmittedVersion | MusterError]:
    """Store what can be stored, in the order in which it was asked for.

    Times are never before that of the row before: lists in id order are in time order then.

    Returns:
        One outcome a submission: what was made, or why nothing of it was.
    """
    made = _Made.begin(tx, submissions)
    outcomes: list[SubmittedVersion | MusterError] = []
    for submission in submissions:
        try:
            outcomes.append(made.add(submission))
            tx.changed_lists.add(submission.project_id)
        except MusterError as error:
            outcomes.append(error)
    made.write()
    return outcomes


def insert_submission(tx: Transaction, submission: Submission) -> SubmittedVersion:
    """Store a single one, in a transaction that does more.

    Raises:
        MusterError: nothing of it was stored.
    """
    [outcome] = insert_submissions(tx, [submission])
    if isinstance(outcome, MusterError):
        raise outcome
    return outcome


@dataclass(slots=True, kw_only=True)
class _Made:
    """What is known of the store, and what is to be written to it, one submission after another.

    A submission is checked before anything here changes.
    """

    tx: Transaction
    ids: Ids
    job_time_ms: int
    workload_time_ms: int
    workspaces: set[tuple[str, str]]
    taken: set[tuple[str, str, str]]  # (project, workspace, name), as far as they are asked for
    room: WorkloadRoom
    live_jobs: dict[str, int] = field(default_factory=dict)  # by project
    claimed: dict[tuple[str, str], bool] = field(default_factory=dict)  # (project, bucket)
    new_jobs: dict[int, tuple[Job, NewJob, int]] = field(default_factory=dict)  # and engine type
    old_jobs: dict[int, tuple[Job, int]] = field(default_factory=dict)  # likewise
    descriptions: dict[int, tuple[str, str]] = field(default_factory=dict)  # (project, text) by job
    workloads: list[tuple[int, int, NewWorkload]] = field(default_factory=list)
    versions: list[_Row] = field(default_factory=list)
    configs: list[_Row] = field(default_factory=list)
    events: list[_Row] = field(default_factory=list)
    in_experiments: list[tuple[str, str, int]] = field(default_factory=list)

    @classmethod
    def begin(cls, tx: Transaction, submissions: Sequence[Submission]) -> "_Made":
        job_time_ms, workload_time_ms = tx.execute(SQL["newest_times"]).fetchone()
        projects = sorted({one.project_id for one in submissions})
        return cls(
            tx=tx,
            ids=Ids.read(tx),
            job_time_ms=job_time_ms,
            workload_time_ms=workload_time_ms,
            workspaces={
                (project_id, id_)
                for project_id, id_ in tx.execute(
                    SQL["list_workspaces_of"], {"project_ids": json.dumps(projects)}
                )
            },
            taken=_find_taken_names(tx, submissions),
            room=WorkloadRoom(tx),
        )

    def add(self, submission: Submission) -> SubmittedVersion:
        """Check one against all that is there, then take it in. Raises what speaks against it."""
        project_id, version = submission.project_id, submission.version
        job = self._job_of(submission)
        live = self._live_jobs(project_id)
        _check_job_quota(live, submission.job_quota)
        if version is not None:
            self.room.check(
                project_id,
                job.workspace_id,
                WorkloadType.TRAIN,
                version.task * version.task_count,
            )
            self._claim(project_id, version.claims)
        if isinstance(submission.job, NewJob):
            self._take_in_job(job, submission.job)
        elif submission.description:
            self.descriptions[job.id] = (project_id, submission.description)
            job = replace(job, description=submission.description)
        if version is None:
            return SubmittedVersion(
                job_id=job.id,
                job_name=job.name,
                status=job.status,
                created_at_ms=job.created_at_ms,
            )
        self.live_jobs[project_id] = live + (job.status not in LIVE_STATUSES)
        return self._take_in_version(job, version, submission.now_ms)

    def _job_of(self, submission: Submission) -> Job:
        """The one that is there, or the one that is to be made."""
        project_id, asked = submission.project_id, submission.job
        if not isinstance(asked, NewJob):
            found, _ = self.old_jobs.get(asked) or (None, 0)
            return found or get_job(self.tx.connection, project_id, asked)
        if (project_id, asked.workspace_id) not in self.workspaces:
            raise workspace_unknown(asked.workspace_id)
        if (project_id, asked.workspace_id, asked.name) in self.taken:
            raise name_taken(asked.name)
        return Job(
            id=self.ids.job + 1,
            project_id=project_id,
            workspace_id=asked.workspace_id,
            name=asked.name,
            description=asked.description,
            created_at_ms=max(submission.now_ms, self.job_time_ms),
            version_count=0,
            next_version_number=1,
            latest_version_id=None,
            status=NO_VERSION_STATUS,
        )

    def _live_jobs(self, project_id: str) -> int:
        if project_id not in self.live_jobs:
            stored = count_live_jobs(self.tx.connection, project_id)
            pending = self.tx.counts.pending_jobs(project_id, LIVE_STATUSES)
            self.live_jobs[project_id] = stored + pending
        return self.live_jobs[project_id]

    def _claim(self, project_id: str, claims: Iterable[tuple[str, bool]]) -> None:
        for bucket, is_there in claims:
            key = (project_id, bucket)
            if key not in self.claimed:
                self.claimed[key] = claim_bucket(self.tx, project_id, bucket, is_there=is_there)
            if not self.claimed[key]:
                raise StoragePathInvalid(
                    f"A place for results is in the bucket {bucket!r};"
                    " this project has no such bucket, and the name is taken."
                )

    def _take_in_job(self, job: Job, new: NewJob) -> None:
        self.ids.job = job.id
        self.job_time_ms = job.created_at_ms
        self.taken.add((job.project_id, job.workspace_id, job.name))
        self.new_jobs[job.id] = (job, new, new.engine_type)
        self.tx.counts.job(job.project_id, job.workspace_id, job.status, 1, job_id=job.id)

    def _take_in_version(self, job: Job, new: NewVersion, now_ms: int) -> SubmittedVersion:
        self.ids.version += 1
        self.ids.workload += 1
        version_id, workload_id = self.ids.version, self.ids.workload
        created_at_ms = self.workload_time_ms = max(now_ms, self.workload_time_ms)
        project_id, workspace_id = job.project_id, job.workspace_id
        shown_pool = "" if new.is_in_public_pool else new.pool_id
        number = job.next_version_number
        workload = _workload_of(job, new)
        status = view_of(workload.phase).v1_status
        count_new_workload(self.tx, workload)
        self.workloads.append((workload_id, created_at_ms, workload))
        if new.enqueued_by:
            self.events.append(
                (workload_id, created_at_ms, Event.ENQUEUED.value, Phase.CREATING.value,
                 workload.phase.value, new.enqueued_by)
            )  # fmt: skip
        self.versions.append(
            (version_id, job.id, workload_id, project_id, workspace_id, shown_pool, number,
             new.pre_version_id, job.name, job.description, new.flavor_code,
             new.task.gpu_count * new.task_count, new.task.npu_count * new.task_count,
             kept_config(new.config), status, created_at_ms)
        )  # fmt: skip
        self.configs.append((workload_id, new.config))
        if new.experiment_uid:
            self.in_experiments.append((project_id, new.experiment_uid, version_id))
        self.tx.counts.version(
            project_id, workspace_id, shown_pool, status, 1, version_id=version_id
        )
        self.tx.counts.job(project_id, workspace_id, job.status, -1, job_id=job.id)
        self.tx.counts.job(project_id, workspace_id, status, 1, job_id=job.id)
        shown = replace(
            job,
            version_count=job.version_count + 1,
            next_version_number=number + 1,
            latest_version_id=version_id,
            status=status,
        )
        if job.id in self.new_jobs:
            self.new_jobs[job.id] = (shown, self.new_jobs[job.id][1], new.engine_type)
        else:
            self.old_jobs[job.id] = (shown, new.engine_type)
        return SubmittedVersion(
            job_id=job.id,
            job_name=job.name,
            status=_ACCEPTED,
            created_at_ms=created_at_ms,
            version_id=version_id,
            version_number=number,
            workload_uid=new.workload_uid,
        )

    def write(self) -> None:
        tx = self.tx
        for job_id, (project_id, description) in self.descriptions.items():
            describe_job(tx, project_id, job_id, description)
        rows = [
            (job.id, job.project_id, job.workspace_id, job.name, job.description,
             new.creator_name, job.created_at_ms, job.version_count, job.next_version_number,
             job.latest_version_id, job.status, engine_type)
            for job, new, engine_type in self.new_jobs.values()
        ]  # fmt: skip
        run_for_rows(tx.connection, SQL["insert_job"], rows)
        insert_workloads(tx, self.workloads)
        run_for_rows(tx.connection, SQL["insert_version"], self.versions)
        run_for_rows(tx.connection, SQL["insert_config"], self.configs)
        run_for_rows(tx.connection, SQL["insert_first_event"], self.events)
        for project_id, experiment_uid, version_id in self.in_experiments:
            put_version(tx, project_id, experiment_uid, version_id)
        if self.old_jobs:
            unsettle_jobs(tx, [job.id for job, _ in self.old_jobs.values()])
        for job, engine_type in self.old_jobs.values():
            shown = {
                "job_id": job.id,
                "version_count": job.version_count,
                "next_version_number": job.next_version_number,
                "version_id": job.latest_version_id,
                "status": job.status,
                "engine_type": engine_type,
            }
            tx.execute(SQL["show_newest_version"], shown)
        self.ids.keep(tx)


def _find_taken_names(
    tx: Transaction, submissions: Sequence[Submission]
) -> set[tuple[str, str, str]]:
    asked: dict[tuple[str, str], list[str]] = {}
    for one in submissions:
        if isinstance(one.job, NewJob):
            asked.setdefault((one.project_id, one.job.workspace_id), []).append(one.job.name)
    return {
        (project_id, workspace_id, name)
        for (project_id, workspace_id), names in asked.items()
        for (name,) in tx.execute(
            SQL["find_taken_names"],
            {"project_id": project_id, "workspace_id": workspace_id, "names": json.dumps(names)},
        )
    }


def _check_job_quota(live: int, quota: int) -> None:
    if live >= quota:
        raise QuotaExceeded(
            f"This project has {live} live jobs and may have {quota}; 1 more was asked for."
            " Wait until some end, or stop some."
        )


def _workload_of(job: Job, new: NewVersion) -> NewWorkload:
    return NewWorkload(
        uid=new.workload_uid,
        project_id=job.project_id,
        workspace_id=job.workspace_id,
        pool_id=new.pool_id,
        partition=new.partition,
        type=WorkloadType.TRAIN,
        name=job.name,
        flavor_code=new.flavor_code,
        task=new.task,
        task_count=new.task_count,
        priority=new.priority,
        run=new.run,
        time_limit_ms=new.time_limit_ms,
        retries=new.retries,
        phase=_QUEUED if new.enqueued_by else Phase.CREATING,
    )
