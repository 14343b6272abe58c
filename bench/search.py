"""Search by part of a name: page and exact total; and what it does to the calls beside it."""

import multiprocessing
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.dataset import COMMON_TERM, VERSIONS_A_JOB, name_of, open_dataset
from bench.figure import Figure
from bench.load import download_again_and_again, p99, paced_latencies_ms, raw_request, run_load
from bench.run import Run
from bench.servers import RunningServer
from bench.statistics_call import statistics_calls
from bench.stream import whole_list

SEARCHES = 20
PER_SECOND = 300
PACED_SECONDS = 3.0
PACED_ROUNDS = 5


def measure(run: Run) -> list[Figure]:
    dataset = open_dataset(run, run.largest, may_be_shared=True)
    jobs = dataset.size // VERSIONS_A_JOB
    # The same term is not asked for twice in a row: no answer can be kept from the time before.
    rare = [name_of(jobs * number // SEARCHES)[-6:] for number in range(SEARCHES)]
    common = [COMMON_TERM, "-wiki-", "radiology", "distill"]
    with dataset.server() as server:
        figures = [
            _search(run, server, what, terms, rows=dataset.size, at_most=at_most)
            for what, terms, at_most in (
                ("a rare term", rare, 5.0),
                ("a common term", common, 100.0),
                ("two characters", ["ll", "e4", "a3", "wi"], 250.0),
                ("one character", ["x", "7", "k", "b"], 250.0),
            )
        ]
        figures += _beside(run, server, dataset.size)
    return figures


def _search(
    run: Run,
    server: RunningServer,
    what: str,
    terms: Sequence[str],
    *,
    rows: int,
    at_most: float,
) -> Figure:
    requests = [search_for(server, terms[n % len(terms)]) for n in range(SEARCHES)]
    run_load(server.pid, server.port, requests[:2], clients=1)
    with run.told(f"search for {what}"):
        load = run_load(server.pid, server.port, requests, clients=1)
    return Figure(
        what=f"search for {what}, page and exact total{run.on_which}",
        rows=rows,
        value=load.median_ms,
        unit="ms",
        how=f"median of {SEARCHES} over HTTP, one client, {rows // VERSIONS_A_JOB:,} jobs;"
        f" slowest {max(load.latencies_ms):.3g} ms",
        at_most=run.budget(at_most),
    )


def search_for(server: RunningServer, term: str, *, closes: bool = False) -> bytes:
    headers = {"X-Auth-Token": server.token}
    return raw_request(
        "GET",
        server.port,
        f"/v1/{server.project_id}/training-jobs?per_page=10&search_content={term}",
        headers | {"Connection": "close"} if closes else headers,
    )


def _beside(run: Run, server: RunningServer, rows: int) -> list[Figure]:
    call = statistics_calls(server)[0]
    alone, beside = [], []
    for _round in run.track(range(run.rounds(PACED_ROUNDS)), "the statistics call beside others"):
        alone.append(_paced_p99(server, call))
        with (
            _again_and_again(server, search_for(server, "x", closes=True)),
            _again_and_again(server, whole_list(server)),
        ):
            beside.append(_paced_p99(server, call))
    how = f"median of {len(beside)} rounds of {PACED_SECONDS:g} s, {PER_SECOND} a second"
    return [
        Figure(
            what=f"statistics call beside one search and one stream, p99{run.on_which}",
            rows=rows,
            value=statistics.median(beside),
            unit="ms",
            how=f"{how}; {statistics.median(alone):.3g} ms alone",
            at_most=run.budget(5),
        )
    ]


def _paced_p99(server: RunningServer, call: bytes) -> float:
    return p99(paced_latencies_ms(server.port, call, per_second=PER_SECOND, seconds=PACED_SECONDS))


@contextmanager
def _again_and_again(server: RunningServer, request: bytes) -> Iterator[None]:
    process = multiprocessing.Process(
        target=download_again_and_again, args=(server.port, request), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.kill()  # it holds nothing, and would tell at length how it was interrupted
        process.join()
