"""The statistics call against the empty handler on the same web server, in one run, by size."""

from contextlib import ExitStack

from bench.dataset import open_dataset, pool_ids
from bench.figure import Figure, flatness
from bench.load import raw_request
from bench.ratio import rates
from bench.run import Run
from bench.servers import RunningServer, empty_server

ROUNDS = 21  # many short ones, as in moves.py
REQUESTS = 1_000
PERCENT = 55
FLAT_PERCENT = 10


def measure(run: Run) -> list[Figure]:
    datasets = [open_dataset(run, size, may_be_shared=True) for size in run.sizes]
    with ExitStack() as opened:
        empty = opened.enter_context(empty_server())
        servers = {d.size: opened.enter_context(d.server()) for d in datasets}
        found = rates(
            run,
            "the statistics call",
            empty,
            {size: (server, statistics_calls(server)) for size, server in servers.items()},
            rounds=run.rounds(ROUNDS),
            requests=run.requests(REQUESTS),
        )
    how = (
        f"median of {run.rounds(ROUNDS)} pairs of {run.requests(REQUESTS):,} requests,"
        " log-in checked"
    )
    figures = [
        Figure(
            what=f"statistics call{run.on_which}, of the empty handler",
            rows=size,
            value=rate.percent_of_empty,
            unit="%",
            how=f"{how}; {rate.per_cpu_second:,.0f} per CPU-second{run.of_whom}",
            at_least=None if run.database else PERCENT,
        )
        for size, rate in found.items()
    ]
    if len(found) > 1:
        values = [rate.percent_of_empty for rate in found.values()]
        what = f"statistics call{run.on_which}"
        figures.append(flatness(what, values, sizes=run.sizes, at_most=FLAT_PERCENT))
    return figures


def statistics_calls(server: RunningServer) -> list[bytes]:
    """One for each pool, the public one too."""
    token = {"X-Auth-Token": server.token}
    pools = [f"public-{server.project_id}", *pool_ids(server.project_id)]
    return [
        raw_request(
            "GET",
            server.port,
            f"/v2/{server.project_id}/statistics/pools/{pool_id}/workloads",
            token,
        )
        for pool_id in pools
    ]
