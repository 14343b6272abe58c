"""Keystone v3, as far as clients use it: versions, tokens, catalog, projects."""

from datetime import UTC, datetime
from typing import Final

from msgspec import UNSET

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain.errors import InvalidRequest, NotFound, Unauthenticated
from muster.operations import login
from muster.operations.login import IssuedToken
from muster.store import identity
from muster.store.identity import Member, Named, Project
from muster.wire.decode import decode_body
from muster.wire.identity import (
    AuthRequest,
    CatalogReply,
    DomainList,
    Endpoint,
    InDomain,
    NamedView,
    ProjectList,
    ProjectView,
    ScopeBody,
    Service,
    TemporaryKeyReply,
    TemporaryKeyRequest,
    TemporaryKeyView,
    TokenReply,
    TokenView,
    UserInDomain,
    VersionDocument,
    VersionLink,
    VersionReply,
    VersionsReply,
    VersionValues,
)

REGION: Final = "muster"
_INTERFACES: Final = ("public", "internal", "admin")
_SUBJECT_TOKEN: Final = b"X-Subject-Token"


async def show_versions(services: Services, request: Request) -> Reply:
    return json_reply(VersionsReply(VersionValues([_version(request)])), status=300)


async def show_version(services: Services, request: Request) -> Reply:
    return json_reply(VersionReply(_version(request)))


def _version(request: Request) -> VersionDocument:
    return VersionDocument(links=[VersionLink("self", f"{request.base_url}/v3/")])


async def create_token(services: Services, request: Request) -> Reply:
    """Log in by password or by a token, for a project or for none."""
    auth = decode_body(await request.body(), AuthRequest).auth
    now_ms = services.clock_ms()
    if auth.identity.password is not None and "password" in auth.identity.methods:
        user = auth.identity.password.user
        domain = user.domain
        member = await login.member_by_password(
            services.identity,
            id_=user.id,
            name=user.name,
            account=(domain.id or domain.name or "") if domain else "",
            password=user.password,
        )
    elif auth.identity.token is not None and "token" in auth.identity.methods:
        member = await login.member_by_token(
            services.identity, auth.identity.token.id, now_ms=now_ms
        )
    else:
        raise InvalidRequest(
            f"auth.identity.methods is {auth.identity.methods}; it must be ['password'] or"
            " ['token'], with an object of that name beside it."
        )
    project, account, is_unscoped = _scope(auth.scope)
    token = await login.issue_token(
        services.identity,
        member,
        methods=tuple(auth.identity.methods),
        project=project,
        account=account,
        is_unscoped=is_unscoped,
        now_ms=now_ms,
    )
    reply = json_reply(TokenReply(_token_view(token, request)), status=201)
    reply.headers.append((_SUBJECT_TOKEN, token.value.encode()))
    return reply


def _scope(scope: ScopeBody | str | None) -> tuple[str | None, str | None, bool]:
    """(id or name of the project, of its account if given; whether no project is wanted).

    No project means the user's default one.
    """
    if scope is None:
        return None, None, False
    if isinstance(scope, str) or scope.project is None:
        return None, None, True
    domain = scope.project.domain
    account = (domain.id or domain.name) if domain else None
    return scope.project.id or scope.project.name, account, False


def _token_view(token: IssuedToken, request: Request) -> TokenView:
    wants_catalog = "nocatalog" not in request.query and token.project is not None
    return TokenView(
        methods=list(token.methods),
        user=UserInDomain(token.member.id, token.member.name, _account(token.member)),
        project=_project_view(token.project) if token.project else UNSET,
        roles=[NamedView(role, role) for role in filter(None, [token.role])],
        catalog=_catalog(request, token.project.id) if wants_catalog and token.project else UNSET,
        issued_at=_timestamp(token.issued_at_ms),
        expires_at=_timestamp(token.expires_at_ms),
    )


def _project_view(project: Project) -> InDomain:
    return InDomain(project.id, project.name, _account(project))


def _account(thing: Member | Project) -> NamedView:
    return NamedView(thing.account.id, thing.account.name)


def _timestamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _catalog(request: Request, project_id: str) -> list[Service]:
    base = request.base_url
    return [
        Service(
            type=type_,
            name=type_,
            id=type_,
            endpoints=[
                Endpoint(
                    id=f"{type_}-{interface}",
                    interface=interface,
                    region=REGION,
                    region_id=REGION,
                    url=url,
                )
                for interface in _INTERFACES
            ],
        )
        for type_, url in (
            ("identity", f"{base}/v3"),
            ("modelarts", base),
            ("modelartsv1", f"{base}/v1/{project_id}"),
            ("modelartsv2", f"{base}/v2/{project_id}"),
        )
    ]


async def show_token(services: Services, request: Request) -> Reply:
    """Validate the token in X-Subject-Token."""
    value = request.header("x-subject-token") or ""
    stored = await services.database.read(identity.find_token, login.token_digest(value))
    if stored is None or stored.expires_at_ms <= services.clock_ms():
        raise NotFound("X-Subject-Token is not a token that is known and valid.")
    if stored.member.id != request.caller.user_id:
        raise NotFound("X-Subject-Token is not a token that is known and valid.")
    member = await services.database.read(identity.find_member, id_=stored.member.id)
    if member is None:
        raise NotFound("X-Subject-Token is not a token that is known and valid.")
    project = None
    if stored.project_id is not None:
        project = await services.database.read(identity.find_project, stored.project_id)
    token = IssuedToken(
        value, member, project, stored.role, ("password",), stored.issued_at_ms,
        stored.expires_at_ms,
    )  # fmt: skip
    reply = json_reply(TokenReply(_token_view(token, request)))
    reply.headers.append((_SUBJECT_TOKEN, value.encode()))
    return reply


async def revoke_token(services: Services, request: Request) -> Reply:
    value = request.header("x-subject-token") or ""
    stored = await services.database.read(identity.find_token, login.token_digest(value))
    if stored is None or stored.member.id != request.caller.user_id:
        raise NotFound("X-Subject-Token is not a token that is known and valid.")
    await services.database.write(identity.delete_token, login.token_digest(value))
    services.forget_token(value)
    return Reply(204, b"", [])


async def create_temporary_key(services: Services, request: Request) -> Reply:
    """A token in, a key pair for a while out; every request with it carries its security token."""
    given = decode_body(await request.body(), TemporaryKeyRequest).auth.identity.token
    made = await login.issue_temporary_key(
        services.identity,
        given.id or request.header("x-auth-token") or "",
        duration_seconds=given.duration_seconds,
        now_ms=services.clock_ms(),
    )
    view = TemporaryKeyView(
        access=made.access_key,
        secret=made.secret_key,
        securitytoken=made.security_token,
        expires_at=_timestamp(made.expires_at_ms),
    )
    return json_reply(TemporaryKeyReply(view), status=201)


async def show_catalog(services: Services, request: Request) -> Reply:
    if not request.caller.project_id:
        raise Unauthenticated("The token is for no project; a catalog needs one.")
    return json_reply(CatalogReply(_catalog(request, request.caller.project_id)))


async def list_own_projects(services: Services, request: Request) -> Reply:
    """The caller's projects; `name` asks for one of them."""
    found = await services.database.read(identity.list_projects_of, request.caller.user_id)
    names = request.query.get("name")
    return json_reply(
        ProjectList(
            [
                ProjectView(id=project.id, name=project.name, domain_id=project.account.id)
                for project in found
                if names is None or project.name in names
            ]
        )
    )


async def list_own_domains(services: Services, request: Request) -> Reply:
    account: Named | None = await services.database.read(identity.find_account)
    return json_reply(DomainList([NamedView(account.id, account.name)] if account else []))
