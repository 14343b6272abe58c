"""JSON shapes of what surrounds pools: their flavors, events, quotas and configuration."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from muster.wire.nodes import PAGE_MAX, PageMetadata, PageQuery

TIME_MS_MAX = 253_402_300_799_000  # the end of the year 9999
OFFSET_MAX = 2_147_483_647

EpochMs = Annotated[int, Meta(ge=0, le=TIME_MS_MAX)] | Literal[""]

# ------------------------------------------------------------------ flavors


class FlavorsQuery(PageQuery, kw_only=True):
    labelSelector: str | None = None  # noqa: N815 - the wire's name, and so on below


class ResourceFlavorMetadata(Struct, kw_only=True):
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Cards(Struct, kw_only=True):
    type: str
    size: str


class ResourceFlavorSpec(Struct, kw_only=True, omit_defaults=True):
    type: str
    cpuArch: str  # noqa: N815
    cpu: str
    memory: str
    gpu: Cards | None = None
    npu: Cards | None = None
    dataVolume: list[dict[str, str]]  # noqa: N815 - one client reads this name, others the next
    dataVolumes: list[dict[str, str]]  # noqa: N815
    billingModes: list[int]  # noqa: N815
    jobFlavors: list[str]  # noqa: N815


class ResourceFlavorStatus(Struct, kw_only=True):
    phase: dict[str, str]  # by AZ: `normal` or `soldout`


class ResourceFlavorView(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815
    kind: str = "ResourceFlavor"
    metadata: ResourceFlavorMetadata
    spec: ResourceFlavorSpec
    status: ResourceFlavorStatus


class ResourceFlavorList(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815
    kind: str = "ResourceFlavorList"
    metadata: PageMetadata
    items: list[ResourceFlavorView]


# ------------------------------------------------------------------ events


class EventsQuery(Struct, kw_only=True):
    """Pages go by `offset`, or by the `continue` of the page before."""

    resource: Literal["pools"]
    name: str
    limit: Annotated[int, Meta(ge=0, le=PAGE_MAX)] | Literal[""] = PAGE_MAX
    offset: Annotated[int, Meta(ge=0, le=OFFSET_MAX)] | Literal[""] = 0
    continue_: str = field(name="continue", default="")
    type: Literal["Normal", "Warning", ""] = ""
    since: EpochMs = ""
    until: EpochMs = ""
    ascend: bool | Literal[""] = False


class PoolEventView(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815
    kind: str = "Event"
    type: str
    firstTimestamp: str  # noqa: N815
    lastTimestamp: str  # noqa: N815
    count: int
    reason: str
    message: str


class PoolEventList(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815
    kind: str = "EventList"
    metadata: PageMetadata
    items: list[PoolEventView]
    total: int


# ------------------------------------------------------------------ quotas and configuration


class ResourceQuota(Struct, kw_only=True):
    type: str
    quota: int  # -1: no bound
    used: int


class ResourceQuotas(Struct, kw_only=True):
    resources: list[ResourceQuota]


class QuotaList(Struct, kw_only=True):
    quotas: ResourceQuotas


class ScopePlugins(Struct, kw_only=True):
    scope: str
    plugins: list[str]
    externalDependency: bool  # noqa: N815
    reservedNetworkCidr: list[str]  # noqa: N815
    supportRetry: bool  # noqa: N815


class Configuration(Struct, kw_only=True):
    networkCidrs: list[str]  # noqa: N815
    networkQuota: int  # noqa: N815
    networkSubnetTypes: list[str]  # noqa: N815
    poolQuota: int  # noqa: N815
    poolHighAvailable: bool  # noqa: N815
    maxPoolFlavors: int  # noqa: N815
    clusterFlavorSpecs: list[Any]  # noqa: N815
    licenseScopeType: str  # noqa: N815
    nodeOSVersionSupport: list[Any]  # noqa: N815
    volumeTypes: list[str]  # noqa: N815
    poolScopePlugins: list[ScopePlugins]  # noqa: N815


# ------------------------------------------------------------------ maintenance


class MaintenanceQuery(Struct, kw_only=True):
    type: Literal["replace-node", "reboot-node", "reset-nodes", ""] = ""
    limit: Annotated[int, Meta(ge=0, le=PAGE_MAX)] | Literal[""] = 100
    offset: Annotated[int, Meta(ge=0, le=OFFSET_MAX)] | Literal[""] = 0
    since: EpochMs = ""
    until: EpochMs = ""
    resource: Literal["pools", ""] = ""
    name: str = ""


class MaintenanceList(Struct, kw_only=True):
    """Tasks that change nodes while they are in use: this platform has none."""

    count: int
    items: list[dict[str, Any]]
