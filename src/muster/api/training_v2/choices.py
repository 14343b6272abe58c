"""What there is to choose from: flavors, engines, quotas, names."""

from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.views import engine_id_of, flavor_detail, flavor_type
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.domain.flavor import Flavor
from muster.store import jobs
from muster.store.connection import Connection
from muster.wire import training_v2 as shapes
from muster.wire.decode import decode_query


@in_v2_words
async def list_flavors(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.TrainingFlavorsQuery)
    flavors = [
        _flavor_view(flavor)
        for flavor in services.catalogue.flavors
        if query.flavor_type in ("", flavor_type(flavor))
    ]
    return json_reply(shapes.TrainingFlavorList(total_count=len(flavors), flavors=flavors))


def _flavor_view(flavor: Flavor) -> shapes.TrainingFlavor:
    detail = flavor_detail(flavor)
    return shapes.TrainingFlavor(
        flavor_id=flavor.code,
        flavor_name=flavor.code,
        max_num=flavor.task_count_max,
        attributes={},
        flavor_type=detail.flavor_type,
        billing=detail.billing,
        flavor_info=detail.flavor_info,
    )


@in_v2_words
async def list_engines(services: Services, request: Request) -> Reply:
    items = [
        shapes.TrainingEngineRow(
            engine_id=engine_id_of(engine),
            engine_name=engine.name,
            engine_version=engine.version,
            image_info=shapes.EngineImages(),
        )
        for engine in services.catalogue.engines
    ]
    return json_reply(shapes.TrainingEngineList(total=len(items), items=items))


@in_v2_words
async def show_quotas(services: Services, request: Request) -> Reply:
    """Of the project: its users share them, so `user_id` changes nothing."""
    query = decode_query(request.query, shapes.TrainingQuotasQuery)
    if query.resource not in ("", _JOB_NUMBER):
        return json_reply(shapes.TrainingQuotaList(quotas=[]))
    used = await services.database.read(jobs.count_live_jobs, request.caller.project_id)
    quota = shapes.TrainingQuota(resource=_JOB_NUMBER, quota=services.job_quota, used=used)
    return json_reply(shapes.TrainingQuotaList(quotas=[quota]))


_JOB_NUMBER: Final = "job-num"


async def check_name(services: Services, request: Request) -> Reply:
    try:
        query = decode_query(request.query, shapes.TrainingNameQuery)
    except errors.InvalidRequest as error:  # the field is called as in v1 here, too
        raise errors.ParameterInvalid(error.message) from error

    def read(connection: Connection) -> bool:
        project_id = request.caller.project_id
        jobs.check_workspace(connection, project_id, query.workspace_id)
        return jobs.is_name_taken(connection, project_id, query.workspace_id, query.job_name)

    is_taken = await services.database.read(read)
    return json_reply(shapes.TrainingNameCheck(is_duplicate=is_taken))


@in_v2_words
async def list_event_categories(services: Services, request: Request) -> Reply:
    """The kinds of events that jobs of this server have: the same for every kind of flavor."""
    decode_query(request.query, shapes.EventCategoriesQuery)
    return json_reply(shapes.EventCategoryList(categories=list(_EVENT_CATEGORIES)))


_EVENT_CATEGORIES: Final = tuple(
    shapes.EventCategory(id=id_, name=id_, description=description)
    for id_, description in (
        ("JobStarted", "The job has begun to run."),
        ("JobCompleted", "Every task of the job has ended with exit code 0."),
        ("JobFailed", "The job has failed, or could not be started."),
        ("JobTerminated", "The job was stopped, by a user or at its time limit."),
        ("JobRestarted", "The job has failed and is tried again."),
    )
)
