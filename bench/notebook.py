"""From the request for a notebook to its first page, its environment being there already."""

import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from bench.figure import Figure
from bench.run import NotMeasured, Run
from bench.servers import muster_server

ROUNDS = 7
LOOK_SECONDS = 0.02
WAIT_SECONDS = 60.0
PAGE_SECONDS = 5.0


def measure(run: Run) -> list[Figure]:
    if find_spec("jupyterlab") is None:
        raise NotMeasured("JupyterLab is not installed; it comes with the extra `notebook`.")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        muster_server(Path(folder)) as server,
        server.client() as client,
    ):
        base = f"/v1/{server.project_id}"
        _first_page(client, base)  # compiles what is imported
        created, started = [], []
        for _round in run.track(range(run.rounds(ROUNDS)), "notebooks"):
            seconds, again_seconds = _first_page(client, base)
            created.append(seconds)
            started.append(again_seconds)
    return [
        Figure(
            what="notebook: from create to its first page",
            value=statistics.median(created),
            unit="s",
            how=f"median of {len(created)}; {min(created):.2f} to {max(created):.2f} s;"
            " modules compiled before",
            at_most=PAGE_SECONDS,
        ),
        Figure(
            what="notebook: from start to its first page",
            value=statistics.median(started),
            unit="s",
            how="likewise, of the same notebook after a stop",
        ),
    ]


def _first_page(client: httpx.Client, base: str) -> tuple[float, float]:
    """Seconds from the create, and from a later start, to the whole page of JupyterLab."""
    [image] = _json(client.get(f"{base}/images", params={"type": "BUILD_IN"}))["data"]
    body = {
        "name": "measured",
        "image_id": image["id"],
        "flavor": "modelarts.vm.cpu.1u",
        "volume": {"category": "EFS", "ownership": "MANAGED"},
    }
    began = time.perf_counter()
    path = f"{base}/notebooks/{_json(client.post(f'{base}/notebooks', json=body))['id']}"
    _open(client, path)
    seconds = time.perf_counter() - began
    client.post(f"{path}/stop")
    _wait(client, path, "STOPPED")
    began = time.perf_counter()
    client.post(f"{path}/start")
    _open(client, path)
    again_seconds = time.perf_counter() - began
    client.delete(path)
    deadline = time.monotonic() + WAIT_SECONDS
    while client.get(path).status_code == 200:
        assert time.monotonic() < deadline, "it was not deleted in time"
        time.sleep(LOOK_SECONDS)
    return seconds, again_seconds


def _open(client: httpx.Client, path: str) -> None:
    shown = _wait(client, path, "RUNNING")
    page = httpx.get(shown["url"], params={"token": shown["token"]}, trust_env=False, timeout=30)
    assert page.status_code == 200, page.text
    assert "JupyterLab" in page.text


def _wait(client: httpx.Client, path: str, status: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while (shown := _json(client.get(path)))["status"] != status:
        assert not shown["status"].endswith("FAILED"), shown["fail_reason"]
        assert time.monotonic() < deadline, f"it was not {status} in time"
        time.sleep(LOOK_SECONDS)
    return shown


def _json(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found
