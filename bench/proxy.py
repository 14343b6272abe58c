"""What passing a request on adds to it, what a core passes on, and what idle websockets hold."""

import asyncio
import http.client
import statistics
import sys
import time

from websockets.asyncio.client import connect

from bench.figure import Figure
from bench.load import cpu_seconds, resident_mib
from bench.passing import DOWN_BYTES
from bench.run import Run
from bench.servers import started

PASSED = "/services/one"
ROUNDS = 10
REQUESTS = 200  # a round, on either way
BODY = bytes(1000)
LARGE_ROUNDS = 5
WEBSOCKETS = 1_000
SETTLE_SECONDS = 1.0


def measure(run: Run) -> list[Figure]:
    python = [sys.executable, "-m", "bench.passing"]
    with (
        started([*python, "program"]) as (_, program, _),
        started([*python, "front", str(program)]) as (front, port, _),
    ):
        return [
            *_small(run, program, front.pid, port),
            *_large(run, front.pid, port),
            _idle(run, front.pid, port),
        ]


def _small(run: Run, program: int, pid: int, port: int) -> list[Figure]:
    """Taken in turns, so that both ways meet the same moments of the machine."""
    added: dict[str, list[float]] = {"GET": [], "POST": []}
    direct: dict[str, list[float]] = {"GET": [], "POST": []}
    cpu_ms: dict[str, list[float]] = {"GET": [], "POST": []}
    count = run.requests(REQUESTS)
    for _round in run.track(range(run.rounds(ROUNDS)), "small requests"):
        for method in added:
            plain = _median_ms(program, method, "/", count)
            used = cpu_seconds(pid)
            passed = _median_ms(port, method, f"{PASSED}/", count)
            cpu_ms[method].append((cpu_seconds(pid) - used) / count * 1000)
            direct[method].append(plain)
            added[method].append(passed - plain)
    return [
        Figure(
            what=f"proxy: added to a small {method}",
            value=statistics.median(added[method]),
            unit="ms",
            how=f"median of {len(added[method])} pairs of rounds, one connection, by the clock;"
            f" the program alone takes {statistics.median(direct[method]):.2f} ms, and the proxy"
            f" {statistics.median(cpu_ms[method]):.2f} ms of CPU",
            at_most=1.0,
        )
        for method in added
    ]


def _median_ms(port: int, method: str, path: str, count: int) -> float:
    client = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        client.request(method, path, body=BODY if method == "POST" else None)
        reply = client.getresponse()
        reply.read()
        taken.append((time.perf_counter() - began) * 1000)
        assert reply.status == 200, reply.status
    client.close()
    return statistics.median(taken)


def _large(run: Run, pid: int, port: int) -> list[Figure]:
    rates: dict[str, list[float]] = {"down": [], "up": []}
    for _round in run.track(range(run.rounds(LARGE_ROUNDS)), "large bodies"):
        for way, rate in rates.items():
            used = cpu_seconds(pid)
            _pass(port, way)
            rate.append(DOWN_BYTES / 1e6 / (cpu_seconds(pid) - used))
    return [
        Figure(
            what=f"proxy: a large body, {way}",
            value=statistics.median(rate),
            unit="MB per CPU-second",
            how=f"median of {len(rate)} bodies of {DOWN_BYTES >> 20} MiB, of the proxy alone",
            at_least=200,
        )
        for way, rate in rates.items()
    ]


def _pass(port: int, way: str) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port)
    body = bytes(DOWN_BYTES) if way == "up" else None
    client.request("PUT" if way == "up" else "GET", f"{PASSED}/{way}", body=body)
    reply = client.getresponse()
    length = 0
    while piece := reply.read(1 << 20):
        length += len(piece)
    assert reply.status == 200, reply.status
    assert way == "up" or length == DOWN_BYTES, length
    client.close()


def _idle(run: Run, pid: int, port: int) -> Figure:
    before = resident_mib(pid)
    with run.told(f"{WEBSOCKETS} idle websockets"):
        grown = asyncio.run(_grown_by_websockets(pid, port)) - before
    return Figure(
        what="proxy: idle websockets",
        value=grown,
        unit="MiB",
        how=f"what {WEBSOCKETS:,} add to the resident memory of the proxy",
        at_most=100,
    )


async def _grown_by_websockets(pid: int, port: int) -> float:
    url = f"ws://127.0.0.1:{port}{PASSED}/"
    opened = []
    try:
        for _ in range(WEBSOCKETS):
            one = await connect(url, proxy=None, compression=None, ping_interval=None)
            opened.append(one)  # one by one: what is open is closed, whatever happens
        await asyncio.sleep(SETTLE_SECONDS)
        return resident_mib(pid)
    finally:
        await asyncio.gather(*(one.close() for one in opened))
