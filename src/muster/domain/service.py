"""Inference services: what is asked for, what each of its parts runs, and the rules for it."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from muster.domain.batch import BatchJob, Tally
from muster.domain.errors import InvalidRequest
from muster.domain.model import Health
from muster.domain.program import Program
from muster.domain.resources import Resources
from muster.domain.training import DEFAULT_WORKSPACE_ID

SERVICES_MAX: Final = 1_000  # of one project
CONFIGS_MAX: Final = 10  # of one service
INSTANCES_MAX: Final = 128  # of one part
WEIGHTS_SUM: Final = 100
ENVIRONMENTS_MAX: Final = 100
VARIABLE_LENGTH_MAX: Final = 4_096
EVENTS_MAX: Final = 1_000  # the latest of one service are kept
UPDATES_MAX: Final = 100  # likewise
CONCURRENCY_MAX: Final = 10_000
DEPLOY_SECONDS_MAX: Final = 86_400
GRACE_SECONDS_MAX: Final = 3_600
SHARE_VARIABLE: Final = "MUSTER_BATCH_SHARE"  # as serving/batch.py reads it

_NAME: Final = re.compile(r"[A-Za-z0-9_\u3400-\u4dbf\u4e00-\u9fff-]{1,64}")
_DESCRIPTION: Final = re.compile(r"[^!<>=&\"'\x00]{0,100}")
_UNIT_MS: Final = {"DAYS": 86_400_000, "HOURS": 3_600_000, "MINUTES": 60_000}
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class InferType(StrEnum):
    """How a service answers. The values are public."""

    REAL_TIME = "real-time"
    BATCH = "batch"


class Balancing(StrEnum):
    """Which of the instances gets a request. The values are public."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_CONNECTIONS = "LEAST_CONNECTIONS"
    SOURCE_IP = "SOURCE_IP"


class Wish(StrEnum):
    """What a service is asked to do."""

    RUNNING = "running"
    STOPPED = "stopped"


class ServiceStatus(StrEnum):
    """Where a service stands. The values are public."""

    DEPLOYING = "deploying"
    WAITING = "waiting"  # for room on the nodes
    RUNNING = "running"
    CONCERNING = "concerning"  # some instance that should serve does not
    FAILED = "failed"  # it could not be deployed
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"  # a batch: all of it is done


# How a list shows those that it has no word of its own for.
LISTED_AS: Final = {
    ServiceStatus.WAITING: ServiceStatus.DEPLOYING,
    ServiceStatus.STOPPING: ServiceStatus.STOPPED,
}


class InstancePhase(StrEnum):
    """Where one instance stands, as far as requests are concerned."""

    STARTING = "starting"  # it has not answered yet
    READY = "ready"  # it gets requests
    UNREADY = "unready"  # it has been ready, and is not well now
    DRAINING = "draining"  # it gets no more of them, and ends when it has answered the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """How many instances there are follows from what is asked of them."""

    min_instances: int
    max_instances: int
    target_concurrency: int = 10  # requests at once that an instance is to have on average
    cooldown_seconds: int = 60  # of less load, before there are fewer of them


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomSpec:
    """Resources that are named instead of a flavor."""

    cpu: float
    memory: int  # MB
    gpu_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """One part of a service: so many equal instances of a model, and their share of requests."""

    key: str = ""  # of what an instance runs: as long as it is the same, instances stay
    model_id: str
    model_name: str
    model_version: str
    specification: str
    custom_spec: CustomSpec | None = None
    task: Resources  # what one instance holds
    flavor_code: str
    pool_id: str
    pool_name: str | None = None  # as it is shown; None: the public one
    partition: str
    instance_count: int
    weight: int = WEIGHTS_SUM
    envs: dict[str, str] = field(default_factory=dict)
    scaling: Scaling | None = None
    deploy_timeout_seconds: int = 1_200
    grace_seconds: int = 30  # for requests under way, before an instance is ended
    max_surge: int = 1
    max_unavailable: int = 0
    max_concurrency: int = 100  # requests at once that one instance gets
    health: Health
    program: Program
    batch: BatchJob | None = None  # of a batch service: what its instances work through
    given: dict[str, Any] = field(default_factory=dict)  # other members, as the client gave them

    @property
    def runs(self) -> str:
        """Names what an instance of it is; equal texts are the same instance."""
        parts = (
            self.model_id, self.flavor_code, asdict(self.task), self.pool_id,
            sorted(self.envs.items()), self.program.argv, self.program.code,
            sorted(self.program.environment.items()), asdict(self.health),
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def program_of(self, index: int) -> Program:
        """What the instance of that number runs. One of a batch is told which share is its own."""
        if self.batch is None:
            return self.program
        variable = {SHARE_VARIABLE: f"{index}/{self.instance_count}"}
        return replace(
            self.program,
            share=(index, self.instance_count),
            environment={**self.program.environment, **variable},
        )

    @property
    def floor(self) -> int:
        """How many instances it begins with."""
        return self.scaling.min_instances if self.scaling else self.instance_count


def with_keys(configs: Sequence[ServiceConfig]) -> tuple[ServiceConfig, ...]:
    """Give each part its key; parts that run the same are told apart by their order."""
    counts: dict[str, int] = {}
    keyed = []
    for config in configs:
        runs = config.runs
        counts[runs] = counts.get(runs, 0) + 1
        keyed.append(replace(config, key=f"{runs}-{counts[runs]}"))
    return tuple(keyed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service as it stands."""

    id: int = 0
    uid: str
    project_id: str
    workspace_id: str = DEFAULT_WORKSPACE_ID
    name: str
    description: str = ""
    owner_name: str
    infer_type: InferType = InferType.REAL_TIME
    wish: Wish = Wish.RUNNING
    status: ServiceStatus = ServiceStatus.DEPLOYING
    error: str = ""  # why it failed
    balancing: Balancing = Balancing.ROUND_ROBIN
    priority: int = 1
    configs: tuple[ServiceConfig, ...]
    configs_before: tuple[ServiceConfig, ...] = ()  # while an update is under way: to go back to
    is_deployed: bool = False  # all that `configs` ask for has been up
    # As the client gave them: `schedule` [{type, time_unit, duration}], `additional_properties`...
    settings: dict[str, Any] = field(default_factory=dict)
    allows_websockets: bool = False
    due_at_ms: int | None = None  # it is stopped then
    published_at_ms: int = 0
    updated_at_ms: int = 0
    transition_at_ms: int = 0
    started_at_ms: int | None = None
    tally: Tally | None = None  # of a batch: how far it has come since its last start
    revision: int = 0

    @property
    def is_batch(self) -> bool:
        return self.infer_type is InferType.BATCH

    def config(self, key: str) -> ServiceConfig | None:
        return next((config for config in self.configs if config.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUpdate:
    """One line of a service's update history."""

    number: int
    at_ms: int
    result: str  # SUCCESS, FAIL or RUNNING
    detail: str = ""
    configs: tuple[ServiceConfig, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvent:
    """Something that happened to a service."""

    number: int
    at_ms: int
    is_normal: bool
    text: str


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"service_name is {name[:100]!r}; it must be 1 to 64 letters, digits, Chinese"
            " characters, '-' and '_'."
        )


def check_description(description: str) -> None:
    if not _DESCRIPTION.fullmatch(description):
        raise InvalidRequest(
            f"description is {description[:120]!r}; it must have at most 100 characters and none"
            " of !<>=&\"'."
        )


def check_envs(envs: dict[str, str], *, field_name: str) -> None:
    if len(envs) > ENVIRONMENTS_MAX:
        raise InvalidRequest(
            f"{field_name} has {len(envs)} entries; at most {ENVIRONMENTS_MAX} are allowed."
        )
    for name, value in envs.items():
        if not _VARIABLE.fullmatch(name):
            raise InvalidRequest(
                f"{field_name} names {name[:100]!r}; it must be letters, digits and '_', and"
                " begin with none of the digits."
            )
        if len(value) > VARIABLE_LENGTH_MAX or "\0" in value:
            raise InvalidRequest(
                f"{field_name}.{name} must be text of at most {VARIABLE_LENGTH_MAX} characters,"
                " without NUL."
            )


def check_weights(weights: Sequence[int | None]) -> tuple[int, ...]:
    """The share of each part. One part alone has all of it.

    Raises:
        InvalidRequest: they do not come to 100.
    """
    if len(weights) == 1 and weights[0] is None:
        return (WEIGHTS_SUM,)
    given = tuple(weight or 0 for weight in weights)
    if sum(given) != WEIGHTS_SUM:
        raise InvalidRequest(
            f"config: the weights are {', '.join(map(str, given))} and come to {sum(given)}; they"
            f" must come to {WEIGHTS_SUM}."
        )
    return given


def run_for_ms(schedule: Sequence[Mapping[str, Any]]) -> int | None:
    """How long a service runs by its schedule, from its start; None: until somebody stops it."""
    times = (one["duration"] * _UNIT_MS[one["time_unit"]] for one in schedule)
    return min(times, default=None)


def check_scaling(scaling: Scaling, *, field_name: str) -> None:
    if not 1 <= scaling.min_instances <= scaling.max_instances <= INSTANCES_MAX:
        raise InvalidRequest(
            f"{field_name}: min_instances is {scaling.min_instances} and max_instances"
            f" {scaling.max_instances}; they must be from 1 to {INSTANCES_MAX}, the first not"
            " above the second."
        )


# ---------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceList:
    """What a list of services is asked for."""

    project_id: str
    workspace_id: str
    service_id: str = ""
    name: str = ""  # a part of it, in any case
    model_id: str = ""
    pool_id: str = ""
    infer_type: str = ""
    status: str = ""
    sort_by: str = "publish_at"  # or "service_name", "transition_at"
    is_descending: bool = True
    page: int = 0
    limit: int = 1000
    marker: str = ""  # an id: what comes after it
