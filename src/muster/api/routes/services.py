"""Models, and the inference services that run them."""

from muster.api import deployments, models
from muster.api.errors import Envelope
from muster.api.routes.table import table
from muster.api.routing import Route, Within
from muster.api.services import Services
from muster.domain.permission import Permission
from muster.wire import models as model_shapes
from muster.wire import services as shapes

_MODELS = "/v1/{project_id}/models"
_MODEL = f"{_MODELS}/{{model_id}}"
_SERVICES = "/v1/{project_id}/services"
_SERVICE = f"{_SERVICES}/{{service_id}}"


def routes(services: Services) -> list[Route]:
    modern = table(services, Envelope.MODERN)
    return [
        modern(
            "POST", _MODELS, models.create_model, "Keep a model: a copy of its folder",
            body=model_shapes.NewModel, reply=model_shapes.NewModelId,
            needs=Permission.SERVICE_WRITE, within=Within.BODY,
        ),
        modern(
            "GET", _MODELS, models.list_models, "List models",
            query=model_shapes.ModelsQuery, reply=model_shapes.ModelViews,
            needs=Permission.SERVICE_READ, within=Within.QUERY,
        ),
        modern(
            "GET", f"{_MODELS}/ai-engine-runtimes", models.list_runtimes,
            "List what models can run under",
            query=model_shapes.RuntimesQuery, reply=model_shapes.EngineRuntimesList,
            needs=Permission.SERVICE_READ,
        ),
        modern(
            "GET", _MODEL, models.show_model, "Show a model",
            reply=model_shapes.ModelView,
            needs=Permission.SERVICE_READ, within=Within.MODEL,
        ),
        modern(
            "DELETE", _MODEL, models.delete_model,
            "Delete a version of a model, or all of them, unless services run them",
            query=model_shapes.ModelDeleteQuery, reply=model_shapes.Deleted,
            needs=Permission.SERVICE_WRITE, within=Within.MODEL,
        ),
        modern(
            "POST", _SERVICES, deployments.create_service, "Deploy a service",
            body=shapes.NewService, reply=shapes.NewServiceId,
            needs=Permission.SERVICE_WRITE, within=Within.BODY,
        ),
        modern(
            "GET", _SERVICES, deployments.list_services, "List services",
            query=shapes.ServicesQuery, reply=shapes.ServiceViews,
            needs=Permission.SERVICE_READ, within=Within.QUERY,
        ),
        modern(
            "GET", f"{_SERVICES}/specifications", deployments.list_specifications,
            "List the flavors that instances may have",
            query=shapes.SpecificationsQuery, reply=shapes.SpecificationViews,
            needs=Permission.SERVICE_READ,
        ),
        modern(
            "GET", _SERVICE, deployments.show_service, "Show a service",
            reply=shapes.ServiceView,
            needs=Permission.SERVICE_READ, within=Within.SERVICE,
        ),
        modern(
            "PUT", _SERVICE, deployments.change_service, "Start, stop or change a service",
            body=shapes.ServiceChange, reply=shapes.Nothing,
            needs=Permission.SERVICE_WRITE, within=Within.SERVICE,
        ),
        modern(
            "DELETE", _SERVICE, deployments.delete_service,
            "Delete a service; its instances are stopped",
            reply=shapes.Nothing,
            needs=Permission.SERVICE_WRITE, within=Within.SERVICE,
        ),
        modern(
            "GET", f"{_SERVICE}/events", deployments.list_events,
            "List what happened to a service",
            query=shapes.EventsQuery, reply=shapes.EventViews,
            needs=Permission.SERVICE_READ, within=Within.SERVICE,
        ),
        modern(
            "GET", f"{_SERVICE}/monitor", deployments.show_monitor,
            "Show how much a service is asked, and what it uses",
            reply=shapes.Monitor,
            needs=Permission.SERVICE_READ, within=Within.SERVICE,
        ),
        modern(
            "GET", f"{_SERVICE}/logs", deployments.list_updates,
            "List the updates of a service",
            reply=shapes.UpdateViews,
            needs=Permission.SERVICE_READ, within=Within.SERVICE,
        ),
        modern(
            "GET", "/v1/{project_id}/clusters", deployments.list_clusters,
            "List the pools that services may run on, as older clients know them",
            query=shapes.ClustersQuery, reply=shapes.ClusterViews,
            needs=Permission.SERVICE_READ,
        ),
    ]  # fmt: skip
