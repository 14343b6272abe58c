"""Who may call: first set-up, projects, users, their roles and keys. `login.py` lets them in."""

import asyncio
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from argon2 import PasswordHasher

from muster.domain.errors import Conflict, InvalidRequest, NotFound
from muster.domain.permission import Role
from muster.store import identity, pools, workspaces
from muster.store.database import Database
from muster.store.identity import Member, Named, Project
from muster.store.transaction import Transaction
from muster.store.vault import Vault

NAME_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}")
PASSWORDS_AT_ONCE: Final = 2  # each takes tens of MB and a core for a while
_PREFIX: Final = "MU"

# The first of the two settings that OWASP recommends for Argon2id: 19 MiB, 2 rounds.
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(slots=True)
class Identity:
    """What the operations on identity work with."""

    database: Database
    vault: Vault
    token_lifetime_ms: int
    passwords: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(PASSWORDS_AT_ONCE)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstCredentials:
    """What the first start hands out; secrets in the clear."""

    project: Project
    user_name: str
    password: str
    access_key: str
    secret_key: str


async def set_up(
    ident: Identity,
    *,
    now_ms: int,
    keep: Callable[[FirstCredentials], None] = lambda _: None,
) -> FirstCredentials | None:
    """Make the first account, project, administrator and key; None if they are there.

    Args:
        ident: where.
        now_ms: when.
        keep: is handed them before they count, and may refuse: nobody else knows the password.
    """
    if await ident.database.read(identity.find_account) is not None:
        return None
    account = Named(_new_id(), "muster")
    project = Project(_new_id(), "default", account)
    password = secrets.token_urlsafe(18)
    member = Member(_new_id(), "admin", await _hashed(password), account)
    access_key, secret_key = new_key(_PREFIX)
    sealed = ident.vault.seal(secret_key)
    first = FirstCredentials(
        project=project,
        user_name=member.name,
        password=password,
        access_key=access_key,
        secret_key=secret_key,
    )

    def insert(tx: Transaction) -> bool:
        if identity.find_account(tx.connection) is not None:
            return False  # another server has started first, just now
        keep(first)
        identity.insert_account(tx, account)
        identity.insert_project(tx, project, is_default=True, now_ms=now_ms)
        _insert_member(tx, member, project, Role.ADMINISTRATOR)
        identity.insert_access_key(
            tx, access=access_key, secret_sealed=sealed, member_id=member.id, now_ms=now_ms
        )
        return True

    return first if await ident.database.write(insert) else None


async def create_project(ident: Identity, name: str, *, now_ms: int) -> Project:
    """A new, empty project with a public pool of its own over the shared nodes."""
    _check_name("The project name", name)
    account = await ident.database.read(identity.find_account)
    if account is None:
        raise NotFound("This data folder has no account yet; start `muster serve` on it once.")
    project = Project(_new_id(), name, account)

    def insert(tx: Transaction) -> None:
        identity.insert_project(tx, project, is_default=False, now_ms=now_ms)
        pools.ensure_public_pool(tx, project.id, now_ms=now_ms)

    await ident.database.write(insert)
    return project


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user as it was made, with the password in the clear."""

    member: Member
    role: Role
    password: str


async def create_user(
    ident: Identity,
    name: str,
    project_name: str,
    *,
    role: Role | None = None,
    may_prioritise: bool = False,
) -> "NewUser":
    """A new user of one project. The password is not kept.

    `role` None: administrator for the first user of the project, developer for each later one.
    """
    _check_name("The user name", name)
    project = await get_project(ident, project_name)
    password = secrets.token_urlsafe(18)
    member = Member(_new_id(), name, await _hashed(password), project.account)
    given = await ident.database.write(
        _insert_member, member, project, role, may_prioritise=may_prioritise
    )
    return NewUser(member=member, role=given, password=password)


async def create_key(ident: Identity, user_name: str, *, now_ms: int) -> tuple[str, str]:
    """A new key pair of a user: (access key, secret key)."""
    member = await get_user(ident, user_name)
    access_key, secret_key = new_key(_PREFIX)
    await ident.database.write(
        identity.insert_access_key,
        access=access_key,
        secret_sealed=ident.vault.seal(secret_key),
        member_id=member.id,
        now_ms=now_ms,
    )
    return access_key, secret_key


async def set_user_enabled(ident: Identity, user_name: str, *, is_enabled: bool) -> None:
    """Let a user in, or keep it out with all its keys and tokens. What it runs goes on."""
    member = await get_user(ident, user_name)
    await ident.database.write(identity.enable_member, member.id, is_enabled=is_enabled)


async def set_key_enabled(ident: Identity, access: str, *, is_enabled: bool) -> None:
    if not await ident.database.write(identity.enable_access_key, access, is_enabled=is_enabled):
        raise _no_such_key(access)


async def delete_key(ident: Identity, access: str) -> None:
    if not await ident.database.write(identity.delete_access_key, access):
        raise _no_such_key(access)


def _no_such_key(access: str) -> NotFound:
    return NotFound(f"There is no access key {access!r}; `muster key list` shows what there is.")


async def set_role(
    ident: Identity,
    user_name: str,
    role: Role,
    *,
    project_name: str,
    workspace: str | None = None,
    may_prioritise: bool | None = None,
) -> None:
    """Say what a user is in a project, or in one workspace of it in place of that.

    In a project that it was not in, the user is from then on.

    Args:
        ident: what there is to work with.
        user_name: whose role.
        role: which.
        project_name: where.
        workspace: its id or name; None: the whole project.
        may_prioritise: whether it may ask for the highest priority; None: as it was.

    Raises:
        NotFound: there is no such user, project or workspace.
        Conflict: a role in a workspace, for a user who is not in the project.
    """
    member = await get_user(ident, user_name)
    project = await get_project(ident, project_name)

    def put(tx: Transaction) -> None:
        if workspace is None:
            identity.put_membership(
                tx,
                member_id=member.id,
                project_id=project.id,
                role=role,
                may_prioritise=may_prioritise,
            )
            return
        workspace_id = _workspace_id(tx, project, workspace)
        named = Named(member.id, member.name)
        if identity.find_membership(tx.connection, named, project.id) is None:
            raise Conflict(
                f"User {user_name!r} is not in project {project.name!r}; give it a role there"
                " first, without --workspace."
            )
        workspaces.put_role(
            tx, project_id=project.id, workspace_id=workspace_id, member_id=member.id, role=role
        )

    await ident.database.write(put)


async def remove_role(
    ident: Identity, user_name: str, *, project_name: str, workspace: str | None = None
) -> None:
    """Take a user out of a project, or give it back in a workspace what it is in the project."""
    member = await get_user(ident, user_name)
    project = await get_project(ident, project_name)

    def remove(tx: Transaction) -> None:
        if workspace is None:
            was_there = identity.delete_membership(tx, member_id=member.id, project_id=project.id)
            where = f"in project {project.name!r}"
        else:
            workspace_id = _workspace_id(tx, project, workspace)
            was_there = workspaces.delete_role(
                tx, project_id=project.id, workspace_id=workspace_id, member_id=member.id
            )
            where = f"of its own in workspace {workspace!r}"
        if not was_there:
            raise NotFound(
                f"User {user_name!r} has no role {where}; `muster role list --project"
                f" {project.name}` shows what there is."
            )

    await ident.database.write(remove)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRole:
    """What a user is in a project, or in one workspace of it."""

    user_name: str
    role: str
    workspace_id: str | None  # None: wherever nothing else is said
    workspace_name: str | None
    may_prioritise: bool = False


async def list_roles(ident: Identity, project_name: str) -> list[ListedRole]:
    """By user: the role in the project first, then those in its workspaces."""
    project = await get_project(ident, project_name)
    members = await ident.database.read(identity.list_memberships)
    own = await ident.database.read(workspaces.list_roles, project.id)
    listed = [
        ListedRole(
            user_name=row.user_name,
            role=row.role or "",
            workspace_id=None,
            workspace_name=None,
            may_prioritise=row.may_prioritise,
        )
        for row in members
        if row.project_id == project.id
    ]
    listed += [
        ListedRole(user_name=user, role=role, workspace_id=id_, workspace_name=name)
        for user, id_, name, role in own
    ]
    return sorted(listed, key=lambda row: row.user_name)


async def list_keys(ident: Identity, user_name: str | None) -> list[identity.ListedKey]:
    """Of one user, or of all."""
    member = None if user_name is None else await get_user(ident, user_name)
    return await ident.database.read(identity.list_access_keys, member.id if member else None)


def _workspace_id(tx: Transaction, project: Project, workspace: str) -> str:
    """By id or by name."""
    for found in workspaces.list_workspaces(tx.connection, project.id):
        if workspace in (found.id, found.name):
            return found.id
    raise NotFound(f"Project {project.name!r} has no workspace {workspace!r}.")


async def get_user(ident: Identity, name: str) -> Member:
    """Whether it may log in or not."""
    member = await ident.database.read(identity.find_member_by_name, name)
    if member is None:
        raise NotFound(f"There is no user {name!r}; `muster user list` shows who there is.")
    return member


async def get_project(ident: Identity, name: str) -> Project:
    project = await ident.database.read(identity.find_project, name)
    if project is None:
        raise NotFound(f"There is no project {name!r}; make one with `muster project create`.")
    return project


def _insert_member(
    tx: Transaction,
    member: Member,
    project: Project,
    role: Role | None,
    *,
    may_prioritise: bool = False,
) -> Role:
    if role is None:
        is_first = identity.count_memberships(tx.connection, project.id) == 0
        role = Role.ADMINISTRATOR if is_first else Role.DEVELOPER
    identity.insert_member(tx, member)
    identity.insert_membership(
        tx,
        member_id=member.id,
        project_id=project.id,
        role=role,
        is_default=True,
        may_prioritise=may_prioritise,
    )
    return role


def _check_name(what: str, name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"{what} is {name!r}; it must be a letter, then up to 63 letters, digits and '_.@-'."
        )


def _new_id() -> str:
    return uuid.uuid4().hex


def new_key(prefix: str) -> tuple[str, str]:
    return f"{prefix}{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)


async def _hashed(password: str) -> str:
    return await asyncio.to_thread(HASHER.hash, password)
