"""Services with their instances, update history, events and counts of calls."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from muster.domain.batch import Tally
from muster.domain.errors import ServiceNameTaken, ServiceUnknown, StaleWrite, TooManyServices
from muster.domain.phase import STOPPABLE, Event, Phase, Reason
from muster.domain.rollout import Instance
from muster.domain.service import (
    LISTED_AS,
    SERVICES_MAX,
    Balancing,
    InferType,
    InstancePhase,
    Service,
    ServiceConfig,
    ServiceList,
    ServiceStatus,
    Wish,
)
from muster.domain.workload import WorkloadType
from muster.store import moves, workloads
from muster.store.connection import REFUSED, Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction
from muster.store.workloads import NewWorkload

SQL: Final = load_statements("services")

_CONFIGS: Final = msgspec.json.Decoder(tuple[ServiceConfig, ...])
_SETTINGS: Final = msgspec.json.Decoder(dict[str, Any])
_TALLY: Final = "tally"  # in the column of the settings; no client has a setting of that name


def insert_service(tx: Transaction, service: Service) -> Service:
    """Store a new one; return it with its id.

    Raises:
        ServiceNameTaken: the workspace has a service of that name.
        TooManyServices: the project has as many as it may.
    """
    [count] = tx.execute(SQL["count_services"], {"project_id": service.project_id}).fetchone()
    if count >= SERVICES_MAX:
        raise TooManyServices(
            f"This project has {count} services, and may have {SERVICES_MAX}; delete some."
        )
    try:
        [id_] = tx.execute(SQL["insert_service"], _row_of(service)).fetchone()
    except REFUSED as error:
        raise ServiceNameTaken(
            f"service_name is {service.name!r}; workspace {service.workspace_id!r} has a service"
            " of that name."
        ) from error
    service = replace(service, id=id_)
    _note_models(tx, service)
    tx.has_work = True
    return service


def update_service(tx: Transaction, service: Service, *, is_kept: bool = True) -> Service:
    """Store it as it is to be now.

    Args:
        tx: the transaction.
        service: with the revision that it was read with.
        is_kept: whether the keeper has to look at it; False once nothing of it is to change.

    Raises:
        StaleWrite: somebody else has changed it since.
    """
    values = _row_of(service) | {
        "id": service.id,
        "revision": service.revision,
        "is_kept": int(is_kept),
    }
    if tx.execute(SQL["update_service"], values).rowcount == 0:
        raise StaleWrite(f"Service {service.name!r} was changed meanwhile.")
    _note_models(tx, service)
    tx.has_work = True
    return replace(service, revision=service.revision + 1)


def _note_models(tx: Transaction, service: Service) -> None:
    tx.execute(SQL["delete_service_models"], {"service_id": service.id})
    configs = (*service.configs, *service.configs_before)
    for model_uid in sorted({config.model_id for config in configs}):
        tx.execute(SQL["insert_service_model"], {"service_id": service.id, "model_uid": model_uid})


def find_service(connection: Connection, uid: str) -> Service | None:
    """Of any project."""
    row = connection.execute(SQL["find_service"], {"uid": uid}).fetchone()
    return None if row is None else _service(row)


def get_service(connection: Connection, project_id: str, uid: str) -> Service:
    found = find_service(connection, uid)
    if found is None or found.project_id != project_id:
        raise service_unknown(uid)
    return found


def get_service_by_id(connection: Connection, service_id: int) -> Service:
    row = connection.execute(SQL["find_service_by_id"], {"id": service_id}).fetchone()
    if row is None:
        raise StaleWrite(f"Service {service_id} is gone.")
    return _service(row)


def service_unknown(shown: str) -> ServiceUnknown:
    """One of another project, or where the caller may not enter, is not there either."""
    return ServiceUnknown(f"service_id is {shown[:100]!r}; there is no such service.")


def find_workspace_of_service(connection: Connection, project_id: str, uid: str) -> str | None:
    row = connection.execute(
        SQL["find_workspace_of_service"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return row[0] if row else None


def list_kept(connection: Connection) -> dict[int, int]:
    """The revision of every service that the keeper has to look at, by id."""
    return dict(connection.execute(SQL["list_kept_services"]).fetchall())


def page_of_services(connection: Connection, query: ServiceList) -> tuple[int, list[Service]]:
    """(how many match, the page of them). Ties are in the order of their ids."""
    rows = connection.execute(
        SQL["list_services"],
        {"project_id": query.project_id, "workspace_id": query.workspace_id},
    ).fetchall()
    found = [row for row in rows if _matches(row, query)]
    keys = {"publish_at": 5, "service_name": 2, "transition_at": 6}
    found.sort(key=lambda row: row[0], reverse=query.is_descending)
    found.sort(key=lambda row: row[keys[query.sort_by]], reverse=query.is_descending)
    uids = [row[1] for row in found]
    start = query.page * query.limit
    if query.marker:
        # What comes after it; nothing, where it is the last, or none of these.
        start = uids.index(query.marker) + 1 if query.marker in uids else len(uids)
    page = found[start : start + query.limit]
    return len(found), [get_service_by_id(connection, row[0]) for row in page]


def _matches(row: Sequence[Any], query: ServiceList) -> bool:
    _, uid, name, infer_type, stored, _, _, configs, is_deployed = row
    status = _status(stored, infer_type, is_deployed=is_deployed)
    listed = LISTED_AS.get(status, status)
    if not (
        query.service_id in ("", uid)
        and query.name.lower() in name.lower()
        and query.infer_type in ("", infer_type)
        and query.status in ("", status, listed)
    ):
        return False
    if not query.model_id and not query.pool_id:
        return True
    decoded = _CONFIGS.decode(configs)
    return any(
        query.model_id in ("", config.model_id) and query.pool_id in ("", config.pool_id)
        for config in decoded
    )


def count_services_in_pool(connection: Connection, project_id: str, pool_id: str) -> dict[str, int]:
    """How many services of a project have a part in a pool: by infer type, as clients read it."""
    rows = connection.execute(SQL["list_configs_of_services"], {"project_id": project_id})
    counts: dict[str, int] = {"realtime_count": 0, "batch_count": 0}
    for infer_type, configs in rows:
        if any(config.pool_id == pool_id for config in _CONFIGS.decode(configs)):
            is_batch = infer_type == InferType.BATCH
            counts["batch_count" if is_batch else "realtime_count"] += 1
    return counts


def delete_service(tx: Transaction, service: Service, *, now_ms: int, actor: str) -> None:
    """Drop it at once. What still runs of it is stopped, and its rows go when it has ended."""
    for one in list_instances(tx.connection, [service.id]).get(service.id, ()):
        drop_instance(tx, one, now_ms=now_ms, actor=actor)
    for statement in (
        "delete_service_models", "delete_service_calls", "delete_service_updates",
        "delete_service_events", "delete_service",
    ):  # fmt: skip
        tx.execute(SQL[statement], {"service_id": service.id})


# ---------------------------------------------------------------- instances


def list_instances(
    connection: Connection, service_ids: Sequence[int]
) -> Mapping[int, tuple[Instance, ...]]:
    """By service, the oldest first; a service without any is left out."""
    if not service_ids:
        return {}
    rows = connection.execute(SQL["list_instances"], {"service_ids": json.dumps(list(service_ids))})
    found: dict[int, list[Instance]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(
            Instance(
                id=row[1],
                key=row[2],
                phase=InstancePhase(row[3]),
                since_ms=row[4],
                ready_at_ms=row[5],
                tries=row[6],
                workload_id=row[7],
                workload_phase=Phase(row[8]),
                started_at_ms=row[9],
                ended_at_ms=row[10],
                attempt_id=row[11],
            )
        )
    return {service_id: tuple(instances) for service_id, instances in found.items()}


def start_instance(
    tx: Transaction,
    service: Service,
    config: ServiceConfig,
    *,
    uid: str,
    now_ms: int,
    tries: int = 0,
    index: int = 0,
) -> None:
    """Give a part of a service one instance more: a workload of its own.

    Args:
        tx: the transaction.
        service: that it is for.
        config: the part.
        uid: of the workload.
        now_ms: the time.
        tries: how often one in its place has ended before.
        index: its number in its part, from 0, where the instances are told apart.

    Raises:
        QuotaExceeded: its workspace may not have so much.
    """
    workload_id = workloads.insert_program(
        tx,
        NewWorkload(
            uid=uid,
            project_id=service.project_id,
            workspace_id=service.workspace_id,
            pool_id=config.pool_id,
            partition=config.partition,
            type=WorkloadType.INFER,
            name=service.name,
            flavor_code=config.flavor_code,
            task=config.task,
            task_count=1,
            priority=service.priority,
            run=config.program_of(index),
        ),
        now_ms=now_ms,
    )
    tx.execute(
        SQL["insert_instance"],
        {
            "service_id": service.id,
            "config_key": config.key,
            "workload_id": workload_id,
            "now_ms": now_ms,
            "tries": tries,
        },
    )


def mark_instance(tx: Transaction, one: Instance, phase: InstancePhase, *, now_ms: int) -> None:
    ready_at_ms = now_ms if phase is InstancePhase.READY else None
    tx.execute(
        SQL["mark_instance"],
        {"id": one.id, "phase": phase, "now_ms": now_ms, "ready_at_ms": ready_at_ms},
    )
    tx.has_work = True


def end_instance(tx: Transaction, one: Instance, *, now_ms: int, actor: str) -> None:
    """Ask its workload to stop, if that is still to be asked."""
    workload = workloads.get_workload(tx.connection, one.workload_id)
    if workload.phase in STOPPABLE:
        moves.move_workload(
            tx,
            workload,
            Event.STOP_ASKED,
            now_ms=now_ms,
            actor=actor,
            reason=Reason.STOPPED_BY_USER,
        )


def drop_instance(tx: Transaction, one: Instance, *, now_ms: int, actor: str) -> None:
    """Count it no more. Its workload is deleted, and stopped if it still runs."""
    workload = workloads.get_workload(tx.connection, one.workload_id)
    tx.execute(SQL["delete_instance"], {"id": one.id})
    workload = workloads.mark_deleted(tx, workload)
    if workload.phase in STOPPABLE:
        moves.move_workload(
            tx,
            workload,
            Event.STOP_ASKED,
            now_ms=now_ms,
            actor=actor,
            reason=Reason.DELETED_BY_USER,
        )


# ---------------------------------------------------------------- where requests go


@dataclass(frozen=True, slots=True)
class Backend:
    """An instance that may get requests."""

    instance_id: int
    key: str
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a service, as far as requests are concerned."""

    key: str
    model_id: str
    weight: int
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """All that tells where a request to a service goes."""

    service_id: int
    project_id: str
    workspace_id: str
    status: ServiceStatus
    balancing: Balancing
    allows_websockets: bool
    is_batch: bool
    shares: tuple[Share, ...]
    backends: tuple[Backend, ...]  # those that are ready
    unwell: frozenset[int] = frozenset()  # instances that run, and fail when they are asked


def find_traffic(connection: Connection, uid: str) -> Traffic | None:
    """None: there is no such service."""
    service = find_service(connection, uid)
    if service is None:
        return None
    instances = list_instances(connection, [service.id]).get(service.id, ())
    return Traffic(
        service_id=service.id,
        project_id=service.project_id,
        workspace_id=service.workspace_id,
        status=service.status,
        balancing=service.balancing,
        allows_websockets=service.allows_websockets,
        is_batch=service.is_batch,
        shares=tuple(
            Share(config.key, config.model_id, config.weight, config.max_concurrency)
            for config in service.configs
        ),
        backends=tuple(
            Backend(one.id, one.key, one.attempt_id)
            for one in instances
            if one.is_ready and one.attempt_id is not None
        ),
        unwell=frozenset(one.id for one in instances if one.is_unwell),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


# The column of the status knows no `finished`: a batch is that where it is stopped, and all that
# its configuration asks for is done.


def _stored_status(service: Service) -> tuple[ServiceStatus, bool]:
    """(what stands in the column, whether it is deployed)."""
    if service.status is ServiceStatus.FINISHED:
        return ServiceStatus.STOPPED, True
    return service.status, service.is_deployed


def _status(stored: str, infer_type: str, *, is_deployed: int) -> ServiceStatus:
    is_done = infer_type == InferType.BATCH and bool(is_deployed)
    if stored == ServiceStatus.STOPPED and is_done:
        return ServiceStatus.FINISHED
    return ServiceStatus(stored)


def _row_of(service: Service) -> dict[str, Any]:
    status, is_deployed = _stored_status(service)
    tally = {} if service.tally is None else {_TALLY: service.tally}
    return {
        "uid": service.uid,
        "project_id": service.project_id,
        "workspace_id": service.workspace_id,
        "name": service.name,
        "description": service.description,
        "owner_name": service.owner_name,
        "infer_type": service.infer_type,
        "wish": service.wish,
        "status": status,
        "error": service.error,
        "balancing": service.balancing,
        "priority": service.priority,
        "configs": _json(service.configs),
        "configs_before": _json(service.configs_before),
        "is_deployed": int(is_deployed),
        "settings": _json(service.settings | tally),
        "allows_websockets": int(service.allows_websockets),
        "due_at_ms": service.due_at_ms,
        "published_at_ms": service.published_at_ms,
        "updated_at_ms": service.updated_at_ms,
        "transition_at_ms": service.transition_at_ms,
        "started_at_ms": service.started_at_ms,
    }


def _service(row: Sequence[Any]) -> Service:
    settings = _SETTINGS.decode(row[16])
    tally = settings.pop(_TALLY, None)
    return Service(
        id=row[0],
        uid=row[1],
        project_id=row[2],
        workspace_id=row[3],
        name=row[4],
        description=row[5],
        owner_name=row[6],
        infer_type=InferType(row[7]),
        wish=Wish(row[8]),
        status=_status(row[9], row[7], is_deployed=row[15]),
        error=row[10],
        balancing=Balancing(row[11]),
        priority=row[12],
        configs=_CONFIGS.decode(row[13]),
        configs_before=_CONFIGS.decode(row[14]),
        is_deployed=bool(row[15]),
        settings=settings,
        allows_websockets=bool(row[17]),
        due_at_ms=row[18],
        published_at_ms=row[19],
        updated_at_ms=row[20],
        transition_at_ms=row[21],
        started_at_ms=row[22],
        tally=None if tally is None else msgspec.convert(tally, Tally),
        revision=row[23],
    )
