"""What a user may ask of workspaces and their quotas, and of authorizations."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from muster.domain.errors import InvalidRequest, TooManyWorkspaces, WorkspaceInUse
from muster.domain.permission import Permission
from muster.domain.workspace import (
    QUOTAS,
    WORKSPACES_MAX,
    AuthType,
    Grant,
    Quota,
    QuotaResource,
    Workspace,
    check_is_changeable,
    check_workspace,
)
from muster.operations.caller import Caller
from muster.store import grants, workspaces
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.grants import ALL_USERS, ServiceGrant
from muster.store.transaction import Transaction


async def create_workspace(
    database: Database, caller: Caller, workspace: Workspace, *, now_ms: int
) -> Workspace:
    """Make one that the caller owns.

    Raises:
        InvalidRequest: name, description or grants are not as they may be.
        TooManyWorkspaces: the project has WORKSPACES_MAX already.
        NameTaken: it has one of that name.
    """
    check_workspace(workspace)
    made = replace(
        workspace,
        id=uuid.uuid4().hex,
        owner_id=caller.user_id,
        owner_name=caller.user_name,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )

    def insert(tx: Transaction) -> None:
        count = workspaces.count_workspaces(tx.connection, caller.project_id)
        if count >= WORKSPACES_MAX:
            raise TooManyWorkspaces(
                f"This project has {count} workspaces, as many as it may have; delete some first."
            )
        workspaces.insert_workspace(tx, caller.project_id, made)

    await database.write(insert)
    return made


async def update_workspace(
    database: Database,
    caller: Caller,
    workspace_id: str,
    *,
    name: str | None,
    description: str | None,
    auth_type: AuthType | None,
    grants: tuple[Grant, ...] | None,
    now_ms: int,
) -> None:
    """Change what is given; what is None stays.

    Raises:
        NoSuchWorkspace, WorkspaceFixed, InvalidRequest, NameTaken: nothing was changed.
    """

    def update(tx: Transaction) -> None:
        workspace = workspaces.get_workspace(tx.connection, caller.project_id, workspace_id)
        check_is_changeable(workspace)
        changed = replace(
            workspace,
            name=workspace.name if name is None else name,
            description=workspace.description if description is None else description,
            auth_type=workspace.auth_type if auth_type is None else auth_type,
            grants=workspace.grants if grants is None else grants,
            updated_at_ms=now_ms,
        )
        check_workspace(changed)
        workspaces.update_workspace(tx, caller.project_id, changed)

    await database.write(update)


async def delete_workspace(database: Database, caller: Caller, workspace_id: str) -> None:
    """Take an empty one away, with its quotas and the roles in it.

    Raises:
        NoSuchWorkspace, WorkspaceFixed: it is not there, or is the default one.
        WorkspaceInUse: says what is in it.
    """

    def delete(tx: Transaction) -> None:
        workspace = workspaces.get_workspace(tx.connection, caller.project_id, workspace_id)
        check_is_changeable(workspace)
        contents = workspaces.count_contents(tx.connection, caller.project_id, workspace_id)
        if found := list(_in_words(contents)):
            raise WorkspaceInUse(
                f"Workspace {workspace.name!r} still has {' and '.join(found)}; delete or move"
                " them first."
            )
        workspaces.delete_workspace(tx, caller.project_id, workspace_id)

    await database.write(delete)


def _in_words(contents: workspaces.Contents) -> Sequence[str]:
    counts = [
        (contents.job_count, "training job(s)"),
        (contents.pool_count, "pool(s)"),
        (contents.algorithm_count, "algorithm(s)"),
        (contents.notebook_count, "notebook(s)"),
        (contents.image_count, "image(s)"),
        (contents.model_count, "model(s)"),
        (contents.service_count, "service(s)"),
        (contents.visualization_count, "visualization job(s)"),
        (contents.experiment_count, "experiment(s)"),
        (contents.network_count, "network(s)"),
    ]
    running = (
        contents.job_count,
        contents.notebook_count,
        contents.service_count,
        contents.visualization_count,
    )
    if not any(running):
        counts.append((contents.workload_count, "deleted job(s) that are still being stopped"))
    return [f"{count} {what}" for count, what in counts if count]


async def set_quotas(
    database: Database,
    caller: Caller,
    workspace_id: str,
    given: Sequence[tuple[str, int]],
    *,
    now_ms: int,
) -> list[Quota]:
    """Set quotas by (resource, quota); returns those that were set.

    Below what is used is allowed: nothing more fits until less is used.

    Raises:
        InvalidRequest: names a resource that there is no quota for, or one that is named twice.
        NoSuchWorkspace: it is not there.
    """
    wanted = _checked_quotas(given)

    def put(tx: Transaction) -> list[Quota]:
        project_id = caller.project_id
        workspaces.get_workspace(tx.connection, project_id, workspace_id)
        workspaces.put_quotas(tx, project_id, workspace_id, wanted, now_ms=now_ms)
        quotas = workspaces.list_quotas(tx.connection, project_id, workspace_id)
        return [quota for quota in quotas if quota.resource in wanted]

    return await database.write(put)


def _checked_quotas(given: Sequence[tuple[str, int]]) -> Mapping[QuotaResource, int]:
    wanted: dict[QuotaResource, int] = {}
    for index, (resource, quota) in enumerate(given):
        if resource not in tuple(QUOTAS):
            raise InvalidRequest(
                f"quotas[{index}].resource is {resource[:100]!r}; there are {', '.join(QUOTAS)}."
            )
        if resource in wanted:
            raise InvalidRequest(f"quotas[{index}].resource is {resource!r}, for the second time.")
        wanted[QuotaResource(resource)] = quota
    return wanted


def parse_permission(name: str, *, field: str) -> Permission:
    """The permission of that public name."""
    if name not in tuple(Permission):
        raise InvalidRequest(f"{field} is {name[:100]!r}; there are {', '.join(Permission)}.")
    return Permission(name)


# ---------------------------------------------------------------- authorizations

_ID_LENGTH_MIN, _ID_LENGTH_MAX = 3, 32
_SECRET_LENGTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenGrant:
    """An authorization as it is asked for."""

    content: str
    type: str
    user_id: str | None
    user_name: str | None
    user_type: str
    secret_key: str | None


async def create_grant(
    database: Database, caller: Caller, given: GivenGrant, *, now_ms: int
) -> None:
    """Keep an authorization, for the caller where no user is named. No secret key is kept.

    Raises:
        InvalidRequest: names the field.
        GrantTaken: the user has one.
    """
    user_id = check_user_id(given.user_id or caller.user_id)
    if given.type == "credential":
        if len(given.secret_key or "") != _SECRET_LENGTH:
            raise InvalidRequest(
                f"secret_key must be {_SECRET_LENGTH} characters for the type 'credential'."
            )
    elif given.secret_key:
        raise InvalidRequest("secret_key is for the type 'credential' only.")
    own_name = caller.user_name if user_id == caller.user_id else ""
    grant = ServiceGrant(
        user_id=user_id,
        user_name=given.user_name or own_name,
        user_type=ALL_USERS if user_id == ALL_USERS else given.user_type,
        type=given.type,
        content=given.content,
        created_at_ms=now_ms,
    )
    await database.write(grants.insert_grant, caller.project_id, grant)


async def delete_grants(database: Database, caller: Caller, user_id: str) -> None:
    """Drop the authorization of one user, or all of them: `all`, `all-users`.

    Raises:
        GrantUnknown: there is none.
    """
    await database.write(grants.delete_grants, caller.project_id, check_user_id(user_id))


def check_user_id(text: str) -> str:
    """A user id, or ALL_USERS for either way to write it."""
    if text in ("all", ALL_USERS):
        return ALL_USERS
    if not _ID_LENGTH_MIN <= len(text) <= _ID_LENGTH_MAX:
        raise InvalidRequest(
            f"user_id is {text[:100]!r}; it must have {_ID_LENGTH_MIN} to {_ID_LENGTH_MAX}"
            f" characters, or be 'all' or {ALL_USERS!r}."
        )
    return text


def list_grants(
    connection: Connection,
    caller: Caller,
    *,
    sort_by: str,
    is_descending: bool,
    offset: int,
    limit: int,
) -> tuple[int, list[ServiceGrant]]:
    """(how many there are, the page of them)."""
    found = grants.list_grants(connection, caller.project_id)
    found.sort(key=lambda grant: grant.user_id)
    found.sort(
        key=lambda grant: grant.created_at_ms if sort_by == "create_time" else grant.user_name,
        reverse=is_descending,
    )
    return len(found), found[offset : offset + limit]
