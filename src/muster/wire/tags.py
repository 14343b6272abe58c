"""JSON shapes of tags: of pools, nodes, training jobs and notebooks."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from muster.domain.tag import TagAction
from muster.wire.training import WorkspaceId

PAGE_MAX = 1_000
FILTERS_MAX = 10
VALUES_MAX = 10  # of a filter


class GivenTag(Struct, kw_only=True):
    key: str
    value: str | None = None


class TagsRequest(Struct, kw_only=True):
    tags: Annotated[list[GivenTag], Meta(min_length=1, max_length=100)]


class TagChangeRequest(Struct, kw_only=True):
    action: TagAction
    tags: Annotated[list[GivenTag], Meta(max_length=100)]


class CombinedTagsQuery(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = 200
    offset: Annotated[int, Meta(ge=0, le=2_147_483_647)] = 0


class TagFilter(Struct, kw_only=True):
    """With any of the values; with any value at all where none is given, or only an empty one."""

    key: str
    values: Annotated[list[str], Meta(max_length=VALUES_MAX)] | None = None


class Match(Struct, kw_only=True):
    """A part of the name."""

    key: Literal["resource_name"]
    value: Annotated[str, Meta(min_length=1, max_length=255)]


class TaggedJobsRequest(Struct, kw_only=True):
    workspace_id: WorkspaceId = "0"
    tags: Annotated[list[TagFilter], Meta(max_length=FILTERS_MAX)] | None = None
    without_any_tag: bool = False  # whatever `tags` says
    matches: Annotated[list[Match], Meta(max_length=1)] | None = None


class TaggedJobsQuery(Struct, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_MAX
    offset: Annotated[int, Meta(ge=0, le=2**40)] = 0


class NodeTagsQuery(Struct, kw_only=True):
    pool: str = ""


class TagView(Struct, kw_only=True):
    """Some clients read `value`, others the only one of `values`."""

    key: str
    value: str
    values: list[str]


class TagViews(Struct, kw_only=True):
    tags: list[TagView]


class CombinedTag(Struct, kw_only=True):
    key: str
    values: list[str]


class CombinedTags(Struct, kw_only=True):
    tags: list[CombinedTag]


class PlainTag(Struct, kw_only=True):
    key: str
    value: str


class TaggedJob(Struct, kw_only=True):
    resource_id: str
    resource_name: str
    workspace_id: str
    resource_detail: dict[str, Any]  # empty
    tags: list[PlainTag]


class TaggedJobs(Struct, kw_only=True):
    resources: list[TaggedJob]
    total_count: int


class TaggedJobsCount(Struct, kw_only=True):
    total_count: int
