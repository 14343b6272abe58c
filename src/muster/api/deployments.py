"""Inference services: deploy, list, show, change, delete, and what became of them."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from muster.api.deployment_views import (
    ServiceCounts,
    cluster_view,
    monitor_view,
    service_view,
    specification_view,
    update_view,
)
from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain.errors import DeploymentInvalid, InvalidRequest, StoreUnavailable, Unsupported
from muster.domain.metric import MINUTE_MS, Summary
from muster.domain.pool import Pool, Scope
from muster.domain.rollout import Instance
from muster.domain.service import (
    Balancing,
    CustomSpec,
    InferType,
    Scaling,
    Service,
    ServiceEvent,
    ServiceList,
    ServiceUpdate,
    Wish,
)
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.operations import services as operations
from muster.operations.batches import BatchPart
from muster.operations.service_parts import Part
from muster.operations.services import Deployments, NewService, ServiceChange
from muster.store import pools, service_records
from muster.store import services as store
from muster.store.connection import Connection
from muster.store.metrics import Span
from muster.store.service_records import Calls
from muster.wire import services as shapes
from muster.wire.decode import decode_body, decode_query, decode_value

_INFER_TYPES: Final = tuple(one.value for one in InferType)
_SAMPLED_MINUTES: Final = 5  # the latest minute with a sample counts, if it is no older


async def create_service(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NewService)
    if body.infer_type not in _INFER_TYPES:
        raise DeploymentInvalid(
            f"infer_type is {body.infer_type!r}; this server runs services of infer_type"
            f" {' and '.join(map(repr, _INFER_TYPES))}."
        )
    if body.service_secrets:
        raise Unsupported("service_secrets: this server keeps no secrets; use envs.")
    additional = body.additional_properties or {}
    service, uids = await operations.deploy_service(
        _deployments(services),
        request.caller,
        NewService(
            workspace_id=body.workspace_id or DEFAULT_WORKSPACE_ID,
            name=body.service_name,
            description=body.description or "",
            infer_type=InferType(body.infer_type),
            parts=_parts(body.config, pool=_pool_of(body, "")),
            balancing=Balancing(body.load_balancer_policy or Balancing.ROUND_ROBIN),
            priority=body.priority or 1,
            allows_websockets=_allows_websockets(additional),
            settings={
                "schedule": _schedule(body.schedule),
                "additional_properties": additional,
                "vpc_id": body.vpc_id,
                "subnet_network_id": body.subnet_network_id,
                "security_group_id": body.security_group_id,
            },
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(shapes.NewServiceId(service_id=service.uid, resource_ids=uids))


def _deployments(services: Services) -> Deployments:
    return Deployments(services.database, services.catalogue, services.objects)


def _pool_of(body: shapes.NewService | shapes.ConfigBody, place: str) -> tuple[str, str] | None:
    """(the field that names a pool, its id); the new name of the field wins."""
    if body.pool_name:
        return f"{place}pool_name", body.pool_name
    return (f"{place}cluster_id", body.cluster_id) if body.cluster_id else None


def _parts(bodies: Sequence[shapes.ConfigBody], pool: tuple[str, str] | None = None) -> list[Part]:
    return [_part(body, pool, f"config[{index}]") for index, body in enumerate(bodies)]


def _part(body: shapes.ConfigBody, pool: tuple[str, str] | None, name: str) -> Part:
    # That of the service wins, as published.
    pool_field, pool_id = pool or _pool_of(body, f"{name}.") or ("", None)
    if body.nodes:
        raise DeploymentInvalid(f"{name}.nodes is for edge services, which this server has not.")
    if body.affinity:
        raise Unsupported(f"{name}.affinity: this server places instances by itself.")
    rollout = _rollout(body.additional_properties, name)
    scaling = body.scaling
    if scaling is True:
        raise InvalidRequest(
            f"{name}.scaling is true; it must be an object with max_instances, such as"
            ' {"min_instances": 1, "max_instances": 4, "target_concurrency": 10}.'
        )
    custom = body.custom_spec
    if custom is not None and custom.ascend_a310:
        raise Unsupported(
            f"{name}.custom_spec.ascend_a310 is {custom.ascend_a310}; a custom_spec has no NPUs:"
            " choose a flavor that has them as the specification."
        )
    return Part(
        model_id=body.model_id,
        specification=body.specification,
        custom_spec=CustomSpec(
            cpu=custom.cpu, memory=custom.memory, gpu_count=ceil(custom.gpu_p4 or 0)
        )
        if custom is not None
        else None,
        instance_count=body.instance_count,
        weight=body.weight,
        envs=body.envs,
        pool_id=pool_id,
        pool_field=pool_field,
        scaling=Scaling(
            min_instances=scaling.min_instances,
            max_instances=scaling.max_instances,
            target_concurrency=scaling.target_concurrency,
            cooldown_seconds=scaling.cooldown_seconds,
        )
        if isinstance(scaling, shapes.ScalingBody)
        else None,
        is_scaling_off=scaling is False,
        deploy_timeout_seconds=body.deploy_timeout_in_seconds,
        grace_seconds=rollout.termination_grace_period_seconds,
        max_surge=rollout.max_surge,
        max_unavailable=rollout.max_unavailable,
        max_concurrency=body.max_concurrency,
        batch=BatchPart(
            src_path=body.src_path,
            dest_path=body.dest_path,
            req_uri=body.req_uri,
            mapping_type=body.mapping_type,
            mapping_rule=body.mapping_rule,
            src_type=body.src_type,
        ),
        given=body.additional_properties,
    )


def _rollout(given: Mapping[str, Any] | None, name: str) -> shapes.RolloutBody:
    """What the entries of `additional_properties` say together: a later one wins."""
    merged: dict[str, Any] = {}
    for key, entry in (given or {}).items():
        decode_value(entry or {}, shapes.RolloutBody, name=f"{name}.additional_properties.{key}")
        merged |= entry or {}
        for unsupported in ("log_volume", "persistent_volumes"):
            if (entry or {}).get(unsupported):
                raise Unsupported(
                    f"{name}.additional_properties.{key}.{unsupported}: this server mounts nothing"
                    " into instances."
                )
    return decode_value(merged, shapes.RolloutBody, name=f"{name}.additional_properties")


def _allows_websockets(additional: Mapping[str, Any]) -> bool:
    """Whether one of the entries of `additional_properties` says so; what cannot be is refused."""
    allows = False
    for key, entry in additional.items():
        is_setting = key in ("smn_notification", "log_report_channels", "websocket_upgrade")
        if not isinstance(entry, dict | None) and not is_setting:
            raise InvalidRequest(
                f"additional_properties.{key} is {entry!r:.100}; it must be an object."
            )
        members = {key: entry} if is_setting else (entry or {})
        for unsupported in ("smn_notification", "log_report_channels"):
            if members.get(unsupported):
                raise Unsupported(
                    f"additional_properties.{key}: this server sends no notifications and reports"
                    " logs to nobody else."
                )
        upgrade = members.get("websocket_upgrade")
        if not isinstance(upgrade, bool | None):
            raise InvalidRequest(
                f"additional_properties.{key}.websocket_upgrade is {upgrade!r:.100}; it must"
                " be true or false."
            )
        allows = allows or upgrade is True
    return allows


def _schedule(schedule: Sequence[shapes.ScheduleBody] | None) -> list[dict[str, Any]]:
    return [
        {"type": one.type, "time_unit": one.time_unit, "duration": one.duration}
        for one in schedule or ()
    ]


async def list_services(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.ServicesQuery)
    asked = ServiceList(
        project_id=request.caller.project_id,
        workspace_id=query.workspace_id or DEFAULT_WORKSPACE_ID,
        service_id=query.service_id,
        name=query.service_name,
        model_id=query.model_id,
        pool_id=query.cluster_id,
        infer_type=query.infer_type or "",
        status=query.status or "",
        sort_by=query.sort_by,
        is_descending=query.order == "desc",
        page=query.offset,
        limit=query.limit,
        marker=query.marker,
    )

    def read(connection: Connection) -> tuple[int, list[Service], _Counted]:
        total, page = store.page_of_services(connection, asked)
        return total, page, _Counted.read(connection, page)

    total, page, counted = await services.database.scan(read)
    views = [service_view(one, counted.of(services, one), request.base_url) for one in page]
    return json_reply(shapes.ServiceViews(total_count=total, count=len(views), services=views))


class _Counted:
    """The instances and calls of some services."""

    def __init__(
        self,
        instances: Mapping[int, tuple[Instance, ...]],
        calls: Mapping[tuple[int, str], Calls],
    ) -> None:
        self.instances = instances
        self.calls = calls

    @classmethod
    def read(cls, connection: Connection, found: Sequence[Service]) -> "_Counted":
        ids = [service.id for service in found]
        return cls(
            store.list_instances(connection, ids), service_records.list_calls(connection, ids)
        )

    def of(self, services: Services, service: Service) -> ServiceCounts:
        """Of one of them; with what this server has counted and not written yet."""
        unwritten = services.service_site.calls.unwritten()
        if service.is_batch:
            return ServiceCounts.of_batch(service, self.instances.get(service.id, ()))
        calls: dict[str, Calls] = {}
        for counts in (self.calls, unwritten):
            for (service_id, model_id), counted in counts.items():
                if service_id == service.id:
                    calls[model_id] = calls.get(model_id, Calls()) + counted
        return ServiceCounts(instances=self.instances.get(service.id, ()), calls=calls)


async def _read_one(services: Services, request: Request) -> tuple[Service, ServiceCounts]:
    project_id, service_id = request.params

    def read(connection: Connection) -> tuple[Service, _Counted]:
        service = store.get_service(connection, project_id, service_id)
        return service, _Counted.read(connection, [service])

    service, counted = await services.database.read(read)
    return service, counted.of(services, service)


async def show_service(services: Services, request: Request) -> Reply:
    service, counts = await _read_one(services, request)
    return json_reply(service_view(service, counts, request.base_url, is_full=True))


async def change_service(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.ServiceChange)
    if body.service_secrets:
        raise Unsupported("service_secrets: this server keeps no secrets; use envs.")
    additional = body.additional_properties
    settings: dict[str, Any] = {}
    if body.schedule is not None:
        settings["schedule"] = _schedule(body.schedule)
    if additional is not None:
        settings["additional_properties"] = additional
    await operations.change_service(
        _deployments(services),
        request.caller,
        request.params[1],
        ServiceChange(
            description=body.description,
            wish=None if body.status is None else Wish(body.status),
            parts=None if body.config is None else _parts(body.config),
            balancing=Balancing(body.load_balancer_policy) if body.load_balancer_policy else None,
            allows_websockets=None if additional is None else _allows_websockets(additional),
            settings=settings,
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(shapes.Nothing())


async def delete_service(services: Services, request: Request) -> Reply:
    await operations.delete_service(
        _deployments(services), request.caller, request.params[1], now_ms=services.clock_ms()
    )
    return json_reply(shapes.Nothing())


async def list_updates(services: Services, request: Request) -> Reply:
    """The update history; the latest first."""
    project_id, service_id = request.params

    def read(connection: Connection) -> tuple[Service, list[ServiceUpdate]]:
        service = store.get_service(connection, project_id, service_id)
        return service, service_records.list_updates(connection, service.id)

    service, updates = await services.database.read(read)
    return json_reply(
        shapes.UpdateViews(
            service_id=service.uid,
            service_name=service.name,
            logs=[update_view(service, one) for one in updates],
        )
    )


async def list_events(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.EventsQuery)
    project_id, service_id = request.params

    def read(connection: Connection) -> tuple[Service, list[ServiceEvent]]:
        service = store.get_service(connection, project_id, service_id)
        return service, service_records.list_events(connection, service.id)

    service, events = await services.database.read(read)
    found = [
        one
        for one in events
        if query.event_type in (None, "normal" if one.is_normal else "abnormal")
        and query.event_info.lower() in one.text.lower()
        and (query.start_time is None or one.at_ms >= query.start_time)
        and (query.end_time is None or one.at_ms <= query.end_time)
    ]
    if query.order == "desc":
        found.reverse()
    start = query.offset * query.limit
    page = found[start : start + query.limit]
    return json_reply(
        shapes.EventViews(
            service_id=service.uid,
            service_name=service.name,
            total_count=len(found),
            count=len(page),
            events=[
                shapes.EventView(
                    event_type="normal" if one.is_normal else "abnormal",
                    event_info=one.text,
                    occur_time=one.at_ms,
                )
                for one in page
            ],
        )
    )


async def show_monitor(services: Services, request: Request) -> Reply:
    service, counts = await _read_one(services, request)
    usages = await _usages(services, counts.running)
    return json_reply(
        shapes.Monitor(
            service_id=service.uid,
            service_name=service.name,
            monitors=[
                monitor_view(
                    config,
                    counts,
                    [usages[one.workload_id] for one in counts.ready_of(config.key)
                     if one.workload_id in usages],
                )
                for config in service.configs
            ],
            service_running_instance_count=len(counts.ready),
            service_instance_count=sum(config.instance_count for config in service.configs),
            req_count_per_min=services.service_site.calls.per_minute(service.id),
        )
    )  # fmt: skip


async def _usages(
    services: Services, instances: Sequence[Instance]
) -> dict[int, Mapping[str, Summary]]:
    """The latest samples by workload; of those that have been sampled in the last minutes."""
    last_minute = services.clock_ms() // MINUTE_MS
    span = Span(first_minute=last_minute - _SAMPLED_MINUTES, last_minute=last_minute)
    wanted = [(one.workload_id, span) for one in instances]
    try:
        found = await services.metrics.sum_up_tasks(wanted) if wanted else []
    except StoreUnavailable:
        return {}  # the service is known, whatever its metrics are
    return {
        workload_id: {metric: values[max(values)] for metric, values in series.items() if values}
        for (workload_id, _), series in zip(wanted, found, strict=True)
        if series
    }


async def list_specifications(services: Services, request: Request) -> Reply:
    """The flavors that instances may have."""
    query = decode_query(request.query, shapes.SpecificationsQuery)
    flavors = services.catalogue.flavors
    start = query.offset * query.limit
    page = [specification_view(flavor) for flavor in flavors[start : start + query.limit]]
    return json_reply(
        shapes.SpecificationViews(total_count=len(flavors), count=len(page), specifications=page)
    )


async def list_clusters(services: Services, request: Request) -> Reply:
    """Pools that services may run on, as the older API shows them."""
    query = decode_query(request.query, shapes.ClustersQuery)
    project_id = request.params[0]

    def read(connection: Connection) -> list[tuple[Pool, Mapping[str, int]]]:
        return [
            (pool, store.count_services_in_pool(connection, project_id, pool.id))
            for pool in pools.list_pools(connection, project_id)
            if Scope.INFER in pool.scopes
            and not pool.is_public
            and request.caller.may_enter(pool.workspace_id)
            and query.cluster_name.lower() in pool.display_name.lower()
        ]

    found = await services.database.scan(read)
    views = [cluster_view(pool, counts) for pool, counts in found]
    if query.status:
        views = [view for view in views if view.status == query.status]
    start = query.offset * query.limit
    page = views[start : start + query.limit]
    return json_reply(shapes.ClusterViews(count=len(page), total_count=len(views), clusters=page))
