"""Workloads that serve: what the engine is given, and how they end."""

from pathlib import Path

import pytest

from muster.domain.phase import Phase
from muster.domain.pool import PUBLIC_PARTITION
from muster.domain.program import Program
from muster.domain.workload import Workload, WorkloadType
from muster.store import workloads
from muster.store.workloads import NewWorkload, insert_program
from tests.reconciler.site import CPU_FLAVOR, PROJECT, Site


async def add(site: Site, program: Program, type_: WorkloadType = WorkloadType.NOTEBOOK) -> int:
    new = NewWorkload(
        uid="f" * 32,
        project_id=PROJECT,
        workspace_id="0",
        pool_id=f"public-{PROJECT}",
        partition=PUBLIC_PARTITION,
        type=type_,
        name=program.name,
        flavor_code=CPU_FLAVOR.code,
        task=CPU_FLAVOR.task,
        task_count=1,
        priority=1,
        run=program,
    )
    return await site.database.write(insert_program, new, now_ms=site.clock_ms())


async def get(site: Site, workload_id: int) -> Workload:
    return await site.database.read(workloads.get_workload, workload_id)


@pytest.mark.asyncio
async def test_a_program_is_placed_and_launched_to_serve(site: Site) -> None:
    program = Program(
        name="notes", argv=("jupyter", "lab"), environment={"A": "1"}, folder="/storage/notes"
    )

    workload_id = await add(site, program)
    await site.settle()

    workload = await get(site, workload_id)
    assert workload.phase is Phase.RUNNING
    assert workload.attempt_id is not None
    launch = site.engine.started[workload.attempt_id]
    assert (launch.argv, launch.environment) == (program.argv, program.environment)
    assert (launch.serves, launch.work_folder) == (True, Path("/storage/notes"))
    assert (launch.code, launch.task) == (None, CPU_FLAVOR.task)
    assert launch.folder == site.folder / "jobs" / workload.attempt_id


@pytest.mark.asyncio
async def test_its_code_is_that_of_its_snapshot(site: Site) -> None:
    digest = "d" * 64

    workload_id = await add(
        site, Program(name="s", argv=("python3", "serve.py"), code=digest), WorkloadType.INFER
    )
    await site.settle()

    attempt_id = (await get(site, workload_id)).attempt_id
    assert attempt_id is not None
    launch = site.engine.started[attempt_id]
    assert launch.code == site.folder / "snapshots" / digest
    assert launch.work_folder is None


@pytest.mark.asyncio
@pytest.mark.parametrize(("exit_code", "phase"), [(0, Phase.COMPLETED), (3, Phase.FAILED)])
async def test_one_that_ends_by_itself_gives_its_node_back(
    site: Site, exit_code: int, phase: Phase
) -> None:
    workload_id = await add(site, Program(name="s", argv=("serve",)))
    await site.settle()
    attempt_id = (await get(site, workload_id)).attempt_id
    assert attempt_id is not None

    site.engine.finish(attempt_id, 0, exit_code)
    await site.settle()

    workload = await get(site, workload_id)
    assert (workload.phase, workload.is_holding) == (phase, False)
