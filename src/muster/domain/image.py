"""Images: here, environments that notebooks run in. One comes with muster, others are registered.

Nothing is pulled or unpacked: the path `local/NAME:TAG` of an image stands for an interpreter on
this server that has JupyterLab. An image of another namespace was saved from a notebook: it is an
interpreter, too, and a list of packages that are installed over it.
"""

import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from muster.domain.errors import ImageInvalid, InvalidRequest
from muster.domain.training import DEFAULT_WORKSPACE_ID

IMAGES_MAX: Final = 500  # of one project
CATEGORIES_MAX: Final = 20
DESCRIPTION_LENGTH_MAX: Final = 512
NAMESPACE: Final = "local"  # of everything that is on this server
BUILT_IN_NAME: Final = "jupyterlab"

_PATH: Final = re.compile(
    r"(?P<namespace>[a-z0-9._-]{1,512})/(?P<name>[a-z0-9._-]{1,512}):(?P<tag>[A-Za-z0-9._-]{1,64})"
)
_IDS: Final = uuid.UUID("6f1a8c56-0d1b-4c43-9a55-3f2f5a9f7f01")  # of what comes with muster


class Arch(StrEnum):
    X86_64 = "X86_64"
    AARCH64 = "AARCH64"


class Visibility(StrEnum):
    PRIVATE = "PRIVATE"
    PUBLIC = "PUBLIC"


class ServiceType(StrEnum):
    COMMON = "COMMON"
    INFERENCE = "INFERENCE"
    TRAIN = "TRAIN"
    DEV = "DEV"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePath:
    """What the published API calls `swr_path`."""

    namespace: str
    name: str
    tag: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}:{self.tag}"


def parse_image_path(text: str) -> ImagePath:
    """Raises ImageInvalid unless it is like `local/NAME:TAG`."""
    match = _PATH.fullmatch(text)
    if match is None or ".." in text:
        raise ImageInvalid(
            f"swr_path is {text[:100]!r}; it must be like {NAMESPACE}/NAME:TAG, of letters,"
            " digits, '.', '_' and '-'."
        )
    return ImagePath(**match.groupdict())


def check_saved_path(path: ImagePath) -> None:
    """Raises ImageInvalid, naming the field, unless an image may be saved under it."""
    for field, pattern, text in (
        ("namespace", "[a-z0-9._-]{1,512}", path.namespace),
        ("name", "[a-z0-9._-]{1,512}", path.name),
        ("tag", "[A-Za-z0-9._-]{1,64}", path.tag),
    ):
        if not re.fullmatch(pattern, text) or ".." in text:
            raise ImageInvalid(f"{field} is {text[:100]!r}; it must match {pattern}, without '..'.")
    if path.namespace == NAMESPACE:
        raise ImageInvalid(
            f"namespace is {NAMESPACE!r}, which names what is on this server; give another one."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An environment for notebooks."""

    uid: str  # 32 hex digits
    project_id: str = ""  # "": it comes with muster, for every project
    workspace_id: str = DEFAULT_WORKSPACE_ID
    path: ImagePath
    interpreter: str  # "": that of what comes with muster, or made at its first use
    description: str = ""
    arch: Arch = Arch.X86_64
    service_type: ServiceType = ServiceType.DEV
    resource_categories: tuple[str, ...] = ("CPU", "GPU")
    visibility: Visibility = Visibility.PUBLIC
    user_name: str = ""
    created_at_ms: int = 0
    updated_at_ms: int = 0

    @property
    def is_built_in(self) -> bool:
        return not self.project_id

    @property
    def is_saved(self) -> bool:
        """Whether it has a list of packages besides."""
        return self.path.namespace != NAMESPACE


def built_in_image(version: str, arch: Arch, *, interpreter: str) -> Image:
    """JupyterLab. Its id stays the same whatever its version: notebooks name it.

    Args:
        version: of JupyterLab.
        arch: of this server.
        interpreter: "": muster has to make one.
    """
    return Image(
        uid=uuid.uuid5(_IDS, BUILT_IN_NAME).hex,
        path=ImagePath(namespace=NAMESPACE, name=BUILT_IN_NAME, tag=version),
        interpreter=interpreter,
        description="JupyterLab with a Python kernel",
        arch=arch,
        resource_categories=("CPU", "GPU", "ASCEND"),
    )


def check_image(image: Image) -> None:
    if len(image.description) > DESCRIPTION_LENGTH_MAX or "\0" in image.description:
        raise InvalidRequest(
            f"description has {len(image.description)} characters; at most"
            f" {DESCRIPTION_LENGTH_MAX} are allowed, without NUL."
        )
    if len(image.resource_categories) > CATEGORIES_MAX:
        raise InvalidRequest(
            f"resource_category has {len(image.resource_categories)} entries; at most"
            f" {CATEGORIES_MAX} are allowed."
        )


def group_id(project_id: str, path: ImagePath) -> str:
    """Of all tags of one name: it stays the same whichever of them come and go."""
    return uuid.uuid5(_IDS, f"{project_id}/{path.namespace}/{path.name}").hex


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageList:
    """What a list of images, or of their names, is asked for. None: no such filter."""

    workspace_id: str | None = None
    name: str = ""
    is_name_part: bool = False  # `name` is a part of it, in any case
    shown_name: str = ""  # another filter of the name
    namespace: str = ""
    service_type: str = ""
    tag: str = ""
    is_built_in: bool | None = None
    sort_key: str = "create_at"
    is_descending: bool = True
    offset: int = 0
    limit: int = 10


def select_images(images: Iterable[Image], query: ImageList) -> tuple[int, Sequence[Image]]:
    """(how many match, the page of them). Ties are in the order of their ids."""
    part = query.name.lower()

    def matches(image: Image) -> bool:
        name = image.path.name
        is_named = part in name.lower() if query.is_name_part else query.name in ("", name)
        return (
            is_named
            and query.shown_name in ("", name)
            and query.namespace in ("", image.path.namespace)
            and query.tag in ("", image.path.tag)
            and query.service_type in ("", image.service_type)
            and query.is_built_in in (None, image.is_built_in)
            and (image.is_built_in or query.workspace_id in (None, image.workspace_id))
        )

    found = sorted((image for image in images if matches(image)), key=lambda image: image.uid)
    found.sort(key=_SORT_KEYS[query.sort_key], reverse=query.is_descending)
    return len(found), found[query.offset : query.offset + query.limit]


def _by_creation(image: Image) -> tuple[int, str]:
    return image.created_at_ms, ""


def _by_update(image: Image) -> tuple[int, str]:
    return image.updated_at_ms, ""


def _by_name(image: Image) -> tuple[int, str]:
    return 0, image.path.name


def _by_tag(image: Image) -> tuple[int, str]:
    return 0, image.path.tag


_SORT_KEYS: Final = {
    "create_at": _by_creation,
    "update_at": _by_update,
    "name": _by_name,
    "tag": _by_tag,
}
IMAGE_SORT_KEYS: Final = tuple(_SORT_KEYS)
