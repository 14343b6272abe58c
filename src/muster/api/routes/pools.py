"""Pools, their nodes, the workloads in them, and what surrounds them."""

from muster.api.errors import Envelope
from muster.api.pools import events, nodepools, nodes, offers, pools, statistics, workloads
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import nodes as node_shapes
from muster.wire import pools as shapes
from muster.wire import resource_layer as layer_shapes

_POOLS = "/v2/{project_id}/pools"
_POOL = f"{_POOLS}/{{pool_name}}"
_NODES = f"{_POOL}/nodes"
_NODE_POOLS = f"{_POOL}/nodepools"
_NODE_POOL = f"{_NODE_POOLS}/{{nodepool_name}}"


def routes(services: Services) -> list[Route]:
    resource = table(services, Envelope.RESOURCE)
    return [
        resource(
            "GET", _POOLS, pools.list_pools, "List pools",
            query=shapes.PoolsQuery, reply=shapes.PoolList,
            needs=Permission.POOL_READ, within=Within.QUERY,
        ),
        resource(
            "POST", _POOLS, pools.create_pool, "Make a pool",
            body=shapes.NewPoolRequest, reply=shapes.PoolView,
            needs=Permission.POOL_MANAGE, within=Within.BODY,
        ),
        resource(
            "GET", _POOL, pools.show_pool, "Show a pool", reply=shapes.PoolView,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "PATCH", _POOL, pools.change_pool, "Change or resize a pool, by a merge patch",
            body=shapes.PoolPatch, reply=shapes.PoolView,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "DELETE", _POOL, pools.delete_pool, "Delete a pool; its jobs are stopped",
            reply=shapes.PoolView,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "POST", f"{_POOL}/retry-scope", pools.retry_scope,
            "Try again to enable a scope: all of them are from the start",
            body=shapes.RetriedScope,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "GET", f"{_POOL}/workloads", workloads.list_workloads, "List the jobs in a pool",
            query=shapes.WorkloadsQuery, reply=shapes.WorkloadList,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "GET", "/v2/{project_id}/statistics/pools", statistics.show_pool_statistics,
            "Count pools by where they stand",
            query=shapes.PoolStatisticsQuery, reply=shapes.PoolStatistics,
            needs=Permission.POOL_READ, within=Within.QUERY,
        ),
        *_node_routes(services),
        *_node_pool_routes(services),
        *_layer_routes(services),
    ]  # fmt: skip


def _node_routes(services: Services) -> list[Route]:
    resource = table(services, Envelope.RESOURCE)
    return [
        resource(
            "GET", _NODES, nodes.list_nodes, "List the nodes of a pool",
            query=node_shapes.PageQuery, reply=node_shapes.NodeList,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "GET", f"{_NODES}/{{node_name}}", nodes.show_node, "Show a node",
            reply=node_shapes.NodeView,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "POST", f"{_NODES}/batch-delete", nodes.delete_nodes,
            "Give nodes back by name; busy ones go once their work has ended",
            body=node_shapes.NodeDeletion,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "POST", f"{_NODES}/batch-lock", nodes.lock_nodes,
            "Keep nodes from new work and from being deleted",
            body=node_shapes.NodeLock, reply=node_shapes.NodeResults,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "POST", f"{_NODES}/batch-unlock", nodes.unlock_nodes, "Undo that",
            body=node_shapes.NodeLock, reply=node_shapes.NodeResults,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "POST", f"{_NODES}/batch-update", nodes.update_nodes,
            "Make nodes spare or not, or change their tags",
            body=node_shapes.NodeUpdate, reply=node_shapes.NodeUpdateResults,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        *(
            resource(
                "POST", f"{_NODES}/{call}", nodes.refuse_batch, f"Not offered: {why}",
                status=501, also={501: why},
                needs=Permission.POOL_MANAGE, within=Within.POOL,
            )
            for call, why in nodes.NOT_OFFERED.items()
        ),
    ]  # fmt: skip


def _node_pool_routes(services: Services) -> list[Route]:
    resource = table(services, Envelope.RESOURCE)
    return [
        resource(
            "GET", _NODE_POOLS, nodepools.list_node_pools, "List the node pools of a pool",
            reply=node_shapes.NodePoolList,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "POST", _NODE_POOLS, nodepools.create_node_pool, "Add a node pool",
            body=node_shapes.NewNodePool, reply=node_shapes.NodePoolView,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "GET", _NODE_POOL, nodepools.show_node_pool, "Show a node pool",
            reply=node_shapes.NodePoolView,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "PATCH", _NODE_POOL, nodepools.change_node_pool,
            "Change or resize a node pool, by a merge patch",
            body=node_shapes.NodePoolPatch, reply=node_shapes.NodePoolView,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "DELETE", _NODE_POOL, nodepools.delete_node_pool, "Delete a node pool",
            reply=node_shapes.NodePoolView,
            needs=Permission.POOL_MANAGE, within=Within.POOL,
        ),
        resource(
            "GET", f"{_NODE_POOL}/nodes", nodepools.list_node_pool_nodes,
            "List the nodes of a node pool",
            query=node_shapes.PageQuery, reply=node_shapes.NodeList,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
    ]  # fmt: skip


def _layer_routes(services: Services) -> list[Route]:
    resource = table(services, Envelope.RESOURCE)
    return [
        resource(
            "GET", "/v2/{project_id}/jobs", offers.list_maintenance,
            "List maintenance tasks on nodes: there are none",
            query=layer_shapes.MaintenanceQuery, reply=layer_shapes.MaintenanceList,
            needs=Permission.POOL_READ,
        ),
        resource(
            "GET", "/v1/{project_id}/resourceflavors", offers.list_flavors,
            "List what pools can be made of",
            query=layer_shapes.FlavorsQuery, reply=layer_shapes.ResourceFlavorList,
            needs=Permission.POOL_READ,
        ),
        resource(
            "GET", "/v1/{project_id}/events", events.list_events, "List what happened to a pool",
            query=layer_shapes.EventsQuery, reply=layer_shapes.PoolEventList,
            needs=Permission.POOL_READ,
        ),
        resource(
            "GET", "/v1/{project_id}/quotas", offers.show_quotas,
            "Show how many pools a project may have", reply=layer_shapes.QuotaList,
            needs=Permission.POOL_READ,
        ),
        resource(
            "GET", "/v1/{project_id}/os-user-config", offers.show_configuration,
            "Show how the resource layer is set up", reply=layer_shapes.Configuration,
            needs=Permission.POOL_READ,
        ),
    ]  # fmt: skip
