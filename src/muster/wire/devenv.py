"""JSON shapes of the older notebook API, `demanager/instances`. Durations are seconds."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from muster.wire.training import Integer, WorkspaceId

# ------------------------------------------------------------------ requests


class Identified(Struct, kw_only=True):
    id: str | None = None


class GivenPool(Struct, kw_only=True):
    id: str | None = None
    name: str | None = None
    type: str | None = None


class GivenLocation(Struct, kw_only=True):
    path: str | None = None
    volume_size: Integer | None = None  # GB


class GivenStorage(Struct, kw_only=True):
    type: str | None = None
    location: GivenLocation | None = None


class GivenAutoStop(Struct, kw_only=True):
    enable: bool | None = None
    duration: Integer | None = None
    prompt: bool | None = None


class GivenSpec(Struct, kw_only=True):
    """What is not offered here is refused rather than forgotten."""

    storage: GivenStorage | None = None
    auto_stop: GivenAutoStop | None = None
    extend_storage: Any = None
    extended_storage: Any = None  # as the OpenStack client writes it
    repository: Any = None
    custom_script_path: Any = None


class InstanceRequest(Struct, kw_only=True):
    """`profile_id`: one of the published names, or the id or name of an image."""

    name: str
    flavor: str
    profile_id: str
    description: str | None = None
    spec: GivenSpec | None = None
    workspace: Identified | None = None
    ai_project: Identified | None = None
    pool: GivenPool | None = None


class InstanceUpdate(Struct, kw_only=True):
    description: str | None = None
    auto_stop: GivenAutoStop | None = None
    spec: GivenSpec | None = None


class ActionRequest(Struct, kw_only=True):
    action: Literal["start", "stop"]


class InstancesQuery(Struct, kw_only=True):
    """`offset` counts rows; with `marker`, the id of one, they count from the one after that."""

    de_type: str = ""
    provision_type: str = ""
    status: str = ""
    sortby: Literal["name", "creation_timestamp"] = "name"
    order: Literal["asc", "desc"] = "asc"
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    marker: str = ""
    workspace_id: WorkspaceId = "0"
    show_self: Literal["True", "true", "False", "false", ""] = ""
    ai_project_id: str = ""
    pool_id: str = ""


# ------------------------------------------------------------------ replies


class AutoStopView(Struct, kw_only=True):
    enable: bool
    duration: int
    prompt: bool = False
    stop_timestamp: int | None  # milliseconds; null: it does not end by itself
    remain_time: int | None


class LocationView(Struct, kw_only=True):
    path: str
    volume_size: int
    volume_unit: str = "GB"


class StorageView(Struct, kw_only=True):
    type: str
    location: LocationView


class FailedReasons(Struct, kw_only=True):
    code: str = ""
    message: str


class SpecView(Struct, kw_only=True):
    annotations: dict[str, str]  # the address and the token, for those who may open it
    auto_stop: AutoStopView
    storage: StorageView
    failed_reasons: FailedReasons | None


class ProfileView(Struct, kw_only=True):
    id: str
    name: str
    description: str
    de_type: str = "Notebook"
    flavor_type: str


class NamedView(Struct, kw_only=True):
    id: str
    name: str = ""


class InstanceView(Struct, kw_only=True):
    id: str
    name: str
    description: str
    status: str
    current_status: str
    flavor: str
    profile_id: str
    profile: ProfileView
    pool: NamedView
    spec: SpecView
    user: NamedView
    workspace: NamedView
    ai_project: NamedView
    creation_timestamp: int
    latest_update_timestamp: int


class InstanceViews(Struct, kw_only=True):
    instances: list[InstanceView]
    total_count: int
