"""Training jobs: submit, run again, describe, stop, delete."""

import dataclasses
import uuid
from functools import partial
from typing import Final

import msgspec

from muster.domain.errors import Conflict, NotStoppable
from muster.domain.experiment import uid_of
from muster.domain.phase import STOPPABLE, Event, Phase, Reason
from muster.domain.training import TrainingConfig, check_description, check_name
from muster.domain.workload import PRIORITY_MIN
from muster.operations.caller import Caller, check_priority
from muster.operations.deletion import delete_workload
from muster.operations.trainingstart import Prepared, Training, prepare
from muster.store import experiments, jobs, moves, workloads
from muster.store.connection import Connection
from muster.store.submissions import (
    NewJob,
    NewVersion,
    Submission,
    SubmittedVersion,
    insert_submissions,
)
from muster.store.transaction import Transaction

MUSTER: Final = "muster"  # the actor of what the platform does by itself


async def submit_job(
    training: Training,
    caller: Caller,
    *,
    name: str,
    description: str,
    workspace_id: str,
    config: TrainingConfig,
    creates_version: bool,
    now_ms: int,
) -> SubmittedVersion:
    """Make a job and, unless told not to, its first version. All or nothing.

    Raises:
        MusterError: nothing was made; the message names the field that is to blame, if one is.
    """
    check_name("job_name", name)
    check_description("job_desc", description)
    project_id = caller.project_id
    check_priority(caller, config.priority or PRIORITY_MIN, workspace_id=workspace_id)
    prepared = None
    if creates_version:
        is_free = partial(training.database.read, _check_free_name, project_id, workspace_id, name)
        prepared = await prepare(training, caller, name, config, before_copying=is_free)
    submission = Submission(
        project_id=project_id,
        job=NewJob(
            workspace_id=workspace_id,
            name=name,
            description=description,
            creator_name=caller.user_name,
        ),
        version=_new_version(prepared) if prepared else None,
        job_quota=training.job_quota,
        now_ms=now_ms,
    )
    return await training.database.write_together(insert_submissions, submission)


def _check_free_name(connection: Connection, project_id: str, workspace_id: str, name: str) -> None:
    """Before anything is copied; the transaction makes sure of it once more."""
    jobs.check_workspace(connection, project_id, workspace_id)
    if jobs.is_name_taken(connection, project_id, workspace_id, name):
        raise jobs.name_taken(name)


async def create_version(
    training: Training,
    caller: Caller,
    *,
    job_id: int,
    description: str,
    config: TrainingConfig,
    pre_version_id: int | None,
    now_ms: int,
) -> SubmittedVersion:
    """Run a job again: what `config` does not say is taken from the version before.

    Raises:
        MusterError: nothing was made, as `submit_job` tells it.
    """
    check_description("job_desc", description)
    database, project_id = training.database, caller.project_id
    job = await database.read(jobs.get_job, project_id, job_id)
    base = await database.read(_base_version, job, pre_version_id)
    if base is not None:
        config = await _without_lost_experiment(training, caller, config.over(config_of(base)))
    check_priority(caller, config.priority or PRIORITY_MIN, workspace_id=job.workspace_id)
    prepared = await prepare(training, caller, job.name, config)
    submission = Submission(
        project_id=project_id,
        job=job_id,
        description=description,
        version=_new_version(prepared, pre_version_id=base.id if base else None),
        job_quota=training.job_quota,
        now_ms=now_ms,
    )
    return await database.write_together(insert_submissions, submission)


async def _without_lost_experiment(
    training: Training, caller: Caller, config: TrainingConfig
) -> TrainingConfig:
    """A version comes to stand where the one before it stands, if that is still there."""
    if config.experiment is None:
        return config
    uid = uid_of(config.experiment.id)
    found = await training.database.read(experiments.find_experiment, caller.project_id, uid)
    return config if found else dataclasses.replace(config, experiment=None)


def config_of(version: jobs.Version) -> TrainingConfig:
    return msgspec.json.decode(version.config, type=TrainingConfig)


def _base_version(
    connection: Connection, job: jobs.Job, pre_version_id: int | None
) -> jobs.Version | None:
    version_id = job.latest_version_id if pre_version_id is None else pre_version_id
    if version_id is None:
        return None
    return jobs.get_version(connection, job.project_id, job.id, version_id)


def _new_version(prepared: Prepared, pre_version_id: int | None = None) -> NewVersion:
    config, flavor, pool = prepared.config, prepared.flavor, prepared.pool
    return NewVersion(
        workload_uid=uuid.uuid4().hex,
        pool_id=pool.id,
        partition=pool.partition,
        is_in_public_pool=pool.is_public,
        flavor_code=flavor.code,
        task=flavor.task,
        task_count=config.worker_server_num or 1,
        priority=config.priority or PRIORITY_MIN,
        engine_type=prepared.engine.engine_type if prepared.engine else 0,
        run=prepared.run,
        config=msgspec.json.encode(config).decode(),
        pre_version_id=pre_version_id,
        time_limit_ms=config.auto_stop.milliseconds if config.auto_stop else None,
        retries=config.retries,
        experiment_uid=uid_of(config.experiment.id) if config.experiment else "",
        claims=prepared.claims,
        # At once: nothing that the reconciler finds could speak against it, and to write a row
        # twice is half of what a submit costs.
        enqueued_by=MUSTER,
    )


async def describe_job(
    training: Training, caller: Caller, *, job_id: int, description: str
) -> None:
    check_description("job_desc", description)
    await training.database.write(jobs.describe_job, caller.project_id, job_id, description)


async def prioritise_version(
    training: Training, caller: Caller, *, job_id: int, version_id: int, priority: int
) -> None:
    """Give a version that waits another priority.

    Raises:
        Conflict: it waits no more.
    """

    def prioritise(tx: Transaction) -> None:
        version = jobs.get_version(tx.connection, caller.project_id, job_id, version_id)
        workload = workloads.get_workload(tx.connection, version.workload_id)
        check_priority(caller, priority, workspace_id=workload.workspace_id)
        if workload.phase not in (Phase.CREATING, Phase.QUEUED):
            raise Conflict(
                f"Version {version.name} of job {job_id} is {workload.phase}; only the priority of"
                " one that waits in the queue can be changed."
            )
        workloads.set_priority(tx, workload, priority)

    await training.database.write(prioritise)


async def stop_version(
    training: Training, caller: Caller, *, job_id: int, version_id: int, now_ms: int
) -> None:
    """Ask for a stop; it is done when the phase says so.

    Raises:
        NotStoppable: it has ended, or is being stopped already.
    """

    def stop(tx: Transaction) -> None:
        version = jobs.get_version(tx.connection, caller.project_id, job_id, version_id)
        workload = workloads.get_workload(tx.connection, version.workload_id)
        if workload.phase not in STOPPABLE:
            raise NotStoppable(
                f"Version {version.name} of job {job_id} is {workload.phase}; only one that is"
                f" {', '.join(sorted(STOPPABLE))} can be stopped."
            )
        moves.move_workload(
            tx,
            workload,
            Event.STOP_ASKED,
            now_ms=now_ms,
            actor=caller.user_name,
            reason=Reason.STOPPED_BY_USER,
        )

    await training.database.write(stop)


async def delete_version(
    training: Training,
    caller: Caller,
    *,
    job_id: int,
    version_id: int,
    now_ms: int,
    takes_empty_job: bool = False,
) -> None:
    """Take a version away at once; one that is live is stopped, and its rows go when it is.

    `takes_empty_job`: the job goes with the last of its versions, and its name is free again.
    """

    def delete(tx: Transaction) -> None:
        job = jobs.get_job(tx.connection, caller.project_id, job_id)
        version = jobs.get_version(tx.connection, caller.project_id, job_id, version_id)
        if takes_empty_job and job.version_count == 1:
            jobs.hide_job(tx, job)
        else:
            jobs.hide_version(tx, job, version_id)
        delete_workload(tx, caller, version.workload_id, now_ms=now_ms)

    await training.database.write(delete)


async def delete_job(training: Training, caller: Caller, *, job_id: int, now_ms: int) -> None:
    """Take a job and all its versions away at once, as `delete_version` does."""

    def delete(tx: Transaction) -> None:
        job = jobs.get_job(tx.connection, caller.project_id, job_id)
        doomed = jobs.list_version_workloads(tx.connection, job_id)
        jobs.hide_job(tx, job)
        for workload_id in doomed:
            delete_workload(tx, caller, workload_id, now_ms=now_ms)

    await training.database.write(delete)
