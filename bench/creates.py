"""Durable creates over HTTP, from many clients at once."""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figure import Figure
from bench.load import raw_request, run_load
from bench.run import Run
from bench.servers import RunningServer, muster_server

CREATES = 3_000
CLIENTS = 64
PER_SECOND = 3_000
PER_SECOND_SHARED = 2_000  # on PostgreSQL

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


def measure(run: Run) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name, run.told("durable creates"):
        folder = Path(name)
        (folder / "inventory.toml").write_text(INVENTORY)
        flags = ["--inventory", str(folder / "inventory.toml")]
        if run.database:
            flags += ["--database", run.database]
        with muster_server(folder / "data", *flags) as muster:
            figure = _creates(run, muster)
            stop_all(muster)
        return [figure]


def _creates(run: Run, muster: RunningServer) -> Figure:
    with muster.client() as client:
        client.put("/objects/bench/code/main.py", content=SLEEPER).raise_for_status()
        specs = client.get(f"/v1/{muster.project_id}/job/resource-specs").json()["specs"]
    spec_id = next(spec["spec_id"] for spec in specs if spec["spec_code"] == "bench.gpu")
    count = run.requests(CREATES)
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
        for number in range(count)
    ]
    load = run_load(muster.pid, muster.port, requests, clients=CLIENTS)
    store = "PostgreSQL" if run.database else "SQLite"
    return Figure(
        what=f"durable creates, {CLIENTS} clients, {store}",
        value=load.per_second,
        unit="/s",
        how=f"{count:,} over HTTP; p99 {load.p99_ms:.0f} ms;"
        f" {load.per_cpu_second:,.0f} per CPU-second",
        at_least=PER_SECOND_SHARED if run.database else PER_SECOND,
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
