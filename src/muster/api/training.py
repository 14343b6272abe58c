"""The v1 training API: jobs and versions. `training_lists.py` has the two lists of them all."""

from typing import Any

import msgspec

from muster.api.http import Reply, Request, json_reply
from muster.api.metrics import system_metrics
from muster.api.services import Services
from muster.api.waiting import WAITING_STATUSES, show_waiting
from muster.domain.catalogue import Catalogue
from muster.domain.errors import JobUnknown
from muster.domain.flavor import ELASTIC_CARDS
from muster.domain.training import (
    DEFAULT_ENGINE_ID,
    DEFAULT_WORKSPACE_ID,
    TrainingConfig,
)
from muster.operations import training as operations
from muster.operations.training import config_of
from muster.store import jobs, pools
from muster.store.connection import Connection
from muster.store.jobs import Version, version_name
from muster.store.submissions import SubmittedVersion
from muster.wire.decode import decode_body, decode_query
from muster.wire.training import (
    Done,
    JobDescription,
    JobSubmission,
    JobVersion,
    JobVersions,
    JobVersionsQuery,
    ParameterView,
    SubmittedJob,
    VersionDetail,
    VersionSubmission,
)

_ENCODER = msgspec.json.Encoder()
_ID_DIGITS_MAX = 18  # of a 64-bit number


def id_of(name: str, text: str) -> int:
    """An id from the path. What is no number names nothing: 404, never a look-up by name."""
    if not (text.isascii() and text.isdigit()) or len(text) > _ID_DIGITS_MAX:
        raise JobUnknown(f"{name} is {text!r}; ids are numbers. Lists search by name.")
    return int(text)


async def create_job(services: Services, request: Request) -> Reply:
    submission = decode_body(await request.body(), JobSubmission)
    submitted = await operations.submit_job(
        services.training,
        request.caller,
        name=submission.job_name,
        description=submission.job_desc or "",
        workspace_id=submission.workspace_id or DEFAULT_WORKSPACE_ID,
        config=submission.config.alone(),
        creates_version=submission.config.create_version,
        now_ms=services.clock_ms(),
    )
    return json_reply(_submitted(submitted))


def _submitted(submitted: SubmittedVersion) -> SubmittedJob:
    view = SubmittedJob(
        job_id=submitted.job_id,
        job_name=submitted.job_name,
        status=submitted.status,
        create_time=submitted.created_at_ms,
    )
    if submitted.version_id is not None:
        assert submitted.version_number is not None
        assert submitted.workload_uid is not None
        view.version_id = submitted.version_id
        view.version_name = version_name(submitted.version_number)
        view.resource_id = _resource_id(submitted.workload_uid)
    return view


def _resource_id(workload_uid: str) -> str:
    return f"job{workload_uid[:8]}"


async def describe_job(services: Services, request: Request) -> Reply:
    job_id = id_of("job_id", request.params[1])
    body = decode_body(await request.body(), JobDescription)
    await operations.describe_job(
        services.training, request.caller, job_id=job_id, description=body.job_desc
    )
    return json_reply(Done())


async def delete_job(services: Services, request: Request) -> Reply:
    await operations.delete_job(
        services.training,
        request.caller,
        job_id=id_of("job_id", request.params[1]),
        now_ms=services.clock_ms(),
    )
    return json_reply(Done())


async def create_version(services: Services, request: Request) -> Reply:
    job_id = id_of("job_id", request.params[1])
    submission = decode_body(await request.body(), VersionSubmission)
    submitted = await operations.create_version(
        services.training,
        request.caller,
        job_id=job_id,
        description=submission.job_desc or "",
        config=submission.config.alone(),
        pre_version_id=submission.config.pre_version_id,
        now_ms=services.clock_ms(),
    )
    return json_reply(_submitted(submitted))


async def list_job_versions(services: Services, request: Request) -> Reply:
    job_id = id_of("job_id", request.params[1])
    query = decode_query(request.query, JobVersionsQuery, body=await request.body())
    offset, limit = 0, -1  # page 0: all of them
    if query.page:
        offset, limit = (query.page - 1) * query.per_page, query.per_page

    def read(connection: Connection) -> tuple[jobs.Job, list[Version], list[JobVersion]]:
        job = jobs.get_job(connection, request.caller.project_id, job_id)
        found = jobs.list_job_versions(connection, job_id, offset=offset, limit=limit)
        return (
            job,
            found,
            [
                JobVersion(**fields, gpu=fields["gpu_num"] > 0)
                for fields in (_version_fields(connection, job, v, services) for v in found)
            ],
        )

    job, found, versions = await services.database.read(read)
    for version, measured in zip(versions, await system_metrics(services, found), strict=True):
        version.system_metric_list = _ENCODER.encode(measured).decode()
    return json_reply(
        JobVersions(
            job_id=job.id,
            job_name=job.name,
            job_desc=job.description,
            version_count=job.version_count,
            versions=versions,
        )
    )


async def show_version(services: Services, request: Request) -> Reply:
    job_id = id_of("job_id", request.params[1])
    version_id = id_of("version_id", request.params[2])

    def read(connection: Connection) -> tuple[VersionDetail, Version]:
        project_id = request.caller.project_id
        job = jobs.get_job(connection, project_id, job_id)
        version = jobs.get_version(connection, project_id, job_id, version_id)
        detail = VersionDetail(
            **_version_fields(connection, job, version, services),
            job_id=job.id,
            job_name=job.name,
            job_desc=job.description,
            spec_code=version.flavor_code,
        )
        return detail, version

    detail, version = await services.database.read(read)
    if detail.status in WAITING_STATUSES:
        detail.waiting = await show_waiting(services, request.caller, version.workload_id)
    [detail.system_metric_list] = await system_metrics(services, [version])
    return json_reply(detail)


def _version_fields(
    connection: Connection, job: jobs.Job, version: Version, services: Services
) -> dict[str, Any]:
    config = config_of(version)
    pool = version.pool_id and pools.find_pool(connection, job.project_id, version.pool_id)
    return {
        "version_id": version.id,
        "version_name": version.name,
        "pre_version_id": version.pre_version_id,
        "status": version.status,
        "status_message": version.message,
        "create_time": version.created_at_ms,
        "start_time": version.started_at_ms,
        "duration": _duration_ms(version, services.clock_ms()),
        "worker_server_num": config.worker_server_num or 1,
        "resource_id": _resource_id(version.workload_uid),
        "pool_id": version.pool_id or None,
        "pool_name": pool.display_name if pool else None,
        "flavor_code": version.flavor_code,
        **engine_fields(config, services.catalogue),
        **_shape_fields(version, services.catalogue),
        **config_fields(config),
    }


def _duration_ms(version: Version, now_ms: int) -> int:
    if version.duration_ms is not None:
        return version.duration_ms
    return max(0, now_ms - (version.started_at_ms or now_ms))


def engine_fields(config: TrainingConfig, catalogue: Catalogue) -> dict[str, Any]:
    """The AI engine of a config; nulls for one that runs an image, or whose engine has gone."""
    engine = None
    if not config.user_image_url and config.app_url:
        engine = catalogue.find_engine(config.engine_id or DEFAULT_ENGINE_ID)
    return {
        "engine_type": engine.engine_type if engine else None,
        "engine_id": engine.engine_id if engine else config.engine_id,
        "engine_name": engine.name if engine else None,
        "engine_version": engine.version if engine else None,
    }


def _shape_fields(version: Version, catalogue: Catalogue) -> dict[str, Any]:
    """Of its flavor; an elastic one is told by what one worker holds."""
    if version.flavor_code not in ELASTIC_CARDS:
        return flavor_fields(version.flavor_code, catalogue)
    task = version.task
    return {
        "spec_id": None,
        "core": amount(task.cpu_millis, 1000),
        "cpu": amount(task.memory_mib, 1024),
        "gpu_num": task.gpu_count,
        "npu_num": task.npu_count,
        "gpu_type": "",
    }


def flavor_fields(code: str, catalogue: Catalogue) -> dict[str, Any]:
    """The shape of one worker; nulls for a flavor that the inventory has dropped."""
    flavor = catalogue.find_flavor(code)
    if flavor is None:
        return {
            "spec_id": None, "core": None, "cpu": None, "gpu_num": 0, "npu_num": 0, "gpu_type": "",
        }  # fmt: skip
    return {
        "spec_id": flavor.spec_id,
        "core": amount(flavor.task.cpu_millis, 1000),
        "cpu": amount(flavor.task.memory_mib, 1024),
        "gpu_num": flavor.task.gpu_count,
        "npu_num": flavor.task.npu_count,
        "gpu_type": flavor.card_model if flavor.task.gpu_count else "",
    }


def amount(parts: int, per_whole: int) -> str:
    """2000 thousandths are "2", 1500 are "1.5"."""
    return f"{parts / per_whole:g}"


def config_fields(config: TrainingConfig) -> dict[str, Any]:
    """What is echoed as it was given."""
    return {
        "app_url": config.app_url or None,
        "boot_file_url": config.boot_file_url or None,
        "parameter": [ParameterView(p.label, p.value) for p in config.parameter or ()],
        # A job made with named channels (v2) shows the first of each here.
        "data_url": config.data_url or next((c.url for c in config.inputs or ()), None),
        "train_url": config.train_url or next((c.url for c in config.outputs or ()), None),
        "log_url": config.log_url or None,
        "data_source": [msgspec.to_builtins(source) for source in config.data_source or ()],
        "user_image_url": config.user_image_url or None,
        "user_command": config.user_command or None,
        "volumes": list(config.volumes or ()),
    }


async def stop_version(services: Services, request: Request) -> Reply:
    await operations.stop_version(
        services.training,
        request.caller,
        job_id=id_of("job_id", request.params[1]),
        version_id=id_of("version_id", request.params[2]),
        now_ms=services.clock_ms(),
    )
    return json_reply(Done())


async def delete_version(services: Services, request: Request) -> Reply:
    await operations.delete_version(
        services.training,
        request.caller,
        job_id=id_of("job_id", request.params[1]),
        version_id=id_of("version_id", request.params[2]),
        now_ms=services.clock_ms(),
    )
    return json_reply(Done())
