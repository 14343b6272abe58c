"""Pages of the two lists, with their exact totals, against the empty handler, by size.

As they are asked for again and again while nothing is committed, so that answers are shared; each
right after a commit that changes no list of the project; and each right after one that does, so
that none is shared.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from bench.dataset import Dataset, open_dataset
from bench.figure import Figure, flatness
from bench.load import raw_request
from bench.ratio import rates
from bench.run import Run
from bench.servers import RunningServer, empty_server, logged_in, started

ROUNDS = 21  # many short ones, as in moves.py
REQUESTS = 400
FLAT_PERCENT = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    what: str
    path: str
    percent: float  # of the empty handler's rate, at least


PAGES = (
    Page(what="versions page of 20, exact total", path="/versions?limit=20", percent=22),
    Page(
        what="jobs page of 10, failed ones, exact total", path="?status=11&per_page=10", percent=30
    ),
    Page(
        what="jobs page of 10, live ones, exact total", path="?status=7,8&per_page=10", percent=30
    ),
)


def measure(run: Run) -> list[Figure]:
    datasets = [open_dataset(run, size, may_be_shared=True) for size in run.sizes]
    if run.database:  # which each request asks, if only whether something was committed
        return _measure(run, {d.size: d.server() for d in datasets}, run.on_which)
    return [
        *_measure(run, {d.size: d.server() for d in datasets}, ""),
        *_measure(
            run, {d.size: _forgetting(d) for d in datasets}, ", right after a commit elsewhere"
        ),
        *_measure(
            run, {d.size: _forgetting(d, "--lists") for d in datasets}, ", right after a commit"
        ),
    ]


@contextmanager
def _forgetting(dataset: Dataset, *flags: str) -> Iterator[RunningServer]:
    command = [sys.executable, "-m", "bench.forgetting", "--data", str(dataset.data), *flags]
    with started([*command, *dataset.flags]) as (process, port, seconds):
        yield logged_in(process.pid, port, dataset.data, ready_seconds=seconds)


def _measure(
    run: Run, starts: dict[int, AbstractContextManager[RunningServer]], when: str
) -> list[Figure]:
    rounds, requests = run.rounds(ROUNDS), run.requests(REQUESTS)
    figures = []
    with ExitStack() as opened:
        empty = opened.enter_context(empty_server())
        servers = {size: opened.enter_context(start) for size, start in starts.items()}
        for page in PAGES:
            calls = {
                size: (
                    server,
                    [
                        raw_request(
                            "GET",
                            server.port,
                            f"/v1/{server.project_id}/training-jobs{page.path}",
                            {"X-Auth-Token": server.token},
                        )
                    ],
                )
                for size, server in servers.items()
            }
            found = rates(run, page.what, empty, calls, rounds=rounds, requests=requests)
            figures += [
                Figure(
                    what=f"{page.what}{when}, of the empty handler",
                    rows=size,
                    value=rate.percent_of_empty,
                    unit="%",
                    how=f"median of {rounds} pairs of {requests:,};"
                    f" {rate.per_cpu_second:,.0f} per CPU-second{run.of_whom}",
                    at_least=None if run.database else page.percent,
                )
                for size, rate in found.items()
            ]
            if len(found) > 1:
                values = [rate.percent_of_empty for rate in found.values()]
                what = f"{page.what}{when}"
                figures.append(flatness(what, values, sizes=run.sizes, at_most=FLAT_PERCENT))
    return figures
