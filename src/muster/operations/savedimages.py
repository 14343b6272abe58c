"""Saving a notebook's environment as an image: what its user has installed, as a list.

A notebook that is made from such an image installs what the list says over the environment below,
before its first start. The list is a file of the data folder, written before the image's row and
removed after it: a crash between the two leaves a file that nobody asks for.
"""

import asyncio
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from muster.domain.errors import (
    ImageInvalid,
    MusterError,
    NotebookNotRunning,
    StoreUnavailable,
)
from muster.domain.image import Image, ImagePath, Visibility, check_image, check_saved_path
from muster.domain.notebook import LAYER_FOLDER, NotebookStatus
from muster.domain.package import LIST_BYTES_MAX, PACKAGES_MAX, joined, list_requirements
from muster.domain.permission import Permission
from muster.operations.caller import Caller, forbidden
from muster.operations.images import Images, get_image, list_file
from muster.operations.layers import read_records
from muster.operations.notebookaccess import check_may_change, get_notebook
from muster.operations.notebookstart import Notebooks
from muster.store import images, jobs
from muster.store.transaction import Transaction

_SHOWN_MAX: Final = 10  # packages that an error names


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSavedImage:
    """An image as it is asked for. `workspace_id` "": that of the notebook."""

    path: ImagePath
    description: str
    workspace_id: str = ""


async def save_image(
    desk: Notebooks, caller: Caller, shown: str, given: NewSavedImage, *, now_ms: int
) -> Image:
    """Keep what is installed in a notebook that runs, for others to be made with it.

    Raises:
        NotebookUnknown, Forbidden: nothing was kept; nor by the next ones.
        NotebookNotRunning: it does not run.
        ImageInvalid: names the field; or the packages that cannot be installed elsewhere.
        ImageTaken: the project has an image of that path.
    """
    notebook = await get_notebook(desk, caller, shown)
    check_may_change(caller, notebook)
    if notebook.status is not NotebookStatus.RUNNING:
        raise NotebookNotRunning(
            f"The notebook is {notebook.status}; only one that runs is saved as an image."
        )
    check_saved_path(given.path)
    workspace_id = given.workspace_id or notebook.workspace_id
    if not caller.may_enter(workspace_id):
        raise jobs.workspace_unknown(workspace_id)
    if not caller.may(Permission.NOTEBOOK_WRITE, workspace_id):
        role, where = caller.role_in(workspace_id), f"workspace {workspace_id!r}"
        raise forbidden(caller, Permission.NOTEBOOK_WRITE, role, where)
    below = await get_image(desk.images, caller, notebook.image_id, field="image_id")
    image = replace(
        below,
        uid=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=workspace_id,
        path=given.path,
        # That of muster itself may be another one after an update.
        interpreter="" if below.is_built_in else below.interpreter,
        description=given.description,
        visibility=Visibility.PRIVATE,
        user_name=caller.user_name,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
    check_image(image)
    text = await asyncio.to_thread(_list_packages, desk.folder / notebook.uid / LAYER_FOLDER)
    return await _keep(desk.images, caller, image, text)


async def _keep(shelf: Images, caller: Caller, image: Image, text: str) -> Image:
    def insert(tx: Transaction) -> None:
        jobs.check_workspace(tx.connection, caller.project_id, image.workspace_id)
        images.insert_image(tx, image)

    file = list_file(shelf, image)
    await asyncio.to_thread(_write, file, text)
    try:
        await shelf.database.write(insert)
    except StoreUnavailable:
        raise  # it may have been stored for all that: then its list must be there
    except MusterError:
        await asyncio.to_thread(file.unlink, missing_ok=True)
        raise
    return image


def _write(file: Path, text: str) -> None:
    """Whole, and on the disk, before anything names it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _list_packages(layer: Path) -> str:
    lines, others = list_requirements(read_records(layer))
    if others:
        raise ImageInvalid(
            f"The notebook has packages that no other notebook could install:"
            f" {', '.join(others[:_SHOWN_MAX])}{', ...' if len(others) > _SHOWN_MAX else ''}."
            " Install them from an index, a repository or a URL, or uninstall them."
        )
    text = joined(lines)
    if len(lines) > PACKAGES_MAX or len(text) > LIST_BYTES_MAX:
        raise ImageInvalid(
            f"The notebook has {len(lines)} packages of its own, {len(text)} bytes of list; at most"
            f" {PACKAGES_MAX} and {LIST_BYTES_MAX} bytes are saved."
        )
    return text
