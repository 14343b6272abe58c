"""Notebooks: create, list, show, change, start, stop, delete; leases, flavors, tags."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.images import image_view
from muster.api.notebookviews import (
    Around,
    flavor_views,
    lease_view,
    notebook_view,
    read_around,
)
from muster.api.services import Services
from muster.api.tags import added_tags, combined_reply, removed_tags
from muster.domain.errors import (
    NotebookFlavorInvalid,
    NotebookSortUnknown,
    NotebookTypeInvalid,
    Unsupported,
    VolumeClassInvalid,
)
from muster.domain.flavor import Flavor
from muster.domain.image import ImagePath
from muster.domain.notebook import (
    DURATION_MS_MIN,
    MOUNT_PATH,
    CustomSpec,
    LeaseType,
    Notebook,
    NotebookStatus,
    Volume,
    VolumeCategory,
    billing_items,
    parse_lease_type,
)
from muster.domain.tag import TagChange
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.operations import notebooklife as life
from muster.operations import notebooks as operations
from muster.operations.notebookaccess import get_notebook
from muster.operations.notebooks import NewNotebook, NotebookChange
from muster.operations.notebookstart import fitting_flavors, rooms_of_notebook
from muster.operations.savedimages import NewSavedImage, save_image
from muster.store import jobs, notebooks
from muster.store.connection import Connection
from muster.store.notebooks import SORT_KEYS, NotebookList
from muster.wire import images as image_shapes
from muster.wire import notebooks as shapes
from muster.wire.decode import decode_body, decode_query

_CAPACITY_GB: Final = {VolumeCategory.EVS: 5}  # what it is unless said; of the others, as of EFS


async def create_notebook(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NotebookRequest)
    _refuse_what_is_not_offered(body)
    if not body.flavor and body.custom_spec is None:
        raise NotebookFlavorInvalid(
            "flavor is missing; GET .../notebooks/flavors lists those there are."
        )
    lease = body.lease or shapes.GivenLease()
    given = NewNotebook(
        workspace_id=body.workspace_id or DEFAULT_WORKSPACE_ID,
        name=body.name,
        description=body.description or "",
        feature=body.feature or "NOTEBOOK",
        flavor=body.flavor or "",
        custom_spec=_custom_spec(body.custom_spec),
        image_uid=uid_of(body.image_id),
        pool_id=body.pool_id or "",
        volume=_volume(body.volume),
        volume_field="volume.uri",
        lease_type=parse_lease_type("lease.type", lease.type) if lease.type else LeaseType.TIMING,
        duration_ms=_first(body.duration, lease.duration, DURATION_MS_MIN),
    )
    made = await operations.create_notebook(
        services.notebooks, request.caller, given, now_ms=services.clock_ms()
    )
    return await show(services, request, made)


def uid_of(shown: str) -> str:
    return shown.replace("-", "").lower()


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _refuse_what_is_not_offered(body: shapes.NotebookRequest | shapes.NotebookUpdate) -> None:
    """What would be forgotten silently otherwise."""
    given: dict[str, object] = {
        "hooks": body.hooks,
        "data_volumes": body.data_volumes,
        "affinity": body.affinity,
        "public_network_config": body.public_network_config,
    }
    for endpoint in body.endpoints or ():
        if endpoint.service not in (None, "NOTEBOOK"):
            raise NotebookTypeInvalid(
                f"endpoints has the service {endpoint.service!r}; there is NOTEBOOK only."
            )
        given["endpoints.allowed_access_ips"] = endpoint.allowed_access_ips
    if isinstance(body, shapes.NotebookRequest):
        given |= {
            "run_user": body.run_user,
            "user_vpc": body.user_vpc,
            "volume.dew_secret_name": body.volume.dew_secret_name,
        }
    else:
        given["dew_secret_name"] = body.dew_secret_name
    for name, value in given.items():
        if value and value != shapes.GivenHooks():
            raise Unsupported(
                f"{name} is given; this server has nothing of the kind. Leave it out."
            )


def _custom_spec(given: shapes.GivenCustomSpec | None) -> CustomSpec | None:
    if given is None:
        return None
    return CustomSpec(cpus=given.cpu, memory_mib=given.memory, gpus=given.gpu)


def _volume(given: shapes.GivenVolume) -> Volume:
    try:
        category = VolumeCategory(given.category.upper())
    except ValueError:
        raise VolumeClassInvalid(
            f"volume.category is {given.category[:60]!r}; it must be one of"
            f" {', '.join(VolumeCategory)}."
        ) from None
    if given.ownership.upper() != "MANAGED":
        raise VolumeClassInvalid(
            f"volume.ownership is {given.ownership[:60]!r}; there is MANAGED only."
        )
    if given.read_only:
        raise Unsupported(
            "volume.read_only is true; this server has nothing of the kind. Leave it out."
        )
    mount_path = given.mount_path or MOUNT_PATH
    if mount_path.rstrip("/") != MOUNT_PATH.rstrip("/"):
        raise Unsupported(f"volume.mount_path is {mount_path[:100]!r}; there is {MOUNT_PATH} only.")
    capacity = _first(given.capacity, _CAPACITY_GB.get(category, 50))
    return Volume(category=category, capacity_gb=capacity, uri=given.uri or "")


async def show(services: Services, request: Request, notebook: Notebook) -> Reply:
    around = await services.database.read(
        read_around, services.notebooks, request.caller.project_id
    )
    return json_reply(notebook_view(request, notebook, around))


async def list_own_notebooks(services: Services, request: Request) -> Reply:
    return await _list(services, request, user_id=request.caller.user_id)


async def list_all_notebooks(services: Services, request: Request) -> Reply:
    """Everybody's in the project; those of others without their tokens."""
    return await _list(services, request, user_id="")


async def _list(services: Services, request: Request, *, user_id: str) -> Reply:
    query = decode_query(request.query, shapes.NotebooksQuery)
    wanted = NotebookList(
        project_id=request.caller.project_id,
        workspace_id=query.workspace_id,
        user_id=user_id,
        owner_id=uid_of(query.owner),
        user_name=query.username,
        uid=uid_of(query.id),
        name=query.name,
        description=query.description,
        feature=query.feature,
        flavor_code=query.flavor,
        statuses=_statuses(query),
        tags=_tags(query.tags),
        sort_keys=_sort_keys(query.sort_key),
        is_descending=query.sort_dir.upper() == "DESC",
        offset=query.offset,
        limit=query.limit,
    )
    total, page, around = await services.database.read(_page, services, query, wanted)
    return json_reply(
        shapes.NotebookViews(
            current=query.offset // query.limit,
            data=[notebook_view(request, notebook, around) for notebook in page],
            pages=shapes.pages_of(total, query.limit),
            size=len(page),
            total=total,
        )
    )


def _page(
    connection: Connection, services: Services, query: shapes.NotebooksQuery, wanted: NotebookList
) -> tuple[int, Sequence[Notebook], Around]:
    """(how many match, the page of them, what they are shown with)."""
    jobs.check_workspace(connection, wanted.project_id, wanted.workspace_id)
    around = read_around(connection, services.notebooks, wanted.project_id)
    if query.ip:
        return 0, [], around  # no notebook has one
    if query.image_id or query.swr_path:
        image_uids = {
            uid
            for uid, image in around.images.items()
            if uid_of(query.image_id) in ("", uid) and query.swr_path in ("", str(image.path))
        }
        wanted = replace(wanted, image_uids=frozenset(image_uids))
    if query.pool_id or query.pool_name:
        pool_ids = {
            pool_id
            for pool_id, name in around.pool_names.items()
            if query.pool_id in ("", pool_id) and query.pool_name in ("", name)
        }
        wanted = replace(wanted, pool_ids=frozenset(pool_ids))
    total, page = notebooks.page_of_notebooks(connection, wanted)
    return total, page, around


def _statuses(query: shapes.NotebooksQuery) -> frozenset[str]:
    """One, or several with commas between them; and of those the ones that are billed so."""
    asked = {word.strip().upper() for word in query.status.split(",") if word.strip()}
    for word in sorted(asked - set(NotebookStatus)):
        raise NotebookTypeInvalid(
            f"status is {word[:60]!r}; it must be one of {', '.join(NotebookStatus)}."
        )
    billed = {s for s in NotebookStatus if query.billing in ("", "ALL", *billing_items(s))}
    return frozenset(billed & asked if asked else billed)


def _sort_keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(",") if key.strip()) or ("create_at",)
    for key in keys:
        if key not in SORT_KEYS:
            raise NotebookSortUnknown(
                f"sort_key is {key[:60]!r}; it must be one of {', '.join(SORT_KEYS)}."
            )
    return tuple(dict.fromkeys(keys))


def _tags(text: str) -> Mapping[str, str]:
    """`KEY|VALUE,KEY|VALUE`."""
    found = {}
    for pair in text.split(","):
        key, bar, value = pair.partition("|")
        if pair and not bar:
            raise NotebookTypeInvalid(
                f"tags is {text[:100]!r}; it must be like KEY|VALUE,KEY|VALUE."
            )
        if pair:
            found[key] = value
    return found


async def show_notebook(services: Services, request: Request) -> Reply:
    return await show(services, request, await named_notebook(services, request))


async def named_notebook(services: Services, request: Request) -> Notebook:
    """The one that the path names."""
    return await get_notebook(services.notebooks, request.caller, request.params[1])


async def update_notebook(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.NotebookUpdate)
    _refuse_what_is_not_offered(body)
    change = NotebookChange(
        name=body.name,
        description=body.description,
        flavor=body.flavor,
        custom_spec=_custom_spec(body.custom_spec),
        image_uid=uid_of(body.image_id) if body.image_id else None,
        capacity_gb=body.storage_new_size,
    )
    changed = await operations.update_notebook(
        services.notebooks,
        request.caller,
        request.params[1],
        change,
        now_ms=services.clock_ms(),
    )
    return await show(services, request, changed)


async def start_notebook(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.StartQuery)
    started = await life.start_notebook(
        services.notebooks,
        request.caller,
        request.params[1],
        duration_ms=query.duration,
        lease_type=parse_lease_type("type", query.type) if query.type else None,
        now_ms=services.clock_ms(),
    )
    return await show(services, request, started)


async def stop_notebook(services: Services, request: Request) -> Reply:
    stopped = await life.stop_notebook(
        services.notebooks, request.caller, request.params[1], now_ms=services.clock_ms()
    )
    return await show(services, request, stopped)


async def delete_notebook(services: Services, request: Request) -> Reply:
    deleted = await life.delete_notebook(
        services.notebooks, request.caller, request.params[1], now_ms=services.clock_ms()
    )
    return await show(services, request, deleted)


async def create_image(services: Services, request: Request) -> Reply:
    """Save what is installed in it, for notebooks that are made from that."""
    body = decode_body(await request.body(), image_shapes.SavedImageRequest)
    if body.swr_instance_id or body.swr_instance_domain:
        raise Unsupported(
            "swr_instance_id or swr_instance_domain is given; this server has no registries."
            " Leave them out."
        )
    saved = await save_image(
        services.notebooks,
        request.caller,
        request.params[1],
        NewSavedImage(
            path=ImagePath(namespace=body.namespace, name=body.name, tag=body.tag),
            description=body.description or "",
            workspace_id=body.workspace_id or "",
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(image_view(saved))


async def show_lease(services: Services, request: Request) -> Reply:
    return json_reply(lease_view((await named_notebook(services, request)).lease))


async def renew_lease(services: Services, request: Request) -> Reply:
    """What the query says counts for more than the body: a duration there makes it TIMING."""
    query = decode_query(request.query, shapes.LeaseQuery)
    content = await request.body()
    body = decode_body(content, shapes.GivenLease) if content else shapes.GivenLease()
    lease_type = parse_lease_type("type", body.type) if body.type else None
    renewed = await life.renew_lease(
        services.notebooks,
        request.caller,
        request.params[1],
        duration_ms=body.duration if query.duration is None else query.duration,
        lease_type=lease_type if query.duration is None else LeaseType.TIMING,
        now_ms=services.clock_ms(),
    )
    return json_reply(lease_view(renewed.lease))


# ---------------------------------------------------------------- flavors


async def list_flavors(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.NotebookFlavorsQuery)
    return _flavors(services, query, services.catalogue.flavors)


async def list_switchable_flavors(services: Services, request: Request) -> Reply:
    """Those of which the notebook's pool could hold one."""
    query = decode_query(request.query, shapes.NotebookFlavorsQuery)
    notebook = await named_notebook(services, request)
    rooms = await rooms_of_notebook(services.notebooks, notebook)
    fitting = fitting_flavors(services.catalogue, rooms)
    flavors = [flavor for flavor in services.catalogue.flavors if flavor.code in fitting]
    return _flavors(services, query, flavors)


def _flavors(
    services: Services, query: shapes.NotebookFlavorsQuery, flavors: Sequence[Flavor]
) -> Reply:
    arch = services.notebooks.images.built_in.arch
    views = [
        view
        for view in flavor_views(flavors, arch)
        if query.category in ("", view.category) and query.flavor_type in ("", view.category)
    ]
    key = query.sort_key or "id"
    if key not in _FLAVOR_SORT_KEYS:
        raise NotebookSortUnknown(
            f"sort_key is {key[:60]!r}; it must be one of {', '.join(_FLAVOR_SORT_KEYS)}."
        )
    if query.sort_key:
        views.sort(
            key=lambda view: (getattr(view, key), view.id), reverse=query.sort_dir.upper() == "DESC"
        )
    page = views[query.offset : query.offset + query.limit]
    return json_reply(
        shapes.NotebookFlavorViews(
            current=query.offset // query.limit,
            data=page,
            flavors=page,
            pages=shapes.pages_of(len(views), query.limit),
            size=len(page),
            total=len(views),
        )
    )


_FLAVOR_SORT_KEYS: Final = ("id", "name", "vcpus", "memory", "category")


# ---------------------------------------------------------------- tags


async def list_tags(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.TagsQuery)
    found = await services.database.read(
        notebooks.tags_of_notebooks, request.caller.project_id, query.workspace_id
    )
    return combined_reply((key, value) for key, values in found.items() for value in values)


async def create_tags(services: Services, request: Request) -> Reply:
    return await _tag(services, request, await added_tags(request))


async def delete_tags(services: Services, request: Request) -> Reply:
    return await _tag(services, request, await removed_tags(request))


async def _tag(services: Services, request: Request, change: TagChange) -> Reply:
    await operations.set_tags(
        services.notebooks,
        request.caller,
        request.params[1],
        change,
        now_ms=services.clock_ms(),
    )
    return Reply(204, b"", [])
