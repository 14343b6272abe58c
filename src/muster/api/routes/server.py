"""The server itself: no login."""

from muster.api import health
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Login, Route
from muster.api.services import Services


def routes(services: Services) -> list[Route]:
    own = table(services, Envelope.MODERN)
    return [
        own(
            "GET", "/healthz", health.show_alive, "Whether the server lives", login=Login.NONE,
        ),
        own(
            "GET", "/readyz", health.show_ready, "Whether it is ready", login=Login.NONE,
        ),
        own(
            "GET", "/metrics", health.show_metrics, "Metrics for Prometheus", login=Login.NONE,
        ),
    ]  # fmt: skip
