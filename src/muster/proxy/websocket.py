"""Passes websockets on: message by message, both ways, until either side closes.

Each side is read only as fast as the other takes it. Pings are answered on the spot; each of the
two connections is kept alive by its own.

Source: RFC 6455; the ASGI specification, websocket connection scope.
"""

import asyncio
import logging
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from muster.domain.errors import (
    ProgramBroken,
    ProgramTimedOut,
    ProgramUnreachable,
    TooManyConnections,
)
from muster.proxy.connection import Head, Headers
from muster.proxy.forward import Receive, Scope, Send
from muster.proxy.headers import added_headers, check_target, reply_headers, request_headers
from muster.proxy.upstream import Outcome, Upstream

MESSAGE_BYTES_MAX: Final = 16 << 20  # either way; more closes the websocket with 1009
QUEUED_MESSAGES_MAX: Final = 1  # of a program, while the client is slow
OPEN_MAX: Final = 4096
OPEN_MAX_OF_ONE: Final = 256  # of one notebook or instance
HANDSHAKE_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
PING_SECONDS: Final = 30.0
PONG_SECONDS: Final = 90.0  # a program may be busy for a while
REASON_BYTES_MAX: Final = 123

_HOST: Final = re.compile(r"[A-Za-z0-9.:_\[\]-]+")
# What stands for "it was not told" is never sent.
_NOT_SENT: Final = frozenset(
    {CloseCode.NO_STATUS_RCVD, CloseCode.ABNORMAL_CLOSURE, CloseCode.TLS_HANDSHAKE}
)
_QUIET: Final = logging.getLogger("muster.proxy.websocket")
_QUIET.setLevel(logging.CRITICAL)  # how it ended is told by what is passed on


@dataclass(frozen=True, slots=True)
class _Close:
    code: int
    reason: str
    outcome: Outcome


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """A redirect is for the client to follow."""
        return exc


class Websockets:
    """Those that are open. Belongs to one event loop."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()  # by key of the upstream
        self._leaving: asyncio.Future[None] | None = None

    @property
    def open_count(self) -> int:
        return self._open.total()

    def close(self) -> None:
        """Close all of them with 1001: the server is about to end."""
        leaving = self._until_leaving()
        if not leaving.done():
            leaving.set_result(None)

    def _until_leaving(self) -> "asyncio.Future[None]":
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_future()
        return self._leaving

    async def forward(
        self, scope: Scope, receive: Receive, send: Send, upstream: Upstream, reply_with: Headers
    ) -> Outcome | tuple[Head, bytes]:
        """Pass a websocket on, from its handshake to its end.

        Args:
            scope: of ASGI, as are the next two; the handshake waits for its answer.
            receive: gives what the client sends.
            send: takes what it gets.
            upstream: where it goes.
            reply_with: headers that the handshake is answered with besides.

        Returns:
            How it ended; or what the program has answered instead of taking it.

        Raises:
            InvalidRequest, TooManyConnections: it was refused.
            ProgramUnreachable, ProgramBroken, ProgramTimedOut: the program did not take it.
        """
        check_target(upstream)
        if self._open[upstream.key] >= OPEN_MAX_OF_ONE or self.open_count >= OPEN_MAX:
            raise TooManyConnections(
                f"There are {self._open[upstream.key]} websockets to it, {self.open_count} in all;"
                f" {OPEN_MAX_OF_ONE} and {OPEN_MAX} may be. Close some."
            )
        self._open[upstream.key] += 1
        try:
            return await self._forward(scope, receive, send, upstream, reply_with)
        finally:
            self._open[upstream.key] -= 1
            if not self._open[upstream.key]:
                del self._open[upstream.key]

    async def _forward(
        self, scope: Scope, receive: Receive, send: Send, upstream: Upstream, reply_with: Headers
    ) -> Outcome | tuple[Head, bytes]:
        try:
            program = await _connect(scope, upstream)
        except InvalidStatus as refusal:
            return _as_refused(refusal, scope, upstream)
        accept = {
            "type": "websocket.accept",
            "subprotocol": program.subprotocol,
            "headers": added_headers(upstream.reply_headers) + reply_with,
        }
        try:
            await send(accept)
        except BaseException:
            program.transport.abort()
            raise
        return await self._bridge(receive, send, program)

    async def _bridge(self, receive: Receive, send: Send, program: ClientConnection) -> Outcome:
        to_program = asyncio.ensure_future(_pass_to_program(receive, program))
        to_client = asyncio.ensure_future(_pass_to_client(program, send))
        leaving = self._until_leaving()
        ends: set[asyncio.Future[Any]] = {to_program, to_client, leaving}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                close = _Close(
                    CloseCode.GOING_AWAY, "The server is shutting down.", Outcome.ANSWERED
                )
            else:
                # Who has closed it is told by the one that has ended of itself.
                close = await (to_client if to_client.done() else to_program)
            closing_program = asyncio.ensure_future(program.close(close.code, close.reason))
            try:
                if close.outcome is not Outcome.CLIENT_LEFT:
                    await _close_client(send, close)
            finally:
                await asyncio.wait({closing_program})
            return close.outcome
        finally:
            for passing in (to_program, to_client):
                passing.cancel()
            await asyncio.wait({to_program, to_client})
            program.transport.abort()


async def _connect(scope: Scope, upstream: Upstream) -> ClientConnection:
    client = scope["client"]
    headers = request_headers(
        scope["headers"],
        upstream,
        client=client[0] if client else "",
        scheme=scope["scheme"],
        is_websocket=True,
    )
    host = next((value.decode("latin-1") for name, value in headers if name == b"host"), "")
    if not _HOST.fullmatch(host):
        host = f"{upstream.host}:{upstream.port}"
    try:
        return await _Connect(
            f"ws://{host}{upstream.target}",
            host=upstream.host,  # where it goes; the other is what its Host header says
            port=upstream.port,
            additional_headers=[
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in headers
                if name != b"host"
            ],
            subprotocols=[Subprotocol(name) for name in scope["subprotocols"]] or None,
            user_agent_header=None,
            compression=None,  # to the program it is a short way; to the client, the server's part
            proxy=None,
            open_timeout=HANDSHAKE_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            max_size=MESSAGE_BYTES_MAX,
            max_queue=QUEUED_MESSAGES_MAX,
            logger=_QUIET,
        )
    except InvalidStatus:
        raise
    except (InvalidHandshake, InvalidURI, EOFError, ValueError) as error:
        raise ProgramBroken(f"The program does not answer the handshake: {error}") from error
    except TimeoutError as error:
        raise ProgramTimedOut(
            f"The program has not answered the handshake for {HANDSHAKE_SECONDS:g} seconds."
        ) from error
    except OSError as error:
        raise ProgramUnreachable(
            f"The program cannot be reached: {error.strerror or error}. It may still be starting."
        ) from error


def _as_refused(refusal: InvalidStatus, scope: Scope, upstream: Upstream) -> tuple[Head, bytes]:
    """A program may answer a handshake as it answers any request: the client gets to see it."""
    response = refusal.response
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in response.headers.raw_items()
        if name.lower() != "content-length"
    ]
    status = response.status_code
    head = Head(status, reply_headers(status, headers, upstream, host=host))
    return head, bytes(response.body or b"")


async def _pass_to_program(receive: Receive, program: ClientConnection) -> _Close:
    """Until the client leaves, or the program does."""
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or CloseCode.NO_STATUS_RCVD
                return _Close(
                    CloseCode.GOING_AWAY if code in _NOT_SENT else code,
                    message.get("reason") or "",
                    Outcome.CLIENT_LEFT,
                )
            text = message.get("text")
            await program.send(message["bytes"] if text is None else text)
    except ConnectionClosed as closed:
        return _closed_by_program(closed)


async def _pass_to_client(program: ClientConnection, send: Send) -> _Close:
    """Until the program leaves, or the client does."""
    try:
        while True:
            message = await program.recv()
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    except ConnectionClosed as closed:
        return _closed_by_program(closed)
    except (OSError, RuntimeError):  # what servers raise when nobody is there to be sent to
        return _Close(CloseCode.GOING_AWAY, "", Outcome.CLIENT_LEFT)


def _closed_by_program(closed: ConnectionClosed) -> _Close:
    """Its own code and reason; where we had to end it (a message too long), ours."""
    close = closed.rcvd if closed.rcvd_then_sent or closed.sent is None else closed.sent
    if close is None:
        return _Close(
            CloseCode.INTERNAL_ERROR, "The program has closed the connection.", Outcome.BROKEN
        )
    code = CloseCode.NORMAL_CLOSURE if close.code in _NOT_SENT else close.code
    return _Close(code, close.reason, Outcome.ANSWERED)


async def _close_client(send: Send, close: _Close) -> None:
    reason = close.reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
    try:
        await send({"type": "websocket.close", "code": close.code, "reason": reason})
    except (OSError, RuntimeError):
        return  # it has left by itself meanwhile
