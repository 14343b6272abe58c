"""Training jobs by their tags, as a service that manages tags asks for them: list and count."""

import uuid

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.search import tag_terms
from muster.api.training_v2.words import in_v2_words
from muster.store import jobs, tags, training_listing
from muster.store.connection import Connection
from muster.store.training_listing import TrainingRow, TrainingSearch
from muster.store.training_terms import SearchTerm
from muster.wire import tags as shapes
from muster.wire.decode import decode_body, decode_query


@in_v2_words
async def list_jobs(services: Services, request: Request) -> Reply:
    """Newest first."""
    wanted = await _search(services, request)
    total, rows, tags_of = await services.database.scan(_page, wanted)
    resources = [
        shapes.TaggedJob(
            resource_id=str(uuid.UUID(row.uid)),
            resource_name=row.name,
            workspace_id=row.workspace_id,
            resource_detail={},
            tags=[
                shapes.PlainTag(key=key, value=value)
                for key, value in sorted(tags_of.get(row.version_id, {}).items())
            ],
        )
        for row in rows
    ]
    return json_reply(shapes.TaggedJobs(resources=resources, total_count=total))


@in_v2_words
async def count_jobs(services: Services, request: Request) -> Reply:
    total, _, _ = await services.database.scan(_page, await _search(services, request))
    return json_reply(shapes.TaggedJobsCount(total_count=total))


async def _search(services: Services, request: Request) -> TrainingSearch:
    body = decode_body(await request.body() or b"{}", shapes.TaggedJobsRequest)
    query = decode_query(request.query, shapes.TaggedJobsQuery)
    terms = tag_terms(body.tags or ())
    return TrainingSearch(
        project_id=request.caller.project_id,
        workspace_id=body.workspace_id,
        sort_key="create_time",
        is_descending=True,
        offset=query.offset,
        limit=query.limit,
        now_ms=services.clock_ms(),
        terms=tuple(
            SearchTerm(key="name", operator="like", values=(match.value,))
            for match in body.matches or ()
        ),
        tags=() if body.without_any_tag else terms,
        is_untagged=body.without_any_tag,
    )


_Page = tuple[int, list[TrainingRow], dict[int, dict[str, str]]]


def _page(connection: Connection, search: TrainingSearch) -> _Page:
    """(how many match, the page of them, their tags)."""
    jobs.check_workspace(connection, search.project_id, search.workspace_id)
    total, rows = training_listing.page_of_training_jobs(connection, search)
    found = tags.list_tags_of_versions(connection, [row.version_id for row in rows])
    return total, rows, found
