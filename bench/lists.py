"""Creates from many clients, and the two lists over what they made."""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figure import Figure
from bench.load import raw_request, run_load
from bench.servers import RunningServer, empty_server, muster_server

CREATES = 3_000
CREATE_CLIENTS = 64
ROUNDS = 5
REQUESTS = 1_000
CLIENTS = 16

# A flavor that fits, on a pool whose one node is always full: what is created stays queued.
INVENTORY = """
[machine]
gpus = 1
[[flavors]]
code = "bench.gpu"
cpus = 1
memory_gib = 1
gpus = 1
[[pools]]
name = "bench"
flavor = "bench.gpu"
count = 1
"""
SLEEPER = b"import time\ntime.sleep(3600)\n"


def measure(_: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "inventory.toml").write_text(INVENTORY)
        flags = ("--inventory", str(folder / "inventory.toml"))
        with muster_server(folder / "data", *flags) as muster, empty_server() as empty:
            creates = _creates(muster)
            pages = [
                _page(muster, empty, "versions page of 20, exact total", "versions?limit=20", 20),
                _page(muster, empty, "jobs page of 10 by status", "?status=7,8&per_page=10", 25),
            ]
            stop_all(muster)
        return [creates, *pages]


def _creates(muster: RunningServer) -> Figure:
    with muster.client() as client:
        client.put("/objects/bench/code/main.py", content=SLEEPER).raise_for_status()
        specs = client.get(f"/v1/{muster.project_id}/job/resource-specs").json()["specs"]
    spec_id = next(spec["spec_id"] for spec in specs if spec["spec_code"] == "bench.gpu")
    requests = [
        raw_request(
            "POST",
            muster.port,
            f"/v1/{muster.project_id}/training-jobs",
            {"X-Auth-Token": muster.token},
            json.dumps(
                {
                    "job_name": f"bench-{number}",
                    "config": {
                        "worker_server_num": 1,
                        "app_url": "/bench/code/",
                        "boot_file_url": "/bench/code/main.py",
                        "spec_id": spec_id,
                        "pool_id": f"bench-{muster.project_id}",
                    },
                }
            ).encode(),
        )
        for number in range(CREATES)
    ]
    load = run_load(muster.pid, muster.port, requests, clients=CREATE_CLIENTS)
    return Figure(
        what="durable creates",
        value=load.per_second,
        unit="/s",
        how=f"{CREATES:,} over HTTP, {CREATE_CLIENTS} clients; p99 {load.p99_ms:.0f} ms;"
        f" {load.per_cpu_second:,.0f} per CPU-second",
        at_least=2_000,
    )


def _page(
    muster: RunningServer, empty: RunningServer, what: str, path: str, percent: float
) -> Figure:
    separator = "" if path.startswith("?") else "/"
    call = raw_request(
        "GET",
        muster.port,
        f"/v1/{muster.project_id}/training-jobs{separator}{path}",
        {"X-Auth-Token": muster.token},
    )
    nothing = raw_request("GET", empty.port, "/", {})
    ratios = []
    for _round in range(ROUNDS):
        base = run_load(empty.pid, empty.port, [nothing] * REQUESTS, clients=CLIENTS)
        own = run_load(muster.pid, muster.port, [call] * REQUESTS, clients=CLIENTS)
        ratios.append(100 * own.per_cpu_second / base.per_cpu_second)
    return Figure(
        what=f"{what}, of the empty handler",
        value=statistics.median(ratios),
        unit="%",
        how=f"median of {ROUNDS} pairs, {CREATES:,} versions",
        at_least=percent,
    )


def stop_all(muster: RunningServer, workspace_ids: Sequence[str] = ("0",)) -> None:
    """One of them runs; its process must not outlive the measurement."""
    jobs = f"/v1/{muster.project_id}/training-jobs"
    pool = f"/v2/{muster.project_id}/statistics/pools/bench-{muster.project_id}/workloads"
    with muster.client() as client:
        for workspace_id in workspace_ids:
            query: dict[str, str | int] = {"per_page": 1000, "workspace_id": workspace_id}
            while found := client.get(jobs, params=query).json()["jobs"]:
                for job in found:
                    client.delete(f"{jobs}/{job['job_id']}")
        while client.get(pool).json()["statistics"]["resources"]["cpu"]["used"]:
            time.sleep(0.05)
