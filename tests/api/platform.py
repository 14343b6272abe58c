"""A whole server in this process: real SQLite, real HTTP on a free port, an engine in memory.

Jobs run until a test says how they end; the clock stands until a test moves it.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

import httpx
import uvicorn

from muster.domain.jobfolder import log_file
from muster.operations import identity
from muster.server import Server, running_server
from muster.settings import Settings
from muster.store.connection import Connection
from tests.engines.fake import FakeEngine
from tests.stores import chosen_store

T = TypeVar("T")

WAIT_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.01
START_MS: Final = 1_700_000_000_000

INVENTORY: Final = """
[machine]
cpus = 8
memory_gib = 64
gpus = 4
card_model = "T4"

[[flavors]]
code = "gpu.2"
cpus = 2
memory_gib = 8
gpus = 2
card_model = "T4"

[[pools]]
name = "small"
flavor = "modelarts.vm.cpu.1u"
count = 2

[[pools]]
name = "cards"
flavor = "gpu.2"
count = 1
scope = ["Train"]

[[pools]]
name = "serving"
flavor = "modelarts.vm.cpu.1u"
count = 1
scope = ["Infer"]
"""


@dataclass(slots=True)
class Clock:
    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass(kw_only=True)
class Project:
    """A project, one user of it, and a client that has logged in as that user."""

    id: str
    name: str
    user: str
    password: str
    access_key: str
    secret_key: str
    http: httpx.Client

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    @property
    def v1(self) -> str:
        return f"/v1/{self.id}"

    @property
    def v2(self) -> str:
        return f"/v2/{self.id}"

    def pool(self, name: str) -> str:
        return f"{name}-{self.id}"

    def get(self, path: str, /, **params: object) -> Any:
        """The JSON of a GET that must succeed; `path` begins after the project for v1."""
        reply = self.http.get(f"{self.v1}{path}", params=params)  # type: ignore[arg-type]
        assert reply.status_code == 200, reply.text
        return reply.json()

    def raw(self, method: str, target: str, content: bytes = b"") -> httpx.Response:
        """A request whose target is sent as it is: httpx would tidy dots and slashes away."""
        connection = HTTPConnection(self.http.base_url.host, self.http.base_url.port)
        with closing(connection):
            token = {"X-Auth-Token": self.http.headers["X-Auth-Token"]}
            connection.request(method, target, body=content, headers=token)
            reply = connection.getresponse()
            return httpx.Response(reply.status, headers=reply.getheaders(), content=reply.read())

    def post(self, path: str, /, **body: object) -> Any:
        """The JSON of a POST that must succeed."""
        reply = self.http.post(f"{self.v1}{path}", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()


@dataclass(kw_only=True)
class Platform:
    """The running server, and a hand on its engine, its clock and its database."""

    url: str
    data: Path
    clock: Clock
    engine: FakeEngine
    server: Server
    project: Project
    loop: asyncio.AbstractEventLoop
    spec_ids: dict[str, int] = field(default_factory=dict)
    other_projects: list[Project] = field(default_factory=list)

    def run(self, work: Awaitable[T]) -> T:
        """Run a coroutine in the server's event loop."""

        async def waited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self.loop).result(WAIT_SECONDS)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the server's event loop, and let the reconciler look."""

        async def called() -> T:
            result = function(*args)
            self.server.reconciler.wake()
            return result

        return self.run(called())

    def new_project(self, name: str) -> Project:
        """Another project with a user of its own."""

        async def create() -> tuple[str, str, tuple[str, str]]:
            now_ms, ident = self.clock(), self.server.identity
            project = await identity.create_project(ident, name, now_ms=now_ms)
            made = await identity.create_user(ident, f"{name}-user", name)
            return (
                project.id,
                made.password,
                await identity.create_key(ident, made.member.name, now_ms=now_ms),
            )

        project_id, password, (access_key, secret_key) = self.run(create())
        project = log_in(
            self.url, project_id, name, f"{name}-user", password, access_key, secret_key
        )
        self.other_projects.append(project)
        return project

    def attempt_of(self, version_id: int) -> str | None:
        def read(connection: Connection) -> str | None:
            row = connection.execute(
                "SELECT attempt_id FROM workload JOIN version ON version.workload_id = workload.id"
                " WHERE version.id = ?",
                (version_id,),
            ).fetchone()
            return None if row is None else row[0]

        return self.run(self.server.database.read(read))

    def code(self, project: Project | None = None, name: str = "code") -> dict[str, Any]:
        """Store a code folder; the `config` of a job that runs it on one small CPU worker."""
        project = project or self.project
        bucket = f"bucket-{project.name}"
        reply = project.http.put(f"/objects/{bucket}/{name}/main.py", content=b"pass\n")
        assert reply.status_code == 200, reply.text
        return {
            "worker_server_num": 1,
            "app_url": f"/{bucket}/{name}/",
            "boot_file_url": f"/{bucket}/{name}/main.py",
            "engine_id": 1,
            "spec_id": self.spec_ids["modelarts.vm.cpu.1u"],
        }

    def submit(
        self,
        name: str,
        *,
        project: Project | None = None,
        workspace_id: str = "0",
        description: str = "",
        **config: Any,
    ) -> dict[str, Any]:
        """A new job, as the server answered it."""
        body = {
            "job_name": name,
            "job_desc": description,
            "workspace_id": workspace_id,
            "config": self.code(project) | config,
        }
        submitted: dict[str, Any] = (project or self.project).post("/training-jobs", **body)
        return submitted

    def status_of(self, job: Mapping[str, Any], project: Project | None = None) -> int:
        project = project or self.project
        shown = project.get(f"/training-jobs/{job['job_id']}/versions/{job['version_id']}")
        return int(shown["status"])

    def wait_for(self, job: Mapping[str, Any], status: int, project: Project | None = None) -> None:
        wait_until(lambda: self.status_of(job, project) == status)

    def finish(self, job: Mapping[str, Any], exit_code: int = 0, *, after_ms: int = 0) -> None:
        """Let the first worker end by itself, so much later, and wait until the job has."""
        self.wait_for(job, 8)
        attempt_id = self.attempt_of(job["version_id"])
        assert attempt_id is not None
        self.clock.now_ms += after_ms
        self.engine.now_ms = self.clock.now_ms
        self.call(self.engine.finish, attempt_id, 0, exit_code)
        self.wait_for(job, 10 if exit_code == 0 else 11)

    def finish_all(self, job: Mapping[str, Any]) -> None:
        """Let every worker end well."""
        attempt_id = self.attempt_of(job["version_id"])
        assert attempt_id is not None
        for task in self.engine.started[attempt_id].tasks:
            self.call(self.engine.finish, attempt_id, task.index, 0)
        self.wait_for(job, 10)

    def write_log(self, job: Mapping[str, Any], content: bytes, index: int = 0) -> None:
        """As the job itself would write it."""
        self.wait_for(job, 8)
        attempt_id = self.attempt_of(job["version_id"])
        assert attempt_id is not None
        path = log_file(self.data / "jobs" / attempt_id, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(LOOK_SECONDS)


@contextmanager
def running_platform(folder: Path, **settings: Any) -> Iterator[Platform]:
    """A platform on its own data folder, taken down at the end."""
    folder.mkdir(exist_ok=True)
    inventory = folder / "inventory.toml"
    inventory.write_text(INVENTORY)
    with chosen_store() as database:
        settings.setdefault("database", database)
        running = _Running(Settings(data=folder, port=0, inventory=inventory, **settings))
        with running as server, _listener() as listener:
            web = uvicorn.Server(
                uvicorn.Config(
                    server.app, lifespan="off", log_config=None, ws="none", access_log=False
                )
            )
            serving = asyncio.run_coroutine_threadsafe(web.serve([listener]), running.loop)
            wait_until(lambda: web.started)
            first = server.first
            assert first is not None
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            project = log_in(
                url, first.project.id, "default", first.user_name, first.password,
                first.access_key, first.secret_key,
            )  # fmt: skip
            platform = Platform(
                url=url,
                data=folder,
                clock=running.clock,
                engine=running.engine,
                server=server,
                project=project,
                loop=running.loop,
            )
            specs = project.get("/job/resource-specs")["specs"]
            platform.spec_ids = {spec["spec_code"]: spec["spec_id"] for spec in specs}
            try:
                yield platform
            finally:
                web.should_exit = True
                serving.result(WAIT_SECONDS)
                for made in (project, *platform.other_projects):
                    made.http.close()


def _listener() -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, each answer
    # takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


class _Running:
    """The server without its socket, in an event loop of its own thread."""

    def __init__(self, settings: Settings) -> None:
        self.clock = Clock()
        self.engine = FakeEngine(now_ms=self.clock.now_ms)
        self._settings = settings
        self._is_over = asyncio.Event()
        self._ready: asyncio.Future[Server] | None = None
        self._started = threading.Event()
        self._server: Server | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._started.wait(WAIT_SECONDS)
        if self._failure is not None:
            raise self._failure
        assert self._server is not None
        return self._server

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - it is raised again in the test's thread
            self._failure = failure
            self._started.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        with patch("muster.server.LocalEngine", lambda _folder, **_: self.engine):
            async with running_server(self._settings, self.clock) as server:
                self._server = server
                self._started.set()
                await self._is_over.wait()


def log_in(
    url: str,
    project_id: str,
    name: str,
    user: str,
    password: str,
    access_key: str,
    secret_key: str,
    **client: Any,
) -> Project:
    """The project with a client that has logged in; `client` are more settings of that."""
    http = httpx.Client(base_url=url, timeout=WAIT_SECONDS, **client)
    login = http.post("/v3/auth/tokens", json=login_body(user, password, project_id))
    assert login.status_code == 201, login.text
    http.headers["X-Auth-Token"] = login.headers["X-Subject-Token"]
    return Project(
        id=project_id,
        name=name,
        user=user,
        password=password,
        access_key=access_key,
        secret_key=secret_key,
        http=http,
    )


def login_body(user: str, password: str, project_id: str | None = None) -> dict[str, Any]:
    """The body of `POST /v3/auth/tokens` for a password login."""
    account = {"name": "muster"}
    identity_part = {
        "methods": ["password"],
        "password": {"user": {"name": user, "password": password, "domain": account}},
    }
    body: dict[str, Any] = {"auth": {"identity": identity_part}}
    if project_id is not None:
        body["auth"]["scope"] = {"project": {"id": project_id}}
    return body
