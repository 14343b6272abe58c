"""Whatever happens, in whatever order: the promises hold after every step, and every job ends.

A failing seed is repeated by its number: `pytest tests/simulation -k "step[17]"`. More of them:
`MUSTER_SIMULATION_SEEDS=5000 pytest tests/simulation -n 2`.
"""

import os
from collections import Counter
from functools import cache
from typing import Final

import pytest

from tests.simulation.simulation import simulate

SEEDS: Final = int(os.environ.get("MUSTER_SIMULATION_SEEDS", "50"))

# Together these see everything that is listed below; without it, the rest would prove little.
SEEDS_COUNTED: Final = 50
SEEN_AT_LEAST: Final = {
    "crashes": 20,
    "CRASH in write": 10,
    "ANSWER_LATE in start": 10,
    "ANSWER_LATE in observe": 20,
    "ANSWER_LOST in start": 5,
    "ANSWER_LOST in observe": 10,
    "NO_ANSWER in start": 5,
    "NO_ANSWER in observe": 20,
    "NO_ANSWER in write": 50,
    "passes that failed": 50,
    "stops while an action is under way": 2,
    "submit": 300,
    "run again": 100,
    "stop": 100,
    "delete a version": 50,
    "delete a job": 25,
    "Running": 100,
    "Completed": 100,
    "Failed": 45,
    "Terminated": 100,
    "CreateFailed": 20,
    "StopFailed": 1,
    "Lost": 15,
    "given up": 10,
    "host dies": 30,
    "host comes back": 20,
    "archived": 100,
    "lock or unlock a node": 50,
    "resize the pool": 30,
    "retried": 30,
    "stopped at the limit": 10,
}

tell: Final = cache(simulate)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_promises_hold_after_every_step(seed: int) -> None:
    tell(seed)


def test_the_seeds_see_everything_that_can_go_wrong() -> None:
    seen = sum((tell(seed) for seed in range(SEEDS_COUNTED)), Counter[str]())

    too_few = {what: seen[what] for what, least in SEEN_AT_LEAST.items() if seen[what] < least}
    assert too_few == {}, sorted(seen.items())


def test_a_seed_gives_the_same_run_each_time() -> None:
    assert simulate(1) == tell(1)
