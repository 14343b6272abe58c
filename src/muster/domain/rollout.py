"""What a service needs next, told from how it stands. Pure: the keeper carries it out.

Instances are replaced one after another: a new one is started first (`max_surge`), and only when it
answers does an old one stop getting requests (`max_unavailable`), end what it has under way, and
go. An instance that ends by itself is replaced, each time a little later. Where the first instances
never come up, the service has failed; where those of an update do not, it goes back to what ran.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from muster.domain.batch import Tally
from muster.domain.phase import FINISHED, STOPPABLE, Phase
from muster.domain.service import InstancePhase, Service, ServiceConfig, ServiceStatus, Wish

BACKOFF_MS: Final = 1_000  # before an instance is replaced the first time; doubles each time
BACKOFF_MS_MAX: Final = 60_000
STEADY_MS: Final = 300_000  # ready for so long, it counts as new
UNREADY_MS_MAX: Final = 60_000  # not well for so long, it is replaced
DRAIN_MS_MIN: Final = 1_000  # other servers may hear of it a moment later

WAITING: Final = frozenset({Phase.CREATING, Phase.QUEUED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance, with its workload."""

    id: int
    key: str  # of the part of the service that it was started for
    phase: InstancePhase
    since_ms: int  # in that phase
    ready_at_ms: int | None = None  # when it first was
    tries: int = 0  # how often one in its place has ended before
    workload_id: int
    workload_phase: Phase
    is_holding: bool = False
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    attempt_id: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.workload_phase in FINISHED

    @property
    def has_failed(self) -> bool:
        """It has ended otherwise than by having done its work."""
        return self.has_ended and self.workload_phase is not Phase.COMPLETED

    @property
    def is_ending(self) -> bool:
        return self.workload_phase is Phase.TERMINATING

    @property
    def can_be_ended(self) -> bool:
        """It may be asked to: it has not been, and is not lost."""
        return self.workload_phase in STOPPABLE

    @property
    def is_draining(self) -> bool:
        return self.phase is InstancePhase.DRAINING

    @property
    def is_ready(self) -> bool:
        return self.phase is InstancePhase.READY and self.workload_phase is Phase.RUNNING

    @property
    def is_unwell(self) -> bool:
        """It runs and does not answer as it did. Of one that is lost, nobody knows that."""
        return self.phase is InstancePhase.UNREADY and self.workload_phase is Phase.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """All that a plan looks at."""

    now_ms: int
    service: Service
    instances: tuple[Instance, ...]
    wanted: Mapping[str, int]  # how many of each part, by key
    wanted_before: Mapping[str, int] = field(default_factory=dict)  # likewise; absent: not known
    concurrency: Mapping[str, float] = field(default_factory=dict)  # of parts that follow the load
    is_well: Mapping[int, bool] = field(default_factory=dict)  # by instance; absent: not known
    in_flight: Mapping[int, int] = field(default_factory=dict)  # requests under way, by instance
    last_words: Mapping[int, str] = field(default_factory=dict)  # of instances that ended badly


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Start an instance, in the place of one that has ended or beside the others."""

    key: str
    tries: int = 0
    replaces: Instance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """It gets requests from now on, or no more."""

    instance: Instance
    phase: InstancePhase


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Stop its workload."""

    instance: Instance
    why: str = ""  # for the service's events; "": nothing worth telling


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """It has ended, and counts no more."""

    instance: Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """The service stands otherwise now."""

    status: ServiceStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """What is asked of a part has changed how many instances it is to have. To be told."""

    config: ServiceConfig
    before: int
    count: int
    concurrency: float

    def __str__(self) -> str:
        return (
            f"Model {self.config.model_name} {self.config.model_version} is scaled from"
            f" {self.before} to {self.count} instances: {self._why()}."
        )

    def _why(self) -> str:
        assert self.config.scaling is not None
        target = self.config.scaling.target_concurrency
        if self.count > self.before:
            return (
                f"about {self.concurrency:.1f} requests at once, where an instance is to have"
                f" {target}"
            )
        return (
            f"about {self.concurrency:.1f} requests at once, for"
            f" {self.config.scaling.cooldown_seconds} s fewer than so many instances are to have"
        )


@dataclass(frozen=True, slots=True)
class Deployed:
    """Everything that the present configuration asks for is up, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """The first deployment has failed: end what is left of it."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBack:
    """An update has failed: what ran before it goes on."""

    why: str


@dataclass(frozen=True, slots=True)
class StopAsDue:
    """The time that it was to run for is over."""


@dataclass(frozen=True, slots=True)
class Rest:
    """It has stopped, and nothing of it is left to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A batch service has come so far."""

    tally: Tally


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch service has done all that it was to do."""


Action = (
    Launch | Mark | End | Drop | Settle | Scaled | Deployed | GiveUp | GoBack | StopAsDue | Rest
    | Counted | Finished
)  # fmt: skip


def backoff_ms(tries: int) -> int:
    """How long to wait before an instance is replaced that has ended so often before."""
    return int(min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** min(tries, 16)))


def plan(situation: Situation) -> list[Action]:
    """What to do now. The same situation gives the same plan, and one without need an empty one."""
    service = situation.service
    if service.wish is Wish.STOPPED:
        return _stopping(situation)
    if service.due_at_ms is not None and situation.now_ms >= service.due_at_ms:
        return [StopAsDue()]
    failure = _failure(situation)
    if failure is not None:
        can_go_back = service.configs_before and any(
            one.is_ready for one in _others(situation) if not one.is_draining
        )
        return [GoBack(why=failure) if can_go_back else GiveUp(why=failure)]
    marks = _marks(situation)
    if marks:
        return marks  # what follows from them comes next
    actions = [*_ends(situation), *_replacements(situation), *_changes(situation)]
    actions += _scalings(situation)
    return [*actions, *_standing(situation, is_quiet=not actions)]


def _stopping(situation: Situation) -> list[Action]:
    service = situation.service
    live = [one for one in situation.instances if not one.has_ended]
    actions: list[Action] = [End(instance=one) for one in live if one.can_be_ended]
    status = ServiceStatus.STOPPING if live else ServiceStatus.STOPPED
    if service.error:
        status = ServiceStatus.FAILED
    if service.status is not status:
        actions.append(Settle(status=status))
    return actions if live else [*actions, Rest()]


def _config_of(situation: Situation, one: Instance) -> ServiceConfig | None:
    return situation.service.config(one.key)


def _own(situation: Situation) -> list[Instance]:
    """Those that the present configuration asks for, and that are to stay."""
    return [
        one
        for one in situation.instances
        if _config_of(situation, one) is not None and not one.is_draining
    ]


def _others(situation: Situation) -> list[Instance]:
    """Those of an earlier configuration."""
    return [one for one in situation.instances if _config_of(situation, one) is None]


def _failure(situation: Situation) -> str | None:
    """Why the deployment that is under way cannot succeed; None: it may yet."""
    if situation.service.is_deployed:
        return None
    for one in _own(situation):
        if one.ready_at_ms is not None:
            continue
        config = _config_of(situation, one)
        assert config is not None
        if one.has_ended:
            return situation.last_words.get(one.id) or "An instance ended before it answered."
        if _is_late(situation, one, config):
            return _told_late(config, situation.last_words.get(one.id, ""))
    return None


def _is_late(situation: Situation, one: Instance, config: ServiceConfig) -> bool:
    return (
        one.phase is InstancePhase.STARTING
        and one.started_at_ms is not None
        and not one.has_ended
        and situation.now_ms - one.started_at_ms > config.deploy_timeout_seconds * 1000
    )


def _told_late(config: ServiceConfig, last_words: str) -> str:
    asked = f"GET {config.health.path}" if config.health.path else "a connection to its port"
    return (
        f"An instance of model {config.model_name} {config.model_version} did not answer {asked}"
        f" within {config.deploy_timeout_seconds} s.{' ' if last_words else ''}{last_words}"
    )


def _marks(situation: Situation) -> list[Action]:
    """Who gets requests from now on, and who no more, as the latest look at them tells."""
    actions: list[Action] = []
    for one in situation.instances:
        if one.is_draining:
            continue
        is_well = situation.is_well.get(one.id)
        runs = one.workload_phase is Phase.RUNNING
        if one.phase is InstancePhase.READY and (is_well is False or not runs):
            actions.append(Mark(instance=one, phase=InstancePhase.UNREADY))
        elif one.phase is not InstancePhase.READY and is_well and runs:
            actions.append(Mark(instance=one, phase=InstancePhase.READY))
    return actions


def _ends(situation: Situation) -> list[Action]:
    """Drained ones end, dead ones go, and those that are not well any more are ended."""
    actions: list[Action] = []
    for one in situation.instances:
        config = _config_of(situation, one)
        if one.has_ended:
            if one.is_draining or config is None:
                actions.append(Drop(instance=one))
        elif not one.can_be_ended:
            if one.workload_phase is Phase.LOST and _is_unwell_for_long(situation, one):
                # Another takes its place; should it be found again, it is not needed any more.
                actions.append(Mark(instance=one, phase=InstancePhase.DRAINING))
        elif one.is_draining:
            waited_ms = situation.now_ms - one.since_ms
            is_idle = not situation.in_flight.get(one.id) and waited_ms >= DRAIN_MS_MIN
            grace_seconds = config.grace_seconds if config else _grace_seconds(situation, one)
            if is_idle or waited_ms >= grace_seconds * 1000 or one.ready_at_ms is None:
                actions.append(End(instance=one))
        elif config is not None and _is_unwell_for_long(situation, one):
            actions.append(End(instance=one, why="An instance was not well for too long."))
        elif config is not None and _is_late(situation, one, config):
            actions.append(End(instance=one, why=_told_late(config, "")))
    return actions


def _is_unwell_for_long(situation: Situation, one: Instance) -> bool:
    is_unwell = one.phase is InstancePhase.UNREADY
    return is_unwell and situation.now_ms - one.since_ms > UNREADY_MS_MAX


def _grace_seconds(situation: Situation, one: Instance) -> int:
    """Of an instance of the configuration before, or of what has been forgotten."""
    earlier = (c for c in situation.service.configs_before if c.key == one.key)
    return next((config.grace_seconds for config in earlier), 30)


def _replacements(situation: Situation) -> list[Action]:
    """New instances for those that ended by themselves, unless there are to be fewer."""
    actions: list[Action] = []
    for key, wanted in situation.wanted.items():
        mine = [one for one in _own(situation) if one.key == key]
        ended = [one for one in mine if one.has_ended]
        surplus = max(0, len(mine) - wanted)
        actions += [Drop(instance=one) for one in ended[:surplus]]
        for one in ended[surplus:]:
            was_steady = (
                one.ready_at_ms is not None
                and (one.ended_at_ms or situation.now_ms) - one.ready_at_ms >= STEADY_MS
            )
            tries = 0 if was_steady else one.tries
            if situation.now_ms >= (one.ended_at_ms or 0) + backoff_ms(tries):
                actions.append(Launch(key=key, tries=tries + 1, replaces=one))
    return actions


def _changes(situation: Situation) -> list[Action]:
    """Bring the instances to what is wanted: more, fewer, or others."""
    actions: list[Action] = []
    old = [one for one in _others(situation) if not one.is_draining and not one.has_ended]
    own = [one for one in _own(situation) if not one.is_ending]
    total = sum(situation.wanted.values())
    surge = max((config.max_surge for config in situation.service.configs), default=1)
    spare = max((config.max_unavailable for config in situation.service.configs), default=0)
    room = total + max(surge, 0 if spare else 1) - len(old) - len(own)
    for key, wanted in situation.wanted.items():
        mine = [one for one in own if one.key == key]
        missing = wanted - len(mine)
        starting = missing if not old else max(0, min(missing, room))
        actions += [Launch(key=key)] * max(0, starting)
        room -= max(0, starting)
        live = [one for one in mine if not one.has_ended]
        # Those that serve go last, the newest first among equals.
        live.sort(key=lambda one: (one.is_ready, -one.id))
        actions += [_drained(one) for one in live[: max(0, len(live) - wanted)]]
    # An old one that does not serve is of no use; the others go as new ones take their places.
    actions += [_drained(one) for one in old if not one.is_ready]
    serving = [one for one in old if one.is_ready]
    ready = len(serving) + sum(one.is_ready for one in own)
    may_go = max(0, ready - max(0, total - spare))
    actions += [_drained(one) for one in serving[:may_go]]
    return actions


def _scalings(situation: Situation) -> list[Action]:
    """What the load alone has changed; of an update its own history tells."""
    service = situation.service
    if not service.is_deployed:
        return []
    before = situation.wanted_before
    return [
        Scaled(
            config=config,
            before=before[config.key],
            count=situation.wanted[config.key],
            concurrency=situation.concurrency.get(config.key, 0.0),
        )
        for config in service.configs
        if config.scaling is not None
        and before.get(config.key, situation.wanted[config.key]) != situation.wanted[config.key]
    ]


def _drained(one: Instance) -> Action:
    return Mark(instance=one, phase=InstancePhase.DRAINING)


def _standing(situation: Situation, *, is_quiet: bool) -> list[Action]:
    """How the service stands, if that is otherwise than before."""
    service = situation.service
    own = _own(situation)
    ready = sum(one.is_ready for one in own)
    is_complete = all(
        sum(one.is_ready for one in own if one.key == key) >= wanted
        for key, wanted in situation.wanted.items()
    )
    is_alone = all(one.is_draining for one in _others(situation))
    actions: list[Action] = []
    if not service.is_deployed:
        if is_complete and is_alone and is_quiet:
            return [Deployed(), Settle(status=ServiceStatus.RUNNING)]
        live = [one for one in situation.instances if not one.has_ended]
        waits = any(one.workload_phase in WAITING for one in live)
        is_idle = not any(one.workload_phase not in WAITING for one in live)
        status = ServiceStatus.WAITING if waits and is_idle else ServiceStatus.DEPLOYING
    else:
        # One more that load has called for, and that has not failed yet, concerns nobody.
        lacking = any(
            not one.is_ready and (one.ready_at_ms is not None or one.tries or one.has_ended)
            for one in own
        )
        is_concerning = lacking or not ready
        status = ServiceStatus.CONCERNING if is_concerning else ServiceStatus.RUNNING
    if status is not service.status:
        actions.append(Settle(status=status))
    return actions
