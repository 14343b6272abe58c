"""JSON shapes of models (AI applications)."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

# Lists and objects of the model calls may come as JSON text, too: clients send either.
JsonText = str


class NewModel(Struct, kw_only=True):
    model_name: str
    model_version: str
    source_location: str
    model_type: str = "Custom"
    source_type: str | None = None
    source_job_id: str | None = None
    source_job_version: str | None = None
    source_copy: str | None = None
    runtime: str | None = None
    description: str | None = None
    execution_code: str | None = None
    cmd: str | None = None  # muster's own in this place: what to run instead of the script
    input_params: list[dict[str, Any]] | JsonText | None = None
    output_params: list[dict[str, Any]] | JsonText | None = None
    dependencies: list[dict[str, Any]] | JsonText | None = None
    model_algorithm: str | None = None
    model_metrics: dict[str, Any] | JsonText | None = None
    apis: list[dict[str, Any]] | JsonText | None = None
    initial_config: dict[str, Any] | JsonText | None = None
    health: dict[str, Any] | None = None
    workspace_id: str | None = None
    model_docs: list[dict[str, Any]] | JsonText | None = None
    model_labels: list[str] | None = None
    install_type: list[str] | JsonText | None = None


class NewModelId(Struct, kw_only=True):
    model_id: str


class ModelsQuery(Struct, kw_only=True):
    model_name: str = ""
    exact_match: bool = False
    model_version: str = ""
    model_status: (
        Literal["publishing", "published", "failed", "building", "building_failed"] | None
    ) = None
    description: str = ""
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0  # a page
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    marker: str = ""
    sort_by: Literal["create_at", "model_version", "model_size"] = "create_at"
    order: Literal["asc", "desc"] = "desc"
    workspace_id: str | None = None
    model_type: str = ""
    not_model_type: str = ""


class Specification(Struct, kw_only=True):
    min_cpu: str = ""
    min_gpu: str = ""
    min_memory: str = ""


class HealthView(Struct, kw_only=True):
    protocol: str
    url: str
    initial_delay_seconds: str  # as text, as published
    timeout_seconds: str
    period_seconds: str
    failure_threshold: str
    check_method: str


class Package(Struct, kw_only=True):
    package_name: str
    package_version: str
    restraint: str


class DependencyView(Struct, kw_only=True):
    installer: str = "pip"
    packages: list[Package]


class ModelView(Struct, kw_only=True):
    """As a list shows it; the fields below `specification` are those of one model alone."""

    model_id: str
    model_name: str
    model_version: str
    model_type: str
    model_status: str = "published"  # its folder is copied before the answer
    model_size: int
    model_source: str = "custom"
    source_type: str
    description: str
    owner: str
    project: str
    tenant: str
    create_at: int
    install_type: list[str]
    market_flag: bool = False
    tunable: bool = False
    publishable_flag: bool = False
    source_copy: str = "true"
    subscription_id: str | None = None
    extra: str = ""
    workspace_id: str
    specification: Specification
    source_location: str | UnsetType = UNSET
    source_job_id: str | UnsetType | None = UNSET
    source_job_version: str | UnsetType | None = UNSET
    execution_code: str | UnsetType | None = UNSET
    image_address: str | UnsetType = UNSET
    runtime: str | UnsetType = UNSET
    cmd: str | UnsetType = UNSET
    model_algorithm: str | UnsetType = UNSET
    model_metrics: str | UnsetType = UNSET  # JSON as text, as are the next two
    apis: str | UnsetType = UNSET
    config: str | UnsetType = UNSET
    schema_doc: str | UnsetType | None = UNSET
    model_docs: list[dict[str, Any]] | UnsetType = UNSET
    health: HealthView | UnsetType | None = UNSET
    input_params: list[dict[str, Any]] | UnsetType = UNSET
    output_params: list[dict[str, Any]] | UnsetType = UNSET
    dependencies: list[DependencyView] | UnsetType = UNSET
    model_labels: list[str] | UnsetType = UNSET
    labels_map: dict[str, Any] | UnsetType = UNSET


class ModelViews(Struct, kw_only=True):
    total_count: int
    count: int
    models: list[ModelView]


class ModelDeleteQuery(Struct, kw_only=True):
    cascade: bool = False


class NotDeleted(Struct, kw_only=True):
    model_id: str
    error_code: str
    error_msg: str


class Deleted(Struct, kw_only=True):
    delete_success_list: list[str]
    delete_failed_list: list[NotDeleted]


class RuntimesQuery(Struct, kw_only=True):
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class Accelerator(Struct, kw_only=True):
    type: str
    name: str
    cuda_version: str = ""
    driver_version_section: str = ""


class EngineRuntimes(Struct, kw_only=True):
    ai_engine: str
    runtimes: list[str]
    request_mode: list[str]
    accelerators: list[Accelerator]
    arch: list[str]
    status_list: list[str]
    image_source: str = "public"


class EngineRuntimesList(Struct, kw_only=True):
    count: int
    total_count: int
    engine_runtimes: list[EngineRuntimes]
