"""Roles, and what each of them may do. The only table of it: every route names what it needs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What a route may ask of its caller. The values are public: permission checks name them."""

    JOB_READ = "job:read"  # jobs, their logs, and the choices for new ones
    JOB_WRITE = "job:write"  # submit, change, stop, delete
    NOTEBOOK_READ = "notebook:read"  # notebooks, images and flavors; no token of others
    NOTEBOOK_WRITE = "notebook:write"  # make notebooks and images; open, change, delete one's own
    NOTEBOOK_MANAGE = "notebook:manage"  # open, change and delete those of others, too
    OBJECT_READ = "object:read"
    OBJECT_WRITE = "object:write"
    SERVICE_READ = "service:read"  # models and services
    SERVICE_WRITE = "service:write"  # keep models; deploy, change, stop, delete services
    SERVICE_CALL = "service:call"  # ask a service for what it is there for
    POOL_READ = "pool:read"  # pools, nodes, the workloads in them, statistics, monitor
    POOL_MANAGE = "pool:manage"  # make, resize, delete pools; lock and remove nodes
    WORKSPACE_READ = "workspace:read"
    WORKSPACE_MANAGE = "workspace:manage"  # make and change workspaces, and who may enter them
    QUOTA_MANAGE = "quota:manage"
    GRANT_MANAGE = "grant:manage"  # authorizations
    HISTORY_WRITE = "history:write"  # move in what was run elsewhere


class Role(StrEnum):
    """What a member is in a project, or in one workspace of it. The values are public."""

    ADMINISTRATOR = "administrator"
    RESOURCE_MANAGER = "resource-manager"
    DEVELOPER = "developer"
    READER = "reader"


P = Permission

_READS: Final = frozenset(
    {
        P.JOB_READ,
        P.NOTEBOOK_READ,
        P.OBJECT_READ,
        P.POOL_READ,
        P.SERVICE_CALL,
        P.SERVICE_READ,
        P.WORKSPACE_READ,
    }
)

PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.ADMINISTRATOR: frozenset(Permission),
    Role.RESOURCE_MANAGER: _READS | {P.POOL_MANAGE, P.QUOTA_MANAGE},
    Role.DEVELOPER: _READS | {P.JOB_WRITE, P.NOTEBOOK_WRITE, P.OBJECT_WRITE, P.SERVICE_WRITE},
    Role.READER: _READS,
}


def may(role: Role | None, permission: Permission) -> bool:
    """Whether somebody in that role may; nobody may without one."""
    return role is not None and permission in PERMISSIONS[role]
