"""JSON shapes of the resource layer: pools, the workloads in them, and their statistics."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from muster.domain.phase import StatisticsState


class StateCounts(Struct):
    """Workloads by state; all nine, always. The order is that of `domain.phase`."""

    Queue: int
    Pending: int
    Abnormal: int
    Terminating: int
    Creating: int
    Running: int
    Completed: int
    Terminated: int
    Failed: int


assert StateCounts.__struct_fields__ == tuple(StatisticsState)


class TypeStatistics(Struct):
    type: str
    total: int
    status: StateCounts


class ResourceUse(Struct):
    used: float
    total: float


class Statistics(Struct):
    total: int
    items: list[TypeStatistics]
    resources: dict[str, ResourceUse]  # ours: what the pool's workloads hold, and what it has


class WorkloadStatistics(Struct):
    statistics: Statistics


WorkloadTypeName = Literal["train", "infer", "notebook", "x-infer"]


class WorkloadsQuery(Struct, kw_only=True):
    type: str | list[str] | None = None
    status: str | list[str] | None = None
    sort: Literal["create_time", ""] = ""
    ascend: bool = False
    offset: Annotated[int, Meta(ge=0, le=2_147_483_647)] = 0
    limit: Annotated[int, Meta(ge=0, le=500)] | Literal[""] = 500
    hostip: str | list[str] | None = None


class WorkloadNode(Struct, kw_only=True):
    hostIp: str  # noqa: N815 - the wire's name
    npuTopologyPlacement: str = ""  # noqa: N815 - likewise
    resourceRequirement: dict[str, str]  # noqa: N815 - likewise


class WorkloadView(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815 - likewise, and so on below
    kind: str = "Workload"
    type: str
    namespace: str
    name: str
    jobName: str  # noqa: N815
    uid: str
    jobUUID: str  # noqa: N815
    flavor: str
    status: str
    resourceRequirement: dict[str, str]  # noqa: N815
    priority: str
    runningDuration: int  # noqa: N815 - seconds
    pendingDuration: int  # noqa: N815 - seconds
    pendingPosition: int  # noqa: N815 - 1 is next; -1: it does not wait in the queue
    createTime: int  # noqa: N815 - epoch ms
    gvk: str = "muster/v1, Kind=Workload"
    hostIps: str  # noqa: N815
    nodes: list[WorkloadNode]
    isDeleted: str = "false"  # noqa: N815


class WorkloadList(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815
    kind: str = "WorkloadList"
    metadata: dict[str, Any] = field(default_factory=dict)
    items: list[WorkloadView]
    total: int


class PoolMetadata(Struct, kw_only=True):
    name: str
    creationTimestamp: str  # noqa: N815 - RFC 3339
    labels: dict[str, str]
    annotations: dict[str, str]


class PoolResource(Struct, kw_only=True):
    flavor: str
    count: int
    maxCount: int  # noqa: N815


class PoolSpec(Struct, kw_only=True):
    type: str = "Dedicate"
    scope: list[str]
    resources: list[PoolResource]


class ScopeState(Struct, kw_only=True):
    scopeType: str  # noqa: N815
    state: str


class PoolStatus(Struct, kw_only=True):
    phase: str
    scope: list[ScopeState]
    resources: dict[str, list[PoolResource]]


class PoolView(Struct, kw_only=True):
    apiVersion: str = "v2"  # noqa: N815
    kind: str = "Pool"
    metadata: PoolMetadata
    spec: PoolSpec
    status: PoolStatus


class PoolList(Struct, kw_only=True):
    apiVersion: str = "v2"  # noqa: N815
    kind: str = "PoolList"
    items: list[PoolView]


class PoolsQuery(Struct, kw_only=True):
    workspaceId: str | None = None  # noqa: N815
    labelSelector: str | None = None  # noqa: N815
    status: Literal["created", "failed", "creating"] | None = None
