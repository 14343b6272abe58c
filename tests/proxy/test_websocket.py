"""Websockets that are passed on: what arrives on either side, and how they end."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from muster.api.proxied import Outcome, Upstream
from muster.domain.errors import Forbidden
from muster.proxy import websocket
from muster.proxy.websocket import MESSAGE_BYTES_MAX, Websockets
from tests.proxy.programs import DEADLINE_SECONDS, NOWHERE, Front, program_of, running_front

pytestmark = pytest.mark.asyncio(loop_scope="module")

ON_ITS_WAY_MAX = 16 << 20


@asynccontextmanager
async def serving_sockets(handler: Any, **options: Any) -> AsyncIterator[int]:
    """The port of a program that talks by websocket."""
    async with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        yield server.sockets[0].getsockname()[1]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def joining(front: Front, path: str = "/notebooks/p/ws", **options: Any) -> connect:
    return connect(front.url(path, "ws"), proxy=None, compression=None, **options)


async def closed(connection: ClientConnection | ServerConnection) -> tuple[int | None, str | None]:
    """(code, reason) of its end."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        await connection.wait_closed()
    return connection.close_code, connection.close_reason


class TestMessages:
    async def test_text_and_bytes_pass_both_ways_as_what_they_are(self, front: Front) -> None:
        async with serving_sockets(echo) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                for message in ("text ü", b"\x00\xff", "", b"", "x" * 200_000):
                    await client.send(message)
                    assert await client.recv() == message

        assert await front.site.outcome() is Outcome.CLIENT_LEFT

    async def test_a_message_in_pieces_arrives_whole(self, front: Front) -> None:
        async with serving_sockets(echo) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                await client.send(["in ", "three ", "pieces"])

                assert await client.recv() == "in three pieces"

    async def test_a_ping_is_answered(self, front: Front) -> None:
        async with serving_sockets(echo) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client, asyncio.timeout(DEADLINE_SECONDS):
                await (await client.ping())

    async def test_the_program_sees_path_query_and_headers_and_no_secret(
        self, front: Front
    ) -> None:
        seen: list[Request] = []

        async def look(connection: ServerConnection) -> None:
            assert connection.request is not None
            seen.append(connection.request)

        headers = [
            ("Cookie", "muster-notebook=secret; own=1"),
            ("X-Auth-Token", "secret"),
            ("X-Other", "kept"),
        ]
        async with serving_sockets(look) as port:
            front.site.programs["p"] = [port]
            origin = f"http://127.0.0.1:{front.port}"
            path = "/notebooks/p/a%2Fb?x=1"
            async with joining(front, path, additional_headers=headers, origin=origin) as client:
                await closed(client)

        told = seen[0].headers
        assert seen[0].path == "/a%2Fb?x=1"
        assert told["Host"] == f"127.0.0.1:{front.port}"
        assert told["Origin"] == origin
        assert (told["Cookie"], told["X-Other"]) == ("own=1", "kept")
        assert (told["X-Forwarded-For"], told["X-Forwarded-Proto"]) == ("127.0.0.1", "http")
        assert "secret" not in str(told)

    async def test_the_subprotocol_that_the_program_takes_is_the_clients(
        self, front: Front
    ) -> None:
        async with serving_sockets(echo, subprotocols=["v1.kernel"]) as port:
            front.site.programs["p"] = [port]
            async with joining(front, subprotocols=["other", "v1.kernel"]) as client:
                assert client.subprotocol == "v1.kernel"

    async def test_the_handshake_sets_the_sites_cookies(self, front: Front) -> None:
        front.site.more = {"reply_headers": (("Set-Cookie", "muster-notebook=1"),)}
        async with serving_sockets(echo) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                assert client.response is not None
                assert client.response.headers["Set-Cookie"] == "muster-notebook=1"
                assert client.response.headers["X-Request-Id"]


class TestEnds:
    async def test_the_clients_code_and_reason_reach_the_program(self, front: Front) -> None:
        ends: asyncio.Queue[Any] = asyncio.Queue()

        async def listen(connection: ServerConnection) -> None:
            ends.put_nowait(await closed(connection))

        async with serving_sockets(listen) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                await client.close(4001, "bye")
            async with asyncio.timeout(DEADLINE_SECONDS):
                end = await ends.get()

        assert end == (4001, "bye")
        assert await front.site.outcome() is Outcome.CLIENT_LEFT

    async def test_the_programs_code_and_reason_reach_the_client(self, front: Front) -> None:
        async def leave(connection: ServerConnection) -> None:
            await connection.close(4002, "enough")

        async with serving_sockets(leave) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                assert await closed(client) == (4002, "enough")

        assert await front.site.outcome() is Outcome.ANSWERED

    async def test_a_program_that_is_gone_closes_with_1011(self, front: Front) -> None:
        async def vanish(connection: ServerConnection) -> None:
            connection.transport.abort()

        async with serving_sockets(vanish) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                code, reason = await closed(client)

        assert (code, reason) == (1011, "The program has closed the connection.")
        assert await front.site.outcome() is Outcome.BROKEN

    async def test_a_client_that_vanishes_ends_the_programs_side(self, front: Front) -> None:
        ends: asyncio.Queue[Any] = asyncio.Queue()

        async def listen(connection: ServerConnection) -> None:
            ends.put_nowait(await closed(connection))

        async with serving_sockets(listen) as port:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                client.transport.abort()
                async with asyncio.timeout(DEADLINE_SECONDS):
                    code, _ = await ends.get()

        assert code == 1001

    @pytest.mark.parametrize("is_from_client", [True, False])
    async def test_a_message_that_is_too_long_closes_with_1009(
        self, front: Front, is_from_client: bool
    ) -> None:
        async def shout(connection: ServerConnection) -> None:
            if not is_from_client:
                await connection.send(bytes(MESSAGE_BYTES_MAX + 1))
            await connection.wait_closed()

        async with serving_sockets(shout) as port:
            front.site.programs["p"] = [port]
            async with joining(front, max_size=None) as client:
                if is_from_client:
                    with suppress(ConnectionClosed):  # it may not even be read to its end
                        await client.send(bytes(MESSAGE_BYTES_MAX + 1))
                code, _ = await closed(client)

        assert code == 1009

    async def test_a_client_that_the_server_has_closed_meanwhile_has_left(self) -> None:
        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "websocket.send":
                # As uvicorn says it where it has just refused a message of the client's.
                raise RuntimeError("Unexpected ASGI message, after sending 'websocket.close'.")

        async def receive() -> Mapping[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError("the client says nothing")

        async def talk(connection: ServerConnection) -> None:
            await connection.send("something")
            await connection.wait_closed()

        scope: dict[str, Any] = {"client": None, "scheme": "ws", "headers": [], "subprotocols": []}
        async with serving_sockets(talk) as port, asyncio.timeout(DEADLINE_SECONDS):
            upstream = Upstream(host="127.0.0.1", port=port, path="/", query="", key="p")
            outcome = await Websockets().forward(scope, receive, send, upstream, [])

        assert outcome is Outcome.CLIENT_LEFT

    async def test_when_the_server_ends_both_sides_are_told_1001(self) -> None:
        ends: asyncio.Queue[Any] = asyncio.Queue()

        async def listen(connection: ServerConnection) -> None:
            ends.put_nowait(await closed(connection))

        async with serving_sockets(listen) as port, running_front() as front:
            front.site.programs["p"] = [port]
            async with joining(front) as client:
                front.proxied.end_websockets()
                code, _ = await closed(client)
                async with asyncio.timeout(DEADLINE_SECONDS):
                    end = await ends.get()

        assert (code, end[0]) == (1001, 1001)


class TestHandshakes:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/notebooks/unknown/ws", 404),
            ("/v1/p/training-jobs", 404),
            (f"/notebooks/{NOWHERE}/ws", 502),
            ("/notebooks/p/%2e%2e/x", 400),
        ],
    )
    async def test_one_that_goes_nowhere_is_answered_as_a_request_is(
        self, front: Front, path: str, status: int
    ) -> None:
        async with serving_sockets(echo) as port:
            front.site.programs["p"] = [port]
            with pytest.raises(InvalidStatus) as refused:
                await joining(front, path)

        response = refused.value.response
        assert response.status_code == status
        assert b'"error_code"' in (response.body or b"")
        assert response.headers["X-Request-Id"]

    async def test_the_sites_refusal_is_the_answer(self, front: Front) -> None:
        front.site.refusal = Forbidden("You may not.")

        with pytest.raises(InvalidStatus) as refused:
            await joining(front)

        assert refused.value.response.status_code == 403
        assert b"You may not." in (refused.value.response.body or b"")

    async def test_the_programs_refusal_reaches_the_client(self, front: Front) -> None:
        def refuse(connection: ServerConnection, _request: Request) -> Response:
            return connection.respond(418, "no kernel\n")

        async with serving_sockets(echo, process_request=refuse) as port:
            front.site.programs["p"] = [port]
            with pytest.raises(InvalidStatus) as refused:
                await joining(front)

        assert refused.value.response.status_code == 418
        assert refused.value.response.body == b"no kernel\n"
        assert front.site.outcomes == [Outcome.ANSWERED]

    async def test_a_redirect_is_not_followed(self, front: Front) -> None:
        def redirect(connection: ServerConnection, _request: Request) -> Response:
            response = connection.respond(302, "")
            response.headers["Location"] = "ws://127.0.0.1:9/elsewhere"
            return response

        async with serving_sockets(echo, process_request=redirect) as port:
            front.site.programs["p"] = [port]
            reader, writer = await front.send_raw(
                b"GET /notebooks/p/ HTTP/1.1\r\nHost: m\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            async with asyncio.timeout(DEADLINE_SECONDS):
                answer = await reader.read()
            writer.close()

        assert answer.startswith(b"HTTP/1.1 302")
        assert b"elsewhere" in answer

    async def test_a_program_that_speaks_no_websocket_is_a_bad_gateway(self, front: Front) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"what?\r\n\r\n")

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            with pytest.raises(InvalidStatus) as refused:
                await joining(front)

        assert refused.value.response.status_code == 502
        assert front.site.outcomes == [Outcome.BROKEN]

    async def test_one_too_many_to_the_same_program_is_told_to_come_again(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(websocket, "OPEN_MAX_OF_ONE", 1)
        async with serving_sockets(echo) as port:
            front.site.programs["p"] = [port]
            front.site.programs["q"] = [port]
            async with joining(front) as first, joining(front, "/notebooks/q/ws"):
                with pytest.raises(InvalidStatus) as refused:
                    await joining(front)
                await first.close()
                await front.site.outcome(2)  # the first was that of the one too many
                async with joining(front) as again:
                    await again.send("there is room again")
                    assert await again.recv() == "there is room again"

        assert refused.value.response.status_code == 503


async def test_a_flood_of_a_client_is_held_up_while_its_program_is_busy(front: Front) -> None:
    is_free = asyncio.Event()
    sent = received = 0

    async def busy(connection: ServerConnection) -> None:
        nonlocal received
        await is_free.wait()
        async for message in connection:
            received += len(message)

    async def flood(client: ClientConnection) -> None:
        nonlocal sent
        while sent < 2 * ON_ITS_WAY_MAX:
            await client.send(bytes(1 << 16))
            sent += 1 << 16

    async with serving_sockets(busy, max_queue=1) as port, asyncio.timeout(DEADLINE_SECONDS):
        front.site.programs["p"] = [port]
        async with joining(front) as client:
            flooding = asyncio.create_task(flood(client))
            before = -1
            while before != sent:
                before = sent
                for _ in range(20):
                    assert (await front.http.get("/notebooks/echo/")).status_code == 200
            assert sent < ON_ITS_WAY_MAX
            is_free.set()
            await flooding
        await front.site.outcome()

    assert received == 2 * ON_ITS_WAY_MAX


async def test_a_flood_is_held_up_where_it_comes_from_and_harms_nobody_else(front: Front) -> None:
    sent = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        while True:
            await connection.send(bytes(1 << 16))
            sent += 1 << 16

    async with serving_sockets(flood) as port, asyncio.timeout(DEADLINE_SECONDS):
        front.site.programs["p"] = [port]
        async with joining(front, max_queue=1, close_timeout=0.1) as client:
            before = -1
            while before != sent:
                before = sent
                for _ in range(20):
                    assert (await front.http.get("/notebooks/echo/")).status_code == 200
            assert sent < ON_ITS_WAY_MAX
            for _ in range(2 * ON_ITS_WAY_MAX >> 16):
                assert len(await client.recv()) == 1 << 16

    assert sent > ON_ITS_WAY_MAX
