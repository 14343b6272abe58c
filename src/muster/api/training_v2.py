"""The v2 training API: the same jobs, where each version is a job of its own.

`metadata.id` is the uid of the version's workload.
"""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import Final

import msgspec

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain import errors
from muster.domain.catalogue import Catalogue
from muster.domain.flavor import AiEngine, Flavor
from muster.domain.phase import FINISHED, Event, Phase, Reason, view_of
from muster.domain.placement import CardKind
from muster.domain.pool import public_pool_id
from muster.domain.training import (
    DEFAULT_ENGINE_ID,
    DEFAULT_WORKSPACE_ID,
    Access,
    Channel,
    Parameter,
    TrainingConfig,
    check_description,
)
from muster.domain.workload import PRIORITY_MIN
from muster.operations import logs
from muster.operations import training as operations
from muster.store import jobs, listing, workloads
from muster.store.database import Connection
from muster.store.listing import SearchTerm, TrainingRow, TrainingSearch
from muster.store.workloads import WorkloadEvent
from muster.wire import training_v2 as shapes
from muster.wire.decode import decode_body, decode_query

Handler = Callable[[Services, Request], Awaitable[Reply]]

PREVIEW_BYTES_MAX: Final = 5 << 20
PAGE_SIZE: Final = 50
FILTERS_MAX: Final = 20
FILTER_VALUES_MAX: Final = 1_000
_TIME_MS_MAX: Final = 253_402_300_799_000  # the end of the year 9999
_CONFIG: Final = msgspec.json.Decoder(TrainingConfig)

# ------------------------------------------------------------------ refusals

# What the operations refuse in the words of v1, in those of this API.
_ERRORS: Final[Mapping[type[errors.MusterError], type[errors.MusterError]]] = {
    errors.InvalidRequest: errors.ParameterInvalid,
    errors.ConflictingValues: errors.ParameterInvalid,
    errors.JobUnknown: errors.TrainingJobUnknown,
    errors.NameTaken: errors.TrainingNameTaken,
    errors.QuotaExceeded: errors.TrainingQuotaExceeded,
}
_FIELDS: Final[Mapping[str, str]] = {
    "job_name": "metadata.name",
    "job_desc": "metadata.description",
    "config.app_url": "algorithm.code_dir",
    "app_url": "algorithm.code_dir",
    "config.boot_file_url": "algorithm.boot_file",
    "boot_file_url": "algorithm.boot_file",
    "config.engine_id": "algorithm.engine.engine_id",
    "config.user_image_url": "algorithm.engine.image_url",
    "config.user_command": "algorithm.command",
    "config.parameter": "algorithm.parameters",
    "config.data_url": "algorithm.inputs, data_url",
    "config.train_url": "algorithm.outputs, train_url",
    "config.inputs": "algorithm.inputs",
    "config.outputs": "algorithm.outputs",
    "config.environments": "algorithm.environments",
    "config.worker_server_num": "spec.resource.node_count",
    "config.spec_id": "spec.resource.flavor_id",
    "config.pool_id": "spec.resource.pool_id",
    "config.log_url": "spec.log_export_path.obs_url",
    "/job/resource-specs": "/training-job-flavors",
}
_FIELD: Final = re.compile(
    "|".join(rf"(?<![\w./]){re.escape(name)}\b" for name in _FIELDS if name[0] != "/")
    + "|/job/resource-specs"
)


def _in_v2_words(handler: Handler) -> Handler:
    """Refusals with the codes, statuses and field names of this API."""

    @wraps(handler)
    async def answered(services: Services, request: Request) -> Reply:
        try:
            return await handler(services, request)
        except errors.MusterError as error:
            error.message = _FIELD.sub(lambda match: _FIELDS[match[0]], error.message)
            own = _ERRORS.get(type(error))
            if own is None:
                raise
            raise own(error.message) from error

    return answered


# ------------------------------------------------------------------ create


@_in_v2_words
async def create_job(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.TrainingJobRequest)
    _refuse(_unsupported(body))
    submitted = await operations.submit_job(
        services.training,
        request.caller,
        name=body.metadata.name,
        description=body.metadata.description or "",
        workspace_id=body.metadata.workspace_id or DEFAULT_WORKSPACE_ID,
        config=_config(body, services.catalogue, request.caller.project_id),
        creates_version=True,
        now_ms=services.clock_ms(),
    )
    assert submitted.workload_uid is not None
    return json_reply(await _show(services, request, submitted.workload_uid), 201)


def _refuse(unsupported: Iterable[tuple[str, object]]) -> None:
    """Of (field, value), whatever asks for something: empty values do not."""
    for field, value in unsupported:
        if value:
            raise errors.Unsupported(f"{field} is {_shown(value)}; this server cannot do that.")


def _unsupported(body: shapes.TrainingJobRequest) -> Iterator[tuple[str, object]]:
    """(field, value) of what cannot be had."""
    asked: list[tuple[str, object]] = [
        ("kind", body.kind if body.kind != "job" else None),
        ("tasks", body.tasks),
        ("endpoints", body.endpoints),
        ("train_type", body.train_type),
        ("ftjob_config", body.ftjob_config),
        ("metadata.training_experiment_reference", body.metadata.training_experiment_reference),
    ]
    asked += (
        (f"metadata.annotations.{name}", value)
        for name, value in (body.metadata.annotations or {}).items()
        if name.startswith(_ACTIVE_ANNOTATIONS) and value not in ("", "0", "false")
    )
    if algorithm := body.algorithm:
        asked += _fields_of("algorithm", algorithm, _ACTIVE_ALGORITHMS)
        if algorithm.engine:
            asked += _fields_of("algorithm.engine", algorithm.engine, ("install_sys_packages",))
    if spec := body.spec:
        asked += _fields_of("spec", spec, _ACTIVE_SPECS)
        if isinstance(spec.retention, dict) and spec.retention.get("policy") != "disabled":
            asked.append(("spec.retention", spec.retention))
        if spec.log_export_path:
            asked += _fields_of("spec.log_export_path", spec.log_export_path, ("host_path",))
        if spec.schedule_policy:
            asked += _fields_of("spec.schedule_policy", spec.schedule_policy, _ACTIVE_POLICIES)
        if spec.resource:
            asked += _fields_of("spec.resource", spec.resource, _ACTIVE_RESOURCES)
    return iter(asked)


def _fields_of(
    path: str, given: msgspec.Struct, names: Sequence[str]
) -> Iterator[tuple[str, object]]:
    return ((f"{path}.{name}", getattr(given, name)) for name in names)


# Other annotations are notes; these ask the platform to do something.
_ACTIVE_ANNOTATIONS: Final = (
    "fault-tolerance/", "jupyter-lab/", "tensorboard/", "mindstudio-insight/",
)  # fmt: skip
_ACTIVE_SPECS: Final = (
    "volumes", "auto_stop", "notification", "custom_metrics", "output_model", "asset_model",
    "asset_id", "reserved_time", "log_export_config",
)  # fmt: skip
_ACTIVE_ALGORITHMS: Final = (
    "policies", "autosearch_config_path", "autosearch_framework_path", "summary",
)  # fmt: skip
_ACTIVE_POLICIES: Final = ("preemptible", "required_affinity", "preferred_affinity")
_ACTIVE_RESOURCES: Final = ("pool_group_id", "main_container_customized_flavor")


def _shown(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else f"{text[:97]}..."


def _config(
    body: shapes.TrainingJobRequest, catalogue: Catalogue, project_id: str
) -> TrainingConfig:
    """What is asked for, as the operations know it."""
    algorithm = _algorithm(body)
    spec = body.spec or shapes.GivenSpec()
    resource = spec.resource or shapes.GivenResource()
    if not resource.flavor_id and not resource.pool_id:
        raise errors.ParameterInvalid(
            "Neither spec.resource.flavor_id nor spec.resource.pool_id is given; at least one is"
            " needed: flavor_id for the public pool (see GET .../training-job-flavors), pool_id"
            " for a dedicated one."
        )
    image_url = algorithm.engine.image_url if algorithm.engine else None
    if bool(image_url) != bool(algorithm.command):
        raise errors.CommandInvalid(
            "algorithm.command and algorithm.engine.image_url go together; without an image, give"
            " code_dir and boot_file."
        )
    for name in () if image_url else ("code_dir", "boot_file"):
        if not getattr(algorithm, name):
            raise errors.ParameterInvalid(
                f"algorithm.{name} is missing; give code_dir and boot_file, or command and"
                " engine.image_url."
            )
    data_url, inputs = _channels("inputs", "data_url", algorithm.inputs)
    train_url, outputs = _channels("outputs", "train_url", algorithm.outputs)
    return TrainingConfig(
        worker_server_num=1 if resource.node_count is None else resource.node_count,
        app_url=algorithm.code_dir,
        boot_file_url=algorithm.boot_file,
        engine_id=None if image_url else _engine(algorithm.engine, catalogue).engine_id,
        user_image_url=image_url or None,
        user_command=algorithm.command or None,
        spec_id=_flavor(resource.flavor_id, catalogue).spec_id if resource.flavor_id else None,
        pool_id=resource.pool_id or None,
        parameter=tuple(Parameter(label=p.name, value=p.value) for p in algorithm.parameters or ()),
        data_url=data_url,
        train_url=train_url,
        log_url=spec.log_export_path.obs_url if spec.log_export_path else None,
        inputs=inputs,
        outputs=outputs,
        environments=algorithm.environments,
        priority=_priority(spec.schedule_policy, resource.pool_id, project_id),
        annotations=body.metadata.annotations,
    )


def _algorithm(body: shapes.TrainingJobRequest) -> shapes.GivenAlgorithm:
    algorithm = body.algorithm
    if algorithm is None:
        raise errors.AlgorithmUnknown(
            "algorithm is missing; give code_dir, boot_file and engine, or command and an image."
        )
    for name in ("id", "subscription_id", "item_version_id"):
        if getattr(algorithm, name):
            raise errors.AlgorithmUnknown(
                f"algorithm.{name} is {getattr(algorithm, name)!r}; this server keeps no"
                " algorithms. Give code_dir, boot_file and engine."
            )
    return algorithm


def _channels(
    field: str, v1_name: str, given: Sequence[shapes.GivenChannel] | None
) -> tuple[str | None, tuple[Channel, ...] | None]:
    """(the URL of the one that v1 knows by this name, all others)."""
    v1_url = None
    others = []
    for index, channel in enumerate(given or ()):
        where = f"algorithm.{field}[{index}]"
        if channel.remote.dataset:
            raise errors.DatasetUnknown(
                f"{where}.remote.dataset: this server keeps no datasets. Put the data into a"
                " bucket and name it as remote.obs.obs_url."
            )
        if channel.remote.obs is None or not channel.remote.obs.obs_url:
            raise errors.ParameterInvalid(f"{where}.remote.obs.obs_url is missing.")
        access = channel.access_method or Access.PARAMETER
        url = channel.remote.obs.obs_url
        if channel.name == v1_name and access is Access.PARAMETER and v1_url is None:
            v1_url = url
        else:
            others.append(
                Channel(
                    name=channel.name,
                    url=url,
                    access=access,
                    description=channel.description or "",
                )
            )
    return v1_url, tuple(others) or None


def engine_id_of(engine: AiEngine) -> str:
    """Text, where v1 has a number."""
    return re.sub(r"\s+", "-", f"{engine.name}-{engine.version}")


def _engine(given: shapes.GivenEngine | None, catalogue: Catalogue) -> AiEngine:
    given = given or shapes.GivenEngine()
    for engine in catalogue.engines:
        is_named = (given.engine_name, given.engine_version) == (engine.name, engine.version)
        if given.engine_id == engine_id_of(engine) or (not given.engine_id and is_named):
            return engine
    offered = ", ".join(engine_id_of(engine) for engine in catalogue.engines)
    asked = given.engine_id or " ".join(filter(None, (given.engine_name, given.engine_version)))
    raise errors.EngineUnknown(
        f"algorithm.engine is {asked!r}; there are the engine_ids {offered}."
        if asked
        else f"algorithm.engine is missing; there are the engine_ids {offered}."
    )


def _flavor(flavor_id: str, catalogue: Catalogue) -> Flavor:
    flavor = catalogue.find_flavor(flavor_id)
    if flavor is None:
        offered = ", ".join(flavor.code for flavor in catalogue.flavors)
        raise errors.FlavorUnknown(
            f"spec.resource.flavor_id is {flavor_id!r}; there are {offered}."
        )
    return flavor


def _priority(
    policy: shapes.GivenSchedulePolicy | shapes.GivenPolicyChange | None,
    pool_id: str | None,
    project_id: str,
) -> int | None:
    """None where nothing is said. 0 is taken for the least."""
    if policy is None or policy.priority is None:
        return None
    priority = max(PRIORITY_MIN, policy.priority)
    if priority > PRIORITY_MIN and pool_id in (None, "", public_pool_id(project_id)):
        raise errors.ParameterInvalid(
            f"spec.schedule_policy.priority is {priority}; in the public pool, which all projects"
            f" share, it must be {PRIORITY_MIN}. Name a dedicated pool as spec.resource.pool_id."
        )
    return priority


# ------------------------------------------------------------------ show and change


@_in_v2_words
async def show_job(services: Services, request: Request) -> Reply:
    return json_reply(await _show(services, request, _uid(request)))


async def _show(services: Services, request: Request, uid: str) -> shapes.TrainingJobView:
    return _view(await _find(services, request, uid), services.catalogue)


def _uid(request: Request) -> str:
    """Of the path: as it is shown, or without its hyphens."""
    text = request.params[1]
    if not _UUID.fullmatch(text):
        raise _unknown(text)
    return text.replace("-", "").lower()


_HEX: Final = "[0-9a-fA-F]"
_UUID: Final = re.compile(f"{_HEX}{{32}}|{_HEX}{{8}}-({_HEX}{{4}}-){{3}}{_HEX}{{12}}")


def _unknown(shown: str) -> errors.TrainingJobUnknown:
    return errors.TrainingJobUnknown(
        f"training_job_id is {shown[:100]!r}; this project has no such training job."
    )


async def _find(services: Services, request: Request, uid: str | None = None) -> TrainingRow:
    uid = uid or _uid(request)
    row = await services.database.read(
        listing.find_training_job,
        project_id=request.caller.project_id,
        uid=uid,
        now_ms=services.clock_ms(),
    )
    if row is None:
        raise _unknown(request.params[1])
    return row


@_in_v2_words
async def describe_job(services: Services, request: Request) -> Reply:
    """Change the description, and the priority of a job that waits. What is absent stays."""
    body = decode_body(await request.body(), shapes.TrainingJobChange)
    row = await _find(services, request)
    policy = body.spec.schedule_policy if body.spec else None
    _refuse(
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
    priority = _priority(policy, row.pool_id, request.caller.project_id)
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


@_in_v2_words
async def delete_job(services: Services, request: Request) -> Reply:
    row = await _find(services, request)
    await operations.delete_version(
        services.training,
        request.caller,
        job_id=row.job_id,
        version_id=row.version_id,
        now_ms=services.clock_ms(),
        takes_empty_job=True,
    )
    return Reply(202, b"", [])


@_in_v2_words
async def act_on_job(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.TrainingJobAction)
    if body.action_type != "terminate":
        raise errors.ActionUnknown(
            f"action_type is {_shown(body.action_type)}; it must be 'terminate'."
        )
    row = await _find(services, request)
    await operations.stop_version(
        services.training,
        request.caller,
        job_id=row.job_id,
        version_id=row.version_id,
        now_ms=services.clock_ms(),
    )
    return json_reply(await _show(services, request, row.uid), 202)


# ------------------------------------------------------------------ the job object


def _view(row: TrainingRow, catalogue: Catalogue) -> shapes.TrainingJobView:
    config = _CONFIG.decode(row.config)
    return shapes.TrainingJobView(
        metadata=shapes.TrainingMetadata(
            id=str(uuid.UUID(row.uid)),
            name=row.name,
            workspace_id=row.workspace_id,
            description=row.description,
            create_time=row.created_at_ms,
            user_name=row.creator_name,
            annotations=config.annotations or {},
            job_id=row.job_id,
            version_id=row.version_id,
        ),
        status=_status(row),
        algorithm=_algorithm_view(config, catalogue),
        spec=_spec_view(row, config, catalogue),
    )


def _status(row: TrainingRow) -> shapes.TrainingStatus:
    view = view_of(Phase(row.phase), Reason(row.reason))
    tasks = [_task_id(index) for index in range(row.task_count)]
    records = []
    if row.started_at_ms is not None:
        records.append(
            shapes.RunningRecord(
                start_at=row.started_at_ms // 1000,
                end_at=None if row.ended_at_ms is None else row.ended_at_ms // 1000,
                start_type="init_or_rescheduled",
                end_reason=None if row.ended_at_ms is None else row.message or view.v2_phase,
            )
        )
    # Only the end of a completed job tells the exit codes of all its tasks.
    is_completed = row.phase == Phase.COMPLETED
    return shapes.TrainingStatus(
        phase=view.v2_phase,
        secondary_phase=view.v2_secondary_phase,
        duration=max(0, row.duration_ms or 0),
        start_time=row.started_at_ms or 0,
        tasks=tasks,
        task_statuses=[
            shapes.TaskStatus(task=task, exit_code=0, message="") for task in tasks if is_completed
        ],
        running_records=records,
        message=row.message,
    )


def _task_id(index: int) -> str:
    return f"worker-{index}"


def _algorithm_view(config: TrainingConfig, catalogue: Catalogue) -> shapes.TrainingAlgorithm:
    v1_inputs = [("data_url", config.input_url)] if config.input_url else []
    v1_outputs = [("train_url", config.train_url)] if config.train_url else []
    return shapes.TrainingAlgorithm(
        code_dir=config.app_url or None,
        boot_file=config.boot_file_url or None,
        command=config.user_command or None,
        engine=_engine_view(config, catalogue),
        parameters=[
            shapes.TrainingParameter(name=p.label, value=p.text) for p in config.parameter or ()
        ],
        inputs=_channel_views(v1_inputs, config.inputs or ()),
        outputs=_channel_views(v1_outputs, config.outputs or ()),
        environments=[{name: value} for name, value in (config.environments or {}).items()],
    )


def _engine_view(config: TrainingConfig, catalogue: Catalogue) -> shapes.TrainingEngine:
    if config.user_image_url:
        return shapes.TrainingEngine(image_url=config.user_image_url)
    engine = catalogue.find_engine(config.engine_id or DEFAULT_ENGINE_ID)
    if engine is None:
        return shapes.TrainingEngine()  # the inventory has dropped it since
    return shapes.TrainingEngine(
        engine_id=engine_id_of(engine), engine_name=engine.name, engine_version=engine.version
    )


def _channel_views(
    v1: Sequence[tuple[str, str]], named: Sequence[Channel]
) -> list[shapes.TrainingChannel]:
    return [
        shapes.TrainingChannel(
            name=channel.name,
            description=channel.description,
            access_method=channel.access,
            remote=shapes.TrainingRemote(obs=shapes.ObsPlace(obs_url=channel.url)),
        )
        for channel in (*(Channel(name=name, url=url) for name, url in v1), *named)
    ]


def _spec_view(
    row: TrainingRow, config: TrainingConfig, catalogue: Catalogue
) -> shapes.TrainingSpec:
    flavor = catalogue.find_flavor(row.flavor_code)
    return shapes.TrainingSpec(
        resource=shapes.TrainingResource(
            flavor_id=row.flavor_code,
            flavor_name=row.flavor_code,
            node_count=row.task_count,
            pool_id=row.pool_id or None,
            flavor_detail=_flavor_detail(flavor) if flavor else None,
        ),
        log_export_path=shapes.TrainingLogPath(obs_url=config.log_url) if config.log_url else None,
        schedule_policy=shapes.TrainingSchedulePolicy(priority=row.priority),
    )


def _flavor_detail(flavor: Flavor) -> shapes.TrainingFlavorDetail:
    task = flavor.task
    cores, rest = divmod(task.cpu_millis, 1000)
    is_whole_gib = task.memory_mib % 1024 == 0
    return shapes.TrainingFlavorDetail(
        flavor_type=_flavor_type(flavor),
        billing=shapes.FlavorBilling(code=flavor.code, unit_num=1),
        flavor_info=shapes.FlavorInfo(
            max_num=flavor.task_count_max,
            cpu=shapes.Cpu(core_num=None if rest else cores),
            gpu=shapes.Gpu(unit_num=task.gpu_count, product_name=flavor.card_model)
            if task.gpu_count
            else None,
            npu=shapes.Npu(unit_num=str(task.npu_count), product_name=flavor.card_model)
            if task.npu_count
            else None,
            memory=shapes.Memory(size=task.memory_mib // 1024, unit="GB")
            if is_whole_gib
            else shapes.Memory(size=task.memory_mib, unit="MB"),
        ),
    )


def _flavor_type(flavor: Flavor) -> str:
    if flavor.card_kind is None:
        return "CPU"
    return "GPU" if flavor.card_kind is CardKind.GPU else "Ascend"


# ------------------------------------------------------------------ search


@_in_v2_words
async def search_jobs(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body() or b"{}", shapes.TrainingJobSearch)
    query = decode_query(request.query, shapes.SearchQuery)
    page = _first(body.offset, query.offset, 0)
    limit = _first(body.limit, query.limit, PAGE_SIZE)
    wanted = _search(
        body,
        page=page,
        limit=limit,
        project_id=request.caller.project_id,
        now_ms=services.clock_ms(),
    )
    read = services.database.read if wanted.is_quick else services.database.scan
    total, rows = await read(_page, wanted)
    return json_reply(
        shapes.TrainingJobList(
            total=total,
            count=len(rows),
            limit=limit,
            offset=page,
            sort_by=body.sort_by or _DEFAULT_SORT_KEY,
            order=body.order or "desc",
            group_by=body.group_by or "",
            workspace_id=wanted.workspace_id,
            train_type=body.train_type or "job",
            items=[_view(row, services.catalogue) for row in rows],
        )
    )


_DEFAULT_SORT_KEY: Final = "create_time"


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _page(connection: Connection, search: TrainingSearch) -> tuple[int, list[TrainingRow]]:
    jobs.check_workspace(connection, search.project_id, search.workspace_id)
    return listing.page_of_training_jobs(connection, search)


def _search(
    body: shapes.TrainingJobSearch, *, page: int, limit: int, project_id: str, now_ms: int
) -> TrainingSearch:
    if body.tags:
        raise errors.Unsupported("tags: this server keeps no tags of jobs.")
    if body.host_ips:
        raise errors.Unsupported(
            "host_ips: jobs are found by node in GET .../pools/POOL/workloads?hostip=NODE."
        )
    sort_key = body.sort_by or _DEFAULT_SORT_KEY
    if sort_key not in listing.TRAINING_SORT_KEYS:
        raise errors.SortUnknown(
            f"sort_by is {sort_key!r}; it must be one of"
            f" {', '.join(sorted(listing.TRAINING_SORT_KEYS))}."
        )
    filters = _Filters(body.filters or (), has_none=body.train_type == "ftjob")
    return TrainingSearch(
        project_id=project_id,
        workspace_id=body.workspace_id or DEFAULT_WORKSPACE_ID,
        sort_key=sort_key,
        is_descending=body.order != "asc",
        offset=page * limit,
        limit=limit,
        now_ms=now_ms,
        statuses=filters.statuses,
        created_from_ms=filters.created_from_ms,
        created_to_ms=filters.created_to_ms,
        terms=tuple(filters.terms),
    )


_LISTED: Final = ("in", "not")
_TEXT: Final = ("like", *_LISTED)
_FILTER_OPERATORS: Final[Mapping[str, Sequence[str]]] = {
    "name": _TEXT,
    "id": _TEXT,
    "pool_id": _TEXT,
    "user_id": _LISTED,
    "phase": _LISTED,
    "create_time": ("between",),
    "kind": _LISTED,
    "algorithm_name": _TEXT,
    "runtime_type": _LISTED,
}

# The same for every job of this server: such a filter holds for all of them, or for none.
_CONSTANTS: Final[Mapping[str, str]] = {"kind": "job", "algorithm_name": "", "runtime_type": ""}


def _statuses_by_phase() -> Mapping[str, frozenset[int]]:
    views = [view_of(phase, reason) for phase in Phase for reason in Reason]
    return {
        name: frozenset(view.v1_status for view in views if view.v2_phase == name)
        for name in dict.fromkeys(view.v2_phase for view in views)
    }


_STATUSES: Final = _statuses_by_phase()


class _Filters:
    """The filters of a search, read one after the other; all of them must hold."""

    def __init__(self, filters: Sequence[shapes.SearchFilter], *, has_none: bool) -> None:
        self.statuses: tuple[int, ...] | None = () if has_none else None
        self.created_from_ms: int | None = None
        self.created_to_ms: int | None = None
        self.terms: list[SearchTerm] = []
        if len(filters) > FILTERS_MAX:
            raise errors.SearchValueInvalid(
                f"filters has {len(filters)} entries; at most {FILTERS_MAX} are allowed."
            )
        for given in filters:
            self._add(given)

    def _add(self, given: shapes.SearchFilter) -> None:
        operators = _FILTER_OPERATORS.get(given.key)
        if operators is None:
            raise errors.SearchKeyUnknown(
                f"filters has the key {_shown(given.key)}; there are"
                f" {', '.join(_FILTER_OPERATORS)}."
            )
        if given.operator not in operators:
            raise errors.SearchOperatorUnknown(
                f"filters has the operator {_shown(given.operator)} for {given.key}; it must be"
                f" {' or '.join(operators)}."
            )
        values = _filter_values(given)
        if not any(values):
            return  # nothing is asked for
        match given.key:
            case "create_time":
                self._add_times(values)
            case "phase":
                self._add_phases(given.operator, values)
            case key if key in _CONSTANTS:
                if not _holds(_CONSTANTS[key], given.operator, values):
                    self.statuses = ()
            case key:
                if key == "id":
                    values = [value.replace("-", "").lower() for value in values]
                self.terms.append(
                    SearchTerm(key=key, operator=given.operator, values=tuple(values))
                )

    def _add_times(self, values: Sequence[str]) -> None:
        if len(values) != 2:
            raise errors.SearchValueInvalid(
                f"filters has {len(values)} values for create_time; it must be [from, to], either"
                ' of them "" for an open end.'
            )
        start, end = (_time_ms(value) if value else None for value in values)
        self.created_from_ms = _most(max, self.created_from_ms, start)
        self.created_to_ms = _most(min, self.created_to_ms, end)

    def _add_phases(self, operator: str, values: Sequence[str]) -> None:
        for value in values:
            if value not in _STATUSES:
                raise errors.SearchValueInvalid(
                    f"filters has the phase {_shown(value)}; there are {', '.join(_STATUSES)}."
                )
        is_in = operator == "in"
        wanted = {s for phase in _STATUSES if (phase in values) == is_in for s in _STATUSES[phase]}
        if self.statuses is not None:
            wanted &= set(self.statuses)
        self.statuses = tuple(sorted(wanted))


def _filter_values(given: shapes.SearchFilter) -> list[str]:
    value = given.value
    if value is None:
        return []
    values = [str(item) for item in (value if isinstance(value, list) else [value])]
    if len(values) > FILTER_VALUES_MAX:
        raise errors.SearchValueInvalid(
            f"filters has {len(values)} values for {given.key}; at most {FILTER_VALUES_MAX} are"
            " allowed."
        )
    # "" is an open end of a time, and nothing at all anywhere else.
    return values if given.key == "create_time" else [text for text in values if text]


def _holds(constant: str, operator: str, values: Sequence[str]) -> bool:
    if operator == "like":
        return any(value.lower() in constant for value in values)
    return (constant in values) == (operator == "in")


def _time_ms(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) > _TIME_MS_MAX:
        raise errors.SearchValueInvalid(
            f"filters has the create_time {text[:100]!r}; it must be epoch milliseconds."
        )
    return int(text)


def _most(choose: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


# ------------------------------------------------------------------ logs, events, tasks, stages


@_in_v2_words
async def preview_log(services: Services, request: Request) -> Reply:
    """The end of a log. 204, as documented, while a job that is not over has written nothing."""
    row = await _find(services, request)
    task_ids = [_task_id(index) for index in range(row.task_count)]
    task_id = request.params[2]
    if task_id not in task_ids:
        raise errors.LogUnknown(
            f"task_id is {task_id[:100]!r}; this job has {', '.join(task_ids)}."
        )
    try:
        path = await logs.find_log(
            services.database,
            services.jobs_folder,
            request.caller,
            job_id=row.job_id,
            version_id=row.version_id,
            name=logs.log_name(row.job_name, task_ids.index(task_id)),
        )
    except errors.LogNotReady:
        if row.phase in FINISHED:
            raise
        return Reply(204, b"", [])
    content, size = await asyncio.to_thread(logs.read_tail, path, PREVIEW_BYTES_MAX)
    return json_reply(
        shapes.LogPreview(
            content=content.decode("utf-8", errors="replace"),
            current_size=len(content),
            full_size=size,
        )
    )


@_in_v2_words
async def list_events(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.EventsQuery)
    start, end = _event_times(query)
    row = await _find(services, request)
    found = [
        (at_ms, event)
        for at_ms, event in await _events(services, row)
        if (start is None or at_ms >= start)
        and (end is None or at_ms <= end)
        and (query.level is None or query.level == event.level)
        and query.pattern in event.message
        and (not query.source or query.source.lower() == event.source.lower())
    ]
    if query.order == "desc":
        found.reverse()
    return json_reply(
        shapes.TrainingEventList(
            total=len(found),
            limit=query.limit,
            offset=query.offset,
            order=query.order,
            start_time=None if start is None else _rfc3339(start),
            end_time=None if end is None else _rfc3339(end),
            events=[event for _, event in found[query.offset : query.offset + query.limit]],
        )
    )


def _event_times(query: shapes.EventsQuery) -> tuple[int | None, int | None]:
    texts = (query.start_time or "", query.end_time or "")
    if texts == ("", ""):
        return None, None
    if not all(t.isascii() and t.isdigit() and len(t) <= 15 for t in texts):
        raise errors.QueryInvalid(
            f"start_time is {texts[0][:100]!r} and end_time {texts[1][:100]!r}; give both, as epoch"
            " milliseconds, or neither."
        )
    start, end = (min(int(text), _TIME_MS_MAX) for text in texts)
    if start > end:
        raise errors.QueryInvalid(f"start_time is {start}, after end_time, {end}.")
    return start, end


def _rfc3339(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).isoformat()


async def _events(services: Services, row: TrainingRow) -> list[tuple[int, shapes.TrainingEvent]]:
    """First to last, with when they happened."""
    recorded = await services.database.read(workloads.list_events, row.workload_id)
    first = (row.created_at_ms, "Info", f"{row.creator_name} submitted the job.")
    told = [first, *((e.at_ms, _LEVELS.get(e.event, "Info"), _told(e)) for e in recorded)]
    return [
        (
            at_ms,
            shapes.TrainingEvent(time=_rfc3339(at_ms), level=level, message=text, source="Job"),
        )
        for at_ms, level, text in told
    ]


_LEVELS: Final[Mapping[Event, str]] = {
    Event.TASK_FAILED: "Error",
    Event.REFUSED: "Error",
    Event.STOP_GIVEN_UP: "Error",
    Event.GIVEN_UP: "Error",
    Event.VANISHED: "Warning",
}
_WORDS: Final[Mapping[Event, str]] = {
    Event.ENQUEUED: "The job is in the queue of its pool.",
    Event.PLACED: "The job has its nodes; its tasks are being started.",
    Event.STARTED: "The job is running.",
    Event.SUCCEEDED: "Every task has ended with exit code 0.",
    Event.TASK_FAILED: "The job has failed.",
    Event.STOP_ASKED: "A stop was asked for.",
    Event.STOPPED: "The job was stopped.",
    Event.STOP_GIVEN_UP: "Processes of the job are left that do not end.",
    Event.REFUSED: "The job cannot be started.",
    Event.VANISHED: "The processes of the job are not to be found.",
    Event.FOUND: "The processes of the job have been found again.",
    Event.GIVEN_UP: "The job is given up as lost.",
}


def _told(event: WorkloadEvent) -> str:
    words = _WORDS[event.event]
    if event.event is Event.STOP_ASKED:
        words = f"{event.actor} asked for a stop."
    return f"{words} {event.message}".rstrip()


@_in_v2_words
async def list_tasks(services: Services, request: Request) -> Reply:
    """Where each task was put; nothing before it was."""
    query = decode_query(request.query, shapes.TasksQuery)
    row = await _find(services, request)

    def read(connection: Connection) -> list[shapes.TaskPlace]:
        workload = workloads.get_workload(connection, row.workload_id)
        events = workloads.list_events(connection, row.workload_id)
        times = sum(event.event is Event.PLACED for event in events)
        if query.schedule_count not in (None, times):
            return []  # only the last placement is kept
        return [
            shapes.TaskPlace(
                task=_task_id(place.index), host_ip=place.node_name, schedule_count=times
            )
            for place in workload.placements
        ]

    return json_reply(await services.database.read(read))


_STAGES: Final[Mapping[Phase, tuple[str, str]]] = {
    Phase.CREATING: ("Creating", "Accepted."),
    Phase.QUEUED: ("Queuing", "In the queue of its pool."),
    Phase.STARTING: ("Starting", "Its nodes are held, its tasks are being started."),
    Phase.RUNNING: ("Running", "Its tasks run."),
    Phase.TERMINATING: ("Terminating", "A stop was asked for."),
    Phase.LOST: ("Lost", "Its processes are not to be found."),
}


@_in_v2_words
async def list_stages(services: Services, request: Request) -> Reply:
    """One record: what the job went through, from event to event."""
    row = await _find(services, request)
    events = await services.database.read(workloads.list_events, row.workload_id)
    moves = [(row.created_at_ms, Phase.CREATING), *((e.at_ms, e.phase_after) for e in events)]
    ends = [at_ms for at_ms, _ in moves[1:]]
    stages: list[shapes.TrainingStage] = []
    for (at_ms, phase), end in zip(moves, [*ends, None], strict=True):
        if phase in FINISHED:
            continue
        name, words = _STAGES[phase]
        stages.append(
            shapes.TrainingStage(
                job_id=str(uuid.UUID(row.uid)),
                name=name,
                en_message=words,
                start_time=_rfc3339(at_ms),
                end_time=None if end is None else _rfc3339(end),
                stage_order=len(stages) + 1,
                sub_stages=[],
            )
        )
    record = shapes.StageRecord(record_order=1, stages=stages)
    return json_reply(shapes.TrainingStageList(total_count=1, running_records=[record]))


# ------------------------------------------------------------------ what there is


@_in_v2_words
async def list_flavors(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.TrainingFlavorsQuery)
    flavors = [
        _flavor_view(flavor)
        for flavor in services.catalogue.flavors
        if query.flavor_type in ("", _flavor_type(flavor))
    ]
    return json_reply(shapes.TrainingFlavorList(total_count=len(flavors), flavors=flavors))


def _flavor_view(flavor: Flavor) -> shapes.TrainingFlavor:
    detail = _flavor_detail(flavor)
    return shapes.TrainingFlavor(
        flavor_id=flavor.code,
        flavor_name=flavor.code,
        max_num=flavor.task_count_max,
        attributes={},
        flavor_type=detail.flavor_type,
        billing=detail.billing,
        flavor_info=detail.flavor_info,
    )


@_in_v2_words
async def list_engines(services: Services, request: Request) -> Reply:
    items = [
        shapes.TrainingEngineRow(
            engine_id=engine_id_of(engine),
            engine_name=engine.name,
            engine_version=engine.version,
            image_info=shapes.EngineImages(),
        )
        for engine in services.catalogue.engines
    ]
    return json_reply(shapes.TrainingEngineList(total=len(items), items=items))


@_in_v2_words
async def show_quotas(services: Services, request: Request) -> Reply:
    """Of the project: its users share them, so `user_id` changes nothing."""
    query = decode_query(request.query, shapes.TrainingQuotasQuery)
    if query.resource not in ("", _JOB_NUMBER):
        return json_reply(shapes.TrainingQuotaList(quotas=[]))
    used = await services.database.read(jobs.count_live_jobs, request.caller.project_id)
    quota = shapes.TrainingQuota(resource=_JOB_NUMBER, quota=services.job_quota, used=used)
    return json_reply(shapes.TrainingQuotaList(quotas=[quota]))


_JOB_NUMBER: Final = "job-num"


@_in_v2_words
async def check_name(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.TrainingNameQuery)

    def read(connection: Connection) -> bool:
        project_id = request.caller.project_id
        jobs.check_workspace(connection, project_id, query.workspace_id)
        return jobs.is_name_taken(connection, project_id, query.workspace_id, query.job_name)

    is_taken = await services.database.read(read)
    return json_reply(shapes.TrainingNameCheck(is_duplicate=is_taken))
