"""Calls over a long history: 100,000 jobs that have ended, put there by the store itself."""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from bench.figure import Figure
from bench.load import raw_request, run_load
from bench.servers import RunningServer, empty_server, muster_server
from muster.domain.command import Run
from muster.domain.phase import Event, Reason
from muster.domain.pool import PUBLIC_PARTITION, public_pool_id
from muster.domain.resources import Resources
from muster.domain.workload import WorkloadType
from muster.store import jobs, workloads
from muster.store.sqlite import SqliteDatabase
from muster.store.transaction import Transaction

JOBS = 100_000
JOBS_A_COMMIT = 1_000
ROUNDS = 5
REQUESTS = 1_000
CLIENTS = 16
AT_LEAST = 15.0

# Every tenth failed.
_ENDINGS = ((Event.TASK_FAILED, Reason.TASK_EXIT), *[(Event.SUCCEEDED, Reason.NONE)] * 9)


def measure(_: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "data"
        with muster_server(data) as muster:
            project_id = muster.project_id
        asyncio.run(_fill(data / "muster.db", project_id))
        with muster_server(data) as muster, empty_server() as empty:
            return _measure(muster, empty)


def _measure(muster: RunningServer, empty: RunningServer) -> list[Figure]:
    base = f"/v2/{muster.project_id}"
    searched = {"limit": 10, "filters": [{"key": "phase", "operator": "in", "value": ["Failed"]}]}
    with muster.client() as client:
        search = client.post(f"{base}/training-job-searches", json={"limit": 10}).raise_for_status()
        some_id = search.json()["items"][-1]["metadata"]["id"]
    token = {"X-Auth-Token": muster.token}
    calls = {
        "list pools": raw_request("GET", muster.port, f"{base}/pools", token),
        "search of v2 jobs, page of 10": raw_request(
            "POST", muster.port, f"{base}/training-job-searches", token, b'{"limit": 10}'
        ),
        "the same by phase": raw_request(
            "POST",
            muster.port,
            f"{base}/training-job-searches",
            token,
            json.dumps(searched).encode(),
        ),
        "show a v2 job": raw_request("GET", muster.port, f"{base}/training-jobs/{some_id}", token),
    }
    return [_compare(muster, empty, what, call) for what, call in calls.items()]


def _compare(muster: RunningServer, empty: RunningServer, what: str, call: bytes) -> Figure:
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
        how=f"median of {ROUNDS} pairs of {REQUESTS:,}, at {JOBS:,} jobs",
        at_least=AT_LEAST,
    )


async def _fill(file: Path, project_id: str) -> None:
    database = SqliteDatabase(file)
    try:
        for first in range(0, JOBS, JOBS_A_COMMIT):
            await database.write(_add_jobs, project_id, first)
    finally:
        database.close()


def _add_jobs(tx: Transaction, project_id: str, first: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    for number in range(first, first + JOBS_A_COMMIT):
        job_id = jobs.insert_job(
            tx,
            project_id=project_id,
            workspace_id="0",
            name=f"history-{number}",
            description="",
            creator_name="bench",
            engine_type=100,
            now_ms=now_ms,
        )
        workload_id, created_at_ms = workloads.insert_workload(
            tx,
            uid=f"{number + 1:032x}",
            project_id=project_id,
            workspace_id="0",
            pool_id=public_pool_id(project_id),
            partition=PUBLIC_PARTITION,
            type_=WorkloadType.TRAIN,
            name=f"history-{number}",
            flavor_code="modelarts.vm.cpu.1u",
            task=Resources(cpu_millis=1000, memory_mib=1024),
            task_count=1,
            priority=1,
            run=Run(job_name=f"history-{number}", code="0" * 64, boot_file="main.py"),
            now_ms=now_ms,
        )
        jobs.insert_version(
            tx,
            jobs.get_job(tx.connection, project_id, job_id),
            workload_id=workload_id,
            pool_id="",
            pre_version_id=None,
            flavor_code="modelarts.vm.cpu.1u",
            gpu_count=0,
            npu_count=0,
            engine_type=100,
            config='{"app_url": "/bench/code/", "boot_file_url": "/bench/code/main.py"}',
            created_at_ms=created_at_ms,
        )
        moved = workloads.get_workload(tx.connection, workload_id)
        ending, reason = _ENDINGS[number % len(_ENDINGS)]
        for event in (Event.ENQUEUED, Event.PLACED, Event.STARTED, ending):
            moved = workloads.move_workload(
                tx,
                moved,
                event,
                now_ms=now_ms,
                actor="bench",
                reason=reason if event is ending else Reason.NONE,
            )
