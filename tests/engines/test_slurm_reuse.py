"""Slurm jobs that run one attempt after another, on a real cluster."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from muster.engines import slurmreuse
from muster.engines.attemptfiles import read_state
from muster.engines.engine import EngineRef, TaskState
from muster.engines.slurmfiles import JobClaim
from muster.engines.slurmsubmit import SlurmOptions
from tests.engines.contract import (
    DEADLINE_SECONDS,
    LOG_AGAIN_SECONDS,
    LONG_GRACE_SECONDS,
    PRINTS_TO_BOTH,
    WAITS,
    states,
)
from tests.engines.fake import Program
from tests.engines.slurm_bench import SlurmBench
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

WAITS_LONG_SECONDS = 60.0  # a busy machine must not make a node give up before the test goes on


@pytest_asyncio.fixture
async def bench(
    slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SlurmBench]:
    """One whose nodes wait for another attempt after the very first."""
    monkeypatch.setattr(slurmreuse, "BURST_STARTS", 1)
    monkeypatch.setattr(slurmreuse, "WAIT_SECONDS", WAITS_LONG_SECONDS)
    bench = SlurmBench(slurm, tmp_path / "jobs")
    bench.engine = bench.make_engine(SlurmOptions(usage_seconds=0.3, reuse_seconds=600))
    await bench.open()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await bench.engine.observe_cluster() is None:  # noqa: ASYNC110 - jobs name a partition
            await asyncio.sleep(LOG_AGAIN_SECONDS)
    yield bench
    await bench.engine.close()
    slurm.clear()


async def run(bench: SlurmBench, what: Program = PRINTS_TO_BOTH, host: str = "n1") -> EngineRef:
    ref = await bench.engine.start(bench.launch_on(host, what=what))
    await bench.until_ended(ref)
    return ref


async def start_in_the_job_of_another(bench: SlurmBench) -> tuple[EngineRef, EngineRef]:
    """(an attempt that has ended, one that runs in its job)."""
    first = await run(bench)
    second = await bench.engine.start(bench.launch_on("n1", what=WAITS))
    await bench.until_log(second, b"up\n")
    assert claim_of(bench, second) == replace_name(bench, first)
    return first, second


def replace_name(bench: SlurmBench, ref: EngineRef) -> tuple[str, str]:
    return claim_of(bench, ref)[0], f"muster-{ref}"


def claim_of(bench: SlurmBench, ref: EngineRef) -> tuple[str, str]:
    """(id, name) of the Slurm job that has an attempt."""
    claim = read_state(bench.jobs_folder / ref / "slurm-claim.json", JobClaim)
    assert claim is not None
    return claim.job_id, claim.job_name


def jobs_of(bench: SlurmBench, *further: str) -> list[str]:
    """The names of the jobs that Slurm has to run, and of those in further states."""
    states = ",".join(("running", "pending", *further))
    return bench.cluster.run("squeue", "-h", "-t", states, "-o", "%j").split()


async def test_attempts_of_one_kind_share_a_job_and_each_runs_once(bench: SlurmBench) -> None:
    refs = [await run(bench) for _ in range(4)]

    assert {claim_of(bench, ref) for ref in refs} == {replace_name(bench, refs[0])}
    for ref in refs:
        assert await bench.read_log(ref) == b"bad\ngood\n"


async def test_an_attempt_on_another_node_gets_a_job_of_its_own(bench: SlurmBench) -> None:
    first, other = await run(bench), await run(bench, host="n2")

    assert claim_of(bench, other)[0] != claim_of(bench, first)[0]


async def test_an_attempt_that_serves_gets_a_job_of_its_own(bench: SlurmBench) -> None:
    first = await run(bench)
    ref = await bench.engine.start(replace(bench.launch_on("n1", what=WAITS), serves=True))
    await bench.until_log(ref, b"up\n")

    assert claim_of(bench, ref)[0] != claim_of(bench, first)[0]


async def test_one_that_runs_in_the_job_of_another_is_stopped_like_any(bench: SlurmBench) -> None:
    _, second = await start_in_the_job_of_another(bench)

    await bench.engine.stop(second, LONG_GRACE_SECONDS)

    (task,) = (await bench.until_ended(second)).tasks
    assert (task.exit_code, task.was_stopped) == (143, True)
    assert not bench.processes_of(second)


async def test_its_job_takes_its_name_where_it_runs_on(
    bench: SlurmBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.engines.slurmattempt.RENAME_SECONDS", 0.0)
    _, second = await start_in_the_job_of_another(bench)

    await bench.until_so(lambda: jobs_of(bench) == [f"muster-{second}"])
    bench.cluster.run("scancel", f"--name=muster-{second}")

    (task,) = (await bench.until_ended(second)).tasks
    assert "CANCELLED" in task.message


async def test_what_slurm_does_to_its_job_is_told_of_it(bench: SlurmBench) -> None:
    first, second = await start_in_the_job_of_another(bench)

    bench.cluster.run("scancel", claim_of(bench, first)[0])

    (task,) = (await bench.until_ended(second)).tasks
    assert "CANCELLED" in task.message
    assert not bench.processes_of(second)


async def test_the_next_server_finds_it(bench: SlurmBench) -> None:
    _, second = await start_in_the_job_of_another(bench)
    await bench.engine.close()

    bench.engine = bench.make_engine()
    await bench.open()
    await bench.until_so(lambda: bench.engine._attempts[second].job is not None)
    seen = states(await bench.observe(second))
    await bench.engine.stop(second, LONG_GRACE_SECONDS)

    assert seen == {TaskState.RUNNING}
    assert states(await bench.until_ended(second)) == {TaskState.ENDED}


async def test_a_job_that_is_told_to_end_takes_nothing_more(bench: SlurmBench) -> None:
    first = await run(bench)
    bench.cluster.run("scancel", claim_of(bench, first)[0])
    await bench.until_so(lambda: not jobs_of(bench, "completing"))

    second = await run(bench)

    assert claim_of(bench, second)[0] != claim_of(bench, first)[0]
    assert await bench.read_log(second) == b"bad\ngood\n"


async def test_what_was_handed_to_a_job_that_died_is_submitted_and_runs_once(
    bench: SlurmBench,
) -> None:
    first = await run(bench)
    bench.cluster.run("scancel", claim_of(bench, first)[0])
    await bench.until_so(lambda: not jobs_of(bench, "completing"))
    # As if it had been killed before it could say that it takes nothing more.
    (bench.jobs_folder / first / "slurm-next.json").unlink(missing_ok=True)

    second = await run(bench)

    assert "attempt_id" in (bench.jobs_folder / first / "slurm-next.json").read_text()
    assert claim_of(bench, second) == replace_name(bench, second)
    assert await bench.read_log(second) == b"bad\ngood\n"


async def test_a_stop_between_the_hand_over_and_the_claim_keeps_it_from_coming_up(
    bench: SlurmBench,
) -> None:
    first = await run(bench)
    bench.cluster.run("scontrol", "suspend", claim_of(bench, first)[0])
    second = await bench.engine.start(bench.launch_on("n1", what=WAITS))

    await bench.engine.stop(second, LONG_GRACE_SECONDS)
    bench.cluster.run("scontrol", "resume", claim_of(bench, first)[0])

    (task,) = (await bench.until_ended(second)).tasks
    assert (task.was_stopped, task.started_at_ms) == (True, None)
    await bench.until_so(lambda: not jobs_of(bench))


async def test_a_job_ends_at_once_where_no_burst_is_under_way(
    bench: SlurmBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmreuse, "BURST_STARTS", 8)
    ref = await run(bench)

    await bench.until_so(lambda: not jobs_of(bench))

    assert (bench.jobs_folder / ref / "slurm-next.json").read_text() == "{}"


async def test_without_the_setting_each_attempt_has_a_job_of_its_own(bench: SlurmBench) -> None:
    await bench.engine.close()
    bench.engine = bench.make_engine(SlurmOptions(reuse_seconds=0))
    await bench.open()

    refs = [await run(bench) for _ in range(2)]

    assert [claim_of(bench, ref) for ref in refs] == [replace_name(bench, ref) for ref in refs]
