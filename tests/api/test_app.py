"""Answers that are streams, as a real web server sends them."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from structlog.testing import capture_logs

from muster.api.app import App
from muster.api.errors import Envelope
from muster.api.http import Reply, Request
from muster.api.routing import Login, Route
from muster.domain.errors import StoreUnavailable

pytestmark = pytest.mark.timeout(60)


@contextmanager
def served(route: Route) -> Iterator[str]:
    """The address of a web server that has this route alone."""

    async def let_in(_request: Request, _route: Route) -> None:
        return

    app = App([route], let_in, lambda _request, _route: None)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def stream_that_ends_with(error: Exception) -> Route:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"versions":['
        raise error

    async def show(_request: Request) -> Reply:
        return Reply(200, chunks())

    return Route(
        method="GET",
        path="/list",
        handler=show,
        summary="A list",
        envelope=Envelope.MODERN,
        login=Login.NONE,
    )


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [(StoreUnavailable("The database is damaged."), False), (KeyError("name"), True)],
)
def test_a_stream_that_fails_is_cut_short_and_only_our_own_mistakes_have_a_traceback(
    error: Exception, is_ours: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        served(stream_that_ends_with(error)) as url,
        httpx.Client(base_url=url) as client,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        client.get("/list")

    assert any(record.exc_info for record in caplog.records) is is_ours


def test_an_outage_that_fails_every_request_is_one_warning_and_each_has_its_answer() -> None:
    async def fail(_request: Request) -> Reply:
        raise StoreUnavailable("The disk is full.")

    route = Route(
        method="GET",
        path="/list",
        handler=fail,
        summary="A list",
        envelope=Envelope.MODERN,
        login=Login.NONE,
    )

    with capture_logs() as logged, served(route) as url, httpx.Client(base_url=url) as client:
        replies = [client.get("/list") for _ in range(30)]

    assert {(reply.status_code, reply.headers["retry-after"]) for reply in replies} == {(503, "2")}
    failures = [line["log_level"] for line in logged if line["event"] == "request_failed"]
    assert sorted(failures) == ["debug"] * 29 + ["warning"]
