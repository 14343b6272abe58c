"""Passes one HTTP request on, and its answer back, as they come."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from muster.domain.errors import (
    BodyTooLarge,
    InvalidRequest,
    MusterError,
    ProgramBroken,
    ProgramTimedOut,
    ProgramUnwell,
)
from muster.proxy.connection import Connection, Headers
from muster.proxy.headers import (
    check_target,
    framing_of,
    reply_headers,
    request_head,
    request_headers,
)
from muster.proxy.pool import Pool
from muster.proxy.upstream import Outcome, Upstream

log = structlog.get_logger()

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

BODY_SECONDS: Final = 300.0  # between two pieces of a request's body

# May be asked twice without harm: an idle connection may be gone in the moment of its use.
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class ClientLeft(MusterError):
    """Who asked is gone: nobody is there to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A request, ready to be passed on."""

    method: str
    host: bytes  # as the client named this server
    head: bytes
    framing: bytes
    upstream: Upstream
    request_bytes_max: int
    reply_with: Headers
    receive: Receive
    send: Send


async def forward(
    pool: Pool,
    scope: Scope,
    receive: Receive,
    send: Send,
    upstream: Upstream,
    reply_with: Headers,
    *,
    request_bytes_max: int,
) -> Outcome:
    """Pass a request on. Nothing of it or of its answer is held but what is on its way.

    Args:
        pool: of connections.
        scope: of ASGI, as are the next two.
        receive: gives the body.
        send: takes the answer.
        upstream: where it goes.
        reply_with: headers that the answer gets besides.
        request_bytes_max: of the body.

    Returns:
        How it ended. Unless it is ANSWERED, what the client got of the answer is not whole: return
        to the server without completing it, which then cuts the connection.

    Raises:
        InvalidRequest, BodyTooLarge, TooManyConnections: it was refused, maybe in its middle.
        ProgramUnreachable: nothing of it was sent; it may be passed on to another program.
        ProgramBroken, ProgramTimedOut, ProgramUnwell: there is no answer.
    """
    check_target(upstream)
    given = dict(scope["headers"])
    length = given.get(b"content-length", b"0")
    if int(length) > request_bytes_max:
        raise _too_large(request_bytes_max)
    framing = framing_of(given)
    client = scope["client"]
    headers = request_headers(
        scope["headers"],
        upstream,
        client=client[0] if client else "",
        scheme=scope["scheme"],
    )
    asked = _Asked(
        method=scope["method"],
        host=given.get(b"host", b""),
        head=request_head(scope["method"], upstream, headers, framing),
        framing=framing,
        upstream=upstream,
        request_bytes_max=request_bytes_max,
        reply_with=reply_with,
        receive=receive,
        send=send,
    )
    address = (upstream.host, upstream.port)
    connection = pool.take_idle(address)
    if connection is not None:
        try:
            return await _exchange(pool, connection, asked)
        except ProgramBroken:
            if connection.has_heard or not may_repeat(scope):
                raise
    return await _exchange(pool, await pool.connect(address), asked)


def may_repeat(scope: Scope) -> bool:
    """Whether a request may reach two programs, or one twice, without harm."""
    return scope["method"] in _IDEMPOTENT and not framing_of(dict(scope["headers"]))


async def _exchange(pool: Pool, connection: Connection, asked: _Asked) -> Outcome:
    has_begun = False
    seconds = asked.upstream.answer_seconds
    connection.begin(
        asked.head, has_body=bool(asked.framing), has_answer_body=asked.method != "HEAD"
    )
    asked.upstream.hold.connection = connection
    # It outlives this by one turn of the loop at most.
    sending = asyncio.ensure_future(_send_body(connection, asked))
    try:
        head = await connection.read_head(seconds)
        headers = reply_headers(head.status, head.headers, asked.upstream, host=asked.host)
        headers += asked.reply_with
        has_begun = True
        await asked.send({"type": "http.response.start", "status": head.status, "headers": headers})
        while True:
            body, is_end = await connection.read(seconds)
            if is_end:
                break
            await asked.send({"type": "http.response.body", "body": body, "more_body": True})
    except ClientLeft:
        return Outcome.CLIENT_LEFT
    except (ProgramBroken, ProgramTimedOut, InvalidRequest) as error:
        if not has_begun:
            raise
        log.info("answer_cut", path=asked.upstream.path, why=error.message)
        return _OUTCOMES.get(type(error), Outcome.REFUSED)
    finally:
        sending.cancel()
        asked.upstream.hold.connection = None
        pool.give_back(connection, (asked.upstream.host, asked.upstream.port))
    # A client that takes its time with the rest keeps no connection from others.
    await asked.send({"type": "http.response.body", "body": body})
    return Outcome.ANSWERED


_OUTCOMES: Final[Mapping[type[MusterError], Outcome]] = {
    ProgramBroken: Outcome.BROKEN,
    ProgramTimedOut: Outcome.TIMED_OUT,
    ProgramUnwell: Outcome.TIMED_OUT,
}


async def _send_body(connection: Connection, asked: _Asked) -> None:
    """Send the body as it comes; then see to it that the exchange ends when the client leaves."""
    has_more = bool(asked.framing)
    is_chunked = asked.framing.startswith(b"transfer-encoding")
    length = 0
    while True:
        try:
            async with asyncio.timeout(BODY_SECONDS if has_more else None):
                message = await asked.receive()
        except TimeoutError:
            why = f"Nothing came of the body for {BODY_SECONDS:g} seconds."
            connection.fail(InvalidRequest(why))
            return
        except MusterError as error:  # it is not the body that was promised
            connection.fail(error)
            return
        if message["type"] == "http.disconnect":
            connection.fail(ClientLeft("The client has closed the connection."))
            return
        if not has_more:
            continue
        body = message.get("body", b"")
        has_more = message.get("more_body", False)
        length += len(body)
        if length > asked.request_bytes_max:
            connection.fail(_too_large(asked.request_bytes_max))
            return
        if is_chunked:
            end = b"" if has_more else b"0\r\n\r\n"
            body = b"%x\r\n%b\r\n%b" % (len(body), body, end) if body else end
        if body:
            connection.write(body)
            await connection.drain()
        if not has_more:
            connection.has_sent_all = True


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is longer than the {bytes_max} bytes that are allowed here. Put large data into"
        " a bucket, or raise the server's setting proxied_body_mib."
    )
