"""The statistics call against the empty handler on the same web server, in one run."""

import statistics
import tempfile
from pathlib import Path

from bench.figure import Figure
from bench.load import raw_request, run_load
from bench.servers import empty_server, muster_server

ROUNDS = 7
REQUESTS = 3_000
CLIENTS = 16


def measure(_: int) -> list[Figure]:
    ratios, rates = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        muster_server(Path(folder)) as muster,
        empty_server() as empty,
    ):
        path = f"/v2/{muster.project_id}/statistics/pools/public-{muster.project_id}/workloads"
        call = raw_request("GET", muster.port, path, {"X-Auth-Token": muster.token})
        nothing = raw_request("GET", empty.port, "/", {})
        for _round in range(ROUNDS):
            base = run_load(empty.pid, empty.port, [nothing] * REQUESTS, clients=CLIENTS)
            own = run_load(muster.pid, muster.port, [call] * REQUESTS, clients=CLIENTS)
            ratios.append(100 * own.per_cpu_second / base.per_cpu_second)
            rates.append(own.per_cpu_second)
    how = f"median of {ROUNDS} pairs of {REQUESTS:,} requests, log-in checked"
    return [
        Figure(
            what="statistics call, of the empty handler",
            value=statistics.median(ratios),
            unit="%",
            how=how,
            at_least=50,
        ),
        Figure(
            what="statistics calls per CPU-second",
            value=statistics.median(rates),
            unit="/s",
            how="the same",
        ),
    ]
