"""The two servers between which a proxy is measured: a program, and what passes requests on to it.

python -m bench.passing program          answers, and echoes websockets
python -m bench.passing front PORT       passes everything on to it, as `muster serve` does
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from muster.api.app import App
from muster.api.http import Request
from muster.api.proxied import Outcome, Proxied, ProxyRequest, Upstream
from muster.api.routing import Route
from muster.settings import Settings
from muster.webserver import Web, web_config

DOWN_BYTES = 64 << 20
_PIECE = bytes(64 << 10)


async def program(scope: Any, receive: Any, send: Any) -> None:
    """`/down` is DOWN_BYTES long; anything else tells how long the request's body was."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    length = 0
    has_more = True
    while has_more:
        message = await receive()
        length += len(message.get("body", b""))
        has_more = message.get("more_body", False)
    if scope["path"].endswith("/down"):
        headers = [(b"content-length", b"%d" % DOWN_BYTES)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(DOWN_BYTES // len(_PIECE)):
            await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    body = b'{"bytes":%d}' % length
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class OneProgram:
    """Lets everything pass to one port."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def admit(self, request: ProxyRequest) -> Upstream:
        return Upstream(
            host="127.0.0.1",
            port=self._port,
            path=request.path or "/",
            query=request.request.raw_query,
            key=request.request.id,  # of each its own: they are not to be limited here
        )

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        pass


async def _nobody(_request: Request, _route: Route) -> None:
    raise AssertionError("there are no routes")


def front(port: int) -> App:
    proxied = Proxied({"services": OneProgram(port)}, request_bytes_max=1 << 30)
    return App((), _nobody, _nobody, prefixes=proxied.prefixes, pass_on=proxied)


async def main(arguments: list[str]) -> None:
    app: Any = program if arguments[0] == "program" else front(int(arguments[1]))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    port = listener.getsockname()[1]
    config = web_config(Settings(data=Path("/nowhere")), app)
    web = Web(config, lambda: print(f"ready on http://127.0.0.1:{port}", flush=True))
    await web.serve(sockets=[listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1:]))
