"""Algorithms: create, list, show, change, delete."""

import asyncio
from collections.abc import Sequence
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.submission import find_engine
from muster.api.training_v2.views import engine_id_of
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.domain.algorithm import (
    SORT_KEYS,
    Algorithm,
    AlgorithmList,
    AutoSearch,
    DeclaredInput,
    DeclaredParameter,
    EngineName,
    Recipe,
    SearchParameter,
)
from muster.domain.requirement import OPERATOR, Requirement, parse_requirement
from muster.domain.training import DEFAULT_WORKSPACE_ID, Parameter
from muster.objects.store import Files
from muster.operations import algorithms as operations
from muster.store import algorithms, jobs
from muster.store.connection import Connection
from muster.wire import algorithms as shapes
from muster.wire import training_v2 as training_shapes
from muster.wire.decode import decode_body, decode_query, shown

_AI_PROJECT: Final = "default-ai-project"
_SEARCH_KEY: Final = "name"


@in_v2_words
async def create_algorithm(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.AlgorithmRequest)
    _check_ai_project(body.metadata.ai_project)
    made = await operations.create_algorithm(
        services.database,
        services.objects,
        request.caller,
        operations.NewAlgorithm(
            workspace_id=body.metadata.workspace_id or DEFAULT_WORKSPACE_ID,
            name=body.metadata.name,
            description=body.metadata.description or "",
            recipe=_recipe(services, body.job_config),
            requirements=_requirements(body.resource_requirements or ()),
            auto_search=_auto_search(body.advanced_config),
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(await _show(services, made), 201)


@in_v2_words
async def list_algorithms(services: Services, request: Request) -> Reply:
    query = _query(request)
    wanted = AlgorithmList(
        project_id=request.caller.project_id,
        workspace_id=query.workspace_id,
        name=_searched_name(query.searches),
        sort_key=_sort_key("sort_by", query.sort_by or "create_time"),
        group_key=_sort_key("group_by", query.group_by) if query.group_by else "",
        is_descending=query.order == "desc",
        offset=query.offset,
        limit=query.limit,
    )
    total, page, account_id = await services.database.read(_page, wanted)
    runnable = await _runnable(services, page)
    items = [
        _view(one, account_id, is_valid=is_valid)
        for one, is_valid in zip(page, runnable, strict=True)
    ]
    return json_reply(
        shapes.AlgorithmViews(
            total=total,
            count=len(items),
            limit=query.limit,
            offset=query.offset,
            sort_by=wanted.sort_key,
            order=query.order,
            group_by=query.group_by,
            items=items,
        )
    )


@in_v2_words
async def show_algorithm(services: Services, request: Request) -> Reply:
    found = await _find(services, request)
    return json_reply(await _show(services, found))


@in_v2_words
async def update_algorithm(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.AlgorithmUpdate)
    metadata = body.metadata or shapes.ChangedMetadata()
    _check_ai_project(metadata.ai_project)
    found = await _find(services, request)
    given = body.resource_requirements
    changed = await operations.update_algorithm(
        services.database,
        services.objects,
        request.caller,
        found.id,
        operations.AlgorithmChange(
            workspace_id=metadata.workspace_id,
            name=metadata.name,
            description=metadata.description,
            recipe=_recipe(services, body.job_config) if body.job_config else None,
            requirements=None if given is None else _requirements(given),
            auto_search=_auto_search(body.advanced_config),
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(await _show(services, changed), 201)


@in_v2_words
async def delete_algorithm(services: Services, request: Request) -> Reply:
    found = await _find(services, request)
    await operations.delete_algorithm(services.database, request.caller, found.id)
    return Reply(202, b"", [])


async def _find(services: Services, request: Request) -> Algorithm:
    """The one that the path names."""
    return await find_algorithm(services, request, request.params[1], field="algorithm_id")


async def find_algorithm(
    services: Services, request: Request, shown_id: str, *, field: str
) -> Algorithm:
    """By its id with or without hyphens; one where the caller may not enter is not there.

    Raises:
        AlgorithmUnknown: names the field.
    """
    uid = shown_id.replace("-", "").lower()
    found = await services.database.read(algorithms.find_algorithm, request.caller.project_id, uid)
    if found is None or not request.caller.may_enter(found.workspace_id):
        raise algorithms.algorithm_unknown(shown_id, field=field)
    return found


# ---------------------------------------------------------------- requests


def _check_ai_project(name: str | None) -> None:
    if name not in (None, "", _AI_PROJECT):
        raise errors.InvalidRequest(
            f"metadata.ai_project is {shown(name)}; there is {_AI_PROJECT!r} only."
        )


def _recipe(services: Services, given: shapes.GivenJobConfig) -> Recipe:
    engine = given.engine or shapes.GivenAlgorithmEngine()
    customization = given.parameters_customization
    return Recipe(
        code_dir=given.code_dir or "",
        boot_file=given.boot_file or "",
        command=given.command or "",
        image_url=engine.image_url or "",
        engine=None if engine.image_url else _engine(services, engine),
        parameters=tuple(
            DeclaredParameter(
                name=parameter.name,
                value=None
                if parameter.value is None
                else Parameter(label=parameter.name, value=parameter.value).text,
                description=parameter.description,
                constraint=parameter.constraint,
                i18n_description=parameter.i18n_description,
            )
            for parameter in given.parameters or ()
        ),
        inputs=tuple(given.inputs or ()),
        outputs=tuple(given.outputs or ()),
        takes_more_parameters=customization is not False,
    )


def _engine(services: Services, given: shapes.GivenAlgorithmEngine) -> EngineName:
    found = find_engine(
        training_shapes.GivenEngine(
            engine_id=given.engine_id,
            engine_name=given.engine_name,
            engine_version=given.engine_version,
        ),
        services.catalogue,
        field="job_config.engine",
    )
    return EngineName(
        engine_id=engine_id_of(found), engine_name=found.name, engine_version=found.version
    )


def _requirements(given: Sequence[shapes.GivenRequirement]) -> tuple[Requirement, ...]:
    return tuple(
        parse_requirement(
            f"resource_requirements[{index}]",
            key=requirement.key,
            values=tuple(requirement.values or requirement.value or ()),
            operator=requirement.operator or OPERATOR,
        )
        for index, requirement in enumerate(given)
    )


def _auto_search(given: shapes.GivenAdvancedConfig | None) -> AutoSearch | None:
    if given is None or given.auto_search is None:
        return None
    search = given.auto_search
    return AutoSearch(
        skip_search_params=search.skip_search_params,
        reward_attrs=tuple(search.reward_attrs or ()),
        search_params=tuple(search.search_params or ()),
        algo_configs=tuple(search.algo_configs or ()),
    )


def _query(request: Request) -> shapes.AlgorithmsQuery:
    try:
        return decode_query(request.query, shapes.AlgorithmsQuery)
    except errors.InvalidRequest as error:
        raise errors.TrainingQueryInvalid(error.message) from error


def _sort_key(field: str, key: str) -> str:
    if key not in SORT_KEYS:
        raise errors.SortUnknown(
            f"{field} is {shown(key)}; it must be one of {', '.join(SORT_KEYS)}."
        )
    return key


def _searched_name(searches: str) -> str:
    """The part of the name that is looked for: after `name:`, or all of it."""
    key, colon, part = searches.partition(":")
    if colon and key.strip() != _SEARCH_KEY:
        raise errors.SearchKeyUnknown(
            f"searches has the key {shown(key)}; there is {_SEARCH_KEY}, as in name:PART."
        )
    return (part if colon else key).strip()


# ---------------------------------------------------------------- replies


def _page(connection: Connection, query: AlgorithmList) -> tuple[int, list[Algorithm], str]:
    jobs.check_workspace(connection, query.project_id, query.workspace_id)
    total, page = algorithms.page_of_algorithms(connection, query)
    return total, page, algorithms.find_project_account(connection, query.project_id)


async def _runnable(services: Services, page: Sequence[Algorithm]) -> list[bool]:
    """Whether each could be run as it is."""
    engines = {engine_id_of(engine) for engine in services.catalogue.engines}
    has_code = await asyncio.gather(
        *(operations.has_code(services.objects, one.recipe) for one in page)
    )
    return [
        is_there and (one.recipe.engine is None or one.recipe.engine.engine_id in engines)
        for one, is_there in zip(page, has_code, strict=True)
    ]


async def _show(services: Services, algorithm: Algorithm) -> shapes.AlgorithmView:
    """With its code as it is now."""
    account_id = await services.database.read(algorithms.find_project_account, algorithm.project_id)
    [is_valid] = await _runnable(services, [algorithm])
    files = None
    if algorithm.recipe.code_dir:
        files = await operations.find_code(services.objects, algorithm.recipe)
    return _view(algorithm, account_id, is_valid=is_valid, files=files)


def _view(
    algorithm: Algorithm, account_id: str, *, is_valid: bool, files: Files | None = None
) -> shapes.AlgorithmView:
    return shapes.AlgorithmView(
        metadata=shapes.AlgorithmMetadata(
            id=algorithm.shown_id,
            name=algorithm.name,
            description=algorithm.description,
            workspace_id=algorithm.workspace_id,
            user_name=algorithm.creator_name,
            domain_id=account_id,
            is_valid=is_valid,
            tags=[],
            attr_list=[],
            size=algorithm.code_bytes,
            create_time=algorithm.created_at_ms,
            update_time=algorithm.updated_at_ms,
        ),
        job_config=_job_config_view(algorithm.recipe, files),
        resource_requirements=[
            shapes.RequirementView(
                key=requirement.key,
                value=list(requirement.values),
                values=list(requirement.values),
                operator=OPERATOR,
            )
            for requirement in algorithm.requirements
        ],
        advanced_config=shapes.AdvancedConfigView(
            auto_search=_auto_search_view(algorithm.auto_search) if algorithm.auto_search else None
        ),
    )


def _job_config_view(recipe: Recipe, files: Files | None) -> shapes.JobConfigView:
    engine = recipe.engine
    return shapes.JobConfigView(
        code_dir=recipe.code_dir or None,
        boot_file=recipe.boot_file or None,
        command=recipe.command or None,
        parameters=[_declaration_view(parameter) for parameter in recipe.parameters],
        inputs=[_input_view(channel) for channel in recipe.inputs],
        outputs=[
            shapes.OutputView(name=channel.name, description=channel.description or "")
            for channel in recipe.outputs
        ],
        engine=shapes.AlgorithmEngineView(
            engine_id=engine.engine_id,
            engine_name=engine.engine_name,
            engine_version=engine.engine_version,
        )
        if engine
        else shapes.AlgorithmEngineView(image_url=recipe.image_url),
        code_tree=None if files is None else _tree(recipe.code_dir, files),
        parameters_customization=recipe.takes_more_parameters,
    )


def _declaration_view(parameter: DeclaredParameter) -> shapes.DeclarationView:
    rules = parameter.rules
    return shapes.DeclarationView(
        name=parameter.name,
        value=parameter.value or "",
        description=parameter.description or "",
        constraint=shapes.ConstraintView(
            type=rules.type or "String",
            editable=not parameter.is_fixed,
            required=parameter.is_required,
            sensitive=bool(rules.sensitive),
            valid_type=rules.valid_type or "None",
            valid_range=list(rules.valid_range or ()),
        ),
        i18n_description=parameter.i18n_description,
    )


def _input_view(channel: DeclaredInput) -> shapes.InputView:
    return shapes.InputView(
        name=channel.name,
        description=channel.description or "",
        remote_constraints=[
            shapes.RemoteConstraintView(
                data_type=kind.data_type or "", attributes=list(kind.attributes or ())
            )
            for kind in channel.remote_constraints or ()
        ],
    )


def _auto_search_view(search: AutoSearch) -> shapes.AutoSearchView:
    return shapes.AutoSearchView(
        skip_search_params=search.skip_search_params,
        reward_attrs=list(search.reward_attrs or ()),
        search_params=[_search_parameter_view(one) for one in search.search_params or ()],
        algo_configs=list(search.algo_configs or ()),
    )


def _search_parameter_view(parameter: SearchParameter) -> shapes.SearchParameterView:
    values = parameter.discrete_values
    return shapes.SearchParameterView(
        name=parameter.name,
        param_type=parameter.param_type,
        lower_bound=parameter.lower_bound,
        upper_bound=parameter.upper_bound,
        discrete_points_num=parameter.discrete_points_num,
        discrete_values=None if values is None else ",".join(values),
    )


def _tree(code_dir: str, files: Files) -> shapes.CodeTree:
    """The files as folders in folders; both in the order of their names."""
    root = shapes.CodeTree(name=code_dir.rstrip("/").rpartition("/")[2], children=[])
    folders = {"": root}
    for path, _ in files:
        _grow(folders, path)
    return root


def _grow(folders: dict[str, shapes.CodeTree], path: str) -> shapes.CodeTree:
    """Hang a path into its folder, and that into its own."""
    parent, _, name = path.rpartition("/")
    folder = folders.get(parent)
    if folder is None:
        folder = folders[parent] = _grow(folders, parent)
    node = shapes.CodeTree(name=name, children=[])
    folder.children.append(node)
    return node
