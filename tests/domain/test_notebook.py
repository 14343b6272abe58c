from itertools import product

import pytest

from muster.domain import errors
from muster.domain.notebook import (
    DURATION_MS_MAX,
    DURATION_MS_MIN,
    LIVE,
    NOTEBOOK_TRANSITIONS,
    Lease,
    LeaseType,
    Notebook,
    NotebookEvent,
    NotebookStatus,
    StepStatus,
    check_duration,
    check_notebook,
    next_status,
    progress_of,
)
from muster.domain.phase import Phase

S, E = NotebookStatus, NotebookEvent
HOUR_MS = 3_600_000


def notebook(**more: object) -> Notebook:
    given: dict[str, object] = {
        "uid": "a" * 32, "project_id": "p", "name": "n", "user_id": "u", "user_name": "ada",
        "flavor_code": "f", "image_id": "i", "pool_id": "pool", "token": "t",
        "lease": Lease(since_ms=0, updated_at_ms=0), "created_at_ms": 0, "updated_at_ms": 0,
        "workload_id": 1,
    }  # fmt: skip
    return Notebook(**given | more)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(("status", "event"), list(product(S, E)))
def test_a_move_is_in_the_table_or_refused(status: NotebookStatus, event: NotebookEvent) -> None:
    if (status, event) in NOTEBOOK_TRANSITIONS:
        assert next_status(status, event) is NOTEBOOK_TRANSITIONS[status, event]
    else:
        with pytest.raises(errors.NotebookStateInvalid, match=status):
            next_status(status, event)


@pytest.mark.parametrize(
    ("status", "event", "code"),
    [
        (S.RUNNING, E.START_ASKED, "ModelArts.6305"),
        (S.STARTING, E.START_ASKED, "ModelArts.6306"),
        (S.STOPPED, E.STOP_ASKED, "ModelArts.6307"),
        (S.STOPPING, E.STOP_ASKED, "ModelArts.6308"),
        (S.START_FAILED, E.STOP_ASKED, "ModelArts.6327"),
        (S.DELETING, E.DELETE_ASKED, "ModelArts.6357"),
    ],
)
def test_what_is_asked_at_the_wrong_time_has_the_published_code(
    status: NotebookStatus, event: NotebookEvent, code: str
) -> None:
    with pytest.raises(errors.NotebookStateInvalid) as caught:
        next_status(status, event)

    assert caught.value.code == code


def test_whatever_is_not_live_stays_until_somebody_asks() -> None:
    asked = {E.START_ASKED, E.STOP_ASKED, E.DELETE_ASKED}

    for status in set(S) - LIVE:
        assert {event for from_, event in NOTEBOOK_TRANSITIONS if from_ is status} <= asked


def test_everything_but_a_deleting_one_can_be_deleted() -> None:
    never_stored = {S.INIT, S.SNAPSHOTTING, S.DELETED, S.FROZEN}

    deletable = {status for status, event in NOTEBOOK_TRANSITIONS if event is E.DELETE_ASKED}
    assert deletable == set(S) - never_stored - {S.DELETING}


def test_a_timing_lease_ends_whatever_is_done_and_an_idle_one_after_the_last_thing_done() -> None:
    timing = Lease(duration_ms=HOUR_MS, since_ms=5, updated_at_ms=5)
    idle = Lease(type=LeaseType.IDLE, duration_ms=HOUR_MS, since_ms=5, updated_at_ms=5)
    never = Lease(is_enabled=False, since_ms=5, updated_at_ms=5)

    assert timing.ends_at_ms(last_active_ms=1_000) == HOUR_MS + 5
    assert idle.ends_at_ms(last_active_ms=1_000) == HOUR_MS + 1_000
    assert idle.ends_at_ms(last_active_ms=0) == HOUR_MS + 5
    assert never.ends_at_ms(last_active_ms=1_000) is None


def test_a_duration_has_bounds() -> None:
    check_duration("duration", DURATION_MS_MIN)
    check_duration("duration", DURATION_MS_MAX)
    for duration_ms in (DURATION_MS_MIN - 1, DURATION_MS_MAX + 1):
        with pytest.raises(errors.LeaseInvalid, match=f"duration is {duration_ms}"):
            check_duration("duration", duration_ms)


@pytest.mark.parametrize("name", ["", "a b", "ü", "a" * 129, "a/b"])
def test_a_name_has_letters_digits_and_two_signs(name: str) -> None:
    with pytest.raises(errors.NotebookTextInvalid, match="name is"):
        check_notebook(notebook(name=name))


@pytest.mark.parametrize("text", ["a&b", "<b>", "it's", 'say "x"', "a/b", "\0", "x" * 513])
def test_a_description_is_without_what_pages_trip_over(text: str) -> None:
    with pytest.raises(errors.NotebookTextInvalid, match="description"):
        check_notebook(notebook(description=text))


@pytest.mark.parametrize(
    ("status", "phase", "done", "then"),
    [
        (S.CREATING, Phase.QUEUED, 1, StepStatus.PROCESSING),
        (S.STARTING, Phase.STARTING, 2, StepStatus.PROCESSING),
        (S.CREATING, Phase.RUNNING, 3, StepStatus.PROCESSING),
        (S.RUNNING, Phase.RUNNING, 4, None),
        (S.CREATE_FAILED, Phase.CREATE_FAILED, 1, StepStatus.FAILED),
    ],
)
def test_progress_follows_the_workload(
    status: NotebookStatus, phase: Phase, done: int, then: StepStatus | None
) -> None:
    steps = progress_of(notebook(status=status, phase=phase))

    assert len(steps) == 4
    assert steps[:done] == (StepStatus.COMPLETED,) * done
    assert steps[done : done + 1] == ((then,) if then else ())
