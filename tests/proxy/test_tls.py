"""What is passed on when clients come over TLS."""

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from muster.settings import Settings
from tests.certificates import make_certificate
from tests.proxy.programs import make_app, serving, serving_at, show_request

pytestmark = pytest.mark.asyncio


async def test_the_program_is_told_that_its_client_came_over_tls(tmp_path: Path) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()

    async def look(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.put_nowait(connection.request.headers["X-Forwarded-Proto"])
        await connection.send("hello")

    cert, key = make_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(cert))
    site, proxied, app = make_app()
    settings = Settings(data=tmp_path, tls_cert=cert, tls_key=key)
    async with serving(show_request) as (_, plain), serve(look, "127.0.0.1", 0) as sockets:
        site.programs = {"plain": [plain], "ws": [sockets.sockets[0].getsockname()[1]]}
        web, port, running = await serving_at(app, settings)
        url = f"https://127.0.0.1:{port}/notebooks/plain/"
        async with httpx.AsyncClient(verify=trust, trust_env=False) as client:
            shown = (await client.get(url)).json()
        secure = f"wss://127.0.0.1:{port}/notebooks/ws/"
        async with connect(secure, ssl=trust, proxy=None) as socket:
            assert await socket.recv() == "hello"
        web.should_exit = True
        await running
        proxied.close()

    assert dict(shown["headers"])["x-forwarded-proto"] == "https"
    assert await seen.get() == "https"
