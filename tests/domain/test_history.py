"""The shape of history: what has ended, and when."""

import pytest

from muster.domain.errors import InvalidRequest
from muster.domain.history import (
    ENDED,
    HistoryRow,
    check_row,
    ending_of,
    times_of,
)
from muster.domain.phase import FINISHED, Reason, view_of

NOW_MS = 1_800_000_000_000


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


def test_nothing_has_ended_in_the_future() -> None:
    row = HistoryRow(
        version_id="1", job_name="a", status=10, created_at_ms=1, ended_at_ms=NOW_MS + 1
    )

    with pytest.raises(InvalidRequest, match="cannot lie ahead"):
        check_row(row, now_ms=NOW_MS)
