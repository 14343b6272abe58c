"""Accounts, projects, users, access keys and tokens."""

from dataclasses import dataclass
from sqlite3 import IntegrityError
from typing import Final

from muster.domain.errors import NameTaken
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.store.database import Connection, Transaction
from muster.store.statements import load_statements

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
    except IntegrityError as error:
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
    except IntegrityError as error:
        raise NameTaken(f"A user named {member.name!r} exists.") from error


def insert_membership(
    tx: Transaction, *, member_id: str, project_id: str, role: str, is_default: bool
) -> None:
    tx.execute(
        SQL["insert_membership"],
        {
            "member_id": member_id,
            "project_id": project_id,
            "role": role,
            "is_default": is_default,
        },
    )


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


def find_role(connection: Connection, member_id: str, project_id: str) -> str | None:
    row = connection.execute(
        SQL["find_role"], {"member_id": member_id, "project_id": project_id}
    ).fetchone()
    return row[0] if row else None


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


def delete_token(tx: Transaction, digest: bytes) -> None:
    tx.execute(SQL["delete_token"], {"digest": digest})


def find_access_key(connection: Connection, access: str) -> AccessKey | None:
    row = connection.execute(SQL["find_access_key"], {"access": access}).fetchone()
    return AccessKey(row[0], Named(row[1], row[2])) if row else None
