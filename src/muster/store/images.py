"""Registered images in the store. What comes with muster is not here."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from muster.domain.errors import ImageInUse, ImageTaken, ImageUnknown, InvalidRequest
from muster.domain.image import IMAGES_MAX, Arch, Image, ImagePath, ServiceType, Visibility
from muster.store.connection import REFUSED, Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("notebooks")

_CATEGORIES: Final = msgspec.json.Decoder(tuple[str, ...])


def insert_image(tx: Transaction, image: Image) -> None:
    """Store a new one.

    Raises:
        ImageTaken: the project has one of that path.
        InvalidRequest: it has as many as it may have.
    """
    if len(list_images(tx.connection, image.project_id)) >= IMAGES_MAX:
        raise InvalidRequest(
            f"This project has {IMAGES_MAX} images, as many as it may have; delete some first."
        )
    try:
        tx.execute(SQL["insert_image"], _values_of(image))
    except REFUSED as error:
        raise ImageTaken(
            f"swr_path is '{image.path}'; this project has an image of that path."
        ) from error


def delete_image(tx: Transaction, image: Image) -> None:
    """Take it away.

    Raises:
        ImageInUse: a notebook is made from it.
        ImageUnknown: it is gone.
    """
    key = {"project_id": image.project_id, "image_uid": image.uid}
    if tx.execute(SQL["image_is_in_use"], key).fetchone():
        raise ImageInUse(
            f"Image {image.uid} ('{image.path}') is used by a notebook; delete that first, or"
            " give it another image_id."
        )
    key = {"project_id": image.project_id, "uid": image.uid}
    if tx.execute(SQL["delete_image"], key).rowcount == 0:
        raise image_unknown(image.uid)


def update_interpreter(tx: Transaction, image: Image) -> None:
    """Raises ImageUnknown where it is gone."""
    if tx.execute(SQL["update_interpreter"], _values_of(image)).rowcount == 0:
        raise image_unknown(image.uid)


def find_image(connection: Connection, project_id: str, uid: str) -> Image | None:
    row = connection.execute(SQL["find_image"], {"project_id": project_id, "uid": uid}).fetchone()
    return None if row is None else _image(row)


def list_images(connection: Connection, project_id: str) -> list[Image]:
    rows = connection.execute(SQL["list_images"], {"project_id": project_id})
    return [_image(row) for row in rows]


def image_unknown(shown: str, *, field: str = "id") -> ImageUnknown:
    return ImageUnknown(
        f"{field} is {shown[:100]!r}; this project has no such image."
        " GET .../images lists those there are."
    )


def find_workspace_of_image(connection: Connection, project_id: str, uid: str) -> str | None:
    row = connection.execute(
        SQL["find_workspace_of_image"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return row[0] if row else None


def _values_of(image: Image) -> dict[str, Any]:
    return {
        "uid": image.uid,
        "project_id": image.project_id,
        "workspace_id": image.workspace_id,
        "namespace": image.path.namespace,
        "name": image.path.name,
        "tag": image.path.tag,
        "interpreter": image.interpreter,
        "description": image.description,
        "arch": image.arch.value,
        "service_type": image.service_type.value,
        "resource_categories": msgspec.json.encode(image.resource_categories).decode(),
        "visibility": image.visibility.value,
        "user_name": image.user_name,
        "created_at_ms": image.created_at_ms,
        "updated_at_ms": image.updated_at_ms,
    }


def _image(row: Sequence[Any]) -> Image:
    return Image(
        uid=row[0],
        project_id=row[1],
        workspace_id=row[2],
        path=ImagePath(namespace=row[3], name=row[4], tag=row[5]),
        interpreter=row[6],
        description=row[7],
        arch=Arch(row[8]),
        service_type=ServiceType(row[9]),
        resource_categories=_CATEGORIES.decode(row[10]),
        visibility=Visibility(row[11]),
        user_name=row[12],
        created_at_ms=row[13],
        updated_at_ms=row[14],
    )
