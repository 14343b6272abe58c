"""The Slurm engine: the contract on a real cluster, and what only a real cluster can show."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.jobfolder import task_folder
from muster.domain.placement import CardKind, TaskPlacement
from muster.domain.resources import Resources
from muster.engines import attemptfiles, slurmfiles
from muster.engines.engine import EngineRef, TaskState
from muster.engines.slurm import SlurmEngine
from muster.engines.slurmcommands import SlurmCommands
from tests.engines.contract import (
    DEADLINE_SECONDS,
    LOG_AGAIN_SECONDS,
    LONG_GRACE_SECONDS,
    PRINTS_TO_BOTH,
    WAITS,
    Bench,
    EngineContract,
    ServingContract,
    states,
)
from tests.engines.slurm_bench import SlurmBench
from tests.engines.slurm_cluster import NODES, SlurmCluster

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

LOSES_ITS_ANSWER = """#!/bin/sh
{program} "$@" > {folder}/answer || exit 1
[ -e {folder}/was-lost ] && exec cat {folder}/answer
touch {folder}/was-lost
exec sleep 120
"""
FAILS_ON_WISH = """#!/bin/sh
[ -e {folder}/fail ] || exec {program} "$@"
touch {folder}/has-failed
sleep 0.3
echo "sbatch: error: Batch job submission failed: Unable to contact slurm controller" >&2
exit 1
"""


@pytest_asyncio.fixture
async def bench(slurm: SlurmCluster, tmp_path: Path) -> AsyncIterator[SlurmBench]:
    bench = SlurmBench(slurm, tmp_path / "jobs")
    await bench.open()
    yield bench
    await bench.engine.close()
    slurm.clear()


class TestSlurmEngine(EngineContract):
    pass


class TestServing(ServingContract):
    pass


async def test_a_controller_that_crashes_right_after_a_submit_costs_no_job(
    bench: SlurmBench,
) -> None:
    refs = [await bench.engine.start(bench.launch(PRINTS_TO_BOTH)) for _ in range(3)]
    bench.cluster.kill("slurmctld")
    bench.cluster.start_controller()

    for ref in refs:
        async with asyncio.timeout(60):
            while states(await bench.observe(ref)) != {TaskState.ENDED}:  # noqa: ASYNC110
                await asyncio.sleep(LOG_AGAIN_SECONDS)

        (task,) = (await bench.observe(ref)).tasks
        assert (task.exit_code, task.was_stopped) == (0, False)
        assert await bench.read_log(ref) == b"bad\ngood\n"


async def test_a_job_that_the_controller_forgot_is_submitted_again_and_runs_once(
    bench: SlurmBench,
) -> None:
    bench.fill()
    ref = await bench.engine.start(bench.launch(PRINTS_TO_BOTH))
    # Gone without a trace, as after a crash of the controller before it had saved the job.
    bench.cluster.kill("slurmctld")
    for file in (bench.cluster.folder / "state").glob("job_state*"):
        file.unlink()
    bench.cluster.start_controller()

    (task,) = (await bench.until_ended(ref)).tasks
    assert task.exit_code == 0
    assert await bench.read_log(ref) == b"bad\ngood\n"


async def test_a_node_that_dies_loses_its_gang_but_does_not_fail_it(bench: SlurmBench) -> None:
    ref = await bench.engine.start(bench.launch_on("n2", "n3"))
    for index in range(2):
        await bench.until_log(ref, b"up\n", task_index=index)
    bench.cluster.kill("n3")
    try:
        async with asyncio.timeout(60):
            while not (seen := await bench.observe(ref)).is_over:  # noqa: ASYNC110
                await asyncio.sleep(LOG_AGAIN_SECONDS)
        assert states(seen) == {TaskState.GONE}
        condition = (await bench.engine.observe_hosts())["n3"]
        assert not condition.is_up
        assert "n3" in condition.message
        # As the platform does, before it gives the nodes to others.
        await bench.engine.stop(ref, 0)
        results = [task_folder(bench.jobs_folder / ref, index) for index in range(2)]
        await bench.until_so(lambda: all(map(attemptfiles.read_result, results)))
    finally:
        bench.cluster.start_node("n3")


async def test_a_submit_whose_answer_is_lost_runs_once(bench: SlurmBench, tmp_path: Path) -> None:
    bench.replace_sbatch(LOSES_ITS_ANSWER, tmp_path)
    usual = bench.commands.timeout_seconds
    bench.commands.timeout_seconds = 3.0  # enough for sbatch to have submitted it
    launch = bench.launch(PRINTS_TO_BOTH)

    with pytest.raises(EngineUnavailable):
        await bench.engine.start(launch)
    bench.commands.timeout_seconds = usual
    assert await bench.engine.find(launch.attempt_id, launch.folder) == launch.attempt_id
    ref = await bench.engine.start(launch)

    await bench.until_ended(ref)
    assert await bench.read_log(ref) == b"bad\ngood\n"


async def test_an_attempt_that_was_submitted_twice_runs_once(bench: SlurmBench) -> None:
    launch = bench.launch(WAITS)
    ref = await bench.engine.start(launch)
    plan = attemptfiles.read_state(launch.folder / "slurm.json", slurmfiles.Plan)
    assert plan is not None
    await bench.commands.submit(plan.submit)
    await bench.until_log(ref, b"up\n")

    await bench.until_so(lambda: bench.queued() == ["RUNNING"])
    assert await bench.read_log(ref) == b"up\n"


async def test_a_stop_of_what_waits_in_slurms_queue_keeps_it_from_coming_up(
    bench: SlurmBench,
) -> None:
    bench.fill()
    ref = await bench.engine.start(bench.launch(WAITS, task_count=2))

    await bench.engine.stop(ref, LONG_GRACE_SECONDS)

    seen = await bench.until_ended(ref)
    assert [(task.exit_code, task.was_stopped) for task in seen.tasks] == [(143, True)] * 2
    await bench.until_so(lambda: "PENDING" not in bench.queued())


async def test_a_job_that_somebody_cancels_before_it_came_up_ends_and_says_so(
    bench: SlurmBench,
) -> None:
    bench.fill()
    ref = await bench.engine.start(bench.launch(WAITS))
    bench.cluster.run("scancel", "--state=PENDING", f"--name=muster-{ref}")

    (task,) = (await bench.until_ended(ref)).tasks
    assert (task.started_at_ms, task.was_stopped) == (None, False)
    assert "CANCELLED" in task.message


async def test_what_slurm_cancels_while_it_runs_tells_so_and_leaves_nothing(
    bench: SlurmBench,
) -> None:
    ref = await bench.start_waiting()
    bench.cluster.run("scancel", f"--name=muster-{ref}")

    (task,) = (await bench.until_ended(ref)).tasks
    assert (task.exit_code, task.was_stopped) == (128 + signal.SIGTERM, False)
    assert "CANCELLED" in task.message


async def test_a_task_whose_shim_is_killed_is_gone_while_the_others_run(bench: SlurmBench) -> None:
    ref = await bench.engine.start(bench.launch(WAITS, task_count=2))
    for index in range(2):
        await bench.until_log(ref, b"up\n", task_index=index)
    claim = attemptfiles.read_claim(task_folder(bench.jobs_folder / ref, 1))
    assert claim is not None
    os.kill(claim.pid, signal.SIGKILL)

    seen = await bench.until(ref, lambda s: s.tasks[1].state is TaskState.GONE)

    assert seen.tasks[0].state is TaskState.RUNNING


async def test_tasks_run_on_the_hosts_that_they_were_given(bench: SlurmBench) -> None:
    launch = bench.launch_on("n6", "n2", "n6")
    ref = await bench.engine.start(
        replace(launch, task=Resources(cpu_millis=2000, memory_mib=512), time_limit_ms=3_600_000)
    )
    for index in range(3):
        await bench.until_log(ref, b"up\n", task_index=index)

    layout = (launch.folder / "slurm-nodes.json").read_text()
    assert [layout.count(f'"node": "{name}"') for name in ("n2", "n6")] == [1, 2]
    shown = bench.cluster.run("scontrol", "show", "job", "-d")
    assert "NodeList=n[2,6]" in shown
    assert "TimeLimit=01:05:00" in shown
    assert "CPUs/Task=4" in shown


async def test_what_can_never_run_is_refused_with_slurms_own_words(bench: SlurmBench) -> None:
    launch = bench.launch(WAITS)
    cards = TaskPlacement(index=0, node_name="a", card_kind=CardKind.GPU, cards=tuple(range(99)))

    with pytest.raises(EngineRefused, match="configuration is not available"):
        await bench.engine.start(replace(launch, tasks=(cards,)))

    assert await bench.engine.find(launch.attempt_id, launch.folder) is None
    assert not launch.folder.exists()


async def test_a_drained_node_is_down_with_the_reason_that_was_given(bench: SlurmBench) -> None:
    bench.cluster.run("scontrol", "update", "NodeName=n4", "State=DRAIN", "Reason=new cables")
    try:

        async def message() -> str:
            conditions = await bench.engine.observe_hosts()
            return conditions["n4"].message if "n4" in conditions else ""

        async with asyncio.timeout(DEADLINE_SECONDS):
            while "new cables" not in await message():  # noqa: ASYNC110
                await asyncio.sleep(LOG_AGAIN_SECONDS)
    finally:
        bench.cluster.run("scontrol", "update", "NodeName=n4", "State=RESUME")
    assert len(await bench.engine.observe_hosts()) == len(NODES)


async def test_without_slurms_commands_the_engine_opens_and_says_what_is_missing(
    tmp_path: Path,
) -> None:
    engine = SlurmEngine(tmp_path / "jobs", SlurmCommands(folder=tmp_path))
    await engine.open(lambda: None)
    try:
        with pytest.raises(EngineUnavailable, match="cannot be run here"):
            await engine.start(Bench(engine, tmp_path / "jobs").launch(WAITS))
    finally:
        await engine.close()


async def test_a_stop_asked_of_an_earlier_server_reaches_the_queue_by_the_next_one(
    bench: SlurmBench,
) -> None:
    bench.fill()
    ref = await bench.engine.start(bench.launch(WAITS))
    await bench.engine.close()
    slurmfiles.stop_tasks(bench.jobs_folder / ref, 0)

    bench.engine = bench.make_engine()
    await bench.open()

    assert states(await bench.observe(EngineRef(ref))) == {TaskState.ENDED}
    await bench.until_so(lambda: "PENDING" not in bench.queued())


async def test_a_stop_of_what_cannot_be_submitted_ends_it(
    bench: SlurmBench, tmp_path: Path
) -> None:
    bench.replace_sbatch(FAILS_ON_WISH, tmp_path)
    (tmp_path / "fail").touch()
    launch = bench.launch(WAITS)
    starting = asyncio.create_task(bench.engine.start(launch))
    await bench.until_so((tmp_path / "has-failed").exists)

    await bench.engine.stop(EngineRef(launch.attempt_id), LONG_GRACE_SECONDS)

    ref = await starting
    (task,) = (await bench.until_ended(ref)).tasks
    assert task.was_stopped


async def test_a_start_that_failed_is_made_again_when_it_is_asked_for_again(
    bench: SlurmBench, tmp_path: Path
) -> None:
    bench.replace_sbatch(FAILS_ON_WISH, tmp_path)
    (tmp_path / "fail").touch()
    launch = bench.launch(PRINTS_TO_BOTH)
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match="Unable to contact"):
            await bench.engine.start(launch)
    (tmp_path / "fail").unlink()

    ref = await bench.engine.start(launch)

    await bench.until_ended(ref)
    assert await bench.read_log(ref) == b"bad\ngood\n"


async def test_a_forgotten_job_is_submitted_until_that_works(
    bench: SlurmBench, tmp_path: Path
) -> None:
    bench.replace_sbatch(FAILS_ON_WISH, tmp_path)
    bench.fill()
    ref = await bench.engine.start(bench.launch(PRINTS_TO_BOTH))
    (tmp_path / "fail").touch()
    bench.cluster.kill("slurmctld")
    for file in (bench.cluster.folder / "state").glob("job_state*"):
        file.unlink()
    bench.cluster.start_controller()
    await bench.until_so((tmp_path / "has-failed").exists)
    (tmp_path / "fail").unlink()

    (task,) = (await bench.until_ended(ref)).tasks
    assert task.exit_code == 0
