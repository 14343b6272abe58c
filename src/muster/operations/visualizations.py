"""What a user may ask of visualization jobs: make, describe, stop, restart, delete.

Each is one transaction on the job and its workload together. What becomes of them then is for the
reconciler and the keeper (`reconciler/visualizations.py`).
"""

import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from muster.domain.catalogue import Catalogue
from muster.domain.errors import (
    Conflict,
    InvalidRequest,
    NotStoppable,
    PoolNotRunning,
    StoragePathInvalid,
)
from muster.domain.jobfolder import code_folder, data_folder
from muster.domain.phase import FINISHED, STOPPABLE, Event, Reason
from muster.domain.placement import most_that_fit
from muster.domain.pool import Pool, PoolPhase, Scope, public_pool_id
from muster.domain.program import Program
from muster.domain.training import check_description
from muster.domain.visualization import (
    Visualization,
    check_type,
    check_visualization,
    choose_flavor,
    time_limit_ms,
)
from muster.domain.workload import PRIORITY_MIN, WorkloadType
from muster.objects.store import Kind, ObjectStore
from muster.objects.url import ObjectUrl, parse_url
from muster.operations.caller import Caller
from muster.operations.deletion import delete_workload
from muster.store import buckets, jobs, moves, pool_nodes, pools, visualizations, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction

TOKEN_BYTES: Final = 24

# Where the keeper brings what it is to show, from where the program begins.
_COPIES: Final = os.path.relpath(data_folder(Path("/")), code_folder(Path("/"), 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visualizations:
    """What the operations on visualization jobs work with."""

    database: Database
    objects: ObjectStore
    catalogue: Catalogue
    interpreter: str  # that has TensorBoard; "": an environment is made at the first start
    # The command that starts one; it is told the rest in its environment.
    starter: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVisualization:
    """A visualization job as it is asked for."""

    workspace_id: str
    name: str
    description: str
    train_url: str
    job_type: str
    flavor: str  # "": the smallest
    hours: int | None


async def create_visualization(
    desk: Visualizations, caller: Caller, given: NewVisualization, *, now_ms: int
) -> Visualization:
    """Make one and let it start. All or nothing.

    Raises:
        InvalidRequest: names the field; nothing was made.
    """
    check_type(given.job_type)
    made = Visualization(
        uid=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=given.workspace_id,
        name=given.name,
        description=given.description,
        user_name=caller.user_name,
        train_url=str(_as_folder(parse_url(given.train_url, field="train_url"))),
        flavor_code=choose_flavor(desk.catalogue.flavors, given.flavor).code,
        hours=given.hours,
        token=secrets.token_hex(TOKEN_BYTES),
        created_at_ms=now_ms,
        workload_id=0,
    )
    check_visualization(made)
    workload = await _prepare(desk, caller, made)

    def insert(tx: Transaction) -> Visualization:
        jobs.check_workspace(tx.connection, caller.project_id, made.workspace_id)
        workload_id = workloads.insert_program(tx, workload, now_ms=now_ms)
        id_ = visualizations.insert_visualization(tx, replace(made, workload_id=workload_id))
        return visualizations.get_visualization(tx.connection, caller.project_id, id_)

    return await desk.database.write(insert)


async def _prepare(
    desk: Visualizations, caller: Caller, one: Visualization
) -> workloads.NewWorkload:
    """Check that its results are there and that there could be room, and say what is to run."""
    await _check_results(desk, caller, one.train_url)
    flavor = choose_flavor(desk.catalogue.flavors, one.flavor_code)
    pool = await _public_pool(desk, caller)
    if not most_that_fit(
        flavor.task,
        [
            node.room
            for node in await desk.database.read_recent(
                pool_nodes.list_partition_nodes, pool.partition
            )
        ],
        bound=1,
    ):
        raise InvalidRequest(
            f"flavor.code is {flavor.code}; no node of the public pool is large enough for it."
        )
    return workloads.NewWorkload(
        uid=uuid.uuid4().hex,
        project_id=one.project_id,
        workspace_id=one.workspace_id,
        pool_id=pool.id,
        partition=pool.partition,
        type=WorkloadType.NOTEBOOK,  # it is a tool that somebody looks at, and no training
        name=one.name,
        flavor_code=flavor.code,
        task=flavor.task,
        task_count=1,
        priority=PRIORITY_MIN,
        run=_program_of(desk, one),
        time_limit_ms=time_limit_ms(one.hours),
    )


async def _check_results(desk: Visualizations, caller: Caller, train_url: str) -> None:
    """Raise StoragePathInvalid unless there is such a folder, or a job that is about to fill it."""
    url = parse_url(train_url, field="train_url")
    objects = desk.objects
    may_use = await desk.database.read_recent(buckets.may_use_bucket, caller.project_id, url.bucket)
    if not may_use or not await objects.has_bucket(url.bucket):
        raise StoragePathInvalid(
            f"train_url is '{url}'; this project has no bucket {url.bucket!r}."
        )
    if await objects.find(url, field="train_url") is Kind.FOLDER:
        return
    if not await desk.database.read(visualizations.list_writers, caller.project_id, str(url)):
        raise StoragePathInvalid(
            f"train_url is '{url}'; it must be a folder with objects in it, as training"
            " jobs leave it under their train_url, or the train_url of a job that runs."
        )


def _as_folder(url: ObjectUrl) -> ObjectUrl:
    return ObjectUrl(url.bucket, f"{url.key.rstrip('/')}/" if url.key else "")


async def _public_pool(desk: Visualizations, caller: Caller) -> Pool:
    pool_id = public_pool_id(caller.project_id)
    pool = await desk.database.read_recent(pools.find_pool, caller.project_id, pool_id)
    if pool is None or pool.phase is not PoolPhase.RUNNING or Scope.NOTEBOOK not in pool.scopes:
        raise PoolNotRunning(
            "A visualization job runs in the public pool, and that takes none at the moment."
        )
    return pool


def _program_of(desk: Visualizations, one: Visualization) -> Program:
    return Program(
        name=one.name,
        argv=desk.starter,
        environment={
            "MUSTER_VISUALIZATION_INTERPRETER": desk.interpreter,
            "MUSTER_VISUALIZATION_FOLDER": _COPIES,
            "MUSTER_VISUALIZATION_PREFIX": one.base_path,
        },
        interpreters=(desk.interpreter,) if desk.interpreter else (),
        before=() if desk.interpreter else (*desk.starter, "--make"),
    )


# ---------------------------------------------------------------- what is there already


async def get_visualization(desk: Visualizations, caller: Caller, id_: int) -> Visualization:
    """One where the caller may not enter is not there.

    Raises:
        JobUnknown: the project has none of that id.
    """

    def read(connection: Connection) -> Visualization:
        return visualizations.get_visualization(connection, caller.project_id, id_)

    found = await desk.database.read(read)
    if not caller.may_enter(found.workspace_id):
        raise visualizations.visualization_unknown(id_)
    return found


async def _change(
    desk: Visualizations,
    caller: Caller,
    id_: int,
    change: Callable[[Transaction, Visualization], Visualization],
) -> Visualization:
    """Read it, change it and store it, in one transaction."""
    await get_visualization(desk, caller, id_)

    def write(tx: Transaction) -> Visualization:
        fresh = visualizations.get_visualization(tx.connection, caller.project_id, id_)
        visualizations.update_visualization(tx, change(tx, fresh))
        return visualizations.get_visualization(tx.connection, caller.project_id, id_)

    return await desk.database.write(write)


async def describe_visualization(
    desk: Visualizations, caller: Caller, id_: int, description: str
) -> Visualization:
    check_description("job_desc", description)
    return await _change(
        desk, caller, id_, lambda _, fresh: replace(fresh, description=description)
    )


async def stop_visualization(
    desk: Visualizations, caller: Caller, id_: int, *, now_ms: int
) -> Visualization:
    """Ask it to end; it can be restarted.

    Raises:
        NotStoppable: it has ended, or is being stopped already.
    """

    def stop(tx: Transaction, fresh: Visualization) -> Visualization:
        if fresh.phase not in STOPPABLE:
            raise NotStoppable(
                f"Visualization job {fresh.id} is {fresh.phase or 'gone'}; only one that is"
                f" {', '.join(sorted(STOPPABLE))} can be stopped."
            )
        moves.move_workload(
            tx,
            workloads.get_workload(tx.connection, fresh.workload_id),
            Event.STOP_ASKED,
            now_ms=now_ms,
            actor=caller.user_name,
            reason=Reason.STOPPED_BY_USER,
        )
        return fresh

    return await _change(desk, caller, id_, stop)


async def restart_visualization(
    desk: Visualizations, caller: Caller, id_: int, *, now_ms: int
) -> Visualization:
    """Start one that has ended once more, over what lies under its train_url now.

    Raises:
        Conflict: it runs, or is about to, or is being stopped.
        InvalidRequest: it cannot start now; it stays as it was.
    """
    present = await get_visualization(desk, caller, id_)
    _check_has_ended(present)
    workload = await _prepare(desk, caller, present)

    def restart(tx: Transaction, fresh: Visualization) -> Visualization:
        _check_has_ended(fresh)
        _forget_workload(tx, fresh, caller, now_ms=now_ms)
        workload_id = workloads.insert_program(tx, workload, now_ms=now_ms)
        return replace(fresh, workload_id=workload_id, answered="", note="", is_watched=True)

    return await _change(desk, caller, id_, restart)


def _check_has_ended(one: Visualization) -> None:
    if one.phase is not None and (one.phase not in FINISHED or one.is_holding):
        raise Conflict(
            f"Visualization job {one.id} is {one.phase}; only one that has ended can be restarted."
        )


async def delete_visualization(
    desk: Visualizations, caller: Caller, id_: int, *, now_ms: int
) -> None:
    """Take it away at once; what runs of it is stopped. What it showed stays."""
    await get_visualization(desk, caller, id_)

    def delete(tx: Transaction) -> None:
        fresh = visualizations.get_visualization(tx.connection, caller.project_id, id_)
        _forget_workload(tx, fresh, caller, now_ms=now_ms)
        visualizations.delete_visualization(tx, fresh)

    await desk.database.write(delete)


def _forget_workload(tx: Transaction, one: Visualization, caller: Caller, *, now_ms: int) -> None:
    """Take the workload of its last start out of every count; its rows go when they can."""
    if one.phase is not None:
        delete_workload(tx, caller, one.workload_id, now_ms=now_ms)
