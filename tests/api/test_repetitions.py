from muster.api.repetitions import REASONS_MAX, REPEAT_SECONDS, Repetitions


def test_the_first_of_a_reason_is_told_and_those_right_after_it_are_kept_back() -> None:
    failures = Repetitions()

    told = [failures.to_tell("the disk is full", now=second) for second in (0, 1, 2)]

    assert told == [0, None, None]


def test_a_later_line_tells_how_many_there_were_since_the_last_one() -> None:
    failures = Repetitions()
    for second in (0, 1, 2):
        failures.to_tell("the disk is full", now=second)

    assert failures.to_tell("the disk is full", now=REPEAT_SECONDS) == 2
    assert failures.to_tell("the disk is full", now=2 * REPEAT_SECONDS) == 0


def test_another_reason_is_told_at_once() -> None:
    failures = Repetitions()
    failures.to_tell("the disk is full", now=0)

    assert failures.to_tell("PostgreSQL is away", now=1) == 0
    assert failures.to_tell("the disk is full", now=2) is None


def test_reasons_that_never_repeat_are_not_kept_for_good() -> None:
    failures = Repetitions()

    told = {failures.to_tell(f"object {number} is away", now=0) for number in range(10_000)}

    assert told == {0}
    assert len(failures._told_at) <= REASONS_MAX
