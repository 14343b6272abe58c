"""Visualization jobs: create, list, show, describe, stop, restart, delete."""

from typing import Any

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training import id_of
from muster.api.training_lists import parse_statuses
from muster.domain.errors import InvalidRequest
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.domain.visualization import TENSORBOARD, VISUALIZATIONS_MAX, Visualization
from muster.operations import visualizations as operations
from muster.store import jobs, visualizations
from muster.store.connection import Connection
from muster.store.visualizations import VisualizationList
from muster.wire import visualizations as shapes
from muster.wire.decode import decode_body, decode_query
from muster.wire.training import Done


async def create_visualization(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.VisualizationRequest)
    made = await operations.create_visualization(
        services.visualizations,
        request.caller,
        operations.NewVisualization(
            workspace_id=body.workspace_id or DEFAULT_WORKSPACE_ID,
            name=body.job_name,
            description=body.job_desc or "",
            train_url=body.train_url,
            job_type=body.job_type or TENSORBOARD,
            flavor=body.flavor.code if body.flavor else "",
            hours=_hours(body.schedule),
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(_made(request, made))


def _made(request: Request, one: Visualization) -> shapes.MadeVisualization:
    return shapes.MadeVisualization(
        job_id=one.id,
        job_name=one.name,
        status=one.status,
        create_time=one.created_at_ms,
        service_url=_url(request, one),
    )


def _hours(
    given: list[shapes.GivenSchedule] | shapes.GivenSchedule | None,
) -> int | None:
    """After how many it is stopped; None: never, which is also what 0 says."""
    schedules = given if isinstance(given, list) else [given] if given else []
    if not schedules:
        return None
    if len(schedules) > 1:
        raise InvalidRequest(f"schedule has {len(schedules)} entries; at most 1 is allowed.")
    duration = schedules[0].duration
    try:
        return int(duration) or None
    except ValueError:
        raise InvalidRequest(
            f"schedule.duration is {str(duration)[:60]!r}; it must be a number of hours."
        ) from None


async def list_visualizations(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.VisualizationsQuery, body=await request.body())
    wanted = VisualizationList(
        project_id=request.caller.project_id,
        workspace_id=query.workspace_id,
        part=query.search_content,
        statuses=parse_statuses(query.status),
        sort_key=query.sortBy or query.sort_by or "job_id",
        is_descending=query.order == "desc",
        offset=(query.page - 1) * query.per_page,
        limit=query.per_page,
    )
    total, page, count = await services.database.read(_page, wanted)
    now_ms = services.clock_ms()
    return json_reply(
        shapes.VisualizationList(
            job_total_count=total,
            job_count_limit=max(0, VISUALIZATIONS_MAX - count),
            quotas=VISUALIZATIONS_MAX,
            jobs=[shapes.VisualizationView(**_fields(request, one, now_ms=now_ms)) for one in page],
        )
    )


def _page(
    connection: Connection, wanted: VisualizationList
) -> tuple[int, list[Visualization], int]:
    """(how many match, the page of them, how many the project has)."""
    jobs.check_workspace(connection, wanted.project_id, wanted.workspace_id)
    total, page = visualizations.page_of_visualizations(connection, wanted)
    return total, page, visualizations.count_visualizations(connection, wanted.project_id)


async def show_visualization(services: Services, request: Request) -> Reply:
    found = await operations.get_visualization(
        services.visualizations, request.caller, _named(request)
    )
    return json_reply(
        shapes.VisualizationDetail(**_fields(request, found, now_ms=services.clock_ms()))
    )


async def describe_visualization(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.VisualizationDescription)
    await operations.describe_visualization(
        services.visualizations, request.caller, _named(request), body.job_desc
    )
    return json_reply(Done())


async def stop_visualization(services: Services, request: Request) -> Reply:
    await operations.stop_visualization(
        services.visualizations, request.caller, _named(request), now_ms=services.clock_ms()
    )
    return json_reply(Done())


async def restart_visualization(services: Services, request: Request) -> Reply:
    restarted = await operations.restart_visualization(
        services.visualizations, request.caller, _named(request), now_ms=services.clock_ms()
    )
    return json_reply(_made(request, restarted))


async def delete_visualization(services: Services, request: Request) -> Reply:
    await operations.delete_visualization(
        services.visualizations, request.caller, _named(request), now_ms=services.clock_ms()
    )
    return json_reply(Done())


def _named(request: Request) -> int:
    """The one that the path names."""
    return id_of("job_id", request.params[1])


def _url(request: Request, one: Visualization) -> str:
    return f"{request.base_url}{one.base_path}/?token={one.token}"


def _fields(request: Request, one: Visualization, *, now_ms: int) -> dict[str, Any]:
    schedule = shapes.ScheduleView(type="stop", time_unit="HOURS", duration=one.hours or 0)
    return {
        "job_id": one.id,
        "job_name": one.name,
        "job_desc": one.description,
        "status": one.status,
        "create_time": one.created_at_ms,
        "duration": one.duration_ms(now_ms),
        "service_url": _url(request, one),
        "train_url": one.train_url,
        "resource_id": one.uid,
        "remaining_duration": one.remaining_ms(now_ms),
        "job_type": TENSORBOARD,
        "flavor": shapes.FlavorView(code=one.flavor_code),
        "schedule": schedule if one.hours else None,
        "workspace_id": one.workspace_id,
        "status_message": one.told,
    }
