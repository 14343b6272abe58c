"""Visualization jobs: a TensorBoard over results."""

from muster.api import visualizations
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import visualizations as shapes
from muster.wire.training import Done

_JOBS = "/v1/{project_id}/visualization-jobs"
_JOB = f"{_JOBS}/{{job_id}}"


def routes(services: Services) -> list[Route]:
    v1 = table(services, Envelope.V1)
    return [
        v1(
            "POST", _JOBS, visualizations.create_visualization,
            "Show results in a TensorBoard",
            body=shapes.VisualizationRequest, reply=shapes.MadeVisualization,
            needs=Permission.JOB_WRITE, within=Within.BODY,
        ),
        v1(
            "GET", _JOBS, visualizations.list_visualizations, "List visualization jobs",
            query=shapes.VisualizationsQuery, reply=shapes.VisualizationList,
            needs=Permission.JOB_READ, within=Within.QUERY,
        ),
        v1(
            "GET", _JOB, visualizations.show_visualization, "Show a visualization job",
            reply=shapes.VisualizationDetail,
            needs=Permission.JOB_READ, within=Within.VISUALIZATION,
        ),
        v1(
            "PUT", _JOB, visualizations.describe_visualization,
            "Change the description of a visualization job",
            body=shapes.VisualizationDescription, reply=Done,
            needs=Permission.JOB_WRITE, within=Within.VISUALIZATION,
        ),
        v1(
            "DELETE", _JOB, visualizations.delete_visualization,
            "Delete a visualization job; what it showed stays", reply=Done,
            needs=Permission.JOB_WRITE, within=Within.VISUALIZATION,
        ),
        v1(
            "POST", f"{_JOB}/stop", visualizations.stop_visualization,
            "Stop a visualization job", reply=Done,
            needs=Permission.JOB_WRITE, within=Within.VISUALIZATION,
        ),
        v1(
            "POST", f"{_JOB}/restart", visualizations.restart_visualization,
            "Start a visualization job that has ended once more",
            reply=shapes.MadeVisualization,
            needs=Permission.JOB_WRITE, within=Within.VISUALIZATION,
        ),
    ]  # fmt: skip
