"""A plain HTTP load from one process: keep-alive connections, one request at a time on each.

It counts the server's CPU seconds, not its own, so its own speed does not matter.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
        return sorted(self.latencies_ms)[int(len(self.latencies_ms) * 0.99)]


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, its ended children left out."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
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

    async def client() -> None:
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

    cpu_before, began = cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(
        requests=len(requests),
        wall_seconds=time.perf_counter() - began,
        cpu_seconds=cpu_seconds(pid) - cpu_before,
        latencies_ms=latencies,
    )


async def _read_reply(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lowered = head.lower()
    at = lowered.index(b"content-length:") + len(b"content-length:")
    await reader.readexactly(int(lowered[at : lowered.index(b"\r\n", at)]))
    return status
