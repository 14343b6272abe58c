"""JSON shapes of the resource layer: pools, the workloads in them, and their statistics."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from muster.domain.phase import StatisticsState
from muster.domain.pool import NODES_MAX, Scope


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
    pendingReason: str = ""  # noqa: N815 - ours, as the next two: why it waits
    pendingMessage: str = ""  # noqa: N815
    predictedStartTime: int | None = None  # noqa: N815 - epoch ms, at the latest
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


# ------------------------------------------------------------------ pools: what is asked for

# A merge patch: null takes away, what is absent stays.
Text = str | None


class Az(Struct, kw_only=True):
    az: str
    count: int


class Taint(Struct, kw_only=True, omit_defaults=True):
    key: str
    value: Text = None
    effect: str


class Tag(Struct, kw_only=True):
    key: str
    value: str


class LineNetwork(Struct, kw_only=True, omit_defaults=True):
    vpc: Text = None
    subnet: Text = None
    securityGroups: list[str] | None = None  # noqa: N815 - the wire's name, and so on below


class ExtendParams(Struct, kw_only=True, omit_defaults=True):
    dockerBaseSize: Text = None  # noqa: N815
    postInstall: Text = None  # noqa: N815
    runtime: Text = None
    labelPolicyOnExistingNodes: Text = None  # noqa: N815
    taintPolicyOnExistingNodes: Text = None  # noqa: N815
    tagPolicyOnExistingNodes: Text = None  # noqa: N815
    XParameterPlaneSubnet: Text = None
    nodePoolName: Text = None  # noqa: N815
    volumeGroup: Text = None  # noqa: N815


class CreatingStep(Struct, kw_only=True, omit_defaults=True):
    step: int | None = None
    type: Literal["rack", "hyperinstance"] | None = None


class RootVolume(Struct, kw_only=True):
    volumeType: str  # noqa: N815
    size: str


class VolumeParams(Struct, kw_only=True, omit_defaults=True):
    volumeGroup: Text = None  # noqa: N815
    billing: Text = None


class DataVolume(Struct, kw_only=True, omit_defaults=True):
    volumeType: str  # noqa: N815
    size: str
    count: int | None = None
    extendParams: VolumeParams | None = None  # noqa: N815


class LvmConfig(Struct, kw_only=True, omit_defaults=True):
    lvType: str  # noqa: N815
    path: Text = None


class VolumeGroup(Struct, kw_only=True, omit_defaults=True):
    volumeGroup: str  # noqa: N815
    dockerThinPool: int | None = None  # noqa: N815
    lvmConfig: LvmConfig | None = None  # noqa: N815
    types: list[str] | None = None


class Os(Struct, kw_only=True, omit_defaults=True):
    name: Text = None
    imageId: Text = None  # noqa: N815
    imageType: Text = None  # noqa: N815
    autoMatch: Text = None  # noqa: N815


class LineSettings(Struct, kw_only=True, omit_defaults=True):
    """What a client may say of the nodes of a line besides their number: kept and shown."""

    azs: list[Az] | None = None
    taints: list[Taint] | None = None
    labels: dict[str, Text] | None = None
    tags: list[Tag] | None = None
    network: LineNetwork | None = None
    extendParams: ExtendParams | None = None  # noqa: N815
    creatingStep: CreatingStep | None = None  # noqa: N815
    rootVolume: RootVolume | None = None  # noqa: N815
    dataVolumes: list[DataVolume] | None = None  # noqa: N815
    volumeGroupConfigs: list[VolumeGroup] | None = None  # noqa: N815
    os: Os | None = None


NodeCount = Annotated[int, Meta(ge=1, le=NODES_MAX)]
NodeCountOrNone = Annotated[int, Meta(ge=0, le=NODES_MAX)]


class GivenLine(LineSettings, kw_only=True, omit_defaults=True):
    flavor: str
    count: NodeCount
    maxCount: int | None = None  # noqa: N815 - that of a physical pool is `count`
    nodePool: Text = None  # noqa: N815 - its name


class ChangedLine(GivenLine, kw_only=True, omit_defaults=True):
    count: NodeCountOrNone


class PoolNetwork(Struct, kw_only=True):
    name: str


class Driver(Struct, kw_only=True, omit_defaults=True):
    gpuVersion: Text = None  # noqa: N815
    npuVersion: Text = None  # noqa: N815
    updateStrategy: Literal["force", "idle"] | None = None  # noqa: N815


class ContainerNetwork(Struct, kw_only=True, omit_defaults=True):
    mode: Text = None
    cidr: Text = None


class PoolSettings(Struct, kw_only=True, omit_defaults=True):
    """What a client may say of a pool besides its nodes: kept and shown."""

    network: PoolNetwork | None = None
    jobFlavors: list[str] | None = None  # noqa: N815
    driver: Driver | None = None
    containerNetwork: ContainerNetwork | None = None  # noqa: N815
    kubernetesSvcIpRange: Text = None  # noqa: N815
    masters: list[dict[str, str]] | None = None
    clusterFlavor: Text = None  # noqa: N815
    ipv6enable: bool | None = None


class GivenPoolSpec(PoolSettings, kw_only=True, omit_defaults=True):
    type: Literal["Dedicate", "Logical"]
    scope: list[Scope] | None = None
    resources: list[GivenLine]
    parent: Text = None


class GivenPoolMetadata(Struct, kw_only=True):
    labels: dict[str, str]
    annotations: dict[str, str] | None = None


class NewPoolRequest(Struct, kw_only=True):
    apiVersion: Literal["v2"]  # noqa: N815
    kind: Literal["Pool"]
    metadata: GivenPoolMetadata
    spec: GivenPoolSpec


class ChangedMetadata(Struct, kw_only=True):
    labels: dict[str, Text] | UnsetType | None = UNSET
    annotations: dict[str, Text] | UnsetType | None = UNSET


class ChangedDriver(Struct, kw_only=True):
    gpuVersion: str | UnsetType | None = UNSET  # noqa: N815
    npuVersion: str | UnsetType | None = UNSET  # noqa: N815
    updateStrategy: Literal["force", "idle"] | UnsetType | None = UNSET  # noqa: N815


class ChangedPoolSpec(Struct, kw_only=True):
    """As that of a new pool; each member may be absent, or null to take it away."""

    type: str | UnsetType | None = UNSET
    scope: list[Scope] | UnsetType | None = UNSET
    resources: list[ChangedLine] | UnsetType | None = UNSET
    parent: str | UnsetType | None = UNSET
    network: dict[str, Text] | UnsetType | None = UNSET
    jobFlavors: list[str] | UnsetType | None = UNSET  # noqa: N815
    driver: ChangedDriver | UnsetType | None = UNSET
    containerNetwork: dict[str, Text] | UnsetType | None = UNSET  # noqa: N815
    kubernetesSvcIpRange: str | UnsetType | None = UNSET  # noqa: N815
    masters: list[dict[str, str]] | UnsetType | None = UNSET
    clusterFlavor: str | UnsetType | None = UNSET  # noqa: N815
    ipv6enable: bool | UnsetType | None = UNSET


class PoolPatch(Struct, kw_only=True):
    metadata: ChangedMetadata | UnsetType | None = UNSET
    spec: ChangedPoolSpec | UnsetType | None = UNSET


class RetriedScope(Struct, kw_only=True):
    scope: Scope


class PoolsQuery(Struct, kw_only=True):
    workspaceId: str | None = None  # noqa: N815
    labelSelector: str | None = None  # noqa: N815
    status: Literal["created", "failed", "creating", ""] | None = None
    parent: str | None = None


# ------------------------------------------------------------------ pools: what is shown


class PoolMetadata(Struct, kw_only=True, omit_defaults=True):
    name: str
    creationTimestamp: str  # noqa: N815 - RFC 3339, likewise below
    deletionTimestamp: Text = None  # noqa: N815 - once it was asked for
    labels: dict[str, str]
    annotations: dict[str, str]


class PoolResource(LineSettings, kw_only=True, omit_defaults=True):
    flavor: str
    count: int
    maxCount: int  # noqa: N815
    nodePool: Text = None  # noqa: N815


class PoolSpec(PoolSettings, kw_only=True, omit_defaults=True):
    type: str
    scope: list[str]
    resources: list[PoolResource]


class ScopeState(Struct, kw_only=True):
    scopeType: str  # noqa: N815
    state: str


class PoolStatus(Struct, kw_only=True, omit_defaults=True):
    phase: str
    message: str = ""
    scope: list[ScopeState]
    resources: dict[str, list[PoolResource]]  # creating, available, abnormal, deleting
    parent: str
    root: str


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


class PoolStatisticsQuery(Struct, kw_only=True):
    workspaceId: str | None = None  # noqa: N815


class PoolCounts(Struct, kw_only=True):
    """Each pool in one of them."""

    creating: int
    created: int
    failed: int  # in the last three days
    pending: int
    deleting: int


class PoolStates(Struct, kw_only=True):
    status: PoolCounts


class PoolStatistics(Struct, kw_only=True):
    statistics: PoolStates
    operationTime: str  # noqa: N815
