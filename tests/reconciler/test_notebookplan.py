from dataclasses import replace
from itertools import product

import pytest

from muster.domain.notebook import (
    ANSWER_MS_MAX,
    COMING_UP,
    LIVE,
    NOTEBOOK_TRANSITIONS,
    Lease,
    LeaseType,
    Notebook,
    NotebookEvent,
    NotebookStatus,
)
from muster.domain.phase import FINISHED, Phase
from muster.reconciler.notebookplan import Note, Remove, Seen, Step, plan_notebook
from tests.domain.test_notebook import HOUR_MS, notebook

S, E, P = NotebookStatus, NotebookEvent, Phase


def running(**more: object) -> Notebook:
    return notebook(status=S.RUNNING, phase=P.RUNNING, attempt_id="x", is_holding=True, **more)


SEEN = [
    Seen(),
    Seen(server_version="2", last_active_ms=HOUR_MS, active_as_of_ms=2 * HOUR_MS),
    Seen(failure="pip could not", last_words="the end", note="on its way"),
    Seen(unstored="the bucket is gone"),
]


@pytest.mark.parametrize(
    ("status", "phase", "is_holding", "seen"),
    list(product(S, [*P, None], [False, True], SEEN)),
)
def test_no_step_is_planned_that_the_table_does_not_have(
    status: NotebookStatus, phase: Phase | None, is_holding: bool, seen: Seen
) -> None:
    found = notebook(status=status, phase=phase, is_holding=is_holding, attempt_id="x")

    planned = plan_notebook(found, seen, now_ms=10 * HOUR_MS)

    if isinstance(planned, Step):
        assert (status, planned.event) in NOTEBOOK_TRANSITIONS
    if planned is not None:
        assert status in LIVE


@pytest.mark.parametrize("status", sorted(LIVE - {S.ERROR}))
@pytest.mark.parametrize("phase", [*sorted(FINISHED), None])
def test_nothing_waits_for_what_has_ended(status: NotebookStatus, phase: Phase | None) -> None:
    found = notebook(status=status, phase=phase)

    assert plan_notebook(found, Seen(), now_ms=0) is not None


@pytest.mark.parametrize("status", sorted(COMING_UP))
def test_it_is_up_only_once_it_answers(status: NotebookStatus) -> None:
    found = replace(running(), status=status)

    assert plan_notebook(found, Seen(), now_ms=0) is None
    assert plan_notebook(found, Seen(note="pip"), now_ms=0) == Note()
    assert plan_notebook(found, Seen(server_version="2"), now_ms=0) == Step(event=E.READY)


def test_one_that_never_answers_is_given_up_and_gives_its_node_back() -> None:
    found = replace(running(), status=S.CREATING, phase_since_ms=1_000)

    assert plan_notebook(found, Seen(), now_ms=ANSWER_MS_MAX + 999) is None
    planned = plan_notebook(found, Seen(), now_ms=ANSWER_MS_MAX + 1_000)
    assert planned == Step(
        event=E.FAILED, reason="It did not answer within 30 minutes.", stops_workload=True
    )


def test_one_that_ends_before_it_answers_says_why() -> None:
    crashed = notebook(status=S.CREATING, phase=P.FAILED, phase_message="It ended with code 1.")

    planned = plan_notebook(crashed, Seen(last_words="ImportError: no module"), now_ms=0)
    assert isinstance(planned, Step)
    assert planned.event is E.FAILED
    assert planned.reason == ("It ended with code 1. The end of its log:\nImportError: no module")
    planned = plan_notebook(crashed, Seen(failure="pip: no such package"), now_ms=0)
    assert isinstance(planned, Step)
    assert planned.reason == "pip: no such package"


def test_a_timing_lease_ends_it_in_time_and_not_before() -> None:
    found = running(lease=Lease(since_ms=1_000, updated_at_ms=0))

    assert plan_notebook(found, Seen(), now_ms=HOUR_MS + 999) is None
    planned = plan_notebook(found, Seen(), now_ms=HOUR_MS + 1_000)
    assert planned == Step(
        event=E.STOP_ASKED, reason="Its lease of 60 minutes was over.", stops_workload=True
    )


def test_an_idle_lease_waits_until_it_is_known_that_nothing_was_done() -> None:
    lease = Lease(type=LeaseType.IDLE, since_ms=0, updated_at_ms=0)
    found = running(lease=lease, last_active_ms=1_000)
    now_ms = HOUR_MS + 2_000

    assert plan_notebook(found, Seen(active_as_of_ms=2_000), now_ms=now_ms) is None
    used = Seen(last_active_ms=HOUR_MS, active_as_of_ms=now_ms)
    assert plan_notebook(found, used, now_ms=now_ms) == Note()
    unused = Seen(last_active_ms=1_000, active_as_of_ms=now_ms)
    planned = plan_notebook(found, unused, now_ms=now_ms)
    assert isinstance(planned, Step)
    assert planned.event is E.STOP_ASKED
    assert "Nothing was done" in planned.reason


def test_a_lease_that_is_switched_off_never_ends_it() -> None:
    found = running(lease=Lease(is_enabled=False, since_ms=0, updated_at_ms=0))

    assert plan_notebook(found, Seen(), now_ms=1_000 * HOUR_MS) is None


@pytest.mark.parametrize(
    ("phase", "event"),
    [
        (P.FAILED, E.DIED),
        (P.LOST, E.DIED),
        (P.COMPLETED, E.STOP_ASKED),  # shut down from inside
        (P.TERMINATING, E.STOP_ASKED),  # its pool is deleted
        (None, E.DIED),
    ],
)
def test_what_becomes_of_its_workload_becomes_of_it(
    phase: Phase | None, event: NotebookEvent
) -> None:
    planned = plan_notebook(replace(running(), phase=phase), Seen(), now_ms=0)

    assert isinstance(planned, Step)
    assert planned.event is event
    assert planned.stops_workload is False


def test_a_lost_one_that_is_back_runs_again() -> None:
    found = replace(running(), status=S.ERROR)

    assert plan_notebook(found, Seen(), now_ms=0) == Step(event=E.FOUND)


def test_storage_goes_only_once_nothing_runs_any_more() -> None:
    deleting = replace(running(), status=S.DELETING)

    assert plan_notebook(deleting, Seen(), now_ms=0) is None
    ending = replace(deleting, phase=P.TERMINATED)
    assert plan_notebook(ending, Seen(), now_ms=0) is None  # it still holds its node
    assert plan_notebook(replace(ending, is_holding=False), Seen(), now_ms=0) == Remove()
    assert plan_notebook(replace(deleting, phase=None), Seen(), now_ms=0) == Remove()


def test_the_reason_of_a_lease_outlives_the_stop() -> None:
    stopping = notebook(status=S.STOPPING, phase=P.TERMINATED, fail_reason="Its lease was over.")

    planned = plan_notebook(stopping, Seen(), now_ms=0)
    assert planned == Step(event=E.ENDED, reason="Its lease was over.")


def test_files_that_could_not_be_stored_are_told_of_and_dropped_only_when_asked_again() -> None:
    stopping = notebook(status=S.STOPPING, phase=P.TERMINATED, fail_reason="Its lease was over.")
    deleting = replace(stopping, status=S.DELETING, fail_reason="")
    unstored = Seen(unstored="The bucket is gone.")

    told = "Some of its files could not be stored: The bucket is gone."
    planned = plan_notebook(stopping, unstored, now_ms=0)
    assert planned == Step(event=E.ENDED, reason=f"Its lease was over. {told}")
    planned = plan_notebook(deleting, unstored, now_ms=0)
    assert planned == Step(event=E.FAILED, reason=f"{told} Delete it once more to drop them.")
    assert plan_notebook(deleting, Seen(), now_ms=0) == Remove()


def test_that_one_answers_no_more_is_noted_and_ends_nothing() -> None:
    hanging = running(note="")

    assert plan_notebook(hanging, Seen(note="It does not answer."), now_ms=0) == Note()
    assert plan_notebook(replace(hanging, note="x"), Seen(note="x"), now_ms=0) is None
