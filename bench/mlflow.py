"""Side by side with MLflow: the same page of the same rows, each server on its own SQLite file.

MLflow's tracking server gets an environment of its own (requirements/mlflow.txt). Its database is
made by its own `mlflow db upgrade` and filled by SQL straight into its tables: a run for each
version, in one experiment a workspace, with name, status, times, and the user, pool and flavor as
tags. No parameters and no metrics, which its runs usually have: it is spared those.
"""

import hashlib
import json
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.dataset import Dataset, open_dataset, pool_ids
from bench.figure import Figure
from bench.load import raw_request, run_load
from bench.machine import ROOT
from bench.run import CACHE, NotMeasured, Run
from bench.servers import RunningServer, end, environment

ROWS = 100_000
ROWS_QUICK = 10_000
ROUNDS = 5
CLIENTS = 4  # enough that neither server waits
REQUESTS = 12
OWN_REQUESTS = 2_000
TIMES = 300
START_SECONDS_MAX = 120
INSTALL_SECONDS_MAX = 300
LOCK = ROOT / "requirements" / "mlflow.txt"
PAGE = 20
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it would take CPU without being asked
}
STATUSES = {7: "SCHEDULED", 8: "RUNNING", 10: "FINISHED", 11: "FAILED"}  # others: KILLED
FAILED = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One page, as each of the two is asked for it."""

    what: str
    path: str
    search: Mapping[str, Any]
    at_least: float | None


def measure(run: Run) -> list[Figure]:
    size = ROWS_QUICK if run.is_quick else ROWS
    dataset = open_dataset(run, size)
    python = _install(run)
    store = _fill(run, python, dataset)
    with dataset.server() as muster, _mlflow_server(run, python, store) as other:
        pool_id = pool_ids(muster.project_id)[0]
        comparisons = (
            Comparison(
                what="page of 20, by status, newest first",
                path=f"versions?limit={PAGE}&status={FAILED}&sort_by=create_time&order=desc",
                search=_search("attributes.status = 'FAILED'"),
                at_least=TIMES if size == ROWS else None,  # it slows down with the rows
            ),
            Comparison(
                what="page of 20, by status and pool, newest first",
                path=f"versions?limit={PAGE}&status={FAILED}&pool_id={pool_id}"
                "&sort_by=create_time&order=desc",
                search=_search(f"attributes.status = 'FAILED' AND tags.pool = '{pool_id}'"),
                at_least=None,
            ),
        )
        return [_compare(run, muster, other, asked, size) for asked in comparisons]


def _search(filter_: str) -> Mapping[str, Any]:
    order = ["attributes.start_time DESC"]
    return {"experiment_ids": ["0"], "max_results": PAGE, "filter": filter_, "order_by": order}


def _compare(
    run: Run, muster: RunningServer, other: RunningServer, asked: Comparison, rows: int
) -> Figure:
    path = f"/v1/{muster.project_id}/training-jobs/{asked.path}"
    _check_same(muster, other, path, asked)
    own = raw_request("GET", muster.port, path, {"X-Auth-Token": muster.token})
    body = json.dumps(asked.search).encode()
    theirs = raw_request("POST", other.port, "/api/2.0/mlflow/runs/search", {}, body)
    ratios, own_rates, their_rates, slower = [], [], [], []
    for _round in run.track(range(run.rounds(ROUNDS)), f"MLflow: {asked.what}"):
        there = run_load(other.pid, other.port, [theirs] * REQUESTS, clients=CLIENTS)
        here = run_load(muster.pid, muster.port, [own] * OWN_REQUESTS, clients=CLIENTS)
        ratios.append(here.per_cpu_second / there.per_cpu_second)
        slower.append(here.per_second / there.per_second)
        own_rates.append(here.per_cpu_second)
        their_rates.append(there.per_cpu_second)
    return Figure(
        what=f"{asked.what}: times MLflow's rate",
        rows=rows,
        value=statistics.median(ratios),
        unit="x",
        how=f"per CPU-second, {statistics.median(own_rates):,.0f} against"
        f" {statistics.median(their_rates):,.3g}; by the clock {statistics.median(slower):,.0f}x;"
        f" the same rows in the same order from both; MLflow {_version()} tells no total",
        at_least=asked.at_least,
    )


def _check_same(muster: RunningServer, other: RunningServer, path: str, asked: Comparison) -> None:
    """A comparison of two different answers would be worth nothing."""
    with muster.client() as client, other.client() as their_client:
        own = client.get(path).raise_for_status().json()["versions"]
        reply = their_client.post("/api/2.0/mlflow/runs/search", json=asked.search)
        theirs = reply.raise_for_status().json()["runs"]
    own_times = [version["create_time"] for version in own]
    assert own_times == [run["info"]["start_time"] for run in theirs], "they show other rows"
    assert len(own_times) == PAGE, f"{len(own_times)} rows match"


def _version() -> str:
    [pinned] = [line for line in LOCK.read_text().splitlines() if line.startswith("mlflow-skinny")]
    return pinned.partition("==")[2].split()[0]


def _key() -> str:
    return f"mlflow-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"


def _install(run: Run) -> Path:
    """The interpreter of MLflow's own environment.

    Raises:
        NotMeasured: it cannot be installed.
    """
    folder = CACHE / _key()
    python = folder / "bin" / "python"
    if (folder / "done").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    uv = Path(sys.executable).parent / "uv"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    ways = [[str(uv), "pip", "install", "--quiet", "--python", str(python)]] if uv.exists() else []
    ways.append(pip)
    with run.told(f"installing MLflow {_version()}"):
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)  # noqa: S603
            for way in ways:
                done = subprocess.run(  # noqa: S603 - our own commands
                    [*way, "--require-hashes", "-r", str(LOCK)],
                    capture_output=True,
                    text=True,
                    timeout=INSTALL_SECONDS_MAX,
                    check=False,
                )
                if done.returncode == 0:
                    (folder / "done").touch()
                    return python
            raise NotMeasured(f"MLflow cannot be installed: {done.stderr.strip()[-300:]}")
        except (OSError, subprocess.SubprocessError) as error:
            raise NotMeasured(f"MLflow cannot be installed: {error}") from error
        finally:
            if not (folder / "done").exists():
                shutil.rmtree(folder, ignore_errors=True)


def _mlflow_environment() -> dict[str, str]:
    return environment() | SETTINGS


def _fill(run: Run, python: Path, dataset: Dataset) -> Path:
    """MLflow's database with the rows of a dataset, kept for the next time."""
    built_at = (dataset.data.parent / "inventory.toml").stat().st_mtime_ns
    store = CACHE / f"{_key()}-{dataset.size}-{built_at}.db"
    if store.exists():
        return store
    partial = store.with_suffix(".partial")
    try:
        with run.told(f"filling MLflow with {dataset.size:,} runs"):
            partial.unlink(missing_ok=True)
            subprocess.run(  # noqa: S603 - our own command
                [str(python), "-m", "mlflow", "db", "upgrade", f"sqlite:///{partial}"],
                env=_mlflow_environment(),
                capture_output=True,
                check=True,
            )
            _copy_rows(dataset.data / "muster.db", partial)
        partial.rename(store)
    except subprocess.CalledProcessError as error:
        raise NotMeasured(f"MLflow makes no database: {error.stderr[-300:]!r}") from error
    finally:
        for file in CACHE.glob(f"{partial.name}*"):
            file.unlink()
    return store


def _copy_rows(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as muster,
        closing(sqlite3.connect(target)) as mlflow,
        mlflow,
    ):
        workspaces = [
            workspace
            for (workspace,) in muster.execute(
                "SELECT DISTINCT workspace_id FROM version ORDER BY workspace_id <> '0', 1"
            )
        ]
        experiment = {workspace: number for number, workspace in enumerate(workspaces)}
        mlflow.executemany(
            "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage,"
            " creation_time, last_update_time) VALUES (?, ?, '/none', 'active', 0, 0)"
            " ON CONFLICT DO NOTHING",
            [(number, "Default" if w == "0" else w) for w, number in experiment.items()],
        )
        rows = muster.execute(
            "SELECT v.id, v.workspace_id, v.job_name, v.status, v.created_at_ms, v.ended_at_ms,"
            " v.pool_id, v.flavor_code, j.creator_name"
            " FROM version AS v JOIN job AS j ON j.id = v.job_id ORDER BY v.id"
        )
        while chunk := rows.fetchmany(10_000):
            mlflow.executemany(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name,"
                " user_id, status, start_time, end_time, source_version, lifecycle_stage,"
                " artifact_uri, experiment_id)"
                " VALUES (?, ?, 'UNKNOWN', '', '', ?, ?, ?, ?, '', 'active', ?, ?)",
                [
                    (_run_id(id_), name, user, STATUSES.get(status, "KILLED"), created, ended,
                     f"/none/{_run_id(id_)}", experiment[workspace])
                    for id_, workspace, name, status, created, ended, _, _, user in chunk
                ],
            )  # fmt: skip
            mlflow.executemany(
                "INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
                [
                    (key, value, _run_id(id_))
                    for id_, _, name, _, _, _, pool_id, flavor, user in chunk
                    for key, value in (
                        ("mlflow.runName", name),
                        ("mlflow.user", user),
                        ("pool", pool_id),
                        ("flavor", flavor),
                    )
                ],
            )


def _run_id(id_: int) -> str:
    """As scattered as the random ones that MLflow gives, which cost its index the same."""
    return hashlib.blake2s(str(id_).encode(), digest_size=16).hexdigest()


@contextmanager
def _mlflow_server(run: Run, python: Path, store: Path) -> Iterator[RunningServer]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{store}"]
    command += ["--default-artifact-root", str(CACHE / "none")]
    began = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_mlflow_environment(),
        start_new_session=True,
    ) as process:
        try:
            with run.told("starting MLflow"):
                _wait_until_healthy(process, port)
            yield RunningServer(
                pid=process.pid, port=port, data=store, ready_seconds=time.perf_counter() - began
            )
        finally:
            end(process)


def _wait_until_healthy(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise NotMeasured(f"MLflow's server does not answer within {START_SECONDS_MAX} s")
