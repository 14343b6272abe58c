"""What a user may ask of images: look at, register, delete. An image stands for an interpreter."""

import asyncio
import os
import uuid
from dataclasses import dataclass
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
    parse_image_path,
)
from muster.operations.caller import Caller
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
    """Forget the name. The environment stays where it is.

    Raises:
        ImageUnknown: the project has none of that id.
        ImageInUse: a notebook is made from it, or it comes with muster.
    """
    image = await get_image(shelf, caller, uid)
    if image.is_built_in:
        raise ImageInUse(f"Image {uid} ('{image.path}') comes with muster and stays.")
    await shelf.database.write(images.delete_image, image)
    return image


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
