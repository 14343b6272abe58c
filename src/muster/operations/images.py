"""What a user may ask of images: look at, register, delete. An image stands for an interpreter."""

import asyncio
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from muster.domain.catalogue import Catalogue
from muster.domain.errors import ImageInUse, ImageInvalid
from muster.domain.image import (
    NAMESPACE,
    Arch,
    Image,
    ImagePath,
    ServiceType,
    Visibility,
    check_image,
    group_id,
    parse_image_path,
)
from muster.domain.permission import Permission
from muster.operations.caller import Caller, forbidden
from muster.store import images, jobs
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What the operations on images work with."""

    database: Database
    catalogue: Catalogue
    built_in: Image
    folder: Path  # where operators put environments; see docs/notebooks.md
    lists: Path  # the packages of each image that was saved from a notebook


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """An image as it is asked for."""

    path: str
    workspace_id: str
    description: str
    arch: Arch
    service_type: ServiceType
    resource_categories: tuple[str, ...]
    visibility: Visibility


async def register_image(shelf: Images, caller: Caller, given: NewImage, *, now_ms: int) -> Image:
    """Keep a name for an environment that is on this server.

    Raises:
        ImageInvalid: there is no such environment; says which there are.
        ImageTaken: the project has one of that path.
    """
    path = parse_image_path(given.path)
    found = await asyncio.to_thread(_find_interpreter, shelf, path)
    image = Image(
        uid=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=given.workspace_id,
        path=path,
        interpreter=str(found),
        description=given.description,
        arch=given.arch,
        service_type=given.service_type,
        resource_categories=given.resource_categories,
        visibility=given.visibility,
        user_name=caller.user_name,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
    check_image(image)

    def insert(tx: Transaction) -> None:
        jobs.check_workspace(tx.connection, caller.project_id, image.workspace_id)
        images.insert_image(tx, image)

    await shelf.database.write(insert)
    return image


async def delete_image(shelf: Images, caller: Caller, uid: str) -> Image:
    """Forget the name, and what was saved under it. An environment stays where it is.

    Raises:
        ImageUnknown: the project has none of that id.
        ImageInUse: a notebook is made from it, or it comes with muster.
    """
    image = await get_image(shelf, caller, uid)
    if image.is_built_in:
        raise ImageInUse(f"Image {uid} ('{image.path}') comes with muster and stays.")
    await shelf.database.write(images.delete_image, image)
    await asyncio.to_thread(list_file(shelf, image).unlink, missing_ok=True)
    return image


async def delete_image_group(shelf: Images, caller: Caller, uid: str) -> None:
    """Forget all tags of one name, or none of them.

    Raises:
        ImageUnknown: the project has no such group where the caller may enter.
        ImageInUse: a notebook is made from one of them, or they come with muster.
        Forbidden: one of them is where the caller may not change any.
    """
    everything = await shelf.database.read(list_images, shelf, caller)
    group = [image for image in everything if group_id(caller.project_id, image.path) == uid]
    if not group:
        raise images.image_unknown(uid)
    for image in group:
        if image.is_built_in:
            raise ImageInUse(f"Image {image.uid} ('{image.path}') comes with muster and stays.")
        if not caller.may(Permission.NOTEBOOK_WRITE, image.workspace_id):
            role, where = caller.role_in(image.workspace_id), f"workspace {image.workspace_id!r}"
            raise forbidden(caller, Permission.NOTEBOOK_WRITE, role, where)

    def delete(tx: Transaction) -> None:
        for image in group:
            images.delete_image(tx, image)

    await shelf.database.write(delete)
    for image in group:
        await asyncio.to_thread(list_file(shelf, image).unlink, missing_ok=True)


async def sync_image(shelf: Images, caller: Caller, uid: str, *, now_ms: int) -> Image:
    """Look again for what it names: an operator may have put it elsewhere.

    Raises:
        ImageUnknown: the project has none of that id.
        ImageInvalid: what it names is not on this server any more; nothing was changed.
    """
    image = await get_image(shelf, caller, uid)
    if image.is_built_in:
        return image
    if image.is_saved:
        await packages_of(shelf, image)
        return image
    found = await asyncio.to_thread(_find_interpreter, shelf, image.path)
    if str(found) == image.interpreter:
        return image
    synced = replace(image, interpreter=str(found), updated_at_ms=now_ms)
    await shelf.database.write(images.update_interpreter, synced)
    return synced


def list_file(shelf: Images, image: Image) -> Path:
    """Where the packages of a saved one stand."""
    return shelf.lists / f"{image.uid}.txt"


async def packages_of(shelf: Images, image: Image) -> str:
    """The list that a notebook's start is told; "": it has nothing besides its environment.

    Raises:
        ImageInvalid: its list is not there any more.
    """
    if not image.is_saved:
        return ""
    try:
        return await asyncio.to_thread(list_file(shelf, image).read_text, encoding="utf-8")
    except FileNotFoundError:
        raise ImageInvalid(
            f"image_id is {image.uid} ('{image.path}'); its list of packages is not in the data"
            " folder any more. Choose another image."
        ) from None


async def get_image(shelf: Images, caller: Caller, uid: str, *, field: str = "id") -> Image:
    """By its id without hyphens; one where the caller may not enter is not there.

    Raises:
        ImageUnknown: names the field.
    """
    if uid == shelf.built_in.uid:
        return shelf.built_in
    found = await shelf.database.read(images.find_image, caller.project_id, uid)
    if found is None or not caller.may_enter(found.workspace_id):
        raise images.image_unknown(uid, field=field)
    return found


def check_image_stays(connection: Connection, image: Image) -> None:
    """In the transaction that makes a notebook from it: it may have been deleted meanwhile.

    Raises:
        ImageUnknown: it is gone.
    """
    if image.is_built_in:
        return
    if images.find_image(connection, image.project_id, image.uid) is None:
        raise images.image_unknown(image.uid, field="image_id")


def list_images(connection: Connection, shelf: Images, caller: Caller) -> list[Image]:
    """What comes with muster, and what is registered where the caller may enter."""
    registered = images.list_images(connection, caller.project_id)
    return [shelf.built_in, *(one for one in registered if caller.may_enter(one.workspace_id))]


def _find_interpreter(shelf: Images, path: ImagePath) -> Path:
    """An AI engine of the inventory, or an environment in the operator's folder. Blocks."""
    offered = _offered(shelf)
    found = offered.get(str(path))
    if found is None:
        there = ", ".join(sorted(offered)) or "none"
        raise ImageInvalid(
            f"swr_path is '{path}'; this server runs no images, but environments that are on it."
            f" There are: {there}. An operator adds one to the inventory as an engine, or as the"
            f" folder {shelf.folder}/NAME-TAG with bin/python in it."
        )
    return found


def _offered(shelf: Images) -> dict[str, Path]:
    """Interpreters by the path of the image that stands for them. Lists a folder, so it blocks."""
    found: dict[str, Path] = {}
    for engine in shelf.catalogue.engines:
        path = f"{NAMESPACE}/{engine.name}:{engine.version}".lower().replace(" ", "-")
        found[path] = engine.interpreter
    if shelf.folder.is_dir():
        for folder in sorted(shelf.folder.iterdir()):
            name, dash, tag = folder.name.rpartition("-")
            interpreter = folder / "bin" / "python"
            if dash and name and os.access(interpreter, os.X_OK):
                found[f"{NAMESPACE}/{name}:{tag}".lower()] = interpreter
    return found
