"""Notebooks, as the proxy asks about them: who may open one, and where it answers.

A notebook gets its own token with each request, so that it neither asks for a login of its own nor
for its own guard against forgeries: what that guards against is held off here.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from muster.api.gate import Door, Gate
from muster.api.http import Request
from muster.api.proxied import Outcome, ProxyRequest, Redirected, Upstream
from muster.api.routing import Route
from muster.domain.errors import Unavailable
from muster.domain.notebook import Notebook, NotebookStatus
from muster.domain.permission import Permission
from muster.operations.caller import Caller
from muster.operations.notebookaccess import may_open
from muster.proxy.endpoint import Endpoints
from muster.store import notebooks
from muster.store.database import Database

GATE: Final = Gate(
    noun="notebook",
    cookie="muster-notebook",
    how=("add ?token= with its token: `muster notebook open` prints the whole address"),
    right_one="`muster notebook open` prints the right address",
    needs=Permission.NOTEBOOK_READ,
    takes_header=True,  # as Jupyter's own clients send it
)


class NotebookSite:
    """The `Site` of notebooks.

    Args:
        database: where they are.
        jobs_folder: below it, each says where it answers.
        authenticate: finds out who calls.
    """

    def __init__(
        self,
        database: Database,
        jobs_folder: Path,
        authenticate: Callable[[Request, Route], Awaitable[None]],
    ) -> None:
        self._database = database
        self._authenticate = authenticate
        self._endpoints = Endpoints(jobs_folder)

    async def admit(self, request: ProxyRequest) -> Upstream | Redirected:
        """Let it pass, or say why not.

        Raises:
            Unauthenticated, Forbidden, PathUnknown: as `Gate` tells them.
            Unavailable: the notebook is not running.
        """
        uid = request.id.replace("-", "").lower()
        notebook = await self._database.read(notebooks.find_notebook, uid)
        door = None if notebook is None else _door_of(notebook)
        entry = await GATE.let_in(request, door, self._authenticate)
        assert notebook is not None
        assert door is not None
        is_page = "text/html" in (request.request.header("accept") or "")
        wants_cookie = entry.has_token and is_page and request.request.method == "GET"
        if not request.path or request.id != notebook.shown_id or wants_cookie:
            return GATE.redirect(request, door, entry)
        host, port = self._endpoint_of(notebook)
        return Upstream(
            host=host,
            port=port,
            path=f"{door.base}{request.path}",
            query=entry.query,
            headers={"Authorization": f"token {notebook.token}"},
            reply_headers=() if request.is_websocket else entry.cookie,
            key=notebook.uid,
        )

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        """Nothing is counted here: Jupyter itself knows when it was last used."""

    def _endpoint_of(self, notebook: Notebook) -> tuple[str, int]:
        if notebook.status is not NotebookStatus.RUNNING or notebook.attempt_id is None:
            raise Unavailable(
                f"Notebook {notebook.shown_id} is {notebook.status}, not RUNNING; start it, or wait"
                " until it is up."
            )
        found = self._endpoints.find(notebook.attempt_id)
        if found is None:
            raise Unavailable(
                f"Notebook {notebook.shown_id} does not say where it answers; try again."
            )
        return found


def _door_of(notebook: Notebook) -> Door:
    return Door(
        token=notebook.token,
        project_id=notebook.project_id,
        workspace_id=notebook.workspace_id,
        base=f"/notebooks/{notebook.shown_id}",
        refusal=partial(_refusal, notebook),
    )


def _refusal(notebook: Notebook, caller: Caller) -> str:
    if may_open(caller, notebook):
        return ""
    return (
        f"Notebook {notebook.shown_id} belongs to user {notebook.user_name!r}; only that one, and"
        f" those with the permission {Permission.NOTEBOOK_MANAGE}, may open it."
    )
