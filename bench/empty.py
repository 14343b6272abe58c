"""The yardstick: uvicorn with a handler that answers one constant."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import uvloop

from muster.settings import Settings
from muster.webserver import Web, web_config

_BODY = b'{"ok":true}'


async def empty(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})


async def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    port = listener.getsockname()[1]
    config = web_config(Settings(data=Path("/nowhere")), empty)
    web = Web(config, lambda: print(f"ready on http://127.0.0.1:{port}", flush=True))
    await web.serve(sockets=[listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
