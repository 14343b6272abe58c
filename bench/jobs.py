"""Real jobs: how soon the user's code runs, and how many short ones get through."""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.figure import Figure
from bench.run import Run
from bench.servers import RunningServer, muster_server

IDLE_JOBS = 30
CREATE_CLIENTS = 8
POLL_SECONDS = 0.2

STAMP = b"import sys, time\nsys.stdout.write(repr(time.time()))\n"
SHORT = b"print('done')\n"
TERMINAL = (5, 10, 11, 12)
COMPLETED = 10


def measure(run: Run) -> list[Figure]:
    job_count = run.job_count
    with tempfile.TemporaryDirectory() as folder, muster_server(Path(folder)) as muster:
        with muster.client() as client:
            for name, code in (("stamp", STAMP), ("short", SHORT)):
                client.put(f"/objects/bench/{name}/main.py", content=code).raise_for_status()
            latencies = [
                _submit_to_code_ms(client, muster, number)
                for number in run.track(range(IDLE_JOBS), "submit to user code running")
            ]
        with run.told(f"{job_count:,} short jobs"):
            rates = asyncio.run(_run_short_jobs(muster, job_count))
    first, last = (
        statistics.mean(rates[: len(rates) // 5]),
        statistics.mean(rates[-len(rates) // 5 :]),
    )
    return [
        Figure(
            what="submit to user code running",
            value=statistics.median(latencies),
            unit="ms",
            how=f"median of {IDLE_JOBS} jobs on an idle server, Python's own start included",
            at_most=100,
        ),
        Figure(
            what="short jobs end to end",
            value=statistics.mean(rates),
            unit="/s",
            how=f"{job_count:,} Python jobs, logs and exit codes kept",
            at_least=50,
        ),
        Figure(
            what="last fifth against the first",
            value=100 * last / first,
            unit="%",
            how="of the same run",
            at_least=90,
        ),
    ]


def _body(name: str, code: str) -> dict[str, Any]:
    return {
        "job_name": name,
        "config": {
            "worker_server_num": 1,
            "app_url": f"/bench/{code}/",
            "boot_file_url": f"/bench/{code}/main.py",
            "spec_id": 2,
        },
    }


def _submit_to_code_ms(client: httpx.Client, muster: RunningServer, number: int) -> float:
    path = f"/v1/{muster.project_id}/training-jobs"
    began = time.time()
    job = client.post(path, json=_body(f"idle-{number}", "stamp")).raise_for_status().json()
    version = f"{path}/{job['job_id']}/versions/{job['version_id']}"
    while client.get(version).json()["status"] not in TERMINAL:
        time.sleep(0.02)
    log = client.get(f"{version}/log/files/{job['job_name']}.0").text
    return (float(log) - began) * 1000


async def _run_short_jobs(muster: RunningServer, count: int) -> list[float]:
    """Jobs ended per second, for each fiftieth of the run; every job must have completed."""
    headers = {"X-Auth-Token": muster.token}
    path = f"/v1/{muster.project_id}/training-jobs"
    totals: list[tuple[float, int]] = []
    async with httpx.AsyncClient(
        base_url=muster.url, headers=headers, timeout=60, trust_env=False
    ) as client:
        numbers = iter(range(count))

        async def submit() -> None:
            for number in numbers:
                body = json.dumps(_body(f"short-{number}", "short"))
                (await client.post(path, content=body)).raise_for_status()

        async def ended() -> int:
            query: dict[str, str | int] = {"status": COMPLETED, "per_page": 1}
            total = (await client.get(path, params=query)).json()["job_total_count"]
            return int(total) - IDLE_JOBS

        submitting = [asyncio.create_task(submit()) for _ in range(CREATE_CLIENTS)]
        done = 0
        while done < count:
            done = await ended()
            totals.append((time.perf_counter(), done))
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.gather(*submitting)
    return _rates(totals, count)


def _rates(totals: list[tuple[float, int]], count: int) -> list[float]:
    step = max(1, count // 50)
    rates, (since, before) = [], totals[0]
    for at, done in totals[1:]:
        if done - before >= step:
            rates.append((done - before) / (at - since))
            since, before = at, done
    return rates
