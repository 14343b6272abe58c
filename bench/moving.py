"""A muster server in which workloads move at a steady rate while it is told to let them.

All of it is what `muster serve` runs, but for the reconciler, whose place the moves take: each one
comes by itself, and is written as the reconciler writes them. `python -m bench.moving --data DIR
--inventory FILE`: SIGUSR1 lets them begin, SIGUSR2 ends them; when the last of them is on disk, it
prints `moved COUNT in SECONDS`.
"""

import argparse
import asyncio
import signal
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import uvloop

from muster.domain.phase import Event, Phase
from muster.domain.workload import Workload
from muster.server import now_ms, running_server
from muster.settings import load_settings
from muster.store import workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.moves import Happened, Move, move_workloads
from muster.webserver import Web, bind, web_config

PER_SECOND = 300
LOOK_SECONDS = 0.01  # one wake for what is due: this loop's own cost counts as the server's

# A workload that is lost and found again moves for as long as one likes.
_NEXT = {Phase.RUNNING: Event.VANISHED, Phase.LOST: Event.FOUND}


@dataclass(slots=True)
class Mover:
    database: Database
    count: int = 0
    seconds: float = 0.0
    is_over: bool = True
    _running: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.count, self.is_over = 0, False
        self._running = asyncio.create_task(self._move_on_and_on())

    def end(self) -> None:
        self.is_over = True

    async def _move_on_and_on(self) -> None:
        began = time.perf_counter()
        moving = await self.database.read(_list_moving)
        async with asyncio.TaskGroup() as moves:
            under_way: dict[int, asyncio.Task[None]] = {}
            for number, place in enumerate(cycle(range(len(moving)))):
                due = began + number / PER_SECOND
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(max(early, LOOK_SECONDS))
                if place in under_way:
                    await under_way[place]
                if self.is_over:
                    break
                under_way[place] = moves.create_task(self._move(moving, place))
            self.seconds = time.perf_counter() - began
        print(f"moved {self.count} in {self.seconds}", flush=True)

    async def _move(self, moving: list[Workload], place: int) -> None:
        move = _move(moving[place])
        moving[place] = await self.database.write_together(move_workloads, move, is_patient=True)
        self.count += 1


def _list_moving(connection: Connection) -> list[Workload]:
    return [w for w in workloads.list_active(connection) if w.phase in _NEXT]


def _move(workload: Workload) -> Move:
    event = _NEXT[workload.phase]
    return Move(workload=workload, steps=(Happened(event=event, now_ms=now_ms(), actor="bench"),))


async def main(data: Path, inventory: Path) -> None:
    settings = load_settings(data, {"port": 0, "inventory": inventory})
    with bind(settings) as listener:
        port = listener.getsockname()[1]
        async with running_server(settings) as server:
            server.reconciler.close()  # it would move them, too
            mover = Mover(server.database)
            web = Web(
                web_config(settings, server.app),
                lambda: print(f"ready on http://127.0.0.1:{port}", flush=True),
            )
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGTERM, setattr, web, "should_exit", True)
            loop.add_signal_handler(signal.SIGUSR1, mover.begin)
            loop.add_signal_handler(signal.SIGUSR2, mover.end)
            await web.serve(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.moving")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--inventory", type=Path, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments.data, arguments.inventory))
