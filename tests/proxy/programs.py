"""A server that passes requests on, and programs to pass them on to: real sockets, one loop."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import httpx

from muster.api.app import App
from muster.api.http import Request
from muster.api.proxied import Outcome, Proxied, ProxyRequest, Redirected, Upstream
from muster.api.routing import Route
from muster.domain.errors import MusterError, PathUnknown
from muster.settings import Settings
from muster.webserver import Web, web_config

DEADLINE_SECONDS: Final = 30.0
REQUEST_BYTES_MAX: Final = 100 << 20
NOWHERE: Final = "nowhere"  # an id that nothing listens for

Application = Callable[..., Awaitable[None]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class PlainSite:
    """Lets everything pass to the program of that id, unless a test says otherwise."""

    programs: dict[str, list[int]] = field(default_factory=dict)  # ports, by id
    more: dict[str, Any] = field(default_factory=dict)  # of every Upstream
    refusal: MusterError | None = None
    redirect: Redirected | None = None
    reads_body: bool = False
    asked: list[ProxyRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _turns: Counter[str] = field(default_factory=Counter)

    def forget(self) -> None:
        """Be as new."""
        fresh = PlainSite()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    async def admit(self, request: ProxyRequest) -> Upstream | Redirected:
        self.asked.append(request)
        if self.refusal is not None:
            raise self.refusal
        if self.redirect is not None:
            return self.redirect
        if self.reads_body:
            self.bodies.append(await request.request.body())
        if request.id not in self.programs:
            raise PathUnknown(f"There is no program {request.id}.")
        ports = self.programs[request.id]
        port = ports[self._turns[request.id] % len(ports)]
        self._turns[request.id] += 1
        return Upstream(
            **{
                "host": "127.0.0.1",
                "port": port,
                "path": request.path or "/",
                "query": request.request.raw_query,
                "key": request.id,
                **self.more,
            }
        )

    def done(self, upstream: Upstream, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.ended.set()

    async def outcome(self, count: int = 1) -> Outcome:
        """Of the request that was the `count`-th to end."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.outcomes) < count:
                self.ended.clear()
                await self.ended.wait()
        return self.outcomes[count - 1]


@dataclass(slots=True)
class Front:
    """The server."""

    port: int
    site: PlainSite
    proxied: Proxied
    web: Web
    http: httpx.AsyncClient

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def send_raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer

    async def ask_raw(self, data: bytes) -> bytes:
        """Everything that is answered before the connection ends."""
        reader, writer = await self.send_raw(data)
        async with asyncio.timeout(DEADLINE_SECONDS):
            answer = await reader.read()
        writer.close()
        return answer


async def _nobody(_request: Request, _route: Route) -> None:
    raise AssertionError("no route is asked for")


async def _hello(_request: Request) -> Any:
    raise AssertionError("a path climbed to a route")


def make_app() -> tuple[PlainSite, Proxied, App]:
    site = PlainSite()
    sites = {"notebooks": site, "services": site}
    proxied = Proxied(sites, request_bytes_max=REQUEST_BYTES_MAX)
    return site, proxied, App((), _nobody, _nobody, prefixes=proxied.prefixes, pass_on=proxied)


@asynccontextmanager
async def running_front() -> AsyncIterator[Front]:
    site, proxied, app = make_app()
    async with serving(app) as (web, port):
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_SECONDS, trust_env=False
        ) as http:
            yield Front(port, site, proxied, web, http)
        proxied.end_websockets()
        proxied.close()


@asynccontextmanager
async def serving(app: Application) -> AsyncIterator[tuple[Web, int]]:
    """(the server, its port), as `muster serve` makes it."""
    web, port, running = await serving_at(app)
    try:
        yield web, port
    finally:
        web.should_exit = True
        await running


async def serving_at(
    app: Application, settings: Settings | None = None
) -> tuple[Web, int, "asyncio.Task[None]"]:
    """(the server, its port, what runs until it ends)."""
    settings = settings or Settings(data=Path("unused"))
    ready = asyncio.Event()
    listener = listening()
    port = listener.getsockname()[1]
    web = Web(web_config(settings, app), ready.set)
    running = asyncio.create_task(web.serve(sockets=[listener]))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await ready.wait()
    return web, port, running


def listening() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def program_of(script: Script) -> AsyncIterator[int]:
    """The port of a program that answers, byte by byte, as a test says."""
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(data: bytes) -> Script:
    """Reads the head of each request, and answers so."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()

    return script


async def show_request(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    """A program that answers with what it was asked."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    shown = {
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(shown).encode()})


def transport_of(writer: asyncio.StreamWriter) -> asyncio.Transport:
    """Of a connection that reads, too."""
    return cast(asyncio.Transport, writer.transport)
