"""Attempts on Slurm whose tasks wait for their inputs: what is seen of them, and how they end."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from muster.engines import porter, shim
from muster.engines.attemptfiles import Claim
from muster.engines.engine import Observation, TaskState
from muster.engines.slurmfiles import JobClaim, JobEnd, JobFiles, TaskFiles
from muster.engines.slurmjudge import judge_attempt
from muster.engines.slurmsubmit import SlurmOptions, time_limit
from tests.engines.contract import SUCCEEDS, WAITS
from tests.engines.slurm_bench import SlurmBench
from tests.engines.slurm_cluster import SlurmCluster

CLAIM = JobClaim(job_id="1", awaits_inputs=True)
FENCED = TaskFiles(Claim(fenced_at_ms=5))


@pytest_asyncio.fixture
async def bench(slurm: SlurmCluster, tmp_path: Path) -> AsyncIterator[SlurmBench]:
    bench = SlurmBench(slurm, tmp_path / "jobs")
    await bench.open()
    yield bench
    await bench.engine.close()
    slurm.clear()


def judge(*tasks: TaskFiles, end: str | None = None) -> Observation:
    told = None if end is None else JobEnd(state=end, at_ms=9, message=f"Slurm says {end}.")
    return judge_attempt(JobFiles(CLAIM, told, tasks), task_count=len(tasks))


def test_it_waits_until_a_task_has_come_up() -> None:
    waiting = judge(TaskFiles(), TaskFiles())

    assert waiting.awaits_inputs
    assert {task.state for task in waiting.tasks} == {TaskState.STARTING}
    assert not judge(TaskFiles(), TaskFiles(Claim(started_at_ms=1))).awaits_inputs
    usual = judge_attempt(JobFiles(JobClaim(job_id="1"), None, (TaskFiles(),)), task_count=1)
    assert not usual.awaits_inputs


@pytest.mark.parametrize("tasks", [(TaskFiles(), TaskFiles()), (FENCED, FENCED)])
@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "MISSING", "REQUEUED"])
def test_what_loses_its_nodes_meanwhile_has_lost_nothing(
    state: str, tasks: tuple[TaskFiles, ...]
) -> None:
    seen = judge(*tasks, end=state)

    assert seen.is_gone
    assert seen.was_preempted
    assert not seen.awaits_inputs


def test_an_agent_that_is_killed_meanwhile_loses_its_tasks() -> None:
    seen = judge(TaskFiles(), end="OUT_OF_MEMORY")

    assert seen.is_gone
    assert not seen.was_preempted, "it would fail in the same way again, without end"
    assert seen.tasks[0].message == "Slurm says OUT_OF_MEMORY."


def test_what_an_operator_cancels_meanwhile_never_came_up() -> None:
    seen = judge(TaskFiles(), end="CANCELLED")

    assert seen.is_over
    assert not seen.is_gone
    assert seen.tasks[0].message == "It never came up. Slurm says CANCELLED."


def test_one_that_a_user_stops_meanwhile_is_stopped() -> None:
    seen = judge(FENCED, FENCED)

    assert seen.is_over
    assert all(task.was_stopped for task in seen.tasks)


def test_slurms_limit_of_time_allows_for_the_fetch() -> None:
    hour, gib = 3_600_000, 1 << 30

    assert time_limit(None, 100 * gib) == []
    assert time_limit(hour, 0) == ["--time=65"]
    assert time_limit(hour, 1) == ["--time=66", "--time-min=65"]
    assert time_limit(hour, 100 * gib) == ["--time=407", "--time-min=65"]


@pytest.mark.asyncio
async def test_its_tasks_start_once_its_inputs_are_there(bench: SlurmBench) -> None:
    launch = replace(bench.launch_on("n1", "n2", what=SUCCEEDS), awaited_bytes=1)
    ref = await bench.engine.start(launch)
    seen = await bench.until(ref, lambda seen: seen.awaits_inputs)
    assert {task.state for task in seen.tasks} == {TaskState.STARTING}
    moves = launch.folder / porter.MOVES_FOLDER / porter.INPUTS
    await bench.until_so((moves / porter.ALIVE_FILE).exists)

    shim.write_json(str(moves / porter.OVER_FILE), {})

    seen = await bench.until_ended(ref)
    assert [task.exit_code for task in seen.tasks] == [0, 0]
    await bench.until_so(lambda: not bench.queued())


@pytest.mark.asyncio
async def test_one_that_waits_for_its_inputs_can_be_stopped(bench: SlurmBench) -> None:
    launch = replace(bench.launch_on("n1", "n2"), awaited_bytes=1)
    ref = await bench.engine.start(launch)
    await bench.until(ref, lambda seen: seen.awaits_inputs)

    await bench.engine.stop(ref, 10.0)

    seen = await bench.until_ended(ref)
    assert all(task.was_stopped for task in seen.tasks)
    await bench.until_so(lambda: not bench.queued())


@pytest.mark.asyncio
async def test_a_partition_that_allows_just_the_limit_runs_it_all_the_same(
    bench: SlurmBench,
) -> None:
    launch = replace(
        bench.launch_on("n5", what=WAITS),
        awaited_bytes=100 << 30,
        time_limit_ms=55 * 60_000,
    )
    with bench.cluster.partition("short", "MaxTime=60"):
        await bench.engine.close()
        bench.engine = bench.make_engine(SlurmOptions(partition="short"))
        await bench.open()
        ref = await bench.engine.start(launch)
        await bench.until(ref, lambda seen: seen.awaits_inputs)

        shown = bench.cluster.run("scontrol", "show", "job", "-d")
        assert "Partition=short" in shown
        assert "TimeLimit=01:00:00" in shown
        await bench.engine.stop(ref, 0.0)
        await bench.until_ended(ref)
