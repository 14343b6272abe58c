"""A small site: a shared node, a pool with cards, a project, code to run, and a fake engine."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from muster.domain.catalogue import Catalogue
from muster.domain.flavor import AiEngine, Flavor
from muster.domain.permission import Role
from muster.domain.placement import CardKind
from muster.domain.pool import PUBLIC_PARTITION, Host, Node, Pool, PoolLine, PoolPhase, Scope
from muster.domain.resources import Resources
from muster.domain.training import TrainingConfig
from muster.domain.workload import Workload
from muster.objects.folder import FolderStore
from muster.operations import training
from muster.operations.caller import Caller
from muster.operations.trainingstart import Training
from muster.reconciler.act import Platform
from muster.reconciler.loop import Reconciler
from muster.store import identity, jobs, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.recount import differences
from muster.store.submissions import SubmittedVersion
from muster.store.transaction import Transaction
from tests.engines.fake import FakeEngine
from tests.store.rows import set_up_pools

PROJECT: Final = "1" * 32
GPU_POOL: Final = f"gpus-{PROJECT}"
CALLER: Final = Caller("a" * 32, "ann", PROJECT, Role.ADMINISTRATOR)
LOST_TIMEOUT_MS: Final = 600_000
PASSES_MAX: Final = 20

CPU_FLAVOR: Final = Flavor(
    spec_id=1, code="cpu.1", task=Resources(cpu_millis=1000, memory_mib=1024), task_count_max=4
)
GPU_FLAVOR: Final = Flavor(
    spec_id=2,
    code="gpu.1",
    task=Resources(cpu_millis=1000, memory_mib=1024, gpu_count=1),
    task_count_max=4,
)
GPUS_FLAVOR: Final = Flavor(
    spec_id=3,
    code="gpu.2",
    task=Resources(cpu_millis=2000, memory_mib=2048, gpu_count=2),
    task_count_max=2,
)
PYTHON: Final = AiEngine(
    engine_id=1, engine_type=100, name="Python", version="3", interpreter=Path("/usr/bin/python3")
)
CATALOGUE: Final = Catalogue.of([CPU_FLAVOR, GPU_FLAVOR, GPUS_FLAVOR], [PYTHON])

NODES: Final = (
    Node(
        name="shared",
        partition=PUBLIC_PARTITION,
        host_name="shared",
        cpu_millis=4_000,
        memory_mib=16_384,
    ),
    *(
        Node(
            name=name,
            partition=GPU_POOL,
            line_name="default",
            flavor_code="gpu.2",
            host_name=f"host-of-{name}",
            cpu_millis=4_000,
            memory_mib=16_384,
            card_kind=CardKind.GPU,
            cards=(0, 1),
        )
        for name in ("gpu-a", "gpu-b")
    ),
)

HOSTS: Final = (
    Host(name="shared", cpu_millis=4_000, memory_mib=16_384),
    # All that they have is dealt to the pool: as public nodes they offer nothing.
    *(
        Host(
            name=node.host_name,
            cpu_millis=0,
            memory_mib=0,
            card_kind=CardKind.GPU,
            cards=node.cards,
        )
        for node in NODES[1:]
    ),
)


@dataclass(slots=True)
class Site:
    """One server after the other may run on it: `restart` drops all that a server remembers."""

    folder: Path
    engine: FakeEngine
    database: Database
    training: Training
    reconciler: Reconciler
    clock_ahead_ms: int = 0  # of the engine's: lets time pass for the server alone

    def clock_ms(self) -> int:
        return self.engine.now_ms + self.clock_ahead_ms

    def restart(self) -> None:
        """Put a new server in the place of one that has died."""
        self.reconciler = make_reconciler(self, self.reconciler.platform.new_attempt_id)

    async def submit(
        self, name: str, *, flavor: Flavor = CPU_FLAVOR, workers: int = 1, **config: Any
    ) -> SubmittedVersion:
        return await training.submit_job(
            self.training,
            CALLER,
            name=name,
            description="",
            workspace_id="0",
            config=config_of(flavor, workers, **config),
            creates_version=True,
            now_ms=self.clock_ms(),
        )

    async def stop(self, version: SubmittedVersion) -> None:
        assert version.version_id is not None
        await training.stop_version(
            self.training,
            CALLER,
            job_id=version.job_id,
            version_id=version.version_id,
            now_ms=self.clock_ms(),
        )

    async def delete(self, version: SubmittedVersion) -> None:
        await training.delete_job(
            self.training, CALLER, job_id=version.job_id, now_ms=self.clock_ms()
        )

    async def settle(self) -> None:
        """Pass after pass, each with all its actions, until there is nothing to do."""
        for _ in range(PASSES_MAX):
            async with asyncio.TaskGroup() as actions:
                planned = await self.reconciler.pass_once(actions)
            if not planned:
                return
        raise AssertionError(f"There is no end of things to do: {planned}")

    async def workload(self, version: SubmittedVersion) -> Workload:
        def read(connection: Connection) -> Workload:
            row = connection.execute(
                "SELECT id FROM workload WHERE uid = ?", (version.workload_uid,)
            ).fetchone()
            return workloads.get_workload(connection, row[0])

        return await self.database.read(read)

    async def attempt(self, version: SubmittedVersion) -> str:
        attempt_id = (await self.workload(version)).attempt_id
        assert attempt_id is not None
        return attempt_id

    async def differences(self) -> list[str]:
        return await self.database.read(lambda connection: list(differences(connection)))

    async def row_counts(self) -> Counter[str]:
        def read(connection: Connection) -> Counter[str]:
            tables = ("job", "version", "workload", "event", "card_hold")
            return Counter(
                {
                    table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                    for table in tables
                }
            )

        return await self.database.read(read)


def config_of(flavor: Flavor, workers: int, **config: Any) -> TrainingConfig:
    return TrainingConfig(
        worker_server_num=workers,
        app_url="/code/digits/",
        boot_file_url="/code/digits/train.py",
        spec_id=flavor.spec_id,
        pool_id=GPU_POOL if flavor.task.gpu_count else None,
        **config,
    )


@contextmanager
def open_site(folder: Path, database: Database) -> Iterator[Site]:
    """Closes the database at the end."""
    code = folder / "objects" / "code" / "digits"
    code.mkdir(parents=True)
    (code / "train.py").write_text("print('training')\n")
    try:
        objects = FolderStore(folder / "objects", folder / "snapshots")
        engine = FakeEngine(host_of_node={node.name: node.host_name for node in NODES})
        site = Site(
            folder=folder,
            engine=engine,
            database=database,
            training=Training(database, objects, CATALOGUE, 1_000),
            reconciler=None,  # type: ignore[arg-type]  # it needs the clock of the site
        )
        ids = iter(range(1_000_000))
        site.reconciler = make_reconciler(site, lambda: f"{next(ids):032x}")
        yield site
    finally:
        database.close()


def make_reconciler(site: Site, new_attempt_id: Callable[[], str]) -> Reconciler:
    return Reconciler(
        platform=Platform(
            database=site.database,
            engine=site.engine,
            objects=site.training.objects,
            jobs_folder=site.folder / "jobs",
            clock_ms=site.clock_ms,
            stop_grace_seconds=10.0,
            new_attempt_id=new_attempt_id,
        ),
        lost_timeout_ms=LOST_TIMEOUT_MS,
        flavors={flavor.code: flavor for flavor in CATALOGUE.flavors},
        retry_seconds=0.0,
    )


def set_up_site(tx: Transaction) -> None:
    """The rows of the first start."""
    account = identity.Named("a" * 32, "default")
    identity.insert_account(tx, account)
    project = identity.Project(PROJECT, "default", account)
    identity.insert_project(tx, project, is_default=True, now_ms=0)
    gpus = Pool(
        id=GPU_POOL,
        project_id=PROJECT,
        display_name="gpus",
        partition=GPU_POOL,
        phase=PoolPhase.CREATING,
        scopes=tuple(Scope),
        lines=(PoolLine(name="default", flavor_code=GPUS_FLAVOR.code, node_count=2),),
        declared="{}",  # by the tests
    )
    set_up_pools(tx, gpus, NODES, HOSTS)


def status_of(connection: Connection, version: SubmittedVersion) -> int:
    """The v1 code that the lists show."""
    assert version.version_id is not None
    return jobs.get_version(connection, PROJECT, version.job_id, version.version_id).status
