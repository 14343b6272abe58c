"""Who is calling: a Keystone token, or an AK/SK signature. Held against the project of the path.

What the store says is remembered for REMEMBER_SECONDS, so that the quick calls do not ask it each
time. What is not known yet is looked for anew: a key that the command line has just made works at
once. And one that it has just disabled is refused at once: after its commit the command leaves a
notice in the data folder (store/notice.py), the server looks for one every LOOK_SECONDS, forgets
every login, and takes the notice away, for which the command waits before it says that it is done.
Changes over the API call `forget` themselves.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from muster.api.http import Request
from muster.api.remembered import Remembered
from muster.api.routing import Login, Route
from muster.domain.errors import (
    InvalidRequest,
    ProjectMismatch,
    SignatureMalformed,
    SignatureStale,
    SignatureWrong,
    TokenExpired,
    TokenInvalid,
    TokenWithoutProject,
    Unauthenticated,
)
from muster.operations.caller import Caller
from muster.operations.identity import Identity
from muster.operations.login import TEMPORARY_PREFIX, token_digest
from muster.store import identity
from muster.wire.signature import (
    CLOCK_SKEW_MAX,
    UNSIGNED_PAYLOAD,
    Authorization,
    is_signature,
    is_signed_by,
    parse_authorization,
    parse_sdk_date,
    payload_hash,
)

_PROJECT_ID_LENGTH: Final = 32


@dataclass(slots=True)
class _Known:
    """A token as it was read from the store."""

    caller: Caller | None  # None: the token has no project
    member: identity.Named
    expires_at_ms: int


@dataclass(slots=True)
class _KnownKey:
    secret: str
    member: identity.Named
    temporary: identity.TemporaryKey | None = None


class Authenticator:
    """Sets `request.caller`, or raises. One place for every route."""

    def __init__(self, ident: Identity, clock_ms: Callable[[], int]) -> None:
        self._identity = ident
        self._clock_ms = clock_ms
        self._tokens = Remembered(self._read_token)
        self._keys = Remembered(self._read_key)
        self._callers = Remembered(self._read_caller)  # by member and project: of keys

    async def __call__(self, request: Request, route: Route) -> None:
        """Find out who calls, and hold it against what the route asks for."""
        token: bytes | None = None
        is_signed = False
        for name, value in request.scope["headers"]:
            if name == b"x-auth-token":
                token = value
            elif name == b"authorization":
                is_signed = True
        if token is None or is_signed:
            authorization = request.header("authorization") or ""
            if is_signature(authorization):
                await self._by_signature(request, route, authorization)
                return
            if token is None:
                raise Unauthenticated(
                    "The request has neither an X-Auth-Token nor a signed Authorization header."
                )
        known = self._tokens.find(token) or await self._tokens.get(token)
        if known.expires_at_ms <= self._clock_ms():
            raise TokenExpired("The token has expired; get a new one from POST /v3/auth/tokens.")
        if route.login is Login.MEMBER:
            request.caller = known.caller or await self._without_project(known.member, route)
            return
        self._let_in(request, known)

    def _let_in(self, request: Request, known: _Known) -> None:
        caller = known.caller
        if caller is None:
            raise TokenWithoutProject("The token is for no project; ask for one with a scope.")
        if caller.project_id != request.params[0]:
            raise _project_mismatch(request.params[0])
        request.caller = caller

    async def _read_token(self, token: bytes) -> _Known:
        stored = await self._identity.database.read_fresh(
            identity.find_token, token_digest(token.decode("latin-1"))
        )
        if stored is None:
            raise TokenInvalid("The token is not known; get one from POST /v3/auth/tokens.")
        caller = None
        if stored.project_id is not None:
            caller = await self._read_caller((stored.member, stored.project_id))
        return _Known(caller, stored.member, stored.expires_at_ms)

    async def _read_caller(self, in_project: tuple[identity.Named, str]) -> Caller | None:
        """A member in a project; None if it is not in it."""
        member, project_id = in_project
        found = await self._identity.database.read_fresh(
            identity.find_membership, member, project_id
        )
        if found is None:
            return None
        return Caller(
            member.id,
            member.name,
            project_id,
            found.role,
            found.may_prioritise,
            found.workspace_roles,
        )

    async def _without_project(self, member: identity.Named, route: Route) -> Caller:
        """Who names no project is in the default one, where a route needs one."""
        if route.needs is not None:
            for project in await self._identity.database.read_fresh(
                identity.list_projects_of, member.id
            ):
                caller = await self._read_caller((member, project.id))
                if caller is not None:
                    return caller
            raise Unauthenticated(
                "These credentials are for no project; what is asked for belongs to projects."
            )
        return Caller(member.id, member.name, "", None)

    def forget_token(self, token: str) -> None:
        """A revoked token is refused from now on."""
        self._tokens.forget(token.encode("latin-1"))

    def forget(self) -> None:
        """Whatever was changed about users, keys, roles and workspaces counts from now on."""
        self._tokens.forget_all()
        self._keys.forget_all()
        self._callers.forget_all()

    async def _by_signature(self, request: Request, route: Route, value: str) -> None:
        authorization = parse_authorization(value)
        signed_at = parse_sdk_date(request.header("x-sdk-date") or "")
        if abs(signed_at.timestamp() * 1000 - self._clock_ms()) > _SKEW_MS:
            raise SignatureStale(
                "X-Sdk-Date is more than 15 minutes from this server's clock; set yours right."
            )
        key = await self._keys.get(authorization.access_key)
        if key.temporary is not None:
            self._check_temporary(request, authorization, key.temporary)
        if not await _verify(request, route, authorization, key.secret):
            raise SignatureWrong(
                "The signature does not match: wrong secret key, or the request"
                " was changed on its way."
            )
        await self._let_key_in(request, route, key)

    async def _read_key(self, access_key: str) -> _KnownKey:
        database, vault = self._identity.database, self._identity.vault
        if access_key.startswith(TEMPORARY_PREFIX):
            temporary = await database.read_fresh(identity.find_temporary_key, access_key)
            if temporary is not None:
                secret = vault.open(temporary.secret_sealed)
                return _KnownKey(secret, temporary.member, temporary)
        else:
            stored = await database.read_fresh(identity.find_access_key, access_key)
            if stored is not None:
                return _KnownKey(vault.open(stored.secret_sealed), stored.member)
        raise SignatureWrong(f"The access key {access_key!r} is not known, or is disabled.")

    def _check_temporary(
        self, request: Request, authorization: Authorization, key: identity.TemporaryKey
    ) -> None:
        """A temporary key is good with its own token beside it, signed, and for its time."""
        token = request.header(_SECURITY_TOKEN)
        if token is None:
            raise TokenInvalid(
                "The access key is a temporary one: X-Security-Token must come with it."
            )
        if _SECURITY_TOKEN not in authorization.signed_headers:
            raise SignatureMalformed("X-Security-Token must be among the SignedHeaders.")
        if not hmac.compare_digest(token_digest(token), key.token_digest):
            raise TokenInvalid("X-Security-Token is not the one of this access key.")
        if key.expires_at_ms <= self._clock_ms():
            raise TokenExpired(
                "The temporary access key has expired; get a new one from"
                " POST /v3.0/OS-CREDENTIAL/securitytokens."
            )

    async def _let_key_in(self, request: Request, route: Route, key: _KnownKey) -> None:
        named = request.header("x-project-id")
        if route.login is Login.MEMBER and not named and key.temporary is not None:
            named = key.temporary.project_id
        if route.login is Login.MEMBER and not named:
            request.caller = await self._without_project(key.member, route)
            return
        project_id = named or "" if route.login is Login.MEMBER else request.params[0]
        caller = await self._key_caller(key, project_id)
        if caller is None or (named is not None and named != project_id):
            raise _project_mismatch(project_id)
        request.caller = caller

    async def _key_caller(self, key: _KnownKey, project_id: str) -> Caller | None:
        if key.temporary is not None and key.temporary.project_id != project_id:
            return None
        return await self._callers.get((key.member, project_id))


_SECURITY_TOKEN: Final = "x-security-token"  # noqa: S105 - a header
_SKEW_MS: Final = CLOCK_SKEW_MAX.total_seconds() * 1000


async def _verify(
    request: Request, route: Route, authorization: Authorization, secret: str
) -> bool:
    declared = request.header("x-sdk-content-sha256")
    if route.takes_stream and declared is not None:
        # The body is not read yet; its handler holds it against this hash at its end.
        digest = declared
    else:
        digest = payload_hash(await request.body(), declared)
    return is_signed_by(
        secret,
        authorization,
        method=request.method,
        raw_path=request.raw_path,
        query=request.raw_query,
        header=request.header,
        payload_hash=digest,
    )


def declared_hash(request: Request) -> str | None:
    """The hash that a signed, streamed body must turn out to have; None: nothing was promised."""
    if not is_signature(request.header("authorization") or ""):
        return None
    declared = request.header("x-sdk-content-sha256")
    return None if declared == UNSIGNED_PAYLOAD else declared


def _project_mismatch(project_id: str) -> Exception:
    is_id = len(project_id) == _PROJECT_ID_LENGTH and project_id.isalnum()
    if not is_id:
        return ProjectIdMalformed(
            f"project_id is {project_id!r} in the path; it must be the 32 hex digits of a project."
        )
    return ProjectMismatch(
        f"project_id is {project_id!r} in the path; these credentials are not for that project."
    )


class ProjectIdMalformed(InvalidRequest):
    code = ProjectMismatch.code
