from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.balance import Candidate, Rotation, choose, share_of_source
from muster.domain.service import Balancing


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 50), min_size=1, max_size=5))
def test_every_cycle_shares_turns_out_exactly(weights: dict[str, int]) -> None:
    total = sum(weights.values())
    if not total:
        return
    rotation = Rotation()

    for _ in range(2):
        turns = Counter(rotation.next(weights) for _ in range(total))
        assert turns == Counter({key: weight for key, weight in weights.items() if weight})


def test_turns_of_one_share_lie_apart() -> None:
    rotation = Rotation()

    assert [rotation.next({"a": 2, "b": 1}) for _ in range(3)] == ["a", "b", "a"]


@given(st.text(), st.dictionaries(st.text(min_size=1), st.integers(1, 99), min_size=1))
def test_a_client_stays_with_its_share(source: str, weights: dict[str, int]) -> None:
    share = share_of_source(source, weights)

    assert share in weights
    assert share == share_of_source(source, weights)


def test_clients_spread_over_shares_by_weight() -> None:
    shares = Counter(share_of_source(f"10.0.0.{n}", {"a": 75, "b": 25}) for n in range(2_000))

    assert 1_350 < shares["a"] < 1_650


def test_each_policy_chooses_in_its_own_way() -> None:
    candidates = [Candidate(1, 5, 9), Candidate(2, 0, 8), Candidate(3, 1, 1)]

    assert choose(candidates, Balancing.ROUND_ROBIN, "x").id == 3
    assert choose(candidates, Balancing.LEAST_CONNECTIONS, "x").id == 2
    chosen = choose(candidates, Balancing.SOURCE_IP, "x")
    assert chosen == choose(candidates[::-1], Balancing.SOURCE_IP, "x")


def test_when_an_instance_goes_other_clients_stay_where_they_are() -> None:
    candidates = [Candidate(n, 0, 0) for n in range(5)]
    sources = [f"10.0.0.{n}" for n in range(100)]
    before = {s: choose(candidates, Balancing.SOURCE_IP, s).id for s in sources}

    after = {s: choose(candidates[1:], Balancing.SOURCE_IP, s).id for s in sources}

    assert all(after[s] == before[s] for s in sources if before[s] != 0)
    assert 0 < sum(before[s] == 0 for s in sources) < 50
