"""One training job: create, show, describe, delete, act."""

import msgspec

from muster.api.algorithms import find_algorithm
from muster.api.experiments import used_experiment
from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.lookup import find_row
from muster.api.training_v2.submission import config_of, priority_of
from muster.api.training_v2.unsupported import refuse, unsupported_fields
from muster.api.training_v2.views import job_view
from muster.api.training_v2.words import in_v2_words
from muster.api.waiting import show_waiting
from muster.domain import errors
from muster.domain.algorithm import Algorithm
from muster.domain.training import DEFAULT_WORKSPACE_ID, check_description
from muster.operations import training as operations
from muster.operations.waiting import WAITS
from muster.store import timeline
from muster.store.timeline import PastAttempt
from muster.store.training_listing import TrainingRow
from muster.wire import training_v2 as shapes
from muster.wire.decode import decode_body, shown


@in_v2_words
async def create_job(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.TrainingJobRequest)
    refuse(unsupported_fields(body))
    submitted = await operations.submit_job(
        services.training,
        request.caller,
        name=body.metadata.name,
        description=body.metadata.description or "",
        workspace_id=body.metadata.workspace_id or DEFAULT_WORKSPACE_ID,
        config=config_of(
            body,
            services.catalogue,
            request.caller.project_id,
            await _used_algorithm(services, request, body),
            await used_experiment(services, request, body.metadata),
        ),
        creates_version=True,
        now_ms=services.clock_ms(),
    )
    assert submitted.workload_uid is not None
    return json_reply(await _show(services, request, submitted.workload_uid), 201)


async def _used_algorithm(
    services: Services, request: Request, body: shapes.TrainingJobRequest
) -> Algorithm | None:
    """The one that the job names; None: it brings its own code."""
    if body.algorithm is None or not body.algorithm.id:
        return None
    return await find_algorithm(services, request, body.algorithm.id, field="algorithm.id")


async def _show(
    services: Services, request: Request, uid: str | None = None
) -> shapes.TrainingJobView:
    row = await find_row(services, request, uid)
    return job_view(row, services.catalogue, await _past(services, row))


async def _past(services: Services, row: TrainingRow) -> list[PastAttempt]:
    if not row.was_retried:
        return []
    found = await services.database.read(timeline.list_past_attempts, [row.workload_id])
    return found.get(row.workload_id, [])


@in_v2_words
async def show_job(services: Services, request: Request) -> Reply:
    row = await find_row(services, request)
    waiting = None
    if row.phase in WAITS:
        waiting = await show_waiting(services, request.caller, row.workload_id)
    past = await _past(services, row)
    return json_reply(job_view(row, services.catalogue, past, waiting))


@in_v2_words
async def describe_job(services: Services, request: Request) -> Reply:
    """Change the description, and the priority of a job that waits. What is absent stays."""
    body = decode_body(await request.body(), shapes.TrainingJobChange)
    row = await find_row(services, request)
    policy = body.spec.schedule_policy if body.spec else None
    refuse(
        (
            ("metadata", body.metadata),
            ("endpoints", body.endpoints),
            ("spec.notification", body.spec.notification if body.spec else None),
            ("spec.schedule_policy.preemptible", policy.preemptible if policy else None),
        )
    )
    description = body.description
    if isinstance(description, str):
        check_description("metadata.description", description)
    priority = priority_of(policy, row.pool_id, request.caller.project_id)
    if priority is not None:
        await operations.prioritise_version(
            services.training,
            request.caller,
            job_id=row.job_id,
            version_id=row.version_id,
            priority=priority,
        )
    if description is not msgspec.UNSET:
        await operations.describe_job(
            services.training, request.caller, job_id=row.job_id, description=description or ""
        )
    return json_reply(None)


@in_v2_words
async def delete_job(services: Services, request: Request) -> Reply:
    row = await find_row(services, request)
    await operations.delete_version(
        services.training,
        request.caller,
        job_id=row.job_id,
        version_id=row.version_id,
        now_ms=services.clock_ms(),
        takes_empty_job=True,
    )
    return Reply(202, b"", [])


@in_v2_words
async def act_on_job(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.TrainingJobAction)
    if body.action_type != "terminate":
        raise errors.ActionUnknown(
            f"action_type is {shown(body.action_type)}; it must be 'terminate'."
        )
    row = await find_row(services, request)
    await operations.stop_version(
        services.training,
        request.caller,
        job_id=row.job_id,
        version_id=row.version_id,
        now_ms=services.clock_ms(),
    )
    return json_reply(await _show(services, request, row.uid), 202)
