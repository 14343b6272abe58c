"""Networks that pools may name."""

from muster.api.errors import Envelope
from muster.api.pools import networks
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import networks as shapes

_NETWORKS = "/v1/{project_id}/networks"
_NETWORK = f"{_NETWORKS}/{{network_name}}"


def routes(services: Services) -> list[Route]:
    resource = table(services, Envelope.RESOURCE)
    return [
        resource(
            "GET", _NETWORKS, networks.list_networks, "List networks",
            query=shapes.NetworksQuery, reply=shapes.NetworkList,
            needs=Permission.POOL_READ, within=Within.QUERY,
        ),
        resource(
            "POST", _NETWORKS, networks.create_network, "Declare a network",
            body=shapes.NewNetwork, reply=shapes.NetworkView,
            needs=Permission.POOL_MANAGE, within=Within.BODY,
        ),
        resource(
            "GET", _NETWORK, networks.show_network, "Show a network", reply=shapes.NetworkView,
            needs=Permission.POOL_READ, within=Within.NETWORK,
        ),
        resource(
            "PATCH", _NETWORK, networks.change_network, "Change a network, by a merge patch",
            body=shapes.NetworkPatch, reply=shapes.NetworkView,
            needs=Permission.POOL_MANAGE, within=Within.NETWORK,
        ),
        resource(
            "DELETE", _NETWORK, networks.delete_network,
            "Forget a network that no pool names", reply=shapes.NetworkView,
            needs=Permission.POOL_MANAGE, within=Within.NETWORK,
        ),
        resource(
            "GET", f"{_NETWORK}/network-ip-availabilities", networks.show_addresses,
            "Count the addresses of a network",
            query=shapes.AddressesQuery, reply=shapes.NetworkAddresses,
            needs=Permission.POOL_READ, within=Within.NETWORK,
        ),
    ]  # fmt: skip
