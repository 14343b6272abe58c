"""Images: list, group, register, show, delete."""

from collections.abc import Sequence
from itertools import groupby

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.domain.errors import InvalidRequest
from muster.domain.image import (
    IMAGE_SORT_KEYS,
    Arch,
    Image,
    ImageList,
    ServiceType,
    Visibility,
    group_id,
    select_images,
)
from muster.domain.notebook import shown_id
from muster.operations import images as operations
from muster.operations.images import NewImage
from muster.store import jobs
from muster.wire import images as shapes
from muster.wire.decode import decode_body, decode_query
from muster.wire.notebooks import pages_of


async def list_images(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.ImagesQuery)
    total, page = select_images(await _images(services, request, query), _wanted(query))
    return json_reply(
        shapes.ImageViews(
            current=query.offset // query.limit,
            data=[image_view(image) for image in page],
            pages=pages_of(total, query.limit),
            size=len(page),
            total=total,
        )
    )


async def list_image_groups(services: Services, request: Request) -> Reply:
    """One entry a name; it has as many versions as there are tags."""
    query = decode_query(request.query, shapes.ImagesQuery)
    everything = ImageList(
        workspace_id=query.workspace_id,
        name=query.name,
        is_name_part=query.name_fuzzy_match,
        namespace=query.namespace,
        is_built_in=_kind(query),
        sort_key="name",
        is_descending=False,
        limit=2**31,
    )
    _, found = select_images(await _images(services, request, query), everything)
    by_name = sorted(found, key=_group_key)
    project_id = request.caller.project_id
    groups = [_group_view(list(group), project_id) for _, group in groupby(by_name, key=_group_key)]
    page = groups[query.offset : query.offset + query.limit]
    return json_reply(
        shapes.ImageGroupViews(
            current=query.offset // query.limit,
            data=page,
            pages=pages_of(len(groups), query.limit),
            size=len(page),
            total=len(groups),
        )
    )


async def register_image(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body(), shapes.ImageRequest)
    made = await operations.register_image(
        services.notebooks.images,
        request.caller,
        NewImage(
            path=body.swr_path,
            workspace_id=body.workspace_id or "0",
            description=body.description or "",
            arch=body.arch or Arch.X86_64,
            service_type=body.service_type or ServiceType.UNKNOWN,
            resource_categories=tuple(body.resource_category or ("CPU",)),
            visibility=body.visibility or Visibility.PRIVATE,
        ),
        now_ms=services.clock_ms(),
    )
    return json_reply(image_view(made))


async def show_image(services: Services, request: Request) -> Reply:
    return json_reply(image_view(await _named_image(services, request)))


async def delete_image(services: Services, request: Request) -> Reply:
    """`force` would drop it from a registry, too; there is none."""
    uid = _uid(request.params[1])
    deleted = await operations.delete_image(services.notebooks.images, request.caller, uid)
    return json_reply(image_view(deleted))


async def delete_image_group(services: Services, request: Request) -> Reply:
    shelf, uid = services.notebooks.images, _uid(request.params[1])
    await operations.delete_image_group(shelf, request.caller, uid)
    return json_reply({})


async def sync_image(services: Services, request: Request) -> Reply:
    shelf, uid = services.notebooks.images, _uid(request.params[1])
    now_ms = services.clock_ms()
    return json_reply(
        image_view(await operations.sync_image(shelf, request.caller, uid, now_ms=now_ms))
    )


async def _named_image(services: Services, request: Request) -> Image:
    uid = _uid(request.params[1])
    return await operations.get_image(services.notebooks.images, request.caller, uid)


def _uid(shown: str) -> str:
    return shown.replace("-", "").lower()


async def _images(
    services: Services, request: Request, query: shapes.ImagesQuery
) -> Sequence[Image]:
    database, shelf = services.database, services.notebooks.images
    await database.read(jobs.check_workspace, request.caller.project_id, query.workspace_id)
    return await database.read(operations.list_images, shelf, request.caller)


def _wanted(query: shapes.ImagesQuery) -> ImageList:
    if query.sort_key not in IMAGE_SORT_KEYS:
        raise InvalidRequest(
            f"sort_key is {query.sort_key[:60]!r}; it must be one of {', '.join(IMAGE_SORT_KEYS)}."
        )
    return ImageList(
        workspace_id=query.workspace_id,
        name=query.name,
        shown_name=query.show_name,
        is_name_part=query.name_fuzzy_match,
        namespace=query.namespace,
        service_type=query.service_type,
        tag=query.show_tag,
        is_built_in=_kind(query),
        sort_key=query.sort_key,
        is_descending=query.sort_dir.upper() == "DESC",
        offset=query.offset,
        limit=query.limit,
    )


def _kind(query: shapes.ImagesQuery) -> bool | None:
    return query.type == "BUILD_IN" if query.type else None


def _group_key(image: Image) -> tuple[str, str]:
    return image.path.namespace, image.path.name


def _group_view(images: Sequence[Image], project_id: str) -> shapes.ImageGroupView:
    newest = max(images, key=lambda image: (image.updated_at_ms, image.uid))
    return shapes.ImageGroupView(
        id=shown_id(group_id(project_id, newest.path)),
        name=newest.path.name,
        namespace=newest.path.namespace,
        version_count=len(images),
        description=newest.description,
        create_at=min(image.created_at_ms for image in images),
        update_at=newest.updated_at_ms,
    )


def image_view(image: Image) -> shapes.ImageView:
    return shapes.ImageView(
        id=shown_id(image.uid),
        name=image.path.name,
        namespace=image.path.namespace,
        tag=image.path.tag,
        swr_path=str(image.path),
        arch=image.arch,
        description=image.description,
        dev_services=["NOTEBOOK"],
        resource_categories=list(image.resource_categories),
        support_res_categories=list(image.resource_categories),
        service_type=image.service_type,
        type="BUILD_IN" if image.is_built_in else "DEDICATED",
        visibility=image.visibility,
        workspace_id=image.workspace_id,
        origin="IMAGE_SAVE" if image.is_saved else "CUSTOMIZE",
        show_name=image.path.name,
        show_tag=image.path.tag,
        create_at=image.created_at_ms,
        update_at=image.updated_at_ms,
    )
