"""JSON shapes of nodes, node pools, and what is asked of many nodes at once."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from muster.domain.pool import NODES_MAX
from muster.wire.pools import (
    DataVolume,
    ExtendParams,
    GivenLine,
    LineNetwork,
    NodeCount,
    Os,
    PoolResource,
    RootVolume,
    Tag,
    Taint,
    Text,
)

PAGE_MAX = 500

NodeNames = Annotated[list[str], Meta(min_length=1, max_length=NODES_MAX)]


class PageQuery(Struct, kw_only=True):
    """`continue` is the one of the page before; a limit of 0 is the greatest."""

    continue_: str = field(name="continue", default="")
    limit: Annotated[int, Meta(ge=0, le=PAGE_MAX)] | Literal[""] = PAGE_MAX


class PageMetadata(Struct, kw_only=True, omit_defaults=True):
    continue_: Text = field(name="continue", default=None)  # of the next page; none on the last
    remainingItemCount: int  # noqa: N815 - the wire's name, and so on below


# ------------------------------------------------------------------ nodes


class NodeMetadata(Struct, kw_only=True):
    name: str
    creationTimestamp: str  # noqa: N815
    labels: dict[str, str]
    annotations: dict[str, str]


class NodeSpec(Struct, kw_only=True, omit_defaults=True):
    flavor: str
    os: Os | None = None
    hostNetwork: LineNetwork | None = None  # noqa: N815
    rootVolume: RootVolume | None = None  # noqa: N815
    dataVolumes: list[DataVolume] | None = None  # noqa: N815
    extendParams: ExtendParams | None = None  # noqa: N815


class NodeStatus(Struct, kw_only=True, omit_defaults=True):
    phase: str
    message: str = ""  # ours: why it stands there
    az: str
    privateIp: str  # noqa: N815 - what workloads name it by
    resources: dict[str, str]
    availableResources: dict[str, str]  # noqa: N815 - what no task has
    taints: list[Taint]


class NodeView(Struct, kw_only=True):
    apiVersion: str = "v2"  # noqa: N815
    kind: str = "Node"
    metadata: NodeMetadata
    spec: NodeSpec
    status: NodeStatus


class NodeList(Struct, kw_only=True):
    apiVersion: str = "v2"  # noqa: N815
    kind: str = "NodeList"
    metadata: PageMetadata
    items: list[NodeView]


class NodeDeletion(Struct, kw_only=True):
    deleteNodeNames: NodeNames  # noqa: N815


class NodeLock(Struct, kw_only=True):
    nodeNames: NodeNames  # noqa: N815
    actions: Annotated[list[Literal["delete"]], Meta(min_length=1, max_length=16)]


class NodeResult(Struct, kw_only=True):
    name: str
    status: str


class NodeResults(Struct, kw_only=True):
    nodes: list[NodeResult]


class NodeUpdate(Struct, kw_only=True):
    nodeNames: NodeNames  # noqa: N815
    action: Literal["openHaRedundant", "closeHaRedundant", "createTags", "deleteTags"]
    haRedundantEffect: Literal["NoSchedule", "NoExecute"] | None = None  # noqa: N815
    driver: Any = None
    tags: Annotated[list[Tag], Meta(max_length=100)] | None = None


class NodeUpdateResults(Struct, kw_only=True):
    successNodeNames: list[str]  # noqa: N815
    failNodeNames: list[str]  # noqa: N815


# ------------------------------------------------------------------ node pools


class NodePoolMetadata(Struct, kw_only=True):
    name: str
    annotations: dict[str, str]


class NodePoolSpec(Struct, kw_only=True):
    resources: PoolResource


class NodePoolStatus(Struct, kw_only=True):
    resources: dict[str, PoolResource]  # creating, available, abnormal, deleting


class NodePoolView(Struct, kw_only=True):
    apiVersion: str = "v2"  # noqa: N815
    kind: str = "NodePool"
    metadata: NodePoolMetadata
    spec: NodePoolSpec
    status: NodePoolStatus


class NodePoolList(Struct, kw_only=True):
    apiVersion: str = "v2"  # noqa: N815
    kind: str = "NodePoolList"
    items: list[NodePoolView]


class GivenNodePoolMetadata(Struct, kw_only=True):
    name: str
    annotations: dict[str, str] | None = None


class GivenNodePoolSpec(Struct, kw_only=True):
    resources: GivenLine


class NewNodePool(Struct, kw_only=True):
    apiVersion: Literal["v2"]  # noqa: N815
    kind: Literal["NodePool"]
    metadata: GivenNodePoolMetadata
    spec: GivenNodePoolSpec


class ChangedNodePoolMetadata(Struct, kw_only=True):
    annotations: dict[str, Text] | UnsetType | None = UNSET


class ChangedNodePoolLine(Struct, kw_only=True):
    """As `spec.resources` of a new one; each member may be absent, or null to take it away."""

    flavor: str | UnsetType | None = UNSET
    count: NodeCount | UnsetType | None = UNSET
    maxCount: int | UnsetType | None = UNSET  # noqa: N815
    nodePool: str | UnsetType | None = UNSET  # noqa: N815
    azs: Any = UNSET
    taints: Any = UNSET
    labels: Any = UNSET
    tags: Any = UNSET
    network: Any = UNSET
    extendParams: Any = UNSET  # noqa: N815
    creatingStep: Any = UNSET  # noqa: N815
    rootVolume: Any = UNSET  # noqa: N815
    dataVolumes: Any = UNSET  # noqa: N815
    volumeGroupConfigs: Any = UNSET  # noqa: N815
    os: Any = UNSET


class ChangedNodePoolSpec(Struct, kw_only=True):
    resources: ChangedNodePoolLine | UnsetType | None = UNSET


class NodePoolPatch(Struct, kw_only=True):
    metadata: ChangedNodePoolMetadata | UnsetType | None = UNSET
    spec: ChangedNodePoolSpec | UnsetType | None = UNSET
