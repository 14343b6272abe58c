"""The table of phases and events, and how each API shows a phase."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.errors import IllegalTransition
from muster.domain.phase import (
    FINISHED,
    LIVE_STATUSES,
    STOPPABLE,
    TRANSITIONS,
    V1_STATUS_MAX,
    Event,
    Phase,
    Reason,
    StatisticsState,
    next_phase,
    view_of,
)

# As published: v2 phase and secondary phase, the v1 code, the state of the workload statistics.
PUBLISHED: Final = {
    ("Creating", "Creating"): (1, "Creating"),
    ("Pending", "Queuing"): (7, "Queue"),
    ("Pending", "Creating"): (7, "Pending"),
    ("Running", "Running"): (8, "Running"),
    ("Terminating", "Terminating"): (9, "Terminating"),
    ("Terminated", "Terminated"): (12, "Terminated"),
    ("Completed", "Completed"): (10, "Completed"),
    ("Failed", "Failed"): (11, "Failed"),
    ("Abnormal", "CreateFailed"): (5, "Abnormal"),
    ("Abnormal", "TerminatedFailed"): (6, "Abnormal"),
    ("Abnormal", "Lost"): (14, "Abnormal"),
    ("Abnormal", "Unknown"): (0, "Abnormal"),
}

# Codes of history made elsewhere: kept, and shown under the phase that they belong to.
KEPT_V1_CODES: Final = {
    3: ("Abnormal", "CreateFailed", "Abnormal"),
    21: ("Abnormal", "CreateFailed", "Abnormal"),
    13: ("Terminated", "Terminated", "Terminated"),
    16: ("Failed", "Failed", "Failed"),
    17: ("Failed", "Failed", "Failed"),
}

phases = st.sampled_from(Phase)
events = st.sampled_from(Event)
reasons = st.sampled_from(Reason)


def reachable(phase: Phase) -> set[Phase]:
    found = {phase}
    while more := {after for (before, _), after in TRANSITIONS.items() if before in found} - found:
        found |= more
    return found


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_leads_to_a_finished_one(phase: Phase) -> None:
    assert reachable(phase) & FINISHED


def test_every_phase_but_unknown_can_be_reached() -> None:
    assert reachable(Phase.CREATING) == set(Phase) - {Phase.UNKNOWN}


@given(st.sampled_from(sorted(FINISHED)), events)
def test_a_finished_workload_never_moves_again(phase: Phase, event: Event) -> None:
    with pytest.raises(IllegalTransition):
        next_phase(phase, event)


@given(st.lists(events, max_size=30))
def test_whatever_comes_a_workload_ends_at_most_once(happened: list[Event]) -> None:
    phase, ends = Phase.CREATING, 0

    for event in happened:
        if (phase, event) in TRANSITIONS:
            phase = next_phase(phase, event)
            ends += phase in FINISHED

    assert ends == (phase in FINISHED)


@given(phases, events)
def test_only_the_moves_of_the_table_are_legal(phase: Phase, event: Event) -> None:
    if (phase, event) in TRANSITIONS:
        assert next_phase(phase, event) is TRANSITIONS[phase, event]
        return

    with pytest.raises(IllegalTransition) as refused:
        next_phase(phase, event)

    assert phase in refused.value.message
    assert event in refused.value.message


def test_finished_are_exactly_the_phases_that_the_documentation_calls_so() -> None:
    assert (
        frozenset(
            {
                Phase.TERMINATED,
                Phase.COMPLETED,
                Phase.FAILED,
                Phase.CREATE_FAILED,
                Phase.STOP_FAILED,
                Phase.UNKNOWN,
            }
        )
        == FINISHED
    )


def test_what_waits_or_runs_can_be_stopped_and_nothing_else() -> None:
    assert frozenset({Phase.CREATING, Phase.QUEUED, Phase.STARTING, Phase.RUNNING}) == STOPPABLE


@given(phases, reasons)
def test_every_phase_and_reason_has_one_of_the_published_views(
    phase: Phase, reason: Reason
) -> None:
    view = view_of(phase, reason)

    v1_status, statistics = PUBLISHED[view.v2_phase, view.v2_secondary_phase]
    assert view.statistics == statistics
    if view.v1_status in KEPT_V1_CODES:
        expected = KEPT_V1_CODES[view.v1_status]
        assert (view.v2_phase, view.v2_secondary_phase, view.statistics) == expected
    else:
        assert view.v1_status == v1_status


def test_each_published_pair_is_the_view_of_one_phase() -> None:
    shown = [view_of(phase) for phase in Phase]

    assert sorted((v.v2_phase, v.v2_secondary_phase) for v in shown) == sorted(PUBLISHED)


def test_every_kept_code_is_the_view_of_some_reason() -> None:
    shown = {view_of(phase, reason).v1_status for phase in Phase for reason in Reason}

    assert shown >= set(KEPT_V1_CODES)
    assert max(shown) == V1_STATUS_MAX


def test_the_reasons_that_muster_sets_itself_do_not_change_the_view() -> None:
    history_starts = list(Reason).index(Reason.IMAGE_FAILED)

    for reason in list(Reason)[:history_starts]:
        for phase in Phase:
            assert view_of(phase, reason) == view_of(phase)


def test_there_are_nine_statistics_states_spelled_as_published() -> None:
    assert sorted(StatisticsState) == sorted({state for _, state in PUBLISHED.values()})
    assert len(StatisticsState) == 9


def test_live_are_the_codes_of_what_may_still_change_by_itself() -> None:
    assert sorted(LIVE_STATUSES) == [1, 7, 8, 9, 14]
