"""JSON shapes of experiments. Times are milliseconds; ids are UUIDs."""

from typing import Annotated

from msgspec import Meta, Struct

from muster.wire.training import Order, WorkspaceId


class GivenExperiment(Struct, kw_only=True):
    name: str
    description: str | None = None
    workspace_id: WorkspaceId | None = None


class ExperimentRequest(Struct, kw_only=True):
    metadata: GivenExperiment


class ExperimentUpdate(Struct, kw_only=True):
    """What is absent or null stays."""

    name: str | None = None
    description: str | None = None


class ExperimentsQuery(Struct, kw_only=True):
    """`offset` counts rows."""

    workspace_id: WorkspaceId = "0"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    sort_by: str = ""
    order: Order = "desc"


class ExperimentNameQuery(Struct, kw_only=True):
    experiment_name: str
    workspace_id: WorkspaceId = "0"


class ExperimentMetadata(Struct, kw_only=True):
    id: str
    name: str
    description: str
    workspace_id: str
    create_time: int
    update_time: int


class ExperimentStatistic(Struct, kw_only=True):
    job_count: int


class ExperimentView(Struct, kw_only=True):
    metadata: ExperimentMetadata
    statistic: ExperimentStatistic


class ExperimentViews(Struct, kw_only=True):
    total: int  # on all pages
    count: int  # on this one
    limit: int
    offset: int
    sort_by: str
    order: str
    items: list[ExperimentView]


class ChangedExperiment(Struct, kw_only=True):
    name: str
    description: str
