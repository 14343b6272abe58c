"""Job history moved in by `muster import`, from JSON lines into the folder of a stopped server."""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figure import Figure
from bench.run import Run
from bench.servers import environment, muster_server

ROWS = 100_000
PER_SECOND = 20_000
VERSIONS_A_JOB = 3
STATUSES = (10, 11, 12)


def measure(run: Run) -> list[Figure]:
    rows = run.requests(ROWS)
    with tempfile.TemporaryDirectory() as name, run.told("an import"):
        folder = Path(name)
        with muster_server(folder / "data"):
            pass  # an import needs what a first start makes
        file = folder / "history.jsonl"
        _write(file, rows)
        command = [sys.executable, "-m", "muster", "import", str(file)]
        command += ["--data", str(folder / "data")]
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=True, env=environment()
        )
        seconds, after = time.perf_counter() - began, os.times()
    if f"{rows:,} versions were imported." not in done.stdout + done.stderr:
        raise AssertionError(done.stdout + done.stderr)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return [
        Figure(
            what="import into a folder, SQLite",
            value=rows / seconds,
            unit="rows/s",
            how=f"{rows:,} JSON lines by `muster import`, its start included;"
            f" {rows / cpu:,.0f} per CPU-second",
            at_least=PER_SECOND,
        )
    ]


def _write(file: Path, rows: int) -> None:
    chance = random.Random(rows)  # noqa: S311 - it must come out the same again
    with file.open("w") as lines:
        for number in range(rows):
            job = number // VERSIONS_A_JOB + 1
            created_ms = 1_700_000_000_000 + number * 60_000
            row = {
                "version_id": number + 1,
                "version_name": f"resnet-{job}",
                "job_id": job,
                "job_name": f"resnet-{job}",
                "job_desc": "moved in",
                "workspace_id": "0",
                "status": chance.choice(STATUSES),
                "create_time": created_ms,
                "start_time": created_ms + 1_000,
                "duration": chance.randrange(86_400_000),
                "version_desc": "",
                "flavor_code": "bench.gpu",
                "gpu_num": 1,
                "npu_num": 0,
            }
            lines.write(json.dumps(row) + "\n")
