"""Who may call: first set-up, projects, users and keys, passwords, tokens."""

import asyncio
import re
import secrets
import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from muster.domain.errors import InvalidRequest, NotFound, Unauthenticated
from muster.domain.pool import PUBLIC_PARTITION, public_pool
from muster.store import identity, pools
from muster.store.database import Database, Transaction
from muster.store.identity import Member, Named, Project, StoredToken
from muster.store.vault import Vault

ADMINISTRATOR: Final = "administrator"
NAME_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}")
PASSWORDS_AT_ONCE: Final = 2  # each takes tens of MB and a core for a while

# The first of the two settings that OWASP recommends for Argon2id: 19 MiB, 2 rounds.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


@dataclass(slots=True)
class Identity:
    """What the operations on identity work with."""

    database: Database
    vault: Vault
    token_lifetime_ms: int
    _passwords: asyncio.Semaphore = field(
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


async def set_up(ident: Identity, *, now_ms: int) -> FirstCredentials | None:
    """Make the first account, project, administrator and key; None if they are there."""
    if await ident.database.read(identity.find_account) is not None:
        return None
    account = Named(_new_id(), "muster")
    project = Project(_new_id(), "default", account)
    password = secrets.token_urlsafe(18)
    member = Member(_new_id(), "admin", await _hashed(password), account)
    access_key, secret_key = _new_key()
    sealed = ident.vault.seal(secret_key)

    def insert(tx: Transaction) -> None:
        identity.insert_account(tx, account)
        identity.insert_project(tx, project, is_default=True, now_ms=now_ms)
        _insert_member(tx, member, project)
        identity.insert_access_key(
            tx, access=access_key, secret_sealed=sealed, member_id=member.id, now_ms=now_ms
        )

    await ident.database.write(insert)
    return FirstCredentials(
        project=project,
        user_name=member.name,
        password=password,
        access_key=access_key,
        secret_key=secret_key,
    )


async def create_project(ident: Identity, name: str, *, now_ms: int) -> Project:
    """A new, empty project with a public pool of its own over the shared nodes."""
    _check_name("The project name", name)
    account = await ident.database.read(identity.find_account)
    if account is None:
        raise NotFound("This data folder has no account yet; start `muster serve` on it once.")
    project = Project(_new_id(), name, account)

    def insert(tx: Transaction) -> None:
        identity.insert_project(tx, project, is_default=False, now_ms=now_ms)
        nodes = pools.list_partition_nodes(tx.connection, PUBLIC_PARTITION)
        pools.put_pool(tx, public_pool(project.id, nodes, now_ms=now_ms))

    await ident.database.write(insert)
    return project


async def create_user(ident: Identity, name: str, project_name: str) -> tuple[Member, str]:
    """A new user of one project; returns the user and the password, which is not kept."""
    _check_name("The user name", name)
    project = await _get_project(ident, project_name)
    password = secrets.token_urlsafe(18)
    member = Member(_new_id(), name, await _hashed(password), project.account)
    await ident.database.write(_insert_member, member, project)
    return member, password


async def create_key(ident: Identity, user_name: str, *, now_ms: int) -> tuple[str, str]:
    """A new key pair of a user: (access key, secret key)."""
    account = await ident.database.read(identity.find_account)
    member = await ident.database.read(
        identity.find_member, name=user_name, account=account.id if account else ""
    )
    if member is None:
        raise NotFound(f"There is no user {user_name!r}; make one with `muster user create`.")
    access_key, secret_key = _new_key()
    await ident.database.write(
        identity.insert_access_key,
        access=access_key,
        secret_sealed=ident.vault.seal(secret_key),
        member_id=member.id,
        now_ms=now_ms,
    )
    return access_key, secret_key


async def _get_project(ident: Identity, name: str) -> Project:
    project = await ident.database.read(identity.find_project, name)
    if project is None:
        raise NotFound(f"There is no project {name!r}; make one with `muster project create`.")
    return project


def _insert_member(tx: Transaction, member: Member, project: Project) -> None:
    identity.insert_member(tx, member)
    identity.insert_membership(
        tx, member_id=member.id, project_id=project.id, role=ADMINISTRATOR, is_default=True
    )


def _check_name(what: str, name: str) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"{what} is {name!r}; it must be a letter, then up to 63 letters, digits and '_.@-'."
        )


def _new_id() -> str:
    return uuid.uuid4().hex


def _new_key() -> tuple[str, str]:
    return f"MU{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)


async def _hashed(password: str) -> str:
    return await asyncio.to_thread(_HASHER.hash, password)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token as it is handed out. `value` is in no store."""

    value: str
    member: Member
    project: Project | None
    role: str | None
    methods: tuple[str, ...]
    issued_at_ms: int
    expires_at_ms: int


async def member_by_password(
    ident: Identity, *, id_: str | None, name: str | None, account: str, password: str
) -> Member:
    """The user, if the password is right. Takes as long for an unknown user as for a wrong one.

    Raises:
        Unauthenticated: no word on which of the two it was.
    """
    member = await ident.database.read_fresh(
        identity.find_member, id_=id_, name=name, account=account
    )
    async with ident._passwords:
        is_right = await asyncio.to_thread(_verify, member, password)
    if member is None or not is_right:
        raise Unauthenticated("The user name, domain or password is wrong.")
    return member


# A hash to try against where there is no user, so that the answer takes as long.
_NOBODY: Final = (
    "$argon2id$v=19$m=19456,t=2,p=1$bXVzdGVybXVzdGVy$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)


def _verify(member: Member | None, password: str) -> bool:
    try:
        return _HASHER.verify(member.password_hash if member else _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False


async def member_by_token(ident: Identity, value: str, *, now_ms: int) -> Member:
    """The user that an unexpired token was issued to."""
    token = await ident.database.read_fresh(identity.find_token, token_digest(value))
    if token is None or token.expires_at_ms <= now_ms:
        raise Unauthenticated("The token is not known or has expired.")
    member = await ident.database.read_fresh(identity.find_member, id_=token.member.id)
    if member is None:
        raise Unauthenticated("The token is not known or has expired.")
    return member


async def issue_token(
    ident: Identity,
    member: Member,
    *,
    methods: tuple[str, ...],
    project: str | None,
    account: str | None,
    is_unscoped: bool,
    now_ms: int,
) -> IssuedToken:
    """Hand out a token for a project: the one asked for (id or name), else the user's default.

    Args:
        ident: what there is to work with.
        member: who is logged in.
        methods: how.
        project: its id or name; None: the default one.
        account: the id or name of the project's account; None: any.
        is_unscoped: no project is wanted.
        now_ms: the time of issue.

    Raises:
        Unauthenticated: the user is not in that project; no word on whether there is one.
    """
    projects = await ident.database.read_fresh(identity.list_projects_of, member.id)
    chosen: Project | None = None
    if not is_unscoped:
        matching = [
            p
            for p in projects
            if project in (None, p.id, p.name) and account in (None, p.account.id, p.account.name)
        ]
        if not matching:
            raise Unauthenticated(f"The user has no project {project!r}.")
        chosen = matching[0]
    role = None
    if chosen is not None:
        role = await ident.database.read_fresh(identity.find_role, member.id, chosen.id)
    value = secrets.token_urlsafe(48)
    token = StoredToken(
        Named(member.id, member.name),
        chosen.id if chosen else None,
        role,
        now_ms,
        now_ms + ident.token_lifetime_ms,
    )
    await ident.database.write(identity.insert_token, token_digest(value), token)
    return IssuedToken(
        value, member, chosen, role, methods, token.issued_at_ms, token.expires_at_ms
    )


def token_digest(value: str) -> bytes:
    return sha256(value.encode()).digest()
