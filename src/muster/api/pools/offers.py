"""What pools can be made of, how many there may be, and how this platform is set up."""

import platform
from collections.abc import Sequence
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.labels import matches, parse_selector
from muster.api.pools.cursors import cursor_after, name_before
from muster.api.pools.views import AZ
from muster.api.services import Services
from muster.domain.flavor import Flavor
from muster.domain.network import NETWORKS_MAX, RANGES
from muster.domain.pool import LINES_MAX, Scope
from muster.operations import pools as operations
from muster.store import networks, pools
from muster.store.connection import Connection
from muster.wire import resource_layer as shapes
from muster.wire.decode import decode_query
from muster.wire.nodes import PAGE_MAX, PageMetadata

SCOPE_LABEL: Final = "os.modelarts/scope"
UNBOUNDED: Final = -1
_ARM: Final = frozenset({"aarch64", "arm64"})


async def list_flavors(services: Services, request: Request) -> Reply:
    """By name. Sold out is what no host could give one node of now."""
    query = decode_query(request.query, shapes.FlavorsQuery)
    terms = parse_selector(query.labelSelector or "")
    after = name_before(query.continue_)
    free = await operations.count_free_nodes(services.pools)
    flavors = sorted(services.catalogue.flavors, key=lambda flavor: flavor.code)
    selected = [f for f in flavors if f.code > after and matches(_labels(f), terms)]
    shown = selected[: query.limit or PAGE_MAX]
    remaining = len(selected) - len(shown)
    return json_reply(
        shapes.ResourceFlavorList(
            metadata=PageMetadata(
                continue_=cursor_after(shown[-1].code) if remaining else None,
                remainingItemCount=remaining,
            ),
            items=[_flavor_view(flavor, flavors, free[flavor.code]) for flavor in shown],
        )
    )


def _labels(flavor: Flavor) -> dict[str, str]:
    return {SCOPE_LABEL: ",".join(Scope)}


def _flavor_view(
    flavor: Flavor, flavors: Sequence[Flavor], free_count: int
) -> shapes.ResourceFlavorView:
    task = flavor.task
    return shapes.ResourceFlavorView(
        metadata=shapes.ResourceFlavorMetadata(
            name=flavor.code, labels=_labels(flavor), annotations={}
        ),
        spec=shapes.ResourceFlavorSpec(
            type="Dedicate",
            cpuArch="arm64" if platform.machine().lower() in _ARM else "x86",
            cpu=f"{task.cpu_millis / 1000:g}",
            memory=f"{task.memory_mib // 1024}Gi"
            if task.memory_mib % 1024 == 0
            else f"{task.memory_mib}Mi",
            gpu=_cards(flavor, task.gpu_count),
            npu=_cards(flavor, task.npu_count),
            dataVolume=[],
            dataVolumes=[],
            billingModes=[0],
            # A job of any flavor that fits runs on such a node.
            jobFlavors=[other.code for other in flavors if other.task.fits_in(task)],
        ),
        status=shapes.ResourceFlavorStatus(phase={AZ: "normal" if free_count else "soldout"}),
    )


def _cards(flavor: Flavor, count: int) -> shapes.Cards | None:
    return shapes.Cards(type=flavor.card_model, size=str(count)) if count else None


async def show_quotas(services: Services, request: Request) -> Reply:
    project_id = request.caller.project_id

    def read(connection: Connection) -> tuple[int, int, int]:
        return (
            pools.count_pools(connection, project_id),
            pools.count_wanted_nodes(connection, project_id),
            networks.count_networks(connection, project_id),
        )

    pool_count, node_count, network_count = await services.database.read(read)
    resources = [
        shapes.ResourceQuota(type="pool", quota=services.pools.pool_quota, used=pool_count),
        # What bounds nodes is the quota of each workspace.
        shapes.ResourceQuota(type="node", quota=UNBOUNDED, used=node_count),
        shapes.ResourceQuota(type="network", quota=NETWORKS_MAX, used=network_count),
    ]
    return json_reply(shapes.QuotaList(quotas=shapes.ResourceQuotas(resources=resources)))


async def show_configuration(services: Services, request: Request) -> Reply:
    """There are no volumes and no plug-ins to choose from."""
    return json_reply(
        shapes.Configuration(
            networkCidrs=[str(whole) for whole in RANGES],
            networkQuota=NETWORKS_MAX,
            networkSubnetTypes=[],
            poolQuota=services.pools.pool_quota,
            poolHighAvailable=False,
            maxPoolFlavors=LINES_MAX,
            clusterFlavorSpecs=[],
            licenseScopeType="multi",
            nodeOSVersionSupport=[],
            volumeTypes=[],
            poolScopePlugins=[
                shapes.ScopePlugins(
                    scope=scope,
                    plugins=[],
                    externalDependency=False,
                    reservedNetworkCidr=[],
                    supportRetry=True,
                )
                for scope in Scope
            ],
        )
    )


async def list_maintenance(services: Services, request: Request) -> Reply:
    """Nodes are never rebooted, replaced or installed anew: there are no such tasks."""
    decode_query(request.query, shapes.MaintenanceQuery)
    return json_reply(shapes.MaintenanceList(count=0, items=[]))
