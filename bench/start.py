"""From the command to the first answer, and what a server holds while nothing happens."""

import statistics
import tempfile
from pathlib import Path

from bench.dataset import open_dataset
from bench.figure import Figure
from bench.load import cpu_seconds, resident_mib
from bench.run import Run
from bench.servers import muster_server

STARTS = 5
SECONDS = 1.0
MEMORY_MIB = 150


def measure(run: Run) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory() as folder,
        run.told("first start"),
        muster_server(Path(folder)) as server,
    ):
        first_seconds = server.ready_seconds
    return [
        Figure(
            what="first start to ready",
            value=first_seconds,
            unit="s",
            how="makes account, keys and database; once",
        ),
        *_starts(run, run.largest),
    ]


def _starts(run: Run, size: int) -> list[Figure]:
    dataset = open_dataset(run, size)
    seconds, cpu, memory = [], [], []
    for _start in run.track(range(STARTS), "starts"):
        with dataset.server() as server:
            cpu.append(cpu_seconds(server.pid))
            seconds.append(server.ready_seconds)
            memory.append(resident_mib(server.pid))
    return [
        Figure(
            what="start to ready",
            rows=size,
            value=statistics.median(seconds),
            unit="s",
            how=f"median of {STARTS} starts, modules compiled before;"
            f" {statistics.median(cpu):.2f} CPU-seconds, log-in included",
            at_most=SECONDS,
        ),
        Figure(
            what="idle memory",
            rows=size,
            value=statistics.median(memory),
            unit="MiB",
            how="resident, after log-in",
            at_most=MEMORY_MIB,
        ),
    ]
