"""Who may open a notebook under `/notebooks/ID/`, and where it answers.

One of these lets a request pass:
- the notebook's own token: as `?token=`, which becomes a cookie, or as `Authorization: token ...`;
- that cookie;
- muster's own token or signature, of its owner or of somebody who may manage notebooks.

The program behind it never sees muster's credentials. It gets the notebook's token with each
request, so that it neither asks for a login of its own nor for its own guard against forgeries:
what that guards against is held off here.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
    token_of,
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
from muster.domain.notebook import Notebook, NotebookStatus
from muster.domain.permission import Permission
from muster.operations.notebooks import may_open
from muster.proxy.endpoint import read_endpoint
from muster.store import notebooks
from muster.store.database import Database
from muster.wire.signature import is_signature

COOKIE: Final = "muster-notebook"
ENDPOINTS_MAX: Final = 10_000  # remembered


async def _never(request: Request) -> Reply:
    raise AssertionError("requests for notebooks are passed on")


# What whoever comes with muster's own credentials is asked for.
_OPEN: Final = Route(
    method="GET",
    path="/notebooks/{project_id}/{path...}",
    handler=_never,
    summary="Open a notebook",
    envelope=Envelope.MODERN,
    needs=Permission.NOTEBOOK_READ,
)


@dataclass(slots=True)
class NotebookSite:
    """The notebooks, as the proxy asks about them.

    Args:
        database: where they are.
        jobs_folder: below it, each says where it answers.
        authenticate: finds out who calls.
    """

    database: Database
    jobs_folder: Path
    authenticate: Callable[[Request, Route], Awaitable[None]]
    _endpoints: dict[str, tuple[str, int]] = field(default_factory=dict)  # by attempt

    async def admit(self, request: ProxyRequest) -> Upstream | Redirected:
        """Let it pass, or say why not.

        Raises:
            Unauthenticated: it has no credentials.
            Forbidden: it has the wrong ones, or comes from a page of somewhere else.
            PathUnknown: there is no such notebook for whoever asks.
            Unavailable: the notebook is not running.
        """
        uid = request.id.replace("-", "").lower()
        notebook = await self.database.read(notebooks.find_notebook, uid)
        query, token = without_token(request.request.raw_query)
        await self._check(request, notebook, token)
        assert notebook is not None
        base = f"/notebooks/{notebook.shown_id}"
        cookie = (set_cookie(request.request, COOKIE, notebook.token, path=base),)
        is_page = "text/html" in (request.request.header("accept") or "")
        wants_cookie = token is not None and is_page and request.request.method == "GET"
        if not request.path or request.id != notebook.shown_id or wants_cookie:
            if request.request.method not in SAFE_METHODS or request.is_websocket:
                raise PathUnknown(f"There is nothing at {request.request.raw_path}.")
            return Redirected(
                location=joined(f"{base}{request.path or '/'}", query),
                reply_headers=cookie if token is not None else (),
            )
        host, port = self._endpoint(notebook)
        return Upstream(
            host=host,
            port=port,
            path=f"{base}{request.path}",
            query=query,
            headers={"Authorization": f"token {notebook.token}"},
            reply_headers=cookie if token is not None and not request.is_websocket else (),
            key=notebook.uid,
        )

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        """Nothing is counted here: Jupyter itself knows when it was last used."""

    async def _check(
        self, request: ProxyRequest, notebook: Notebook | None, token: str | None
    ) -> None:
        asked = request.request
        authorization = asked.header("authorization") or ""
        if asked.header("x-auth-token") or is_signature(authorization):
            await self._check_caller(asked, notebook)
            return
        given = token or token_of(authorization)
        is_cookie = given is None
        if given is None:
            given = cookie_of(asked.header("cookie") or "", COOKIE)
        if given is None:
            raise Unauthenticated(
                "To open a notebook, add ?token= with its token: `muster notebook open` prints the"
                " whole address."
            )
        if notebook is None:
            raise _unknown(request)
        if not hmac.compare_digest(given.encode(), notebook.token.encode()):
            raise Forbidden(
                "The token is not this notebook's; `muster notebook open` prints the right address."
            )
        if is_cookie:
            check_origin(request)

    async def _check_caller(self, asked: Request, notebook: Notebook | None) -> None:
        if notebook is None:
            raise PathUnknown(f"There is no notebook at {asked.raw_path}.")
        asked.params = [notebook.project_id]
        try:
            await self.authenticate(asked, _OPEN)
        except ProjectMismatch as error:
            raise PathUnknown(f"There is no notebook at {asked.raw_path}.") from error
        if not asked.caller.may_enter(notebook.workspace_id):
            raise PathUnknown(f"There is no notebook at {asked.raw_path}.")
        if not may_open(asked.caller, notebook):
            raise Forbidden(
                f"Notebook {notebook.shown_id} belongs to user {notebook.user_name!r}; only that"
                f" one, and those with the permission {Permission.NOTEBOOK_MANAGE}, may open it."
            )

    def _endpoint(self, notebook: Notebook) -> tuple[str, int]:
        if notebook.status is not NotebookStatus.RUNNING or notebook.attempt_id is None:
            raise Unavailable(
                f"Notebook {notebook.shown_id} is {notebook.status}, not RUNNING; start it, or wait"
                " until it is up."
            )
        found = self._endpoints.get(notebook.attempt_id)
        if found is None:
            found = read_endpoint(self.jobs_folder / notebook.attempt_id)
            if found is None:
                raise Unavailable(
                    f"Notebook {notebook.shown_id} does not say where it answers; try again."
                )
            if len(self._endpoints) >= ENDPOINTS_MAX:
                self._endpoints.clear()
            self._endpoints[notebook.attempt_id] = found
        return found


def _unknown(request: ProxyRequest) -> PathUnknown:
    return PathUnknown(f"There is no notebook at {request.request.raw_path}.")
