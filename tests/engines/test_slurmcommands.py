"""What Slurm's commands print, as values; and what the part on the nodes makes of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.placement import CardKind
from muster.engines import slurmasking, slurmjob
from muster.engines.attemptfiles import Claim, Result
from muster.engines.engine import Observation, TaskState
from muster.engines.slurmattempt import (
    AWAY_SECONDS,
    HOPELESS_SECONDS,
    SETTLE_SECONDS,
    TOLD_SECONDS,
    Attempt,
)
from muster.engines.slurmcommands import (
    SlurmCommands,
    SlurmJob,
    parse_cluster,
    parse_gres,
    parse_jobs,
    partition_for,
)
from muster.engines.slurmfiles import JobClaim, JobEnd, JobFiles, TaskFiles
from muster.engines.slurmjudge import judge_attempt
from muster.engines.slurmusage import Usage, mean_cpu_millis

NODES = """\
n1|all*|16|65536|idle|gpu:8|127.0.0.1|none
n2|all*|16+|65536+|mixed|gpu:h100:4(S:0-1),gpu:h100:4(S:2-3)|127.0.0.1|none
n2|train|16|65536|mixed|gpu:8|127.0.0.1|none
n3|train|4|8000|drained*|(null)|127.0.0.1|bad | fan
"""
DETAILS = """\
   JOB_GRES=gpu:6
     Nodes=n[1-2] CPU_IDs=0-3 Mem=1024 GRES=gpu:2(IDX:0-1)
     Nodes=n7 CPU_IDs=0 Mem=1024 GRES=gpu:h100:1(IDX:3),npu:3(IDX:0,2,7)
"""


def test_jobs_of_others_are_left_out_and_reasons_may_hold_anything() -> None:
    text = "7|muster-abc|PENDING||(Resources|x)\n8|other|RUNNING|n1|None\n\nnonsense\n"

    assert parse_jobs(text.splitlines()) == [
        SlurmJob(id="7", name="muster-abc", state="PENDING", reason="(Resources|x)")
    ]


def test_a_cluster_is_read_with_its_partitions_and_reasons() -> None:
    cluster = parse_cluster(NODES)

    assert cluster.default_partition == "all"
    assert cluster.partitions == ("all", "train")
    first, second, third = cluster.nodes
    assert (first.partitions, second.partitions) == (("all",), ("all", "train"))
    assert (second.card_kind, second.card_model, second.card_count) == (CardKind.GPU, "", 8)
    assert first.is_up
    assert not first.message
    assert not third.is_up
    assert third.message == "Slurm says that the node 'n3' is drained: bad | fan."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(null)", (None, "", 0)),
        ("gpu:8", (CardKind.GPU, "", 8)),
        ("gpu:h100:4(S:0-1),gpu:h100:4(S:2-3)", (CardKind.GPU, "h100", 8)),
        ("npu:910b:8", (CardKind.NPU, "910b", 8)),
        ("craynetwork:4,npu:2", (CardKind.NPU, "", 2)),
    ],
)
def test_cards_are_counted_whatever_else_a_node_has(
    text: str, found: tuple[CardKind | None, str, int]
) -> None:
    assert parse_gres(text) == found


def test_a_job_goes_to_a_partition_that_has_its_hosts() -> None:
    cluster = parse_cluster(NODES)

    assert partition_for(["n1"], cluster, None) == "all"
    assert partition_for(["n2", "n3"], cluster, None) == "train"
    assert partition_for(["n2"], cluster, "mine") == "mine"
    assert partition_for([], cluster, None) is None
    assert partition_for(["n9"], cluster, None) is None


def test_the_cards_of_each_group_of_nodes_are_read() -> None:
    assert slurmasking.parse_cards(DETAILS) == [
        ("n[1-2]", {"gpu": [0, 1]}),
        ("n7", {"gpu": [3], "npu": [0, 2, 7]}),
    ]


def test_tasks_that_share_a_node_share_out_its_cards() -> None:
    plan = {
        "card_kind": "npu",
        "cards_per_task": 2,
        "groups": [{"host": "n2", "tasks": [0, 2]}, {"host": "n1", "tasks": [1]}],
    }
    cards = {"n1": {"npu": [0, 1, 2, 3]}, "n2": {"npu": [4, 5, 6, 7]}}

    layout = slurmjob.lay_out(plan, ["n1", "n2"], {"n1": "10.0.0.1", "n2": "10.0.0.2"}, cards)

    where = {index: (task["address"], task["cards"]) for index, task in layout["tasks"].items()}
    assert where == {
        "0": ("10.0.0.2", [4, 5]),
        "1": ("10.0.0.1", [0, 1]),
        "2": ("10.0.0.2", [6, 7]),
    }
    table = slurmasking.rank_table(layout, {})
    assert [server["server_id"] for server in table["server_list"]] == ["10.0.0.2", "10.0.0.1"]
    ranks = [(d["device_id"], d["rank_id"]) for s in table["server_list"] for d in s["device"]]
    assert ranks == [("4", "0"), ("5", "1"), ("6", "4"), ("7", "5"), ("0", "2"), ("1", "3")]


def ended(exit_code: int) -> TaskFiles:
    result = Result(
        exit_code=exit_code, was_stopped=False, started_at_ms=1, ended_at_ms=2, message=""
    )
    return TaskFiles(Claim(started_at_ms=1), result, is_gone=False)


def judge(files: JobFiles) -> Observation:
    return judge_attempt(files, task_count=2)


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "MISSING"])
def test_tasks_that_were_killed_with_their_job_are_gone_not_failed(state: str) -> None:
    files = JobFiles(JobClaim(job_id="1"), JobEnd(state=state, at_ms=9), (ended(143), ended(137)))

    assert {task.state for task in judge(files).tasks} == {TaskState.GONE}


def test_a_task_that_failed_by_itself_stays_so_when_its_node_fails_later() -> None:
    end = JobEnd(state="NODE_FAIL", at_ms=9)

    seen = judge(JobFiles(JobClaim(job_id="1"), end, (ended(3), ended(143))))

    assert [task.state for task in seen.tasks] == [TaskState.ENDED, TaskState.GONE]


def test_a_job_that_slurm_loses_before_it_came_up_is_gone() -> None:
    claim, end = JobClaim(ended_at_ms=9), JobEnd(state="NODE_FAIL", at_ms=9)

    assert judge(JobFiles(claim, end)).is_gone


def test_a_mean_needs_two_looks_of_the_node() -> None:
    before, after = Usage(at_ms=1000, cpu_ms=500, memory_mib=1), Usage(3000, 1500, 1)

    assert mean_cpu_millis(before, after) == 500
    assert mean_cpu_millis(None, after) is None
    assert mean_cpu_millis(after, after) is None


REFUSALS = [
    ("sbatch: error: Batch job submission failed: Invalid qos specification", "slurm_qos"),
    ("Invalid account or account/partition combination specified", "slurm_account"),
    ("sbatch: error: Batch job submission failed: Node count specification invalid", "fewer nodes"),
    ("Requested time limit is invalid (missing or exceeds some limit)", "less time"),
    ("Invalid generic resource (gres) specification", "gres"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("said", "told"), REFUSALS)
async def test_what_slurm_will_never_run_is_refused_in_words(
    tmp_path: Path, said: str, told: str
) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    sbatch.chmod(0o755)

    with pytest.raises(EngineRefused, match=told):
        await SlurmCommands(folder=tmp_path).submit([])


@pytest.mark.asyncio
async def test_what_slurm_may_run_later_is_not_refused(tmp_path: Path) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        "#!/bin/sh\necho 'Required partition not available (inactive or drain)' >&2\nexit 1\n"
    )
    sbatch.chmod(0o755)

    with pytest.raises(EngineUnavailable, match="inactive or drain"):
        await SlurmCommands(folder=tmp_path).submit([])


def test_a_job_that_slurm_takes_off_its_queue_has_lost_nothing() -> None:
    claim, end = JobClaim(ended_at_ms=9), JobEnd(state="NODE_FAIL", at_ms=9)

    assert judge(JobFiles(claim, end)).was_preempted
    assert not judge(JobFiles(JobClaim(job_id="1"), end, (ended(3), ended(143)))).was_preempted


def attempt(**known: object) -> Attempt:
    return Attempt(id="a" * 32, folder=Path("/nowhere"), task_count=1, **known)  # type: ignore[arg-type]


def row(state: str, reason: str = "None", job_id: str = "7") -> SlurmJob:
    return SlurmJob(id=job_id, name="muster-" + "a" * 32, state=state, reason=reason)


def test_what_slurm_cancels_on_a_node_before_it_began_has_lost_nothing() -> None:
    refused, called_off = attempt(submitted_at=1.0), attempt(submitted_at=1.0)
    ended = row("CANCELLED")
    refused.note_jobs([replace(ended, nodes="n1")], asked_at=2.0, now=2.0)
    called_off.note_jobs([ended], asked_at=2.0, now=2.0)

    ends = [each.fate(2.0 + SETTLE_SECONDS) for each in (refused, called_off)]

    seen = [judge_attempt(JobFiles(end=end), task_count=1) for end in ends]
    assert [each.was_preempted for each in seen] == [True, False]
    assert [each.tasks[0].state for each in seen] == [TaskState.GONE, TaskState.ENDED]


def test_an_answer_from_before_it_began_does_not_tell_of_a_requeue() -> None:
    begun = attempt(submitted_at=1.0)
    begun.take_in(JobFiles(JobClaim(job_id="7"), None, (TaskFiles(),)), 10.0)

    begun.note_jobs([row("PENDING")], asked_at=9.0, now=11.0)
    assert begun.fate(11.0) is None

    begun.note_jobs([row("PENDING")], asked_at=12.0, now=12.5)
    end = begun.fate(12.5)
    assert end is not None
    assert end.state == "REQUEUED"


def test_what_slurm_can_never_run_is_given_up_only_after_a_while() -> None:
    waits = attempt(submitted_at=1.0)
    for now in (10.0, 10.0 + HOPELESS_SECONDS - 1):
        waits.note_jobs([row("PENDING", "BadConstraints")], asked_at=now, now=now)
        assert waits.fate(now) is None
    later = 10.0 + HOPELESS_SECONDS
    waits.note_jobs([row("PENDING", "BadConstraints")], asked_at=later, now=later)

    end = waits.fate(later)

    assert end is not None
    assert "no node of its partition has what it asks for" in end.message


def test_a_reason_is_told_once_it_has_lasted_and_not_after_it_began() -> None:
    waits = attempt(submitted_at=1.0)
    for now in (10.0, 10.0 + TOLD_SECONDS - 0.1):
        waits.note_jobs([row("PENDING", "Priority")], asked_at=now, now=now)
        assert waits.seen.waiting == ""
    later = 10.0 + TOLD_SECONDS
    waits.note_jobs([row("PENDING", "Priority")], asked_at=later, now=later)
    told = waits.seen.waiting

    waits.take_in(JobFiles(JobClaim(job_id="7"), None, (TaskFiles(),)), later + 1)

    assert "jobs of higher priority stand before it (Priority)" in told
    assert waits.seen.waiting == ""


def test_one_is_left_alone_only_where_no_time_counts() -> None:
    def settled(known: Attempt, job: SlurmJob | None, *, at: float) -> str:
        known.note_jobs([job] if job else [], asked_at=at, now=at)
        known.note_nodes({"n2"}, now=at)
        known.settle()
        return known.settled

    waits, elsewhere = attempt(submitted_at=1.0), attempt(hosts=frozenset({"n2"}))
    assert settled(waits, None, at=1.0) == ""  # it may be forgotten
    assert settled(waits, row("PENDING", "Priority"), at=2.0) == ""  # that is to be told
    assert settled(waits, row("PENDING", "Priority"), at=2.0 + TOLD_SECONDS) == "PENDING"
    assert settled(waits, row("PENDING", "BadConstraints"), at=9.0) == ""  # it is to be given up
    assert settled(elsewhere, row("PENDING"), at=9.0) == ""  # its node may stay away

    runs = attempt(submitted_at=1.0)
    assert settled(runs, row("RUNNING"), at=9.0) == ""  # it has not begun, as far as is known
    runs.take_in(JobFiles(JobClaim(job_id="7"), None, (TaskFiles(),)), 10.0)
    assert settled(runs, row("RUNNING"), at=11.0) == "RUNNING"
    runs.kill_after(5.0, 12.0)
    assert runs.settled == ""  # it is to end in time
    assert settled(runs, row("RUNNING"), at=13.0) == ""

    killed = attempt(submitted_at=1.0)
    killed.take_in(JobFiles(JobClaim(job_id="7"), None, (ended(143),)), 10.0)
    assert settled(killed, row("RUNNING"), at=10.0) == ""  # who killed it is to be found out
    renamed = attempt(submitted_at=1.0)
    renamed.take_in(JobFiles(JobClaim(job_id="7", job_name="muster-x"), None, (TaskFiles(),)), 10.0)
    other = replace(row("RUNNING"), name="muster-x")
    assert settled(renamed, other, at=10.0) == ""  # its job is to have its own name
    assert settled(waits, row("COMPLETED"), at=20.0) == ""


def test_a_reason_that_passes_starts_the_wait_anew() -> None:
    waits = attempt(submitted_at=1.0)
    waits.note_jobs([row("PENDING", "PartitionNodeLimit")], asked_at=10.0, now=10.0)
    waits.note_jobs([row("PENDING", "Resources")], asked_at=20.0, now=20.0)
    waits.note_jobs([row("PENDING", "PartitionNodeLimit")], asked_at=50.0, now=50.0)

    assert waits.fate(50.0) is None


def test_a_job_whose_node_stays_away_is_given_back_to_run_elsewhere() -> None:
    waits = attempt(submitted_at=1.0, hosts=frozenset({"n1", "n2"}))
    for now in (10.0, 10.0 + AWAY_SECONDS):
        waits.note_jobs([row("PENDING", "ReqNodeNotAvail")], asked_at=now, now=now)
        waits.note_nodes({"n2"}, now=now)

    end = waits.fate(10.0 + AWAY_SECONDS)

    assert end is not None
    assert end.message.endswith("down or drained: n2.")
    assert judge(JobFiles(JobClaim(ended_at_ms=9), end)).was_preempted


def test_a_job_that_fails_with_its_nodes_names_those_that_are_down() -> None:
    nodes = [f"n{number}" for number in range(1, 9)]
    runs = attempt(submitted_at=1.0, hosts=frozenset(nodes))
    runs.take_in(JobFiles(JobClaim(job_id="7"), None, (TaskFiles(),)), 2.0)
    runs.note_jobs([row("NODE_FAIL", "NodeDown")], asked_at=3.0, now=3.0)
    runs.note_nodes({"n1", "n2", "n3", "n4", "n5", "n6", "other"}, now=3.0)

    end = runs.fate(3.0 + SETTLE_SECONDS)

    assert end is not None
    assert end.message == (
        "Slurm ended the job: NODE_FAIL (NodeDown)."
        " Down or drained are now: n1, n2, n3, n4 and 2 more."
    )


def test_a_job_that_fails_with_nodes_that_are_up_points_to_its_partition() -> None:
    runs = attempt(submitted_at=1.0, hosts=frozenset({"n1"}))
    runs.take_in(JobFiles(JobClaim(job_id="7"), None, (TaskFiles(),)), 2.0)
    runs.note_jobs([row("NODE_FAIL", "NodeDown")], asked_at=3.0, now=3.0)
    runs.note_nodes({"other"}, now=3.0)

    end = runs.fate(3.0 + SETTLE_SECONDS)

    assert end is not None
    assert end.message.endswith("its partition may have been removed.")


def test_a_node_that_comes_back_in_time_keeps_its_job() -> None:
    waits = attempt(submitted_at=1.0, hosts=frozenset({"n1"}))
    for now, away in ((10.0, {"n1"}), (20.0, set()), (31.0, {"n1"})):
        waits.note_jobs([row("PENDING", "Resources")], asked_at=now, now=now)
        waits.note_nodes(away, now=now)

    assert waits.fate(31.0) is None


def test_of_two_jobs_of_one_attempt_the_one_without_the_claim_is_too_many() -> None:
    begun = attempt(submitted_at=1.0)
    begun.take_in(JobFiles(JobClaim(job_id="7"), None, (TaskFiles(),)), 10.0)

    rows = [row("PENDING", job_id="9"), row("RUNNING"), row("COMPLETED", job_id="5")]

    assert begun.note_jobs(rows, asked_at=11.0, now=11.0) == ["9"]
    assert begun.fate(11.0) is None
