"""JSON shapes of the image API. Times are epoch milliseconds; ids are UUIDs."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from muster.domain.image import Arch, ServiceType, Visibility
from muster.wire.training import WorkspaceId

# ------------------------------------------------------------------ requests


class ImageRequest(Struct, kw_only=True):
    """`resource_category` has no plural here, as published."""

    swr_path: str
    arch: Arch | None = None
    description: str | None = None
    origin: Literal["CUSTOMIZE", "IMAGE_SAVE"] | None = None
    resource_category: list[Literal["CPU", "GPU", "ASCEND"]] | None = None
    service_type: ServiceType | None = None
    services: list[str] | None = None
    visibility: Visibility | None = None
    workspace_id: WorkspaceId | None = None


class SavedImageRequest(Struct, kw_only=True):
    """What a notebook is to be saved as: `NAMESPACE/NAME:TAG`."""

    name: str
    namespace: str
    tag: str = "latest"
    description: str | None = None
    workspace_id: WorkspaceId | None = None
    swr_instance_id: str | None = None
    swr_instance_domain: str | None = None


class ImagesQuery(Struct, kw_only=True):
    """`offset` counts rows."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 10
    offset: Annotated[int, Meta(ge=0, le=2**53)] = 0
    name: str = ""
    name_fuzzy_match: bool = False
    namespace: str = ""
    service_type: Literal["", "COMMON", "INFERENCE", "TRAIN", "DEV", "UNKNOWN"] = ""
    sort_dir: Literal["ASC", "DESC", "asc", "desc"] = "DESC"
    sort_key: str = "create_at"
    type: Literal["", "BUILD_IN", "DEDICATED"] = ""
    workspace_id: WorkspaceId = "0"
    show_name: str = ""
    show_tag: str = ""


# ------------------------------------------------------------------ replies


class ImageView(Struct, kw_only=True):
    id: str
    name: str
    namespace: str
    tag: str
    swr_path: str
    arch: str
    description: str
    dev_services: list[str]
    origin: str
    resource_categories: list[str]
    support_res_categories: list[str]
    service_type: str
    size: int = 0
    status: str = "ACTIVE"
    status_message: str = ""
    type: str
    visibility: str
    workspace_id: str
    show_name: str
    show_tag: str
    create_at: int
    update_at: int


class ImageViews(Struct, kw_only=True):
    """A page; `current` counts pages from 0."""

    current: int
    data: list[ImageView]
    pages: int
    size: int
    total: int


class ImageGroupView(Struct, kw_only=True):
    """All images of one name."""

    id: str
    name: str
    namespace: str
    version_count: int
    description: str
    create_at: int
    update_at: int


class ImageGroupViews(Struct, kw_only=True):
    current: int
    data: list[ImageGroupView]
    pages: int
    size: int
    total: int
