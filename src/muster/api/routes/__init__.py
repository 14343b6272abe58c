"""The route table: every path that muster answers, who may call it, and what it takes and gives."""

from muster.api import openapi
from muster.api.errors import Envelope
from muster.api.routes import (
    algorithms,
    experiments,
    history,
    identity,
    metrics,
    networks,
    notebooks,
    objects,
    pools,
    server,
    tags,
    training_v1,
    training_v2,
    visualizations,
    workspaces,
)
from muster.api.routes import services as inference
from muster.api.routes.table import table
from muster.api.routing import Login, Route
from muster.api.services import Services


def build_routes(services: Services) -> tuple[Route, ...]:
    """The whole table, each handler with the services it works with."""
    rows = [
        *training_v1.routes(services),
        *training_v2.routes(services),
        *algorithms.routes(services),
        *experiments.routes(services),
        *pools.routes(services),
        *networks.routes(services),
        *tags.routes(services),
        *metrics.routes(services),
        *notebooks.routes(services),
        *visualizations.routes(services),
        *inference.routes(services),
        *history.routes(services),
        *workspaces.routes(services),
        *identity.routes(services),
        *objects.routes(services),
        *server.routes(services),
    ]
    own = table(services, Envelope.MODERN)
    described = tuple(rows)
    return (
        *described,
        own(
            "GET", "/openapi.json", openapi.show_openapi(described), "This API, for machines",
            login=Login.NONE,
        ),
        own("GET", "/docs", openapi.show_docs(described), "This API, for people", login=Login.NONE),
    )  # fmt: skip
