"""The end of a server that passes requests on."""

import asyncio
import os
import signal

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from muster.webserver import SHUTDOWN_SECONDS, ended_by_signals
from tests.proxy.programs import DEADLINE_SECONDS, make_app, program_of, serving_at

pytestmark = pytest.mark.asyncio


async def test_a_signal_closes_websockets_with_1001_and_does_not_wait_for_their_programs() -> None:
    is_over = asyncio.Event()

    async def never_ends(connection: ServerConnection) -> None:
        connection.transport.pause_reading()  # it takes no notice of anything
        await is_over.wait()
        connection.transport.abort()

    site, proxied, app = make_app()
    async with serve(never_ends, "127.0.0.1", 0, compression=None, close_timeout=0.1) as program:
        site.programs["p"] = [program.sockets[0].getsockname()[1]]
        web, port, running = await serving_at(app)
        with ended_by_signals(web, proxied.end_websockets):
            async with connect(f"ws://127.0.0.1:{port}/notebooks/p/", proxy=None) as client:
                os.kill(os.getpid(), signal.SIGTERM)
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await client.wait_closed()
                assert client.close_code == 1001
            async with asyncio.timeout(SHUTDOWN_SECONDS + 2):
                await running
        is_over.set()


async def test_a_signal_lets_an_answer_that_is_under_way_end() -> None:
    goes_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfirst")
        await goes_on.wait()
        writer.write(b"!")

    site, proxied, app = make_app()
    async with program_of(slow) as program:
        site.programs["p"] = [program]
        web, port, running = await serving_at(app)
        with ended_by_signals(web, proxied.end_websockets):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /notebooks/p/ HTTP/1.1\r\nHost: m\r\n\r\n")
            await reader.readuntil(b"first")
            os.kill(os.getpid(), signal.SIGTERM)
            goes_on.set()
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await reader.readexactly(1) == b"!"
                assert await reader.read() == b""
                await running
        writer.close()
    proxied.close()
