"""Amounts, and what a workload holds."""

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.phase import Phase, Reason, view_of
from muster.domain.resources import Resources
from muster.domain.workload import Workload, WorkloadType

amounts = st.integers(0, 1000)
resources = st.builds(
    Resources, cpu_millis=amounts, memory_mib=amounts, gpu_count=amounts, npu_count=amounts
)


@given(resources, st.integers(0, 5))
def test_many_times_is_the_same_as_adding_it_up(amount: Resources, times: int) -> None:
    assert amount * times == sum([amount] * times, Resources())


@given(resources, resources)
def test_what_was_added_can_be_taken_away(one: Resources, other: Resources) -> None:
    assert one + other - other == one


@given(resources, resources)
def test_it_fits_exactly_where_nothing_would_be_missing(one: Resources, room: Resources) -> None:
    left = room - one

    nothing_is_missing = min(left.cpu_millis, left.memory_mib, left.gpu_count, left.npu_count) >= 0
    assert one.fits_in(room) == nothing_is_missing


def test_a_workload_holds_its_task_as_often_as_it_has_tasks() -> None:
    workload = Workload(
        id=1,
        project_id="1",
        pool_id="public-1",
        partition="public",
        type=WorkloadType.TRAIN,
        task=Resources(cpu_millis=500, gpu_count=2),
        task_count=3,
        priority=1,
        phase=Phase.FAILED,
        reason=Reason.TASK_EXIT,
    )

    assert workload.resources == Resources(cpu_millis=1500, gpu_count=6)
    assert workload.view == view_of(Phase.FAILED, Reason.TASK_EXIT)
