"""Who of several servers may act."""

from dataclasses import replace

import pytest

from muster.domain.lease import WATCH_MS, Holder, Lease, may_take

ONE = Holder(name="one", machine="alpha", boot_id="b", pid=1, start_ticks=1)
NEIGHBOUR = replace(ONE, name="two", pid=2)
FAR = replace(ONE, name="three", machine="omega")
LEASE = Lease(holder=ONE, revision=3, until_ms=1_000)


def test_a_lease_that_nobody_ever_had_is_anybodys() -> None:
    assert may_take(None, ONE, watched_ms=0, now_ms=0, elsewhere_ms=500)


def test_its_holder_keeps_it_also_when_its_time_has_run_out() -> None:
    assert may_take(LEASE, ONE, watched_ms=0, now_ms=9_000, elsewhere_ms=500)


@pytest.mark.parametrize(("now_ms", "may"), [(999, False), (1_000, False), (1_001, True)])
def test_another_on_the_same_machine_takes_it_once_its_time_has_run_out(
    now_ms: int, may: bool
) -> None:
    assert may_take(LEASE, NEIGHBOUR, watched_ms=WATCH_MS, now_ms=now_ms, elsewhere_ms=500) is may


@pytest.mark.parametrize(("now_ms", "may"), [(1_001, False), (1_500, False), (1_501, True)])
def test_another_machine_waits_longer(now_ms: int, may: bool) -> None:
    assert may_take(LEASE, FAR, watched_ms=WATCH_MS, now_ms=now_ms, elsewhere_ms=500) is may


def test_who_has_not_watched_it_for_a_while_leaves_its_holder_the_time_to_renew_it() -> None:
    """Neither could while the store was away."""
    assert not may_take(LEASE, NEIGHBOUR, watched_ms=WATCH_MS - 1, now_ms=9_000, elsewhere_ms=500)


def test_one_that_was_given_back_may_be_taken_at_once() -> None:
    free = replace(LEASE, holder=replace(ONE, name=""))

    assert may_take(free, NEIGHBOUR, watched_ms=0, now_ms=1_001, elsewhere_ms=500)
