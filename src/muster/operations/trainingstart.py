"""What a version needs before it is stored: its config held against what there is.

Everything is looked up here, and the code copied; the transaction that follows looks again only at
what may have changed meanwhile.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from muster.domain.catalogue import Catalogue
from muster.domain.command import Run
from muster.domain.errors import (
    AlgorithmUnknown,
    DatasetUnknown,
    FlavorInvalid,
    InvalidRequest,
    PoolNotForTraining,
    PoolNotRunning,
    TooManyWorkers,
    TrainingPoolUnknown,
)
from muster.domain.flavor import ELASTIC_CARDS, AiEngine, Flavor, elastic_flavor
from muster.domain.placement import NodeRoom, most_that_fit
from muster.domain.pool import Pool, PoolPhase, Scope, public_pool_id
from muster.domain.requirement import check_fits
from muster.domain.training import DEFAULT_ENGINE_ID, TrainingConfig, check_config
from muster.objects.store import ObjectStore
from muster.operations.caller import Caller
from muster.operations.trainingobjects import (
    Urls,
    bucket_unknown,
    look_at_objects,
    make_missing_buckets,
)
from muster.operations.turn import SharedInTurn
from muster.store import buckets, pool_nodes, pools
from muster.store.connection import Connection
from muster.store.database import Database


@dataclass(frozen=True, slots=True)
class Training:
    """What the operations on training jobs work with."""

    database: Database
    objects: ObjectStore
    catalogue: Catalogue
    job_quota: int
    looked_up: SharedInTurn = dataclasses.field(default_factory=SharedInTurn)  # of the objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A config with everything looked up that the transaction needs."""

    config: TrainingConfig
    flavor: Flavor
    engine: AiEngine | None
    pool: Pool
    run: Run
    claims: tuple[tuple[str, bool], ...]  # buckets that results go to, and whether they are there


async def prepare(
    training: Training,
    caller: Caller,
    job_name: str,
    config: TrainingConfig,
    before_copying: Callable[[], Awaitable[None]] | None = None,
) -> Prepared:
    """Check the config against what there is, and take the snapshot of the code.

    Nothing in the database changes, but that a bucket for results may have to be made. A snapshot
    that is not used in the end is kept under its content, so that the next submit of the same code
    finds it.

    Args:
        training: what it works with.
        caller: who asks.
        job_name: of the job that the version is for.
        config: what is asked for.
        before_copying: run where code has to be copied, to spare that what is refused anyway.
    """
    check_config(config)
    if config.model_id is not None:
        raise AlgorithmUnknown(
            f"config.model_id is {config.model_id}; this server has no built-in algorithms."
        )
    _refuse_datasets(config)
    urls = Urls.of(config)
    pool, flavor = await _look_up(training, caller, config, urls)
    engine = None
    if not config.user_image_url:
        engine_id = DEFAULT_ENGINE_ID if config.engine_id is None else config.engine_id
        engine = training.catalogue.engine(engine_id)
    found = await training.looked_up.ask(
        (urls, engine is not None),
        lambda: look_at_objects(
            training.objects, urls, has_code=engine is not None, before_copying=before_copying
        ),
    )
    await make_missing_buckets(
        training.database, training.objects, caller.project_id, urls, found.claims
    )
    run = Run(
        job_name=job_name,
        interpreter=str(engine.interpreter) if engine else None,
        code=found.code,
        boot_file=found.boot_file,
        parameters=tuple((p.label, p.text) for p in config.parameter or ()),
        data_url=str(urls.data) if urls.data else None,
        train_url=str(urls.train) if urls.train else None,
        log_url=str(urls.log) if urls.log else None,
        user_image_url=config.user_image_url or None,
        user_command=config.user_command or None,
        has_volumes=bool(config.volumes),
        inputs=config.inputs or (),
        outputs=config.outputs or (),
        environments=config.environments or {},
    )
    return Prepared(
        config=config,
        flavor=flavor,
        engine=engine,
        pool=pool,
        run=run,
        claims=found.claims,
    )


def _refuse_datasets(config: TrainingConfig) -> None:
    dataset = config.dataset_id or next(
        (source.dataset_id for source in config.data_source or () if source.type == "dataset"), None
    )
    if dataset or config.dataset_version_id:
        raise DatasetUnknown(
            f"config names the dataset {dataset or config.dataset_version_id!r}; this server keeps"
            " no datasets. Put the data into a bucket and name it as data_url."
        )


async def _look_up(
    training: Training, caller: Caller, config: TrainingConfig, urls: "Urls"
) -> tuple[Pool, Flavor]:
    """Everything about the config that the store knows better."""
    project_id, catalogue = caller.project_id, training.catalogue
    # In one question: on a shared store each is a transaction of its own.
    stored = await training.database.read_recent(
        _read_stored,
        project_id,
        config.pool_id or public_pool_id(project_id),
        frozenset([url.bucket for _, url in urls.inputs]),
    )
    pool = _pool_for(caller, config.pool_id, stored.pool)
    flavor = _flavor_for(catalogue, config, pool)
    if config.algorithm is not None:
        check_fits(config.algorithm, flavor, config.worker_server_num or 1)
    _check_size(config, flavor, pool, stored.rooms, catalogue)
    for field, url in urls.inputs:
        if url.bucket not in stored.buckets:
            raise bucket_unknown(field, url)
    return pool, flavor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What the store has of that which a config names."""

    pool: Pool | None
    rooms: Sequence[NodeRoom]  # of the pool's nodes
    buckets: frozenset[str]  # those of the named ones that the project may use


def _read_stored(
    connection: Connection, project_id: str, pool_id: str, names: frozenset[str]
) -> _Stored:
    pool = pools.find_pool(connection, project_id, pool_id)
    nodes = pool_nodes.list_partition_nodes(connection, pool.partition) if pool else ()
    return _Stored(
        pool=pool,
        rooms=[node.room for node in nodes],
        buckets=frozenset(
            [name for name in names if buckets.may_use_bucket(connection, project_id, name)]
        ),
    )


def _pool_for(caller: Caller, pool_id: str | None, pool: Pool | None) -> Pool:
    """The pool, if one may train there who calls."""
    if pool is None or not caller.may_enter(pool.workspace_id):
        raise TrainingPoolUnknown(
            f"config.pool_id is {pool_id!r}; this project has no such pool."
            " `muster pool list` shows what there is."
        )
    if pool.phase is not PoolPhase.RUNNING and not pool.is_down:
        raise PoolNotRunning(
            f"config.pool_id is {pool_id!r}; the pool is {pool.phase}, not Running."
            f" {pool.message}".rstrip()
        )
    if Scope.TRAIN not in pool.scopes:
        raise PoolNotForTraining(
            f"config.pool_id is {pool_id!r}; its scope is {', '.join(pool.scopes)}, without Train."
        )
    return pool


def _flavor_for(catalogue: Catalogue, config: TrainingConfig, pool: Pool) -> Flavor:
    if config.spec_id is not None:
        return catalogue.flavor(config.spec_id)
    if config.elastic_flavor:
        return _elastic_flavor(catalogue, config.elastic_flavor, pool)
    flavor = catalogue.find_flavor(pool.flavor_code)
    if flavor is None:
        raise InvalidRequest(
            "config.spec_id is missing; the pool offers several flavors,"
            " see GET .../job/resource-specs."
        )
    return flavor


def _elastic_flavor(catalogue: Catalogue, code: str, pool: Pool) -> Flavor:
    offered = [catalogue.find_flavor(line.flavor_code) for line in pool.lines]
    with_cards = [flavor for flavor in offered if flavor is not None and flavor.card_kind]
    if pool.is_public or not with_cards:
        raise FlavorInvalid(
            f"config.spec_id is {code!r}; it is for dedicated pools with cards, and pool"
            f" {pool.display_name!r} is {'the public one' if pool.is_public else 'without'}."
            " Name a pool with cards as config.pool_id, or take a flavor of GET"
            " .../job/resource-specs."
        )
    flavor = elastic_flavor(code, with_cards)
    if flavor is None:
        most = max(flavor.task.card_count for flavor in with_cards)
        raise FlavorInvalid(
            f"config.spec_id is {code!r}, which asks for {ELASTIC_CARDS[code]} cards; a node of"
            f" pool {pool.display_name!r} has {most}."
        )
    return flavor


def _check_size(
    config: TrainingConfig,
    flavor: Flavor,
    pool: Pool,
    rooms: Sequence[NodeRoom],
    catalogue: Catalogue,
) -> None:
    """Refuse at once what the pool could never hold, naming the largest that it could."""
    asked = config.worker_server_num or 0
    most = most_that_fit(flavor.task, rooms, bound=asked)
    if most >= asked:
        return
    where = f"pool {pool.display_name!r}"
    if most:
        raise TooManyWorkers(
            f"config.worker_server_num is {asked}; {where} can hold at most {most} workers of"
            f" flavor {flavor.code} at once."
        )
    fitting = [
        other.code for other in catalogue.flavors if most_that_fit(other.task, rooms, bound=1)
    ]
    raise TooManyWorkers(
        f"config.spec_id is {flavor.spec_id} ({flavor.code}); no node of {where} is large enough"
        f" for one such worker. What fits: {', '.join(fitting) or 'nothing, it has no nodes'}."
    )
