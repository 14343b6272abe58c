"""The parts of a service as they are asked for, and what each of them comes to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Final, TypeVar

from muster.domain.catalogue import Catalogue
from muster.domain.errors import (
    DeploymentInvalid,
    InvalidRequest,
    NoRoomForInstance,
    PoolUnknown,
)
from muster.domain.model import Model
from muster.domain.placement import most_that_fit
from muster.domain.pool import USABLE, Pool, Scope, public_pool_id
from muster.domain.program import Program
from muster.domain.resources import Resources
from muster.domain.service import (
    CustomSpec,
    InferType,
    Scaling,
    ServiceConfig,
    check_envs,
    check_scaling,
    check_weights,
    with_keys,
)
from muster.operations.batches import BatchPart, as_batch, refuse_batch, resolve_batch
from muster.operations.caller import Caller
from muster.store import models, pool_nodes, pools
from muster.store.connection import Connection

T = TypeVar("T")

CUSTOM: Final = "custom"  # in place of a flavor: the resources are named
RUNNER: Final = "muster.serving.runner"
CONFIG_VARIABLE: Final = "MUSTER_MODEL_CONFIG"  # what the runner is told of the model


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a service as it is asked for; None: as before, or as is usual."""

    model_id: str | None = None
    specification: str | None = None
    custom_spec: CustomSpec | None = None
    instance_count: int | None = None
    weight: int | None = None
    envs: Mapping[str, str] | None = None
    pool_id: str | None = None
    pool_field: str = ""  # where that stands in the request
    scaling: Scaling | None = None
    is_scaling_off: bool = False  # it was said that there is to be none
    deploy_timeout_seconds: int | None = None
    grace_seconds: int | None = None
    max_surge: int | None = None
    max_unavailable: int | None = None
    max_concurrency: int | None = None
    batch: BatchPart = field(default_factory=BatchPart)
    given: Mapping[str, Any] | None = None


def check_pool_is_there(connection: Connection, caller: Caller, config: ServiceConfig) -> Pool:
    pool = pools.find_pool(connection, caller.project_id, config.pool_id)
    if pool is None or not caller.may_enter(pool.workspace_id):
        raise _pool_unknown("pool_name", config.pool_id)
    return pool


def _pool_unknown(field_name: str, pool_id: str) -> PoolUnknown:
    return PoolUnknown(
        f"{field_name} is {pool_id[:100]!r}; this project has no such pool. `muster pool list`"
        " shows what there is."
    )


@dataclass(frozen=True, slots=True)
class Resolving:
    """Turns what is asked for into what runs, with everything looked up that may change later."""

    catalogue: Catalogue
    caller: Caller
    infer_type: InferType

    @property
    def is_batch(self) -> bool:
        return self.infer_type is InferType.BATCH

    def resolve(
        self, connection: Connection, parts: Sequence[Part], before: Sequence[ServiceConfig]
    ) -> tuple[ServiceConfig, ...]:
        """What a part does not say is taken from the one in its place before."""
        if self.is_batch and len(parts) != 1:
            raise InvalidRequest(
                f"config has {len(parts)} entries; a batch service has exactly one."
            )
        weights = check_weights(
            [
                part.weight
                if part.weight is not None or index >= len(before) or len(parts) != len(before)
                else before[index].weight
                for index, part in enumerate(parts)
            ]
        )
        configs = [
            self._config(connection, part, weight, index, before)
            for index, (part, weight) in enumerate(zip(parts, weights, strict=True))
        ]
        return with_keys(configs)

    def _config(
        self,
        connection: Connection,
        part: Part,
        weight: int,
        index: int,
        before: Sequence[ServiceConfig],
    ) -> ServiceConfig:
        name = f"config[{index}]"
        old = before[index] if index < len(before) else None
        if part.specification is None and part.custom_spec is not None:
            part = replace(part, specification=CUSTOM)
        if self.is_batch:
            batch = resolve_batch(part.batch, old.batch if old else None, name)
        else:
            batch = None
            refuse_batch(part.batch, name)
        model = self._model(connection, part, old, name)
        specification = _needed(
            part.specification, old.specification if old else None, f"{name}.specification"
        )
        custom = part.custom_spec or (old.custom_spec if old and not part.specification else None)
        flavor_code, task = self._shape(specification, custom, name)
        pool = self._pool(connection, part, old, name)
        _check_room(connection, pool, task, specification, name)
        envs = dict(part.envs if part.envs is not None else (old.envs if old else {}))
        check_envs(envs, field_name=f"{name}.envs")
        scaling = part.scaling or (old.scaling if old and not part.is_scaling_off else None)
        if scaling is not None:
            if batch is not None:
                raise DeploymentInvalid(
                    f"{name}.scaling is for real-time services: a batch has instance_count."
                )
            check_scaling(scaling, field_name=f"{name}.scaling")
        count = part.instance_count or (old.instance_count if old else None)
        if count is None and scaling is not None:
            count = scaling.min_instances
        usual = old or (_USUAL_BATCH if batch is not None else _USUAL)

        def of(value: int | None, otherwise: int) -> int:
            return otherwise if value is None else value

        config = ServiceConfig(
            model_id=model.id,
            model_name=model.name,
            model_version=model.version,
            specification=specification,
            custom_spec=custom if specification == CUSTOM else None,
            task=task,
            flavor_code=flavor_code,
            pool_id=pool.id,
            pool_name=None if pool.is_public else pool.id,
            partition=pool.partition,
            instance_count=_needed(count, None, f"{name}.instance_count"),
            weight=weight,
            envs=envs,
            scaling=scaling,
            deploy_timeout_seconds=of(part.deploy_timeout_seconds, usual.deploy_timeout_seconds),
            grace_seconds=of(part.grace_seconds, usual.grace_seconds),
            max_surge=of(part.max_surge, usual.max_surge),
            max_unavailable=of(part.max_unavailable, usual.max_unavailable),
            max_concurrency=of(part.max_concurrency, usual.max_concurrency),
            health=model.recipe.health,
            program=_program(model, envs),
            given=dict(part.given if part.given is not None else (old.given if old else {})),
        )
        return config if batch is None else as_batch(config, batch, model.recipe)

    def _model(
        self, connection: Connection, part: Part, old: ServiceConfig | None, name: str
    ) -> Model:
        model_id = _needed(part.model_id, old.model_id if old else None, f"{name}.model_id")
        model = models.find_model(connection, self.caller.project_id, model_id)
        if model is None or not self.caller.may_enter(model.workspace_id):
            raise models.model_unknown(model_id, field=f"{name}.model_id")
        return model

    def _shape(
        self, specification: str, custom: CustomSpec | None, name: str
    ) -> tuple[str, Resources]:
        if specification == CUSTOM:
            if custom is None:
                raise InvalidRequest(
                    f"{name}.custom_spec is missing; the specification {CUSTOM!r} needs it."
                )
            return CUSTOM, Resources(
                cpu_millis=max(1, round(custom.cpu * 1000)),
                memory_mib=custom.memory,
                gpu_count=math.ceil(custom.gpu_count),
            )
        flavor = self.catalogue.find_flavor(specification)
        if flavor is None:
            offered = ", ".join(flavor.code for flavor in self.catalogue.flavors)
            raise DeploymentInvalid(
                f"{name}.specification is {specification[:100]!r}; there are {offered} and"
                f" {CUSTOM}."
            )
        return flavor.code, flavor.task

    def _pool(
        self, connection: Connection, part: Part, old: ServiceConfig | None, name: str
    ) -> Pool:
        project_id = self.caller.project_id
        asked = part.pool_id or (old.pool_id if old else public_pool_id(project_id))
        pool = pools.find_pool(connection, project_id, asked)
        if pool is None or not self.caller.may_enter(pool.workspace_id):
            raise _pool_unknown(part.pool_field or f"{name}.pool_name", asked)
        if pool.phase not in USABLE and not pool.is_down:
            raise NoRoomForInstance(
                f"{name}.pool_name is {asked!r}; the pool is {pool.phase}, not Running."
            )
        if Scope.INFER not in pool.scopes:
            raise DeploymentInvalid(
                f"{name}.pool_name is {asked!r}; its scope is {', '.join(pool.scopes)}, without"
                " Infer."
            )
        return pool


def _needed(value: T | None, before: T | None, name: str) -> T:
    found = value if value is not None else before
    if found is None:
        raise InvalidRequest(f"{name} is missing; a new part of a service needs it.")
    return found


def _check_room(
    connection: Connection, pool: Pool, task: Resources, specification: str, name: str
) -> None:
    """Refuse at once what no node could ever hold."""
    rooms = [node.room for node in pool_nodes.list_partition_nodes(connection, pool.partition)]
    if not most_that_fit(task, rooms, bound=1):
        raise NoRoomForInstance(
            f"{name}.specification is {specification!r}; no node of pool {pool.display_name!r} is"
            " large enough for one such instance."
        )


def _program(model: Model, envs: Mapping[str, str]) -> Program:
    recipe = model.recipe
    spec = find_spec(RUNNER)
    assert spec is not None
    assert spec.origin is not None
    environment = {"MUSTER_MODEL_NAME": model.name, **envs}
    if not recipe.command:
        environment[CONFIG_VARIABLE] = recipe.config_text
    argv = recipe.command or (recipe.interpreter, spec.origin, recipe.folder or ".")
    return Program(
        name=f"{model.name} {model.version}",
        argv=argv,
        environment=environment,
        code=recipe.code,
        interpreters=(recipe.interpreter,),
    )


# What is usual, where nothing is said.
_USUAL: Final = ServiceConfig(
    model_id="",
    model_name="",
    model_version="",
    specification="",
    task=Resources(),
    flavor_code="",
    pool_id="",
    partition="",
    instance_count=1,
    health=None,  # type: ignore[arg-type]  # of the model
    program=None,  # type: ignore[arg-type]  # likewise
)
# Not every script bears several requests at once, and here nobody waits for an answer.
_USUAL_BATCH: Final = replace(_USUAL, max_concurrency=1)
