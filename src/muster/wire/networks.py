"""JSON shapes of networks."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from muster.wire.nodes import PAGE_MAX, PageMetadata

Text = str | None


class PeerConnection(Struct, kw_only=True):
    peerVpcId: str  # noqa: N815 - the wire's name, and so on below
    peerSubnetId: str  # noqa: N815
    defaultGateWay: bool = False  # noqa: N815


class Connection(Struct, kw_only=True):
    """Ways to networks elsewhere. There are none here: it is taken where it is empty."""

    peerConnectionList: list[PeerConnection] | None = None  # noqa: N815
    sfsTurboConnectionList: list[dict[str, Any]] | None = None  # noqa: N815


class GivenNetworkSpec(Struct, kw_only=True):
    cidr: str
    ipv6enable: bool | None = None
    connection: Connection | None = None


class GivenNetworkMetadata(Struct, kw_only=True):
    labels: dict[str, str]
    annotations: dict[str, str] | None = None


class NewNetwork(Struct, kw_only=True):
    apiVersion: Literal["v1"]  # noqa: N815
    kind: Literal["Network"]
    metadata: GivenNetworkMetadata
    spec: GivenNetworkSpec


class ChangedNetworkMetadata(Struct, kw_only=True):
    labels: dict[str, Text] | UnsetType | None = UNSET
    annotations: dict[str, Text] | UnsetType | None = UNSET


class ChangedNetworkSpec(Struct, kw_only=True):
    cidr: str | UnsetType | None = UNSET
    ipv6enable: bool | UnsetType | None = UNSET
    connection: Connection | UnsetType | None = UNSET


class NetworkPatch(Struct, kw_only=True):
    metadata: ChangedNetworkMetadata | UnsetType | None = UNSET
    spec: ChangedNetworkSpec | UnsetType | None = UNSET


class NetworksQuery(Struct, kw_only=True):
    workspaceId: str | None = None  # noqa: N815
    labelSelector: str | None = None  # noqa: N815
    limit: Annotated[int, Meta(ge=0, le=PAGE_MAX)] | Literal[""] = PAGE_MAX
    continue_: str = field(name="continue", default="")


class AddressesQuery(Struct, kw_only=True):
    network_id: str = ""


class NetworkMetadata(Struct, kw_only=True, omit_defaults=True):
    name: str
    creationTimestamp: str  # noqa: N815 - RFC 3339, likewise below
    deletionTimestamp: Text = None  # noqa: N815 - of one that has just been deleted
    labels: dict[str, str]
    annotations: dict[str, str]


class NetworkSpecView(Struct, kw_only=True):
    cidr: str
    ipv6enable: bool
    connection: dict[str, list[Any]]


class NetworkStatus(Struct, kw_only=True):
    phase: str
    connectionStatus: dict[str, list[Any]]  # noqa: N815
    pools: list[str]  # ours: the ids of those that name it, and that the caller may see


class NetworkView(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815
    kind: str = "Network"
    metadata: NetworkMetadata
    spec: NetworkSpecView
    status: NetworkStatus


class NetworkList(Struct, kw_only=True):
    apiVersion: str = "v1"  # noqa: N815
    kind: str = "NetworkList"
    metadata: PageMetadata
    items: list[NetworkView]


class Addresses(Struct, kw_only=True):
    cidr: str
    ipVersion: int  # noqa: N815
    totalIps: int  # noqa: N815
    usedIps: int  # noqa: N815


class NetworkAddresses(Struct, kw_only=True):
    name: str
    networkId: str  # noqa: N815
    subnetIpAvailability: list[Addresses]  # noqa: N815
