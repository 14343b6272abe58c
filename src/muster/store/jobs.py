"""Training jobs, their versions, and job configurations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from muster.domain.errors import JobUnknown, NameTaken, WorkspaceUnknown
from muster.domain.phase import LIVE_STATUSES
from muster.domain.resources import Resources
from muster.store.archive import restored_config
from muster.store.connection import REFUSED, Connection
from muster.store.experiments import take_version
from muster.store.keyblocks import unsettle_job_with_versions, unsettle_jobs, unsettle_versions
from muster.store.nameparts import forget_name
from muster.store.statements import load_statements
from muster.store.tags import take_version_tags
from muster.store.transaction import Transaction

SQL: Final = load_statements("jobs")

NO_VERSION_STATUS: Final = 0  # what a job without a version shows
_LIVE: Final = json.dumps(sorted(LIVE_STATUSES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: int
    project_id: str
    workspace_id: str
    name: str
    description: str
    created_at_ms: int
    version_count: int
    next_version_number: int
    latest_version_id: int | None
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version as it is shown: by itself, or in the list of its job."""

    id: int
    number: int
    pre_version_id: int | None
    status: int
    created_at_ms: int
    started_at_ms: int | None
    duration_ms: int | None  # None while it runs
    pool_id: str  # '' is the public pool
    flavor_code: str
    config: str  # JSON, as `wire.training.VersionConfig`
    workload_uid: str
    message: str
    workload_id: int
    task: Resources  # what one worker holds

    @property
    def name(self) -> str:
        return version_name(self.number)


def version_name(number: int) -> str:
    return f"V{number:04d}"


def check_workspace(connection: Connection, project_id: str, workspace_id: str) -> None:
    """Raise WorkspaceUnknown unless the project has it."""
    found = connection.execute(
        SQL["workspace_exists"], {"project_id": project_id, "workspace_id": workspace_id}
    ).fetchone()
    if found is None:
        raise workspace_unknown(workspace_id)


def workspace_unknown(workspace_id: str) -> WorkspaceUnknown:
    """One that may not be entered is answered like one that is not there."""
    return WorkspaceUnknown(
        f"workspace_id is {workspace_id!r}; this project has no such workspace."
        " The default one is '0'."
    )


def count_live_jobs(connection: Connection, project_id: str) -> int:
    """Jobs of the project that count against its quota: those not at rest."""
    [count] = connection.execute(
        SQL["count_jobs_in"], {"project_id": project_id, "statuses": _LIVE}
    ).fetchone()
    return int(count)


def name_taken(name: str) -> NameTaken:
    """The message keeps the documented form: clients look for it."""
    return NameTaken(f"Job name:{name} is existed")


def is_name_taken(connection: Connection, project_id: str, workspace_id: str, name: str) -> bool:
    key = {"project_id": project_id, "workspace_id": workspace_id, "name": name}
    return connection.execute(SQL["find_job_by_name"], key).fetchone() is not None


def _count_change(tx: Transaction, job: Job, status: int) -> None:
    """A job shows another version, or none, from now on."""
    tx.counts.job(job.project_id, job.workspace_id, job.status, -1, job_id=job.id)
    tx.counts.job(job.project_id, job.workspace_id, status, 1, job_id=job.id)


def get_job(connection: Connection, project_id: str, job_id: int) -> Job:
    row = connection.execute(
        SQL["get_job"], {"project_id": project_id, "job_id": job_id}
    ).fetchone()
    if row is None:
        raise job_unknown(job_id)
    return Job(
        id=row[0],
        project_id=row[1],
        workspace_id=row[2],
        name=row[3],
        description=row[4],
        created_at_ms=row[5],
        version_count=row[6],
        next_version_number=row[7],
        latest_version_id=row[8],
        status=row[9],
    )


def job_unknown(job_id: int) -> JobUnknown:
    return JobUnknown(f"job_id is {job_id}; this project has no such training job.")


def describe_job(tx: Transaction, project_id: str, job_id: int, description: str) -> None:
    """Change the description, in the job and in what the list of versions shows of it."""
    key = {"project_id": project_id, "job_id": job_id, "description": description}
    unsettle_job_with_versions(tx, job_id)
    if tx.execute(SQL["describe_job"], key).rowcount == 0:
        raise job_unknown(job_id)
    tx.execute(SQL["describe_versions"], {"job_id": job_id, "description": description})


def list_job_versions(
    connection: Connection, job_id: int, *, offset: int, limit: int
) -> list[Version]:
    """Newest first. A limit of -1 is no limit."""
    rows = connection.execute(
        SQL["list_job_versions"], {"job_id": job_id, "offset": offset, "limit": limit}
    )
    return [_version(row) for row in rows]


def get_version(connection: Connection, project_id: str, job_id: int, version_id: int) -> Version:
    row = connection.execute(
        SQL["get_version"],
        {"project_id": project_id, "job_id": job_id, "version_id": version_id},
    ).fetchone()
    if row is None:
        raise JobUnknown(f"version_id is {version_id}; job {job_id} has no such version.")
    return _version(row)


def list_version_workloads(connection: Connection, job_id: int) -> list[int]:
    rows = connection.execute(SQL["list_version_workloads"], {"job_id": job_id})
    return [row[0] for row in rows]


def hide_version(tx: Transaction, job: Job, version_id: int) -> None:
    """Take a version out of every list and total; the one before it is the latest then."""
    unsettle_versions(tx, [version_id])
    unsettle_jobs(tx, [job.id])
    hidden = tx.execute(SQL["hide_version"], {"version_id": version_id}).fetchone()
    if hidden is None:
        return
    project_id, workspace_id, pool_id, hidden_status = hidden
    tx.counts.version(project_id, workspace_id, pool_id, hidden_status, -1, version_id=version_id)
    take_version(tx, version_id)
    take_version_tags(tx, version_id)
    latest = tx.execute(SQL["find_latest_version"], {"job_id": job.id}).fetchone()
    latest_id, status, started_at_ms, duration_ms = latest or (None, NO_VERSION_STATUS, None, 0)
    tx.execute(
        SQL["show_latest_version"],
        {
            "job_id": job.id,
            "version_id": latest_id,
            "status": status,
            "started_at_ms": started_at_ms,
            "duration_ms": duration_ms,
        },
    )
    _count_change(tx, job, status)


def hide_job(tx: Transaction, job: Job) -> None:
    """Take a job and its versions out of every list and total."""
    unsettle_job_with_versions(tx, job.id)
    tx.execute(SQL["hide_job"], {"job_id": job.id})
    forget_name(tx, (job.project_id, job.workspace_id), job.id, job.name)
    tx.counts.job(job.project_id, job.workspace_id, job.status, -1, job_id=job.id)
    hidden = tx.execute(SQL["hide_versions"], {"job_id": job.id}).fetchall()
    for project_id, workspace_id, pool_id, status, version_id in hidden:
        tx.counts.version(project_id, workspace_id, pool_id, status, -1, version_id=version_id)
        take_version(tx, version_id)
        take_version_tags(tx, version_id)
    tx.execute(SQL["drop_job_without_versions"], {"job_id": job.id})


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfig:
    name: str
    description: str
    config: str  # JSON, as `wire.training.JobConfigBody`
    created_at_ms: int


def insert_config(tx: Transaction, project_id: str, config: JobConfig) -> None:
    try:
        tx.execute(
            SQL["insert_config"],
            {
                "project_id": project_id,
                "name": config.name,
                "description": config.description,
                "config": config.config,
                "now_ms": config.created_at_ms,
            },
        )
    except REFUSED as error:
        raise NameTaken(
            f"config_name is {config.name!r}; a job configuration of that name exists."
        ) from error


def get_config(connection: Connection, project_id: str, name: str) -> JobConfig:
    key = {"project_id": project_id, "name": name}
    row = connection.execute(SQL["get_config"], key).fetchone()
    if row is None:
        raise _config_unknown(name)
    return JobConfig(name=row[0], description=row[1], config=row[2], created_at_ms=row[3])


def update_config(tx: Transaction, project_id: str, config: JobConfig) -> None:
    tx.execute(
        SQL["update_config"],
        {
            "project_id": project_id,
            "name": config.name,
            "description": config.description,
            "config": config.config,
        },
    )


def delete_config(tx: Transaction, project_id: str, name: str) -> None:
    if tx.execute(SQL["delete_config"], {"project_id": project_id, "name": name}).rowcount == 0:
        raise _config_unknown(name)


def _config_unknown(name: str) -> JobUnknown:
    return JobUnknown(f"config_name is {name!r}; this project has no such job configuration.")


def _version(row: Sequence[Any]) -> Version:
    return Version(
        id=row[0],
        number=row[1],
        pre_version_id=row[2],
        status=row[3],
        created_at_ms=row[4],
        started_at_ms=row[5],
        duration_ms=row[6],
        pool_id=row[7],
        flavor_code=row[8],
        config=restored_config(row[9], row[17]),
        workload_uid=row[10],
        message=row[11],
        workload_id=row[12],
        task=Resources(
            cpu_millis=row[13], memory_mib=row[14], gpu_count=row[15], npu_count=row[16]
        ),
    )
