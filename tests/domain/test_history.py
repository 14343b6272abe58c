"""The shape of history: what has ended, when, and how Slurm tells it."""

from datetime import UTC

import pytest

from muster.domain.errors import InvalidRequest
from muster.domain.history import (
    ENDED,
    HistoryRow,
    check_row,
    ending_of,
    is_sacct_header,
    sacct_reader,
    slurm_name,
    times_of,
)
from muster.domain.phase import FINISHED, Reason, view_of

NOW_MS = 1_800_000_000_000
HEADER = "JobID|JobName|User|State|ExitCode|Submit|Start|End|Elapsed|Partition|AllocTRES|NNodes"
SUBMITTED = "2026-01-31T10:00:00"
STARTED = "2026-01-31T10:01:00"
FINISHED_AT = "2026-01-31T11:01:00"


def slurm(**cells: str) -> HistoryRow | None:
    """What a line of sacct says."""
    line = {
        "JobID": "12",
        "JobName": "train",
        "User": "ann",
        "State": "COMPLETED",
        "ExitCode": "0:0",
        "Submit": SUBMITTED,
        "Start": STARTED,
        "End": FINISHED_AT,
        "Elapsed": "01:00:00",
        "Partition": "gpu",
        "AllocTRES": "billing=8,cpu=8,gres/gpu=4,gres/gpu:a100=4,mem=64G,node=2",
        "NNodes": "2",
    } | cells
    return sacct_reader(HEADER, zone=UTC, now_ms=NOW_MS)("|".join(line.values()) + "\n")


def refused(**cells: str) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        slurm(**cells)
    return refusal.value.message


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("reason", Reason)
def test_every_code_reads_back_as_it_was_whatever_the_reason(status: int, reason: Reason) -> None:
    phase, kept = ending_of(status, reason)

    assert phase in FINISHED
    assert view_of(phase, kept).v1_status == status


def test_what_has_not_ended_is_no_history() -> None:
    assert sorted(ENDED) == [0, 3, 5, 6, 10, 11, 12, 13, 16, 17, 21]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((5, 8, 3), (5, 8)),
        ((5, 8, None), (5, 8)),
        ((5, None, 3), (5, 8)),
        ((None, 8, 3), (5, 8)),
        ((None, 8, 0), (None, 8)),
        ((None, 8, None), (None, 8)),
        ((None, None, None), (None, 1)),
        ((5, None, 0), (5, 5)),
    ],
)
def test_what_one_time_does_not_say_the_others_do(
    given: tuple[int | None, int | None, int | None], expected: tuple[int | None, int]
) -> None:
    started, ended, duration = given

    found = times_of(created_ms=1, started_ms=started, ended_ms=ended, duration_ms=duration)

    assert found == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((5, 8, 4), "duration is 4; from start_time to end_time it is 3"),
        ((None, None, 4), "duration is 4, and neither start_time nor end_time"),
        ((5, None, None), "end_time is missing"),
    ],
)
def test_times_that_contradict_one_another_are_refused(
    given: tuple[int | None, int | None, int | None], said: str
) -> None:
    started, ended, duration = given

    with pytest.raises(InvalidRequest, match=said):
        times_of(created_ms=1, started_ms=started, ended_ms=ended, duration_ms=duration)


def test_a_job_of_slurm_keeps_its_times_cards_and_nodes() -> None:
    row = slurm()

    assert row is not None
    assert (row.job_name, row.status, row.creator_name) == ("train", 10, "ann")
    assert row.created_at_ms == 1_769_853_600_000
    assert (row.duration_ms, row.gpu_count, row.npu_count, row.worker_count) == (3_600_000, 4, 0, 2)
    assert row.pool_name == "gpu"
    assert row.message == "Slurm job 12: COMPLETED."


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        ("FAILED", 11, Reason.TASK_EXIT),
        ("CANCELLED by 1000", 12, Reason.STOPPED_BY_USER),
        ("CANCELLED+", 12, Reason.STOPPED_BY_USER),
        ("TIMEOUT", 12, Reason.AUTO_STOPPED),
        ("NODE_FAIL", 11, Reason.LOST),
        ("OUT_OF_MEMORY", 11, Reason.TASK_SIGNAL),
        ("BOOT_FAIL", 5, Reason.ENGINE_REFUSED),
    ],
)
def test_every_ending_of_slurm_has_a_code(state: str, status: int, reason: Reason) -> None:
    row = slurm(State=state, ExitCode="0:9")

    assert row is not None
    assert (row.status, row.reason) == (status, reason)
    assert ending_of(status, reason)[1] is reason
    assert row.message == f"Slurm job 12: {state}, exit code 0:9."


@pytest.mark.parametrize("job_id", ["12.batch", "12.extern", "12_3.0"])
def test_the_steps_of_a_job_are_left_out(job_id: str) -> None:
    assert slurm(JobID=job_id) is None


def test_a_job_that_never_ran_has_no_start() -> None:
    row = slurm(State="CANCELLED", Start="None", Elapsed="00:00:00", AllocTRES="", NNodes="")

    assert row is not None
    assert row.started_at_ms is None
    assert (row.duration_ms, row.gpu_count, row.worker_count) == (0, 0, 1)


def test_a_job_that_was_requeued_is_told_from_its_first_run() -> None:
    first, second = slurm(State="NODE_FAIL"), slurm(Start="2026-01-31T10:30:00")

    assert first is not None
    assert second is not None
    assert first.source != second.source
    assert first.source_job == second.source_job


@pytest.mark.parametrize(
    "tres", ["gres/npu=8", "gres/ascend:910b=8", "gres/npu:910b=4,gres/npu:310=4"]
)
def test_npus_are_counted_whatever_they_are_called(tres: str) -> None:
    row = slurm(AllocTRES=tres)

    assert row is not None
    assert row.npu_count == 8


@pytest.mark.parametrize(
    ("text", "count"),
    [("2", 2), ("0", 0), ("2K", 2_048), ("1.50K", 1_536), ("2.5K", 2_560), ("4M", None)],
)
def test_a_number_that_slurm_has_abbreviated_is_the_whole_one(text: str, count: int | None) -> None:
    if count is None:
        assert refused(NNodes=text).startswith("worker_server_num is 4194304")
        return
    row = slurm(NNodes=text, AllocTRES=f"gres/gpu={text}")

    assert row is not None
    assert (row.worker_count, row.gpu_count) == (max(1, count), count)


def test_how_long_it_ran_tells_the_start_that_is_not_there() -> None:
    row = slurm(Start="", Elapsed="00:59:30", Submit=SUBMITTED)

    assert row is not None
    assert row.duration_ms == 3_570_000


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"State": "RUNNING"}, "State is 'RUNNING', which is no state of a job that has ended"),
        ({"State": ""}, "State is ''"),
        ({"Submit": "yesterday"}, "Submit is 'yesterday'; it must be a time"),
        ({"Submit": "Unknown"}, "Submit is 'Unknown'"),
        ({"End": "2026-01-31T09:00:00"}, "end_time is"),
        ({"JobName": "a|b"}, "The line has 13 columns, the header 12"),
        ({"NNodes": "5000"}, "worker_server_num is 5000; it must be from 1 to 4096"),
        ({"NNodes": "5K"}, "worker_server_num is 5120"),
        ({"NNodes": "9" * 5_000}, "NNodes is '999"),
        ({"NNodes": "1.46K"}, "NNodes is '1.46K'; it must be a number such as 2, or 2K for 2048"),
        ({"NNodes": "1.5"}, "NNodes is '1.5'"),
        ({"NNodes": "2T"}, "NNodes is '2T'"),
        ({"NNodes": "\u0663"}, "NNodes is '\u0663'"),
        ({"NNodes": "", "AllocTRES": "node=many"}, "node of AllocTRES is 'many'"),
        ({"AllocTRES": f"gres/gpu={'9' * 5_000}"}, "gres/gpu of AllocTRES is '999"),
        ({"AllocTRES": "gres/npu:910b=4,gres/npu:310=x"}, "gres/npu of AllocTRES is 'x'"),
        ({"Start": "", "Elapsed": "9999999999999-00:00:00"}, "Elapsed is '9999999999999-00:00:00'"),
        ({"Start": "", "Elapsed": "999999999-00:00:00"}, "start_time is -"),
        ({"Start": "", "Elapsed": f"{'9' * 5_000}:00"}, "Elapsed is '999"),
        ({"User": "a\0b"}, "user_name is 'a\\x00b'; the character NUL"),
        ({"JobName": "a\0b"}, "version_desc is 'a\\x00b'; the character NUL"),
    ],
)
def test_a_line_of_slurm_that_cannot_be_taken_says_why(cells: dict[str, str], said: str) -> None:
    assert refused(**cells).startswith(said)


def test_a_header_without_a_needed_column_says_how_to_call_sacct() -> None:
    with pytest.raises(InvalidRequest, match="has no Submit and no End; call sacct with"):
        sacct_reader("JobID|JobName|State", zone=UTC, now_ms=NOW_MS)


def test_only_a_header_is_taken_for_one() -> None:
    assert is_sacct_header(HEADER + "\n")
    assert not is_sacct_header('{"job_name": "a|JobID"}')
    assert not is_sacct_header("JobID")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("train_1", "train_1"), ("my job.sh", "my-job-sh"), ("\u4e2d", "job"), ("x" * 70, "x" * 64)],
)
def test_a_name_of_slurm_becomes_one_that_a_job_may_have(name: str, expected: str) -> None:
    assert slurm_name(name) == expected


def test_nothing_has_ended_in_the_future() -> None:
    row = HistoryRow(
        version_id="1", job_name="a", status=10, created_at_ms=1, ended_at_ms=NOW_MS + 1
    )

    with pytest.raises(InvalidRequest, match="cannot lie ahead"):
        check_row(row, now_ms=NOW_MS)
