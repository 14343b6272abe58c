"""JSON shapes of workspaces, their quotas, permission checks, and authorizations."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from muster.domain.workspace import QUOTA_MAX

AuthTypeName = Literal["PUBLIC", "PRIVATE", "INTERNAL"]
ShortText = Annotated[str, Meta(max_length=64)]


class GrantView(Struct, kw_only=True):
    user_id: ShortText | None = None
    user_name: ShortText | None = None
    user_type: Literal["IAM", "FEDERATE", "AGENCY"] | None = None


class NewWorkspace(Struct, kw_only=True):
    name: str
    description: str | None = None
    enterprise_project_id: ShortText | None = None
    auth_type: AuthTypeName | None = None
    grants: list[GrantView] | None = None


class WorkspaceChange(Struct, kw_only=True):
    """What is absent or null stays as it is."""

    name: str | None = None
    description: str | None = None
    auth_type: AuthTypeName | None = None
    grants: list[GrantView] | None = None


class WorkspaceView(Struct, kw_only=True):
    id: str
    name: str
    description: str
    owner: str
    auth_type: str
    enterprise_project_id: str
    enterprise_project_name: str = ""  # there are none here: the id is kept for its owner
    create_time: int
    update_time: int
    status: str = "NORMAL"  # made and deleted in one step: it is never anything else
    status_info: str = ""
    grants: list[GrantView] | UnsetType = UNSET  # not in lists


class WorkspacesQuery(Struct, kw_only=True):
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0  # a page
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    sort_by: Literal["name", "update_time", "status"] = "name"
    order: Literal["asc", "desc"] = "desc"
    enterprise_project_id: str | None = None
    name: str = ""
    filter_accessible: bool = False


class WorkspaceViews(Struct, kw_only=True):
    total_count: int
    count: int
    workspaces: list[WorkspaceView]


class WorkspaceId(Struct):
    workspace_id: str


class GivenQuota(Struct, kw_only=True):
    resource: str
    quota: Annotated[int, Meta(ge=-1, le=QUOTA_MAX)]


class QuotasChange(Struct):
    quotas: list[GivenQuota]


class QuotaView(Struct, kw_only=True):
    resource: str
    quota: int  # -1: unlimited
    min_quota: int = -1
    max_quota: int = QUOTA_MAX
    name_en: str
    name_cn: str
    unit_en: str
    unit_cn: str
    update_time: int | None
    used_quota: int | UnsetType | None = UNSET  # null where there is no limit; not after a change


class QuotaViews(Struct):
    quotas: list[QuotaView]


class GivenCheck(Struct, kw_only=True):
    action_id: str
    action: str
    resource: str | None = None
    service_attributes: dict[str, str] | None = None


class PermissionChecks(Struct):
    requests: Annotated[list[GivenCheck], Meta(max_length=100)]


class Condition(Struct):
    key: str
    operator: str
    value: list[str]


class Cause(Struct, kw_only=True):
    policy_name: str
    condition: list[Condition]


class Verdict(Struct, kw_only=True):
    action: str
    verdict: Literal["allow", "deny"]
    action_id: str
    resource: str | None
    cause: list[Cause]  # of a refusal


class Verdicts(Struct):
    results: list[Verdict]


# ------------------------------------------------------------------ authorizations


class NewAuthorization(Struct, kw_only=True):
    content: Annotated[str, Meta(min_length=1, max_length=64)]
    type: Literal["agency", "credential"] = "agency"
    user_id: str | None = None
    user_name: ShortText | None = None
    user_type: Literal["iam", "federate", "federation-group", "grant", "all-users"] = "iam"
    secret_key: str | None = None


class AuthorizationsQuery(Struct, kw_only=True):
    sort_by: Literal["user_name", "create_time"] = "user_name"
    order: str = "asc"  # in any case: the documents disagree
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class AuthorizationView(Struct, kw_only=True):
    user_id: str
    type: str
    content: str
    secret_key: str | None = None  # never shown, and never kept
    user_name: str
    user_type: str
    create_time: int


class Authorizations(Struct, kw_only=True):
    total_count: int
    auth: list[AuthorizationView]


class AuthorizationQuery(Struct, kw_only=True):
    user_id: str


class TextResult(Struct):
    result: str = "true"  # text, as clients expect it
