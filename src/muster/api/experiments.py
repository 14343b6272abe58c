"""Experiments of training jobs: create, list, show, change, delete; and which one a job names."""

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.domain.experiment import SORT_KEYS, Experiment
from muster.domain.training import DEFAULT_WORKSPACE_ID, UsedExperiment
from muster.operations import experiments as operations
from muster.store import experiments, jobs
from muster.store.connection import Connection
from muster.wire import experiments as shapes
from muster.wire.decode import decode_body, decode_query, shown
from muster.wire.training_v2 import GivenMetadata, TrainingNameCheck


@in_v2_words
async def create_experiment(services: Services, request: Request) -> Reply:
    given = decode_body(await request.body(), shapes.ExperimentRequest).metadata
    made = await operations.create_experiment(
        services.database,
        request.caller,
        workspace_id=given.workspace_id or DEFAULT_WORKSPACE_ID,
        name=given.name,
        description=given.description or "",
        now_ms=services.clock_ms(),
    )
    return json_reply(_view(made), 201)


@in_v2_words
async def list_experiments(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.ExperimentsQuery)
    sort_key = query.sort_by or "create_time"
    if sort_key not in SORT_KEYS:
        raise errors.SortUnknown(
            f"sort_by is {shown(sort_key)}; it must be one of {', '.join(SORT_KEYS)}."
        )

    def read(connection: Connection) -> tuple[int, list[Experiment]]:
        jobs.check_workspace(connection, request.caller.project_id, query.workspace_id)
        return experiments.page_of_experiments(
            connection,
            request.caller.project_id,
            query.workspace_id,
            sort_key=sort_key,
            is_descending=query.order == "desc",
            offset=query.offset,
            limit=query.limit,
        )

    total, page = await services.database.read(read)
    return json_reply(
        shapes.ExperimentViews(
            total=total,
            count=len(page),
            limit=query.limit,
            offset=query.offset,
            sort_by=sort_key,
            order=query.order,
            items=[_view(one) for one in page],
        )
    )


@in_v2_words
async def show_experiment(services: Services, request: Request) -> Reply:
    found = await operations.get_experiment(services.database, request.caller, request.params[1])
    return json_reply(_view(found))


@in_v2_words
async def update_experiment(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.ExperimentUpdate)
    changed = await operations.update_experiment(
        services.database,
        request.caller,
        request.params[1],
        name=body.name,
        description=body.description,
        now_ms=services.clock_ms(),
    )
    return json_reply(shapes.ChangedExperiment(name=changed.name, description=changed.description))


@in_v2_words
async def delete_experiment(services: Services, request: Request) -> Reply:
    await operations.delete_experiment(services.database, request.caller, request.params[1])
    return Reply(202, b"", [])


@in_v2_words
async def check_name(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.ExperimentNameQuery)

    def read(connection: Connection) -> bool:
        project_id = request.caller.project_id
        jobs.check_workspace(connection, project_id, query.workspace_id)
        found = experiments.find_by_name(
            connection, project_id, query.workspace_id, query.experiment_name
        )
        return found is not None

    return json_reply(TrainingNameCheck(is_duplicate=await services.database.read(read)))


async def used_experiment(
    services: Services, request: Request, metadata: GivenMetadata
) -> UsedExperiment | None:
    """The one that a new job names, which is in the job's workspace; None: it names none.

    Raises:
        ExperimentUnknown: names the field.
    """
    given = metadata.training_experiment_reference
    if given is None or not (given.id or given.name):
        return None
    field = "metadata.training_experiment_reference"
    workspace_id = metadata.workspace_id or DEFAULT_WORKSPACE_ID
    if given.id:
        found = await operations.get_experiment(
            services.database, request.caller, given.id, field=f"{field}.id"
        )
        if found.workspace_id != workspace_id:
            raise errors.ExperimentUnknown(
                f"{field}.id is {shown(given.id)}; that experiment is in the workspace"
                f" {found.workspace_id!r}, the job would be in {workspace_id!r}."
            )
    else:
        assert given.name is not None
        named = await services.database.read(
            experiments.find_by_name, request.caller.project_id, workspace_id, given.name
        )
        if named is None:
            raise errors.ExperimentUnknown(
                f"{field}.name is {shown(given.name)}; workspace {workspace_id!r} has no such"
                " experiment. POST .../training-experiments makes one."
            )
        found = named
    return UsedExperiment(id=found.shown_id, name=found.name)


def _view(experiment: Experiment) -> shapes.ExperimentView:
    return shapes.ExperimentView(
        metadata=shapes.ExperimentMetadata(
            id=experiment.shown_id,
            name=experiment.name,
            description=experiment.description,
            workspace_id=experiment.workspace_id,
            create_time=experiment.created_at_ms,
            update_time=experiment.updated_at_ms,
        ),
        statistic=shapes.ExperimentStatistic(job_count=experiment.job_count),
    )
