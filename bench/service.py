"""What deploying a model takes, what a request through its service costs, what an update does."""

import http.client
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import httpx

from bench.figure import Figure
from bench.run import Run
from bench.servers import RunningServer, muster_server

ROUNDS: Final = 10
REQUESTS: Final = 100  # a round, on either way
UPDATES: Final = 3
CLIENTS: Final = 4  # that ask all the while, during an update
LOOK_SECONDS: Final = 0.02
WAIT_SECONDS: Final = 60.0
BODY: Final = b'{"images": [[0, 1, 2, 3]]}'
JSON: Final = {"content-type": "application/json"}
SCRIPT: Final = dedent("""
    from model_service.pytorch_model_service import PTServingBaseService

    class Sum(PTServingBaseService):
        def _inference(self, data):
            return {"sums": [sum(image) for image in data["images"]]}
    """)


def measure(run: Run) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        muster_server(Path(folder)) as server,
        server.client() as client,
    ):
        base = f"/v1/{server.project_id}"
        part = {
            "model_id": _keep_model(client, base),
            "specification": "custom",
            "custom_spec": {"cpu": 0.1, "memory": 100},
            "instance_count": 1,
        }
        body = {"service_name": "measured", "infer_type": "real-time", "config": [part]}
        began = time.perf_counter()
        reply = client.post(f"{base}/services", json=body).raise_for_status()
        path = f"{base}/services/{reply.json()['service_id']}"
        _wait_until_running(client, path)
        deployed_seconds = time.perf_counter() - began
        try:
            figures = [_asked(run, server, path.rpartition("/")[2])]
            figures.append(_updated(run, server, client, path))
        finally:
            client.delete(path)
    deployed = Figure(
        what="service: from deploy to running",
        value=deployed_seconds,
        unit="s",
        how="once, of a model that loads nothing",
    )
    return [deployed, *figures]


def _keep_model(client: httpx.Client, base: str) -> str:
    source = "/bucket-default/measured/"
    client.put(f"/objects{source}customize_service.py", content=SCRIPT).raise_for_status()
    body = {"model_name": "measured", "model_version": "0.0.1", "source_location": source}
    return str(client.post(f"{base}/models", json=body).raise_for_status().json()["model_id"])


def _wait_until_running(client: httpx.Client, path: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while (shown := client.get(path).raise_for_status().json())["status"] != "running":
        assert shown["status"] != "failed", shown["error_msg"]
        assert time.monotonic() < deadline, shown
        time.sleep(LOOK_SECONDS)
    return dict(shown)


def _asked(run: Run, server: RunningServer, service_id: str) -> Figure:
    """Taken in turns, so that both ways meet the same moments of the machine."""
    [file] = (server.data / "jobs").glob("*/task-0/endpoint.json")
    port = int(json.loads(file.read_text())["port"])
    headers = {"X-Auth-Token": server.token}
    count = run.requests(REQUESTS)
    direct, passed = [], []
    for _round in run.track(range(run.rounds(ROUNDS)), "requests to a service"):
        direct.append(_median_ms(port, "/", {}, count))
        passed.append(_median_ms(server.port, f"/services/{service_id}/", headers, count))
    ratios = [one / other for one, other in zip(passed, direct, strict=True)]
    return Figure(
        what="service: a request, against asking the instance itself",
        value=statistics.median(ratios),
        unit="times",
        how=f"median of {len(ratios)} pairs of rounds of {count}, one connection, a script"
        f" that adds up: {statistics.median(direct):.2f} ms alone, {statistics.median(passed):.2f}"
        " ms through muster, login and permission included",
    )


def _median_ms(port: int, path: str, headers: dict[str, str], count: int) -> float:
    client = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        client.request("POST", path, body=BODY, headers=JSON | headers)
        reply = client.getresponse()
        answer = reply.read()
        taken.append((time.perf_counter() - began) * 1000)
        assert (reply.status, answer) == (200, b'{"sums": [6]}'), answer
    client.close()
    return statistics.median(taken)


def _updated(run: Run, server: RunningServer, client: httpx.Client, path: str) -> Figure:
    """Replace the instance again and again while others ask."""
    service_id = path.rpartition("/")[2]
    statuses: Counter[int] = Counter()
    is_over = threading.Event()

    def ask() -> None:
        with server.client() as own:
            while not is_over.is_set():
                reply = own.post(f"/services/{service_id}/", content=BODY, headers=JSON)
                statuses[reply.status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        updates = run.rounds(UPDATES)
        for number in run.track(range(updates), "updates under load"):
            change = {"config": [{"envs": {"NUMBER": str(number)}}]}
            client.put(path, json=change).raise_for_status()
            _wait_until_running(client, path)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    return Figure(
        what="service: requests that an update refuses",
        value=float(sum(statuses.values()) - statuses[200]),
        unit="requests",
        how=f"of {sum(statuses.values())} by {CLIENTS} clients, while {updates} updates replaced"
        " the only instance",
        at_most=0,
    )
