"""Connections to programs: made when they are needed, kept for a moment, never too many."""

import asyncio
from collections import OrderedDict
from typing import Final

from muster.domain.errors import ProgramUnreachable, TooManyConnections
from muster.proxy.connection import Connection

CONNECT_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 2048  # that are in use, to all programs together
IDLE_MAX: Final = 256
# Shorter than what servers keep an idle connection for (gunicorn: 2 s, the shortest of those in
# use): so it is hardly ever closed in the moment in which a request is sent on it.
IDLE_SECONDS: Final = 1.5

Address = tuple[str, int]


class Pool:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._in_use = 0
        self._idle: OrderedDict[Connection, tuple[Address, float]] = OrderedDict()  # oldest first
        self._by_address: dict[Address, list[Connection]] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    def take_idle(self, address: Address) -> Connection | None:
        """One that was used before, if there is any: the program may close it at any moment."""
        waiting = self._by_address.get(address)
        if not waiting:
            return None
        connection = waiting[-1]  # the last one used is the one least likely to be closed
        if self._idle[connection][1] < asyncio.get_running_loop().time() - IDLE_SECONDS:
            return None  # so are those before it; the sweep comes for them
        self._forget(connection)
        self._in_use += 1
        return connection

    async def connect(self, address: Address) -> Connection:
        """A new one.

        Raises:
            ProgramUnreachable: nothing listens there, or it does not answer.
            TooManyConnections: there are CONNECTIONS_MAX.
        """
        if self._in_use >= CONNECTIONS_MAX:
            raise TooManyConnections(
                f"{self._in_use} requests to notebooks and services are under way; more are not"
                " taken. Try again."
            )
        loop = asyncio.get_running_loop()
        self._in_use += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._on_lost), *address
                )
        except OSError as error:  # a time-out is one, too
            self._in_use -= 1
            raise ProgramUnreachable(
                f"The program cannot be reached: {error.strerror or 'it does not answer'}."
                " It may still be starting."
            ) from error
        except BaseException:
            self._in_use -= 1
            raise
        return connection

    def give_back(self, connection: Connection, address: Address) -> None:
        """Keep it for the next request, if it can be used again."""
        self._in_use -= 1
        if not connection.is_reusable:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._idle[connection] = (address, loop.time())
        self._by_address.setdefault(address, []).append(connection)
        if len(self._idle) > IDLE_MAX:
            next(iter(self._idle)).close()
        if self._sweeping is None:
            self._sweeping = loop.call_later(IDLE_SECONDS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeping = None
        until = loop.time() - IDLE_SECONDS
        for connection, (_, since) in list(self._idle.items()):
            if since > until:
                self._sweeping = loop.call_at(since + IDLE_SECONDS, self._sweep, loop)
                return
            self._forget(connection)
            connection.close()

    def _on_lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        address, _ = self._idle.pop(connection)
        others = self._by_address[address]
        others.remove(connection)
        if not others:
            del self._by_address[address]

    def close(self) -> None:
        """Drop what is kept. What is in use goes on."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in list(self._idle):
            self._forget(connection)
            connection.close()
