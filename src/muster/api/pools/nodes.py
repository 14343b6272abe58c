"""The nodes of a pool: list, show, delete, lock, and what else can be done to many at once."""

from collections.abc import Mapping, Sequence

from muster.api.http import Reply, Request, json_reply
from muster.api.pools.cursors import cursor_after, name_before
from muster.api.pools.pools import account_of
from muster.api.pools.views import node_view
from muster.api.services import Services
from muster.domain.errors import InvalidRequest, NotOffered
from muster.domain.pool import Pool
from muster.domain.tag import TagAction, TagChange
from muster.operations import pools as operations
from muster.operations.pools import NodeAction
from muster.store import pool_nodes, pools
from muster.store.connection import Connection
from muster.store.pool_nodes import Hold
from muster.wire import nodes as shapes
from muster.wire.decode import decode_body, decode_query


async def list_nodes(services: Services, request: Request) -> Reply:
    project_id, pool_id = request.params
    query = decode_query(request.query, shapes.PageQuery)

    def read(connection: Connection) -> shapes.NodeList:
        pool = pools.get_pool(connection, project_id, pool_id)
        return node_page(connection, pool, query, line_name=None)

    return json_reply(await services.database.scan(read))


def node_page(
    connection: Connection, pool: Pool, query: shapes.PageQuery, *, line_name: str | None
) -> shapes.NodeList:
    """Nodes by name; of one line only, where it is named."""
    left, found = pool_nodes.list_node_page(
        connection,
        pool.partition,
        line_name=line_name,
        after=name_before(query.continue_),
        limit=query.limit or shapes.PAGE_MAX,
    )
    account_id = account_of(connection, pool.project_id)
    holds = _holds(connection, pool.partition)
    remaining = left - len(found)
    return shapes.NodeList(
        metadata=shapes.PageMetadata(
            continue_=cursor_after(found[-1].name) if remaining else None,
            remainingItemCount=remaining,
        ),
        items=[node_view(node, pool, holds.get(node.name, ()), account_id) for node in found],
    )


def _holds(connection: Connection, partition: str) -> Mapping[str, Sequence[Hold]]:
    """By node."""
    holds: dict[str, list[Hold]] = {}
    for hold in pool_nodes.list_holds(connection, partition):
        holds.setdefault(hold.node_name, []).append(hold)
    return holds


async def show_node(services: Services, request: Request) -> Reply:
    project_id, pool_id, node_name = request.params

    def read(connection: Connection) -> shapes.NodeView:
        pool = pools.get_pool(connection, project_id, pool_id)
        node = operations.get_node(connection, pool, node_name)
        holds = _holds(connection, pool.partition).get(node.name, ())
        return node_view(node, pool, holds, account_of(connection, project_id))

    return json_reply(await services.database.scan(read))


# ---------------------------------------------------------------- many at once


async def delete_nodes(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NodeDeletion)
    await operations.delete_nodes(
        services.pools,
        request.caller,
        request.params[1],
        body.deleteNodeNames,
        now_ms=services.clock_ms(),
    )
    return Reply(200)


async def lock_nodes(services: Services, request: Request) -> Reply:
    return await _lock(services, request, is_locked=True)


async def unlock_nodes(services: Services, request: Request) -> Reply:
    return await _lock(services, request, is_locked=False)


async def _lock(services: Services, request: Request, *, is_locked: bool) -> Reply:
    body = decode_body(await request.body(), shapes.NodeLock)
    nodes = await operations.lock_nodes(
        services.pools, request.caller, request.params[1], body.nodeNames, is_locked=is_locked
    )
    return json_reply(
        shapes.NodeResults(
            nodes=[shapes.NodeResult(name=node.name, status="success") for node in nodes]
        )
    )


async def update_nodes(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NodeUpdate)
    if body.haRedundantEffect == "NoExecute":
        raise InvalidRequest(
            "haRedundantEffect is 'NoExecute'; what runs on a node is never driven away: it must be"
            " 'NoSchedule' or be left out."
        )
    if body.driver is not None:
        raise InvalidRequest("driver is set; this platform installs no drivers. Leave it out.")
    action = NodeAction(body.action)
    change = None
    if action in _TAG_ACTIONS:
        if not body.tags:
            raise InvalidRequest(f"tags is missing; {body.action} needs one or more.")
        pairs = tuple((tag.key, tag.value) for tag in body.tags)
        change = TagChange(action=_TAG_ACTIONS[action], tags=pairs)
    done, failed = await operations.update_nodes(
        services.pools,
        request.caller,
        request.params[1],
        body.nodeNames,
        action,
        change=change,
    )
    return json_reply(shapes.NodeUpdateResults(successNodeNames=done, failNodeNames=failed))


_TAG_ACTIONS: Mapping[NodeAction, TagAction] = {
    NodeAction.CREATE_TAGS: TagAction.CREATE,
    NodeAction.DELETE_TAGS: TagAction.DELETE,
}


# What is asked for, and why it cannot be.
NOT_OFFERED: Mapping[str, str] = {
    "batch-reboot": "Nodes are shares of machines that others use too; none is rebooted.",
    "batch-reset": "Nodes are shares of machines as they are; no system is installed on them.",
    "batch-resize": "The nodes of a node pool keep their flavor; make a node pool of another one.",
    "batch-migrate": "Nodes stay in their pool; make one pool smaller and the other one larger.",
    "batch-bind": "There are no pools within pools that a node could be bound to.",
}


async def refuse_batch(services: Services, request: Request) -> Reply:
    """A call that is published, and that this platform has no use for."""
    project_id, pool_id = request.params
    await services.database.read(pools.get_pool, project_id, pool_id)
    raise NotOffered(NOT_OFFERED[request.raw_path.rstrip("/").rsplit("/", 1)[1]])
