"""Pages of the two lists, with their exact totals, against the empty handler, by size."""

from contextlib import ExitStack
from dataclasses import dataclass

from bench.dataset import open_dataset
from bench.figure import Figure, flatness
from bench.load import raw_request
from bench.ratio import rates
from bench.run import Run
from bench.servers import empty_server

ROUNDS = 5
REQUESTS = 1_000
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
    datasets = [open_dataset(run, size) for size in run.sizes]
    rounds, requests = run.rounds(ROUNDS), run.requests(REQUESTS)
    figures = []
    with ExitStack() as opened:
        empty = opened.enter_context(empty_server())
        servers = {d.size: opened.enter_context(d.server()) for d in datasets}
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
                    what=f"{page.what}, of the empty handler",
                    rows=size,
                    value=rate.percent_of_empty,
                    unit="%",
                    how=f"median of {rounds} pairs of {requests:,};"
                    f" {rate.per_cpu_second:,.0f} per CPU-second",
                    at_least=page.percent,
                )
                for size, rate in found.items()
            ]
            if len(found) > 1:
                values = [rate.percent_of_empty for rate in found.values()]
                figures.append(flatness(page.what, values, sizes=run.sizes, at_most=FLAT_PERCENT))
    return figures
