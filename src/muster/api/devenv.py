"""The older notebook API, `demanager/instances`: a second view of the same notebooks."""

from collections.abc import Mapping
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.notebooks import uid_of
from muster.api.notebookviews import Around, read_around
from muster.api.services import Services
from muster.domain.errors import (
    InvalidRequest,
    NotebookTypeInvalid,
    Unsupported,
    VolumeClassInvalid,
)
from muster.domain.image import Image
from muster.domain.notebook import (
    DURATION_MS_MIN,
    MOUNT_PATH,
    LeaseType,
    Notebook,
    NotebookStatus,
    Volume,
    VolumeCategory,
)
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.operations import notebooklife as life
from muster.operations import notebooks as operations
from muster.operations.notebookaccess import get_notebook, may_open
from muster.operations.notebooks import NewNotebook, NotebookChange
from muster.operations.notebookstart import base_path_of
from muster.store import jobs, notebooks
from muster.store.connection import Connection
from muster.store.notebooks import NotebookList
from muster.wire import devenv as shapes
from muster.wire.decode import decode_body, decode_query

_TYPE: Final = "Notebook"
# What was published as environments of this API: here all of them are the one that muster has.
_PROFILES: Final = (
    "Multi-Engine 1.0 (python3)-cpu",
    "Multi-Engine 1.0 (python3)-gpu",
    "Multi-Engine 2.0 (python3)",
)
S = NotebookStatus
# The words of this API, where it has others.
_STATUSES: Final[Mapping[NotebookStatus, str]] = {
    S.INIT: "CREATING",
    S.SNAPSHOTTING: "RUNNING",
    S.ERROR: "UNAVAILABLE",
    S.DELETING: "DELETED",
    S.DELETE_FAILED: "UNAVAILABLE",
    S.FROZEN: "UNAVAILABLE",
}
_WORDS: Final = frozenset(_STATUSES.get(status, status.value) for status in NotebookStatus)
_NEVER: Final = frozenset({"RESTARTING", "RESIZING", "RESIZE_FAILED"})  # known, and of none here


async def create_instance(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.InstanceRequest)
    spec = body.spec or shapes.GivenSpec()
    _refuse_what_is_not_offered(spec)
    lease = spec.auto_stop or shapes.GivenAutoStop()
    around = await services.database.read(
        read_around, services.notebooks, request.caller.project_id
    )
    made = await operations.create_notebook(
        services.notebooks,
        request.caller,
        NewNotebook(
            workspace_id=(body.workspace and body.workspace.id) or DEFAULT_WORKSPACE_ID,
            name=body.name,
            description=body.description or "",
            feature="NOTEBOOK",
            flavor=body.flavor,
            custom_spec=None,
            image_uid=_image_of(body.profile_id, around, services.notebooks.images.built_in),
            pool_id=_pool_of(body.pool, around),
            volume=_volume(spec.storage),
            volume_field="spec.storage.location.path",
            lease_type=LeaseType.TIMING,
            duration_ms=_milliseconds(lease.duration) or DURATION_MS_MIN,
            has_lease=bool(lease.enable),
        ),
        now_ms=services.clock_ms(),
    )
    return await _show(services, request, made)


def _refuse_what_is_not_offered(spec: shapes.GivenSpec) -> None:
    """What would be forgotten silently otherwise."""
    for name in ("extend_storage", "extended_storage", "repository", "custom_script_path"):
        if getattr(spec, name):
            raise Unsupported(
                f"spec.{name} is given; this server has nothing of the kind. Leave it out."
            )


def _milliseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _image_of(profile_id: str, around: Around, built_in: Image) -> str:
    if profile_id in _PROFILES:
        return built_in.uid
    for uid, image in around.images.items():
        if profile_id in (image.path.name, str(image.path)) or uid_of(profile_id) == uid:
            return uid
    known = ", ".join((*_PROFILES, *(str(image.path) for image in around.images.values())))
    raise NotebookTypeInvalid(f"profile_id is {profile_id[:100]!r}; there are {known}.")


def _pool_of(given: shapes.GivenPool | None, around: Around) -> str:
    """By id, or by the name that it is shown with."""
    if given is None:
        return ""
    if not (given.id or given.name):
        # The client drops the id where a type is given with it: that is not the public pool.
        if given.type == "USER_DEFINED":
            raise InvalidRequest(
                f"pool.type is {given.type!r} without an id or a name; give one of them."
            )
        return ""
    if given.id:
        return given.id
    for pool_id, name in around.pool_names.items():
        if name == given.name:
            return pool_id
    raise InvalidRequest(f"pool.name is {given.name!r}; this project has no such pool.")


def _volume(given: shapes.GivenStorage | None) -> Volume:
    given = given or shapes.GivenStorage()
    kind = (given.type or VolumeCategory.EFS).upper()
    if kind not in set(VolumeCategory):
        raise VolumeClassInvalid(
            f"spec.storage.type is {kind.lower()[:60]!r}; it must be one of"
            f" {', '.join(VolumeCategory).lower()}."
        )
    location = given.location or shapes.GivenLocation()
    return Volume(
        category=VolumeCategory(kind),
        capacity_gb=50 if location.volume_size is None else location.volume_size,
        uri=location.path or "",
    )


async def list_instances(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.InstancesQuery)
    if query.de_type not in ("", _TYPE):
        raise NotebookTypeInvalid(f"de_type is {query.de_type[:60]!r}; there is {_TYPE} only.")
    is_own = query.show_self.lower() == "true"
    wanted = NotebookList(
        project_id=request.caller.project_id,
        workspace_id=query.workspace_id,
        user_id=request.caller.user_id if is_own else "",
        pool_ids=frozenset({query.pool_id}) if query.pool_id else None,
        statuses=_statuses(query.status),
        sort_keys=("name",) if query.sortby == "name" else ("create_at",),
        is_descending=query.order == "desc",
        after_uid=uid_of(query.marker),
        offset=query.offset,
        limit=query.limit,
    )
    total, page, around = await services.database.read(_page, services, wanted)
    now_ms = services.clock_ms()
    return json_reply(
        shapes.InstanceViews(
            instances=[_view(request, one, around, now_ms=now_ms) for one in page],
            total_count=total,
        )
    )


def _page(
    connection: Connection, services: Services, wanted: NotebookList
) -> tuple[int, list[Notebook], Around]:
    jobs.check_workspace(connection, wanted.project_id, wanted.workspace_id)
    around = read_around(connection, services.notebooks, wanted.project_id)
    total, page = notebooks.page_of_notebooks(connection, wanted)
    return total, page, around


def _statuses(word: str) -> frozenset[str] | None:
    if not word:
        return None
    if word not in _WORDS | _NEVER:
        raise NotebookTypeInvalid(
            f"status is {word[:60]!r}; it must be one of {', '.join(sorted(_WORDS | _NEVER))}."
        )
    return frozenset(s for s in NotebookStatus if _word_of(s) == word)


def _word_of(status: NotebookStatus) -> str:
    return _STATUSES.get(status, status.value)


async def show_instance(services: Services, request: Request) -> Reply:
    found = await get_notebook(services.notebooks, request.caller, request.params[1])
    return await _show(services, request, found)


async def update_instance(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.InstanceUpdate)
    lease = body.auto_stop or (body.spec and body.spec.auto_stop) or shapes.GivenAutoStop()
    changed = await operations.update_notebook(
        services.notebooks,
        request.caller,
        request.params[1],
        NotebookChange(
            description=body.description,
            has_lease=lease.enable,
            duration_ms=_milliseconds(lease.duration),
        ),
        now_ms=services.clock_ms(),
    )
    return await _show(services, request, changed)


async def act_on_instance(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.ActionRequest)
    act = life.start_notebook if body.action == "start" else life.stop_notebook
    changed = await act(
        services.notebooks, request.caller, request.params[1], now_ms=services.clock_ms()
    )
    return await _show(services, request, changed)


async def delete_instance(services: Services, request: Request) -> Reply:
    deleted = await life.delete_notebook(
        services.notebooks, request.caller, request.params[1], now_ms=services.clock_ms()
    )
    return await _show(services, request, deleted)


async def _show(services: Services, request: Request, notebook: Notebook) -> Reply:
    around = await services.database.read(
        read_around, services.notebooks, request.caller.project_id
    )
    return json_reply(_view(request, notebook, around, now_ms=services.clock_ms()))


def _view(
    request: Request, notebook: Notebook, around: Around, *, now_ms: int
) -> shapes.InstanceView:
    image = around.images[notebook.image_id]
    status = _word_of(notebook.status)
    annotations = {}
    if may_open(request.caller, notebook):
        url = f"{request.base_url}{base_path_of(notebook)}lab"
        annotations = {"url": f"{url}?token={notebook.token}", "token": notebook.token}
    return shapes.InstanceView(
        id=notebook.shown_id,
        name=notebook.name,
        description=notebook.description,
        status=status,
        current_status=status,
        flavor=notebook.flavor_code,
        profile_id=str(image.path),
        profile=shapes.ProfileView(
            id=str(image.path),
            name=image.path.name,
            description=image.description,
            flavor_type=image.resource_categories[0],
        ),
        pool=shapes.NamedView(
            id=notebook.pool_id, name=around.pool_names.get(notebook.pool_id, "")
        ),
        spec=shapes.SpecView(
            annotations=annotations,
            auto_stop=_auto_stop(notebook, now_ms=now_ms),
            storage=shapes.StorageView(
                type=notebook.volume.category.lower(),
                location=shapes.LocationView(
                    path=notebook.volume.uri or MOUNT_PATH, volume_size=notebook.volume.capacity_gb
                ),
            ),
            failed_reasons=shapes.FailedReasons(message=notebook.told) if notebook.told else None,
        ),
        user=shapes.NamedView(id=notebook.user_id, name=notebook.user_name),
        workspace=shapes.NamedView(id=notebook.workspace_id),
        ai_project=shapes.NamedView(id="default-ai-project"),
        creation_timestamp=notebook.created_at_ms,
        latest_update_timestamp=notebook.updated_at_ms,
    )


def _auto_stop(notebook: Notebook, *, now_ms: int) -> shapes.AutoStopView:
    lease = notebook.lease
    ends_at_ms = None
    if notebook.status is NotebookStatus.RUNNING:
        ends_at_ms = lease.ends_at_ms(notebook.last_active_ms)
    return shapes.AutoStopView(
        enable=lease.is_enabled,
        duration=lease.duration_ms // 1000,
        stop_timestamp=ends_at_ms,
        remain_time=None if ends_at_ms is None else max(0, (ends_at_ms - now_ms) // 1000),
    )
