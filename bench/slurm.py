"""Jobs on a private Slurm cluster of this machine: through muster, and by plain `sbatch` beside.

The nodes are eight daemons on loopback. What they run shares the machine's cores with muster, with
Slurm and with the measurement itself: ratios tell, not rates.
"""

import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx

from bench.figure import Figure
from bench.load import raw_request, resident_mib, run_load
from bench.run import NotMeasured, Run
from bench.servers import RunningServer, muster_server
from tests.engines.slurm_cluster import CPUS, SlurmCluster, find_what_is_missing, running_slurm

T = TypeVar("T")

PAIRS = 15
ROUNDS = 3
SHORT_JOBS, SHORT_JOBS_QUICK = 1_000, 100  # each round
QUEUED_JOBS, QUEUED_JOBS_QUICK = 10_000, 1_000
RUNNING_JOBS, RUNNING_JOBS_QUICK = 1_000, 60
RUNNING_MIB = 8  # of memory, for each on its node
CLIENTS = 8
WATCH_SECONDS = 20.0
LOOK_SECONDS = 0.1
IDLE_SECONDS = 0.5
DEADLINE_SECONDS = 600.0
QUEUED_SECONDS_MAX = 3600.0  # each is one sbatch
PUBLIC_NODES, CPUS_PER_JOB = 6, 2
HEART_ROUNDS, HEART_PAGE = 3_000, 10  # calls of each kind; long enough for looks to fall between

LATER_MS, RATE_PERCENT = 500, 90
KNOWN_SECONDS, CORE_PERCENT, MEMORY_MIB = 60, 50, 200

STAMP = "import sys, time\nsys.stdout.write(repr(time.time()))\n"
SHORT = "print('done')\n"
LONG = "import os\nos.execvp('sleep', ['sleep', '7200'])\n"
COMPLETED = 10
TERMINAL = (5, 10, 11, 12)


def measure(run: Run) -> list[Figure]:
    if missing := find_what_is_missing():
        raise NotMeasured(missing)
    with _site() as (cluster, muster, folder):
        figures = [
            *_latency(run, cluster, muster, folder),
            *_short_jobs(run, cluster, muster, folder),
        ]
    count = QUEUED_JOBS_QUICK if run.is_quick else QUEUED_JOBS
    # A server of its own: what the short jobs have left in memory is not its load. And nodes so
    # big that every job is handed over: what waits in muster's own queue would cost Slurm nothing.
    with _site(cpus=math.ceil(count / PUBLIC_NODES) * CPUS_PER_JOB) as (cluster, muster, _):
        figures += _queued(run, cluster, muster, count)
    count = min(RUNNING_JOBS_QUICK if run.is_quick else RUNNING_JOBS, _free_mib() // RUNNING_MIB)
    with _site(cpus=math.ceil(count / PUBLIC_NODES) * CPUS_PER_JOB) as (cluster, muster, _):
        return [*figures, *_running(run, cluster, muster, count)]


@contextmanager
def _site(*, cpus: int = CPUS) -> Iterator[tuple[SlurmCluster, RunningServer, Path]]:
    """A cluster with so many CPUs a node, a server on it, and a folder."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name, running_slurm(cpus=cpus) as cluster:
        folder = Path(name)
        (folder / "data").mkdir(mode=0o700)
        # The interpreter of the plain jobs: what lies on the PATH may be a script around it.
        (folder / "data" / "muster.toml").write_text(f'slurm_python = "{sys.executable}"\n')
        with (
            _environment(SLURM_CONF=str(cluster.config), PATH=cluster.environ["PATH"]),
            muster_server(folder / "data", "--engine", "slurm") as muster,
        ):
            yield cluster, muster, folder


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


def _wait_until(look: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
    deadline = time.monotonic() + seconds
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
    """In pairs, so that what else the machine does meets both alike."""
    count = SHORT_JOBS_QUICK if run.is_quick else SHORT_JOBS
    plain, through = [], []
    with muster.client() as client:
        _put(client, "short", SHORT)
        for number in run.track(range(ROUNDS), f"{ROUNDS} times {count:,} short jobs, in pairs"):
            plain.append(count / _run_plain(cluster, folder / f"plain-{number}", count))
            through.append(count / _run_through(client, muster, f"short-{number}", count))
            _wait_until(lambda: not _live(cluster))
    how = f"{count:,} Python jobs, {CLIENTS} submits at once, until the last has ended; medians"
    for what, rates in (("by plain sbatch", plain), ("through muster", through)):
        rate = statistics.median(rates)
        yield Figure(what=f"Slurm: short jobs {what}", value=rate, unit="/s", how=how)
    yield Figure(
        what="Slurm: short jobs through muster against plain sbatch",
        value=statistics.median(100 * b / a for a, b in zip(plain, through, strict=True)),
        unit="%",
        how=f"median of {ROUNDS} pairs; logs and exit codes kept",
        at_least=RATE_PERCENT,
    )


def _run_plain(cluster: SlurmCluster, folder: Path, count: int) -> float:
    """Seconds until all have ended."""
    folder.mkdir()
    script, logs = folder / "short.py", folder / "logs"
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


def _run_through(client: httpx.Client, muster: RunningServer, name: str, count: int) -> float:
    """Likewise, through muster."""
    before = _counts(client, muster).get("Completed", 0)
    began = time.monotonic()
    _create(muster, count, "short", name)
    _wait_until(lambda: _counts(client, muster).get("Completed", 0) >= before + count)
    return time.monotonic() - began


def _create(muster: RunningServer, count: int, code: str, name: str) -> None:
    path, headers = f"/v1/{muster.project_id}/training-jobs", {"X-Auth-Token": muster.token}
    bodies = [json.dumps(_body(f"{name}-{number}", code)).encode() for number in range(count)]
    requests = [raw_request("POST", muster.port, path, headers, body) for body in bodies]
    run_load(muster.pid, muster.port, requests, clients=CLIENTS)


def _counts(client: httpx.Client, muster: RunningServer) -> dict[str, int]:
    """The training jobs of the public pool by state."""
    path = f"/v2/{muster.project_id}/statistics/pools/public-{muster.project_id}/workloads"
    items = client.get(path).raise_for_status().json()["statistics"]["items"]
    return dict(items[0]["status"])


def _queued(run: Run, cluster: SlurmCluster, muster: RunningServer, count: int) -> Iterator[Figure]:
    """What many jobs cost that wait in Slurm's own queue, while somebody else has all nodes."""
    with run.told(f"{count:,} queued jobs"), muster.client() as client:
        empty = _heart_before(client, muster)
        cluster.run(
            *("sbatch", "--nodes=8", "--exclusive", "--mem=0", "--output=/dev/null"),
            "--wrap=sleep 7200",
        )
        # A job that has just ended may keep its node for a moment, and jobs would run meanwhile.
        _wait_until(lambda: bool(cluster.run("squeue", "-h", "-t", "running", "--name=wrap")))
        _create(muster, count, "short", "queued")
        submitted = time.monotonic()

        def are_known() -> bool:
            counts = _counts(client, muster)
            return counts["Queue"] + counts["Pending"] == count

        _wait_until(are_known)
        known_seconds = time.monotonic() - submitted
        _wait_until(lambda: _pending(cluster) == count, QUEUED_SECONDS_MAX)
        cost = _cost(muster, empty)
    cluster.run("scancel", "--quiet", "--name=wrap")
    how = f"{count:,} jobs in Slurm's own queue, while another job has all nodes"
    yield Figure(
        what="Slurm: queued jobs known and counted",
        value=known_seconds,
        unit="s",
        how=f"{how}; after the last was acknowledged",
        at_most=KNOWN_SECONDS,
    )
    yield from _figures_of(cost, "while they wait", how)


def _running(
    run: Run, cluster: SlurmCluster, muster: RunningServer, count: int
) -> Iterator[Figure]:
    """What many jobs cost that run, all of them on this machine."""
    with run.told(f"{count:,} jobs that run"), muster.client() as client, _all_ended(cluster):
        _put(client, "long", LONG)
        empty = _heart_before(client, muster)
        _create(muster, count, "long", "running")
        _wait_until(lambda: _counts(client, muster)["Running"] == count)
        cost = _cost(muster, empty)
    how = f"{count:,} jobs that sleep, on eight nodes of this machine"
    yield from _figures_of(cost, "while they run", how)


class _Cost(NamedTuple):
    """What a server takes that has many jobs in Slurm."""

    core_percent: float
    memory_mib: float
    heart_percent: float  # of the heart calls that a second of its CPU answered before


def _cost(muster: RunningServer, empty_per_cpu_second: float) -> _Cost:
    percent, memory = _watch(muster), resident_mib(muster.pid)
    return _Cost(percent, memory, 100 * _heart_per_cpu_second(muster) / empty_per_cpu_second)


def _figures_of(cost: _Cost, when: str, how: str) -> Iterator[Figure]:
    yield Figure(
        what=f"Slurm: one core, {when}",
        value=cost.core_percent,
        unit="%",
        how=f"{how}; the server and its Slurm commands, over {WATCH_SECONDS:g} s",
        at_most=CORE_PERCENT,
    )
    yield Figure(
        what=f"Slurm: memory, {when}",
        value=cost.memory_mib,
        unit="MiB",
        how=f"{how}; resident",
        at_most=MEMORY_MIB,
    )
    yield Figure(
        what=f"Slurm: statistics, list and pools {when}",
        value=cost.heart_percent,
        unit="%",
        how=f"{how}; a second of the server's CPU, looks included, against before",
    )


@contextmanager
def _all_ended(cluster: SlurmCluster) -> Iterator[None]:
    """No job outlives what is measured: to end a thousand takes longer than a cluster waits."""
    try:
        yield
    finally:
        cluster.run("scancel", "--quiet", "--me")
        _wait_until(lambda: not cluster.run("squeue", "--noheader"))


def _watch(muster: RunningServer) -> float:
    """Percent of one core that the server and its commands take."""
    cpu_before, began = _cpu_seconds(muster.pid), time.monotonic()
    time.sleep(WATCH_SECONDS)
    return 100 * (_cpu_seconds(muster.pid) - cpu_before) / (time.monotonic() - began)


def _free_mib() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) >> 10


def _heart_before(client: httpx.Client, muster: RunningServer) -> float:
    """With a page of jobs that have ended: a list of none costs less than one of ten."""
    _put(client, "short", SHORT)
    _create(muster, HEART_PAGE, "short", "before")
    _wait_until(lambda: _counts(client, muster).get("Completed", 0) == HEART_PAGE)
    return _heart_per_cpu_second(muster)


def _heart_per_cpu_second(muster: RunningServer) -> float:
    paths = (
        f"/v2/{muster.project_id}/statistics/pools/public-{muster.project_id}/workloads",
        f"/v1/{muster.project_id}/training-jobs?per_page={HEART_PAGE}",
        f"/v2/{muster.project_id}/pools",
    )
    headers = {"X-Auth-Token": muster.token}
    requests = [raw_request("GET", muster.port, path, headers) for path in paths]
    load = run_load(muster.pid, muster.port, requests * HEART_ROUNDS, clients=CLIENTS)
    return load.per_cpu_second


def _pending(cluster: SlurmCluster) -> int:
    """The jobs of muster's in Slurm's queue."""
    names = cluster.run("squeue", "-h", "-t", "pending", "-o", "%j").split()
    return sum(name.startswith("muster-") for name in names)


def _cpu_seconds(pid: int) -> float:
    """What a process has used, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
