"""What a user may ask of inference services: deploy, change, start, stop, delete."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from muster.domain.catalogue import Catalogue
from muster.domain.errors import DeploymentInvalid, ServiceStateForbids, StaleWrite
from muster.domain.service import (
    Balancing,
    InferType,
    Service,
    ServiceConfig,
    ServiceStatus,
    Wish,
    check_description,
    check_name,
    run_for_ms,
)
from muster.objects.store import ObjectStore
from muster.operations.batches import look_at_places
from muster.operations.caller import Caller, check_priority
from muster.operations.service_parts import Part, Resolving, check_pool_is_there
from muster.store import jobs, models, service_records, services
from muster.store.database import Database
from muster.store.transaction import Transaction

CHANGE_TRIES: Final = 20  # where others change the same service at the same time


@dataclass(frozen=True, slots=True)
class Deployments:
    """What the operations on services work with."""

    database: Database
    catalogue: Catalogue
    objects: ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class NewService:
    """A service as it is asked for."""

    workspace_id: str
    name: str
    description: str
    infer_type: InferType = InferType.REAL_TIME
    parts: Sequence[Part]
    balancing: Balancing
    priority: int
    allows_websockets: bool
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChange:
    """What is to be different; None stays as it is."""

    description: str | None = None
    wish: Wish | None = None
    parts: Sequence[Part] | None = None
    balancing: Balancing | None = None
    allows_websockets: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # those that are different


async def deploy_service(
    deployments: Deployments, caller: Caller, given: NewService, *, now_ms: int
) -> tuple[Service, list[str]]:
    """Make a service and start its instances; return it with the ids of their workloads.

    Raises:
        InvalidRequest, NotFound, Conflict: nothing was made.
    """
    check_name(given.name)
    check_description(given.description)
    check_priority(caller, given.priority, workspace_id=given.workspace_id)
    if given.infer_type is InferType.BATCH:
        _refuse_schedule(given.settings)
    resolving = Resolving(deployments.catalogue, caller, given.infer_type)
    configs = await deployments.database.read(resolving.resolve, given.parts, ())
    claim = await look_at_places(deployments.database, deployments.objects, caller, configs)
    service = Service(
        uid=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=given.workspace_id,
        name=given.name,
        description=given.description,
        owner_name=caller.user_name,
        infer_type=given.infer_type,
        balancing=given.balancing,
        priority=given.priority,
        configs=configs,
        settings=given.settings,
        allows_websockets=given.allows_websockets,
        due_at_ms=_due(given.settings, now_ms),
        published_at_ms=now_ms,
        updated_at_ms=now_ms,
        transition_at_ms=now_ms,
        started_at_ms=now_ms,
    )
    uids = [uuid.uuid4().hex for config in configs for _ in range(config.floor)]

    def insert(tx: Transaction) -> Service:
        jobs.check_workspace(tx.connection, caller.project_id, given.workspace_id)
        for config in configs:
            models.get_model(tx.connection, caller.project_id, config.model_id)
        claim(tx)
        made = services.insert_service(tx, service)
        _start_all(tx, made, uids, now_ms=now_ms)
        service_records.note_update(tx, made, at_ms=now_ms, result="RUNNING")
        told = f"The service was deployed by {caller.user_name}."
        service_records.note_events(tx, made, [(True, told)], at_ms=now_ms)
        return made

    return await deployments.database.write(insert), uids


def _refuse_schedule(settings: Mapping[str, Any]) -> None:
    if settings.get("schedule"):
        raise DeploymentInvalid(
            "schedule is for real-time services: a batch ends when all of it is done."
        )


def _refuse_while_a_batch_runs(service: Service) -> None:
    """All its instances run the same, and work through shares of the same input."""
    if service.is_batch and service.wish is Wish.RUNNING:
        raise ServiceStateForbids(
            f"Service {service.name!r} is {service.status}; stop it, or let it finish, before its"
            " config is changed."
        )


def _due(settings: Mapping[str, Any], started_at_ms: int) -> int | None:
    """When a service that starts then is stopped by its schedule."""
    wanted_ms = run_for_ms(settings.get("schedule") or ())
    return None if wanted_ms is None else started_at_ms + wanted_ms


def _start_all(tx: Transaction, service: Service, uids: Sequence[str], *, now_ms: int) -> None:
    left = list(uids)
    for config in service.configs:
        for index in range(config.floor):
            services.start_instance(
                tx, service, config, uid=left.pop(0), now_ms=now_ms, index=index
            )


async def change_service(
    deployments: Deployments, caller: Caller, uid: str, change: ServiceChange, *, now_ms: int
) -> Service:
    """Start, stop or change a service. A change of what runs is carried out step by step.

    Raises:
        ServiceUnknown: the project has none of that id.
        InvalidRequest: names the field; nothing was changed.
    """
    database = deployments.database
    if change.description is not None:
        check_description(change.description)
    if change.wish is not None:
        act = _start if change.wish is Wish.RUNNING else _stop
        return await database.write(act, caller, uid, now_ms=now_ms)
    for _ in range(CHANGE_TRIES):
        present = await database.read_fresh(services.get_service, caller.project_id, uid)
        if present.is_batch:
            _refuse_schedule(change.settings)
        configs = present.configs
        if change.parts and any(part != Part() for part in change.parts):
            resolving = Resolving(deployments.catalogue, caller, present.infer_type)
            configs = await database.read(resolving.resolve, change.parts, present.configs)
        changed = configs if configs != present.configs else ()
        if changed:
            _refuse_while_a_batch_runs(present)
        claim = await look_at_places(database, deployments.objects, caller, changed)

        def write(
            tx: Transaction,
            present: Service = present,
            configs: tuple[ServiceConfig, ...] = configs,
            claim: Callable[[Transaction], None] = claim,
        ) -> Service:
            claim(tx)
            return _change(tx, caller, present, change, configs, now_ms=now_ms)

        try:
            return await database.write(write)
        except StaleWrite as error:  # it was changed meanwhile: what is not said is as it is now
            overtaken = error
    raise overtaken


def _start(tx: Transaction, caller: Caller, uid: str, *, now_ms: int) -> Service:
    service = services.get_service(tx.connection, caller.project_id, uid)
    if service.wish is Wish.RUNNING:
        return service
    if service.status is ServiceStatus.STOPPING:
        raise ServiceStateForbids(
            f"Service {service.name!r} is stopping; start it once it is stopped."
        )
    for config in service.configs:
        check_pool_is_there(tx.connection, caller, config)
    for one in services.list_instances(tx.connection, [service.id]).get(service.id, ()):
        services.drop_instance(tx, one, now_ms=now_ms, actor=caller.user_name)
    started = services.update_service(
        tx,
        replace(
            service,
            wish=Wish.RUNNING,
            status=ServiceStatus.DEPLOYING,
            error="",
            configs_before=(),
            is_deployed=False,
            due_at_ms=_due(service.settings, now_ms),
            published_at_ms=now_ms,
            transition_at_ms=now_ms,
            started_at_ms=now_ms,
            tally=None,
        ),
    )
    count = sum(config.floor for config in started.configs)
    _start_all(tx, started, [uuid.uuid4().hex for _ in range(count)], now_ms=now_ms)
    service_records.note_update(tx, started, at_ms=now_ms, result="RUNNING")
    told = f"The service was started by {caller.user_name}."
    service_records.note_events(tx, started, [(True, told)], at_ms=now_ms)
    return started


def _stop(tx: Transaction, caller: Caller, uid: str, *, now_ms: int) -> Service:
    service = services.get_service(tx.connection, caller.project_id, uid)
    if service.wish is Wish.STOPPED and not service.error:
        return service
    stopped = services.update_service(
        tx,
        replace(
            service,
            wish=Wish.STOPPED,
            status=ServiceStatus.STOPPING,
            error="",
            configs_before=(),
            transition_at_ms=now_ms,
        ),
    )
    service_records.end_updates(tx, service, result="FAIL", detail="The service was stopped.")
    told = f"The service was stopped by {caller.user_name}."
    service_records.note_events(tx, stopped, [(True, told)], at_ms=now_ms)
    return stopped


def _change(
    tx: Transaction,
    caller: Caller,
    present: Service,
    change: ServiceChange,
    configs: tuple[ServiceConfig, ...],
    *,
    now_ms: int,
) -> Service:
    """Raises StaleWrite where it has not the configuration any more that `configs` follow from."""
    service = services.get_service(tx.connection, caller.project_id, present.uid)
    if service.configs != present.configs:
        raise StaleWrite(f"Service {service.name!r} is being changed by others; try again.")
    settings = service.settings | dict(change.settings)
    changed = replace(
        service,
        description=service.description if change.description is None else change.description,
        balancing=change.balancing or service.balancing,
        allows_websockets=(
            service.allows_websockets
            if change.allows_websockets is None
            else change.allows_websockets
        ),
        settings=settings,
        due_at_ms=_due(settings, now_ms) if "schedule" in change.settings else service.due_at_ms,
        updated_at_ms=now_ms,
    )
    if configs != service.configs:
        for config in configs:
            models.get_model(tx.connection, caller.project_id, config.model_id)
        # What has been up is kept, to go back to; what has not is not worth it.
        before = service.configs if service.is_deployed else service.configs_before
        is_running = service.wish is Wish.RUNNING
        changed = replace(
            changed,
            configs=configs,
            configs_before=before if is_running else (),
            is_deployed=False,
            status=ServiceStatus.DEPLOYING if is_running else service.status,
            published_at_ms=now_ms,
            transition_at_ms=now_ms if is_running else service.transition_at_ms,
        )
        service_records.end_updates(
            tx, service, result="FAIL", detail="Another update came after it."
        )
        result = "RUNNING" if is_running else "SUCCESS"
        service_records.note_update(tx, changed, at_ms=now_ms, result=result)
        told = f"The service was updated by {caller.user_name}."
        service_records.note_events(tx, changed, [(True, told)], at_ms=now_ms)
    return services.update_service(tx, changed)


async def delete_service(
    deployments: Deployments, caller: Caller, uid: str, *, now_ms: int
) -> None:
    """Take a service away at once; what still runs of it is stopped.

    Raises:
        ServiceUnknown: the project has none of that id.
    """

    def delete(tx: Transaction) -> None:
        service = services.get_service(tx.connection, caller.project_id, uid)
        services.delete_service(tx, service, now_ms=now_ms, actor=caller.user_name)

    await deployments.database.write(delete)
