"""Workspaces in the store: access, contents, quotas, and what is used of them."""

from random import Random

import pytest

from muster.domain.command import Run
from muster.domain.errors import NameTaken, NoSuchWorkspace, QuotaExceeded, StaleWrite
from muster.domain.phase import FINISHED, TRANSITIONS, Event, Phase
from muster.domain.resources import Resources
from muster.domain.workload import Workload, WorkloadType
from muster.domain.workspace import AuthType, Grant, Quota, QuotaResource, Use, Workspace
from muster.store import moves, pools, purging, workloads, workspaces
from muster.store.database import Database
from muster.store.ids import Ids
from muster.store.transaction import Transaction
from tests.store.rows import (
    GPU_POOL,
    ONE_CPU,
    OTHER_PROJECT,
    PROJECT,
    PUBLIC_POOL,
    TWO_GPUS,
    WORKSPACE,
    add_workload,
    bring_to,
    find_differences,
    find_room,
    hold,
    move,
    release_nodes,
)

VISION = Workspace(
    id="v" * 32,
    name="vision",
    description="What sees",
    auth_type=AuthType.INTERNAL,
    owner_id="o",
    owner_name="olaf",
    enterprise_project_id="e",
    created_at_ms=5,
    updated_at_ms=6,
    grants=(Grant(user_id="a1"), Grant(user_name="eve")),
)


def set_quotas(tx: Transaction, workspace_id: str = WORKSPACE, /, **quotas: int) -> None:
    """By resource, with `_` for the dot."""
    named = {QuotaResource(name.replace("_", ".")): quota for name, quota in quotas.items()}
    workspaces.put_quotas(tx, PROJECT, workspace_id, named, now_ms=1)


def add_notebook(tx: Transaction, *, type_: WorkloadType = WorkloadType.NOTEBOOK) -> Workload:
    """A workload of another type than training; it has no job."""
    [count] = tx.execute("SELECT count(*) FROM workload").fetchone()
    workspaces.WorkloadRoom(tx).check(PROJECT, WORKSPACE, type_, ONE_CPU)
    ids = Ids.read(tx)
    ids.workload += 1
    new = workloads.NewWorkload(
        uid=f"{count:032x}",
        project_id=PROJECT,
        workspace_id=WORKSPACE,
        pool_id=PUBLIC_POOL,
        partition="public",
        type=type_,
        name="notes",
        flavor_code="any",
        task=ONE_CPU,
        task_count=1,
        priority=1,
        run=Run(job_name="notes"),
    )
    workloads.count_new_workload(tx, new)
    workloads.insert_workloads(tx, [(ids.workload, 1, new)])
    ids.keep(tx)
    return workloads.get_workload(tx.connection, ids.workload)


async def used(database: Database, type_: WorkloadType = WorkloadType.TRAIN) -> Use:
    """What the counters say, without quotas in between."""

    def read(tx: Transaction) -> Use:
        key = {"project_id": PROJECT, "workspace_id": WORKSPACE, "type": type_}
        row = tx.execute(workspaces.SQL["find_use"], key).fetchone()
        return Use(
            workload_count=row[0], cpu_millis=row[1], memory_mib=row[2], gpu_count=row[3],
            npu_count=row[4],
        ) if row else Use()  # fmt: skip

    return await database.write(read)


class TestRows:
    @pytest.mark.asyncio
    async def test_what_is_stored_is_read_again(self, database: Database) -> None:
        await database.write(workspaces.insert_workspace, PROJECT, VISION)

        assert await database.read(workspaces.get_workspace, PROJECT, VISION.id) == VISION
        listed = await database.read(workspaces.list_workspaces, PROJECT)
        assert sorted(one.name for one in listed) == ["default", "vision"]
        assert await database.read(workspaces.count_workspaces, PROJECT) == 2

    @pytest.mark.asyncio
    async def test_another_project_does_not_see_it(self, database: Database) -> None:
        await database.write(workspaces.insert_workspace, PROJECT, VISION)

        with pytest.raises(NoSuchWorkspace, match="no such workspace"):
            await database.read(workspaces.get_workspace, OTHER_PROJECT, VISION.id)

    @pytest.mark.asyncio
    async def test_a_name_is_taken_once_a_project(self, database: Database) -> None:
        await database.write(workspaces.insert_workspace, PROJECT, VISION)
        await database.write(workspaces.insert_workspace, OTHER_PROJECT, VISION)

        other = Workspace(id="w" * 32, name="vision")
        with pytest.raises(NameTaken, match="name is 'vision'"):
            await database.write(workspaces.insert_workspace, PROJECT, other)
        await database.write(
            workspaces.insert_workspace, PROJECT, Workspace(id="w" * 32, name="sound")
        )
        with pytest.raises(NameTaken):
            await database.write(workspaces.update_workspace, PROJECT, other)

    @pytest.mark.asyncio
    async def test_a_deleted_one_leaves_nothing(self, database: Database) -> None:
        await database.write(workspaces.insert_workspace, PROJECT, VISION)
        await database.write(set_quotas, VISION.id, training_jobs=1)

        await database.write(workspaces.delete_workspace, PROJECT, VISION.id)

        def left(tx: Transaction) -> list[int]:
            tables = ("workspace", "workspace_grant", "workspace_role", "workspace_quota")
            return [
                tx.execute(f"SELECT count(*) FROM {table} WHERE project_id = ?", (PROJECT,))  # noqa: S608
                .fetchone()[0]
                for table in tables
            ]  # fmt: skip

        assert await database.write(left) == [1, 0, 0, 0]

    @pytest.mark.asyncio
    async def test_a_workspace_knows_what_is_in_it(self, database: Database) -> None:
        assert await database.read(workspaces.count_contents, PROJECT, "0") == workspaces.Contents(
            job_count=0,
            workload_count=0,
            pool_count=2,
            algorithm_count=0,
            notebook_count=0,
            image_count=0,
            model_count=0,
            service_count=0,
            visualization_count=0,
            experiment_count=0,
            network_count=0,
        )
        workload = await database.write(add_workload, phase=Phase.RUNNING)

        await database.write(workloads.mark_deleted, workload)

        contents = await database.read(workspaces.count_contents, PROJECT, "0")
        assert (contents.job_count, contents.workload_count) == (1, 1)


class TestUse:
    @pytest.mark.asyncio
    async def test_a_workload_takes_from_its_insert_until_nothing_of_it_is_left(
        self, database: Database
    ) -> None:
        workload = await database.write(add_workload, pool_id=GPU_POOL, task=TWO_GPUS, task_count=2)
        whole = Use.of(TWO_GPUS * 2)
        assert await used(database) == whole

        workload = await database.write(bring_to, workload, Phase.RUNNING, now_ms=1)
        assert await used(database) == whole

        workload = await database.write(
            moves.move_workload, workload, Event.STOP_ASKED, now_ms=2, actor="ann"
        )
        workload = await database.write(
            moves.move_workload, workload, Event.STOPPED, now_ms=3, actor="ann"
        )
        assert workload.phase in FINISHED
        assert await used(database) == whole  # it still holds its nodes

        await database.write(release_nodes, workload)
        assert await used(database) == Use()

    @pytest.mark.asyncio
    async def test_a_deleted_one_counts_while_it_runs(self, database: Database) -> None:
        workload = await database.write(add_workload, phase=Phase.RUNNING)

        await database.write(workloads.mark_deleted, workload)

        assert await used(database) == Use.of(ONE_CPU)
        assert await database.scan(find_differences) == []

    @pytest.mark.parametrize(
        "phase", [p for p in Phase if p in FINISHED and p is not Phase.UNKNOWN]
    )
    @pytest.mark.asyncio
    async def test_however_it_ends_it_takes_nothing_afterwards(
        self, database: Database, phase: Phase
    ) -> None:
        workload = await database.write(add_workload)

        def end(tx: Transaction) -> None:
            ended = _ended(tx, workload, phase)
            release_nodes(tx, ended)

        await database.write(end)

        assert await used(database) == Use()
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_what_is_purged_while_it_counts_ceases_to(self, database: Database) -> None:
        def lose(tx: Transaction) -> None:
            workload = bring_to(tx, add_notebook(tx), Phase.LOST, now_ms=1)
            workload = release_nodes(tx, workload)
            workloads.mark_deleted(tx, workload)
            purging.purge_workload(tx, workload.id)

        await database.write(lose)

        assert await used(database, WorkloadType.NOTEBOOK) == Use()
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_what_is_refused_leaks_nothing(self, database: Database) -> None:
        workload = await database.write(add_workload, phase=Phase.QUEUED)

        def hold_and_fail(tx: Transaction) -> None:
            hold(tx, workload)
            raise StaleWrite("Somebody else was first.")

        with pytest.raises(StaleWrite):
            await database.write(hold_and_fail)

        assert await used(database) == Use.of(ONE_CPU)


def _ended(tx: Transaction, workload: Workload, phase: Phase) -> Workload:
    """By legal moves, on the shortest way."""
    ways: list[tuple[Phase, tuple[Event, ...]]] = [(workload.phase, ())]
    seen = set()
    while ways:
        at, way = ways.pop(0)
        if at is phase:
            for event in way:
                workload = move(tx, workload, event, now_ms=2)
            return workload
        if at not in seen:
            seen.add(at)
            ways += [
                (to, (*way, event)) for (start, event), to in TRANSITIONS.items() if start is at
            ]
    raise AssertionError(f"nothing leads to {phase}")


class TestQuotas:
    @pytest.mark.parametrize(
        ("resource", "quota", "task", "fits"),
        [
            ("training_jobs", 3, ONE_CPU, 3),
            ("training_gpus", 5, TWO_GPUS, 2),
            ("training_cpus", 3, ONE_CPU, 3),
            ("training_memory", 2, ONE_CPU, 2),
            ("training_npus", 0, ONE_CPU, 5),
            ("training_npus", 0, Resources(cpu_millis=1, memory_mib=1, npu_count=1), 0),
            ("training_jobs", 0, ONE_CPU, 0),
            ("training_jobs", -1, ONE_CPU, 5),
            ("devenv_instances", 0, ONE_CPU, 5),
        ],
    )
    @pytest.mark.asyncio
    async def test_so_many_fit_and_no_more(
        self, database: Database, resource: str, quota: int, task: Resources, fits: int
    ) -> None:
        await database.write(set_quotas, **{resource: quota})

        made = 0
        for number in range(5):
            try:
                await database.write(add_workload, f"job-{number}", task=task)
            except QuotaExceeded:
                continue
            made += 1

        assert made == fits
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_what_ends_makes_room(self, database: Database) -> None:
        await database.write(set_quotas, training_jobs=1)
        first = await database.write(add_workload, "first")
        with pytest.raises(QuotaExceeded, match=r"'0' may have 1 of training\.jobs and has 0 left"):
            await database.write(add_workload, "second")

        await database.write(bring_to, first, Phase.COMPLETED, now_ms=2)

        await database.write(add_workload, "second")

    @pytest.mark.asyncio
    async def test_each_type_and_workspace_and_project_has_its_own(
        self, database: Database
    ) -> None:
        await database.write(workspaces.insert_workspace, PROJECT, VISION)
        await database.write(set_quotas, VISION.id, training_jobs=0)
        await database.write(set_quotas, devenv_instances=1, infer_instances=0)

        await database.write(add_workload)
        await database.write(add_notebook)
        with pytest.raises(QuotaExceeded, match=r"devenv\.instances"):
            await database.write(add_notebook)
        with pytest.raises(QuotaExceeded, match=r"infer\.instances"):
            await database.write(add_notebook, type_=WorkloadType.INFER)

        assert await used(database, WorkloadType.NOTEBOOK) == Use.of(ONE_CPU)

    @pytest.mark.asyncio
    async def test_two_in_one_transaction_see_each_other(self, database: Database) -> None:
        await database.write(set_quotas, training_jobs=1)

        def add_two(tx: Transaction) -> None:
            add_workload(tx, "a")
            add_workload(tx, "b")

        with pytest.raises(QuotaExceeded):
            await database.write(add_two)

        assert await used(database) == Use()

    @pytest.mark.asyncio
    async def test_a_quota_below_what_is_used_keeps_what_runs_and_lets_nothing_in(
        self, database: Database
    ) -> None:
        running = [await database.write(add_workload, f"job-{n}") for n in range(3)]

        await database.write(set_quotas, training_jobs=1)

        for workload in running[:2]:
            with pytest.raises(QuotaExceeded, match="has 0 left"):
                await database.write(add_workload, "more")
            await database.write(bring_to, workload, Phase.COMPLETED, now_ms=2)
        with pytest.raises(QuotaExceeded):
            await database.write(add_workload, "more")
        await database.write(bring_to, running[2], Phase.COMPLETED, now_ms=2)
        await database.write(add_workload, "more")

    @pytest.mark.asyncio
    async def test_they_are_listed_with_what_is_used(self, database: Database) -> None:
        await database.write(set_quotas, training_jobs=4, training_gpus=8)
        await database.write(add_workload, pool_id=GPU_POOL, task=TWO_GPUS, task_count=2)
        await database.write(add_notebook)

        listed = {
            quota.resource: quota
            for quota in await database.read(workspaces.list_quotas, PROJECT, WORKSPACE)
        }

        assert list(listed) == list(QuotaResource)
        assert listed[QuotaResource.TRAINING_JOBS] == Quota(
            resource=QuotaResource.TRAINING_JOBS, quota=4, used=1, updated_at_ms=1
        )
        assert listed[QuotaResource.TRAINING_GPUS].shown_used == 4
        assert listed[QuotaResource.TRAINING_CPUS].used == 4000
        assert listed[QuotaResource.TRAINING_CPUS].is_unlimited
        assert listed[QuotaResource.NOTEBOOKS].used == 1

    @pytest.mark.asyncio
    async def test_nodes_of_pools_have_one_too(self, database: Database) -> None:
        have = await database.read(workspaces.count_pool_nodes, PROJECT, WORKSPACE)
        [gpus] = [p for p in await database.read(pools.list_pools, PROJECT) if p.id == GPU_POOL]
        assert have == sum(line.node_count for line in gpus.lines)
        await database.write(set_quotas, pool_nodes=have + 2)

        await database.write(workspaces.check_pool_quota, PROJECT, WORKSPACE, 2)
        with pytest.raises(QuotaExceeded, match=r"pool\.nodes and has 2 left; 3 more"):
            await database.write(workspaces.check_pool_quota, PROJECT, WORKSPACE, 3)
        await database.write(set_quotas, pool_nodes=0)
        await database.write(workspaces.check_pool_quota, PROJECT, WORKSPACE, -1)
        await database.write(workspaces.check_pool_quota, OTHER_PROJECT, WORKSPACE, 99)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.asyncio
async def test_at_random_nothing_goes_over_its_quota_and_the_counts_stay_exact(
    database: Database, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    quotas = {"training_jobs": 6, "training_gpus": 5, "training_cpus": 9}
    await database.write(set_quotas, **quotas)
    live: list[int] = []
    refused = 0

    def act(tx: Transaction, number: int) -> None:
        if not live or random.random() < 0.4:
            has_cards = random.random() < 0.5
            workload = add_workload(
                tx,
                f"job-{number}",
                pool_id=GPU_POOL if has_cards else "",
                task=TWO_GPUS if has_cards else ONE_CPU,
                task_count=random.randrange(1, 3),
            )
            live.append(workload.id)
            return
        workload = workloads.get_workload(tx.connection, random.choice(live))
        if random.random() < 0.1:
            workload = workloads.mark_deleted(tx, workload)
        events = [event for event in Event if (workload.phase, event) in TRANSITIONS]
        events = [event for event in events if event not in (Event.RETRIED, Event.PREEMPTED)]
        if not events:
            if random.random() < 0.5:
                release_nodes(tx, workload)
            return
        event = random.choice(events)
        if event is Event.PLACED and find_room(tx, workload) is None:
            return
        if event is Event.FOUND and not workload.is_holding:
            return
        if event is Event.PLACED:
            workload = hold(tx, workload)
        moved = moves.move_workload(tx, workload, event, now_ms=2_000, actor="ann")
        if moved.phase in FINISHED - {Phase.STOP_FAILED}:
            release_nodes(tx, moved)

    for number in range(150):
        try:
            await database.write(act, number)
        except QuotaExceeded:
            refused += 1
        taken = await used(database)
        assert taken.workload_count <= 6
        assert taken.gpu_count <= 5
        assert taken.cpu_millis <= 9_000

    assert await database.scan(find_differences) == []
    assert refused
