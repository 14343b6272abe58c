"""A plain HTTP load from one process: keep-alive connections, one request at a time on each.

It counts the server's CPU seconds, not its own, so its own speed does not matter.
"""

import asyncio
import socket
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of one load."""

    requests: int
    wall_seconds: float
    cpu_seconds: float  # of the server
    latencies_ms: Sequence[float]

    @property
    def per_cpu_second(self) -> float:
        return self.requests / self.cpu_seconds

    @property
    def per_second(self) -> float:
        return self.requests / self.wall_seconds

    @property
    def median_ms(self) -> float:
        return statistics.median(self.latencies_ms)

    @property
    def p99_ms(self) -> float:
        return p99(self.latencies_ms)


def p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def cpu_seconds(pid: int) -> float:
    """What a process and those that it started have used, those that have ended left out.

    Threads tell it to the nanosecond; the sum of the process counts in hundredths of a second,
    which is much of a short load.
    """
    total = 0
    for process in (pid, *_descendants(pid)):
        for thread in _threads(process):
            try:
                total += int((thread / "schedstat").read_bytes().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
    return total / 1e9


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has just ended


def _descendants(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return children + [below for child in children for below in _descendants(child)]


def resident_mib(pid: int) -> float:
    return _memory_mib(pid, "VmRSS")


def peak_resident_mib(pid: int) -> float:
    """Since the start, or the last `forget_peak`."""
    return _memory_mib(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no resident memory")


def raw_request(
    method: str, port: int, path: str, headers: dict[str, str], body: bytes = b""
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def run_load(
    pid: int, port: int, requests: Sequence[bytes], *, clients: int, expected: int = 200
) -> Load:
    """Send every request once, shared out among the clients."""
    return asyncio.run(_run(pid, port, requests, clients, expected))


async def _run(pid: int, port: int, requests: Sequence[bytes], clients: int, expected: int) -> Load:
    latencies: list[float] = []
    pending = iter(requests)
    cpu_before, began = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*(_ask(port, pending, latencies, expected) for _ in range(clients)))
    return Load(
        requests=len(requests),
        wall_seconds=time.perf_counter() - began,
        cpu_seconds=cpu_seconds(pid) - cpu_before,
        latencies_ms=latencies,
    )


async def _ask(
    port: int, pending: Iterator[bytes], latencies: list[float], expected: int = 200
) -> None:
    """One client, which takes what it asks of those that are pending for all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for request in pending:
            began = time.perf_counter()
            writer.write(request)
            status = await _read_reply(reader)
            latencies.append((time.perf_counter() - began) * 1000)
            assert status == expected, f"the server answered {status}"
    finally:
        writer.close()
        await writer.wait_closed()


@dataclass(frozen=True, slots=True)
class OngoingLoad:
    """A load that goes on by itself, of which any window can be looked at."""

    pid: int
    _latencies: list[float]

    async def window(self, seconds: float) -> Load:
        """What comes of it from now on."""
        self._latencies.clear()
        cpu_before, began = cpu_seconds(self.pid), time.perf_counter()
        await asyncio.sleep(seconds)
        return Load(
            requests=len(self._latencies),
            wall_seconds=time.perf_counter() - began,
            cpu_seconds=cpu_seconds(self.pid) - cpu_before,
            latencies_ms=tuple(self._latencies),
        )


@asynccontextmanager
async def ongoing_load(
    pid: int, port: int, requests: Sequence[bytes], *, clients: int
) -> AsyncIterator[OngoingLoad]:
    """Send the requests over and over, shared out among the clients, until it is left."""
    latencies: list[float] = []
    pending = cycle(requests)
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(_ask(port, pending, latencies)) for _ in range(clients)]
        try:
            yield OngoingLoad(pid, latencies)
        finally:
            for client in asking:
                client.cancel()


async def _read_reply(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lowered = head.lower()
    at = lowered.index(b"content-length:") + len(b"content-length:")
    await reader.readexactly(int(lowered[at : lowered.index(b"\r\n", at)]))
    return status


def paced_latencies_ms(
    port: int, request: bytes, *, per_second: float, seconds: float
) -> list[float]:
    """One client that asks at a steady pace, whatever the server does otherwise."""
    return asyncio.run(_paced(port, request, per_second, seconds))


async def _paced(port: int, request: bytes, per_second: float, seconds: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    latencies = []
    began = time.perf_counter()
    try:
        while (at := time.perf_counter()) < began + seconds:
            writer.write(request)
            await _read_reply(reader)
            latencies.append((time.perf_counter() - at) * 1000)
            await asyncio.sleep(max(0.0, at + 1 / per_second - time.perf_counter()))
    finally:
        writer.close()
        await writer.wait_closed()
    return latencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    first_byte_ms: float
    mebibytes: float  # as they came, head and framing included


def download(port: int, request: bytes) -> Download:
    """A whole answer, however long. The request must ask for the connection to be closed."""
    size, first = 0, 0.0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.perf_counter()
        connection.sendall(request)
        while part := connection.recv(1 << 18):
            if not size:
                first = time.perf_counter() - began
                assert part.startswith(b"HTTP/1.1 200 "), part[:200]
            size += len(part)
    return Download(first_byte_ms=first * 1000, mebibytes=size / 2**20)


def download_again_and_again(port: int, request: bytes) -> None:
    """Until this process is ended. For a process of its own, beside what is measured."""
    while True:
        download(port, request)
