"""Puts the parts together: the one place that builds everything."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import structlog

from muster import __version__
from muster.address import told_address
from muster.api.app import App
from muster.api.authenticate import Authenticator
from muster.api.authorise import Authoriser
from muster.api.inference import ServiceSite
from muster.api.notebooksite import NotebookSite
from muster.api.proxied import Proxied, Site
from muster.api.routes import build_routes
from muster.api.services import Services
from muster.api.training_v2.rendered import RenderedJobs
from muster.api.visualizationsite import VisualizationSite
from muster.datafolder import CREDENTIALS_FILE_NAME, write_credentials
from muster.domain.catalogue import Catalogue
from muster.domain.errors import EngineUnavailable
from muster.domain.partitioning import Partitioning
from muster.engines.discovery import find_machine
from muster.engines.engine import Cluster, Engine
from muster.engines.isolation import Isolation
from muster.engines.local import LocalEngine
from muster.grounds import choose_isolation, tell_isolation
from muster.inventory import Inventory, InventoryFile, build_inventory, read_inventory_file
from muster.notebooks import build_notebooks
from muster.objects.folder import FolderStore
from muster.objects.store import ObjectStore
from muster.operations.identity import FirstCredentials, Identity, set_up
from muster.operations.pools import Pools
from muster.operations.trainingstart import Training
from muster.reconciler.act import Platform
from muster.reconciler.leadership import Leadership
from muster.reconciler.loop import Reconciler
from muster.reconciler.notebooks import NotebookKeeper
from muster.reconciler.sampler import Sampler
from muster.reconciler.services import ServiceKeeper
from muster.reconciler.sweeps import Sweeper
from muster.reconciler.visualizations import VisualizationKeeper
from muster.settings import Settings
from muster.stocktaking import store_inventory, taking_in
from muster.store.addressed import open_database, refuse_emptied
from muster.store.database import Database
from muster.store.metrics import MetricsStore
from muster.store.notice import LOOK_SECONDS, take_notice
from muster.store.vault import Vault
from muster.visualizations import build_visualizations
from muster.webserver import (
    SHUTDOWN_SECONDS,
    Web,
    bind,
    check_certificate,
    ended_by_signals,
    web_config,
)

log = structlog.get_logger()
KNOWN_CLUSTER: Final = "slurm.json"  # in the data folder: the cluster as it was when last seen


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Keeper(Protocol):
    """Looks after one kind of thing by itself, in the server that leads."""

    def on(self, database: Database) -> "Keeper":
        """The same on another view of the store."""

    def wake(self) -> None:
        """Look at once."""

    async def run(self) -> None:
        """Until it is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Everything of a running server but its socket."""

    settings: Settings
    database: Database
    objects: ObjectStore
    app: App
    proxied: Proxied
    reconciler: Reconciler
    sampler: Sampler
    sweeper: Sweeper
    keepers: tuple[Keeper, ...]
    service_site: ServiceSite
    identity: Identity
    first: FirstCredentials | None
    isolation: str  # of jobs, in one line for people
    leadership: Leadership  # where several servers share a store
    forget_logins: Callable[[], None]


@asynccontextmanager
async def running_server(
    settings: Settings,
    clock_ms: Callable[[], int] = now_ms,
    keep_first: Callable[[FirstCredentials], None] = lambda _: None,
    sought: "Future[Isolation] | None" = None,
) -> AsyncIterator[Server]:
    """Build a server on its data folder, run its reconciler, and take it all down again.

    Args:
        settings: what it is asked to be.
        clock_ms: the time, in milliseconds since 1970.
        keep_first: keeps the credentials of a first start, before they are stored.
        sought: how jobs are isolated, where somebody is finding out already.
    """
    inventory = await _read_inventory(settings)
    vault = Vault(settings.data / "secret.key")
    if (settings.data / CREDENTIALS_FILE_NAME).is_file():  # this is not the first start
        refuse_emptied(settings.store)
    database = open_database(settings.store)
    try:
        ident = Identity(
            database=database,
            vault=vault,
            token_lifetime_ms=settings.token_hours * 3_600_000,
        )
        first = await set_up(ident, now_ms=clock_ms(), keep=keep_first)
        catalogue = await database.write(
            store_inventory, inventory, clock_ms(), hosts_are_whole=settings.hosts_are_whole
        )
        isolation = await (
            asyncio.to_thread(choose_isolation, settings)
            if sought is None
            else asyncio.wrap_future(sought)
        )
        engine = _make_engine(settings, isolation)
        told = tell_isolation(settings, isolation)
        server = _build(settings, database, ident, catalogue, clock_ms, first, told, engine)
        database.on_logins_changed(server.forget_logins)
        looking = asyncio.create_task(_look_for_notices(settings.data, server.forget_logins))
        asking = asyncio.create_task(_tell_of_objects(server.objects))
        counting = asyncio.create_task(server.service_site.run())
        try:
            async with _leading_in_turn(server) if settings.is_shared else _leading(server):
                yield server
        finally:
            await _cancel(looking)
            await _cancel(asking)
            await _cancel(counting)
            await server.service_site.calls.flush()
            await server.objects.close()
            server.proxied.close()
            server.sampler.metrics.close()
    finally:
        database.close()


async def _tell_of_objects(objects: ObjectStore) -> None:
    """Serve without the object store, but say so: jobs wait for it."""
    trouble = await objects.find_trouble()
    if trouble is not None:
        log.warning("object_store_unavailable", why=trouble)


def _inventory_file(settings: Settings) -> InventoryFile:
    return read_inventory_file(settings.inventory) if settings.inventory else InventoryFile()


def _inventory_reader(settings: Settings) -> Callable[[Cluster], Inventory]:
    """What makes an inventory of a cluster; by the file as it is now."""
    file = _inventory_file(settings)

    def read(cluster: Cluster) -> Inventory:
        from muster.slurmcluster import slurm_inventory

        return slurm_inventory(file, cluster, settings.slurm_partition)

    return read


async def _read_inventory(settings: Settings) -> Inventory:
    file = _inventory_file(settings)
    if settings.engine == "local":
        return build_inventory(file, find_machine())
    from muster.engines.slurmcommands import SlurmCommands
    from muster.engines.slurmnodes import cluster_of
    from muster.slurmcluster import read_cluster, slurm_inventory

    commands = SlurmCommands(settings.slurm_commands)
    seen = await read_cluster(commands, settings.data / KNOWN_CLUSTER)
    return slurm_inventory(file, cluster_of(seen), settings.slurm_partition)


def _make_engine(settings: Settings, isolation: Isolation) -> Engine:
    jobs_folder = settings.data / "jobs"
    if settings.engine == "local":
        return LocalEngine(jobs_folder, isolation=isolation)
    from muster.engines.slurm import SlurmEngine
    from muster.engines.slurmcommands import SlurmCommands
    from muster.engines.slurmsubmit import SlurmOptions

    options = SlurmOptions(
        partition=settings.slurm_partition,
        may_change_partitions=settings.slurm_may_change_partitions,
        known=settings.data / KNOWN_CLUSTER,
        account=settings.slurm_account,
        qos=settings.slurm_qos,
        python=settings.slurm_python,
        reuse_seconds=settings.slurm_reuse_seconds,
        npu_addresses=settings.slurm_npu_addresses,
    )
    return SlurmEngine(jobs_folder, SlurmCommands(settings.slurm_commands), options)


@asynccontextmanager
async def _leading(server: Server, fenced: Database | None = None) -> AsyncIterator[None]:
    """Run what only one server may: the engine, the reconciler, the sampler, the sweeps.

    Args:
        server: all of it.
        fenced: the store as the holder of a lease writes it; None: there is no other server.
    """
    reconciler = server.reconciler if fenced is None else server.reconciler.on(fenced)
    engine = reconciler.platform.engine

    def on_engine_change() -> None:
        reconciler.wake()
        server.sampler.wake()

    await engine.open(on_engine_change)
    keepers = [keeper if fenced is None else keeper.on(fenced) for keeper in server.keepers]

    def on_work() -> None:
        reconciler.wake()
        for keeper in keepers:
            keeper.wake()

    server.database.on_work(on_work)
    keeping = [asyncio.create_task(keeper.run()) for keeper in keepers]
    passes = asyncio.create_task(reconciler.run())
    sampling = asyncio.create_task(server.sampler.run())
    sweeper = server.sweeper if fenced is None else server.sweeper.on(fenced)
    sweeping = asyncio.create_task(sweeper.run())
    try:
        yield
    finally:
        for task in keeping:
            await _cancel(task)
        await _cancel(sweeping)
        await _cancel(sampling)
        await _end(reconciler, passes)
        await engine.close()


@asynccontextmanager
async def _leading_in_turn(server: Server) -> AsyncIterator[None]:
    """Lead whenever this server has the lease, beside serving."""
    server.leadership.lead = partial(_leading, server)
    turns = asyncio.create_task(server.leadership.run())
    try:
        yield
    finally:
        await _cancel(turns)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})


async def _look_for_notices(data: Path, forget_logins: Callable[[], None]) -> None:
    """Let what commands change beside this server count at once; see store/notice.py."""
    while True:
        if take_notice(data):
            forget_logins()
        await asyncio.sleep(LOOK_SECONDS)


async def _end(reconciler: Reconciler, passes: "asyncio.Task[None]") -> None:
    """Let what is under way finish; what takes too long is found again at the next start."""
    reconciler.close()
    done, _ = await asyncio.wait({passes}, timeout=SHUTDOWN_SECONDS / 2)
    if not done:
        passes.cancel()
        await asyncio.wait({passes})


def _make_objects(settings: Settings) -> ObjectStore:
    snapshots = settings.data / "snapshots"
    if not settings.is_on_s3:
        return FolderStore(settings.objects_folder, snapshots)
    from muster.objects.s3 import S3Place, S3Store
    from muster.objects.s3bucket import S3Options

    options = S3Options(
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key,
        session_token=settings.s3_session_token,
        path_style=settings.s3_path_style,
    )
    return S3Store(options, S3Place.parse(settings.objects or ""), snapshots)


def _build(
    settings: Settings,
    database: Database,
    ident: Identity,
    catalogue: Catalogue,
    clock_ms: Callable[[], int],
    first: FirstCredentials | None,
    isolation: str,
    engine: Engine,
) -> Server:
    jobs_folder = settings.data / "jobs"
    jobs_folder.mkdir(exist_ok=True)
    objects = _make_objects(settings)
    reconciler = Reconciler(
        platform=Platform(
            database=database,
            engine=engine,
            objects=objects,
            jobs_folder=jobs_folder,
            clock_ms=clock_ms,
            stop_grace_seconds=settings.stop_grace_seconds,
            node_bytes=settings.node_bytes,
        ),
        lost_timeout_ms=settings.lost_timeout_seconds * 1000,
        flavors=catalogue.flavor_by_code,
        hosts_are_whole=settings.hosts_are_whole,
        take_in=taking_in(_inventory_reader(settings), catalogue, clock_ms),
    )

    leadership = Leadership(database)

    async def engine_trouble() -> str | None:
        if settings.is_shared and not leadership.is_leading:
            return None  # another server has the engine
        try:
            health = await engine.health()
        except EngineUnavailable as error:
            return error.message
        return None if health.is_reachable else health.message

    sampler = Sampler(
        database=database,
        engine=engine,
        metrics=MetricsStore(settings.metrics_file, kept_hours=settings.metrics_hours),
        clock_ms=clock_ms,
        interval_seconds=settings.sample_seconds,
    )
    authenticator = Authenticator(ident, clock_ms)
    authorise = Authoriser(database)
    service_site = ServiceSite(database, authenticator, authorise, jobs_folder, clock_ms)
    notebooks = build_notebooks(database, objects, catalogue, settings.data)
    services = Services(
        database=database,
        metrics=sampler.metrics,
        training=Training(database, objects, catalogue, settings.job_quota),
        identity=ident,
        pools=Pools(
            database,
            catalogue,
            settings.pool_quota,
            Partitioning(
                hosts_are_whole=settings.hosts_are_whole,
                may_change=settings.may_make_pools,
            ),
        ),
        notebooks=notebooks,
        visualizations=build_visualizations(database, objects, catalogue, settings.data),
        service_site=service_site,
        catalogue=catalogue,
        rendered_jobs=RenderedJobs(catalogue),
        objects=objects,
        jobs_folder=jobs_folder,
        clock_ms=clock_ms,
        job_quota=settings.job_quota,
        counts_jobs_in_total=settings.statistics_total == "jobs",
        engine_trouble=engine_trouble,
        forget_token=authenticator.forget_token,
        forget_logins=authenticator.forget,
        version=__version__,
    )
    sites: dict[str, Site] = {  # by what their paths begin with
        "notebooks": NotebookSite(database, jobs_folder, authenticator),
        "services": service_site,
        "visualizations": VisualizationSite(database, jobs_folder, authenticator),
    }
    proxied = Proxied(sites, request_bytes_max=settings.proxied_body_mib << 20)
    return Server(
        settings=settings,
        database=database,
        app=App(
            build_routes(services),
            authenticator,
            authorise,
            prefixes=proxied.prefixes,
            pass_on=proxied,
        ),
        proxied=proxied,
        objects=objects,
        reconciler=reconciler,
        sampler=sampler,
        sweeper=Sweeper(
            database=database,
            objects=objects,
            jobs_folder=jobs_folder,
            clock_ms=clock_ms,
            archive_after_ms=settings.archive_after_ms,
        ),
        keepers=(
            NotebookKeeper(
                database=database,
                jobs_folder=jobs_folder,
                folder=notebooks.folder,
                clock_ms=clock_ms,
            ),
            ServiceKeeper(
                database=database,
                jobs_folder=jobs_folder,
                clock_ms=clock_ms,
                gauge=service_site,
            ),
            VisualizationKeeper(
                database=database, objects=objects, jobs_folder=jobs_folder, clock_ms=clock_ms
            ),
        ),
        service_site=service_site,
        identity=ident,
        first=first,
        isolation=isolation,
        leadership=leadership,
        forget_logins=authenticator.forget,
    )


async def serve(
    settings: Settings, sought: "Future[Isolation]", on_ready: Callable[[str, Server], None]
) -> None:
    """Serve until SIGTERM or SIGINT. Running jobs go on, and are found again at the next start.

    The data folder is locked by the caller; the rest is as for `running_server`.
    """
    check_certificate(settings)
    with bind(settings) as listener:
        host, port = listener.getsockname()[:2]
        scheme = "https" if settings.tls_cert else "http"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        credentials = settings.data / CREDENTIALS_FILE_NAME

        def keep_first(first: FirstCredentials) -> None:
            write_credentials(credentials, first, url)

        async with running_server(settings, keep_first=keep_first, sought=sought) as server:
            web = Web(web_config(settings, server.app), lambda: on_ready(url, server))
            ending = ended_by_signals(web, server.proxied.end_websockets)
            with told_address(settings.data, url), ending:
                await web.serve(sockets=[listener])
