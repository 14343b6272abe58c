"""Training jobs: submit, run again, describe, stop, delete."""

import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import msgspec

from muster.domain.catalogue import Catalogue
from muster.domain.command import Run
from muster.domain.errors import (
    AlgorithmUnknown,
    BootFileInvalid,
    BootFileOutside,
    Conflict,
    DatasetUnknown,
    FlavorInvalid,
    InvalidRequest,
    NotStoppable,
    PoolNotForTraining,
    PoolNotRunning,
    StoragePathInvalid,
    StoreUnavailable,
    TooManyWorkers,
    TrainingPoolUnknown,
)
from muster.domain.experiment import uid_of
from muster.domain.flavor import ELASTIC_CARDS, AiEngine, Flavor, elastic_flavor
from muster.domain.phase import STOPPABLE, Event, Phase, Reason
from muster.domain.placement import NodeRoom, most_that_fit
from muster.domain.pool import Pool, PoolPhase, Scope, public_pool_id
from muster.domain.requirement import check_fits
from muster.domain.training import (
    DEFAULT_ENGINE_ID,
    TrainingConfig,
    check_config,
    check_description,
    check_name,
)
from muster.domain.workload import PRIORITY_MIN
from muster.objects.store import Kind, ObjectStore
from muster.objects.url import ObjectUrl, parse_url
from muster.operations.buckets import make_bucket
from muster.operations.caller import Caller, check_priority
from muster.operations.deletion import delete_workload
from muster.operations.turn import SharedInTurn
from muster.store import experiments, jobs, pools, workloads
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.submissions import (
    NewJob,
    NewVersion,
    Submission,
    SubmittedVersion,
    insert_submissions,
)
from muster.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Training:
    """What the operations on training jobs work with."""

    database: Database
    objects: ObjectStore
    catalogue: Catalogue
    job_quota: int
    looked_up: SharedInTurn = dataclasses.field(default_factory=SharedInTurn)  # of the objects


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A config with everything looked up that the transaction needs."""

    config: TrainingConfig
    flavor: Flavor
    engine: AiEngine | None
    pool: Pool
    run: Run
    claims: tuple[tuple[str, bool], ...]  # buckets that results go to, and whether they are there


async def submit_job(
    training: Training,
    caller: Caller,
    *,
    name: str,
    description: str,
    workspace_id: str,
    config: TrainingConfig,
    creates_version: bool,
    now_ms: int,
) -> SubmittedVersion:
    """Make a job and, unless told not to, its first version. All or nothing.

    Raises:
        InvalidRequest, NotFound: nothing was made.
    """
    check_name("job_name", name)
    check_description("job_desc", description)
    project_id = caller.project_id
    check_priority(caller, config.priority or PRIORITY_MIN, workspace_id=workspace_id)
    prepared = None
    if creates_version:
        is_free = partial(training.database.read, _check_free_name, project_id, workspace_id, name)
        prepared = await _prepare(training, caller, name, config, before_copying=is_free)
    submission = Submission(
        project_id=project_id,
        job=NewJob(
            workspace_id=workspace_id,
            name=name,
            description=description,
            creator_name=caller.user_name,
        ),
        version=_new_version(prepared) if prepared else None,
        job_quota=training.job_quota,
        now_ms=now_ms,
    )
    return await training.database.write_together(insert_submissions, submission)


def _check_free_name(connection: Connection, project_id: str, workspace_id: str, name: str) -> None:
    """Before anything is copied; the transaction makes sure of it once more."""
    jobs.check_workspace(connection, project_id, workspace_id)
    if jobs.is_name_taken(connection, project_id, workspace_id, name):
        raise jobs.name_taken(name)


async def create_version(
    training: Training,
    caller: Caller,
    *,
    job_id: int,
    description: str,
    config: TrainingConfig,
    pre_version_id: int | None,
    now_ms: int,
) -> SubmittedVersion:
    """Run a job again: what `config` does not say is taken from the version before."""
    check_description("job_desc", description)
    database, project_id = training.database, caller.project_id
    job = await database.read(jobs.get_job, project_id, job_id)
    base = await database.read(_base_version, job, pre_version_id)
    if base is not None:
        config = await _without_lost_experiment(training, caller, config.over(config_of(base)))
    check_priority(caller, config.priority or PRIORITY_MIN, workspace_id=job.workspace_id)
    prepared = await _prepare(training, caller, job.name, config)
    submission = Submission(
        project_id=project_id,
        job=job_id,
        description=description,
        version=_new_version(prepared, pre_version_id=base.id if base else None),
        job_quota=training.job_quota,
        now_ms=now_ms,
    )
    return await database.write_together(insert_submissions, submission)


async def _without_lost_experiment(
    training: Training, caller: Caller, config: TrainingConfig
) -> TrainingConfig:
    """A version comes to stand where the one before it stands, if that is still there."""
    if config.experiment is None:
        return config
    uid = uid_of(config.experiment.id)
    found = await training.database.read(experiments.find_experiment, caller.project_id, uid)
    return config if found else dataclasses.replace(config, experiment=None)


def config_of(version: jobs.Version) -> TrainingConfig:
    return msgspec.json.decode(version.config, type=TrainingConfig)


def _base_version(
    connection: Connection, job: jobs.Job, pre_version_id: int | None
) -> jobs.Version | None:
    version_id = job.latest_version_id if pre_version_id is None else pre_version_id
    if version_id is None:
        return None
    return jobs.get_version(connection, job.project_id, job.id, version_id)


async def _prepare(
    training: Training,
    caller: Caller,
    job_name: str,
    config: TrainingConfig,
    before_copying: Callable[[], Awaitable[None]] | None = None,
) -> _Prepared:
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
    urls = _Urls.of(config)
    pool, flavor = await _look_up(training, caller, config, urls)
    engine = None
    if not config.user_image_url:
        engine_id = DEFAULT_ENGINE_ID if config.engine_id is None else config.engine_id
        engine = training.catalogue.engine(engine_id)
    found = await training.looked_up.ask(
        (urls, engine is not None),
        lambda: _look_at_objects(
            training.objects, urls, has_code=engine is not None, before_copying=before_copying
        ),
    )
    await _make_buckets(training, caller.project_id, urls, found.claims)
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
    return _Prepared(
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
    training: Training, caller: Caller, config: TrainingConfig, urls: "_Urls"
) -> tuple[Pool, Flavor]:
    """Everything about the config that the store knows better."""
    recent, catalogue = training.database.read_recent, training.catalogue
    pool = await _pool_for(training, caller, config.pool_id)
    flavor = _flavor_for(catalogue, config, pool)
    if config.algorithm is not None:
        check_fits(config.algorithm, flavor, config.worker_server_num or 1)
    rooms = await recent(_rooms_of, pool.partition)
    _check_size(config, flavor, pool, rooms, catalogue)
    for field, url in urls.inputs:
        if not await recent(pools.may_use_bucket, caller.project_id, url.bucket):
            raise _bucket_unknown(field, url)
    return pool, flavor


def _rooms_of(connection: Connection, partition: str) -> list[NodeRoom]:
    return [node.room for node in pools.list_partition_nodes(connection, partition)]


async def _pool_for(training: Training, caller: Caller, pool_id: str | None) -> Pool:
    project_id = caller.project_id
    pool = await training.database.read_recent(
        pools.find_pool, project_id, pool_id or public_pool_id(project_id)
    )
    if pool is None or not caller.may_enter(pool.workspace_id):
        raise TrainingPoolUnknown(
            f"config.pool_id is {pool_id!r}; this project has no such pool."
            " `muster pool list` shows what there is."
        )
    if pool.phase is not PoolPhase.RUNNING:
        raise PoolNotRunning(
            f"config.pool_id is {pool_id!r}; the pool is {pool.phase}, not Running."
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Urls:
    app: ObjectUrl | None
    boot: ObjectUrl | None
    data: ObjectUrl | None
    train: ObjectUrl | None
    log: ObjectUrl | None
    channels_in: tuple[tuple[str, ObjectUrl], ...] = ()
    channels_out: tuple[tuple[str, ObjectUrl], ...] = ()

    @property
    def inputs(self) -> list[tuple[str, ObjectUrl]]:
        """What must be there already, by field."""
        fields = (("app_url", self.app), ("boot_file_url", self.boot), ("data_url", self.data))
        return [*((field, url) for field, url in fields if url is not None), *self.channels_in]

    @property
    def results(self) -> list[tuple[str, ObjectUrl]]:
        """Where results go, by field."""
        fields = (("train_url", self.train), ("log_url", self.log))
        return [*((field, url) for field, url in fields if url is not None), *self.channels_out]

    @classmethod
    def of(cls, config: TrainingConfig) -> "_Urls":
        def parsed(field: str, text: str | None) -> ObjectUrl | None:
            return parse_url(text, field=f"config.{field}") if text else None

        return cls(
            app=parsed("app_url", config.app_url),
            boot=parsed("boot_file_url", config.boot_file_url),
            data=parsed("data_url", config.input_url),
            train=parsed("train_url", config.train_url),
            log=parsed("log_url", config.log_url),
            channels_in=tuple(
                (f"inputs[{index}]", parse_url(channel.url, field=f"config.inputs[{index}]"))
                for index, channel in enumerate(config.inputs or ())
            ),
            channels_out=tuple(
                (f"outputs[{index}]", parse_url(channel.url, field=f"config.outputs[{index}]"))
                for index, channel in enumerate(config.outputs or ())
            ),
        )


def _bucket_unknown(field: str, url: ObjectUrl) -> StoragePathInvalid:
    """A bucket of another project is answered like one that is not there."""
    return StoragePathInvalid(
        f"config.{field} is '{url}'; this project has no bucket {url.bucket!r}."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the objects tell of a config."""

    code: str | None  # digest of the snapshot
    boot_file: str | None  # relative to the code folder
    claims: tuple[tuple[str, bool], ...]


async def _look_at_objects(
    objects: ObjectStore,
    urls: _Urls,
    *,
    has_code: bool,
    before_copying: Callable[[], Awaitable[None]] | None,
) -> _Found:
    await _check_inputs(objects, urls)
    claims = await _result_buckets(objects, urls)
    code, boot_file = None, None
    if has_code:
        boot_file = await _boot_file(objects, urls)
        assert urls.app is not None
        code = await objects.keep_code(urls.app, before_copying=before_copying)
    return _Found(code=code, boot_file=boot_file, claims=claims)


async def _check_inputs(objects: ObjectStore, urls: _Urls) -> None:
    """Look whether the inputs are there. A few questions to the store, no object is read."""
    asked = {url.bucket: (field, url) for field, url in reversed(urls.inputs)}  # each once
    for bucket, (field, url) in asked.items():
        with _naming(field, url):
            is_there = await objects.has_bucket(bucket)
        if not is_there:
            raise _bucket_unknown(field, url)
    data = [("data_url", urls.data)] if urls.data is not None else []
    for field, url in (*data, *urls.channels_in):
        if await objects.find(url, field=f"config.{field}") is None:
            raise StoragePathInvalid(f"config.{field} is '{url}'; there is nothing there.")


async def _result_buckets(objects: ObjectStore, urls: _Urls) -> tuple[tuple[str, bool], ...]:
    """The buckets that results go to, and whether they are there."""
    found = []
    for field, url in urls.results:
        with _naming(field, url):
            is_there = await objects.has_bucket(url.bucket)
        found.append((url.bucket, is_there))
    return tuple(found)


async def _make_buckets(
    training: Training, project_id: str, urls: _Urls, claims: tuple[tuple[str, bool], ...]
) -> None:
    """Make the missing ones where no object will: results must have a place to go."""
    database, objects = training.database, training.objects
    if objects.makes_buckets:
        return
    missing = {bucket for bucket, is_there in claims if not is_there}
    for field, url in urls.results:
        if url.bucket in missing:
            missing.remove(url.bucket)
            with _naming(field, url):
                is_own = await make_bucket(database, objects, project_id, url.bucket)
            if not is_own:
                raise _bucket_unknown(field, url)


@contextmanager
def _naming(field: str, url: ObjectUrl) -> Iterator[None]:
    """Let it say what it was asked about, if the object store gives no answer."""
    try:
        yield
    except (StoreUnavailable, StoragePathInvalid) as error:
        raise type(error)(f"config.{field} is '{url}': {error.message}") from error


async def _boot_file(objects: ObjectStore, urls: _Urls) -> str:
    """The boot file, relative to the code folder."""
    assert urls.app is not None
    assert urls.boot is not None
    folder = urls.app.key.rstrip("/")
    prefix = f"{folder}/" if folder else ""
    is_below = urls.boot.bucket == urls.app.bucket and urls.boot.key.startswith(prefix)
    boot_file = urls.boot.key[len(prefix) :]
    if not is_below or not boot_file:
        raise BootFileOutside(
            f"config.boot_file_url is '{urls.boot}'; it must be a file below app_url, '{urls.app}'."
        )
    if await objects.find(urls.boot, field="config.boot_file_url") is not Kind.OBJECT:
        raise BootFileInvalid(f"config.boot_file_url is '{urls.boot}'; there is no such file.")
    return boot_file


def _new_version(prepared: _Prepared, pre_version_id: int | None = None) -> NewVersion:
    config, flavor, pool = prepared.config, prepared.flavor, prepared.pool
    return NewVersion(
        workload_uid=uuid.uuid4().hex,
        pool_id=pool.id,
        partition=pool.partition,
        is_in_public_pool=pool.is_public,
        flavor_code=flavor.code,
        task=flavor.task,
        task_count=config.worker_server_num or 1,
        priority=config.priority or PRIORITY_MIN,
        engine_type=prepared.engine.engine_type if prepared.engine else 0,
        run=prepared.run,
        config=msgspec.json.encode(config).decode(),
        pre_version_id=pre_version_id,
        time_limit_ms=config.auto_stop.milliseconds if config.auto_stop else None,
        retries=config.retries,
        experiment_uid=uid_of(config.experiment.id) if config.experiment else "",
        claims=prepared.claims,
    )


async def describe_job(
    training: Training, caller: Caller, *, job_id: int, description: str
) -> None:
    check_description("job_desc", description)
    await training.database.write(jobs.describe_job, caller.project_id, job_id, description)


async def prioritise_version(
    training: Training, caller: Caller, *, job_id: int, version_id: int, priority: int
) -> None:
    """Give a version that waits another priority.

    Raises:
        Conflict: it waits no more.
    """

    def prioritise(tx: Transaction) -> None:
        version = jobs.get_version(tx.connection, caller.project_id, job_id, version_id)
        workload = workloads.get_workload(tx.connection, version.workload_id)
        check_priority(caller, priority, workspace_id=workload.workspace_id)
        if workload.phase not in (Phase.CREATING, Phase.QUEUED):
            raise Conflict(
                f"Version {version.name} of job {job_id} is {workload.phase}; only the priority of"
                " one that waits in the queue can be changed."
            )
        workloads.set_priority(tx, workload, priority)

    await training.database.write(prioritise)


async def stop_version(
    training: Training, caller: Caller, *, job_id: int, version_id: int, now_ms: int
) -> None:
    """Ask for a stop; it is done when the phase says so.

    Raises:
        NotStoppable: it has ended, or is being stopped already.
    """

    def stop(tx: Transaction) -> None:
        version = jobs.get_version(tx.connection, caller.project_id, job_id, version_id)
        workload = workloads.get_workload(tx.connection, version.workload_id)
        if workload.phase not in STOPPABLE:
            raise NotStoppable(
                f"Version {version.name} of job {job_id} is {workload.phase}; only one that is"
                f" {', '.join(sorted(STOPPABLE))} can be stopped."
            )
        workloads.move_workload(
            tx,
            workload,
            Event.STOP_ASKED,
            now_ms=now_ms,
            actor=caller.user_name,
            reason=Reason.STOPPED_BY_USER,
        )

    await training.database.write(stop)


async def delete_version(
    training: Training,
    caller: Caller,
    *,
    job_id: int,
    version_id: int,
    now_ms: int,
    takes_empty_job: bool = False,
) -> None:
    """Take a version away at once; one that is live is stopped, and its rows go when it is.

    `takes_empty_job`: the job goes with the last of its versions, and its name is free again.
    """

    def delete(tx: Transaction) -> None:
        job = jobs.get_job(tx.connection, caller.project_id, job_id)
        version = jobs.get_version(tx.connection, caller.project_id, job_id, version_id)
        if takes_empty_job and job.version_count == 1:
            jobs.hide_job(tx, job)
        else:
            jobs.hide_version(tx, job, version_id)
        delete_workload(tx, caller, version.workload_id, now_ms=now_ms)

    await training.database.write(delete)


async def delete_job(training: Training, caller: Caller, *, job_id: int, now_ms: int) -> None:
    """Take a job and all its versions away at once, as `delete_version` does."""

    def delete(tx: Transaction) -> None:
        job = jobs.get_job(tx.connection, caller.project_id, job_id)
        doomed = jobs.list_version_workloads(tx.connection, job_id)
        jobs.hide_job(tx, job)
        for workload_id in doomed:
            delete_workload(tx, caller, workload_id, now_ms=now_ms)

    await training.database.write(delete)
