"""What a notebook's start takes: room for it somewhere, and the program that is to run."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muster.domain.catalogue import Catalogue
from muster.domain.errors import (
    NotebookFlavorInvalid,
    NotebookPoolInvalid,
    NotebookQuotaExceeded,
    PoolUnknown,
    QuotaExceeded,
)
from muster.domain.image import Image
from muster.domain.notebook import FILES_FOLDER, WRITTEN_FOLDERS, Notebook
from muster.domain.placement import NodeRoom, most_that_fit
from muster.domain.pool import Pool, PoolPhase, Scope
from muster.domain.program import Mirror, Program
from muster.domain.resources import Resources
from muster.domain.workload import PRIORITY_MIN, WorkloadType
from muster.objects.store import ObjectStore
from muster.operations.caller import Caller
from muster.operations.images import Images, packages_of
from muster.store import pool_nodes, pools, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebooks:
    """What the operations on notebooks work with."""

    database: Database
    objects: ObjectStore
    catalogue: Catalogue
    images: Images
    folder: Path  # a folder below it is each notebook's storage
    # The command that starts one; it is told the rest in its environment.
    starter: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start with everything looked up that storing it takes."""

    workload: workloads.NewWorkload

    def insert(self, tx: Transaction, *, now_ms: int) -> int:
        try:
            return workloads.insert_program(tx, self.workload, now_ms=now_ms)
        except QuotaExceeded as error:
            raise NotebookQuotaExceeded(error.message) from error


async def prepare_start(desk: Notebooks, caller: Caller, notebook: Notebook, image: Image) -> Start:
    """Check that there could be room for it, and put together what is to run.

    Raises:
        InvalidRequest, NotFound: names the field.
    """
    packages = await packages_of(desk.images, image)
    pool = await _usable_pool(desk, caller, notebook.pool_id)
    task = _task_of(desk.catalogue, notebook, pool)
    rooms = await desk.database.read_recent(_rooms_of, pool.partition)
    _check_fits(desk.catalogue, notebook, task, pool, rooms)
    return Start(
        workload=workloads.NewWorkload(
            uid=uuid.uuid4().hex,
            project_id=notebook.project_id,
            workspace_id=notebook.workspace_id,
            pool_id=pool.id,
            partition=pool.partition,
            type=WorkloadType.NOTEBOOK,
            name=notebook.name,
            flavor_code=notebook.flavor_code,
            task=task,
            task_count=1,
            priority=PRIORITY_MIN,
            run=_program_of(desk, notebook, image, packages=packages),
        )
    )


def _program_of(desk: Notebooks, notebook: Notebook, image: Image, *, packages: str) -> Program:
    kept, uri = desk.folder / notebook.uid, notebook.volume.uri
    interpreter = image.interpreter or desk.images.built_in.interpreter
    return Program(
        name=notebook.name,
        argv=desk.starter,
        environment={
            "MUSTER_NOTEBOOK_INTERPRETER": interpreter,
            "MUSTER_NOTEBOOK_PACKAGES": packages,
            "MUSTER_NOTEBOOK_FOLDER": str(kept),
            "MUSTER_NOTEBOOK_BASE_URL": base_path_of(notebook),
            "JUPYTER_TOKEN": notebook.token,  # not among the arguments, which everybody can read
        },
        mirror=Mirror(url=uri, folder=str(kept / FILES_FOLDER)) if uri else None,
        writes=tuple(str(kept / name) for name in WRITTEN_FOLDERS),
        interpreters=(interpreter,) if interpreter else (),
        # Made by the platform: no user may change what all notebooks run.
        before=() if interpreter else (*desk.starter, "--make"),
    )


def base_path_of(notebook: Notebook) -> str:
    """Where it answers, below muster's own address."""
    return f"/notebooks/{notebook.shown_id}/"


async def _usable_pool(desk: Notebooks, caller: Caller, pool_id: str) -> Pool:
    pool = await desk.database.read_recent(pools.find_pool, caller.project_id, pool_id)
    if pool is None or not caller.may_enter(pool.workspace_id):
        raise PoolUnknown(
            f"pool_id is {pool_id!r}; this project has no such pool."
            " `muster pool list` shows what there is."
        )
    if pool.phase is not PoolPhase.RUNNING and not pool.is_down:
        raise NotebookPoolInvalid(f"pool_id is {pool_id!r}; the pool is {pool.phase}, not Running.")
    if Scope.NOTEBOOK not in pool.scopes:
        raise NotebookPoolInvalid(
            f"pool_id is {pool_id!r}; its scope is {', '.join(pool.scopes)}, without Notebook."
        )
    return pool


def _task_of(catalogue: Catalogue, notebook: Notebook, pool: Pool) -> Resources:
    if notebook.custom_spec is not None:
        if pool.is_public:
            raise NotebookFlavorInvalid(
                "custom_spec is for dedicated pools; name one as pool_id, or give a flavor."
            )
        return notebook.custom_spec.task
    flavor = catalogue.find_flavor(notebook.flavor_code)
    if flavor is None:
        raise NotebookFlavorInvalid(
            f"flavor is {notebook.flavor_code[:100]!r}; there are"
            f" {', '.join(flavor.code for flavor in catalogue.flavors)}."
        )
    return flavor.task


def _rooms_of(connection: Connection, partition: str) -> list[NodeRoom]:
    return [node.room for node in pool_nodes.list_partition_nodes(connection, partition)]


def _check_fits(
    catalogue: Catalogue,
    notebook: Notebook,
    task: Resources,
    pool: Pool,
    rooms: Sequence[NodeRoom],
) -> None:
    """Refuse at once what the pool could never hold."""
    if most_that_fit(task, rooms, bound=1):
        return
    fitting = fitting_flavors(catalogue, rooms)
    raise NotebookFlavorInvalid(
        f"flavor is {notebook.flavor_code}; no node of pool {pool.display_name!r} is large enough"
        f" for it. What fits: {', '.join(fitting) or 'nothing, it has no nodes'}."
    )


def fitting_flavors(catalogue: Catalogue, rooms: Sequence[NodeRoom]) -> list[str]:
    """The codes of those of which a node of these rooms holds at least one."""
    return [f.code for f in catalogue.flavors if most_that_fit(f.task, rooms, bound=1)]


async def rooms_of_notebook(desk: Notebooks, notebook: Notebook) -> list[NodeRoom]:
    """The nodes of its pool, empty; none where the pool is gone."""
    pool = await desk.database.read_recent(pools.find_pool, notebook.project_id, notebook.pool_id)
    if pool is None:
        return []
    return await desk.database.read_recent(_rooms_of, pool.partition)
