"""Algorithms that v2 training jobs can name."""

from muster.api import algorithms
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import algorithms as shapes

_ALGORITHMS = "/v2/{project_id}/algorithms"
_ALGORITHM = f"{_ALGORITHMS}/{{algorithm_id}}"


def routes(services: Services) -> list[Route]:
    modern = table(services, Envelope.MODERN)
    return [
        modern(
            "POST", _ALGORITHMS, algorithms.create_algorithm, "Keep an algorithm",
            body=shapes.AlgorithmRequest, reply=shapes.AlgorithmView, status=201,
            needs=Permission.JOB_WRITE, within=Within.BODY,
        ),
        modern(
            "GET", _ALGORITHMS, algorithms.list_algorithms, "List algorithms",
            query=shapes.AlgorithmsQuery, reply=shapes.AlgorithmViews,
            needs=Permission.JOB_READ, within=Within.QUERY,
        ),
        modern(
            "GET", _ALGORITHM, algorithms.show_algorithm, "Show an algorithm and its code",
            reply=shapes.AlgorithmView,
            needs=Permission.JOB_READ, within=Within.ALGORITHM,
        ),
        modern(
            "PUT", _ALGORITHM, algorithms.update_algorithm,
            "Change an algorithm; jobs made from it stay as they are",
            body=shapes.AlgorithmUpdate, reply=shapes.AlgorithmView, status=201,
            needs=Permission.JOB_WRITE, within=Within.ALGORITHM,
        ),
        modern(
            "DELETE", _ALGORITHM, algorithms.delete_algorithm,
            "Delete an algorithm; jobs made from it stay as they are", status=202,
            needs=Permission.JOB_WRITE, within=Within.ALGORITHM,
        ),
    ]  # fmt: skip
