"""Rows to begin with: two projects, three pools, and jobs in any phase."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from muster.domain.command import Run
from muster.domain.errors import MusterError
from muster.domain.phase import Event, Phase, Reason
from muster.domain.placement import CardKind, TaskPlacement, place
from muster.domain.pool import (
    PUBLIC_PARTITION,
    Host,
    Node,
    Pool,
    PoolEvent,
    PoolLine,
    PoolPhase,
    Scope,
)
from muster.domain.resources import Resources
from muster.domain.workload import Workload
from muster.reconciler.pools import settle_pools
from muster.store import identity, jobs, keyblocks, moves, pool_nodes, pools, workloads
from muster.store.connection import Connection
from muster.store.counting import HELD, SQL, STATES
from muster.store.database import Database
from muster.store.moves import EndAttempt, Hold, Move, Release
from muster.store.paging import scope as scopes
from muster.store.recount import differences
from muster.store.submissions import NewJob, NewVersion, Submission, insert_submission
from muster.store.transaction import Transaction

ACCOUNT: Final = identity.Named("a" * 32, "default")
PROJECT: Final = "1" * 32
OTHER_PROJECT: Final = "2" * 32
WORKSPACE: Final = "0"
MANY: Final = 1_000_000  # live jobs: a quota that nothing here meets
PUBLIC_POOL: Final = f"public-{PROJECT}"
GPU_POOL: Final = f"gpus-{PROJECT}"

ONE_CPU: Final = Resources(cpu_millis=1000, memory_mib=1024)
TWO_GPUS: Final = Resources(cpu_millis=2000, memory_mib=2048, gpu_count=2)

NODES: Final = (
    Node(
        name="shared",
        partition=PUBLIC_PARTITION,
        host_name="shared",
        cpu_millis=64_000,
        memory_mib=65_536,
    ),
    *(
        Node(
            name=name,
            partition=GPU_POOL,
            line_name="default",
            flavor_code="gpu.4",
            host_name=f"host-of-{name}",
            cpu_millis=16_000,
            memory_mib=65_536,
            card_kind=CardKind.GPU,
            cards=(0, 1, 2, 3),
        )
        for name in ("gpu-a", "gpu-b")
    ),
)

HOSTS: Final = (
    Host(name="shared", cpu_millis=64_000, memory_mib=65_536),
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

# The ways from Creating to each phase, as the table of transitions has them.
WAYS: Final[dict[Phase, tuple[Event, ...]]] = {
    Phase.CREATING: (),
    Phase.QUEUED: (Event.ENQUEUED,),
    Phase.STARTING: (Event.ENQUEUED, Event.PLACED),
    Phase.RUNNING: (Event.ENQUEUED, Event.PLACED, Event.STARTED),
    Phase.TERMINATING: (Event.ENQUEUED, Event.STOP_ASKED),
    Phase.TERMINATED: (Event.ENQUEUED, Event.STOP_ASKED, Event.STOPPED),
    Phase.COMPLETED: (Event.ENQUEUED, Event.PLACED, Event.STARTED, Event.SUCCEEDED),
    Phase.FAILED: (Event.ENQUEUED, Event.PLACED, Event.STARTED, Event.TASK_FAILED),
    Phase.CREATE_FAILED: (Event.ENQUEUED, Event.REFUSED),
    Phase.LOST: (Event.ENQUEUED, Event.PLACED, Event.STARTED, Event.VANISHED),
}


def set_up_store(tx: Transaction) -> None:
    identity.insert_account(tx, ACCOUNT)
    for project_id, name in ((PROJECT, "default"), (OTHER_PROJECT, "other")):
        identity.insert_project(
            tx,
            identity.Project(project_id, name, ACCOUNT),
            is_default=project_id == PROJECT,
            now_ms=0,
        )
    set_up_pools(tx, gpu_pool(), NODES, HOSTS)


def set_up_pools(
    tx: Transaction, pool: Pool, nodes: Sequence[Node], hosts: Sequence[Host], *, now_ms: int = 0
) -> None:
    """A public pool for every project, and one that has its nodes already."""
    for project in identity.list_projects(tx.connection):
        pools.ensure_public_pool(tx, project.id, now_ms=now_ms)
    pool_nodes.put_hosts(tx, hosts)
    pools.insert_pool(tx, pool)
    for node in nodes:
        pool_nodes.add_nodes(tx, (node,), now_ms=now_ms, actor="muster")
    pools.move_pool(tx, pool, PoolEvent.COMPLETED, now_ms=now_ms, actor="muster")
    settle_pools(tx, {}, now_ms=now_ms)  # the hosts become public nodes


def gpu_pool() -> Pool:
    return Pool(
        id=GPU_POOL,
        project_id=PROJECT,
        display_name="gpus",
        partition=GPU_POOL,
        phase=PoolPhase.CREATING,
        scopes=(Scope.TRAIN,),
        lines=(PoolLine(name="default", flavor_code="gpu.4", node_count=len(NODES) - 1),),
        declared="by the tests",
    )


def add_job(
    tx: Transaction,
    name: str,
    *,
    project_id: str = PROJECT,
    workspace_id: str = WORKSPACE,
    description: str = "",
    engine_type: int = 100,
    creator_name: str = "ann",
    now_ms: int = 1_000,
) -> jobs.Job:
    new = NewJob(
        workspace_id=workspace_id,
        name=name,
        description=description,
        creator_name=creator_name,
        engine_type=engine_type,
    )
    submission = Submission(
        project_id=project_id, job=new, version=None, job_quota=MANY, now_ms=now_ms
    )
    made = insert_submission(tx, submission)
    return jobs.get_job(tx.connection, project_id, made.job_id)


def a_submission(
    name: str,
    *,
    project_id: str = PROJECT,
    workspace_id: str = WORKSPACE,
    pool_id: str = "",
    job_quota: int = MANY,
    now_ms: int = 1_000,
) -> Submission:
    """Of a new job with one version; `pool_id` "" is the public pool."""
    return Submission(
        project_id=project_id,
        job=NewJob(workspace_id=workspace_id, name=name, description="", creator_name="ann"),
        version=a_version(name, project_id, pool_id),
        job_quota=job_quota,
        now_ms=now_ms,
    )


def a_version(name: str, project_id: str = PROJECT, pool_id: str = "") -> NewVersion:
    return NewVersion(
        workload_uid=uuid.uuid4().hex,
        pool_id=pool_id or f"public-{project_id}",
        partition=pool_id or PUBLIC_PARTITION,
        is_in_public_pool=not pool_id,
        flavor_code="any",
        task=ONE_CPU,
        task_count=1,
        priority=1,
        engine_type=100,
        run=Run(job_name=name),
        config="{}",
    )


def add_version(
    tx: Transaction,
    job: jobs.Job,
    *,
    pool_id: str = "",
    task: Resources = ONE_CPU,
    task_count: int = 1,
    priority: int = 1,
    retries: int = 0,
    config: str = "{}",
    now_ms: int = 1_000,
) -> Workload:
    """The next version of a job; `pool_id` "" is the public pool. Returns its workload."""
    job = jobs.get_job(tx.connection, job.project_id, job.id)
    new = replace(
        a_version(job.name, job.project_id, pool_id),
        workload_uid=f"{job.id:016x}{job.next_version_number:016x}",
        task=task,
        task_count=task_count,
        priority=priority,
        pre_version_id=job.latest_version_id,
        retries=retries,
        config=config,
    )
    insert_submission(
        tx,
        Submission(
            project_id=job.project_id, job=job.id, version=new, job_quota=MANY, now_ms=now_ms
        ),
    )
    latest = jobs.get_job(tx.connection, job.project_id, job.id).latest_version_id
    [workload_id] = tx.execute("SELECT workload_id FROM version WHERE id = ?", (latest,)).fetchone()
    return workloads.get_workload(tx.connection, workload_id)


def add_workload(
    tx: Transaction,
    name: str = "digits",
    *,
    phase: Phase = Phase.CREATING,
    pool_id: str = "",
    task: Resources = ONE_CPU,
    task_count: int = 1,
    now_ms: int = 1_000,
) -> Workload:
    """A job with one version, brought to `phase` by legal moves."""
    job = add_job(tx, name, now_ms=now_ms)
    workload = add_version(
        tx, job, pool_id=pool_id, task=task, task_count=task_count, now_ms=now_ms
    )
    return bring_to(tx, workload, phase, now_ms=now_ms)


def bring_to(tx: Transaction, workload: Workload, phase: Phase, *, now_ms: int) -> Workload:
    for event in WAYS[phase]:
        workload = move(tx, workload, event, now_ms=now_ms)
    return workload


def move(
    tx: Transaction,
    workload: Workload,
    event: Event,
    *,
    now_ms: int,
    reason: Reason = Reason.NONE,
    at_ms: int | None = None,
) -> Workload:
    """One event, and what the reconciler does to nodes and cards with it."""
    if event is Event.PLACED:
        workload = hold(tx, workload)
    workload = moves.move_workload(
        tx, workload, event, now_ms=now_ms, actor="ann", reason=reason, at_ms=at_ms
    )
    if event in (Event.RETRIED, Event.PREEMPTED):
        workload = release_nodes(tx, workload)
        is_preempted = event is Event.PREEMPTED
        ended = EndAttempt(ended_at_ms=at_ms or now_ms, is_preempted=is_preempted)
        return one_step(tx, workload, ended)
    ends_holding = (Event.SUCCEEDED, Event.TASK_FAILED, Event.REFUSED, Event.STOPPED)
    return release_nodes(tx, workload) if event in ends_holding else workload


def hold(tx: Transaction, workload: Workload) -> Workload:
    placements = find_room(tx, workload)
    assert placements is not None
    attempt_id = f"{workload.attempt_count:016x}{workload.id:016x}"
    return hold_nodes(tx, workload, placements, attempt_id)


def hold_nodes(
    tx: Transaction, workload: Workload, placements: Sequence[TaskPlacement], attempt_id: str
) -> Workload:
    return one_step(tx, workload, Hold(placements=tuple(placements), attempt_id=attempt_id))


def release_nodes(tx: Transaction, workload: Workload) -> Workload:
    return one_step(tx, workload, Release())


def one_step(tx: Transaction, workload: Workload, step: Hold | Release | EndAttempt) -> Workload:
    [outcome] = moves.move_workloads(tx, [Move(workload=workload, steps=(step,))])
    if isinstance(outcome, MusterError):
        raise outcome
    return outcome


def find_room(tx: Transaction, workload: Workload) -> tuple[TaskPlacement, ...] | None:
    """Cards of its partition that nobody holds. CPUs and memory do not run out here."""
    held = set(workloads.list_held_cards(tx.connection))
    nodes = pool_nodes.list_partition_nodes(tx.connection, workload.partition)
    free = [
        replace(n, cards=tuple(c for c in n.cards if (n.host_name, c) not in held)) for n in nodes
    ]
    return place(
        replace(workload.task, cpu_millis=0, memory_mib=0),
        workload.task_count,
        (node.room for node in free),
    )


def find_differences(connection: Connection) -> list[str]:
    """What a recount finds wrong: nothing, ever."""
    return list(differences(connection))


def count_anew(tx: Transaction, where: scopes.Scope, *, stretch_rows: int = 3) -> None:
    """All that a sweep does in many steps, for lists that it counts from the beginning."""
    keyblocks.forget(tx, where)
    for key in keyblocks.SORTS[where.table]:
        keyblocks.forget_order(tx, where, key)
    keyblocks.begin(tx, where)
    for key in keyblocks.SORTS[where.table]:
        pieces = keyblocks.count_order(tx.connection, where, key, stretch_rows=stretch_rows)
        keyblocks.write_pieces(tx, where, key, 0, pieces)
    keyblocks.make_ready(tx, where)


async def get_workload(database: Database, workload: Workload) -> Workload:
    return await database.read(workloads.get_workload, workload.id)


async def counts_of(database: Database, pool_id: str = PUBLIC_POOL) -> dict[str, int]:
    """What the statistics of a pool's training workloads count, without the zeros."""

    def read(connection: Connection) -> dict[str, int]:
        for project_id, pool, _, *values in connection.execute(SQL["list_tallies"]):
            if (project_id, pool) == (PROJECT, pool_id):
                names = [*STATES, *HELD]
                return {str(n): v for n, v in zip(names, values, strict=True) if v}
        return {}

    return await database.read(read)
