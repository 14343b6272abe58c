"""Tags of pools, nodes and training jobs: show, add, change, remove; and all that there are."""

from collections.abc import Iterable, Mapping, Sequence

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.lookup import find_row, training_job_unknown
from muster.api.training_v2.words import in_v2_words
from muster.domain.errors import InvalidRequest
from muster.domain.tag import TagAction, TagChange, tags_of_annotations
from muster.operations import pools as operations
from muster.operations.caller import Caller
from muster.operations.tags import tag_version
from muster.store import pool_nodes, pools, tags, workspaces
from muster.store.connection import Connection
from muster.wire import tags as shapes
from muster.wire.decode import decode_body, decode_query


def tags_reply(found: Mapping[str, str]) -> Reply:
    """The tags of one thing."""
    return json_reply(
        shapes.TagViews(
            tags=[
                shapes.TagView(key=key, value=value, values=[value])
                for key, value in sorted(found.items())
            ]
        )
    )


def combined_reply(
    pairs: Iterable[tuple[str, str]], *, offset: int = 0, limit: int | None = None
) -> Reply:
    """Each key with all its values, over many things; a page of the keys."""
    values: dict[str, set[str]] = {}
    for key, value in pairs:
        values.setdefault(key, set()).add(value)
    combined = [
        shapes.CombinedTag(key=key, values=sorted(found)) for key, found in sorted(values.items())
    ]
    end = None if limit is None else offset + limit
    return json_reply(shapes.CombinedTags(tags=combined[offset:end]))


async def added_tags(request: Request) -> TagChange:
    return _of_tags(await request.body(), TagAction.CREATE)


async def removed_tags(request: Request) -> TagChange:
    return _of_tags(await request.body(), TagAction.DELETE)


def _of_tags(body: bytes, action: TagAction) -> TagChange:
    return _change(action, decode_body(body, shapes.TagsRequest).tags)


async def _changed(request: Request) -> TagChange:
    """What the body says itself is to be done. Only a reset may name no tag: none are left then."""
    body = decode_body(await request.body(), shapes.TagChangeRequest)
    if not body.tags and body.action is not TagAction.RESET:
        raise InvalidRequest(f"tags is empty; {body.action.value} needs one or more.")
    return _change(body.action, body.tags)


def _change(action: TagAction, given: Sequence[shapes.GivenTag]) -> TagChange:
    return TagChange(action=action, tags=tuple((tag.key, tag.value) for tag in given))


# ---------------------------------------------------------------- pools


async def list_pool_tags(services: Services, request: Request) -> Reply:
    """Of every pool that the caller may see."""
    query = decode_query(request.query, shapes.CombinedTagsQuery)
    caller = request.caller
    found = await services.database.read(pools.list_pools, caller.project_id)
    return combined_reply(
        (
            pair
            for pool in found
            if caller.may_enter(pool.workspace_id)
            for pair in tags_of_annotations(pool.annotations).items()
        ),
        offset=query.offset,
        limit=query.limit,
    )


async def show_pool_tags(services: Services, request: Request) -> Reply:
    project_id, pool_id = request.params
    pool = await services.database.read(pools.get_pool, project_id, pool_id)
    return tags_reply(tags_of_annotations(pool.annotations))


async def change_pool_tags(services: Services, request: Request) -> Reply:
    return await _tag_pool(services, request, await _changed(request))


async def create_pool_tags(services: Services, request: Request) -> Reply:
    return await _tag_pool(services, request, await added_tags(request))


async def delete_pool_tags(services: Services, request: Request) -> Reply:
    return await _tag_pool(services, request, await removed_tags(request))


async def _tag_pool(services: Services, request: Request, change: TagChange) -> Reply:
    pool = await operations.tag_pool(
        services.pools, request.caller, request.params[1], change, now_ms=services.clock_ms()
    )
    return tags_reply(tags_of_annotations(pool.annotations))


# ---------------------------------------------------------------- nodes


async def list_node_tags(services: Services, request: Request) -> Reply:
    """Of the nodes of one pool, or of all pools that the caller may see."""
    query = decode_query(request.query, shapes.NodeTagsQuery)
    pairs = await services.database.scan(_tags_of_nodes, request.caller, query.pool)
    return combined_reply(pairs)


def _tags_of_nodes(connection: Connection, caller: Caller, pool_id: str) -> list[tuple[str, str]]:
    if pool_id:
        seen = [pools.get_pool(connection, caller.project_id, pool_id)]
    else:
        seen = pools.list_pools(connection, caller.project_id)
    seen = [pool for pool in seen if caller.may_enter(pool.workspace_id)]
    if pool_id and not seen:
        raise pools.pool_unknown(pool_id)
    return [
        pair
        for pool in seen
        for node in pool_nodes.list_partition_nodes(connection, pool.partition)
        for pair in operations.own_tags(node).items()
    ]


async def show_node_tags(services: Services, request: Request) -> Reply:
    project_id, node_name = request.params
    _, node = await services.database.read(operations.find_own_node, project_id, node_name)
    return tags_reply(operations.own_tags(node))


async def change_node_tags(services: Services, request: Request) -> Reply:
    change = await _changed(request)
    found = await operations.tag_node(services.pools, request.caller, request.params[1], change)
    return tags_reply(found)


# ---------------------------------------------------------------- training jobs


async def list_job_tags(services: Services, request: Request) -> Reply:
    """Of every job that the caller may see."""
    query = decode_query(request.query, shapes.CombinedTagsQuery)
    pairs = await services.database.scan(_tags_of_jobs, request.caller)
    return combined_reply(pairs, offset=query.offset, limit=query.limit)


def _tags_of_jobs(connection: Connection, caller: Caller) -> list[tuple[str, str]]:
    entered = [
        workspace.id
        for workspace in workspaces.list_workspaces(connection, caller.project_id)
        if caller.may_enter(workspace.id)
    ]
    return tags.list_workspace_tags(connection, caller.project_id, entered)


@in_v2_words
async def show_job_tags(services: Services, request: Request) -> Reply:
    row = await find_row(services, request)
    return tags_reply(await services.database.read(tags.list_version_tags, row.version_id))


@in_v2_words
async def create_job_tags(services: Services, request: Request) -> Reply:
    return await _tag_job(services, request, await added_tags(request))


@in_v2_words
async def delete_job_tags(services: Services, request: Request) -> Reply:
    return await _tag_job(services, request, await removed_tags(request))


async def _tag_job(services: Services, request: Request, change: TagChange) -> Reply:
    row = await find_row(services, request)
    found = await tag_version(services.database, row.version_id, change)
    if found is None:
        raise training_job_unknown(request.params[1])
    return tags_reply(found)
