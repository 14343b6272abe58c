"""What 300 durable moves a second cost the reads beside them; and whether every count is exact."""

import asyncio
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench.dataset import Dataset, copied_dataset
from bench.figure import Figure
from bench.load import Load, ongoing_load, raw_request
from bench.moving import PER_SECOND
from bench.ratio import CLIENTS
from bench.run import Run
from bench.servers import RunningServer, logged_in, started
from bench.statistics_call import statistics_calls
from muster.store.recount import differences
from muster.store.sqlite import open_snapshot

# One load goes on while moves are let and held in turns. Many short ones: what a shared machine
# does besides changes from second to second, by more than what is measured.
ROUNDS = 60
SETTLING_SECONDS = 0.3  # until moves come as a stream, which shares a commit
WINDOW_SECONDS = 0.4  # two commits of such a stream
COST_PERCENT = 10
ROWS_MAX = 100_000  # a recount reads every row; a move costs the same among more
RATE_PERCENT = 95  # of the moves that were due, at least; else the reads had it too easy


def measure(run: Run) -> list[Figure]:
    size = max((size for size in run.sizes if size <= ROWS_MAX), default=run.sizes[0])
    with copied_dataset(run, size) as dataset:
        figures = _beside_reads(run, dataset)
        with (
            run.told("recounting"),
            open_snapshot(dataset.data / "muster.db") as connection,
        ):
            found = list(differences(connection))
    return [
        *figures,
        Figure(
            what="differences found by a recount afterwards",
            rows=size,
            value=len(found),
            unit="",
            how="; ".join(found[:3]) or "every counter against the rows",
            at_most=0,
        ),
    ]


def _beside_reads(run: Run, dataset: Dataset) -> list[Figure]:
    command = [sys.executable, "-m", "bench.moving", "--data", str(dataset.data), *dataset.flags]
    with started(command) as (process, port, seconds):
        server = logged_in(process.pid, port, dataset.data, ready_seconds=seconds)
        page = raw_request(
            "GET",
            port,
            f"/v1/{server.project_id}/training-jobs/versions?limit=20",
            {"X-Auth-Token": server.token},
        )
        calls = {"statistics call": statistics_calls(server), "versions page of 20": [page]}
        assert process.stdout is not None
        figures, moves = [], []
        for what, asked in calls.items():
            costs, slower = [], []
            for turn in asyncio.run(_take_turns(run, what, server, asked, process)):
                costs.append(100 * (1 - turn.beside.per_cpu_second / turn.alone_per_cpu_second))
                slower.append(100 * (1 - turn.beside.per_second / turn.alone_per_second))
                moves.append(turn.moves_per_second)
            from_percent, _, to_percent = statistics.quantiles(costs)
            figures.append(
                Figure(
                    what=f"{PER_SECOND} moves a second: cost to the {what}",
                    rows=dataset.size,
                    value=statistics.median(costs),
                    unit="%",
                    how=f"requests per CPU-second, median of {len(costs)} turns of"
                    f" {WINDOW_SECONDS} s, each between two without; half of them from"
                    f" {from_percent:.0f} to {to_percent:.0f} %;"
                    f" {statistics.median(slower):.0f} % by the clock",
                    at_most=COST_PERCENT,
                )
            )
    return [
        *figures,
        Figure(
            what="moves made meanwhile",
            rows=dataset.size,
            value=statistics.median(moves),
            unit="/s",
            how="each on disk before it counts",
            at_least=PER_SECOND * RATE_PERCENT / 100,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What came of the load beside moves, and right before and after it without."""

    beside: Load
    alone: tuple[Load, Load]
    moves_per_second: float

    @property
    def alone_per_cpu_second(self) -> float:
        return statistics.mean(load.per_cpu_second for load in self.alone)

    @property
    def alone_per_second(self) -> float:
        return statistics.mean(load.per_second for load in self.alone)


async def _take_turns(
    run: Run,
    what: str,
    server: RunningServer,
    asked: Sequence[bytes],
    process: "subprocess.Popen[str]",
) -> list[_Turn]:
    assert process.stdout is not None
    turns = []
    async with ongoing_load(server.pid, server.port, asked, clients=CLIENTS) as load:
        await load.window(WINDOW_SECONDS)  # it has come to speed then
        before = await load.window(WINDOW_SECONDS)
        for _round in run.track(range(run.rounds(ROUNDS)), f"{what} beside moves"):
            process.send_signal(signal.SIGUSR1)
            await load.window(SETTLING_SECONDS)
            beside = await load.window(WINDOW_SECONDS)
            process.send_signal(signal.SIGUSR2)
            # When the last of them is on disk.
            _, count, _, seconds = (await asyncio.to_thread(process.stdout.readline)).split()
            after = await load.window(WINDOW_SECONDS)
            turn = _Turn(
                beside=beside, alone=(before, after), moves_per_second=int(count) / float(seconds)
            )
            turns.append(turn)
            before = after
    return turns
