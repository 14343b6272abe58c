"""Puts the parts together: the one place that builds everything."""

import asyncio
import fcntl
import gc
import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import structlog
import uvicorn

from muster import __version__
from muster.api.authenticate import Authenticator
from muster.api.authorise import Authoriser
from muster.api.http import App
from muster.api.inference import ServiceSite
from muster.api.notebooksite import NotebookSite
from muster.api.proxied import Proxied, Site
from muster.api.routes import build_routes
from muster.api.services import Services
from muster.api.training_v2.rendered import RenderedJobs
from muster.api.visualizationsite import VisualizationSite
from muster.domain.catalogue import Catalogue
from muster.domain.errors import EngineUnavailable, MusterError
from muster.domain.partitioning import Partitioning
from muster.engines.discovery import find_machine
from muster.engines.engine import Cluster, Engine
from muster.engines.local import LocalEngine
from muster.inventory import (
    Inventory,
    InventoryFile,
    build_inventory,
    read_inventory_file,
)
from muster.notebooks import build_notebooks
from muster.objects.folder import FolderStore
from muster.objects.store import ObjectStore
from muster.operations.identity import FirstCredentials, Identity, set_up
from muster.operations.pools import Pools
from muster.operations.training import Training
from muster.proxy.websocket import MESSAGE_BYTES_MAX, PING_SECONDS, PONG_SECONDS
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
from muster.store.addressed import open_database
from muster.store.database import Database
from muster.store.metrics import MetricsStore
from muster.store.notice import LOOK_SECONDS, take_notice
from muster.store.vault import Vault
from muster.visualizations import build_visualizations
from muster.wire.credentials import Credentials

log = structlog.get_logger()

# What the web server takes for a mistake, and is how an answer is cut or a handshake refused.
logging.getLogger("uvicorn.error").addFilter(
    lambda record: "ASGI callable returned without completing" not in record.getMessage()
)

SHUTDOWN_SECONDS: Final = 8  # for requests under way; the whole of it stays under 10
KNOWN_CLUSTER: Final = "slurm.json"  # in the data folder: the cluster as it was when last seen
_BACKLOG: Final = 1024


class CannotStart(MusterError):
    """The server cannot start; the message says what to change."""


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
    leadership: Leadership  # where several servers share a store
    forget_logins: Callable[[], None]


@contextmanager
def locked_data_folder(data: Path, *, is_shared: bool = False) -> Iterator[None]:
    """One server a data folder. The lock goes with the process, however it ends.

    Args:
        data: the folder.
        is_shared: any number of servers of one PostgreSQL may have it; none of SQLite beside them.

    Raises:
        CannotStart: another server has it, or it cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(data / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(
            f"The data folder {data} cannot be written ({error.strerror})."
            " Name another with --data DIR."
        ) from error
    try:
        try:
            kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 64, 0).decode(errors="replace").strip()
            raise CannotStart(
                f"Another muster server{f' (process {owner})' if owner else ''} uses the data"
                f" folder {data}. Stop it, or name another folder with --data DIR."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


@asynccontextmanager
async def running_server(
    settings: Settings, clock_ms: Callable[[], int] = now_ms
) -> AsyncIterator[Server]:
    """Build a server on its data folder, run its reconciler, and take it all down again."""
    inventory = await _read_inventory(settings)
    vault = Vault(settings.data / "secret.key")
    database = open_database(settings.store)
    try:
        ident = Identity(
            database=database,
            vault=vault,
            token_lifetime_ms=settings.token_hours * 3_600_000,
        )
        first = await set_up(ident, now_ms=clock_ms())
        catalogue = await database.write(
            store_inventory, inventory, clock_ms(), hosts_are_whole=settings.hosts_are_whole
        )
        engine = _make_engine(settings)
        server = _build(settings, database, ident, catalogue, clock_ms, first, engine)
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
            await server.service_site.flush()
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


def _make_engine(settings: Settings) -> Engine:
    jobs_folder = settings.data / "jobs"
    if settings.engine == "local":
        return LocalEngine(jobs_folder)
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
            VisualizationKeeper(database=database, objects=objects, jobs_folder=jobs_folder),
        ),
        service_site=service_site,
        identity=ident,
        first=first,
        leadership=leadership,
        forget_logins=authenticator.forget,
    )


def write_credentials(path: Path, first: FirstCredentials, url: str) -> None:
    """Written once, at the first start; never readable by others."""
    credentials = Credentials(
        url=url,
        project_id=first.project.id,
        project_name=first.project.name,
        domain=first.project.account.name,
        user=first.user_name,
        password=first.password,
        access_key=first.access_key,
        secret_key=first.secret_key,
    )
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")


def bind(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        CannotStart: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP: without that, plain asyncio does not switch Nagle's delay off.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"muster cannot listen on {settings.host} port {settings.port} ({error.strerror})."
            " Name another with --port, or 0 for any free one."
        ) from error
    listener.setblocking(False)
    return listener


def check_certificate(settings: Settings) -> None:
    """Raise CannotStart unless the certificate and its key can be used together."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # an SSLError is one, too
        why = error.strerror or "they are not a PEM certificate and its key"
        raise CannotStart(
            f"--tls-cert {settings.tls_cert} with --tls-key {settings.tls_key} cannot be used:"
            f" {why}."
        ) from error


async def serve(settings: Settings, on_ready: Callable[[str, Server], None]) -> None:
    """Serve until SIGTERM or SIGINT. Running jobs go on, and are found again at the next start."""
    check_certificate(settings)
    folder = locked_data_folder(settings.data, is_shared=settings.is_shared)
    with folder, bind(settings) as listener:
        host, port = listener.getsockname()[:2]
        scheme = "https" if settings.tls_cert else "http"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        async with running_server(settings) as server:
            if server.first is not None:
                write_credentials(settings.data / "credentials.json", server.first, url)
            web = Web(web_config(settings, server.app), lambda: on_ready(url, server))
            with ended_by_signals(web, server.proxied.end_websockets):
                await web.serve(sockets=[listener])


class Web(uvicorn.Server):
    """uvicorn, telling when it answers, and leaving signals to us: its own end the process."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # what is there now stays: no collection needs to look at it again
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def ended_by_signals(web: uvicorn.Server, end_websockets: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT end it after the requests under way; a second one does not wait."""

    def end() -> None:
        end_websockets()
        web.force_exit = web.should_exit
        web.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def web_config(settings: Settings, app: Callable[..., Any]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES_MAX,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_per_message_deflate=False,  # what it takes of memory would be most of a websocket's
        backlog=_BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS // 2,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
