"""Stores with a long history to measure on: made once, kept by size, as like real ones as can be.

Versions of five workspaces, 80 % in one, on 20 pools and the public one; four versions a job, names
as people give them; a year of endings in the shares that clusters see. Put there through the
store's own bulk insert; beside them some that run and some that wait.
"""

import asyncio
import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import shared
from bench.figure import shown_rows
from bench.run import CACHE, NotMeasured, Run
from bench.servers import RunningServer, muster_server
from muster.domain.command import Run as Command
from muster.domain.history import HistoryRow
from muster.domain.phase import Event
from muster.domain.resources import Resources
from muster.reconciler.learning import NameLearner
from muster.reconciler.settling import Settler
from muster.store import jobs, moves, workloads
from muster.store.addressed import open_database
from muster.store.history import insert_history
from muster.store.submissions import NewJob, NewVersion, Submission, insert_submission
from muster.store.transaction import Transaction

FILLING = 1  # goes up when what is stored here changes
POOLS = 20
WORKSPACES = 5
VERSIONS_A_JOB = 4
RUNNING = 64
QUEUED = 200
BATCH_ROWS = 10_000
SHARED_BATCH_ROWS = 2_000  # PostgreSQL ends what lets it wait for a second
JOBS_AT_A_TIME = 250  # whose versions come in turn
YEAR_MS = 365 * 86_400_000

# A pool's one node has one card: what asks for two waits for good.
_INVENTORY = f"""
[machine]
gpus = {POOLS}
[[flavors]]
code = "bench.gpu"
cpus = 1
memory_gib = 1
gpus = 1
""" + "".join(
    f'[[pools]]\nname = "pool-{number:02}"\nflavor = "bench.gpu"\ncount = 1\n'
    for number in range(POOLS)
)

_FAMILIES = ("resnet50", "bert-base", "vit-large", "whisper", "unet-med", "yolo", "gpt-small")
_PARTS = ("imagenet", "wiki", "sales-emea", "radiology", "traffic", "speech-de", "corpus-v2")
_KINDS = ("train", "finetune", "eval", "sweep", "distill", "nightly")
COMMON_TERM = "llama"  # in 6 % of all names
_STATUSES = (10, 11, 12, 5)  # completed, failed, stopped, never started
_SHARES = (70, 20, 8, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    size: int
    data: Path
    inventory: Path
    database: str | None = None  # of PostgreSQL; None: a file in `data`

    @contextmanager
    def server(self) -> Iterator[RunningServer]:
        with muster_server(self.data, *self.flags) as server:
            yield server

    @property
    def flags(self) -> tuple[str, ...]:
        flags = ("--inventory", str(self.inventory))
        return flags if self.database is None else (*flags, "--database", self.database)


def pool_ids(project_id: str) -> list[str]:
    return [f"pool-{number:02}-{project_id}" for number in range(POOLS)]


def open_dataset(run: Run, size: int, *, may_be_shared: bool = False) -> Dataset:
    """The store of that size; made where there is none for this schema yet. For reading only.

    Raises:
        NotMeasured: PostgreSQL was asked for, and the caller measures SQLite alone.
    """
    if run.database:
        if not may_be_shared:
            raise NotMeasured("it is not measured on PostgreSQL so far")
        return _open_shared(run, run.database, size)
    folder = CACHE / f"{_key()}-{size}"
    if not folder.is_dir():
        _make_in(run, folder, size, None)
    return _dataset(folder, size)


def _open_shared(run: Run, url: str, size: int) -> Dataset:
    name = f"bench-{_key()}-{size}"
    folder = CACHE / f"{_key()}-{size}-{shared.mark_of(url)}"
    database = shared.address_beside(url, name)
    if not (folder.is_dir() and shared.exists(url, name)):
        shutil.rmtree(folder, ignore_errors=True)
        shared.make_empty(url, name)
        _make_in(run, folder, size, database)
    return _dataset(folder, size, database)


@contextmanager
def copied_dataset(run: Run, size: int) -> Iterator[Dataset]:
    """One to write to, which goes afterwards."""
    original = open_dataset(run, size)
    copy = CACHE / f"{original.data.parent.name}.copy"
    try:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(original.data.parent, copy)
        yield _dataset(copy, size)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _dataset(folder: Path, size: int, database: str | None = None) -> Dataset:
    return Dataset(
        size=size,
        data=folder / "data",
        inventory=folder / "inventory.toml",
        database=database,
    )


def _key() -> str:
    """Of the schema, in which an older store would have to be brought up to date first."""
    migrations = Path(jobs.__file__).parent / "sql" / "migrations"
    return f"schema{len(list(migrations.glob('*.sql')))}-{FILLING}"


def _drop_stale() -> None:
    for folder in CACHE.glob("schema*"):
        if not folder.name.startswith(f"{_key()}-") or folder.suffix:
            shutil.rmtree(folder)


def _make_in(run: Run, folder: Path, size: int, database: str | None) -> None:
    _drop_stale()
    partial = CACHE / f"{folder.name}.partial"
    try:
        _make(run, partial, size, database)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make(run: Run, folder: Path, size: int, database: str | None) -> None:
    data = folder / "data"
    folder.mkdir(parents=True)
    (folder / "inventory.toml").write_text(_INVENTORY)
    dataset = _dataset(folder, size, database)
    with dataset.server() as server, server.client() as client:
        project_id = server.project_id
        workspace_ids = ["0"]
        for number in range(1, WORKSPACES):
            made = client.post(f"/v1/{project_id}/workspaces", json={"name": f"team-{number}"})
            workspace_ids.append(made.raise_for_status().json()["id"])
    if database is None:
        _fill(run, data / "muster.db", project_id, workspace_ids, size)
    else:
        asyncio.run(_fill_shared(run, database, project_id, workspace_ids, size))
        shared.settle(database)
    asyncio.run(_count(data / "muster.db" if database is None else database))
    with dataset.server():
        pass  # it settles, and leaves no log behind to be played back


def _fill(run: Run, file: Path, project_id: str, workspace_ids: list[str], size: int) -> None:
    """Nothing else has it open, and what comes of an interruption is thrown away: so no journal."""
    now_ms = time.time_ns() // 1_000_000
    rows = _history(project_id, workspace_ids, size, now_ms)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000"):
            connection.execute(f"PRAGMA {setting}")
        indexes = _drop_indexes(connection)
        batches = range(0, size, BATCH_ROWS)
        for first in run.track(batches, f"filling a store with {shown_rows(size)} versions"):
            batch = [next(rows) for _ in range(min(BATCH_ROWS, size - first))]
            with _transaction(connection) as tx:
                insert_history(
                    tx, project_id, batch, actor="bench", now_ms=now_ms, pool_as_public=False
                )
        for sql in run.track(indexes, f"making its {len(indexes)} indexes"):
            connection.execute(sql)
        with _transaction(connection) as tx:
            _add_live(tx, project_id, now_ms)


async def _fill_shared(
    run: Run, database: str, project_id: str, workspace_ids: list[str], size: int
) -> None:
    """Through the store's writer, as an import."""
    now_ms = time.time_ns() // 1_000_000
    rows = _history(project_id, workspace_ids, size, now_ms)

    def put(tx: Transaction, batch: list[HistoryRow]) -> None:
        insert_history(tx, project_id, batch, actor="bench", now_ms=now_ms, pool_as_public=False)

    with closing(open_database(database)) as store:
        batches = range(0, size, SHARED_BATCH_ROWS)
        for first in run.track(batches, f"filling PostgreSQL with {shown_rows(size)} versions"):
            batch = [next(rows) for _ in range(min(SHARED_BATCH_ROWS, size - first))]
            await store.write(put, batch)
        await store.write(_add_live, project_id, now_ms)


async def _count(address: Path | str) -> None:
    """What a server's sweep does in its first minutes, without its rests."""
    with closing(open_database(address)) as store:
        await Settler(database=store, rest_seconds=0).settle_due()
        await NameLearner(database=store, rest_seconds=0).learn_due()


def _drop_indexes(connection: sqlite3.Connection) -> list[str]:
    """Those of versions that only lists need; how to make them again, which is quicker at the end.

    What is unique stays: the insert looks there for what it has.
    """
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'version'"
        " AND sql LIKE 'CREATE INDEX %'"
    ).fetchall()
    for name, _ in found:
        connection.execute(f'DROP INDEX "{name}"')
    return [sql for _, sql in found]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[Transaction]:
    """As the store's writer makes one."""
    connection.execute("BEGIN")
    tx = Transaction(connection)
    yield tx
    tx.counts.apply(connection)
    connection.execute("COMMIT")


def _history(
    project_id: str, workspace_ids: list[str], size: int, now_ms: int
) -> Iterator[HistoryRow]:
    """Oldest first. The same for the same arguments."""
    chance = random.Random(size)  # noqa: S311 - it must come out the same again
    pools = pool_ids(project_id)
    versions_at_a_time = JOBS_AT_A_TIME * VERSIONS_A_JOB
    begin_ms, step_ms = now_ms - YEAR_MS, YEAR_MS // (size + 1)
    for number in range(size):
        job = number // versions_at_a_time * JOBS_AT_A_TIME + number % JOBS_AT_A_TIME
        created = begin_ms + number * step_ms
        started = created + int(chance.expovariate(1 / 120_000))
        ended = started + int(chance.lognormvariate(8, 1.5)) * 1000
        started, ended = min(started, now_ms), min(ended, now_ms)
        [status] = chance.choices(_STATUSES, _SHARES)
        has_begun = status != 5
        pool = pools[int(chance.random() * POOLS)] if chance.random() < 0.95 else ""
        yield HistoryRow(
            version_id=str(number),
            job_name=name_of(job),
            status=status,
            created_at_ms=created,
            started_at_ms=started if has_begun else None,
            ended_at_ms=ended,
            job_id=str(job),
            description=f"{_KINDS[job % len(_KINDS)]} on {_PARTS[job % len(_PARTS)]}",
            workspace_id="0" if job % 5 else workspace_ids[1 + job // 5 % (WORKSPACES - 1)],
            pool_id=pool,
            flavor_code="bench.gpu",
            gpu_count=1,
            creator_name=f"user-{job % 37}",
        )


def name_of(job: int) -> str:
    """Told from all others by its last part, which is spread over all hexadecimal numbers."""
    family = COMMON_TERM if job % 17 == 0 else _FAMILIES[job % len(_FAMILIES)]
    part, kind = _PARTS[job // 7 % len(_PARTS)], _KINDS[job // 3 % len(_KINDS)]
    return f"{family}-{part}-{kind}-{job * 2_654_435_761 % 2**32:08x}"


def _add_live(tx: Transaction, project_id: str, now_ms: int) -> None:
    """The last are those that run: without nodes held, so that no engine is asked about them."""
    pools = pool_ids(project_id)
    for number in range(QUEUED + RUNNING):
        name, pool_id = f"live-{number:04}", pools[number % POOLS]
        is_running = number >= QUEUED
        made = insert_submission(
            tx,
            Submission(
                project_id=project_id,
                job=NewJob(workspace_id="0", name=name, description="", creator_name="bench"),
                version=NewVersion(
                    workload_uid=f"{number + 1:032x}",
                    pool_id=pool_id,
                    partition=pool_id,
                    is_in_public_pool=False,
                    flavor_code="bench.gpu",
                    task=Resources(
                        cpu_millis=1000, memory_mib=1024, gpu_count=1 if is_running else 2
                    ),
                    task_count=1,
                    priority=1,
                    engine_type=100,
                    run=Command(job_name=name, code="0" * 64, boot_file="main.py"),
                    config='{"app_url": "/bench/code/", "boot_file_url": "/bench/code/main.py"}',
                ),
                job_quota=QUEUED + RUNNING,
                now_ms=now_ms,
            ),
        )
        [workload_id] = jobs.list_version_workloads(tx.connection, made.job_id)
        moved = workloads.get_workload(tx.connection, workload_id)
        begun = (Event.PLACED, Event.STARTED) if is_running else ()
        for event in (Event.ENQUEUED, *begun):
            moved = moves.move_workload(tx, moved, event, now_ms=now_ms, actor="bench")
