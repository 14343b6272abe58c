"""What a batch service needs next, told from how it stands. Pure: the keeper carries it out.

All its instances are started at once and work through their shares. When each of them has ended
well it is finished; when one ends otherwise it has failed, and the others are ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from muster.domain.batch import Progress, Tally, sum_up
from muster.domain.rollout import (
    WAITING,
    Action,
    Counted,
    End,
    Finished,
    GiveUp,
    Instance,
    Rest,
    Settle,
)
from muster.domain.service import Service, ServiceStatus, Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSituation:
    """All that a plan looks at."""

    now_ms: int
    service: Service
    instances: tuple[Instance, ...]
    progress: Mapping[int, Progress] = field(default_factory=dict)  # by instance; absent: not known
    last_words: Mapping[int, str] = field(default_factory=dict)  # of instances that ended badly

    @property
    def tally(self) -> Tally:
        return sum_up(list(self.progress.values()), instance_count=max(1, len(self.instances)))


def plan_batch(situation: BatchSituation) -> list[Action]:
    """What to do now. The same situation gives the same plan, and one without need an empty one."""
    if situation.service.wish is Wish.STOPPED:
        return _stopping(situation)
    counted = _counted(situation)
    failed = [one for one in situation.instances if one.has_failed]
    if failed:
        why = situation.last_words.get(failed[0].id) or "An instance ended, and said nothing."
        return [*counted, GiveUp(why=why)]
    if all(one.has_ended for one in situation.instances):
        return [*counted, _outcome(situation)]
    status = _status(situation)
    if status is situation.service.status:
        return counted
    return [*counted, Settle(status=status)]


def _outcome(situation: BatchSituation) -> Action:
    """Of a service whose instances have all ended well."""
    tally = situation.tally
    if tally.answered:
        return Finished()
    if not tally.total:
        return GiveUp(why="There was no input to ask about when the instances looked for it.")
    return GiveUp(why=f"None of the {tally.total} requests was answered: {tally.told_failures()}.")


def _status(situation: BatchSituation) -> ServiceStatus:
    """Running from the first model that is well on; until then it comes up, or waits for room."""
    if any(one.is_ready for one in situation.progress.values()):
        return ServiceStatus.RUNNING
    live = [one for one in situation.instances if not one.has_ended]
    if all(one.workload_phase in WAITING for one in live):
        return ServiceStatus.WAITING
    return ServiceStatus.DEPLOYING


def _counted(situation: BatchSituation) -> list[Action]:
    tally = situation.tally
    known = situation.service.tally or Tally()
    return [] if tally == known else [Counted(tally=tally)]


def _stopping(situation: BatchSituation) -> list[Action]:
    """It was stopped, has failed, or is finished: what still runs of it ends."""
    service = situation.service
    live = [one for one in situation.instances if not one.has_ended]
    actions: list[Action] = [End(instance=one) for one in live if one.can_be_ended]
    status = ServiceStatus.STOPPING if live else ServiceStatus.STOPPED
    if service.error:
        status = ServiceStatus.FAILED
    if service.status is ServiceStatus.FINISHED:
        return [*actions, Rest()]
    actions += _counted(situation)
    if service.status is not status:
        actions.append(Settle(status=status))
    return actions if live else [*actions, Rest()]
