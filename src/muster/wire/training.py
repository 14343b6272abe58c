"""JSON shapes of the v1 training API: jobs, versions, logs, specs, engines, configurations.

Times and durations are epoch and elapsed milliseconds; ids are numbers.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from muster.domain.training import Parameter, Scalar, V1Config

# ------------------------------------------------------------------ requests


# What the store can keep. JSON has no bound of its own, and SQL has this one.
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenParameter(Parameter):
    value: str | Integer | float | bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenConfig(V1Config):
    """A config as it comes in: the same fields, each number within what the store can keep."""

    worker_server_num: Integer | None = None
    engine_id: Integer | None = None
    model_id: Integer | None = None
    spec_id: Integer | None = None
    parameter: tuple[GivenParameter, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedConfig(GivenConfig):
    create_version: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NextConfig(GivenConfig):
    pre_version_id: Integer | None = None


class JobSubmission(Struct, kw_only=True):
    job_name: str
    config: SubmittedConfig
    job_desc: str | None = None
    workspace_id: str | None = None


class VersionSubmission(Struct, kw_only=True):
    config: NextConfig
    job_desc: str | None = None


class JobDescription(Struct, kw_only=True):
    job_desc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobConfigBody(GivenConfig):
    """A job configuration: the fields of `config` at the top level."""

    config_desc: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJobConfig(JobConfigBody):
    config_name: str


# ------------------------------------------------------------------ queries

Order = Literal["asc", "desc"]
# A single code, a comma list, or the parameter repeated.
Statuses = str | int | list[str | int] | None
WorkspaceId = Annotated[str, Meta(max_length=64)]
JobSortKey = Literal[
    "job_name", "job_desc", "status", "duration", "version_count", "create_time", "engine_type"
]
VersionSortKey = Literal["create_time", "job_desc", "status", "duration", "job_name"]


class JobsQuery(Struct, kw_only=True):
    status: Statuses = None
    per_page: Annotated[int, Meta(ge=1, le=1000)] = 10
    page: Annotated[int, Meta(ge=1, le=65535)] = 1
    sortBy: JobSortKey | None = None  # noqa: N815 - the documented spelling here
    sort_by: JobSortKey | None = None
    order: Order = "asc"
    search_content: Annotated[str, Meta(max_length=100)] = ""
    workspace_id: WorkspaceId = "0"


class VersionsQuery(Struct, kw_only=True):
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=0, le=2**53)] = 20
    status: Statuses = None
    sort_by: VersionSortKey | None = None
    sortBy: VersionSortKey | None = None  # noqa: N815 - the other list's spelling
    order: Order = "desc"
    pool_id: str | None = None
    workspace_id: WorkspaceId = "0"


class JobVersionsQuery(Struct, kw_only=True):
    per_page: Annotated[int, Meta(ge=1, le=1000)] = 10
    page: Annotated[int, Meta(ge=0, le=65535)] = 0  # 0: all of them


class LogQuery(Struct, kw_only=True):
    log_file: str
    base_line: str | int = ""
    lines: Annotated[int, Meta(ge=0, le=500)] = 50
    order: Order = "desc"


class LogBytesQuery(Struct, kw_only=True):
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0


class SpecsQuery(Struct, kw_only=True):
    job_type: Literal["train", "inference"] = "train"
    engine_id: int = 0
    project_type: int = 0


class EnginesQuery(Struct, kw_only=True):
    job_type: Literal["train", "inference"] = "train"


ConfigSortKey = Literal["config_name", "config_desc", "create_time"]
ConfigType = Literal["custom", "sample"]


class ConfigsQuery(Struct, kw_only=True):
    per_page: Annotated[int, Meta(ge=1, le=1000)] = 10
    page: Annotated[int, Meta(ge=1, le=65535)] = 1
    sortBy: ConfigSortKey | None = None  # noqa: N815 - the documented spelling
    sort_by: ConfigSortKey | None = None
    order: Order = "desc"
    search_content: Annotated[str, Meta(max_length=100)] = ""
    config_type: ConfigType = "custom"


class ConfigQuery(Struct, kw_only=True):
    config_type: ConfigType = "custom"


AlgorithmSortKey = Literal[
    "engine", "model_name", "model_precision", "model_usage", "model_size", "create_time",
    "parameter",
]  # fmt: skip


class AlgorithmsQuery(Struct, kw_only=True):
    per_page: Annotated[int, Meta(ge=1, le=100)] = 10
    page: Annotated[int, Meta(ge=1, le=65535)] = 1
    sortBy: AlgorithmSortKey | None = None  # noqa: N815 - the documented spelling
    sort_by: AlgorithmSortKey | None = None
    order: Order = "desc"
    search_content: Annotated[str, Meta(max_length=100)] = ""


# ------------------------------------------------------------------ replies


class Done(Struct, kw_only=True):
    is_success: bool = True


class SubmittedJob(Done, kw_only=True):
    job_id: int
    job_name: str
    status: int
    create_time: int
    version_id: int | UnsetType = UNSET  # absent where no version was made
    version_name: str | UnsetType = UNSET
    resource_id: str | UnsetType = UNSET


class UserView(Struct):
    name: str


class JobRow(Struct):
    job_id: int
    job_name: str
    version_id: int | None
    status: int
    create_time: int
    duration: int
    job_desc: str
    version_count: int
    user: UserView


class JobList(Done, kw_only=True):
    job_total_count: int
    job_count_limit: int
    quotas: int
    jobs: list[JobRow]


class VersionRow(Struct):
    version_id: int
    version_name: str  # the name of the job: what the overview is about
    status: int
    create_time: int
    start_time: int | None
    end_time: int | None
    duration: int
    version_desc: str | None
    pool_id: str | None
    flavor_code: str
    npu_num: int  # over all workers
    gpu_num: int


class VersionOverview(Done, kw_only=True):
    total_count: int
    offset: int
    limit: int
    versions: list[VersionRow]


class ParameterView(Struct):
    label: str
    value: Scalar  # as it was given


class VersionView(Struct, kw_only=True):
    """One version; `VersionDetail` and `JobVersion` add what only one of them shows."""

    version_id: int
    version_name: str
    pre_version_id: int | None
    engine_type: int | None
    engine_name: str | None
    engine_id: int | None
    engine_version: str | None
    status: int
    app_url: str | None
    boot_file_url: str | None
    create_time: int
    start_time: int | None
    duration: int
    parameter: list[ParameterView]
    spec_id: int | None
    core: str | None
    cpu: str | None
    gpu_num: int
    gpu_type: str
    npu_num: int
    worker_server_num: int
    data_url: str | None
    train_url: str | None
    log_url: str | None
    dataset_id: str | None = None
    dataset_version_id: str | None = None
    dataset_name: str | None = None
    dataset_version_name: str | None = None
    data_source: list[dict[str, Any]]
    model_id: int | None = None
    model_metric_list: str = ""
    user_image_url: str | None
    user_command: str | None
    resource_id: str
    volumes: list[dict[str, Any]]
    pool_id: str | None
    pool_name: str | None
    flavor_code: str
    nas_mount_path: str | None = None
    nas_share_addr: str | None = None
    nas_type: str | None = None
    status_message: str = ""  # ours: why it stands where it stands, for people


class JobVersion(VersionView, kw_only=True):
    """In the list of a job's versions."""

    gpu: bool
    system_metric_list: str = "{}"


class JobVersions(Done, kw_only=True):
    job_id: int
    job_name: str
    job_desc: str
    version_count: int
    versions: list[JobVersion]


class WaitedFor(Struct):
    """One of the project's own workloads."""

    id: str  # as the v2 API writes it
    name: str


class WaitingView(Struct, kw_only=True):
    """Ours: why a workload waits, and what would give it room."""

    reason: str  # of `domain.waiting.WaitingReason`
    message: str  # the same for people
    position: int  # in its queue; 1 is next
    missing: int  # cards, thousandths of a CPU, MiB on one node, or tasks: as `reason` says
    unavailable_nodes: list[str]  # that are there and take no work
    waits_for: list[WaitedFor]  # what has to end first
    waits_for_others: int  # likewise, of other projects
    predicted_start_time: int | None  # epoch ms, at the latest; null: not to be known


class VersionDetail(VersionView, kw_only=True):
    is_success: bool = True
    job_id: int
    job_name: str
    job_desc: str
    spec_code: str
    waiting: WaitingView | None = None  # ours: null unless it waits
    system_metric_list: dict[str, Any] = field(default_factory=dict)


class LogFiles(Done, kw_only=True):
    log_file_list: list[str]


class LogLines(Done, kw_only=True):
    content: str
    lines: int
    start_line: str  # cursors are text: some services' values do not fit a JSON number
    end_line: str


class SpecView(Struct, kw_only=True):
    spec_id: int
    core: str
    cpu: str  # the memory in GB, as documented
    gpu_num: int
    gpu_type: str
    npu_num: int
    spec_code: str
    max_num: int
    unit_num: int
    storage: str = ""
    interface_type: int = 1
    no_resource: bool


class SpecList(Done, kw_only=True):
    spec_total_count: int
    specs: list[SpecView]


class EngineView(Struct, kw_only=True):
    engine_type: int
    engine_id: int
    engine_name: str
    engine_version: str


class EngineList(Done, kw_only=True):
    engines: list[EngineView]


class ConfigRow(Struct, kw_only=True):
    config_name: str
    config_desc: str
    create_time: int
    engine_type: int | None
    engine_name: str | None
    engine_id: int | None
    engine_version: str | None
    user_image_url: str | None
    user_command: str | None


class ConfigList(Done, kw_only=True):
    config_total_count: int
    configs: list[ConfigRow]


class ConfigDetail(ConfigRow, kw_only=True):
    is_success: bool = True
    worker_server_num: int | None
    app_url: str | None
    boot_file_url: str | None
    model_id: int | None
    parameter: list[ParameterView]
    spec_id: int | None
    spec_code: str | None
    core: str | None
    cpu: str | None
    gpu_num: int | None
    gpu_type: str
    data_url: str | None
    dataset_id: str | None
    dataset_version_id: str | None
    dataset_name: str | None = None
    dataset_version_name: str | None = None
    data_source: list[dict[str, Any]]
    train_url: str | None
    log_url: str | None
    pool_id: str | None
    pool_name: str | None
    volumes: list[dict[str, Any]]
    nas_mount_path: str | None = None
    nas_share_addr: str | None = None
    nas_type: str | None = None


class AlgorithmList(Done, kw_only=True):
    model_total_count: int
    models: list[msgspec.Raw]
