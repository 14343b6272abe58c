"""Whether the caller may do what the route does: the one place that asks, for every route.

The role in the project decides, unless the caller is something else in the workspace that the
request is about. Only then is that workspace looked for; whoever has one role in all of them, as
nearly everybody has, costs no look-up.
"""

from collections.abc import Awaitable
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from muster.api.errors import Envelope
from muster.api.http import Request
from muster.api.routing import Route, Within
from muster.api.training_v2.lookup import training_job_unknown
from muster.domain.errors import Forbidden, MusterError, PoolUnknown
from muster.domain.permission import Permission, may
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.operations.caller import forbidden
from muster.store import (
    algorithms,
    experiments,
    images,
    jobs,
    models,
    networks,
    notebooks,
    services,
    tags,
    visualizations,
    workspaces,
)
from muster.store.database import Database

_LABEL_PLACE: Final = ("metadata", "labels", "os.modelarts/workspace.id")
_CAN_MOVE: Final = (Within.POOL, Within.NETWORK)  # to the workspace at that place of the body
_ID_DIGITS_MAX: Final = 18  # of a 64-bit number


class Authoriser:
    """Raises unless the request's caller has the permission that the route needs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __call__(self, request: Request, route: Route) -> Awaitable[None] | None:
        """Hold what the route needs against the caller's role where the request is about.

        Returns:
            None: it is decided. Else what to wait for, as a workspace has to be looked for; no
            other call pays for a coroutine.

        Raises:
            Forbidden: the role lacks the permission.
            MusterError: the caller may not enter that workspace: what is in it is not known.
        """
        needs, caller = route.needs, request.caller
        if needs is None:
            return None
        if caller.workspace_roles and route.within is not Within.PROJECT:
            return self._check_there(request, route, needs)
        if not may(caller.role, needs):
            raise forbidden(caller, needs, caller.role, "this project")
        return None

    async def _check_there(self, request: Request, route: Route, needs: Permission) -> None:
        for workspace_id in await self._workspaces(request, route):
            role = request.caller.role_in(workspace_id)
            if role is None:
                raise _hidden(request, route, workspace_id)
            if not may(role, needs):
                raise forbidden(request.caller, needs, role, f"workspace {workspace_id!r}")

    async def _workspaces(self, request: Request, route: Route) -> set[str]:
        """Every one that the request is about. What is not there is in none of them."""
        match route.within:
            case Within.WORKSPACE:
                return {request.params[1]}
            case Within.QUERY:
                return await _named_in_query(request, route)
            case Within.BODY:
                assert route.body is not None
                named = _at(await _json(request), _place(route.body))  # type: ignore[arg-type]  # it is hashable
                return {named or DEFAULT_WORKSPACE_ID}
            case _:
                found = {await self._workspace_of_thing(request, route), ""}
                if route.within in _CAN_MOVE and route.body is not None:
                    # A pool that moves: the caller must be allowed where it goes to, too.
                    found.add(_at(await _json(request), _LABEL_PLACE))
                return found - {""} or {DEFAULT_WORKSPACE_ID}

    async def _workspace_of_thing(self, request: Request, route: Route) -> str:
        project_id, name = request.params[:2]
        read = self._database.read
        found = None
        if route.within is Within.POOL:
            found = await read(workspaces.find_workspace_of_pool, project_id, name)
        elif route.within is Within.NETWORK:
            found = await read(networks.find_workspace_of_network, project_id, name)
        elif route.within is Within.NODE:
            pool_id = await read(tags.find_pool_of_node, project_id, name)
            found = await read(workspaces.find_workspace_of_pool, project_id, pool_id or "")
        elif route.within is Within.TRAINING_JOB:
            uid = name.replace("-", "").lower()
            found = await read(workspaces.find_workspace_of_workload, project_id, uid)
        elif route.within is Within.ALGORITHM:
            uid = name.replace("-", "").lower()
            found = await read(algorithms.find_workspace_of_algorithm, project_id, uid)
        elif route.within is Within.NOTEBOOK:
            uid = name.replace("-", "").lower()
            found = await read(notebooks.find_workspace_of_notebook, project_id, uid)
        elif route.within is Within.IMAGE:
            uid = name.replace("-", "").lower()
            found = await read(images.find_workspace_of_image, project_id, uid)
        elif route.within is Within.MODEL:
            found = await read(models.find_workspace_of_model, project_id, name)
        elif route.within is Within.SERVICE:
            found = await read(services.find_workspace_of_service, project_id, name)
        elif route.within is Within.EXPERIMENT:
            uid = name.replace("-", "").lower()
            found = await read(experiments.find_workspace_of_experiment, project_id, uid)
        elif name.isascii() and name.isdigit() and len(name) <= _ID_DIGITS_MAX:
            is_job = route.within is not Within.VISUALIZATION
            find = workspaces.find_workspace_of_job if is_job else visualizations.find_workspace
            found = await read(find, project_id, int(name))
        return found or ""


async def _named_in_query(request: Request, route: Route) -> set[str]:
    """By the query; and where that is silent by the body, which old clients send with a GET."""
    fields = () if route.query is None else route.query.__struct_fields__
    name = "workspace_id" if "workspace_id" in fields else "workspaceId"
    given = request.query.get(name)
    if given is not None:
        return {text or DEFAULT_WORKSPACE_ID for text in given}
    in_body = _at(await _json(request), (name,))
    # Both: not every handler looks there.
    return {DEFAULT_WORKSPACE_ID, in_body or DEFAULT_WORKSPACE_ID}


async def _json(request: Request) -> object:
    """The body, as far as it is JSON: what is wrong with it is for the handler to say."""
    try:
        return msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _at(body: object, place: tuple[str, ...]) -> str:
    """The text at a place of the body, "" where there is none."""
    for name in place:
        body = body.get(name) if isinstance(body, dict) else None
    return body if isinstance(body, str) else ""


@cache
def _place(body: type[Any]) -> tuple[str, ...]:
    """Where a body of this shape names its workspace. Each API has its own way."""
    for place in (("workspace_id",), ("metadata", "workspace_id"), ("workspace", "id")):
        infos: list[inspect.Type] = [inspect.type_info(body)]
        for name in place:
            infos = [inner for info in infos for inner in _fields_named(info, name)]
        if infos:
            return place
    return _LABEL_PLACE


def _fields_named(info: inspect.Type, name: str) -> list[inspect.Type]:
    options = info.types if isinstance(info, inspect.UnionType) else (info,)
    return [
        field.type
        for option in options
        if isinstance(option, inspect.StructType)
        for field in option.fields
        if field.encode_name == name
    ]


def _hidden(request: Request, route: Route, workspace_id: str) -> MusterError:
    """What is said of things that are not there, for those in a workspace that stays closed."""
    match route.within:
        case Within.JOB:
            return jobs.job_unknown(int(request.params[1]))
        case Within.TRAINING_JOB:
            return training_job_unknown(request.params[1])
        case Within.ALGORITHM:
            return algorithms.algorithm_unknown(request.params[1])
        case Within.NOTEBOOK:
            return notebooks.notebook_unknown(request.params[1])
        case Within.IMAGE:
            return images.image_unknown(request.params[1])
        case Within.MODEL:
            return models.model_unknown(request.params[1])
        case Within.SERVICE:
            return services.service_unknown(request.params[1])
        case Within.VISUALIZATION:
            return visualizations.visualization_unknown(int(request.params[1]))
        case Within.EXPERIMENT:
            return experiments.experiment_unknown(request.params[1])
        case Within.POOL:
            return PoolUnknown(f"Pool {request.params[1]} not found.")
        case Within.NETWORK:
            return networks.network_unknown(request.params[1])
        case Within.NODE:
            return tags.node_unknown(request.params[1])
        case Within.WORKSPACE:
            return workspaces.no_such_workspace(workspace_id)
        case _ if route.envelope is Envelope.RESOURCE:
            # These have no word for an unknown workspace, and nothing to count is not zero.
            return Forbidden(
                f"workspaceId is {workspace_id[:100]!r}; user {request.caller.user_name!r} may not"
                " enter that workspace. Its owner or an administrator can grant it."
            )
        case _:
            return jobs.workspace_unknown(workspace_id)
