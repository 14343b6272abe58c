"""uvicorn as muster runs it: the listening socket, its certificate, and signals that end it."""

import asyncio
import gc
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from muster.datafolder import CannotStart
from muster.proxy.websocket import MESSAGE_BYTES_MAX, PING_SECONDS, PONG_SECONDS
from muster.settings import Settings

# What the web server takes for a mistake, and is how an answer is cut or a handshake refused.
logging.getLogger("uvicorn.error").addFilter(
    lambda record: "ASGI callable returned without completing" not in record.getMessage()
)
GC_THRESHOLD: Final = 10_000  # new objects between two collections of the youngest

SHUTDOWN_SECONDS: Final = 8  # for requests under way; the whole of it stays under 10
_BACKLOG: Final = 1024


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


class Web(uvicorn.Server):
    """uvicorn, telling when it answers, and leaving signals to us: its own end the process."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # what is there now stays: no collection needs to look at it again
        # A create leaves hundreds of short-lived objects behind, hardly any of them in a cycle:
        # collecting every 700 took 5 % of the CPU.
        gc.set_threshold(GC_THRESHOLD)
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
