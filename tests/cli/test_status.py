import pytest

from muster.cli.status import (
    COMPLETED,
    FINISHED_STATUSES,
    STATUS_NAMES,
    codes_of,
    style_of,
    word_of,
)
from muster.domain.phase import FINISHED, V1_STATUS_MAX, Phase, view_of


def test_every_phase_is_called_by_its_name_or_shares_the_name_of_its_code() -> None:
    assert word_of(8) == "Running"
    assert word_of(7) == "Queued"
    assert word_of(13) == "Canceled"
    assert word_of(4) == "status 4"  # never given by muster itself
    assert all(word_of(view_of(phase).v1_status) in STATUS_NAMES for phase in Phase)


def test_finished_statuses_are_those_of_finished_phases() -> None:
    assert {view_of(phase).v1_status for phase in FINISHED} <= FINISHED_STATUSES
    assert not {view_of(phase).v1_status for phase in Phase if phase not in FINISHED} & (
        FINISHED_STATUSES
    )
    assert COMPLETED in FINISHED_STATUSES


@pytest.mark.parametrize(
    ("names", "codes"),
    [
        ([], []),
        (["running"], [8]),
        (["Queue", "PENDING"], [7]),
        (["failed"], [11, 16, 17]),
        (["terminated", "9"], [9, 12, 13]),
        (["4"], [4]),
    ],
)
def test_words_stand_for_all_their_codes(names: list[str], codes: list[int]) -> None:
    assert codes_of(names) == codes


def test_an_unknown_word_is_told() -> None:
    with pytest.raises(KeyError, match="asleep"):
        codes_of(["asleep"])


def test_every_status_has_a_style_or_none() -> None:
    assert style_of(10) == "green"
    assert style_of(11) == style_of(3) == "red"
    assert all(isinstance(style_of(status), str) for status in range(V1_STATUS_MAX + 2))
