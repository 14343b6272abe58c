"""Visualization jobs, as the proxy asks about them: `/visualizations/ID/` and where it answers."""

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from muster.api.gate import Door, Gate
from muster.api.http import Request
from muster.api.proxied import Outcome, ProxyRequest, Redirected, Upstream
from muster.api.routing import Route
from muster.domain.errors import Unavailable
from muster.domain.permission import Permission
from muster.domain.visualization import Visualization
from muster.operations.caller import Caller
from muster.proxy.endpoint import Endpoints
from muster.store import visualizations
from muster.store.database import Database

GATE: Final = Gate(
    noun="visualization job",
    cookie="muster-visualization",
    how="take the whole service_url that the API shows of it",
    right_one="its service_url has the right one",
    needs=Permission.JOB_READ,
)


class VisualizationSite:
    """The `Site` of visualization jobs.

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
            Unavailable: the job is not running.
        """
        found = await self._database.read(visualizations.find_by_uid, request.id)
        door = None if found is None else _door_of(found)
        entry = await GATE.let_in(request, door, self._authenticate)
        assert found is not None
        assert door is not None
        if not request.path or entry.has_token:
            return GATE.redirect(request, door, entry)
        host, port = self._endpoint_of(found)
        return Upstream(
            host=host,
            port=port,
            path=f"{door.base}{request.path}",
            query=entry.query,
            key=found.uid,
        )

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        """Nothing is counted here."""

    def _endpoint_of(self, found: Visualization) -> tuple[str, int]:
        if not found.is_answering or found.attempt_id is None:
            raise Unavailable(
                f"Visualization job {found.id} has the status {found.status}, not 8 (running);"
                " restart it, or wait until it is up."
            )
        endpoint = self._endpoints.find(found.attempt_id)
        if endpoint is None:
            raise Unavailable(
                f"Visualization job {found.id} does not say where it answers; try again."
            )
        return endpoint


def _door_of(found: Visualization) -> Door:
    return Door(
        token=found.token,
        project_id=found.project_id,
        workspace_id=found.workspace_id,
        base=found.base_path,
        refusal=partial(_refusal, found),
    )


def _refusal(found: Visualization, caller: Caller) -> str:
    if caller.may(Permission.JOB_READ, found.workspace_id):
        return ""
    return f"To open it takes the permission {Permission.JOB_READ}."
