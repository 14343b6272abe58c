"""A muster server to which every request comes right after a commit.

All of it is what `muster serve` runs, but for what stands before it: each request begins by looking
at the database anew, as the first one does after something was committed elsewhere. With `--lists`
nothing is kept of lists either, as after a commit that changes those of the project: then no answer
of an earlier request is left. `python -m bench.forgetting --data DIR --inventory FILE [--lists]`.
"""

import argparse
import asyncio
import signal
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from muster.server import running_server
from muster.settings import load_settings
from muster.store.connection import Connection
from muster.store.database import Database
from muster.webserver import Web, bind, web_config

T = TypeVar("T")


async def main(data: Path, inventory: Path, *, forgets_lists: bool) -> None:
    settings = load_settings(data, {"port": 0, "inventory": inventory})
    with bind(settings) as listener:
        port = listener.getsockname()[1]
        async with running_server(settings) as server:
            serve, database = server.app, server.database
            if forgets_lists:
                database.read_lists = partial(_read_anew, database)  # type: ignore[method-assign]

            async def forgetting(scope: Any, receive: Any, send: Any) -> None:
                await database.read_fresh(_nothing)
                await serve(scope, receive, send)

            web = Web(
                web_config(settings, forgetting),
                lambda: print(f"ready on http://127.0.0.1:{port}", flush=True),
            )
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, setattr, web, "should_exit", True)
            await web.serve(sockets=[listener])


async def _read_anew(
    database: Database, _project_id: str, work: Callable[..., T], *args: Hashable
) -> T:
    return await database.read_shared(work, *args)


def _nothing(_connection: Connection) -> None:
    """What is asked does not matter: whatever was kept of earlier answers goes."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.forgetting")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--lists", action="store_true")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments.data, arguments.inventory, forgets_lists=arguments.lists))
