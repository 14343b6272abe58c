"""The thin layer between ASGI and the handlers: every request takes this one path.

Why not a framework: the statistics call must stay above half the rate of an empty ASGI handler,
and a framework's own request and response objects take that half; docs/decisions/0003 has the
figures.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

import structlog

from muster.api.errors import BodyNotJson, Envelope, envelope_of, render_error
from muster.api.http import JSON_TYPE, Receive, Reply, Request, Scope, Send, request_id_header
from muster.api.repetitions import Repetitions
from muster.api.routing import Login, Route, Router
from muster.domain.errors import MalformedJson, MethodNotAllowed, MusterError, PathUnknown

log = structlog.get_logger()

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
        self._failures = Repetitions()

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
            reply = self._refusal(error, envelope, request)
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
            reply = self._refusal(error, Envelope.MODERN, request)
        except Exception:  # likewise
            log.exception("request_crashed", request_id=request.id, path=request.raw_path)
            reply = _crash(Envelope.MODERN, request)
        if reply is not None:
            await _refuse_handshake(reply, request, send)

    def _refusal(self, error: MusterError, envelope: Envelope, request: Request) -> Reply:
        status, body, headers = render_error(error, envelope, request.id)
        if status >= 500:
            self._tell_failure(error, request)
        else:
            log.debug("request_refused", request_id=request.id, code=error.code, why=error.message)
        return Reply(status, body, [JSON_TYPE, *headers])

    def _tell_failure(self, error: MusterError, request: Request) -> None:
        """An outage fails every request alike: one line in a while, and each at debug."""
        others = self._failures.to_tell(error.message, time.monotonic())
        if others is None:
            log.debug("request_failed", request_id=request.id, why=error.message)
        elif others:
            log.warning("request_failed", request_id=request.id, why=error.message, others=others)
        else:
            log.warning("request_failed", request_id=request.id, why=error.message)


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
            # Too late for another status. An answer without an end is cut short by the web server,
            # so that nobody takes it for whole.
            log.warning("stream_failed", request_id=request.id, why=str(result))
            if not isinstance(result, MusterError):
                raise result  # a mistake of ours: its traceback belongs into the log


async def _send_each(chunks: AsyncIterator[bytes], request: Request, send: Send) -> None:
    if request.method != "HEAD":
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
