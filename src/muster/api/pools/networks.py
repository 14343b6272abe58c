"""Networks: make, list, show, change, delete; their addresses."""

from collections.abc import Sequence

from msgspec import UNSET

from muster.api.http import Reply, Request, json_reply
from muster.api.labels import matches, parse_selector
from muster.api.pools.cursors import cursor_after, name_before
from muster.api.pools.pools import given
from muster.api.pools.views import timestamp
from muster.api.services import Services
from muster.domain.errors import InvalidRequest
from muster.domain.network import (
    Network,
    NetworkChange,
    NetworkSpec,
    address_count,
    labels_of,
)
from muster.domain.pool import Pool
from muster.domain.poolwish import NAME_LABEL, WORKSPACE_LABEL
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.operations import networks as operations
from muster.operations.caller import Caller
from muster.store import networks, pools
from muster.store.connection import Connection
from muster.wire import networks as shapes
from muster.wire.decode import decode_body, decode_query
from muster.wire.nodes import PAGE_MAX, PageMetadata

_ACTIVE = "Active"


async def create_network(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NewNetwork)
    labels = body.metadata.labels
    if NAME_LABEL not in labels:
        raise InvalidRequest(f"metadata.labels['{NAME_LABEL}'] is missing; it names the network.")
    _refuse_connections(body.spec.connection)
    made = await operations.create_network(
        services.database,
        request.caller,
        display_name=labels[NAME_LABEL],
        workspace_id=labels.get(WORKSPACE_LABEL) or DEFAULT_WORKSPACE_ID,
        spec=NetworkSpec(cidr=body.spec.cidr, ipv6enable=bool(body.spec.ipv6enable)),
        annotations=body.metadata.annotations or {},
        now_ms=services.clock_ms(),
    )
    return await _show(services, request, made)


def _refuse_connections(connection: shapes.Connection | None) -> None:
    """What would be said to be connected, and is not."""
    for name in shapes.Connection.__struct_fields__ if connection else ():
        if getattr(connection, name):
            raise InvalidRequest(
                f"spec.connection.{name} is given; this platform connects no networks. Leave it"
                " out."
            )


async def _show(services: Services, request: Request, network: Network) -> Reply:
    users = await services.database.read(operations.pools_in, network)
    return json_reply(_view(network, users, request.caller))


def _view(
    network: Network, users: Sequence[Pool], caller: Caller, *, deleted_at_ms: int | None = None
) -> shapes.NetworkView:
    """`users` are the pools that name it."""
    return shapes.NetworkView(
        metadata=shapes.NetworkMetadata(
            name=network.name,
            creationTimestamp=timestamp(network.created_at_ms),
            deletionTimestamp=None if deleted_at_ms is None else timestamp(deleted_at_ms),
            labels=labels_of(network),
            annotations=dict(network.annotations),
        ),
        spec=shapes.NetworkSpecView(
            cidr=network.spec.cidr,
            ipv6enable=network.spec.ipv6enable,
            connection={"peerConnectionList": []},
        ),
        status=shapes.NetworkStatus(
            phase=_ACTIVE,
            connectionStatus={"peerConnectionStatus": [], "sfsTurboStatus": []},
            pools=[pool.id for pool in users if caller.may_enter(pool.workspace_id)],
        ),
    )


async def list_networks(services: Services, request: Request) -> Reply:
    """Of one workspace, by name."""
    query = decode_query(request.query, shapes.NetworksQuery)
    terms = parse_selector(query.labelSelector or "")
    after = name_before(query.continue_)
    workspace_id = query.workspaceId or DEFAULT_WORKSPACE_ID

    def read(connection: Connection) -> shapes.NetworkList:
        found = [
            network
            for network in networks.list_networks(connection, request.caller.project_id)
            if network.workspace_id == workspace_id
            and network.name > after
            and matches(labels_of(network), terms)
        ]
        page = found[: query.limit or PAGE_MAX]
        remaining = len(found) - len(page)
        present = pools.list_pools(connection, request.caller.project_id)
        return shapes.NetworkList(
            metadata=PageMetadata(
                continue_=cursor_after(page[-1].name) if remaining else None,
                remainingItemCount=remaining,
            ),
            items=[
                _view(
                    network,
                    [p for p in present if operations.network_named_by(p) == network.name],
                    request.caller,
                )
                for network in page
            ],
        )

    return json_reply(await services.database.read(read))


async def show_network(services: Services, request: Request) -> Reply:
    return await _show(services, request, await _named_network(services, request))


async def _named_network(services: Services, request: Request) -> Network:
    """The one that the path names."""
    return await services.database.read(networks.get_network, *request.params)


async def change_network(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NetworkPatch)
    network = await _named_network(services, request)
    changed = await operations.change_network(
        services.database, request.caller, network.name, _change(body, network)
    )
    return await _show(services, request, changed)


def _change(body: shapes.NetworkPatch, network: Network) -> NetworkChange:
    metadata = given(body.metadata, "metadata") or shapes.ChangedNetworkMetadata()
    spec = given(body.spec, "spec") or shapes.ChangedNetworkSpec()
    if given(spec.cidr, "spec.cidr") not in (None, network.spec.cidr):
        raise InvalidRequest(
            f"spec.cidr cannot be changed; it is {network.spec.cidr!r}. Make another network."
        )
    labels = given(metadata.labels, "metadata.labels") or {}
    for key, value in labels.items():
        if key != WORKSPACE_LABEL and value != labels_of(network).get(key):
            raise InvalidRequest(
                f"metadata.labels[{key[:100]!r}] cannot be changed; {WORKSPACE_LABEL} alone can."
            )
    workspace_id = labels.get(WORKSPACE_LABEL, network.workspace_id)
    if not workspace_id:
        raise InvalidRequest(
            f"metadata.labels['{WORKSPACE_LABEL}'] cannot be removed; the default workspace is"
            f" '{DEFAULT_WORKSPACE_ID}'."
        )
    if isinstance(spec.connection, shapes.Connection):
        _refuse_connections(spec.connection)
    annotations = metadata.annotations
    if annotations is None:  # all of them
        annotations = dict.fromkeys(network.annotations)
    return NetworkChange(
        workspace_id=workspace_id,
        annotations={} if annotations is UNSET else annotations,
        ipv6enable=given(spec.ipv6enable, "spec.ipv6enable"),
    )


async def delete_network(services: Services, request: Request) -> Reply:
    """Answers with what was there."""
    deleted = await operations.delete_network(services.database, request.caller, request.params[1])
    return json_reply(_view(deleted, (), request.caller, deleted_at_ms=services.clock_ms()))


async def show_addresses(services: Services, request: Request) -> Reply:
    """Machines have their addresses from elsewhere: none of a network's is in use."""
    query = decode_query(request.query, shapes.AddressesQuery)
    network = await _named_network(services, request)
    if query.network_id not in ("", network.name):
        raise InvalidRequest(
            f"network_id is {query.network_id[:100]!r}; the network of the path is"
            f" {network.name!r}."
        )
    return json_reply(
        shapes.NetworkAddresses(
            name=network.name,
            networkId=network.name,
            subnetIpAvailability=[
                shapes.Addresses(
                    cidr=network.spec.cidr,
                    ipVersion=4,
                    totalIps=address_count(network),
                    usedIps=0,
                )
            ],
        )
    )
