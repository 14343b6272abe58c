"""Who may open a visualization job under `/visualizations/ID/`, and where it answers.

One of these lets a request pass:
- the job's own token: as `?token=`, which becomes a cookie; every `service_url` has it;
- that cookie;
- muster's own token or signature, of somebody who may see jobs in its workspace.

The program behind it never sees any of them.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster.api.errors import Envelope
from muster.api.http import Reply, Request, Route
from muster.api.opening import (
    SAFE_METHODS,
    check_origin,
    cookie_of,
    joined,
    set_cookie,
    without_token,
)
from muster.api.proxied import Outcome, ProxyRequest, Redirected, Upstream
from muster.domain.errors import (
    Forbidden,
    PathUnknown,
    ProjectMismatch,
    Unauthenticated,
    Unavailable,
)
from muster.domain.permission import Permission
from muster.domain.visualization import Visualization
from muster.proxy.endpoint import read_endpoint
from muster.store import visualizations
from muster.store.database import Database
from muster.wire.signature import is_signature

COOKIE: Final = "muster-visualization"


async def _never(request: Request) -> Reply:
    raise AssertionError("requests for visualization jobs are passed on")


# What whoever comes with muster's own credentials is asked for.
_OPEN: Final = Route(
    method="GET",
    path="/visualizations/{project_id}/{path...}",
    handler=_never,
    summary="Open a visualization job",
    envelope=Envelope.MODERN,
    needs=Permission.JOB_READ,
)


@dataclass(frozen=True, slots=True)
class VisualizationSite:
    """The visualization jobs, as the proxy asks about them.

    Args:
        database: where they are.
        jobs_folder: below it, each says where it answers.
        authenticate: finds out who calls.
    """

    database: Database
    jobs_folder: Path
    authenticate: Callable[[Request, Route], Awaitable[None]]

    async def admit(self, request: ProxyRequest) -> Upstream | Redirected:
        """Let it pass, or say why not.

        Raises:
            Unauthenticated: it has no credentials.
            Forbidden: it has the wrong ones, or comes from a page of somewhere else.
            PathUnknown: there is no such job for whoever asks.
            Unavailable: the job is not running.
        """
        asked = request.request
        found = await self.database.read(visualizations.find_by_uid, request.id)
        query, token = without_token(asked.raw_query)
        await self._check(request, found, token)
        assert found is not None
        base = found.base_path
        cookie = () if token is None else (set_cookie(asked, COOKIE, found.token, path=base),)
        if not request.path or token is not None:
            if asked.method not in SAFE_METHODS or request.is_websocket:
                raise PathUnknown(f"There is nothing at {asked.raw_path}.")
            location = joined(f"{base}{request.path or '/'}", query)
            return Redirected(location=location, reply_headers=cookie)
        host, port = self._endpoint(found)
        return Upstream(
            host=host,
            port=port,
            path=f"{base}{request.path}",
            query=query,
            headers={},
            reply_headers=(),
            key=found.uid,
        )

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        """Nothing is counted here."""

    async def _check(
        self, request: ProxyRequest, found: Visualization | None, token: str | None
    ) -> None:
        asked = request.request
        if asked.header("x-auth-token") or is_signature(asked.header("authorization") or ""):
            await self._check_caller(asked, found)
            return
        given = token or cookie_of(asked.header("cookie") or "", COOKIE)
        if given is None:
            raise Unauthenticated(
                "To open a visualization job, take the whole service_url that the API shows of it."
            )
        if found is None:
            raise _unknown(asked)
        if not hmac.compare_digest(given.encode(), found.token.encode()):
            raise Forbidden(
                "The token is not this visualization job's; its service_url has the right one."
            )
        if token is None:
            check_origin(request)

    async def _check_caller(self, asked: Request, found: Visualization | None) -> None:
        if found is None:
            raise _unknown(asked)
        asked.params = [found.project_id]
        try:
            await self.authenticate(asked, _OPEN)
        except ProjectMismatch as error:
            raise _unknown(asked) from error
        if not asked.caller.may_enter(found.workspace_id):
            raise _unknown(asked)
        if not asked.caller.may(Permission.JOB_READ, found.workspace_id):
            raise Forbidden(f"To open it takes the permission {Permission.JOB_READ}.")

    def _endpoint(self, found: Visualization) -> tuple[str, int]:
        if not found.is_answering or found.attempt_id is None:
            raise Unavailable(
                f"Visualization job {found.id} has the status {found.status}, not 8 (running);"
                " restart it, or wait until it is up."
            )
        endpoint = read_endpoint(self.jobs_folder / found.attempt_id)
        if endpoint is None:
            raise Unavailable(
                f"Visualization job {found.id} does not say where it answers; try again."
            )
        return endpoint


def _unknown(asked: Request) -> PathUnknown:
    return PathUnknown(f"There is no visualization job at {asked.raw_path}.")
