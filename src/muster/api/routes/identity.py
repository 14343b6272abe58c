"""Log-in, as Keystone clients know it."""

from typing import Final

from muster.api import identity
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Login, Route
from muster.api.services import Services
from muster.wire import identity as identity_shapes

_TOKEN_UNKNOWN: Final = {404: "X-Subject-Token is not a token that is known and valid."}


def routes(services: Services) -> list[Route]:
    keystone = table(services, Envelope.KEYSTONE)
    return [
        keystone(
            "GET", "/", identity.show_versions, "List the identity versions",
            login=Login.NONE, reply=identity_shapes.VersionsReply, status=300,
        ),
        keystone(
            "GET", "/v3", identity.show_version, "Show the identity version",
            login=Login.NONE, reply=identity_shapes.VersionReply,
        ),
        keystone(
            "POST", "/v3/auth/tokens", identity.create_token, "Log in: get a token",
            login=Login.NONE, body=identity_shapes.AuthRequest, reply=identity_shapes.TokenReply,
            status=201,
        ),
        keystone(
            "GET", "/v3/auth/tokens", identity.show_token, "Validate a token",
            login=Login.MEMBER, also=_TOKEN_UNKNOWN, reply=identity_shapes.TokenReply,
        ),
        keystone(
            "DELETE", "/v3/auth/tokens", identity.revoke_token, "Revoke a token",
            login=Login.MEMBER, also=_TOKEN_UNKNOWN, status=204,
        ),
        keystone(
            "POST", "/v3.0/OS-CREDENTIAL/securitytokens", identity.create_temporary_key,
            "Get a temporary access key for a token", login=Login.NONE,
            body=identity_shapes.TemporaryKeyRequest, reply=identity_shapes.TemporaryKeyReply,
            status=201,
        ),
        keystone(
            "GET", "/v3/auth/catalog", identity.show_catalog, "Show the service catalog",
            login=Login.MEMBER, reply=identity_shapes.CatalogReply,
        ),
        keystone(
            "GET", "/v3/auth/projects", identity.list_own_projects, "List the caller's projects",
            login=Login.MEMBER, reply=identity_shapes.ProjectList,
        ),
        keystone(
            "GET", "/v3/projects", identity.list_own_projects, "Find the caller's project by name",
            login=Login.MEMBER, reply=identity_shapes.ProjectList,
        ),
        keystone(
            "GET", "/v3/auth/domains", identity.list_own_domains, "List the caller's account",
            login=Login.MEMBER, reply=identity_shapes.DomainList,
        ),
    ]  # fmt: skip
