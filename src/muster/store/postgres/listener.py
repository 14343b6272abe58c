"""Hears what other servers tell through PostgreSQL."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final

import psycopg
import structlog

from muster.store.groupcommit import News
from muster.store.postgres.connection import Address, connect, first_line

log = structlog.get_logger()

LISTEN_SECONDS: Final = 0.2  # after which it is seen that the server closes
LISTEN_AGAIN_SECONDS: Final = 1.0


class Listener:
    """Listens to what other servers tell, in a thread. What is missed is found by looking."""

    def __init__(self, address: "Address") -> None:
        self._address = address
        self._callbacks: dict[str, tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = {}
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    def call_back(self, channel: str, callback: Callable[[], None]) -> None:
        """Called in the event loop in which the callback is to run."""
        self._callbacks[channel] = (asyncio.get_running_loop(), callback)
        if self._thread is None:
            self._thread = threading.Thread(target=self._listen, name="database-news")
            self._thread.start()

    def close(self) -> None:
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join()

    def _listen(self) -> None:
        while not self._is_closing.is_set():
            try:
                with closing(connect(self._address)) as connection:
                    self._listen_on(connection)
            except (psycopg.Error, OSError) as error:
                log.debug("not_listening", why=first_line(error))
                self._is_closing.wait(LISTEN_AGAIN_SECONDS)

    def _listen_on(self, connection: "psycopg.Connection[Any]") -> None:
        connection.autocommit = True
        for channel in News:
            connection.execute(f"LISTEN {channel}")
        for channel in News:
            self._tell(channel)  # what came while nobody listened
        while not self._is_closing.is_set():
            for note in connection.notifies(timeout=LISTEN_SECONDS):
                self._tell(note.channel)

    def _tell(self, channel: str) -> None:
        if channel in self._callbacks:
            loop, callback = self._callbacks[channel]
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(callback)
