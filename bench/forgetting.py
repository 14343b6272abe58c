"""A muster server to which every request comes right after a commit: nothing is shared.

All of it is what `muster serve` runs, but for what stands before it: each request begins by looking
at the database anew, as the first one does after something was committed, so that no answer of an
earlier one is left. `python -m bench.forgetting --data DIR --inventory FILE`.
"""

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

import uvloop

from muster.server import running_server
from muster.settings import load_settings
from muster.store.connection import Connection
from muster.webserver import Web, bind, web_config


async def main(data: Path, inventory: Path) -> None:
    settings = load_settings(data, {"port": 0, "inventory": inventory})
    with bind(settings) as listener:
        port = listener.getsockname()[1]
        async with running_server(settings) as server:
            serve, look_anew = server.app, server.database.read_fresh

            async def forgetting(scope: Any, receive: Any, send: Any) -> None:
                await look_anew(_nothing)
                await serve(scope, receive, send)

            web = Web(
                web_config(settings, forgetting),
                lambda: print(f"ready on http://127.0.0.1:{port}", flush=True),
            )
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, setattr, web, "should_exit", True)
            await web.serve(sockets=[listener])


def _nothing(_connection: Connection) -> None:
    """What is asked does not matter: whatever was kept of earlier answers goes."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.forgetting")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--inventory", type=Path, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments.data, arguments.inventory))
