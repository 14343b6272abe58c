"""Servers to measure: muster itself, and the empty handler on the same web server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bench.run import CACHE

END_SECONDS_MAX = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    pid: int
    port: int
    data: Path
    ready_seconds: float
    project_id: str = ""
    token: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"X-Auth-Token": self.token}, timeout=60, trust_env=False
        )


@contextmanager
def muster_server(data: Path, *flags: str) -> Iterator[RunningServer]:
    """A real `muster serve` on any free port, logged in to."""
    command = [sys.executable, "-m", "muster", "serve", "--port", "0"]
    command += ["--data", str(data), "--log-level", "warning", *flags]
    with started(command) as (process, port, seconds):
        yield logged_in(process.pid, port, data, ready_seconds=seconds)


@contextmanager
def empty_server() -> Iterator[RunningServer]:
    """An ASGI handler that does nothing, on the web server and event loop that muster uses."""
    with started([sys.executable, "-m", "bench.empty"]) as (process, port, seconds):
        yield RunningServer(pid=process.pid, port=port, data=Path(), ready_seconds=seconds)


def logged_in(pid: int, port: int, data: Path, *, ready_seconds: float) -> RunningServer:
    """A server that runs on a data folder, with a token of its first administrator."""
    credentials: dict[str, Any] = msgspec.json.decode((data / "credentials.json").read_bytes())
    project_id = credentials["project_id"]
    user = {
        "name": credentials["user"],
        "password": credentials["password"],
        "domain": {"name": credentials["domain"]},
    }
    auth = {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"id": project_id}},
    }
    reply = httpx.post(
        f"http://127.0.0.1:{port}/v3/auth/tokens", json={"auth": auth}, trust_env=False, timeout=60
    )
    return RunningServer(
        pid=pid,
        port=port,
        data=data,
        ready_seconds=ready_seconds,
        project_id=project_id,
        token=reply.headers["X-Subject-Token"],
    )


@contextmanager
def started(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int, float]]:
    """A server process that says where it is `ready on`: (it, its port, seconds until then)."""
    began = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own commands
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
        start_new_session=True,  # Ctrl-C is ours; servers are ended below, each after its work
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "ready on" in line:
                    break
            else:
                raise RuntimeError(f"{' '.join(command)} did not become ready")
            seconds = time.perf_counter() - began
            yield process, int(line.rsplit(":", 1)[1]), seconds
        finally:
            end(process)


def end(process: "subprocess.Popen[Any]") -> None:
    process.terminate()
    try:
        process.wait(timeout=END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment() -> dict[str, str]:
    """Of a server as its users start it: without our settings, with its modules compiled once."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MUSTER_")}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables | {"PYTHONPYCACHEPREFIX": str(CACHE / "bytecode")}
