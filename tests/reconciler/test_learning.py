"""A server that runs learns the names of its jobs, while others are made and deleted."""

import asyncio
from functools import partial

import pytest

from muster.reconciler import sweeps
from muster.reconciler.learning import NameLearner
from muster.store import nameparts
from muster.store.recount import differences
from tests.reconciler.site import PROJECT, Site
from tests.reconciler.test_sweeps import sweeper_of

PLACE = (PROJECT, "0")


async def until_counted(site: Site, part: str, count: int) -> None:
    async with asyncio.timeout(20):
        while await site.database.scan(nameparts.count_learnt, PLACE, part) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_sweep_learns_what_has_come_since_the_last_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = partial(NameLearner, names_min=1, batch_names=2, stretch_names=2, rest_seconds=0)
    monkeypatch.setattr(sweeps, "NameLearner", learner)
    monkeypatch.setattr(sweeps, "SWEEP_SECONDS", 0.01)
    for number in range(5):
        await site.submit(f"Zebra-{number}")
    sweeping = asyncio.create_task(sweeper_of(site, after_ms=None).run())
    try:
        await until_counted(site, "ze", 5)
        for number in range(5):
            await site.submit(f"maze-{number}")
        await until_counted(site, "ze", 10)
    finally:
        sweeping.cancel()

    assert await site.database.scan(nameparts.count_learnt, PLACE, "eb") == 5
    assert await site.database.scan(lambda connection: list(differences(connection))) == []
