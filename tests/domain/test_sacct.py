"""What a line of sacct says, and what it cannot."""

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

import pytest

from muster.domain.errors import InvalidRequest
from muster.domain.history import HistoryRow, ending_of
from muster.domain.phase import Reason
from muster.domain.sacct import is_sacct_header, sacct_reader, slurm_name

NOW_MS = 1_800_000_000_000
HEADER = "JobID|JobName|User|State|ExitCode|Submit|Start|End|Elapsed|Partition|AllocTRES|NNodes"
SUBMITTED = "2026-01-31T10:00:00"
STARTED = "2026-01-31T10:01:00"
FINISHED_AT = "2026-01-31T11:01:00"


def slurm(**cells: str) -> HistoryRow | None:
    """What a line of sacct says."""
    return read_in(UTC, cells)


def read_in(zone: tzinfo, cells: dict[str, str]) -> HistoryRow | None:
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
    return sacct_reader(HEADER, zone=zone, now_ms=NOW_MS)("|".join(line.values()) + "\n")


def refused(**cells: str) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        slurm(**cells)
    return refusal.value.message


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
        ("REQUEUED", 12, Reason.NONE),
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
        ({"Submit": "310126"}, "Submit is '310126'; it must be a time"),
        ({"Submit": "31.01.2026 10:00"}, "Submit is '31.01.2026 10:00'; it must be a time"),
        ({"Start": "2026-01-31T09:00:00"}, "Start is '2026-01-31T09:00:00', before Submit, '2026"),
        ({"End": "2026-01-31T10:00:30"}, "End is '2026-01-31T10:00:30', before Start, '2026-01"),
        ({"Start": "None", "End": "2026-01-31T09:00:00"}, "End is '2026-01-31T09:00:00', before S"),
        ({"End": "2036-01-31T09:00:00"}, "End is '2036-01-31T09:00:00', which lies ahead"),
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


def test_lines_without_their_header_say_how_to_call_sacct() -> None:
    with pytest.raises(InvalidRequest, match="Call it without --noheader"):
        is_sacct_header("12|train|ann|COMPLETED|0:0|2026-01-31T10:00:00")


def test_the_header_of_another_call_that_follows_is_no_line() -> None:
    read = sacct_reader(HEADER, zone=UTC, now_ms=NOW_MS)

    assert read(HEADER + "\n") is None


def test_a_date_in_digits_is_no_number_of_seconds() -> None:
    row = slurm(Submit="20260131")

    assert row is not None
    assert row.created_at_ms == 1_769_817_600_000


def test_seconds_since_the_epoch_are_a_time() -> None:
    row = slurm(Submit="1769853600", Start="1769853660", End="1769857260")

    assert row is not None
    assert (row.created_at_ms, row.duration_ms) == (1_769_853_600_000, 3_600_000)


@pytest.mark.parametrize(
    ("submitted", "started", "ended", "elapsed", "wait_minutes"),
    [
        # Clocks went back from 3 to 2 that night.
        ("02:40:00", "02:50:00", "02:10:00", "00:20:00", 10),
        ("02:50:00", "02:10:00", "03:10:00", "01:00:00", 20),
        ("02:10:00", "02:20:00", "02:40:00", "01:20:00", 10),
        ("02:10:00", "02:20:00", "02:40:00", "00:20:00", 10),
        ("01:50:00", "02:10:00", "03:10:00", "02:00:00", 20),
    ],
)
def test_times_in_the_hour_that_comes_twice_ascend(
    submitted: str, started: str, ended: str, elapsed: str, wait_minutes: int
) -> None:
    cells = {
        "Submit": f"2025-10-26T{submitted}",
        "Start": f"2025-10-26T{started}",
        "End": f"2025-10-26T{ended}",
        "Elapsed": elapsed,
    }
    row = read_in(ZoneInfo("Europe/Berlin"), cells)

    assert row is not None
    assert row.started_at_ms is not None
    assert (row.started_at_ms - row.created_at_ms) // 60_000 == wait_minutes
    hours, minutes, _ = elapsed.split(":")
    assert row.duration_ms // 60_000 == int(hours) * 60 + int(minutes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("train_1", "train_1"), ("my job.sh", "my-job-sh"), ("\u4e2d", "job"), ("x" * 70, "x" * 64)],
)
def test_a_name_of_slurm_becomes_one_that_a_job_may_have(name: str, expected: str) -> None:
    assert slurm_name(name) == expected
