"""Workspaces: access, roles in them, quotas and what is used of those."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from muster.domain.errors import NameTaken, NoSuchWorkspace
from muster.domain.permission import Role
from muster.domain.resources import Resources
from muster.domain.workload import WorkloadType
from muster.domain.workspace import (
    QUOTAS,
    AuthType,
    Grant,
    Quota,
    QuotaResource,
    Use,
    UserType,
    Workspace,
    asked_by,
    check_room,
    limits_of,
)
from muster.store.connection import REFUSED, Connection
from muster.store.counting import HELD, USED
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("workspaces")


def list_workspaces(connection: Connection, project_id: str) -> list[Workspace]:
    """Without their grants."""
    rows = connection.execute(SQL["list_workspaces"], {"project_id": project_id})
    return [_workspace(row) for row in rows]


def get_workspace(connection: Connection, project_id: str, workspace_id: str) -> Workspace:
    """One with its grants.

    Raises:
        NoSuchWorkspace: the project has none of that id.
    """
    key = {"project_id": project_id, "workspace_id": workspace_id}
    row = connection.execute(SQL["find_workspace"], key).fetchone()
    if row is None:
        raise no_such_workspace(workspace_id)
    grants = tuple(
        Grant(user_id=user_id, user_name=user_name, user_type=UserType(user_type))
        for user_id, user_name, user_type in connection.execute(SQL["list_grants"], key)
    )
    return replace(_workspace(row), grants=grants)


def no_such_workspace(workspace_id: str) -> NoSuchWorkspace:
    """One that may not be entered is answered like one that is not there."""
    return NoSuchWorkspace(
        f"workspace_id is {workspace_id[:100]!r}; this project has no such workspace that you may"
        " enter."
    )


def count_workspaces(connection: Connection, project_id: str) -> int:
    [count] = connection.execute(SQL["count_workspaces"], {"project_id": project_id}).fetchone()
    return int(count)


def insert_workspace(tx: Transaction, project_id: str, workspace: Workspace) -> None:
    """Store a new one with its grants.

    Raises:
        NameTaken: the project has a workspace of that name.
    """
    with _name_taken_in_words(workspace):
        tx.execute(SQL["insert_workspace"], _row_of(project_id, workspace))
    _put_grants(tx, project_id, workspace)


def update_workspace(tx: Transaction, project_id: str, workspace: Workspace) -> None:
    """Store name, description, access and grants anew.

    Raises:
        NameTaken: the project has another workspace of that name.
    """
    tx.changes_logins = True
    with _name_taken_in_words(workspace):
        tx.execute(SQL["update_workspace"], _row_of(project_id, workspace))
    tx.execute(SQL["delete_grants"], {"project_id": project_id, "workspace_id": workspace.id})
    _put_grants(tx, project_id, workspace)


@contextmanager
def _name_taken_in_words(workspace: Workspace) -> Iterator[None]:
    try:
        yield
    except REFUSED as error:
        raise NameTaken(
            f"name is {workspace.name!r}; this project has a workspace of that name."
        ) from error


def _put_grants(tx: Transaction, project_id: str, workspace: Workspace) -> None:
    tx.changes_logins = True
    for position, grant in enumerate(workspace.grants):
        tx.execute(
            SQL["insert_grant"],
            {
                "project_id": project_id,
                "workspace_id": workspace.id,
                "position": position,
                "user_id": grant.user_id,
                "user_name": grant.user_name,
                "user_type": grant.user_type,
            },
        )


def delete_workspace(tx: Transaction, project_id: str, workspace_id: str) -> None:
    """Drop it with everything that hangs on it. Only once nothing is in it."""
    tx.changes_logins = True
    key = {"project_id": project_id, "workspace_id": workspace_id}
    for statement in ("delete_grants", "delete_roles", "delete_quotas", "delete_uses"):
        tx.execute(SQL[statement], key)
    tx.execute(SQL["delete_workspace"], key)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a workspace."""

    job_count: int  # that are listed
    workload_count: int  # of which something may still run, deleted ones included
    pool_count: int
    algorithm_count: int
    notebook_count: int
    image_count: int
    model_count: int
    service_count: int
    visualization_count: int
    experiment_count: int
    network_count: int


def count_contents(connection: Connection, project_id: str, workspace_id: str) -> Contents:
    key = {"project_id": project_id, "workspace_id": workspace_id}
    return Contents(*connection.execute(SQL["count_contents"], key).fetchone())


# ---------------------------------------------------------------- roles


def put_role(
    tx: Transaction, *, project_id: str, workspace_id: str, member_id: str, role: Role
) -> None:
    tx.changes_logins = True
    tx.execute(
        SQL["put_role"],
        {
            "project_id": project_id,
            "workspace_id": workspace_id,
            "member_id": member_id,
            "role": role,
        },
    )


def delete_role(tx: Transaction, *, project_id: str, workspace_id: str, member_id: str) -> bool:
    """Whether there was one."""
    tx.changes_logins = True
    key = {"project_id": project_id, "workspace_id": workspace_id, "member_id": member_id}
    return tx.execute(SQL["delete_role"], key).rowcount > 0


def list_roles(connection: Connection, project_id: str) -> list[tuple[str, str, str, str]]:
    """(user name, workspace id, workspace name, role) of every role in a workspace."""
    return connection.execute(SQL["list_roles"], {"project_id": project_id}).fetchall()


# ---------------------------------------------------------------- where things are


def find_workspace_of_job(connection: Connection, project_id: str, job_id: int) -> str | None:
    return _found(connection, "find_workspace_of_job", project_id=project_id, job_id=job_id)


def find_workspace_of_workload(connection: Connection, project_id: str, uid: str) -> str | None:
    """Of a job version that is not deleted."""
    return _found(connection, "find_workspace_of_workload", project_id=project_id, uid=uid)


def find_workspace_of_pool(connection: Connection, project_id: str, pool_id: str) -> str | None:
    return _found(connection, "find_workspace_of_pool", project_id=project_id, pool_id=pool_id)


def _found(connection: Connection, statement: str, **key: object) -> str | None:
    row = connection.execute(SQL[statement], key).fetchone()
    return row[0] if row else None


# ---------------------------------------------------------------- quotas


def put_quotas(
    tx: Transaction,
    project_id: str,
    workspace_id: str,
    quotas: Mapping[QuotaResource, int],
    *,
    now_ms: int,
) -> None:
    """Set some. One below what is used lets nothing more in until less is used."""
    for resource, quota in quotas.items():
        tx.execute(
            SQL["put_quota"],
            {
                "project_id": project_id,
                "workspace_id": workspace_id,
                "resource": resource,
                "quota": quota,
                "now_ms": now_ms,
            },
        )


def list_quotas(connection: Connection, project_id: str, workspace_id: str) -> list[Quota]:
    """Of every resource, with what is used of it."""
    set_ = {quota.resource: quota for quota in _set_quotas(connection, project_id, workspace_id)}
    uses = {
        type_: _use_of(_stored_use(connection, project_id, workspace_id, type_), [0] * len(USED))
        for type_ in WorkloadType
    }
    used = {
        resource: amount
        for type_, use in uses.items()
        for resource, amount in asked_by(type_, use).items()
    }
    used[QuotaResource.POOL_NODES] = count_pool_nodes(connection, project_id, workspace_id)
    return [
        replace(set_.get(resource, Quota(resource=resource)), used=used[resource])
        for resource in QUOTAS
    ]


class WorkloadRoom:
    """What the quotas of workspaces leave to new workloads, for those that one transaction lets in.

    One read of an index for each workspace without quotas, two for one that has some. The
    counters in the tables must not change meanwhile: what is let in goes into `tx.counts`.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._quotas: dict[tuple[str, str], list[Quota]] = {}
        self._limits: dict[tuple[str, str, WorkloadType], _Limits] = {}

    def check(
        self, project_id: str, workspace_id: str, type_: WorkloadType, resources: Resources
    ) -> None:
        """Hold a new workload against what its workspace may have, before it is counted.

        Raises:
            QuotaExceeded: names the resource, the quota, what is left and what was asked for.
        """
        connection, place = self._tx.connection, (project_id, workspace_id)
        if place not in self._quotas:
            self._quotas[place] = _set_quotas(connection, *place)
        if not self._quotas[place]:
            return
        key = (*place, type_)
        limits = self._limits.get(key)
        if limits is None:
            limits = self._limits[key] = _limits_of(connection, *key, self._quotas[place])
        pending = self._tx.counts.pending_use(*key)
        if not limits.allow(pending, resources):
            used = asked_by(type_, _use_of(limits.stored, pending))
            asked = asked_by(type_, Use.of(resources))
            _check_room(workspace_id, self._quotas[place], used, asked)


@dataclass(frozen=True, slots=True)
class _Limits:
    """What fits into this passes: to say what does not fit takes ten times as long."""

    stored: Sequence[int]  # what is used, in the order of USED
    left: Sequence[tuple[int, int]]  # (place in USED, what that leaves)

    def allow(self, pending: Sequence[int], resources: Resources) -> bool:
        asked = (1, *(getattr(resources, name) for name in HELD))
        return all(
            not asked[place] or pending[place] + asked[place] <= left for place, left in self.left
        )


def _limits_of(
    connection: Connection,
    project_id: str,
    workspace_id: str,
    type_: WorkloadType,
    quotas: Sequence[Quota],
) -> _Limits:
    stored = _stored_use(connection, project_id, workspace_id, type_)
    limits = limits_of(type_, quotas).items()
    places = [(USED.index(name), limit) for name, limit in limits]
    return _Limits(stored, [(place, limit - stored[place]) for place, limit in places])


def check_pool_quota(tx: Transaction, project_id: str, workspace_id: str, added_nodes: int) -> None:
    """Hold nodes that pools are to get more against what the workspace may have.

    To be called in the transaction that stores them, before it does. Fewer nodes always pass.

    Raises:
        QuotaExceeded: as for a workload.
    """
    quotas = _set_quotas(tx.connection, project_id, workspace_id)
    if not quotas or added_nodes <= 0:
        return
    used = {QuotaResource.POOL_NODES: count_pool_nodes(tx.connection, project_id, workspace_id)}
    asked = {QuotaResource.POOL_NODES: added_nodes}
    _check_room(workspace_id, quotas, used, asked)


def count_pool_nodes(connection: Connection, project_id: str, workspace_id: str) -> int:
    """What the lines of the workspace's pools ask for, whether it is there yet or not."""
    key = {"project_id": project_id, "workspace_id": workspace_id}
    [count] = connection.execute(SQL["count_pool_nodes"], key).fetchone()
    return int(count)


def _check_room(
    workspace_id: str,
    quotas: Sequence[Quota],
    used: Mapping[QuotaResource, int],
    asked: Mapping[QuotaResource, int],
) -> None:
    counted = [replace(quota, used=used.get(quota.resource, 0)) for quota in quotas]
    check_room(workspace_id, counted, asked)


def _set_quotas(connection: Connection, project_id: str, workspace_id: str) -> list[Quota]:
    """What somebody has set, without what is used of it."""
    key = {"project_id": project_id, "workspace_id": workspace_id}
    return [
        Quota(resource=QuotaResource(resource), quota=quota, updated_at_ms=updated_at_ms)
        for resource, quota, updated_at_ms in connection.execute(SQL["list_quotas"], key)
    ]


def _stored_use(
    connection: Connection, project_id: str, workspace_id: str, type_: WorkloadType
) -> Sequence[int]:
    """In the order of USED."""
    key = {"project_id": project_id, "workspace_id": workspace_id, "type": type_}
    found: Sequence[int] | None = connection.execute(SQL["find_use"], key).fetchone()
    return found or [0] * len(USED)


def _use_of(stored: Sequence[int], pending: Sequence[int]) -> Use:
    return Use(**{name: a + b for name, a, b in zip(USED, stored, pending, strict=True)})


def _row_of(project_id: str, workspace: Workspace) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "id": workspace.id,
        "name": workspace.name,
        "description": workspace.description,
        "auth_type": workspace.auth_type,
        "owner_id": workspace.owner_id,
        "owner_name": workspace.owner_name,
        "enterprise_project_id": workspace.enterprise_project_id,
        "created_at_ms": workspace.created_at_ms,
        "updated_at_ms": workspace.updated_at_ms,
    }


def _workspace(row: Sequence[Any]) -> Workspace:
    return Workspace(
        id=row[0],
        name=row[1],
        description=row[2],
        auth_type=AuthType(row[3]),
        owner_id=row[4],
        owner_name=row[5],
        enterprise_project_id=row[6],
        created_at_ms=row[7],
        updated_at_ms=row[8],
    )
