"""Accounts, projects, users, access keys and tokens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from muster.domain.errors import NameTaken
from muster.domain.permission import Role
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.domain.workspace import AuthType, Grant, Workspace, role_in
from muster.store.connection import REFUSED, Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, tells_lists

SQL: Final = load_statements("identity")


@dataclass(frozen=True, slots=True)
class Named:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Project:
    id: str
    name: str
    account: Named


@dataclass(frozen=True, slots=True)
class Member:
    id: str
    name: str
    password_hash: str
    account: Named


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What a member is in a project, and in those workspaces where it is something else."""

    role: Role
    may_prioritise: bool = False
    workspace_roles: Mapping[str, Role | None] = field(default_factory=dict)  # None: not let in


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedMembership:
    """A user in a project, or one in none."""

    user_id: str
    user_name: str
    is_enabled: bool
    project_id: str | None
    project_name: str | None
    role: str | None
    may_prioritise: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKey:
    """An access key without its secret."""

    access: str
    user_name: str
    is_enabled: bool
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryKey:
    """An access key for a while, good only with the token beside it."""

    secret_sealed: bytes
    token_digest: bytes
    member: Named
    project_id: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class StoredToken:
    member: Named
    project_id: str | None
    role: str | None  # None where the member has left the project
    issued_at_ms: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class AccessKey:
    secret_sealed: bytes
    member: Named


def find_account(connection: Connection) -> Named | None:
    row = connection.execute(SQL["find_account"]).fetchone()
    return Named(*row) if row else None


def insert_account(tx: Transaction, account: Named) -> None:
    tx.execute(SQL["insert_account"], {"id": account.id, "name": account.name})


def insert_project(tx: Transaction, project: Project, *, is_default: bool, now_ms: int) -> None:
    """Store a project and its default workspace.

    Raises:
        NameTaken: there is a project of that name.
    """
    try:
        tx.execute(
            SQL["insert_project"],
            {
                "id": project.id,
                "name": project.name,
                "account_id": project.account.id,
                "is_default": is_default,
            },
        )
    except REFUSED as error:
        raise NameTaken(f"A project named {project.name!r} exists.") from error
    tx.execute(
        SQL["insert_workspace"],
        {
            "project_id": project.id,
            "id": DEFAULT_WORKSPACE_ID,
            "name": "default",
            "now_ms": now_ms,
        },
    )


def insert_member(tx: Transaction, member: Member) -> None:
    try:
        tx.execute(
            SQL["insert_member"],
            {
                "id": member.id,
                "name": member.name,
                "account_id": member.account.id,
                "password_hash": member.password_hash,
            },
        )
    except REFUSED as error:
        raise NameTaken(f"A user named {member.name!r} exists.") from error


def insert_membership(
    tx: Transaction,
    *,
    member_id: str,
    project_id: str,
    role: str,
    is_default: bool,
    may_prioritise: bool = False,
) -> None:
    tx.execute(
        SQL["insert_membership"],
        {
            "member_id": member_id,
            "project_id": project_id,
            "role": role,
            "is_default": is_default,
            "may_prioritise": may_prioritise,
        },
    )


def put_membership(
    tx: Transaction, *, member_id: str, project_id: str, role: Role, may_prioritise: bool | None
) -> None:
    """Change what a member is in a project, or let it in. `may_prioritise` None: as it was."""
    tx.changes_logins = True
    changed = tx.execute(
        SQL["update_membership"],
        {
            "member_id": member_id,
            "project_id": project_id,
            "role": role,
            "may_prioritise": may_prioritise,
        },
    )
    if changed.rowcount == 0:
        insert_membership(
            tx,
            member_id=member_id,
            project_id=project_id,
            role=role,
            is_default=False,
            may_prioritise=bool(may_prioritise),
        )


def delete_membership(tx: Transaction, *, member_id: str, project_id: str) -> bool:
    """Take a member out of a project, with its roles in workspaces; whether it was in it."""
    tx.changes_logins = True
    key = {"member_id": member_id, "project_id": project_id}
    tx.execute(SQL["delete_workspace_roles_of"], key)
    return tx.execute(SQL["delete_membership"], key).rowcount > 0


def count_memberships(connection: Connection, project_id: str) -> int:
    [count] = connection.execute(SQL["count_memberships"], {"project_id": project_id}).fetchone()
    return int(count)


def list_memberships(connection: Connection) -> list[ListedMembership]:
    """Everybody in every project, by name."""
    return [
        ListedMembership(
            user_id=row[0],
            user_name=row[1],
            is_enabled=bool(row[2]),
            project_id=row[3],
            project_name=row[4],
            role=row[5],
            may_prioritise=bool(row[6]),
        )
        for row in connection.execute(SQL["list_memberships"])
    ]


def insert_access_key(
    tx: Transaction, *, access: str, secret_sealed: bytes, member_id: str, now_ms: int
) -> None:
    tx.execute(
        SQL["insert_access_key"],
        {
            "access": access,
            "secret_sealed": secret_sealed,
            "member_id": member_id,
            "now_ms": now_ms,
        },
    )


def find_project(connection: Connection, project: str) -> Project | None:
    """By id or by name."""
    row = connection.execute(SQL["find_project"], {"project": project}).fetchone()
    return Project(row[0], row[1], Named(row[2], row[3])) if row else None


def list_projects(connection: Connection) -> list[Project]:
    rows = connection.execute(SQL["list_projects"])
    return [Project(row[0], row[1], Named(row[2], row[3])) for row in rows]


def list_projects_of(connection: Connection, member_id: str) -> list[Project]:
    """The default project first."""
    rows = connection.execute(SQL["list_projects_of"], {"member_id": member_id})
    return [Project(row[0], row[1], Named(row[2], row[3])) for row in rows]


def find_member(
    connection: Connection, *, id_: str | None = None, name: str | None = None, account: str = ""
) -> Member | None:
    """By id, or by name within the account that is given by its id or name."""
    row = connection.execute(
        SQL["find_member"], {"id": id_, "name": name, "account": account}
    ).fetchone()
    return Member(row[0], row[1], row[2], Named(row[3], row[4])) if row else None


def find_member_by_name(connection: Connection, name: str) -> Member | None:
    """Whether it may log in or not."""
    row = connection.execute(SQL["find_member_by_name"], {"name": name}).fetchone()
    return Member(row[0], row[1], row[2], Named(row[3], row[4])) if row else None


def enable_member(tx: Transaction, member_id: str, *, is_enabled: bool) -> None:
    tx.changes_logins = True
    tx.execute(SQL["enable_member"], {"member_id": member_id, "is_enabled": is_enabled})


def find_membership(connection: Connection, member: Named, project_id: str) -> Membership | None:
    key = {"member_id": member.id, "project_id": project_id}
    row = connection.execute(SQL["find_membership"], key).fetchone()
    if row is None:
        return None
    role = Role(row[0])
    return Membership(
        role=role,
        may_prioritise=bool(row[1]),
        workspace_roles={
            workspace_id: own
            for workspace_id, own in _special_roles(connection, member, project_id, role)
            if own is not role
        },
    )


def _special_roles(
    connection: Connection, member: Named, project_id: str, project_role: Role
) -> Iterator[tuple[str, Role | None]]:
    """(workspace, role in it) wherever that may be another than in the project."""
    key = {"member_id": member.id, "member_name": member.name, "project_id": project_id}
    for row in connection.execute(SQL["list_special_workspaces"], key):
        id_, name, auth_type, owner_id, own_role, granted_id, granted_name = row
        grants = () if granted_id is None else (Grant(user_id=granted_id, user_name=granted_name),)
        role = role_in(
            Workspace(
                id=id_, name=name, auth_type=AuthType(auth_type), owner_id=owner_id, grants=grants
            ),
            user_id=member.id,
            user_name=member.name,
            project_role=project_role,
            own_role=None if own_role is None else Role(own_role),
        )
        yield id_, role


@tells_lists
def insert_token(tx: Transaction, digest: bytes, token: StoredToken) -> None:
    tx.execute(SQL["delete_expired_tokens"], {"before_ms": token.issued_at_ms})
    tx.execute(
        SQL["insert_token"],
        {
            "digest": digest,
            "member_id": token.member.id,
            "project_id": token.project_id,
            "issued_at_ms": token.issued_at_ms,
            "expires_at_ms": token.expires_at_ms,
        },
    )


def find_token(connection: Connection, digest: bytes) -> StoredToken | None:
    row = connection.execute(SQL["find_token"], {"digest": digest}).fetchone()
    return StoredToken(Named(row[0], row[1]), *row[2:]) if row else None


@tells_lists
def delete_token(tx: Transaction, digest: bytes) -> None:
    tx.changes_logins = True
    tx.execute(SQL["delete_token"], {"digest": digest})


def find_access_key(connection: Connection, access: str) -> AccessKey | None:
    row = connection.execute(SQL["find_access_key"], {"access": access}).fetchone()
    return AccessKey(row[0], Named(row[1], row[2])) if row else None


def list_access_keys(connection: Connection, member_id: str | None = None) -> list[ListedKey]:
    """Of one user, or of all."""
    rows = connection.execute(SQL["list_access_keys"], {"member_id": member_id})
    return [
        ListedKey(
            access=access, user_name=user, is_enabled=bool(is_enabled), created_at_ms=created_at_ms
        )
        for access, user, is_enabled, created_at_ms in rows
    ]


def enable_access_key(tx: Transaction, access: str, *, is_enabled: bool) -> bool:
    """Whether there is such a key."""
    tx.changes_logins = True
    key = {"access": access, "is_enabled": is_enabled}
    return tx.execute(SQL["enable_access_key"], key).rowcount > 0


def delete_access_key(tx: Transaction, access: str) -> bool:
    """Whether there was such a key."""
    tx.changes_logins = True
    return tx.execute(SQL["delete_access_key"], {"access": access}).rowcount > 0


# Kept for so long after their end, so that the refusal can tell that they have expired.
_EXPIRED_KEPT_MS: Final = 86_400_000


def insert_temporary_key(tx: Transaction, access: str, key: TemporaryKey, *, now_ms: int) -> None:
    tx.execute(SQL["delete_expired_temporary_keys"], {"before_ms": now_ms - _EXPIRED_KEPT_MS})
    tx.execute(
        SQL["insert_temporary_key"],
        {
            "access": access,
            "secret_sealed": key.secret_sealed,
            "token_digest": key.token_digest,
            "member_id": key.member.id,
            "project_id": key.project_id,
            "expires_at_ms": key.expires_at_ms,
        },
    )


def find_temporary_key(connection: Connection, access: str) -> TemporaryKey | None:
    row = connection.execute(SQL["find_temporary_key"], {"access": access}).fetchone()
    if row is None:
        return None
    return TemporaryKey(
        secret_sealed=row[0],
        token_digest=row[1],
        member=Named(row[2], row[3]),
        project_id=row[4],
        expires_at_ms=row[5],
    )
