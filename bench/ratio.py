"""Calls held against the empty handler: pairs, one right after the other, and their median."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from bench.load import raw_request, run_load
from bench.run import Run
from bench.servers import RunningServer

CLIENTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    percent_of_empty: float
    per_cpu_second: float


def rates(
    run: Run,
    what: str,
    empty: RunningServer,
    calls: Mapping[int, tuple[RunningServer, Sequence[bytes]]],
    *,
    rounds: int,
    requests: int,
) -> dict[int, Rate]:
    """The rate of some calls at each size, every size once a round.

    Args:
        run: tells how far it is.
        what: is measured, in words.
        empty: the yardstick.
        calls: by size, the server that has so much and what to ask it, in turn.
        rounds: how many pairs a size.
        requests: in each half of a pair.

    Returns:
        By size, medians over the rounds.
    """
    nothing = raw_request("GET", empty.port, "/", {})
    ratios: dict[int, list[float]] = {size: [] for size in calls}
    own_rates: dict[int, list[float]] = {size: [] for size in calls}
    for server, asked in calls.values():  # what only the first request pays
        run_load(server.pid, server.port, asked, clients=1)
    for _round in run.track(range(rounds), what):
        for size, (server, asked) in calls.items():
            base = run_load(empty.pid, empty.port, [nothing] * requests, clients=CLIENTS)
            load = list(islice(cycle(asked), requests))
            own = run_load(server.pid, server.port, load, clients=CLIENTS)
            ratios[size].append(100 * own.per_cpu_second / base.per_cpu_second)
            own_rates[size].append(own.per_cpu_second)
    return {
        size: Rate(
            percent_of_empty=statistics.median(ratios[size]),
            per_cpu_second=statistics.median(own_rates[size]),
        )
        for size in calls
    }
