"""Lines of history: what is taken, and what is refused in which words."""

import json
from typing import Any

import msgspec
import pytest

from muster.domain.errors import InvalidRequest
from muster.wire.history import (
    LINE_BYTES_MAX,
    VERSION_NUMBER_MAX,
    decode_line,
    encode_line,
    pack_row,
    unpack_row,
)

NOW_MS = 1_800_000_000_000
GOOD = {
    "version_id": 1485,
    "version_name": "trainjob-3f47",
    "status": 10,
    "create_time": 1_600_000_000_000,
    "start_time": 1_600_000_001_000,
    "end_time": 1_600_000_054_000,
    "duration": 53_000,
    "version_desc": None,
    "pool_id": None,
    "flavor_code": "modelarts.vm.gpu.v100",
    "npu_num": 0,
    "gpu_num": 1,
}


def line(**changes: Any) -> bytes:
    """A good line with some changes; ... takes a field away."""
    fields = {k: v for k, v in (GOOD | changes).items() if v is not ...}
    return msgspec.json.encode(fields)


def test_a_row_of_the_versions_list_is_all_that_is_needed() -> None:
    row = decode_line(line(), now_ms=NOW_MS)

    assert (row.job_name, row.version_id, row.duration_ms) == ("trainjob-3f47", "1485", 53_000)
    assert (row.workspace_id, row.pool_id, row.gpu_count) == ("0", "", 1)


@pytest.mark.parametrize(
    ("told", "of_job", "of_version"),
    [
        ({"job_desc": ..., "version_desc": "lr 0.8"}, "lr 0.8", "lr 0.8"),
        ({"job_desc": None, "version_desc": "lr 0.8"}, "lr 0.8", "lr 0.8"),
        ({"job_desc": "digits", "version_desc": ...}, "digits", "digits"),
        ({"job_desc": "", "version_desc": "lr 0.8"}, "", "lr 0.8"),
        ({"job_desc": "digits", "version_desc": ""}, "digits", ""),
        ({"job_desc": ..., "version_desc": ...}, "", ""),
    ],
)
def test_a_missing_description_is_told_by_the_other_and_an_empty_one_is_empty(
    told: dict[str, Any], of_job: str, of_version: str
) -> None:
    row = decode_line(line(**told), now_ms=NOW_MS)

    assert (row.job_description, row.description) == (of_job, of_version)


def test_a_row_is_the_same_after_it_was_written_and_read() -> None:
    row = decode_line(
        line(
            job_id=7,
            job_desc="digits",
            version_desc="again",
            workspace_id="a" * 32,
            pool_id="gpus-1",
            pool_name="gpus",
            user_name="ann",
            job_create_time=5,
            version_number=3,
            worker_server_num=2,
            status=13,
            status_reason="Canceled",
            status_message="Enough.",
            training_job_id="12345678-1234-8234-8234-123456789abc",
        ),
        now_ms=NOW_MS,
    )

    assert decode_line(encode_line(row), now_ms=NOW_MS) == row
    assert unpack_row(pack_row(row)) == row


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"hello", "The line is not valid JSON"),
        (b'{"version_id": 1', "The line is not valid JSON"),
        (b"\xff\xfe", "The line is not valid JSON"),
        (b"[]", "The line is []; it must be an object"),
        (b"[" * 5000, "The line is"),
        (line(status=8), "status is 8, which is not the code of a version that has ended"),
        (line(status=14), "status is 14, which is not"),
        (line(status=99), "status is 99, which is not"),
        (line(status="done"), 'status is "done"; it must be a whole number'),
        (line(status=...), "status is missing"),
        (line(version_id=...), "version_id is missing"),
        (line(create_time=...), "create_time is missing"),
        (line(create_time=-5), "create_time is -5; it must be a whole number from 0"),
        (line(end_time=-1), "end_time is -1; it must be a whole number from 0"),
        (line(start_time=1, duration=...), "start_time is 1, before create_time"),
        (line(end_time=1_600_000_000_500, duration=...), "end_time is 1600000000500, before start"),
        (line(end_time=NOW_MS + 1, duration=...), f"end_time is {NOW_MS + 1}, after this machine"),
        (line(duration=1), "duration is 1; from start_time to end_time it is 53000"),
        (line(version_name=...), "job_name is missing"),
        (line(job_name="my job"), "job_name is 'my job'; it must be 1 to 64 letters"),
        (line(job_name="x" * 65), "job_name is"),
        (line(job_desc="x" * 257), "job_desc has 257 characters; at most 256"),
        (line(gpu_num=-1), "gpu_num is -1; it must be a whole number from 0"),
        (line(gpu_num=2_000_000), "gpu_num is 2000000; it must be from 0 to 1000000"),
        (line(worker_server_num=5_000), "worker_server_num is 5000; it must be from 1 to 4096"),
        (line(status_reason="Moon"), 'status_reason is "Moon"; it must be'),
        (line(training_job_id="7"), 'training_job_id is "7"'),
        (line(create_time=10**30), "create_time is"),
        (b"x" * (LINE_BYTES_MAX + 1), f"The line has more than {LINE_BYTES_MAX} bytes"),
    ],
)
def test_a_line_that_cannot_be_taken_says_why(text: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decode_line(text, now_ms=NOW_MS)

    assert refusal.value.message.startswith(said)


@pytest.mark.parametrize(
    "field",
    [
        "version_id",
        "job_id",
        "job_name",
        "job_desc",
        "version_desc",
        "workspace_id",
        "pool_id",
        "pool_name",
        "flavor_code",
        "user_name",
        "status_message",
    ],
)
def test_a_text_with_nul_is_refused_by_the_name_of_its_field(field: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^{field} is 'a\\x00b'"):
        decode_line(line(**{"job_desc": "x", "version_desc": "x", field: "a\0b"}), now_ms=NOW_MS)


@pytest.mark.parametrize(
    "id_",
    [
        *("7", "007", "0", "00", "-7", "+7", "1_0", " 7", "7.0", "null", "true", "9" * 256),
        *("\u0663", "\u00b2", "\U0001f600"),
        *(0, 7, 2**63, 10**17, 10**18, 10**26),
    ],
)
def test_ids_of_elsewhere_are_the_same_after_they_were_written_and_read(id_: str | int) -> None:
    row = decode_line(raw(id_), now_ms=NOW_MS)

    again = decode_line(encode_line(row), now_ms=NOW_MS)

    assert (row.version_id, row.job_id) == (str(id_), str(id_))
    assert again == row
    assert (again.source, again.source_job) == (row.source, row.source_job)


def raw(id_: str | int) -> bytes:
    """A good line with this id, however long a number it is."""
    fields = GOOD | {"version_id": id_, "job_id": id_}
    return json.dumps(fields).encode()


def test_our_own_ids_are_written_as_the_numbers_that_the_lists_have() -> None:
    row = decode_line(line(job_id=7), now_ms=NOW_MS)

    written = msgspec.json.decode(encode_line(row))

    assert (written["version_id"], written["job_id"]) == (1485, 7)


def test_a_number_past_the_last_that_is_taken_is_left_to_whoever_reads_the_line() -> None:
    row = decode_line(line(version_number=VERSION_NUMBER_MAX), now_ms=NOW_MS)
    after = row._replace(number=VERSION_NUMBER_MAX + 1)

    assert decode_line(encode_line(row), now_ms=NOW_MS) == row
    assert decode_line(encode_line(after), now_ms=NOW_MS) == row._replace(number=None)


def test_zero_is_no_time_and_never_ran() -> None:
    row = decode_line(line(start_time=0, end_time=0, duration=0, status=5), now_ms=NOW_MS)

    assert row.started_at_ms is None
    assert row.ended_at_ms == row.created_at_ms
