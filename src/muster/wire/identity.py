"""JSON shapes of the Keystone v3 calls that clients make."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field


class Reference(Struct):
    """A user, project or domain, by id or name."""

    id: str | None = None
    name: str | None = None


class PasswordUser(Struct, kw_only=True):
    password: str
    id: str | None = None
    name: str | None = None
    domain: Reference | None = None


class Password(Struct):
    user: PasswordUser


class TokenIdentity(Struct):
    id: str


class IdentityBody(Struct, kw_only=True):
    methods: list[str]
    password: Password | None = None
    token: TokenIdentity | None = None


class ScopeProject(Struct, kw_only=True):
    id: str | None = None
    name: str | None = None
    domain: Reference | None = None


class ScopeBody(Struct, kw_only=True):
    project: ScopeProject | None = None
    domain: Reference | None = None


class AuthBody(Struct, kw_only=True):
    identity: IdentityBody
    scope: ScopeBody | str | None = None  # the text is "unscoped"


class AuthRequest(Struct):
    auth: AuthBody


class LastingToken(Struct, kw_only=True):
    id: str | None = None  # None: the one in X-Auth-Token
    duration_seconds: Annotated[int, Meta(ge=900, le=86_400)] = 900


class TokenMethod(Struct, kw_only=True):
    methods: list[Literal["token"]]
    token: LastingToken = field(default_factory=LastingToken)


class TemporaryAuth(Struct):
    identity: TokenMethod


class TemporaryKeyRequest(Struct):
    """Of `POST /v3.0/OS-CREDENTIAL/securitytokens`."""

    auth: TemporaryAuth


class TemporaryKeyView(Struct, kw_only=True):
    access: str
    secret: str
    securitytoken: str
    expires_at: str


class TemporaryKeyReply(Struct):
    credential: TemporaryKeyView


class NamedView(Struct):
    id: str
    name: str


class InDomain(Struct):
    id: str
    name: str
    domain: NamedView


class UserInDomain(InDomain):
    password_expires_at: str | None = None  # it never does


class ProjectView(Struct, kw_only=True):
    id: str
    name: str
    domain_id: str
    enabled: bool = True


class ProjectList(Struct):
    projects: list[ProjectView]


class DomainList(Struct):
    domains: list[NamedView]


class Endpoint(Struct, kw_only=True):
    id: str
    interface: str
    region: str
    region_id: str
    url: str


class Service(Struct, kw_only=True):
    type: str
    name: str
    id: str
    endpoints: list[Endpoint]


class TokenView(Struct, kw_only=True):
    methods: list[str]
    user: UserInDomain
    project: InDomain | UnsetType = UNSET
    roles: list[NamedView]
    catalog: list[Service] | UnsetType = UNSET
    issued_at: str
    expires_at: str


class TokenReply(Struct):
    token: TokenView


class CatalogReply(Struct):
    catalog: list[Service]


class VersionLink(Struct):
    rel: str
    href: str


class VersionDocument(Struct, kw_only=True):
    id: str = "v3.14"
    status: str = "stable"
    updated: str = "2020-04-07T00:00:00Z"
    links: list[VersionLink]
    media_types: list[dict[str, Any]] = msgspec.field(
        name="media-types",
        default_factory=lambda: [
            {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}
        ],
    )


class VersionReply(Struct):
    version: VersionDocument


class VersionValues(Struct):
    values: list[VersionDocument]


class VersionsReply(Struct):
    versions: VersionValues
