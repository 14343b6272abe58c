"""What many measurements come to."""

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.metric import Statistic, Summary


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1))
def test_every_statistic_is_that_of_the_values(values: list[float]) -> None:
    summary = Summary(count=len(values), total=sum(values), least=min(values), most=max(values))

    assert {statistic.value: summary.statistic(statistic) for statistic in Statistic} == {
        "maximum": max(values),
        "minimum": min(values),
        "sum": sum(values),
        "average": sum(values) / len(values),
        "sampleCount": len(values),
    }
