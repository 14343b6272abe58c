"""Pools: make, list, show, change, delete."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from muster.api.http import Reply, Request, json_reply
from muster.api.labels import matches, parse_selector
from muster.api.pools.views import labels_of, plain, pool_view
from muster.api.services import Services
from muster.domain.errors import InvalidRequest
from muster.domain.pool import Pool, PoolPhase, Scope
from muster.domain.poollines import NewLine
from muster.domain.poolwish import (
    NAME_LABEL,
    WORKSPACE_LABEL,
    NewPool,
    PoolChange,
    check_changeable,
)
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.operations import pools as operations
from muster.store import identity, pool_nodes, pools
from muster.store.connection import Connection
from muster.store.pool_nodes import LineCount
from muster.wire import pools as shapes
from muster.wire.decode import decode_body, decode_query

T = TypeVar("T")

# Members of a line that say what and how many; the rest is kept as it was given.
_LINE_FIELDS: Final = ("flavor", "count", "maxCount", "nodePool")
_SPEC_FIELDS: Final = ("type", "scope", "resources", "parent")


# ---------------------------------------------------------------- reading


async def list_pools(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.PoolsQuery)
    body = await services.database.read_shared(
        _list_pools,
        request.caller.project_id,
        query.workspaceId or DEFAULT_WORKSPACE_ID,
        query.labelSelector or "",
        query.status,
        query.parent,
    )
    return Reply(200, body)


def _list_pools(
    connection: Connection,
    project_id: str,
    workspace_id: str,
    selector: str,
    status: str | None,
    parent: str | None,
) -> bytes:
    terms = parse_selector(selector)
    counts = pool_nodes.count_by_line(connection, project_id)
    account_id = account_of(connection, project_id)
    views = [
        pool_view(pool, counts.get(pool.partition, ()), account_id)
        for pool in pools.list_pools(connection, project_id)
        if pool.workspace_id == workspace_id
        and not parent  # no pool is a part of another
        and (not status or status == status_word(pool.phase))
        and matches(labels_of(pool, account_id), terms)
    ]
    return msgspec.json.encode(shapes.PoolList(items=views))


def status_word(phase: PoolPhase) -> str:
    """What the list filters by. A pool that waits is none of what can be asked for."""
    match phase:
        case PoolPhase.WAITING:
            return "pending"
        case PoolPhase.CREATING:
            return "creating"
        case PoolPhase.CREATION_FAILED | PoolPhase.ERROR:
            return "failed"
        case PoolPhase.RUNNING | PoolPhase.ABNORMAL | PoolPhase.DELETING | PoolPhase.SCALING_FAILED:
            return "created"


async def show_pool(services: Services, request: Request) -> Reply:
    def read(connection: Connection) -> shapes.PoolView:
        return _view(connection, pools.get_pool(connection, *request.params))

    return json_reply(await services.database.read(read))


def _view(connection: Connection, pool: Pool) -> shapes.PoolView:
    return pool_view(pool, counts_of(connection, pool), account_of(connection, pool.project_id))


def counts_of(connection: Connection, pool: Pool) -> Sequence[LineCount]:
    return pool_nodes.count_by_line(connection, pool.project_id).get(pool.partition, ())


def account_of(connection: Connection, project_id: str) -> str:
    project = identity.find_project(connection, project_id)
    assert project is not None, "the caller is of it"
    return project.account.id


# ---------------------------------------------------------------- making


async def create_pool(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NewPoolRequest)
    pool = await operations.create_pool(
        services.pools, request.caller, _new_pool(body), now_ms=services.clock_ms()
    )
    account_id = await services.database.read(account_of, pool.project_id)
    return json_reply(pool_view(pool, (), account_id, is_new=True))


def _new_pool(body: shapes.NewPoolRequest) -> NewPool:
    spec, labels = body.spec, body.metadata.labels
    if spec.type == "Logical" or spec.parent:
        field = "spec.type is 'Logical'" if spec.type == "Logical" else "spec.parent is set"
        raise InvalidRequest(
            f"{field}; this platform has no pools within pools. Make one of type 'Dedicate',"
            " without a parent."
        )
    if NAME_LABEL not in labels:
        raise InvalidRequest(f"metadata.labels['{NAME_LABEL}'] is missing; it names the pool.")
    return NewPool(
        display_name=labels[NAME_LABEL],
        workspace_id=labels.get(WORKSPACE_LABEL) or DEFAULT_WORKSPACE_ID,
        scopes=tuple(Scope) if spec.scope is None else tuple(spec.scope),
        lines=new_lines(spec.resources),
        labels=labels,
        annotations=body.metadata.annotations or {},
        settings=_without(plain(spec), _SPEC_FIELDS),
    )


def new_lines(given: Sequence[shapes.GivenLine]) -> tuple[NewLine, ...]:
    return tuple(
        new_line(line, where=f"spec.resources[{index}]") for index, line in enumerate(given)
    )


def new_line(given: shapes.GivenLine, *, where: str) -> NewLine:
    named = given.extendParams.nodePoolName if given.extendParams else None
    return NewLine(
        where=where,
        flavor_code=given.flavor,
        node_count=given.count,
        node_count_max=given.maxCount,
        name=given.nodePool or named or None,
        settings=_without(plain(given), _LINE_FIELDS),
    )


def _without(members: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in members.items() if key not in names}


# ---------------------------------------------------------------- changing


async def change_pool(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.PoolPatch)
    pool = await operations.change_pool(
        services.pools,
        request.caller,
        request.params[1],
        _change(body),
        now_ms=services.clock_ms(),
    )
    return json_reply(await services.database.read(_view, pool))


def _change(body: shapes.PoolPatch) -> PoolChange:
    metadata = given(body.metadata, "metadata") or shapes.ChangedMetadata()
    spec = given(body.spec, "spec") or shapes.ChangedPoolSpec()
    resources = given(spec.resources, "spec.resources")
    scope = given(spec.scope, "spec.scope")
    if spec.type is not UNSET and spec.type != "Dedicate":
        raise InvalidRequest(
            f"spec.type cannot be {'removed' if spec.type is None else 'changed'};"
            " it is 'Dedicate'."
        )
    if spec.parent is not UNSET and spec.parent:
        raise InvalidRequest("spec.parent is set; this platform has no pools within pools.")
    return PoolChange(
        labels=given(metadata.labels, "metadata.labels") or {},
        annotations={} if metadata.annotations is UNSET else metadata.annotations,
        scopes=None if scope is None else tuple(scope),
        lines=None if resources is None else new_lines(resources),
        settings=_without(plain(spec), _SPEC_FIELDS),
    )


def given(member: T | msgspec.UnsetType | None, name: str) -> T | None:
    """None where the patch says nothing of it.

    Raises:
        InvalidRequest: the patch takes it away, which cannot be.
    """
    if member is None:
        raise InvalidRequest(f"{name} is null; it cannot be removed.")
    return None if isinstance(member, msgspec.UnsetType) else member


async def delete_pool(services: Services, request: Request) -> Reply:
    """Answers with what was there: an idle pool may be gone before this is read."""
    pool = await operations.delete_pool(
        services.pools, request.caller, request.params[1], now_ms=services.clock_ms()
    )
    return json_reply(await services.database.read(_view, pool))


async def retry_scope(services: Services, request: Request) -> Reply:
    """Every scope of a pool is enabled from the start: there is nothing to try again."""
    body = decode_body(await request.body(), shapes.RetriedScope)
    project_id, pool_id = request.params
    pool = await services.database.read(pools.get_pool, project_id, pool_id)
    if body.scope not in pool.scopes:
        raise InvalidRequest(
            f"scope is {body.scope.value!r}; pool {pool_id} is for {', '.join(pool.scopes)}."
            " PATCH spec.scope to change that."
        )
    if not pool.is_public:
        check_changeable(pool)
    return json_reply({})
