"""JSON shapes of inference services."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from muster.domain.service import (
    CONCURRENCY_MAX,
    CONFIGS_MAX,
    DEPLOY_SECONDS_MAX,
    GRACE_SECONDS_MAX,
    INSTANCES_MAX,
    WEIGHTS_SUM,
)

InferTypeName = Literal["real-time", "batch", "edge"]
BalancingName = Literal["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"]
Count = Annotated[int, Meta(ge=1, le=INSTANCES_MAX)]


class CustomSpecBody(Struct, kw_only=True):
    cpu: Annotated[float, Meta(ge=0.01, le=4096)]
    memory: Annotated[int, Meta(ge=1, le=2**31 - 1)]  # MB
    gpu_p4: Annotated[float, Meta(ge=0, le=64)] | None = None
    ascend_a310: int | None = None


class ScalingBody(Struct, kw_only=True):
    """muster's own: how many instances there are follows from the load."""

    min_instances: Count = 1
    max_instances: Count
    target_concurrency: Annotated[int, Meta(ge=1, le=CONCURRENCY_MAX)] = 10
    cooldown_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 60


class ConfigBody(Struct, kw_only=True):
    """Everything may be absent in a change; a new service needs the first three."""

    model_id: str | None = None
    specification: str | None = None
    instance_count: Count | None = None
    custom_spec: CustomSpecBody | None = None
    weight: Annotated[int, Meta(ge=0, le=WEIGHTS_SUM)] | None = None
    envs: dict[str, str] | None = None
    pool_name: str | None = None
    cluster_id: str | None = None
    deploy_timeout_in_seconds: Annotated[int, Meta(ge=1, le=DEPLOY_SECONDS_MAX)] | None = None
    scaling: ScalingBody | bool | None = None
    max_concurrency: Annotated[int, Meta(ge=1, le=CONCURRENCY_MAX)] | None = None  # muster's own
    affinity: dict[str, Any] | None = None
    additional_properties: dict[str, dict[str, Any] | None] | None = None
    src_path: str | None = None
    dest_path: str | None = None
    req_uri: str | None = None
    mapping_type: str | None = None
    mapping_rule: Any = None
    src_type: str | None = None
    nodes: list[Any] | None = None


class RolloutBody(Struct, kw_only=True):
    """One entry of a config's `additional_properties`."""

    max_surge: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None
    max_unavailable: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None
    termination_grace_period_seconds: Annotated[int, Meta(ge=0, le=GRACE_SECONDS_MAX)] | None = None
    log_volume: list[Any] | None = None
    persistent_volumes: list[Any] | None = None


class ScheduleBody(Struct, kw_only=True):
    type: Literal["stop"]
    time_unit: Literal["DAYS", "HOURS", "MINUTES"]
    duration: Annotated[int, Meta(ge=1, le=525_600)]


class NewService(Struct, kw_only=True):
    service_name: str
    infer_type: InferTypeName
    config: Annotated[list[ConfigBody], Meta(min_length=1, max_length=CONFIGS_MAX)]
    description: str | None = None
    workspace_id: str | None = None
    pool_name: str | None = None
    cluster_id: str | None = None
    schedule: list[ScheduleBody] | None = None
    vpc_id: str | None = None
    subnet_network_id: str | None = None
    security_group_id: str | None = None
    load_balancer_policy: BalancingName | None = None
    priority: Annotated[int, Meta(ge=1, le=3)] | None = None
    additional_properties: dict[str, Any] | None = None
    service_secrets: list[Any] | None = None


class NewServiceId(Struct, kw_only=True):
    service_id: str
    resource_ids: list[str]


class ServiceChange(Struct, kw_only=True):
    """What is absent stays as it is; `status` wins over everything else."""

    description: str | None = None
    status: Literal["running", "stopped"] | None = None
    config: Annotated[list[ConfigBody], Meta(max_length=CONFIGS_MAX)] | None = None
    schedule: list[ScheduleBody] | None = None
    load_balancer_policy: BalancingName | None = None
    additional_properties: dict[str, Any] | None = None
    service_secrets: list[Any] | None = None


class ServicesQuery(Struct, kw_only=True):
    service_id: str = ""
    service_name: str = ""
    model_id: str = ""
    cluster_id: str = ""
    workspace_id: str | None = None
    infer_type: InferTypeName | None = None
    status: (
        Literal["running", "deploying", "concerning", "failed", "stopped", "finished"] | None
    ) = None
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0  # a page
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    marker: str = ""
    sort_by: Literal["publish_at", "service_name", "transition_at"] = "publish_at"
    order: Literal["asc", "desc"] = "desc"
    tags: str = ""


class ScheduleView(Struct, kw_only=True):
    type: str
    time_unit: str
    duration: int


class CustomSpecView(Struct, kw_only=True):
    cpu: float
    memory: int
    gpu_p4: float


class ScalingView(Struct, kw_only=True):
    min_instances: int
    max_instances: int
    target_concurrency: int
    cooldown_seconds: int


class ConfigView(Struct, kw_only=True):
    model_id: str
    model_name: str
    model_version: str
    specification: str
    custom_spec: CustomSpecView | None
    instance_count: int
    weight: int
    envs: dict[str, str]
    status: str
    scaling: bool
    scaling_policy: ScalingView | None  # muster's own
    max_concurrency: int  # likewise
    deploy_timeout_in_seconds: int
    support_debug: bool = False
    source_type: str = ""
    pool_name: str | None
    cluster_id: str | None
    additional_properties: dict[str, Any]
    # Of a batch alone.
    src_path: str | UnsetType = UNSET
    dest_path: str | UnsetType = UNSET
    req_uri: str | UnsetType = UNSET
    mapping_type: str | UnsetType = UNSET
    mapping_rule: dict[str, Any] | UnsetType | None = UNSET
    start_time: int | UnsetType | None = UNSET
    finished_time: int | UnsetType | None = UNSET


class ServiceView(Struct, kw_only=True):
    """As a list shows it; the fields below `additional_properties` are those of one alone."""

    service_id: str
    service_name: str
    description: str
    owner: str
    tenant: str
    project: str
    infer_type: str
    status: str
    progress: int
    publish_at: int
    transition_at: int
    operation_time: int
    due_time: int | None
    start_time: int | None
    finished_time: int | None = None
    invocation_times: int
    failed_times: int
    is_shared: bool = False
    shared_count: int = 0
    is_free: bool = False
    is_opened_sample_collection: bool = False
    schedule: list[ScheduleView]
    workspace_id: str
    additional_properties: dict[str, Any]
    config: list[ConfigView] | UnsetType = UNSET
    access_address: str | UnsetType = UNSET
    bind_access_address: str | UnsetType = UNSET
    debug_url: str | UnsetType = UNSET
    update_time: int | UnsetType = UNSET
    error_msg: str | UnsetType = UNSET  # of one that failed only: clients take it for an error
    running_instance_count: int | UnsetType = UNSET
    instance_count: int | UnsetType = UNSET
    pool_name: str | UnsetType | None = UNSET
    cluster_id: str | UnsetType | None = UNSET
    load_balancer_policy: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    vpc_id: str | UnsetType | None = UNSET
    subnet_network_id: str | UnsetType | None = UNSET
    security_group_id: str | UnsetType | None = UNSET


class ServiceViews(Struct, kw_only=True):
    total_count: int
    count: int
    services: list[ServiceView]


class Nothing(Struct):
    """An empty object."""


class UpdateView(Struct, kw_only=True):
    update_time: int
    result: str
    config: list[ConfigView]
    extend_config: list[Any]
    cluster_id: str | None
    success_num: int
    failed_num: int
    result_detail: list[dict[str, Any]]


class UpdateViews(Struct, kw_only=True):
    service_id: str
    service_name: str
    logs: list[UpdateView]


class EventsQuery(Struct, kw_only=True):
    event_type: Literal["normal", "abnormal"] | None = None
    event_info: str = ""
    start_time: int | None = None
    end_time: int | None = None
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    sort_by: Literal["occur_time"] = "occur_time"
    order: Literal["asc", "desc"] = "desc"


class EventView(Struct, kw_only=True):
    event_type: str
    event_info: str
    occur_time: int


class EventViews(Struct, kw_only=True):
    service_id: str
    service_name: str
    total_count: int
    count: int
    events: list[EventView]


class MonitorView(Struct, kw_only=True):
    """Used: the mean of the latest minute that was measured; null where nothing was."""

    model_id: str
    model_name: str
    model_version: str
    invocation_times: int
    failed_times: int
    cpu_core_usage: float | None
    cpu_core_total: float
    cpu_memory_usage: int | None  # MB
    cpu_memory_total: int
    gpu_usage: float | None
    gpu_total: float
    gpu_memory_usage: int | None = None
    gpu_memory_total: int | None = None
    npu_usage: float | None = None
    npu_total: float
    npu_memory_usage: int | None = None
    npu_memory_total: int | None = None
    node_id: str | None = None
    node_name: str | None = None
    model_running_instance_count: int
    model_instance_count: int


class Monitor(Struct, kw_only=True):
    service_id: str
    service_name: str
    monitors: list[MonitorView]
    service_running_instance_count: int
    service_instance_count: int
    req_count_per_min: int


class SpecificationsQuery(Struct, kw_only=True):
    is_personal_cluster: bool = False
    infer_type: InferTypeName = "real-time"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class CpuInfo(Struct, kw_only=True):
    arch: str
    cpu: int | float


class MemoryInfo(Struct, kw_only=True):
    unit: str
    memory: int | float


class CardInfo(Struct, kw_only=True):
    brand: str
    version: str
    unit: str = ""
    memory: int | None = None
    gpu: int | UnsetType = UNSET
    npu: int | UnsetType = UNSET


class SpecificationView(Struct, kw_only=True):
    specification: str
    billing_spec: str
    category: str
    cpu_info: CpuInfo
    memory_info: MemoryInfo
    gpu_info: CardInfo | None
    npu_info: CardInfo | None
    is_open: bool = True
    is_free: bool = False
    over_quota: bool = False
    spec_status: str = "normal"
    source_type: str = ""
    extend_params: str = ""
    display_en: str
    display_cn: str


class SpecificationViews(Struct, kw_only=True):
    total_count: int
    count: int
    specifications: list[SpecificationView]


class ClustersQuery(Struct, kw_only=True):
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    cluster_name: str = ""
    sort_by: str = ""
    order: str = ""
    status: str = ""


class ClusterView(Struct, kw_only=True):
    cluster_id: str
    cluster_name: str
    description: str
    tenant: str
    project: str
    owner: str
    created_at: int
    status: str
    allocatable_cpu_cores: float
    allocatable_memory: int  # MB
    allocatable_gpus: float
    max_node_count: int
    services_count: dict[str, int]


class ClusterViews(Struct, kw_only=True):
    count: int
    total_count: int
    clusters: list[ClusterView]
