"""A training job, its engine and its flavor, as they are shown."""

import re
import uuid
from collections.abc import Sequence
from typing import Final

import msgspec

from muster.domain.catalogue import Catalogue
from muster.domain.flavor import ELASTIC_CARDS, AiEngine, Flavor
from muster.domain.phase import Phase, Reason, view_of
from muster.domain.training import DEFAULT_ENGINE_ID, Channel, TrainingConfig
from muster.store.timeline import PastAttempt
from muster.store.training_listing import TrainingRow
from muster.wire import training_v2 as shapes
from muster.wire.training import WaitingView


def job_view(
    row: TrainingRow,
    catalogue: Catalogue,
    past: Sequence[PastAttempt] = (),
    waiting: WaitingView | None = None,
) -> shapes.TrainingJobView:
    """`past`: its attempts before the latest, first to last."""
    config = _CONFIG.decode(row.config)
    return shapes.TrainingJobView(
        metadata=shapes.TrainingMetadata(
            id=str(uuid.UUID(row.uid)),
            name=row.name,
            workspace_id=row.workspace_id,
            description=row.description,
            create_time=row.created_at_ms,
            user_name=row.creator_name,
            annotations=config.annotations or {},
            job_id=row.job_id,
            version_id=row.version_id,
            training_experiment_reference=shapes.ExperimentReference(
                id=config.experiment.id, name=config.experiment.name
            )
            if config.experiment
            else msgspec.UNSET,
        ),
        status=_status(row, past, waiting),
        algorithm=_algorithm_view(config, catalogue),
        spec=_spec_view(row, config, catalogue),
    )


def flavor_detail(flavor: Flavor) -> shapes.TrainingFlavorDetail:
    task = flavor.task
    cores, rest = divmod(task.cpu_millis, 1000)
    is_whole_gib = task.memory_mib % 1024 == 0
    return shapes.TrainingFlavorDetail(
        flavor_type=flavor_type(flavor),
        billing=shapes.FlavorBilling(code=flavor.code, unit_num=1),
        flavor_info=shapes.FlavorInfo(
            max_num=flavor.task_count_max,
            cpu=shapes.Cpu(core_num=None if rest else cores),
            gpu=shapes.Gpu(unit_num=task.gpu_count, product_name=flavor.card_model)
            if task.gpu_count
            else None,
            npu=shapes.Npu(unit_num=str(task.npu_count), product_name=flavor.card_model)
            if task.npu_count
            else None,
            memory=shapes.Memory(size=task.memory_mib // 1024, unit="GB")
            if is_whole_gib
            else shapes.Memory(size=task.memory_mib, unit="MB"),
        ),
    )


def flavor_type(flavor: Flavor) -> str:
    return flavor.type_name


def engine_id_of(engine: AiEngine) -> str:
    """Text, where v1 has a number."""
    return re.sub(r"\s+", "-", f"{engine.name}-{engine.version}")


def task_id_of(index: int) -> str:
    return f"worker-{index}"


_CONFIG: Final = msgspec.json.Decoder(TrainingConfig)


def _status(
    row: TrainingRow, past: Sequence[PastAttempt], waiting: WaitingView | None
) -> shapes.TrainingStatus:
    view = view_of(Phase(row.phase), Reason(row.reason))
    tasks = [task_id_of(index) for index in range(row.task_count)]
    records = [
        _record(a.started_at_ms, a.ended_at_ms, a.message or a.reason, end_recover=_RESCHEDULED)
        for a in past
    ]
    if row.attempt_started_at_ms is not None:
        end_reason = None if row.ended_at_ms is None else row.message or view.v2_phase
        records.append(_record(row.attempt_started_at_ms, row.ended_at_ms, end_reason))
    # Only the end of a completed job tells the exit codes of all its tasks.
    is_completed = row.phase == Phase.COMPLETED
    return shapes.TrainingStatus(
        phase=view.v2_phase,
        secondary_phase=view.v2_secondary_phase,
        duration=max(0, row.duration_ms or 0),
        start_time=row.started_at_ms or 0,
        tasks=tasks,
        task_statuses=[
            shapes.TaskStatus(task=task, exit_code=0, message="") for task in tasks if is_completed
        ],
        running_records=records,
        message=row.message,
        waiting=waiting,
    )


# Of the published ways to go on after a failure, the one that gives a job nodes anew.
_RESCHEDULED: Final = "job_reschedule"


def _record(
    started_at_ms: int | None,
    ended_at_ms: int | None,
    end_reason: str | None,
    end_recover: str | None = None,
) -> shapes.RunningRecord:
    return shapes.RunningRecord(
        start_at=None if started_at_ms is None else started_at_ms // 1000,
        end_at=None if ended_at_ms is None else ended_at_ms // 1000,
        start_type="init_or_rescheduled",  # each attempt is placed anew
        end_reason=end_reason,
        end_recover=end_recover,
    )


def _algorithm_view(config: TrainingConfig, catalogue: Catalogue) -> shapes.TrainingAlgorithm:
    v1_inputs = [("data_url", config.input_url)] if config.input_url else []
    v1_outputs = [("train_url", config.train_url)] if config.train_url else []
    return shapes.TrainingAlgorithm(
        id=config.algorithm.id if config.algorithm else None,
        name=config.algorithm.name if config.algorithm else None,
        code_dir=config.app_url or None,
        boot_file=config.boot_file_url or None,
        command=config.user_command or None,
        engine=_engine_view(config, catalogue),
        parameters=[
            shapes.TrainingParameter(name=p.label, value=p.text) for p in config.parameter or ()
        ],
        inputs=_channel_views(v1_inputs, config.inputs or ()),
        outputs=_channel_views(v1_outputs, config.outputs or ()),
        environments=[{name: value} for name, value in (config.environments or {}).items()],
    )


def _engine_view(config: TrainingConfig, catalogue: Catalogue) -> shapes.TrainingEngine:
    if config.user_image_url:
        return shapes.TrainingEngine(image_url=config.user_image_url)
    engine = catalogue.find_engine(config.engine_id or DEFAULT_ENGINE_ID)
    if engine is None:
        return shapes.TrainingEngine()  # the inventory has dropped it since
    return shapes.TrainingEngine(
        engine_id=engine_id_of(engine), engine_name=engine.name, engine_version=engine.version
    )


def _channel_views(
    v1: Sequence[tuple[str, str]], named: Sequence[Channel]
) -> list[shapes.TrainingChannel]:
    return [
        shapes.TrainingChannel(
            name=channel.name,
            description=channel.description,
            access_method=channel.access,
            remote=shapes.TrainingRemote(obs=shapes.ObsPlace(obs_url=channel.url)),
        )
        for channel in (*(Channel(name=name, url=url) for name, url in v1), *named)
    ]


def _spec_view(
    row: TrainingRow, config: TrainingConfig, catalogue: Catalogue
) -> shapes.TrainingSpec:
    flavor = _flavor_of(row, catalogue)
    limit = config.auto_stop
    return shapes.TrainingSpec(
        auto_stop=shapes.TrainingAutoStop(time_unit=limit.time_unit, duration=limit.duration)
        if limit
        else None,
        resource=shapes.TrainingResource(
            flavor_id=row.flavor_code,
            flavor_name=row.flavor_code,
            node_count=row.task_count,
            pool_id=row.pool_id or None,
            flavor_detail=flavor_detail(flavor) if flavor else None,
        ),
        log_export_path=shapes.TrainingLogPath(obs_url=config.log_url) if config.log_url else None,
        schedule_policy=shapes.TrainingSchedulePolicy(priority=row.priority),
    )


def _flavor_of(row: TrainingRow, catalogue: Catalogue) -> Flavor | None:
    """An elastic one is what its tasks were given; None: the inventory has dropped it since."""
    if row.flavor_code in ELASTIC_CARDS:
        return Flavor(spec_id=0, code=row.flavor_code, task=row.task, task_count_max=row.task_count)
    return catalogue.find_flavor(row.flavor_code)
