"""What the check of a workspace's quotas adds to a create: with and without, in one server."""

import json
import statistics
import tempfile
from itertools import count
from pathlib import Path

from bench.creates import INVENTORY, SLEEPER, stop_all
from bench.figure import Figure
from bench.load import raw_request, run_load
from bench.run import Run
from bench.servers import RunningServer, muster_server

ROUNDS = 9
CREATES = 300
CLIENTS = 16
LARGE = 1_000_000
RESOURCES = ("training.jobs", "training.gpus", "training.cpus", "training.memory")


def measure(run: Run) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "inventory.toml").write_text(INVENTORY)
        flags = ("--inventory", str(folder / "inventory.toml"))
        with muster_server(folder / "data", *flags) as muster:
            workspaces = _make_workspaces(muster)
            figure = _compare(run, muster, *workspaces)
            stop_all(muster, workspaces)
    return [figure]


def _make_workspaces(muster: RunningServer) -> tuple[str, str]:
    """(one without quotas, one with)."""
    with muster.client() as client:
        workspaces = f"/v1/{muster.project_id}/workspaces"
        free, bound = (
            client.post(workspaces, json={"name": name}).raise_for_status().json()["id"]
            for name in ("free", "bound")
        )
        quotas = [{"resource": resource, "quota": LARGE} for resource in RESOURCES]
        client.put(f"{workspaces}/{bound}/quotas", json={"quotas": quotas}).raise_for_status()
    return free, bound


def _compare(run: Run, muster: RunningServer, free: str, bound: str) -> Figure:
    with muster.client() as client:
        client.put("/objects/bench/code/main.py", content=SLEEPER).raise_for_status()
        specs = client.get(f"/v1/{muster.project_id}/job/resource-specs").json()["specs"]
    spec_id = next(spec["spec_id"] for spec in specs if spec["spec_code"] == "bench.gpu")
    numbers = count()
    ratios = []
    for round_ in run.track(range(run.rounds(ROUNDS)), "quotas"):
        rates = {
            workspace: run_load(
                muster.pid,
                muster.port,
                [_create(muster, workspace, spec_id, next(numbers)) for _ in range(CREATES)],
                clients=CLIENTS,
            ).per_cpu_second
            # In turns: what comes later finds more in the store.
            for workspace in ((free, bound) if round_ % 2 else (bound, free))
        }
        ratios.append(100 * (rates[free] / rates[bound] - 1))
    return Figure(
        what="quota check, added to a create",
        value=statistics.median(ratios),
        unit="%",
        how=f"CPU seconds, median of {len(ratios)} pairs of {CREATES}, {len(RESOURCES)} quotas",
        at_most=5,
    )


def _create(muster: RunningServer, workspace_id: str, spec_id: int, number: int) -> bytes:
    body = {
        "job_name": f"quota-{number}",
        "workspace_id": workspace_id,
        "config": {
            "worker_server_num": 1,
            "app_url": "/bench/code/",
            "boot_file_url": "/bench/code/main.py",
            "spec_id": spec_id,
            "pool_id": f"bench-{muster.project_id}",
        },
    }
    path = f"/v1/{muster.project_id}/training-jobs"
    token = {"X-Auth-Token": muster.token}
    return raw_request("POST", muster.port, path, token, json.dumps(body).encode())
