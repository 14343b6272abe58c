"""How the API shows services."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from muster.domain.batch import Tally
from muster.domain.flavor import Flavor
from muster.domain.metric import Summary, TaskMetric
from muster.domain.phase import Phase
from muster.domain.pool import Pool, PoolPhase
from muster.domain.rollout import Instance
from muster.domain.service import (
    LISTED_AS,
    Service,
    ServiceConfig,
    ServiceStatus,
    ServiceUpdate,
    Wish,
)
from muster.store.service_records import Calls
from muster.wire import services as shapes

# As the older API has it, by the phase of a pool.
_CLUSTER_STATUSES: Final = {
    PoolPhase.CREATING: "deploying",
    PoolPhase.WAITING: "deploying",
    PoolPhase.RUNNING: "running",
    PoolPhase.SCALING_FAILED: "concerning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCounts:
    """What a service has, and what has been asked of it."""

    instances: Sequence[Instance]
    calls: Mapping[str, Calls]  # by model
    is_batch: bool = False

    @classmethod
    def of_batch(cls, service: Service, instances: Sequence[Instance]) -> "ServiceCounts":
        """Of one that asks for itself."""
        tally = service.tally or Tally()
        [config] = service.configs
        calls = {config.model_id: Calls(invocations=tally.asked, failures=tally.failed)}
        return cls(instances=instances, calls=calls, is_batch=True)

    @property
    def ready(self) -> list[Instance]:
        """Those that get requests; of a batch, those that make them."""
        return self.running if self.is_batch else [one for one in self.instances if one.is_ready]

    @property
    def running(self) -> list[Instance]:
        return [one for one in self.instances if one.workload_phase is Phase.RUNNING]

    def ready_of(self, key: str) -> list[Instance]:
        return [one for one in self.ready if one.key == key]

    @property
    def total(self) -> Calls:
        return sum(self.calls.values(), Calls())


def service_view(
    service: Service, counts: ServiceCounts, base_url: str, *, is_full: bool = False
) -> shapes.ServiceView:
    settings = service.settings
    status = service.status if is_full else LISTED_AS.get(service.status, service.status)
    view = shapes.ServiceView(
        service_id=service.uid,
        service_name=service.name,
        description=service.description,
        owner=service.owner_name,
        tenant=service.project_id,
        project=service.project_id,
        infer_type=service.infer_type,
        status=status,
        progress=_progress(service, counts),
        publish_at=service.published_at_ms,
        transition_at=service.transition_at_ms,
        operation_time=service.updated_at_ms,
        due_time=service.due_at_ms if service.wish is Wish.RUNNING else None,
        start_time=service.started_at_ms,
        finished_time=_finished_at_ms(service),
        invocation_times=counts.total.invocations,
        failed_times=counts.total.failures,
        schedule=[shapes.ScheduleView(**one) for one in settings.get("schedule") or ()],
        workspace_id=service.workspace_id,
        additional_properties=settings.get("additional_properties") or {},
    )
    if not is_full:
        return view
    view.config = config_views(service, service.configs, counts)
    if not service.is_batch:  # nobody asks that one
        view.access_address = f"{base_url}/services/{service.uid}"
        view.bind_access_address = ""
        view.debug_url = ""
    view.update_time = service.updated_at_ms
    if service.status is ServiceStatus.FAILED:
        view.error_msg = service.error
    view.running_instance_count = len(counts.ready)
    view.instance_count = sum(config.instance_count for config in service.configs)
    pool_names = {config.pool_name for config in service.configs}
    view.pool_name = view.cluster_id = pool_names.pop() if len(pool_names) == 1 else None
    view.load_balancer_policy = service.balancing
    view.priority = service.priority
    view.vpc_id = settings.get("vpc_id")
    view.subnet_network_id = settings.get("subnet_network_id")
    view.security_group_id = settings.get("security_group_id")
    return view


def _progress(service: Service, counts: ServiceCounts) -> int:
    """In percent. Of a deployment: how many instances of the present configuration are ready."""
    if service.is_batch:
        return service.tally.percent if service.tally else 0
    if service.is_deployed or service.wish is Wish.STOPPED:
        return 100 if service.is_deployed else 0
    asked = sum(config.floor for config in service.configs)
    keys = {config.key for config in service.configs}
    ready = sum(one.key in keys for one in counts.ready)
    return min(99, 100 * ready // max(1, asked))


def _finished_at_ms(service: Service) -> int | None:
    """When a batch came to its end; None: it has not, or is no batch."""
    is_over = service.status in (ServiceStatus.FINISHED, ServiceStatus.FAILED)
    return service.transition_at_ms if service.is_batch and is_over else None


def config_views(
    service: Service, configs: Sequence[ServiceConfig], counts: ServiceCounts | None = None
) -> list[shapes.ConfigView]:
    return [_config_view(service, config, counts) for config in configs]


def _config_view(
    service: Service, config: ServiceConfig, counts: ServiceCounts | None
) -> shapes.ConfigView:
    custom, scaling = config.custom_spec, config.scaling
    view = shapes.ConfigView(
        model_id=config.model_id,
        model_name=config.model_name,
        model_version=config.model_version,
        specification=config.specification,
        custom_spec=shapes.CustomSpecView(
            cpu=custom.cpu, memory=custom.memory, gpu_p4=float(custom.gpu_count)
        )
        if custom is not None
        else None,
        instance_count=config.instance_count,
        weight=config.weight,
        envs=config.envs,
        status=_config_status(service, config, counts),
        scaling=scaling is not None,
        scaling_policy=shapes.ScalingView(
            min_instances=scaling.min_instances,
            max_instances=scaling.max_instances,
            target_concurrency=scaling.target_concurrency,
            cooldown_seconds=scaling.cooldown_seconds,
        )
        if scaling is not None
        else None,
        max_concurrency=config.max_concurrency,
        deploy_timeout_in_seconds=config.deploy_timeout_seconds,
        pool_name=config.pool_name,
        cluster_id=config.pool_name,
        additional_properties=config.given,
    )
    if config.batch is not None:
        view.src_path = config.batch.src_path
        view.dest_path = config.batch.dest_path
        view.req_uri = config.batch.req_uri
        view.mapping_type = config.batch.mapping_type
        view.mapping_rule = config.batch.mapping_rule
        view.start_time = service.started_at_ms
        view.finished_time = _finished_at_ms(service)
    return view


def _config_status(service: Service, config: ServiceConfig, counts: ServiceCounts | None) -> str:
    """`ready` and `notReady`, as published; where it runs nothing, the word of the service."""
    if counts is None or service.is_batch or service.wish is Wish.STOPPED:
        return service.status
    return "ready" if len(counts.ready_of(config.key)) >= config.floor else "notReady"


def update_view(service: Service, update: ServiceUpdate) -> shapes.UpdateView:
    detail: list[dict[str, Any]] = []
    if update.detail:
        detail = [{"result": update.result == "SUCCESS", "detail": update.detail}]
    count = sum(config.instance_count for config in update.configs)
    pool_names = {config.pool_name for config in update.configs}
    return shapes.UpdateView(
        update_time=update.at_ms,
        result=update.result,
        config=config_views(service, update.configs),
        extend_config=[],
        cluster_id=pool_names.pop() if len(pool_names) == 1 else None,
        success_num=count if update.result == "SUCCESS" else 0,
        failed_num=count if update.result == "FAIL" else 0,
        result_detail=detail,
    )


def monitor_view(
    config: ServiceConfig, counts: ServiceCounts, usages: Sequence[Mapping[str, Summary]]
) -> shapes.MonitorView:
    """One part of a service. What is used is the sum over those instances that were sampled."""
    calls = counts.calls.get(config.model_id, Calls())
    ready = len(counts.ready_of(config.key))
    task = config.task

    def used(metric: TaskMetric, of_one: float) -> float | None:
        shares = [usage[metric].average for usage in usages if metric in usage]
        return round(sum(shares) / 100 * of_one, 3) if shares else None

    memory = used(TaskMetric.MEMORY, task.memory_mib)
    return shapes.MonitorView(
        model_id=config.model_id,
        model_name=config.model_name,
        model_version=config.model_version,
        invocation_times=calls.invocations,
        failed_times=calls.failures,
        cpu_core_usage=used(TaskMetric.CPU, task.cpu_millis / 1000),
        cpu_core_total=task.cpu_millis / 1000 * ready,
        cpu_memory_usage=None if memory is None else round(memory),
        cpu_memory_total=task.memory_mib * ready,
        gpu_usage=used(TaskMetric.GPU, task.gpu_count) if task.gpu_count else None,
        gpu_total=float(task.gpu_count * ready),
        npu_total=float(task.npu_count * ready),
        model_running_instance_count=ready,
        model_instance_count=config.instance_count,
    )


def specification_view(flavor: Flavor) -> shapes.SpecificationView:
    task = flavor.task
    cores, gib = task.cpu_millis / 1000, task.memory_mib / 1024
    cards = f", {task.card_count} {flavor.card_model}" if task.card_count else ""
    display = f"{cores:g} CPUs, {gib:g} GiB{cards}"
    return shapes.SpecificationView(
        specification=flavor.code,
        billing_spec=flavor.code,
        category=flavor.type_name.upper(),
        cpu_info=shapes.CpuInfo(arch=platform.machine(), cpu=_whole(cores)),
        memory_info=shapes.MemoryInfo(unit="GB", memory=_whole(gib)),
        gpu_info=shapes.CardInfo(brand=flavor.card_model, version="", gpu=task.gpu_count)
        if task.gpu_count
        else None,
        npu_info=shapes.CardInfo(brand=flavor.card_model, version="", npu=task.npu_count)
        if task.npu_count
        else None,
        display_en=display,
        display_cn=display,
    )


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number


def cluster_view(pool: Pool, counts: Mapping[str, int]) -> shapes.ClusterView:
    return shapes.ClusterView(
        cluster_id=pool.id,
        cluster_name=pool.display_name,
        description=pool.annotations.get("os.modelarts/description", ""),
        tenant=pool.project_id,
        project=pool.project_id,
        owner="",
        created_at=pool.created_at_ms,
        status=_CLUSTER_STATUSES.get(pool.phase, "abnormal"),
        allocatable_cpu_cores=pool.capacity.cpu_millis / 1000,
        allocatable_memory=pool.capacity.memory_mib,
        allocatable_gpus=float(pool.capacity.gpu_count),
        max_node_count=sum(line.node_count for line in pool.lines),
        services_count=dict(counts),
    )
