"""What was measured of pools, and what they give away now."""

from muster.api import metrics
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import metrics as shapes


def routes(services: Services) -> list[Route]:
    resource = table(services, Envelope.RESOURCE)
    return [
        resource(
            "GET", "/v2/{project_id}/pools/{pool_name}/monitor", metrics.show_pool_monitor,
            "Show how busy the nodes of a pool were",
            query=shapes.MonitorQuery, reply=shapes.PoolMonitor,
            needs=Permission.POOL_READ, within=Within.POOL,
        ),
        resource(
            "GET", "/v2/{project_id}/metrics/runtime/pools", metrics.list_runtime_metrics,
            "Show what each pool has and what is held of it", reply=shapes.PoolMetricsList,
            needs=Permission.POOL_READ, within=Within.PROJECT,
        ),
    ]  # fmt: skip
