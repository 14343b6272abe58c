"""How many instances a part of a service is to have."""

from dataclasses import replace
from typing import Final

from muster.domain.rollout import Instance
from muster.domain.scaling import Load, look_at_load, wanted_count
from muster.domain.service import InstancePhase, Scaling, Service
from tests.domain.test_rollout import NOW, config, instance, key_of, service

SCALED: Final = config(
    scaling=Scaling(min_instances=1, max_instances=4, target_concurrency=10, cooldown_seconds=60)
)


def test_more_at_once() -> None:
    for concurrency, wanted in ((0, 1), (10, 1), (11, 2), (35, 4), (900, 4)):
        load = Load(concurrency=concurrency, instance_count=1)
        assert wanted_count(SCALED, load, now_ms=NOW) == wanted


def test_fewer_after_a_while_only() -> None:
    load = Load(concurrency=5, instance_count=3, quiet_since_ms=NOW)

    assert wanted_count(SCALED, load, now_ms=NOW + 59_999) == 3
    assert wanted_count(SCALED, load, now_ms=NOW + 60_000) == 1


def test_a_part_that_takes_over_is_to_have_as_many_as_there_were_before_it() -> None:
    """However far the change has come: its own count for nothing, and the old ones go."""
    updated = replace(
        service(SCALED), configs_before=service(config("old", instance_count=2)).configs
    )
    [new], [old] = updated.configs, updated.configs_before
    key = key_of(updated)
    was = [instance(1, old.key), instance(2, old.key)]
    own = [instance(3, key, InstancePhase.STARTING), instance(4, key)]
    going = [replace(one, phase=InstancePhase.DRAINING) for one in was]
    steps = [was, [*was, own[0]], [*was, *own], [going[0], was[1], *own], [*going, *own], own]

    load, wanted = None, []
    for instances in steps:
        load = looked(load, updated, instances)
        wanted.append(wanted_count(new, load, now_ms=NOW))

    assert wanted == [2] * len(steps)


def looked(before: Load | None, of: Service, instances: list[Instance]) -> Load:
    return look_at_load(
        before,
        service=of,
        config=of.configs[0],
        instances=instances,
        in_flight={},
        waiting=0,
        now_ms=NOW,
    )
