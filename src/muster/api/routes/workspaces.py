"""Workspaces with their quotas, and authorizations."""

from muster.api import workspaces
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import workspaces as shapes

_WORKSPACES = "/v1/{project_id}/workspaces"
_WORKSPACE = f"{_WORKSPACES}/{{workspace_id}}"
_AUTHORIZATIONS = "/v2/{project_id}/authorizations"


def routes(services: Services) -> list[Route]:
    modern = table(services, Envelope.MODERN)
    return [
        modern(
            "GET", _WORKSPACES, workspaces.list_workspaces, "List workspaces",
            query=shapes.WorkspacesQuery, reply=shapes.WorkspaceViews,
            needs=Permission.WORKSPACE_READ,
        ),
        modern(
            "POST", _WORKSPACES, workspaces.create_workspace, "Make a workspace",
            body=shapes.NewWorkspace, reply=shapes.WorkspaceView,
            needs=Permission.WORKSPACE_MANAGE,
        ),
        modern(
            "GET", _WORKSPACE, workspaces.show_workspace, "Show a workspace",
            reply=shapes.WorkspaceView,
            needs=Permission.WORKSPACE_READ, within=Within.WORKSPACE,
        ),
        modern(
            "PUT", _WORKSPACE, workspaces.update_workspace,
            "Change a workspace, and who may enter it",
            body=shapes.WorkspaceChange, reply=shapes.WorkspaceId,
            needs=Permission.WORKSPACE_MANAGE, within=Within.WORKSPACE,
        ),
        modern(
            "DELETE", _WORKSPACE, workspaces.delete_workspace, "Delete an empty workspace",
            reply=shapes.WorkspaceId,
            needs=Permission.WORKSPACE_MANAGE, within=Within.WORKSPACE,
        ),
        modern(
            "GET", f"{_WORKSPACE}/quotas", workspaces.show_quotas,
            "Show the quotas of a workspace, and what is used of them",
            reply=shapes.QuotaViews,
            needs=Permission.WORKSPACE_READ, within=Within.WORKSPACE,
        ),
        modern(
            "PUT", f"{_WORKSPACE}/quotas", workspaces.update_quotas,
            "Set quotas of a workspace",
            body=shapes.QuotasChange, reply=shapes.QuotaViews,
            needs=Permission.QUOTA_MANAGE, within=Within.WORKSPACE,
        ),
        # About the project: who may not enter the workspace asks just that.
        modern(
            "POST", f"{_WORKSPACE}/auth", workspaces.check_permissions,
            "Check what the caller may do in a workspace",
            body=shapes.PermissionChecks, reply=shapes.Verdicts,
            needs=Permission.WORKSPACE_READ,
        ),
        modern(
            "GET", _AUTHORIZATIONS, workspaces.list_authorizations, "List authorizations",
            query=shapes.AuthorizationsQuery, reply=shapes.Authorizations,
            needs=Permission.GRANT_MANAGE,
        ),
        modern(
            "POST", _AUTHORIZATIONS, workspaces.create_authorization, "Keep an authorization",
            body=shapes.NewAuthorization, reply=shapes.TextResult,
            needs=Permission.GRANT_MANAGE,
        ),
        modern(
            "DELETE", _AUTHORIZATIONS, workspaces.delete_authorizations,
            "Delete one authorization, or all",
            query=shapes.AuthorizationQuery, reply=shapes.TextResult,
            needs=Permission.GRANT_MANAGE,
        ),
    ]  # fmt: skip
