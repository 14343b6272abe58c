"""One request and its reply, as handlers see them: little more than what ASGI gives."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from muster.domain.errors import BodyTooLarge, InvalidRequest
from muster.operations.caller import Caller

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

JSON_BODY_BYTES_MAX: Final = 1 << 20
AHEAD_BYTES_MAX: Final = 64 << 10
DISCARDED_BYTES_MAX: Final = 64 << 20  # read to its end, so that the refusal reaches the client

JSON_TYPE: Final = (b"content-type", b"application/json")
_ENCODER: Final = msgspec.json.Encoder()

# Ids tell requests apart, over restarts too; they are no secret.
_PROCESS: Final = os.urandom(8).hex()
_REQUESTS: Final = count(1)


class Request:
    """One HTTP request: what handlers need of it, read when they ask."""

    __slots__ = (
        "_ahead",
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
        self._ahead: list[Mapping[str, Any]] | None = None  # of the body, read while waiting
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
        if self._body is not None:
            read: deque[Mapping[str, Any]] = deque([{"type": "http.request", "body": self._body}])
        elif self._ahead:
            read = deque(self._ahead)
        else:
            return self._receive

        async def receive() -> Mapping[str, Any]:
            return read.popleft() if read else await self._receive()

        return receive

    async def left(self) -> None:
        """Return once the client has gone away, where nobody reads the body meanwhile.

        To hear of it takes reading ahead: a body of more than AHEAD_BYTES_MAX keeps that from us.
        What has been read comes again by `receive_again`.
        """
        length = 0
        self._ahead = []
        while length <= AHEAD_BYTES_MAX:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return
            self._ahead.append(message)
            length += len(message.get("body", b""))
        await asyncio.get_running_loop().create_future()

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


async def begun(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same stream; its first chunk is read before the status is sent, so errors get theirs."""
    return _resumed(await anext(chunks), chunks)


async def _resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for chunk in rest:
            yield chunk
    finally:
        await rest.aclose()  # type: ignore[attr-defined]  # an async generator


Handler = Callable[[Request], Awaitable[Reply]]


def request_id_header(request: Request) -> tuple[bytes, bytes]:
    return b"X-Request-Id", request.id.encode()
