"""How a row of the route table is written."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from muster.api.errors import Envelope
from muster.api.http import Reply, Request
from muster.api.routing import Route
from muster.api.services import Services

_Handler = Callable[[Services, Request], Awaitable[Reply]]


def table(services: Services, envelope: Envelope) -> Callable[..., Route]:
    """Makes rows whose failures come in that envelope, each handler with its services."""

    def row(method: str, path: str, handler: _Handler, summary: str, **more: Any) -> Route:
        return Route(
            method=method,
            path=path,
            handler=partial(handler, services),
            summary=summary,
            envelope=envelope,
            **more,
        )

    return row
