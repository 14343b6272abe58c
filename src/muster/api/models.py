"""Models (AI applications): keep, list, show, delete, and what they can run under."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from muster.api.errors import status_of
from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain.errors import InvalidRequest, ModelSourceInvalid
from muster.domain.model import Health, Model, ModelList
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.operations import models as operations
from muster.store import models
from muster.wire import models as shapes
from muster.wire.decode import decode_body, decode_query, decode_value

_KEPT: Final = (
    "source_job_id", "source_job_version", "source_type", "execution_code", "input_params",
    "output_params", "model_docs", "model_labels", "install_type", "model_algorithm",
    "model_metrics",
)  # fmt: skip

# What the client may say of a model as JSON, or as text that is JSON.
_SHAPES: Final[dict[str, Any]] = {
    "input_params": list[dict[str, Any]],
    "output_params": list[dict[str, Any]],
    "model_docs": list[dict[str, Any]],
    "install_type": list[str],
    "model_metrics": dict[str, Any],
}


async def create_model(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NewModel)
    if body.execution_code and not body.execution_code.startswith(body.source_location):
        raise ModelSourceInvalid(
            f"execution_code is {body.execution_code[:100]!r}; it must lie below source_location,"
            f" {body.source_location[:100]!r}: that folder is what is kept."
        )
    shown = {name: getattr(body, name) for name in _KEPT if getattr(body, name) is not None}
    for name, kind in _SHAPES.items():
        if name in shown:
            shown[name] = decode_value(_decoded(shown[name], name), kind, name=name)
    made = await operations.create_model(
        services.database,
        services.objects,
        services.catalogue,
        request.caller,
        operations.NewModel(
            workspace_id=body.workspace_id or DEFAULT_WORKSPACE_ID,
            name=body.model_name,
            version=body.model_version,
            type=body.model_type,
            description=body.description or "",
            source_location=body.source_location,
            runtime=body.runtime or "",
            command=body.cmd or "",
            initial_config=_object(body.initial_config, "initial_config"),
            apis=_objects(body.apis, "apis"),
            dependencies=_objects(body.dependencies, "dependencies"),
            health=body.health,
            shown=shown,
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(shapes.NewModelId(model_id=made.id))


def _decoded(value: object, name: str) -> Any:
    """What a member holds that may come as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{name} is text that is not valid JSON: {error}.") from error


def _object(value: object, name: str) -> Mapping[str, Any] | None:
    decoded = _decoded(value, name)
    if decoded is None or isinstance(decoded, dict):
        return decoded
    raise InvalidRequest(f"{name} is {str(value)[:100]!r}; it must be an object.")


def _objects(value: object, name: str) -> Sequence[dict[str, Any]] | None:
    decoded = _decoded(value, name)
    if decoded is None:
        return None
    if isinstance(decoded, list) and all(isinstance(one, dict) for one in decoded):
        return decoded
    raise InvalidRequest(f"{name} is {str(value)[:100]!r}; it must be a list of objects.")


async def list_models(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.ModelsQuery)
    if query.model_type and query.not_model_type:
        raise InvalidRequest(
            f"model_type is {query.model_type[:100]!r} and not_model_type"
            f" {query.not_model_type[:100]!r}; only one of them may be given."
        )
    total, page = await services.database.scan(
        models.page_of_models,
        ModelList(
            project_id=request.caller.project_id,
            workspace_id=query.workspace_id or DEFAULT_WORKSPACE_ID,
            name=query.model_name,
            is_exact=query.exact_match,
            version=query.model_version,
            status=query.model_status or "",
            type=query.model_type,
            not_type=query.not_model_type,
            description=query.description,
            sort_by=query.sort_by,
            is_descending=query.order == "desc",
            page=query.offset,
            limit=query.limit,
            marker=query.marker,
        ),
    )
    return json_reply(
        shapes.ModelViews(total_count=total, count=len(page), models=[_view(one) for one in page])
    )


async def show_model(services: Services, request: Request) -> Reply:
    project_id, model_id = request.params
    model = await services.database.read(models.get_model, project_id, model_id)
    return json_reply(_full_view(model))


def _view(model: Model) -> shapes.ModelView:
    shown = model.recipe.shown
    return shapes.ModelView(
        model_id=model.id,
        model_name=model.name,
        model_version=model.version,
        model_type=model.type,
        model_size=model.size_bytes,
        source_type=shown.get("source_type") or "",
        description=model.description,
        owner=model.creator_name,
        project=model.project_id,
        tenant=model.project_id,
        create_at=model.created_at_ms,
        install_type=shown.get("install_type") or ["real-time"],
        workspace_id=model.workspace_id,
        specification=shapes.Specification(),
    )


def _full_view(model: Model) -> shapes.ModelView:
    recipe, shown = model.recipe, model.recipe.shown
    view = _view(model)
    view.source_location = recipe.source_location
    view.source_job_id = shown.get("source_job_id")
    view.source_job_version = shown.get("source_job_version")
    view.execution_code = shown.get("execution_code")
    view.image_address = ""
    view.runtime = recipe.runtime
    view.cmd = " ".join(recipe.command)
    view.model_algorithm = shown.get("model_algorithm") or ""
    view.model_metrics = _text(shown.get("model_metrics") or {})
    view.apis = _text(recipe.apis)
    view.config = _text({"apis": recipe.apis, "health": _health_view(recipe.health)})
    view.schema_doc = None
    view.model_docs = shown.get("model_docs") or []
    view.health = _health_view(recipe.health)
    view.input_params = shown.get("input_params") or []
    view.output_params = shown.get("output_params") or []
    view.dependencies = (
        [
            shapes.DependencyView(
                packages=[
                    shapes.Package(
                        package_name=one.name, package_version=one.version, restraint=one.restraint
                    )
                    for one in recipe.dependencies
                ]
            )
        ]
        if recipe.dependencies
        else []
    )
    view.model_labels = shown.get("model_labels") or []
    view.labels_map = {}
    return view


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _health_view(health: Health) -> shapes.HealthView:
    is_http = bool(health.path)
    return shapes.HealthView(
        protocol="http" if is_http else "tcp",
        url=health.path,
        initial_delay_seconds=str(health.initial_delay_seconds),
        timeout_seconds=str(health.timeout_seconds),
        period_seconds=str(health.period_seconds),
        failure_threshold=str(health.failure_threshold),
        check_method="HTTP" if is_http else "TCP",
    )


async def delete_model(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.ModelDeleteQuery)
    deleted, kept = await operations.delete_models(
        services.database, request.caller, request.params[1], is_cascade=query.cascade
    )
    for one in kept:
        if status_of(one.error) >= 500:
            raise one.error
    return json_reply(
        shapes.Deleted(
            delete_success_list=deleted,
            delete_failed_list=[
                shapes.NotDeleted(
                    model_id=one.model_id, error_code=one.error.code, error_msg=one.error.message
                )
                for one in kept
            ],
        )
    )


async def list_runtimes(services: Services, request: Request) -> Reply:
    """The AI engines of this server: each is an interpreter that models run under."""
    query = decode_query(request.query, shapes.RuntimesQuery)
    by_name: dict[str, list[str]] = {}
    for engine in services.catalogue.engines:
        by_name.setdefault(engine.name, []).append(engine.version)
    found = [
        shapes.EngineRuntimes(
            ai_engine=name,
            runtimes=versions,
            request_mode=["sync"],
            accelerators=_accelerators(services),
            arch=[platform.machine()],
            status_list=["normal"],
        )
        for name, versions in by_name.items()
    ]
    start = query.offset * query.limit
    page = found[start : start + query.limit]
    return json_reply(
        shapes.EngineRuntimesList(count=len(page), total_count=len(found), engine_runtimes=page)
    )


def _accelerators(services: Services) -> list[shapes.Accelerator]:
    models_of_cards = {
        (str(flavor.card_kind), flavor.card_model)
        for flavor in services.catalogue.flavors
        if flavor.card_kind is not None
    }
    return [shapes.Accelerator(type=kind, name=name) for kind, name in sorted(models_of_cards)]
