"""`limit=0`: the whole list in one answer."""

import statistics

from bench.dataset import open_dataset
from bench.figure import Figure
from bench.load import (
    cpu_seconds,
    download,
    forget_peak,
    peak_resident_mib,
    raw_request,
    resident_mib,
)
from bench.run import Run
from bench.servers import RunningServer

STREAMS = 3


def measure(run: Run) -> list[Figure]:
    dataset = open_dataset(run, run.largest, may_be_shared=True)
    first_ms, rates, sizes = [], [], []
    with dataset.server() as server:
        request = whole_list(server)
        before = resident_mib(server.pid)
        forget_peak(server.pid)
        for _stream in run.track(range(STREAMS), "limit=0"):
            used = cpu_seconds(server.pid)
            got = download(server.port, request)
            rates.append(got.mebibytes / (cpu_seconds(server.pid) - used))
            first_ms.append(got.first_byte_ms)
            sizes.append(got.mebibytes)
        grown = peak_resident_mib(server.pid) - before
    how = f"median of {STREAMS} streams of {sizes[0]:,.0f} MiB, 80 % of the rows{run.of_whom}"
    return [
        Figure(
            what=f"limit=0{run.on_which}: memory",
            rows=dataset.size,
            value=grown,
            unit="MiB",
            how=f"most it grew by, over {STREAMS} streams",
            at_most=run.budget(25),
        ),
        Figure(
            what=f"limit=0{run.on_which}: first byte",
            rows=dataset.size,
            value=statistics.median(first_ms),
            unit="ms",
            how=how,
            at_most=run.budget(20),
        ),
        Figure(
            what=f"limit=0{run.on_which}: rate",
            rows=dataset.size,
            value=statistics.median(rates),
            unit="MiB per CPU-second",
            how=how,
            at_least=run.budget(120),
        ),
    ]


def whole_list(server: RunningServer) -> bytes:
    return raw_request(
        "GET",
        server.port,
        f"/v1/{server.project_id}/training-jobs/versions?limit=0",
        {"X-Auth-Token": server.token, "Connection": "close"},
    )
