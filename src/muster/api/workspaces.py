"""Workspaces, their quotas, checks of permissions, and authorizations."""

from collections.abc import Iterable, Sequence
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain.errors import InvalidRequest
from muster.domain.permission import PERMISSIONS, Permission, Role, may
from muster.domain.workspace import (
    QUOTAS,
    AuthType,
    Grant,
    Quota,
    UserType,
    Workspace,
    WorkspaceList,
    select,
)
from muster.operations import workspaces as operations
from muster.store import workspaces
from muster.store.connection import Connection
from muster.store.grants import ServiceGrant
from muster.wire import workspaces as shapes
from muster.wire.decode import decode_body, decode_query

_ORDERS: Final = ("asc", "desc")


async def list_workspaces(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.WorkspacesQuery)
    found = await services.database.read(workspaces.list_workspaces, request.caller.project_id)
    total, page = select(
        found,
        WorkspaceList(
            sort_by=query.sort_by,
            is_descending=query.order == "desc",
            page=query.offset,
            limit=query.limit,
            name=query.name,
            enterprise_project_id=query.enterprise_project_id,
            hidden=request.caller.hidden_workspaces if query.filter_accessible else frozenset(),
        ),
    )
    return json_reply(
        shapes.WorkspaceViews(
            total_count=total, count=len(page), workspaces=[_view(one) for one in page]
        )
    )


def _view(workspace: Workspace) -> shapes.WorkspaceView:
    return shapes.WorkspaceView(
        id=workspace.id,
        name=workspace.name,
        description=workspace.description,
        owner=workspace.owner_name,
        auth_type=workspace.auth_type,
        enterprise_project_id=workspace.enterprise_project_id,
        create_time=workspace.created_at_ms,
        update_time=workspace.updated_at_ms,
    )


def _full_view(workspace: Workspace) -> shapes.WorkspaceView:
    view = _view(workspace)
    view.grants = [
        shapes.GrantView(
            user_id=grant.user_id or None,
            user_name=grant.user_name or None,
            user_type=grant.user_type.value,
        )
        for grant in workspace.grants
    ]
    return view


async def create_workspace(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NewWorkspace)
    made = await operations.create_workspace(
        services.database,
        request.caller,
        Workspace(
            id="",
            name=body.name,
            description=body.description or "",
            auth_type=AuthType(body.auth_type or AuthType.PUBLIC),
            enterprise_project_id=body.enterprise_project_id or "",
            grants=_grants(body.grants or ()),
        ),
        now_ms=services.clock_ms(),
    )
    services.forget_logins()
    return json_reply(_full_view(made))


def _grants(given: Iterable[shapes.GrantView]) -> tuple[Grant, ...]:
    """Where both are given, the id counts."""
    return tuple(
        Grant(
            user_id=one.user_id or "",
            user_name=one.user_name or "",
            user_type=UserType(one.user_type or UserType.IAM),
        )
        for one in given
    )


async def show_workspace(services: Services, request: Request) -> Reply:
    project_id, workspace_id = request.params
    found = await services.database.read(workspaces.get_workspace, project_id, workspace_id)
    return json_reply(_full_view(found))


async def update_workspace(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.WorkspaceChange)
    workspace_id = request.params[1]
    await operations.update_workspace(
        services.database,
        request.caller,
        workspace_id,
        name=body.name,
        description=body.description,
        auth_type=AuthType(body.auth_type) if body.auth_type else None,
        grants=None if body.grants is None else _grants(body.grants),
        now_ms=services.clock_ms(),
    )
    services.forget_logins()
    return json_reply(shapes.WorkspaceId(workspace_id))


async def delete_workspace(services: Services, request: Request) -> Reply:
    workspace_id = request.params[1]
    await operations.delete_workspace(services.database, request.caller, workspace_id)
    services.forget_logins()
    return json_reply(shapes.WorkspaceId(workspace_id))


async def show_quotas(services: Services, request: Request) -> Reply:
    project_id, workspace_id = request.params

    def read(connection: Connection) -> list[Quota]:
        workspaces.get_workspace(connection, project_id, workspace_id)
        return workspaces.list_quotas(connection, project_id, workspace_id)

    views = []
    for quota in await services.database.read(read):
        view = _quota_view(quota)
        view.used_quota = quota.shown_used
        views.append(view)
    return json_reply(shapes.QuotaViews(views))


async def update_quotas(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.QuotasChange)
    changed = await operations.set_quotas(
        services.database,
        request.caller,
        request.params[1],
        [(given.resource, given.quota) for given in body.quotas],
        now_ms=services.clock_ms(),
    )
    return json_reply(shapes.QuotaViews([_quota_view(quota) for quota in changed]))


def _quota_view(quota: Quota) -> shapes.QuotaView:
    detail = QUOTAS[quota.resource]
    return shapes.QuotaView(
        resource=quota.resource,
        quota=quota.quota,
        name_en=detail.name_en,
        name_cn=detail.name_cn,
        unit_en=detail.unit_en,
        unit_cn=detail.unit_cn,
        update_time=quota.updated_at_ms or None,
    )


async def check_permissions(services: Services, request: Request) -> Reply:
    """What the caller may do in a workspace; in one that it may not enter, nothing."""
    body = decode_body(await request.body(), shapes.PermissionChecks)
    project_id, workspace_id = request.params
    await services.database.read(workspaces.get_workspace, project_id, workspace_id)
    role = request.caller.role_in(workspace_id)
    asked = [
        operations.parse_permission(check.action, field=f"requests[{index}].action")
        for index, check in enumerate(body.requests)
    ]
    return json_reply(
        shapes.Verdicts(
            [
                shapes.Verdict(
                    action=check.action,
                    verdict="allow" if may(role, permission) else "deny",
                    action_id=check.action_id,
                    resource=check.resource,
                    cause=_cause(role, permission),
                )
                for check, permission in zip(body.requests, asked, strict=True)
            ]
        )
    )


def _cause(role: Role | None, permission: Permission) -> list[shapes.Cause]:
    if may(role, permission):
        return []
    if role is None:
        condition = shapes.Condition("workspace", "StringEquals", ["accessible"])
        return [shapes.Cause(policy_name="workspace access", condition=[condition])]
    able = [other for other in Role if permission in PERMISSIONS[other]]
    condition = shapes.Condition("role", "StringEquals", [str(one) for one in able])
    return [shapes.Cause(policy_name=f"role {role}", condition=[condition])]


# ---------------------------------------------------------------- authorizations


async def list_authorizations(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.AuthorizationsQuery)
    if query.order.lower() not in _ORDERS:
        raise InvalidRequest(f"order is {query.order[:100]!r}; it must be 'asc' or 'desc'.")
    total, page = await services.database.read(
        operations.list_grants,
        request.caller,
        sort_by=query.sort_by,
        is_descending=query.order.lower() == "desc",
        offset=query.offset,
        limit=query.limit,
    )
    return json_reply(shapes.Authorizations(total_count=total, auth=_authorization_views(page)))


def _authorization_views(page: Sequence[ServiceGrant]) -> list[shapes.AuthorizationView]:
    return [
        shapes.AuthorizationView(
            user_id=grant.user_id,
            type=grant.type,
            content=grant.content,
            user_name=grant.user_name,
            user_type=grant.user_type,
            create_time=grant.created_at_ms,
        )
        for grant in page
    ]


async def create_authorization(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NewAuthorization)
    await operations.create_grant(
        services.database,
        request.caller,
        operations.GivenGrant(
            content=body.content,
            type=body.type,
            user_id=body.user_id,
            user_name=body.user_name,
            user_type=body.user_type,
            secret_key=body.secret_key,
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(shapes.TextResult())


async def delete_authorizations(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.AuthorizationQuery)
    await operations.delete_grants(services.database, request.caller, query.user_id)
    return json_reply(shapes.TextResult())
