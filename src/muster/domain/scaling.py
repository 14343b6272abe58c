"""How many instances a part of a service is to have, by what is asked of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from muster.domain.rollout import Instance
from muster.domain.service import WEIGHTS_SUM, Scaling, Service, ServiceConfig

LOAD_SMOOTHING: Final = 0.3  # the share of the latest look in the mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of one part of a service."""

    concurrency: float  # requests at once, those that wait included; the mean of a while
    instance_count: int  # that it has, or is getting
    quiet_since_ms: int | None = None  # since when fewer instances would do; None: they would not


def look_at_load(
    before: Load | None,
    *,
    service: Service,
    config: ServiceConfig,
    instances: Sequence[Instance],
    in_flight: Mapping[int, int],
    waiting: int,
    now_ms: int,
) -> Load:
    """What is asked of a part that follows its load, after one more look.

    `before` is what came of the last look; `in_flight` counts requests under way by instance, and
    `waiting` those to this part that no instance has yet.
    """
    assert config.scaling is not None
    live = [one for one in instances if not one.is_draining and not one.has_ended]
    mine = [one for one in live if one.key == config.key]
    asked = float(sum(in_flight.get(one.id, 0) for one in mine) + waiting)
    count = len(mine)
    if not service.is_deployed and service.configs_before:
        # It takes over from what ran before, with as many as that had when it began.
        asked = sum(in_flight.values()) * config.weight / WEIGHTS_SUM
        earlier = sum(service.config(one.key) is None for one in live)
        share = -(-earlier * config.weight // WEIGHTS_SUM)
        count = max(count, before.instance_count if before else share)
    mean = asked
    if before is not None:
        mean = before.concurrency + LOAD_SMOOTHING * (asked - before.concurrency)
    is_quiet = _needed(config.scaling, mean) < count
    quiet_since_ms = (before and before.quiet_since_ms) or now_ms
    return Load(
        concurrency=mean, instance_count=count, quiet_since_ms=quiet_since_ms if is_quiet else None
    )


def wanted_count(config: ServiceConfig, load: Load, *, now_ms: int) -> int:
    """How many instances a part is to have. More at once, fewer after a while of less load."""
    scaling = config.scaling
    if scaling is None:
        return config.instance_count
    needed = _allowed(scaling, _needed(scaling, load.concurrency))
    present = _allowed(scaling, load.instance_count)
    if needed >= present:
        return needed
    is_over = (
        load.quiet_since_ms is not None
        and now_ms - load.quiet_since_ms >= scaling.cooldown_seconds * 1000
    )
    return needed if is_over else present


def _needed(scaling: Scaling, concurrency: float) -> int:
    return int(-(-concurrency // scaling.target_concurrency))


def _allowed(scaling: Scaling, count: int) -> int:
    return min(scaling.max_instances, max(scaling.min_instances, count))
