"""The thin layer between ASGI and the handlers: route table, request, reply.

Why not a framework: the statistics call must stay above half the rate of an empty ASGI handler,
and a framework's own request and response objects take that half; docs/decisions/0003 has the
figures. Everything goes through here, so there is one path to read.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec
import structlog

from muster.api.errors import BodyNotJson, Envelope, envelope_of, render_error
from muster.domain.errors import (
    BodyTooLarge,
    InvalidRequest,
    MalformedJson,
    MethodNotAllowed,
    MusterError,
    PathUnknown,
)
from muster.domain.permission import Permission
from muster.operations.caller import Caller

log = structlog.get_logger()

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

JSON_BODY_BYTES_MAX: Final = 1 << 20
DISCARDED_BYTES_MAX: Final = 64 << 20  # read to its end, so that the refusal reaches the client

PATHS_REMEMBERED_MAX: Final = 4096
PATH_REMEMBERED_LENGTH_MAX: Final = 256

JSON_TYPE: Final = (b"content-type", b"application/json")
_ENCODER: Final = msgspec.json.Encoder()

# Ids tell requests apart, over restarts too; they are no secret.
_PROCESS: Final = os.urandom(8).hex()
_REQUESTS: Final = count(1)


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
    WORKSPACE = "workspace"  # the path's own


class Request:
    """One HTTP request: what handlers need of it, read when they ask."""

    __slots__ = (
        "_body",
        "_caller",
        "_headers",
        "_receive",
        "id",
        "method",
        "params",
        "raw_path",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.raw_path: str = scope["raw_path"].decode("latin-1")
        self.params: list[str] = []  # path variables, in the order of the template
        self.id = f"{_PROCESS}{next(_REQUESTS):016x}"
        self._receive = receive
        self._caller: Caller | None = None
        self._headers: dict[str, str] | None = None
        self._body: bytes | None = None

    def header(self, name: str) -> str | None:
        """By lower-case name. The last one counts, where there are several."""
        if self._headers is None:
            self._headers = {
                key.decode("latin-1"): value.decode("latin-1")
                for key, value in self.scope["headers"]
            }
        return self._headers.get(name)

    @property
    def caller(self) -> Caller:
        assert self._caller is not None, "the route asks for no login"
        return self._caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def raw_query(self) -> str:
        query: bytes = self.scope["query_string"]
        return query.decode("latin-1")

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.raw_query, keep_blank_values=True) if self.raw_query else {}

    @property
    def base_url(self) -> str:
        """How the client reached this server: links and catalogs are made from it."""
        host = self.header("host") or "127.0.0.1"
        return f"{self.scope['scheme']}://{host}"

    @property
    def has_body(self) -> bool:
        """Whether `body` has been read, and was not empty."""
        return bool(self._body)

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge: more than JSON_BODY_BYTES_MAX; it was read to its end and dropped.
        """
        if self._body is None:
            self._body = await self._read_body()
        return self._body

    async def _read_body(self) -> bytes:
        chunks: list[bytes] = []
        length, has_more = 0, True
        while has_more and length <= DISCARDED_BYTES_MAX:
            chunk, has_more = await self._next_chunk()
            length += len(chunk)
            if length <= JSON_BODY_BYTES_MAX:
                chunks.append(chunk)
        if length > JSON_BODY_BYTES_MAX:
            raise BodyTooLarge(
                f"The body has {length} bytes or more; at most {JSON_BODY_BYTES_MAX} are"
                " allowed here. Put large data into a bucket: PUT /objects/BUCKET/KEY."
            )
        return b"".join(chunks)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, for bodies of any size.

        Raises:
            InvalidRequest: the client went away in the middle of it.
        """
        has_more = True
        while has_more:
            chunk, has_more = await self._next_chunk()
            if chunk:
                yield chunk

    async def _next_chunk(self) -> tuple[bytes, bool]:
        """And whether more is to come."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequest("The connection was closed before the body had ended.")
        return message.get("body", b""), message.get("more_body", False)

    def receive_again(self) -> Receive:
        """Gives what was sent from its beginning, also where the whole body has been read."""
        if self._body is None:
            return self._receive
        read: list[Mapping[str, Any]] = [{"type": "http.request", "body": self._body}]

        async def receive() -> Mapping[str, Any]:
            return read.pop() if read else await self._receive()

        return receive

    async def disconnected(self) -> None:
        """Return once the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


@dataclass(slots=True)
class Reply:
    """One HTTP response; its body is whole, or comes in chunks."""

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [JSON_TYPE])


def json_reply(body: object, status: int = 200) -> Reply:
    return Reply(status, _ENCODER.encode(body))


Handler = Callable[[Request], Awaitable[Reply]]


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


def request_id_header(request: Request) -> tuple[bytes, bytes]:
    return b"X-Request-Id", request.id.encode()


Authenticate = Callable[[Request, Route], Awaitable[None]]
Authorise = Callable[[Request, Route], Awaitable[None] | None]  # None: it is decided
PassOn = Callable[[Request, Send], Awaitable[Reply | None]]  # None: it has been answered


class App:
    """The ASGI application.

    Args:
        routes: what it answers.
        authenticate: finds out who calls.
        authorise: holds the caller against the route.
        prefixes: of the paths that are answered elsewhere, by any method and as websockets.
        pass_on: answers those.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        authenticate: Authenticate,
        authorise: Authorise,
        *,
        prefixes: tuple[str, ...] = (),
        pass_on: PassOn | None = None,
    ) -> None:
        self.routes = tuple(routes)
        self._router = Router(self.routes)
        self._authenticate = authenticate
        self._authorise = authorise
        self._prefixes = prefixes
        self._pass_on = pass_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._serve_websocket(scope, receive, send)
            return
        request = Request(scope, receive)
        reply = await self._answer(request, send)
        if reply is None:
            return
        headers, body = reply.headers, reply.body
        headers.append(request_id_header(request))
        if not isinstance(body, bytes):
            await _send_chunks(reply, body, request, send)
            return
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        body = b"" if request.method == "HEAD" else body
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, request: Request, send: Send) -> Reply | None:
        routes, params = self._router.find(request.raw_path)
        route = routes.get(request.method)
        if route is None and request.method == "HEAD":
            route = routes.get("GET")
        try:
            if route is None:
                # Only now: what has a route does not pay for what has none.
                if self._pass_on is not None and request.raw_path.startswith(self._prefixes):
                    return await self._pass_on(request, send)
                _refuse_path(request, routes)
            assert route is not None
            request.params = params
            if route.login is not Login.NONE:
                await self._authenticate(request, route)
                deciding = self._authorise(request, route)
                if deciding is not None:
                    await deciding
            return await route.handler(request)
        except MusterError as error:
            envelope = route.envelope if route else _envelope_of(request, routes)
            error = _with_type_named(error, request)
            reply = _refusal(error, envelope, request)
            if isinstance(error, MethodNotAllowed):
                reply.headers.append((b"allow", ", ".join(_methods(routes)).encode()))
            return reply
        except Exception:  # the last line of defence: the connection gets an answer
            log.exception("request_crashed", request_id=request.id, path=request.raw_path)
            return _crash(route.envelope if route else _envelope_of(request, routes), request)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        await receive()  # that it asks to be connected
        scheme = "https" if scope["scheme"] == "wss" else "http"
        request = Request({**scope, "method": "GET", "scheme": scheme}, receive)
        is_passed_on = request.raw_path.startswith(self._prefixes)
        pass_on = self._pass_on if is_passed_on and self._pass_on else _refuse_websocket
        reply: Reply | None
        try:
            reply = await pass_on(request, send)
        except MusterError as error:
            reply = _refusal(error, Envelope.MODERN, request)
        except Exception:  # likewise
            log.exception("request_crashed", request_id=request.id, path=request.raw_path)
            reply = _crash(Envelope.MODERN, request)
        if reply is not None:
            await _refuse_handshake(reply, request, send)


def _refusal(error: MusterError, envelope: Envelope, request: Request) -> Reply:
    status, body, headers = render_error(error, envelope, request.id)
    if status >= 500:
        log.warning("request_failed", request_id=request.id, why=error.message)
    return Reply(status, body, [JSON_TYPE, *headers])


def _crash(envelope: Envelope, request: Request) -> Reply:
    fault = MusterError(
        "muster made a mistake; the server's log has the details under this request id,"
        f" {request.id}."
    )
    status, body, headers = render_error(fault, envelope, request.id)
    return Reply(status, body, [JSON_TYPE, *headers])


def _refuse_path(request: Request, routes: Mapping[str, Route]) -> None:
    if routes:
        raise MethodNotAllowed(
            f"{request.method} is not possible here; {', '.join(_methods(routes))} is."
        )
    raise PathUnknown(
        f"There is no {request.raw_path}. GET /openapi.json lists every path, and docs/coverage.md"
        " what is not there yet."
    )


def _methods(routes: Mapping[str, Route]) -> list[str]:
    return sorted({*routes, "HEAD"} if "GET" in routes else routes)


def _envelope_of(request: Request, routes: Mapping[str, Route]) -> Envelope:
    """A path that has routes for other methods answers as they do."""
    return next((route.envelope for route in routes.values()), envelope_of(request.raw_path))


def _with_type_named(error: MusterError, request: Request) -> MusterError:
    """A body that is no JSON, and is not declared as any, is of the wrong type rather than broken.

    One that is JSON is taken whatever it is declared as: simple clients declare a form.
    """
    declared = request.header("content-type") or ""
    if not isinstance(error, MalformedJson) or not declared or "json" in declared.lower():
        return error
    if not request.has_body:
        return error
    return BodyNotJson(f"Content-Type is {declared!r}; the body must be JSON, application/json.")


async def _refuse_websocket(request: Request, _send: Send) -> Reply | None:
    raise PathUnknown(f"There is no websocket at {request.raw_path}.")


async def _refuse_handshake(reply: Reply, request: Request, send: Send) -> None:
    """As a request is answered, where the server can; otherwise it says 403 by itself."""
    if "websocket.http.response" not in request.scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    assert isinstance(reply.body, bytes)
    await send(
        {
            "type": "websocket.http.response.start",
            "status": reply.status,
            "headers": [*reply.headers, request_id_header(request)],
        }
    )
    await send({"type": "websocket.http.response.body", "body": reply.body})


async def _send_chunks(
    reply: Reply, chunks: AsyncIterator[bytes], request: Request, send: Send
) -> None:
    """A client that goes away ends the stream at once, and frees what it reads from."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    sending = asyncio.ensure_future(_send_each(chunks, request, send))
    leaving = asyncio.ensure_future(request.disconnected())
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        sending.cancel()
        results = await asyncio.gather(sending, leaving, return_exceptions=True)
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
    for result in results:
        if isinstance(result, Exception):
            # Too late for another status: cut the body short, so that nobody takes it for whole.
            log.warning("stream_failed", request_id=request.id, why=str(result))
            raise result


async def _send_each(chunks: AsyncIterator[bytes], request: Request, send: Send) -> None:
    if request.method != "HEAD":
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def routes_by_path(routes: Iterable[Route]) -> Iterator[tuple[str, list[Route]]]:
    """The table grouped for documentation: (path, its routes), in table order."""
    paths: dict[str, list[Route]] = {}
    for route in routes:
        paths.setdefault(route.path, []).append(route)
    yield from paths.items()
