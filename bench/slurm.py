"""Jobs on a private Slurm cluster of this machine: through muster, and by plain `sbatch` beside.

The nodes are eight daemons on loopback. What they run shares the machine's cores with muster, with
Slurm and with the measurement itself: ratios tell, not rates.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from bench.figure import Figure
from bench.load import resident_mib
from bench.run import NotMeasured, Run
from bench.servers import RunningServer, muster_server
from tests.engines.slurm_cluster import SlurmCluster, find_what_is_missing, running_slurm

T = TypeVar("T")

PAIRS = 15
SHORT_JOBS, SHORT_JOBS_QUICK = 1_000, 100
QUEUED_JOBS, QUEUED_JOBS_QUICK = 10_000, 1_000
CLIENTS = 8
WATCH_SECONDS = 20.0
LOOK_SECONDS = 0.1
IDLE_SECONDS = 0.5
DEADLINE_SECONDS = 600.0

LATER_MS, RATE_PERCENT = 500, 90
KNOWN_SECONDS, CORE_PERCENT, MEMORY_MIB = 60, 50, 200

STAMP = "import sys, time\nsys.stdout.write(repr(time.time()))\n"
SHORT = "print('done')\n"
COMPLETED = 10
TERMINAL = (5, 10, 11, 12)


def measure(run: Run) -> list[Figure]:
    if missing := find_what_is_missing():
        raise NotMeasured(missing)
    with tempfile.TemporaryDirectory(dir="/tmp") as name, running_slurm() as cluster:
        folder = Path(name)
        for data in ("data", "queued"):
            (folder / data).mkdir(mode=0o700)
            # The interpreter of the plain jobs: what lies on the PATH may be a script around it.
            (folder / data / "muster.toml").write_text(f'slurm_python = "{sys.executable}"\n')
        with _environment(SLURM_CONF=str(cluster.config), PATH=cluster.environ["PATH"]):
            with muster_server(folder / "data", "--engine", "slurm") as muster:
                figures = [
                    *_latency(run, cluster, muster, folder),
                    *_short_jobs(run, cluster, muster, folder),
                ]
            # A server of its own: what the short jobs have left in memory is not its load.
            with muster_server(folder / "queued", "--engine", "slurm") as muster:
                return [*figures, *_queued(run, cluster, muster)]


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _latency(
    run: Run, cluster: SlurmCluster, muster: RunningServer, folder: Path
) -> Iterator[Figure]:
    plain, through = [], []
    with muster.client() as client:
        _put(client, "stamp", STAMP)
        for number in run.track(range(run.rounds(PAIRS)), "submit to user code, in pairs"):
            # A submit right after an end waits for the controller's next round, a second later.
            time.sleep(IDLE_SECONDS)
            plain.append(_plain_latency_ms(cluster, folder, number))
            time.sleep(IDLE_SECONDS)
            through.append(_latency_ms(cluster, client, muster, number))
    how = f"medians of {len(plain)} pairs, one at a time, on an idle cluster; polls included"
    yield Figure(
        what="Slurm: submit to user code by plain sbatch",
        value=statistics.median(plain),
        unit="ms",
        how=how,
    )
    yield Figure(
        what="Slurm: later than that through muster",
        value=statistics.median(through) - statistics.median(plain),
        unit="ms",
        how=how,
        at_most=LATER_MS,
    )


def _plain_latency_ms(cluster: SlurmCluster, folder: Path, number: int) -> float:
    script, out = folder / "stamp.py", folder / f"stamp-{number}"
    script.write_text(STAMP)
    began = time.time()
    cluster.run(*_sbatch(script, out))
    log = _wait_until(lambda: out.exists() and out.read_text())
    _wait_until(lambda: not _live(cluster))
    return (float(log) - began) * 1000


def _sbatch(script: Path, out: Path) -> list[str]:
    wrap = f"exec {sys.executable} {script}"
    return ["sbatch", "--parsable", "--mem=256M", f"--output={out}", f"--wrap={wrap}"]


def _live(cluster: SlurmCluster) -> int:
    return len(cluster.run("squeue", "-h", "-t", "pending,running,completing").split("\n")) - 1


def _wait_until(look: Callable[[], T]) -> T:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(LOOK_SECONDS)
    return found


def _latency_ms(
    cluster: SlurmCluster, client: httpx.Client, muster: RunningServer, number: int
) -> float:
    path = f"/v1/{muster.project_id}/training-jobs"
    began = time.time()
    job = client.post(path, json=_body(f"idle-{number}", "stamp")).raise_for_status().json()
    version = f"{path}/{job['job_id']}/versions/{job['version_id']}"
    while client.get(version).json()["status"] not in TERMINAL:
        time.sleep(0.02)
    log = client.get(f"{version}/log/files/{job['job_name']}.0").text
    _wait_until(lambda: not _live(cluster))
    return (float(log) - began) * 1000


def _put(client: httpx.Client, name: str, code: str) -> None:
    path = f"/objects/bench/{name}/main.py"
    client.put(path, content=code.encode()).raise_for_status()


def _body(name: str, code: str) -> dict[str, Any]:
    return {
        "job_name": name,
        "config": {
            "worker_server_num": 1,
            "app_url": f"/bench/{code}/",
            "boot_file_url": f"/bench/{code}/main.py",
            "spec_id": 1,
        },
    }


def _short_jobs(
    run: Run, cluster: SlurmCluster, muster: RunningServer, folder: Path
) -> Iterator[Figure]:
    count = SHORT_JOBS_QUICK if run.is_quick else SHORT_JOBS
    with run.told(f"{count:,} short jobs by plain sbatch"):
        plain = count / _run_plain(cluster, folder, count)
    with run.told(f"{count:,} short jobs through muster"):
        with muster.client() as client:
            _put(client, "short", SHORT)
        began = time.monotonic()
        asyncio.run(_create(muster, count, "short"))
        _wait_until(lambda: _counts(muster).get("Completed", 0) >= count)
        through = count / (time.monotonic() - began)
    how = f"{count:,} Python jobs, {CLIENTS} submits at once, until the last has ended"
    yield Figure(what="Slurm: short jobs by plain sbatch", value=plain, unit="/s", how=how)
    yield Figure(what="Slurm: short jobs through muster", value=through, unit="/s", how=how)
    yield Figure(
        what="Slurm: short jobs through muster against plain sbatch",
        value=100 * through / plain,
        unit="%",
        how="of the same run; logs and exit codes kept",
        at_least=RATE_PERCENT,
    )


def _run_plain(cluster: SlurmCluster, folder: Path, count: int) -> float:
    """Seconds until all have ended."""
    script, logs = folder / "short.py", folder / "short"
    script.write_text(SHORT)
    logs.mkdir()
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        commands = [_sbatch(script, logs / str(number)) for number in range(count)]
        list(threads.map(lambda command: cluster.run(*command), commands))
    _wait_until(lambda: not _live(cluster))
    seconds = time.monotonic() - began
    assert all((logs / str(number)).read_text() == "done\n" for number in range(count))
    return seconds


async def _create(muster: RunningServer, count: int, code: str) -> None:
    headers = {"X-Auth-Token": muster.token}
    path = f"/v1/{muster.project_id}/training-jobs"
    numbers = iter(range(count))
    async with httpx.AsyncClient(
        base_url=muster.url, headers=headers, timeout=60, trust_env=False
    ) as client:

        async def submit() -> None:
            for number in numbers:
                reply = await client.post(path, json=_body(f"{code}-{number}", code))
                reply.raise_for_status()

        await asyncio.gather(*(submit() for _ in range(CLIENTS)))


def _counts(muster: RunningServer) -> dict[str, int]:
    """The training jobs of the public pool by state."""
    path = f"/v2/{muster.project_id}/statistics/pools/public-{muster.project_id}/workloads"
    with muster.client() as client:
        items = client.get(path).raise_for_status().json()["statistics"]["items"]
    return dict(items[0]["status"])


def _queued(run: Run, cluster: SlurmCluster, muster: RunningServer) -> Iterator[Figure]:
    """What many jobs that wait cost, while somebody else's job has all nodes."""
    count = QUEUED_JOBS_QUICK if run.is_quick else QUEUED_JOBS
    cluster.run(
        *("sbatch", "--nodes=8", "--exclusive", "--mem=0", "--output=/dev/null"),
        "--wrap=sleep 3600",
    )
    with run.told(f"{count:,} queued jobs"):
        with muster.client() as client:
            _put(client, "short", SHORT)
        asyncio.run(_create(muster, count, "short"))
        submitted = time.monotonic()

        def waiting() -> bool:
            counts = _counts(muster)
            return counts["Queue"] + counts["Pending"] == count and counts["Pending"] > 0

        _wait_until(waiting)
        known_seconds = time.monotonic() - submitted
        cpu_before, began = _cpu_seconds(muster.pid), time.monotonic()
        time.sleep(WATCH_SECONDS)
        percent = 100 * (_cpu_seconds(muster.pid) - cpu_before) / (time.monotonic() - began)
        memory = resident_mib(muster.pid)
    cluster.run("scancel", "--quiet", "--name=wrap")
    how = f"{count:,} jobs of one CPU each, while another job has all nodes"
    yield Figure(
        what="Slurm: queued jobs known and counted",
        value=known_seconds,
        unit="s",
        how=f"{how}; after the last was acknowledged",
        at_most=KNOWN_SECONDS,
    )
    yield Figure(
        what="Slurm: one core, while they wait",
        value=percent,
        unit="%",
        how=f"{how}; the server and its Slurm commands, over {WATCH_SECONDS:g} s",
        at_most=CORE_PERCENT,
    )
    yield Figure(
        what="Slurm: memory, while they wait",
        value=memory,
        unit="MiB",
        how=f"{how}; resident",
        at_most=MEMORY_MIB,
    )


def _cpu_seconds(pid: int) -> float:
    """What a process has used, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
