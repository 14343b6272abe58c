"""From the command to the first answer, and what a server holds while nothing happens."""

import statistics
import tempfile
from pathlib import Path

from bench.figure import Figure
from bench.load import resident_mib
from bench.servers import muster_server

STARTS = 5


def measure(_: int) -> list[Figure]:
    seconds, memory = [], []
    with tempfile.TemporaryDirectory() as folder:
        with muster_server(Path(folder)) as server:
            first_seconds = server.ready_seconds
        for _start in range(STARTS):
            with muster_server(Path(folder)) as server:
                seconds.append(server.ready_seconds)
                memory.append(resident_mib(server.pid))
    how = f"median of {STARTS} starts on a folder that is there"
    return [
        Figure(
            what="first start to ready",
            value=first_seconds,
            unit="s",
            how="makes account, keys and database; once",
        ),
        Figure(
            what="start to ready", value=statistics.median(seconds), unit="s", how=how, at_most=1
        ),
        Figure(
            what="idle memory",
            value=statistics.median(memory),
            unit="MiB",
            how="resident, after log-in",
            at_most=100,
        ),
    ]
