"""What Slurm's own rules do to attempts: order, preemption, requeue, and what it never runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.placement import CardKind, TaskPlacement
from muster.engines import slurmattempt
from muster.engines.engine import ClusterWish, EngineRef, Launch, Observation, TaskState
from muster.engines.slurmsubmit import SlurmOptions
from tests.engines.contract import PRINTS_TO_BOTH, WAITS, program, states
from tests.engines.slurm_bench import SlurmBench
from tests.engines.slurm_cluster import SlurmCluster

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]

TELLS_CARDS = program(
    "import os\n"
    "for name in ('CUDA_VISIBLE_DEVICES', 'ASCEND_RT_VISIBLE_DEVICES'):\n"
    "    print(name, os.environ[name])",
    exit_code=0,
)


@pytest_asyncio.fixture
async def bench(slurm: SlurmCluster, tmp_path: Path) -> AsyncIterator[SlurmBench]:
    bench = SlurmBench(slurm, tmp_path / "jobs")
    await bench.open()
    yield bench
    await bench.engine.close()
    slurm.clear()


async def with_options(bench: SlurmBench, options: SlurmOptions) -> None:
    """Put an engine with other options in the place of the one that is open."""
    await bench.engine.close()
    bench.engine = bench.make_engine(options)
    await bench.open()


def in_pool(launch: Launch) -> Launch:
    return replace(launch, partition="pool")


async def send_pool_to(bench: SlurmBench, partition: str, **options: str) -> None:
    """Jobs of the pool go there from now on."""
    await bench.engine.close()
    bench.engine = bench.make_engine(SlurmOptions(usage_seconds=0.3, **options))  # type: ignore[arg-type]
    await bench.open()
    await bench.engine.arrange(ClusterWish(partitions={"pool": partition}))


async def until_over(bench: SlurmBench, ref: EngineRef) -> Observation:
    async with asyncio.timeout(60):
        while not (seen := await bench.observe(ref)).is_over:  # noqa: ASYNC110 - Slurm tells nobody
            await asyncio.sleep(0.05)
    return seen


async def until_told(bench: SlurmBench, ref: EngineRef, why: str) -> Observation:
    async with asyncio.timeout(60):
        while why not in (seen := await bench.observe(ref)).waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return seen


async def test_a_higher_priority_stands_before_a_lower_one_in_slurms_queue(
    bench: SlurmBench,
) -> None:
    bench.fill()
    for priority in (1, 2, 3):
        await bench.engine.start(replace(bench.launch(WAITS), priority=priority))

    rows = bench.cluster.run("squeue", "-h", "-t", "pending", "-O", "Nice:9,PriorityLong:12")

    by_nice = {
        int(nice) % 2**31: int(priority) for nice, priority in map(str.split, rows.splitlines())
    }
    order = sorted(by_nice, key=lambda nice: by_nice[nice], reverse=True)
    assert order == [0, 100, 200]


async def test_what_waits_in_slurms_queue_tells_why(bench: SlurmBench) -> None:
    bench.fill()
    ref = await bench.engine.start(bench.launch(WAITS))
    job_id = bench.cluster.run("squeue", "-h", "-o", "%i", f"--name=muster-{ref}").strip()

    taken = await until_told(bench, ref, "(Resources)")
    bench.cluster.run("scontrol", "hold", job_id)
    held = await until_told(bench, ref, "(JobHeld")

    assert "taken by other jobs of the cluster" in taken.waiting
    assert "`scontrol release` lets it go" in held.waiting
    assert states(held) == {TaskState.STARTING}


async def test_a_preempted_attempt_is_told_so_and_none_of_its_processes_is_left(
    bench: SlurmBench,
) -> None:
    ref = await bench.engine.start(bench.launch_on("n2", "n3"))
    for index in range(2):
        await bench.until_log(ref, b"up\n", task_index=index)
    with bench.cluster.partition("Urgent_1", "PriorityTier=100"):
        bench.cluster.run(
            *("sbatch", "--partition=Urgent_1", "--nodes=8", "--exclusive", "--mem=0"),
            *("--output=/dev/null", "--wrap=sleep 99"),
        )
        seen = await until_over(bench, ref)

    assert seen.was_preempted
    assert states(seen) == {TaskState.GONE}
    assert "PREEMPTED" in seen.tasks[0].message
    assert not bench.processes_of(ref)


async def test_what_an_operator_requeues_is_over_and_never_runs_again_as_this_attempt(
    bench: SlurmBench,
) -> None:
    ref = await bench.engine.start(bench.launch(WAITS))
    await bench.until_log(ref, b"up\n")
    job_id = bench.cluster.run("squeue", "-h", "-o", "%i", f"--name=muster-{ref}").strip()
    bench.cluster.run("scontrol", "update", f"JobId={job_id}", "Requeue=1")
    # The controller runs it again in a moment: the next look may find it waiting, or over.
    bench.cluster.run("scontrol", "requeue", job_id)

    seen = await until_over(bench, ref)

    assert states(seen) == {TaskState.GONE}
    await bench.until_so(lambda: not bench.queued())
    assert await bench.read_log(ref) == b"up\n"
    assert not bench.processes_of(ref)


async def test_a_job_that_begun_and_waits_again_is_over_as_preempted(bench: SlurmBench) -> None:
    ref = await bench.engine.start(bench.launch(WAITS))
    await bench.until_log(ref, b"up\n")
    job_id = bench.cluster.run("squeue", "-h", "-o", "%i", f"--name=muster-{ref}").strip()
    bench.cluster.run("scontrol", "update", f"JobId={job_id}", "Requeue=1")
    bench.cluster.run("scontrol", "requeuehold", job_id)

    seen = await until_over(bench, ref)

    assert seen.was_preempted
    assert "requeued" in seen.tasks[0].message
    await bench.until_so(lambda: not bench.queued())


async def test_a_queued_job_that_can_never_run_any_more_ends_and_says_why(
    bench: SlurmBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmattempt, "HOPELESS_SECONDS", 1.0)
    with bench.cluster.partition("small"):
        await send_pool_to(bench, "small")
        bench.fill()
        ref = await bench.engine.start(in_pool(bench.launch_on("n1", "n2")))
        bench.cluster.run("scontrol", "update", "PartitionName=small", "MaxNodes=1")

        (task, *_) = (await bench.until_ended(ref)).tasks
        await bench.until_so(lambda: "PENDING" not in bench.queued())

    assert (task.started_at_ms, task.was_stopped) == (None, False)
    assert "more nodes than its partition allows" in task.message


async def test_an_account_that_may_not_use_the_partition_is_refused_in_words(
    bench: SlurmBench,
) -> None:
    with bench.cluster.partition("closed", "AllowAccounts=others"):
        await send_pool_to(bench, "closed", account="ours")
        launch = in_pool(bench.launch(WAITS))

        with pytest.raises(EngineRefused, match=r"account.*slurm_account"):
            await bench.engine.start(launch)

        assert await bench.engine.find(launch.attempt_id, launch.folder) is None


async def test_cards_of_a_kind_that_the_nodes_lack_are_refused(bench: SlurmBench) -> None:
    launch = bench.launch_on("n1")
    npus = TaskPlacement(index=0, node_name="n1", card_kind=CardKind.NPU, cards=(0,))

    with pytest.raises(EngineRefused, match="configuration is not available"):
        await bench.engine.start(replace(launch, tasks=(npus,)))


async def test_cards_of_a_kind_that_slurm_does_not_know_are_refused_in_its_words(
    bench: SlurmBench,
) -> None:
    def without_npus(config: str) -> str:
        return config.replace("GresTypes=gpu,npu", "GresTypes=gpu").replace(" Gres=npu:8", "")

    launch = bench.launch_on("n8")
    npus = TaskPlacement(index=0, node_name="n8", card_kind=CardKind.NPU, cards=(0,))
    with bench.cluster.configured(without_npus):
        with pytest.raises(EngineRefused, match="Invalid generic resource"):
            await bench.engine.start(replace(launch, tasks=(npus,)))

        assert not launch.folder.exists()


async def test_a_partition_that_vanishes_under_a_queued_job_gives_the_job_back(
    bench: SlurmBench,
) -> None:
    bench.cluster.run("scontrol", "create", "PartitionName=fleeting", "Nodes=n1,n2")
    await send_pool_to(bench, "fleeting")
    bench.fill()
    ref = await bench.engine.start(in_pool(bench.launch(PRINTS_TO_BOTH)))
    # No file declares it: after a restart the controller does not know it any more.
    bench.cluster.restart_controller()

    seen = await until_over(bench, ref)

    assert (states(seen), seen.was_preempted) == ({TaskState.GONE}, True)
    assert "NODE_FAIL" in seen.tasks[0].message


async def test_with_another_munge_key_a_submit_fails_and_names_munge(
    bench: SlurmBench, slurm: SlurmCluster
) -> None:
    stranger = slurm.environ_of_a_stranger()
    try:
        bench.commands.environ = stranger
        with pytest.raises(EngineUnavailable, match="munge"):
            await bench.engine.start(bench.launch(WAITS))
    finally:
        bench.commands.environ = slurm.environ
        slurm.end_process("stranger")


async def test_tasks_that_share_a_node_see_their_own_npus_alone(bench: SlurmBench) -> None:
    launch = bench.launch_on("n7", "n7", "n8", what=TELLS_CARDS)
    ref = await bench.engine.start(replace(launch, tasks=npus(3, width=2)))

    await bench.until_ended(ref)

    told = [(await bench.read_log(ref, index)).decode().split("\n") for index in range(3)]
    assert {lines[0] for lines in told} == {"CUDA_VISIBLE_DEVICES "}
    assert [lines[1].split()[1] for lines in told] == ["0,1", "2,3", "0,1"]


def npus(count: int, *, width: int) -> tuple[TaskPlacement, ...]:
    return tuple(
        TaskPlacement(
            index=index, node_name=f"a{index}", card_kind=CardKind.NPU, cards=tuple(range(width))
        )
        for index in range(count)
    )


async def test_a_rank_table_has_the_network_addresses_that_each_node_tells(
    bench: SlurmBench, tmp_path: Path
) -> None:
    for number, name in ((1, "n7"), (2, "n8")):
        lines = [
            f"address_{card}=10.0.{number}.{card}\nnetmask_{card}=255.0.0.0" for card in range(8)
        ]
        (tmp_path / f"{name}.conf").write_text("\n".join(lines) + "\n")
    await with_options(
        bench, SlurmOptions(usage_seconds=0.3, npu_addresses=str(tmp_path / "%n.conf"))
    )
    tells = program(
        "import os, pathlib; print(pathlib.Path(os.environ['RANK_TABLE_FILE']).read_text())",
        exit_code=0,
    )
    launch = bench.launch_on("n7", "n8", what=tells)
    ref = await bench.engine.start(replace(launch, tasks=npus(2, width=2)))

    await bench.until_ended(ref)

    tables = [json.loads(await bench.read_log(ref, index)) for index in range(2)]
    assert tables[0] == tables[1]
    devices = [device for server in tables[0]["server_list"] for device in server["device"]]
    assert [(device["rank_id"], device["device_ip"]) for device in devices] == [
        ("0", "10.0.1.0"),
        ("1", "10.0.1.1"),
        ("2", "10.0.2.0"),
        ("3", "10.0.2.1"),
    ]


async def test_each_task_tells_its_own_exit_code(bench: SlurmBench) -> None:
    ends = program("import os; raise SystemExit(10 + int(os.environ['VC_TASK_INDEX']))")
    ref = await bench.engine.start(bench.launch_on("n2", "n3", "n2", what=ends))

    seen = await bench.until_ended(ref)

    assert [task.exit_code for task in seen.tasks] == [10, 11, 12]


async def test_the_calls_of_a_look_do_not_grow_with_the_jobs(
    bench: SlurmBench, tmp_path: Path
) -> None:
    bench.fill()
    for _ in range(20):
        await bench.engine.start(bench.launch(WAITS))
    calls = bench.count_calls(tmp_path)

    await asyncio.sleep(3)

    counted = calls()
    assert counted["squeue"] <= 8
    assert set(counted) <= {"squeue", "sinfo", "scontrol"}
