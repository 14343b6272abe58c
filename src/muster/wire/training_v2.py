"""JSON shapes of the v2 training API: jobs, searches, events, flavors, engines, quotas.

Times are epoch milliseconds but for `running_records`, which has seconds; ids are text.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from muster.domain.training import Access, TimeUnit
from muster.wire.tags import FILTERS_MAX, TagFilter
from muster.wire.training import Integer, Order, WaitingView, WorkspaceId

# ------------------------------------------------------------------ requests


class GivenExperiment(Struct, kw_only=True):
    """One that is there, by its id, or by its name in the job's workspace."""

    id: str | None = None
    name: str | None = None
    description: str | None = None


class GivenMetadata(Struct, kw_only=True):
    name: str
    workspace_id: str | None = None
    description: str | None = None
    annotations: dict[str, str] | None = None
    training_experiment_reference: GivenExperiment | None = None


class NamedValue(Struct, kw_only=True):
    name: str
    value: str | Integer | float | bool | None = None


class ObsPlace(Struct, kw_only=True):
    obs_url: str


class GivenRemote(Struct, kw_only=True):
    obs: ObsPlace | None = None
    dataset: Any = None


class GivenChannel(Struct, kw_only=True):
    """An input or an output. `local_dir` is a wish: programs are told the real folder."""

    name: str
    remote: GivenRemote
    description: str | None = None
    local_dir: str | None = None
    access_method: Access | None = None


class GivenEngine(Struct, kw_only=True):
    engine_id: str | None = None
    engine_name: str | None = None
    engine_version: str | None = None
    image_url: str | None = None
    install_sys_packages: bool | None = None


class GivenAlgorithm(Struct, kw_only=True):
    id: str | None = None
    subscription_id: str | None = None
    item_version_id: str | None = None
    code_dir: str | None = None
    boot_file: str | None = None
    command: str | None = None
    engine: GivenEngine | None = None
    parameters: list[NamedValue] | None = None
    inputs: list[GivenChannel] | None = None
    outputs: list[GivenChannel] | None = None
    environments: dict[str, str] | None = None
    policies: Any = None
    autosearch_config_path: str | None = None
    autosearch_framework_path: str | None = None
    summary: Any = None


class GivenResource(Struct, kw_only=True):
    flavor_id: str | None = None
    node_count: Integer | None = None
    pool_id: str | None = None
    pool_group_id: str | None = None
    main_container_customized_flavor: Any = None


class GivenSchedulePolicy(Struct, kw_only=True):
    priority: Annotated[int, Meta(ge=0, le=3)] | None = None
    preemptible: bool | None = None
    required_affinity: Any = None
    preferred_affinity: Any = None


class GivenLogPath(Struct, kw_only=True):
    obs_url: str | None = None
    host_path: str | None = None


class GivenAutoStop(Struct, kw_only=True):
    time_unit: TimeUnit
    duration: Annotated[int, Meta(ge=1, le=2**31)]


class GivenSpec(Struct, kw_only=True):
    resource: GivenResource | None = None
    log_export_path: GivenLogPath | None = None
    schedule_policy: GivenSchedulePolicy | None = None
    volumes: Any = None
    auto_stop: GivenAutoStop | None = None
    notification: Any = None
    custom_metrics: Any = None
    output_model: Any = None
    asset_model: Any = None
    asset_id: str | None = None
    reserved_time: Any = None
    retention: Any = None
    log_export_config: Any = None


class TrainingJobRequest(Struct, kw_only=True):
    metadata: GivenMetadata
    kind: str | None = None
    algorithm: GivenAlgorithm | None = None
    spec: GivenSpec | None = None
    tasks: Any = None
    endpoints: Any = None
    train_type: str | None = None
    ftjob_config: Any = None


class GivenPolicyChange(Struct, kw_only=True):
    priority: Annotated[int, Meta(ge=0, le=3)] | None = None
    preemptible: bool | None = None


class GivenSpecChange(Struct, kw_only=True):
    schedule_policy: GivenPolicyChange | None = None
    notification: Any = None


class TrainingJobChange(Struct, kw_only=True):
    description: str | UnsetType | None = UNSET  # null: none; absent: as it is
    spec: GivenSpecChange | None = None
    metadata: Any = None
    endpoints: Any = None


class TrainingJobAction(Struct, kw_only=True):
    action_type: str


class SearchFilter(Struct, kw_only=True):
    key: str
    operator: str
    value: list[str | Integer] | str | Integer | None = None


class TrainingJobSearch(Struct, kw_only=True):
    """`offset` counts pages, from 0."""

    offset: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    limit: Annotated[int, Meta(ge=1, le=50)] | None = None
    sort_by: str | None = None
    order: Order | None = None
    group_by: str | None = None
    workspace_id: WorkspaceId | None = None
    train_type: Literal["job", "ftjob"] | None = None
    tags: Annotated[list[TagFilter], Meta(max_length=FILTERS_MAX)] | None = None
    host_ips: list[str] | None = None
    filters: list[SearchFilter] | None = None


class SearchQuery(Struct, kw_only=True):
    """The same in the query, for clients that put it there; the body wins."""

    offset: Annotated[int, Meta(ge=0, le=2**40)] | None = None
    limit: Annotated[int, Meta(ge=1, le=50)] | None = None


class EventsQuery(Struct, kw_only=True):
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1, le=100)] = 50
    order: Order = "desc"
    start_time: str | None = None
    end_time: str | None = None
    level: Literal["Info", "Error", "Warning"] | None = None
    pattern: Annotated[str, Meta(max_length=256)] = ""
    source: str | None = None


class TasksQuery(Struct, kw_only=True):
    schedule_count: Annotated[int, Meta(ge=1)] | None = None  # which attempt; the last one


class TaskLogQuery(Struct, kw_only=True):
    base_line: str | int = ""
    lines: Annotated[int, Meta(ge=1, le=500)] = 50
    order: Order = "desc"


class LogLinkQuery(Struct, kw_only=True, rename={"content_type": "Content-Type"}):
    content_type: str = ""  # some clients put it here, others into a header


class LogDownloadQuery(Struct, kw_only=True):
    expires: Annotated[int, Meta(ge=0, le=2**53)]  # epoch ms
    signature: str
    disposition: Literal["inline", "attachment"] = "inline"


class EventCategoriesQuery(Struct, kw_only=True):
    flavor_type: Literal["CPU", "GPU", "Ascend", ""] = ""


class TrainingFlavorsQuery(Struct, kw_only=True):
    flavor_type: Literal["CPU", "GPU", "Ascend", ""] = ""


class TrainingQuotasQuery(Struct, kw_only=True):
    user_id: str | None = None
    resource: str = ""


class TrainingNameQuery(Struct, kw_only=True):
    job_name: str
    workspace_id: WorkspaceId = "0"


# ------------------------------------------------------------------ replies


class ExperimentReference(Struct, kw_only=True):
    id: str
    name: str  # as it was when the job was made


class TrainingMetadata(Struct, kw_only=True):
    id: str
    name: str
    workspace_id: str
    description: str
    create_time: int
    user_name: str
    annotations: dict[str, str]
    job_id: int  # ours: the same job in the v1 API
    version_id: int
    training_experiment_reference: ExperimentReference | UnsetType = UNSET  # absent: in none


class TaskStatus(Struct, kw_only=True):
    task: str
    exit_code: int
    message: str


class RunningRecord(Struct, kw_only=True):
    start_at: int | None  # seconds; null: it never came up
    end_at: int | None
    start_type: str
    end_reason: str | None
    end_recover: str | None = None  # what was done then


class TaskPlace(Struct, kw_only=True):
    """Where a task was put. The address inside of its own network is not known here."""

    task: str
    host_ip: str  # the name of the node
    schedule_count: int


class TrainingStatus(Struct, kw_only=True):
    phase: str
    secondary_phase: str
    duration: int
    start_time: int  # 0 before the start
    tasks: list[str]
    task_statuses: list[TaskStatus]
    running_records: list[RunningRecord]
    message: str  # ours: why it stands where it stands, for people
    waiting: WaitingView | None = None  # ours, of a single job: null unless it waits


class TrainingParameter(Struct, kw_only=True):
    name: str
    value: str


class TrainingRemote(Struct, kw_only=True):
    obs: ObsPlace


class TrainingChannel(Struct, kw_only=True):
    name: str
    description: str
    access_method: Access
    remote: TrainingRemote


class TrainingEngine(Struct, kw_only=True):
    engine_id: str | None = None
    engine_name: str | None = None
    engine_version: str | None = None
    image_url: str | None = None


class TrainingAlgorithm(Struct, kw_only=True):
    id: str | None  # of the one it was made from, as it was then; so is the name
    name: str | None
    code_dir: str | None
    boot_file: str | None
    command: str | None
    engine: TrainingEngine
    parameters: list[TrainingParameter]
    inputs: list[TrainingChannel]
    outputs: list[TrainingChannel]
    environments: list[dict[str, str]]  # a list, where the request has a map


class Cpu(Struct, kw_only=True):
    core_num: int | None  # None: not a whole number of them


class Gpu(Struct, kw_only=True):
    unit_num: int
    product_name: str


class Npu(Struct, kw_only=True):
    unit_num: str  # text, as documented
    product_name: str


class Memory(Struct, kw_only=True):
    size: int
    unit: str


class FlavorInfo(Struct, kw_only=True):
    max_num: int
    cpu: Cpu
    gpu: Gpu | None
    npu: Npu | None
    memory: Memory


class FlavorBilling(Struct, kw_only=True):
    code: str
    unit_num: int


class TrainingFlavorDetail(Struct, kw_only=True):
    flavor_type: str
    billing: FlavorBilling
    flavor_info: FlavorInfo


class TrainingResource(Struct, kw_only=True):
    policy: str = "regular"
    flavor_id: str
    flavor_name: str
    node_count: int
    pool_id: str | None
    flavor_detail: TrainingFlavorDetail | None  # None: the inventory has dropped the flavor since


class TrainingLogPath(Struct, kw_only=True):
    obs_url: str


class TrainingSchedulePolicy(Struct, kw_only=True):
    priority: int
    preemptible: bool = False


class TrainingAutoStop(Struct, kw_only=True):
    time_unit: TimeUnit
    duration: int


class TrainingSpec(Struct, kw_only=True):
    resource: TrainingResource
    auto_stop: TrainingAutoStop | None
    log_export_path: TrainingLogPath | None
    schedule_policy: TrainingSchedulePolicy


class TrainingJobView(Struct, kw_only=True):
    kind: str = "job"
    metadata: TrainingMetadata
    status: TrainingStatus
    algorithm: TrainingAlgorithm
    spec: TrainingSpec


class TrainingJobList(Struct, kw_only=True):
    total: int  # that match, on all pages
    count: int  # on this one
    limit: int
    offset: int
    sort_by: str
    order: str
    group_by: str
    workspace_id: str
    ai_project: str = "default-ai-project"
    train_type: str
    items: list[TrainingJobView]


class LogPreview(Struct, kw_only=True):
    content: str
    current_size: int
    full_size: int


class LogShards(Struct, kw_only=True):
    object_urls: list[str]
    count: int = 1
    total: int = 1


class LogLink(Struct, kw_only=True):
    obs_url: str
    shards: LogShards


class TaskLogLines(Struct, kw_only=True):
    content: str
    lines: int
    start_line: str
    end_line: str


class EventCategory(Struct, kw_only=True):
    id: str
    name: str
    description: str
    notification: bool = False  # this server sends none


class EventCategoryList(Struct, kw_only=True, rename={"categories": "event-categories"}):
    categories: list[EventCategory]


class TaskReport(Struct, kw_only=True):
    type: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]


class TrainingEvent(Struct, kw_only=True):
    time: str
    level: str
    message: str
    source: str


class TrainingEventList(Struct, kw_only=True):
    total: int
    limit: int
    offset: int
    order: str
    start_time: str | None
    end_time: str | None
    events: list[TrainingEvent]


class TrainingStage(Struct, kw_only=True):
    job_id: str
    name: str
    en_message: str
    start_time: str
    end_time: str | None
    stage_order: int
    sub_stages: list[Any]


class StageRecord(Struct, kw_only=True):
    record_order: int
    stages: list[TrainingStage]


class TrainingStageList(Struct, kw_only=True):
    total_count: int
    running_records: list[StageRecord]


class TrainingFlavor(TrainingFlavorDetail, kw_only=True):
    flavor_id: str
    flavor_name: str
    max_num: int
    attributes: dict[str, str]


class TrainingFlavorList(Struct, kw_only=True):
    total_count: int
    flavors: list[TrainingFlavor]


class EngineImages(Struct, kw_only=True):
    """Empty: an engine here is an interpreter, without an image."""

    cpu_image_url: str = ""
    gpu_image_url: str = ""
    image_version: str = ""


class TrainingEngineRow(Struct, kw_only=True):
    engine_id: str
    engine_name: str
    engine_version: str
    v1_compatible: bool = True  # programs are started as the v1 API documents it
    run_user: str = ""
    image_info: EngineImages


class TrainingEngineList(Struct, kw_only=True):
    total: int
    items: list[TrainingEngineRow]


class TrainingQuota(Struct, kw_only=True):
    resource: str
    quota: int
    used: int


class TrainingQuotaList(Struct, kw_only=True):
    quotas: list[TrainingQuota]


class TrainingNameCheck(Struct, kw_only=True):
    is_duplicate: bool
