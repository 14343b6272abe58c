"""JSON shapes of the notebook API. Times and durations are milliseconds; ids are UUIDs."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from muster.wire.images import ImageView
from muster.wire.training import Integer, WorkspaceId

Limit = Annotated[int, Meta(ge=1, le=1000)]
Offset = Annotated[int, Meta(ge=0, le=2**53)]
SortDir = Literal["ASC", "DESC", "asc", "desc"]

# ------------------------------------------------------------------ requests


class GivenEndpoint(Struct, kw_only=True):
    service: str | None = None
    key_pair_names: list[str] | None = None
    allowed_access_ips: list[str] | None = None


class GivenVolume(Struct, kw_only=True):
    category: str
    ownership: str = "MANAGED"
    capacity: Integer | None = None  # GB
    uri: str | None = None
    id: str | None = None
    mount_path: str | None = None
    read_only: bool | None = None
    dew_secret_name: str | None = None


class GivenCustomSpec(Struct, kw_only=True):
    """`memory` in MB, `gpu` in whole cards."""

    cpu: float
    memory: float
    gpu: float = 0
    gpu_type: str | None = None
    arch: str | None = None
    category: str | None = None
    resource_flavor: str | None = None


class GivenLease(Struct, kw_only=True):
    duration: Integer | None = None
    type: str | None = None


class GivenHook(Struct, kw_only=True):
    script: str | None = None
    type: str | None = None
    mode: str | None = None


class GivenContainerHooks(Struct, kw_only=True):
    post_start: GivenHook | None = None
    pre_start: GivenHook | None = None


class GivenHooks(Struct, kw_only=True):
    container_hooks: GivenContainerHooks | None = None


class NotebookRequest(Struct, kw_only=True):
    """What is not offered here (`hooks`, `user_vpc`, ...) is refused rather than forgotten."""

    name: str
    image_id: str
    volume: GivenVolume
    flavor: str | None = None
    custom_spec: GivenCustomSpec | None = None
    description: str | None = None
    feature: Literal["NOTEBOOK", "DEFAULT"] | None = None
    endpoints: list[GivenEndpoint] | None = None
    pool_id: str | None = None
    workspace_id: WorkspaceId | None = None
    lease: GivenLease | None = None
    duration: Integer | None = None
    hooks: GivenHooks | None = None
    data_volumes: list[GivenVolume] | None = None
    affinity: dict[str, Any] | None = None
    run_user: dict[str, Any] | None = None
    user_vpc: dict[str, Any] | None = None
    public_network_config: dict[str, Any] | None = None


class NotebookUpdate(Struct, kw_only=True):
    """What is absent or null stays."""

    name: str | None = None
    description: str | None = None
    flavor: str | None = None
    custom_spec: GivenCustomSpec | None = None
    image_id: str | None = None
    endpoints: list[GivenEndpoint] | None = None
    hooks: GivenHooks | None = None
    storage_new_size: Integer | None = None  # GB
    data_volumes: list[GivenVolume] | None = None
    affinity: dict[str, Any] | None = None
    dew_secret_name: str | None = None
    public_network_config: dict[str, Any] | None = None


class NotebooksQuery(Struct, kw_only=True):
    """`offset` counts rows. No notebook has an `ip` here."""

    feature: Literal["", "NOTEBOOK", "DEFAULT"] = ""
    limit: Limit = 10
    offset: Offset = 0
    name: str = ""
    description: str = ""
    pool_id: str = ""
    pool_name: str = ""
    owner: str = ""  # a user's id
    username: str = ""
    sort_dir: SortDir = "DESC"
    sort_key: str = "create_at"
    status: str = ""
    workspace_id: WorkspaceId = "0"
    flavor: str = ""
    image_id: str = ""
    swr_path: str = ""
    id: str = ""
    ip: str = ""
    billing: Literal["", "COMPUTE", "STORAGE", "ALL"] = ""
    tags: str = ""  # KEY|VALUE,KEY|VALUE


class StartQuery(Struct, kw_only=True):
    duration: int | None = None
    type: str | None = None


class LeaseQuery(Struct, kw_only=True):
    duration: int | None = None


class NotebookFlavorsQuery(Struct, kw_only=True):
    """`type`: MANAGED or DEDICATED; both have the same flavors here, and so have the features."""

    category: Literal["", "CPU", "GPU", "ASCEND"] = ""
    limit: Limit = 1000
    offset: Offset = 0
    type: Literal["", "MANAGED", "DEDICATED"] = ""
    sort_dir: SortDir = "ASC"
    sort_key: str = ""
    flavor_type: Literal["", "CPU", "GPU", "ASCEND"] = ""  # another word for `category`
    feature: Literal["", "NOTEBOOK", "DEFAULT"] = ""


class TagsQuery(Struct, kw_only=True):
    workspace_id: WorkspaceId = "0"


# ------------------------------------------------------------------ replies


class EndpointView(Struct, kw_only=True):
    dev_service: str = "NOTEBOOK"
    service: str = "NOTEBOOK"
    uri: str
    key_pair_names: list[str]


class LeaseView(Struct, kw_only=True):
    """It is over `duration` after `create_at`; of type IDLE: after the last activity since then."""

    create_at: int
    duration: int
    enable: bool
    type: str
    update_at: int


class StepView(Struct, kw_only=True):
    notebook_id: str
    step: int  # 1 to 4
    status: str
    description: str
    step_description: str


class NamedPool(Struct, kw_only=True):
    id: str
    name: str


class VolumeView(Struct, kw_only=True):
    capacity: int
    category: str
    mount_path: str
    ownership: str = "MANAGED"
    status: str = ""
    uri: str = ""
    id: str = ""
    read_only: bool = False
    mount_type: str = "STATIC"


class DomainView(Struct, kw_only=True):
    id: str
    name: str


class UserView(Struct, kw_only=True):
    id: str
    name: str
    domain: DomainView


class CustomSpecView(Struct, kw_only=True):
    cpu: float
    memory: float
    gpu: float
    category: str


class TagView(Struct, kw_only=True):
    key: str
    value: str


class NotebookView(Struct, kw_only=True):
    """`token`, and `url` with it, are there for those who may open the notebook."""

    id: str
    name: str
    description: str
    feature: str
    status: str
    fail_reason: str | None
    action_progress: list[StepView]
    flavor: str
    custom_spec: CustomSpecView | None
    image: ImageView
    lease: LeaseView
    pool: NamedPool
    url: str | None
    token: str | None
    endpoints: list[EndpointView]
    volume: VolumeView
    data_volumes: list[VolumeView]
    workspace_id: str
    billing_items: list[str]
    user: UserView
    user_id: str
    is_need_credentials: bool = False
    jupyter_version: str | None
    tags: list[TagView]
    create_at: int
    update_at: int


class NotebookViews(Struct, kw_only=True):
    """A page; `current` counts pages from 0."""

    current: int
    data: list[NotebookView]
    pages: int
    size: int
    total: int


class GpuView(Struct, kw_only=True):
    gpu: int
    gpu_memory: str
    type: str


class AscendView(Struct, kw_only=True):
    npu: int
    npu_memory: str
    type: str


class BillingView(Struct, kw_only=True):
    code: str
    unit_num: int = 1


class NotebookFlavorView(Struct, kw_only=True):
    """`memory` in KB."""

    id: str
    name: str
    arch: str
    category: str
    vcpus: int
    memory: int
    gpu: GpuView | None
    ascend: AscendView | None
    free: bool = True
    sold_out: bool = False
    storages: list[str]
    billing: BillingView
    description: str
    feature: str = "NOTEBOOK"


class NotebookFlavorViews(Struct, kw_only=True):
    current: int
    data: list[NotebookFlavorView]
    flavors: list[NotebookFlavorView]  # the same once more
    pages: int
    size: int
    total: int


def pages_of(total: int, limit: int) -> int:
    return -(-total // limit)
