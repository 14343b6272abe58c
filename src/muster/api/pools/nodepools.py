"""The node pools of a pool: its lines, each by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from msgspec import Struct, UnsetType

from muster.api.http import Reply, Request, json_reply
from muster.api.pools.nodes import node_page
from muster.api.pools.pools import counts_of, given, new_line
from muster.api.pools.views import line_status, line_view, plain
from muster.api.services import Services
from muster.domain.errors import InvalidRequest
from muster.domain.pool import Pool
from muster.domain.poollines import check_line_name
from muster.domain.poolwish import check_annotations
from muster.operations import pools as operations
from muster.store import pools
from muster.store.connection import Connection
from muster.store.pool_nodes import LineCount
from muster.wire import nodes as shapes
from muster.wire.decode import decode_body, decode_query
from muster.wire.pools import LineSettings

_ANNOTATIONS: Final = "annotations"  # among the settings of a line: it has no other place for them


async def list_node_pools(services: Services, request: Request) -> Reply:
    project_id, pool_id = request.params

    def read(connection: Connection) -> shapes.NodePoolList:
        pool = pools.get_pool(connection, project_id, pool_id)
        counts = counts_of(connection, pool)
        return shapes.NodePoolList(items=[_view(pool, line.name, counts) for line in pool.lines])

    return json_reply(await services.database.read(read))


async def show_node_pool(services: Services, request: Request) -> Reply:
    project_id, pool_id, name = request.params
    pool = await services.database.read(pools.get_pool, project_id, pool_id)
    return await _reply(services, pool, name)


async def _reply(services: Services, pool: Pool, name: str) -> Reply:
    counts = await services.database.read(counts_of, pool)
    return json_reply(_view(pool, name, counts))


def _view(pool: Pool, name: str, counts: Sequence[LineCount]) -> shapes.NodePoolView:
    line = operations.get_line(pool, name)
    annotations: Any = line.settings.get(_ANNOTATIONS, {})
    return shapes.NodePoolView(
        metadata=shapes.NodePoolMetadata(name=name, annotations=annotations),
        spec=shapes.NodePoolSpec(resources=line_view(line)),
        status=shapes.NodePoolStatus(resources=line_status(pool, name, counts)),
    )


async def list_node_pool_nodes(services: Services, request: Request) -> Reply:
    project_id, pool_id, name = request.params
    query = decode_query(request.query, shapes.PageQuery)

    def read(connection: Connection) -> shapes.NodeList:
        pool = pools.get_pool(connection, project_id, pool_id)
        operations.get_line(pool, name)
        return node_page(connection, pool, query, line_name=name)

    return json_reply(await services.database.scan(read))


# ---------------------------------------------------------------- changing


async def create_node_pool(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NewNodePool)
    name, line = body.metadata.name, new_line(body.spec.resources, where="spec.resources")
    check_line_name("metadata.name", name)
    if line.name not in (None, name):
        raise InvalidRequest(
            f"spec.resources.nodePool is {line.name!r}; it must be metadata.name, {name!r}, or be"
            " left out."
        )
    annotations = body.metadata.annotations or {}
    check_annotations(annotations)
    settings = {**line.settings, **({_ANNOTATIONS: annotations} if annotations else {})}
    pool = await operations.create_line(
        services.pools,
        request.caller,
        request.params[1],
        replace(line, name=name, settings=settings),
        now_ms=services.clock_ms(),
    )
    return await _reply(services, pool, name)


async def change_node_pool(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NodePoolPatch)
    _, pool_id, name = request.params
    metadata = given(body.metadata, "metadata") or shapes.ChangedNodePoolMetadata()
    spec = given(body.spec, "spec") or shapes.ChangedNodePoolSpec()
    line = given(spec.resources, "spec.resources") or shapes.ChangedNodePoolLine()
    if given(line.nodePool, "spec.resources.nodePool") not in (None, name):
        raise InvalidRequest("spec.resources.nodePool cannot be changed; it is the name.")
    settings = {key: value for key, value in plain(line).items() if key in _SETTINGS}
    if not isinstance(metadata.annotations, UnsetType):
        check_annotations(metadata.annotations or {})
        settings[_ANNOTATIONS] = metadata.annotations
    count = given(line.count, "spec.resources.count")
    pool = await operations.change_line(
        services.pools,
        request.caller,
        pool_id,
        name,
        flavor_code=given(line.flavor, "spec.resources.flavor"),
        node_count=count,
        node_count_max=given(line.maxCount, "spec.resources.maxCount"),
        settings=settings,
        check=_check_settings,
        now_ms=services.clock_ms(),
    )
    return await _reply(services, pool, name)


_SETTINGS: Final = frozenset(LineSettings.__struct_fields__)


class _CheckedSpec(Struct, kw_only=True):
    resources: LineSettings


class _CheckedBody(Struct, kw_only=True):
    spec: _CheckedSpec


def _check_settings(merged: Mapping[str, object]) -> None:
    """A patch is right or wrong by what comes of it."""
    decode_body(msgspec.json.encode({"spec": {"resources": merged}}), _CheckedBody)


async def delete_node_pool(services: Services, request: Request) -> Reply:
    """Answers with what was there."""
    _, pool_id, name = request.params
    before = await operations.delete_line(
        services.pools, request.caller, pool_id, name, now_ms=services.clock_ms()
    )
    return await _reply(services, before, name)
