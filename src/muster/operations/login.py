"""Logging in: by password, by token, with a temporary key; and the tokens that come of it."""

import asyncio
import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from argon2.exceptions import InvalidHashError, VerificationError

from muster.domain.errors import TokenExpired, TokenInvalid, TokenWithoutProject, Unauthenticated
from muster.operations.identity import HASHER, Identity, new_key
from muster.store import identity
from muster.store.identity import Member, Named, Project, StoredToken, TemporaryKey

TEMPORARY_PREFIX: Final = "MT"  # of its access key: it is looked for elsewhere


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
    async with ident.passwords:
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
        return HASHER.verify(member.password_hash if member else _NOBODY, password)
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
        named = Named(member.id, member.name)
        membership = await ident.database.read_fresh(identity.find_membership, named, chosen.id)
        role = membership.role if membership else None
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


@dataclass(frozen=True, slots=True)
class TemporaryCredential:
    """A key pair for a while, and the token that every request with it carries."""

    access_key: str
    secret_key: str
    security_token: str
    expires_at_ms: int


async def issue_temporary_key(
    ident: Identity, token: str, *, duration_seconds: int, now_ms: int
) -> TemporaryCredential:
    """A temporary key for the token's user, in its project or else in the user's default one.

    It outlives neither its time nor the user; revoking the token does not end it.

    Raises:
        TokenInvalid, TokenExpired, TokenWithoutProject: there is nobody to make it for.
    """
    stored = await ident.database.read_fresh(identity.find_token, token_digest(token))
    if stored is None:
        raise TokenInvalid("auth.identity.token.id is not a token that is known.")
    if stored.expires_at_ms <= now_ms:
        raise TokenExpired("auth.identity.token.id has expired.")
    project_id = stored.project_id
    if project_id is None:
        found = await ident.database.read_fresh(identity.list_projects_of, stored.member.id)
        project_id = found[0].id if found else None
    if project_id is None or (stored.project_id is not None and stored.role is None):
        raise TokenWithoutProject("auth.identity.token.id is for no project of its user.")
    access_key, secret_key = new_key(TEMPORARY_PREFIX)
    security_token = secrets.token_urlsafe(48)
    expires_at_ms = now_ms + duration_seconds * 1000
    key = TemporaryKey(
        secret_sealed=ident.vault.seal(secret_key),
        token_digest=token_digest(security_token),
        member=stored.member,
        project_id=project_id,
        expires_at_ms=expires_at_ms,
    )
    await ident.database.write(identity.insert_temporary_key, access_key, key, now_ms=now_ms)
    return TemporaryCredential(access_key, secret_key, security_token, expires_at_ms)


def token_digest(value: str) -> bytes:
    return sha256(value.encode()).digest()
