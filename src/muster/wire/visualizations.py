"""JSON shapes of visualization jobs. Times and durations are milliseconds; ids are numbers."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster.wire.training import Integer, Order, Statuses, WorkspaceId

SortKey = Literal["job_id", "job_name", "job_desc", "create_time", "status"]


class GivenFlavor(Struct, kw_only=True):
    code: str


class GivenSchedule(Struct, kw_only=True):
    """When it is stopped by itself. Clients send the number as text, too."""

    duration: Integer | str
    type: Literal["stop"] = "stop"
    time_unit: Literal["HOURS"] = "HOURS"


class VisualizationRequest(Struct, kw_only=True):
    """`schedule` is a list in the documents, and a single one as some clients send it."""

    job_name: str
    train_url: str
    job_desc: str | None = None
    job_type: str | None = None
    flavor: GivenFlavor | None = None
    schedule: list[GivenSchedule] | GivenSchedule | None = None
    workspace_id: WorkspaceId | None = None


class VisualizationDescription(Struct, kw_only=True):
    job_desc: str


class VisualizationsQuery(Struct, kw_only=True):
    status: Statuses = None
    per_page: Annotated[int, Meta(ge=1, le=1000)] = 10
    page: Annotated[int, Meta(ge=1, le=65535)] = 1
    sortBy: SortKey | None = None  # noqa: N815 - the documented spelling
    sort_by: SortKey | None = None
    order: Order = "asc"
    search_content: Annotated[str, Meta(max_length=64)] = ""
    workspace_id: WorkspaceId = "0"


class FlavorView(Struct, kw_only=True):
    code: str


class ScheduleView(Struct, kw_only=True):
    type: str
    time_unit: str
    duration: int


class MadeVisualization(Struct, kw_only=True):
    is_success: bool = True
    job_id: int
    job_name: str
    status: int
    create_time: int
    service_url: str


class VisualizationView(Struct, kw_only=True):
    """`service_url` is what a browser opens; whoever has it needs no other login."""

    job_id: int
    job_name: str
    job_desc: str
    status: int
    create_time: int
    duration: int  # since its latest start
    service_url: str
    train_url: str
    resource_id: str
    remaining_duration: int | None  # null: it does not run, or as long as it likes
    job_type: str
    flavor: FlavorView
    schedule: ScheduleView | None
    workspace_id: str
    status_message: str  # ours: why it waits or has ended


class VisualizationDetail(VisualizationView, kw_only=True):
    is_success: bool = True


class VisualizationList(Struct, kw_only=True):
    is_success: bool = True
    job_total_count: int
    job_count_limit: int  # how many more there may be
    quotas: int
    jobs: list[VisualizationView]
