"""The route table: what a route says of itself, and how a path finds its routes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote

from muster.api.errors import Envelope
from muster.api.http import Handler
from muster.domain.permission import Permission

PATHS_REMEMBERED_MAX: Final = 4096
PATH_REMEMBERED_LENGTH_MAX: Final = 256


class Login(StrEnum):
    """What a route asks of its caller."""

    NONE = "none"
    MEMBER = "member"  # anybody who is known; no project needed
    PROJECT = "project"  # somebody of the project in the path


class Within(StrEnum):
    """Where a request names the workspace that it is about: the caller's role there counts."""

    PROJECT = "project"  # none: it is about the project as a whole
    QUERY = "query"  # `workspace_id` or `workspaceId`; absent: the default one
    BODY = "body"  # of a new job or pool
    JOB = "job"  # the one that the path's job is in, by its number
    TRAINING_JOB = "training job"  # likewise, by its uuid
    ALGORITHM = "algorithm"  # the one that the path's algorithm is in
    NOTEBOOK = "notebook"  # likewise of its notebook
    IMAGE = "image"  # likewise of its image
    MODEL = "model"  # likewise of its model
    SERVICE = "service"  # likewise of its service
    VISUALIZATION = "visualization job"  # likewise of its visualization job, by number
    EXPERIMENT = "experiment"  # likewise of its experiment
    POOL = "pool"  # the one that the path's pool is in
    NODE = "node"  # likewise of its node's pool
    NETWORK = "network"  # likewise of its network
    WORKSPACE = "workspace"  # the path's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One row of the route table: what serves, what is documented, who may call."""

    method: str
    path: str  # with `{name}` for one segment; a last `{name...}` takes the rest of the path
    handler: Handler
    summary: str
    envelope: Envelope
    login: Login = Login.PROJECT
    needs: Permission | None = None  # set wherever a login to a project is asked for
    within: Within = Within.PROJECT
    query: type[Any] | None = None
    body: type[Any] | None = None
    reply: type[Any] | None = None
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict)  # other statuses of its own, and why
    takes_stream: bool = False  # the handler reads the body itself, in chunks

    def __post_init__(self) -> None:
        is_open = self.login is not Login.PROJECT
        assert is_open or self.needs is not None, f"{self.method} {self.path} needs no permission"


@dataclass(slots=True)
class _Branch:
    """A step of the path: literal segments outrank the variable one."""

    literals: dict[str, "_Branch"] = field(default_factory=dict)
    variable: "_Branch | None" = None
    rest: "_Branch | None" = None
    routes: dict[str, Route] = field(default_factory=dict)  # by method


class Router:
    """Finds the route of a path. Segments are split before they are decoded: `%2F` stays inside."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Branch()
        self._found: dict[str, tuple[Mapping[str, Route], list[str]]] = {}
        for route in routes:
            branch = self._root
            for segment in route.path.strip("/").split("/"):
                branch = _grow(branch, segment)
            assert route.method not in branch.routes, f"{route.method} {route.path} stands twice"
            branch.routes[route.method] = route

    def find(self, raw_path: str) -> tuple[Mapping[str, Route], list[str]]:
        """(the routes of the path by method, its variables); no routes where there is no such path.

        One trailing slash is ignored, but in what is the rest of a path: that may name a folder.
        What is asked for again and again is remembered.
        """
        found = self._found.get(raw_path)
        if found is None:
            segments = raw_path.split("/")[1:]
            slash = ""
            if len(segments) > 1 and not segments[-1]:
                segments.pop()
                slash = "/"
            found = _find(self._root, segments, 0, [], slash)
            if len(self._found) >= PATHS_REMEMBERED_MAX:
                self._found.clear()
            if found[0] and len(raw_path) <= PATH_REMEMBERED_LENGTH_MAX:
                self._found[raw_path] = found
        return found


def _grow(branch: _Branch, segment: str) -> _Branch:
    if segment.endswith("...}"):
        branch.rest = branch.rest or _Branch()
        return branch.rest
    if segment.startswith("{"):
        branch.variable = branch.variable or _Branch()
        return branch.variable
    return branch.literals.setdefault(segment, _Branch())


_NO_ROUTES: Final[Mapping[str, Route]] = {}


def _find(
    branch: _Branch, segments: list[str], at: int, params: list[str], slash: str
) -> tuple[Mapping[str, Route], list[str]]:
    """As `Router.find`, from `segments[at]` on; `slash` is what stands at the end of the path."""
    for index in range(at, len(segments)):
        segment = segments[index]
        literal = branch.literals.get(segment)
        if literal is not None:
            if branch.variable is not None:
                # Both fit: take the literal, unless nothing lies at the end of its way.
                found = _find(literal, segments, index + 1, params.copy(), slash)
                if found[0]:
                    return found
            else:
                branch = literal
                continue
        if branch.variable is not None and segment:
            params.append(unquote(segment) if "%" in segment else segment)
            branch = branch.variable
        elif branch.rest is not None:
            params.append("/".join(unquote(part) for part in segments[index:]) + slash)
            return branch.rest.routes, params
        else:
            return _NO_ROUTES, params
    return branch.routes, params


def routes_by_path(routes: Iterable[Route]) -> Iterator[tuple[str, list[Route]]]:
    """The table grouped for documentation: (path, its routes), in table order."""
    paths: dict[str, list[Route]] = {}
    for route in routes:
        paths.setdefault(route.path, []).append(route)
    yield from paths.items()
