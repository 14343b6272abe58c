"""Job history in and out: no other platform has these."""

from muster.api import history
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import history as shapes


def routes(services: Services) -> list[Route]:
    own = table(services, Envelope.MODERN)
    return [
        own(
            "POST", "/muster/v1/{project_id}/history", history.import_history,
            "Move in versions that ended elsewhere, as JSON lines",
            query=shapes.HistoryQuery, reply=shapes.HistoryImport, takes_stream=True,
            needs=Permission.HISTORY_WRITE,
        ),
        own(
            "GET", "/muster/v1/{project_id}/history", history.export_history,
            "Read every version that has ended, as JSON lines",
            needs=Permission.JOB_READ,
        ),
    ]  # fmt: skip
