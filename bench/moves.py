"""What 300 durable moves a second cost the reads beside them; and whether every count is exact."""

import os
import signal
import statistics
import sys
from itertools import cycle, islice

from bench.dataset import Dataset, copied_dataset
from bench.figure import Figure
from bench.load import cpu_seconds, raw_request, run_load
from bench.moving import PER_SECOND
from bench.ratio import CLIENTS
from bench.run import Run
from bench.servers import logged_in, started
from bench.statistics_call import statistics_calls
from muster.store.recount import differences
from muster.store.sqlite import open_snapshot

ROUNDS = 7
REQUESTS = {"statistics call": 32_000, "versions page of 20": 12_000}  # many commits in each round
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
            requests = list(islice(cycle(asked), run.requests(REQUESTS[what])))
            run_load(server.pid, port, requests, clients=CLIENTS)
            for _round in run.track(range(run.rounds(ROUNDS)), f"{what} beside moves"):
                alone = run_load(server.pid, port, requests, clients=CLIENTS)
                cpu_before = cpu_seconds(server.pid)
                os.kill(server.pid, signal.SIGUSR1)
                beside = run_load(server.pid, port, requests, clients=CLIENTS)
                os.kill(server.pid, signal.SIGUSR2)
                _, count, _, moved_seconds = process.stdout.readline().split()
                moves.append(int(count) / float(moved_seconds))
                # Until the last of them is on disk, when the reads are over already.
                per_cpu_second = len(requests) / (cpu_seconds(server.pid) - cpu_before)
                costs.append(100 * (1 - per_cpu_second / alone.per_cpu_second))
                slower.append(100 * (1 - beside.per_second / alone.per_second))
            figures.append(
                Figure(
                    what=f"{PER_SECOND} moves a second: cost to the {what}",
                    rows=dataset.size,
                    value=statistics.median(costs),
                    unit="%",
                    how=f"requests per CPU-second, median of {len(costs)} pairs of"
                    f" {len(requests):,}; {statistics.median(slower):.0f} % by the clock",
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
