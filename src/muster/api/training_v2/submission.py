"""From the body of a submission to the config of a training."""

from collections.abc import Sequence

from muster.api.training_v2.by_algorithm import filled_in
from muster.api.training_v2.views import engine_id_of
from muster.domain import errors
from muster.domain.algorithm import Algorithm, use_of
from muster.domain.catalogue import Catalogue
from muster.domain.flavor import ELASTIC_CARDS, AiEngine
from muster.domain.pool import public_pool_id
from muster.domain.training import (
    Access,
    Channel,
    Parameter,
    TimeLimit,
    TrainingConfig,
    UsedExperiment,
)
from muster.domain.workload import PRIORITY_MIN
from muster.wire import training_v2 as shapes


def config_of(
    body: shapes.TrainingJobRequest,
    catalogue: Catalogue,
    project_id: str,
    used: Algorithm | None = None,
    experiment: UsedExperiment | None = None,
) -> TrainingConfig:
    """What is asked for, as the operations know it; `used` is the algorithm that it names."""
    algorithm = _algorithm(body)
    if used is not None:
        algorithm = filled_in(algorithm, used)
    spec = body.spec or shapes.GivenSpec()
    resource = spec.resource or shapes.GivenResource()
    if not resource.flavor_id and not resource.pool_id:
        raise errors.ParameterInvalid(
            "Neither spec.resource.flavor_id nor spec.resource.pool_id is given; at least one is"
            " needed: flavor_id for the public pool (see GET .../training-job-flavors), pool_id"
            " for a dedicated one."
        )
    image_url = algorithm.engine.image_url if algorithm.engine else None
    if bool(image_url) != bool(algorithm.command):
        raise errors.CommandInvalid(
            "algorithm.command and algorithm.engine.image_url go together; without an image, give"
            " code_dir and boot_file."
        )
    for name in () if image_url else ("code_dir", "boot_file"):
        if not getattr(algorithm, name):
            raise errors.ParameterInvalid(
                f"algorithm.{name} is missing; give code_dir and boot_file, or command and"
                " engine.image_url."
            )
    data_url, inputs = _channels("inputs", "data_url", algorithm.inputs)
    train_url, outputs = _channels("outputs", "train_url", algorithm.outputs)
    return TrainingConfig(
        worker_server_num=1 if resource.node_count is None else resource.node_count,
        app_url=algorithm.code_dir,
        boot_file_url=algorithm.boot_file,
        engine_id=None if image_url else find_engine(algorithm.engine, catalogue).engine_id,
        user_image_url=image_url or None,
        user_command=algorithm.command or None,
        spec_id=_spec_id(resource.flavor_id, catalogue),
        elastic_flavor=resource.flavor_id if resource.flavor_id in ELASTIC_CARDS else None,
        pool_id=resource.pool_id or None,
        parameter=tuple(Parameter(label=p.name, value=p.value) for p in algorithm.parameters or ()),
        data_url=data_url,
        train_url=train_url,
        log_url=spec.log_export_path.obs_url if spec.log_export_path else None,
        inputs=inputs,
        outputs=outputs,
        environments=algorithm.environments,
        priority=priority_of(spec.schedule_policy, resource.pool_id, project_id),
        annotations=body.metadata.annotations,
        auto_stop=TimeLimit(time_unit=spec.auto_stop.time_unit, duration=spec.auto_stop.duration)
        if spec.auto_stop
        else None,
        algorithm=use_of(used) if used else None,
        experiment=experiment,
    )


def priority_of(
    policy: shapes.GivenSchedulePolicy | shapes.GivenPolicyChange | None,
    pool_id: str | None,
    project_id: str,
) -> int | None:
    """None where nothing is said. 0 is taken for the least."""
    if policy is None or policy.priority is None:
        return None
    priority = max(PRIORITY_MIN, policy.priority)
    if priority > PRIORITY_MIN and pool_id in (None, "", public_pool_id(project_id)):
        raise errors.ParameterInvalid(
            f"spec.schedule_policy.priority is {priority}; in the public pool, which all projects"
            f" share, it must be {PRIORITY_MIN}. Name a dedicated pool as spec.resource.pool_id."
        )
    return priority


def _algorithm(body: shapes.TrainingJobRequest) -> shapes.GivenAlgorithm:
    algorithm = body.algorithm
    if algorithm is None:
        raise errors.AlgorithmUnknown(
            "algorithm is missing; give an id, or code_dir, boot_file and engine, or command and"
            " an image."
        )
    for name in ("subscription_id", "item_version_id"):
        if getattr(algorithm, name):
            raise errors.AlgorithmUnknown(
                f"algorithm.{name} is {getattr(algorithm, name)!r}; this server has no subscribed"
                " algorithms. Name one of the project's as algorithm.id, or give code_dir,"
                " boot_file and engine."
            )
    return algorithm


def _channels(
    field: str, v1_name: str, given: Sequence[shapes.GivenChannel] | None
) -> tuple[str | None, tuple[Channel, ...] | None]:
    """(the URL of the one that v1 knows by this name, all others)."""
    v1_url = None
    others = []
    for index, channel in enumerate(given or ()):
        where = f"algorithm.{field}[{index}]"
        if channel.remote.dataset:
            raise errors.DatasetUnknown(
                f"{where}.remote.dataset: this server keeps no datasets. Put the data into a"
                " bucket and name it as remote.obs.obs_url."
            )
        if channel.remote.obs is None or not channel.remote.obs.obs_url:
            raise errors.ParameterInvalid(f"{where}.remote.obs.obs_url is missing.")
        access = channel.access_method or Access.PARAMETER
        url = channel.remote.obs.obs_url
        if channel.name == v1_name and access is Access.PARAMETER and v1_url is None:
            v1_url = url
        else:
            others.append(
                Channel(
                    name=channel.name,
                    url=url,
                    access=access,
                    description=channel.description or "",
                )
            )
    return v1_url, tuple(others) or None


def find_engine(
    given: shapes.GivenEngine | None, catalogue: Catalogue, *, field: str = "algorithm.engine"
) -> AiEngine:
    """The one that is named by its id, or by name and version.

    Raises:
        EngineUnknown: names the field, and what there is.
    """
    given = given or shapes.GivenEngine()
    for engine in catalogue.engines:
        is_named = (given.engine_name, given.engine_version) == (engine.name, engine.version)
        if given.engine_id == engine_id_of(engine) or (not given.engine_id and is_named):
            return engine
    offered = ", ".join(engine_id_of(engine) for engine in catalogue.engines)
    asked = given.engine_id or " ".join(filter(None, (given.engine_name, given.engine_version)))
    raise errors.EngineUnknown(
        f"{field} is {asked!r}; there are the engine_ids {offered}."
        if asked
        else f"{field} is missing; there are the engine_ids {offered}."
    )


def _spec_id(flavor_id: str | None, catalogue: Catalogue) -> int | None:
    """None where the pool decides: of an elastic flavor, and where none is named."""
    if not flavor_id or flavor_id in ELASTIC_CARDS:
        return None
    flavor = catalogue.find_flavor(flavor_id)
    if flavor is None:
        offered = ", ".join(flavor.code for flavor in catalogue.flavors)
        raise errors.FlavorUnknown(
            f"spec.resource.flavor_id is {flavor_id!r}; there are {offered}, and in dedicated pools"
            f" with cards {', '.join(ELASTIC_CARDS)}."
        )
    return flavor.spec_id
