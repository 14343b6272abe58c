"""Requests that are passed on to programs: those under `/notebooks/ID/` and its like.

They belong to a `Site`: it decides whether a request may pass, and to which program. Which program
it is never depends on what comes after the id.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

from muster.api.authenticate import declared_hash
from muster.api.http import Receive, Reply, Request, Send, request_id_header
from muster.domain.errors import (
    MusterError,
    PathUnknown,
    ProgramFailed,
    ProgramTimedOut,
    ProgramUnreachable,
    ProgramUnwell,
    SignatureWrong,
)
from muster.proxy.forward import ClientLeft, forward, may_repeat
from muster.proxy.headers import added_headers
from muster.proxy.pool import Pool
from muster.proxy.upstream import Outcome, Upstream
from muster.proxy.websocket import Websockets

__all__ = ["Outcome", "Proxied", "ProxyRequest", "Redirected", "Site", "Upstream"]

TRIES_MAX: Final = 3  # programs that a request is offered to, where none of them answers
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRequest:
    """A request that asks to be passed on. A handshake of a websocket is one, too."""

    request: Request  # as it came: method, headers, query
    id: str  # the segment after the prefix: of a notebook or a service
    path: str  # the rest of the path with its leading slash, encoded as it came; "" without one
    is_websocket: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirected:
    """The browser is to ask for another path first (its token becomes a cookie, or a slash)."""

    location: str
    reply_headers: tuple[tuple[str, str], ...] = ()


class Site(Protocol):
    """Notebooks, or services: who may ask what of which program."""

    async def admit(self, request: ProxyRequest) -> Upstream | Redirected:
        """Where the request goes. Every `Upstream` that it gives is handed to `done` once.

        When its program is not reached, it is asked again, for another one; likewise when its
        program is not well and the request may be repeated.

        Raises:
            MusterError: it goes nowhere.
            ClientLeft: nobody waits for it any more.
        """

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        """The request has ended, however it did: a balancer counts so."""


class Proxied:
    """Passes requests on for the sites that it has. Belongs to one event loop.

    Args:
        sites: by the first segment of the paths that are theirs.
        request_bytes_max: of the body of a request, where a site does not allow less.
    """

    def __init__(self, sites: Mapping[str, Site], *, request_bytes_max: int) -> None:
        self._request_bytes_max = request_bytes_max
        self.prefixes: Final = tuple(f"/{name}/" for name in sites)
        self._sites = sites
        self._pool = Pool()
        self._websockets = Websockets()

    def end_websockets(self) -> None:
        """The server is about to end: it does not wait for them to close by themselves."""
        self._websockets.close()

    def close(self) -> None:
        self._pool.close()

    async def __call__(self, request: Request, send: Send) -> Reply | None:
        """Pass a request or a handshake on; its path begins with one of the prefixes.

        Returns:
            What is to be answered instead; None when it has been answered, or nobody is there.

        Raises:
            MusterError: nothing was answered yet.
        """
        name, id_, path = _split(request.raw_path)
        site = self._sites[name]
        asked = ProxyRequest(
            request=request,
            id=id_,
            path=path,
            is_websocket=request.scope["type"] == "websocket",
        )
        tried: set[tuple[str, int]] = set()
        while True:
            try:
                upstream = await site.admit(asked)
            except ClientLeft:
                return None
            if isinstance(upstream, Redirected):
                headers = added_headers((("location", upstream.location), *upstream.reply_headers))
                return Reply(302, headers=headers)
            outcome = Outcome.CLIENT_LEFT
            try:
                outcome, reply = await self._forward(asked, send, upstream)
            except ProgramUnreachable:
                outcome = Outcome.UNREACHABLE
                address = (upstream.host, upstream.port)
                if address in tried or len(tried) + 1 >= TRIES_MAX:
                    raise
                tried.add(address)
            except ProgramUnwell:
                outcome = Outcome.TIMED_OUT
                address = (upstream.host, upstream.port)
                if address in tried or len(tried) + 1 >= TRIES_MAX or not may_repeat(request.scope):
                    raise
                tried.add(address)
            except ProgramFailed as error:
                is_late = isinstance(error, ProgramTimedOut)
                outcome = Outcome.TIMED_OUT if is_late else Outcome.BROKEN
                raise
            except MusterError:
                outcome = Outcome.REFUSED
                raise
            else:
                return reply
            finally:
                site.done(upstream, outcome)

    async def _forward(
        self, asked: ProxyRequest, send: Send, upstream: Upstream
    ) -> tuple[Outcome, Reply | None]:
        request = asked.request
        receive = request.receive_again()
        signed = declared_hash(request)
        if signed is not None:
            receive = _checked(receive, signed)
        reply_with = [request_id_header(request)]
        if not asked.is_websocket:
            allowed = upstream.request_bytes_max or self._request_bytes_max
            outcome = await forward(
                self._pool,
                request.scope,
                receive,
                send,
                upstream,
                reply_with,
                request_bytes_max=min(allowed, self._request_bytes_max),
            )
            return outcome, None
        ended = await self._websockets.forward(request.scope, receive, send, upstream, reply_with)
        if isinstance(ended, Outcome):
            return ended, None
        head, body = ended
        return Outcome.ANSWERED, Reply(head.status, body, head.headers)


def _checked(receive: Receive, signed: str) -> Receive:
    """Passes a body on as it comes; one that is not what was signed never ends.

    Each piece is held back until the next is there, so that a program has not all of a wrong body.

    Raises:
        SignatureWrong: in place of the end.
    """
    digest = sha256()
    held: list[Mapping[str, Any]] = []

    async def take() -> Mapping[str, Any]:
        message = await receive()
        if message["type"] == "http.request":
            digest.update(message.get("body", b""))
            has_ended = not message.get("more_body", False)
            if has_ended and digest.hexdigest() != signed.lower():
                raise SignatureWrong("The body is not the one that was signed.")
        return message

    async def checked() -> Mapping[str, Any]:
        message = held.pop() if held else await take()
        if message.get("more_body", False):
            held.append(await take())
        return message

    return checked


def _split(raw_path: str) -> tuple[str, str, str]:
    """`/notebooks/ID/lab/x` is `notebooks`, `ID` and `/lab/x`. Nothing is decoded.

    Raises:
        PathUnknown: there is no such id.
    """
    _, name, id_, *rest = raw_path.split("/", 3)
    if not _ID.fullmatch(id_):
        raise PathUnknown(f"There is no {raw_path!r}: after /{name}/ stands an id.")
    return name, id_, f"/{rest[0]}" if rest else ""
