"""Workspaces: who may enter one, as what, and how much its workloads may take."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from muster.domain.errors import (
    InvalidRequest,
    NameTaken,
    QuotaExceeded,
    WorkspaceFixed,
)
from muster.domain.permission import Role
from muster.domain.resources import Resources
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.domain.workload import WorkloadType

DEFAULT_WORKSPACE_NAME: Final = "default"
WORKSPACES_MAX: Final = 500  # of one project
GRANTS_MAX: Final = 200  # of one workspace
NAME_LENGTH_MIN: Final = 4
NAME_LENGTH_MAX: Final = 64
DESCRIPTION_LENGTH_MAX: Final = 256

# Letters, digits, CJK ideographs, '-' and '_'. Other scripts look alike too easily.
_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff-]*")


class AuthType(StrEnum):
    """Who may enter a workspace. The values are public."""

    PUBLIC = "PUBLIC"  # everybody in the project
    PRIVATE = "PRIVATE"  # its owner, and administrators
    INTERNAL = "INTERNAL"  # those, and whom it is granted to


class UserType(StrEnum):
    """What kind of user a grant is for. The values are public."""

    IAM = "IAM"
    FEDERATE = "FEDERATE"
    AGENCY = "AGENCY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One who may enter an INTERNAL workspace: by id, or where that is empty by name."""

    user_id: str = ""
    user_name: str = ""
    user_type: UserType = UserType.IAM

    def is_for(self, user_id: str, user_name: str) -> bool:
        return self.user_id == user_id if self.user_id else self.user_name == user_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A part of a project with its own access and quotas."""

    id: str
    name: str
    description: str = ""
    auth_type: AuthType = AuthType.PUBLIC
    owner_id: str = ""
    owner_name: str = ""
    enterprise_project_id: str = ""
    created_at_ms: int = 0
    updated_at_ms: int = 0
    grants: tuple[Grant, ...] = ()  # kept, but without effect unless it is INTERNAL

    @property
    def is_default(self) -> bool:
        return self.id == DEFAULT_WORKSPACE_ID


def role_in(
    workspace: Workspace, *, user_id: str, user_name: str, project_role: Role, own_role: Role | None
) -> Role | None:
    """What a member of the project is in one of its workspaces; None: it may not enter.

    Args:
        workspace: the one to enter, with its grants.
        user_id: the member's.
        user_name: likewise.
        project_role: what the member is in the project.
        own_role: what somebody has made it in this workspace, in place of that; None: nothing.
    """
    if own_role is not None:
        return own_role
    is_in = (
        workspace.auth_type is AuthType.PUBLIC
        or project_role is Role.ADMINISTRATOR
        or workspace.owner_id == user_id
        or (
            workspace.auth_type is AuthType.INTERNAL
            and any(grant.is_for(user_id, user_name) for grant in workspace.grants)
        )
    )
    return project_role if is_in else None


def check_workspace(workspace: Workspace) -> None:
    """Raise InvalidRequest unless name, description and grants are as they may be."""
    check_name(workspace.name)
    if len(workspace.description) > DESCRIPTION_LENGTH_MAX:
        raise InvalidRequest(
            f"description has {len(workspace.description)} characters; at most"
            f" {DESCRIPTION_LENGTH_MAX} are allowed."
        )
    if len(workspace.grants) > GRANTS_MAX:
        raise InvalidRequest(
            f"grants has {len(workspace.grants)} entries; at most {GRANTS_MAX} are allowed."
        )
    for index, grant in enumerate(workspace.grants):
        if not grant.user_id and not grant.user_name:
            raise InvalidRequest(f"grants[{index}] names nobody; give user_id or user_name.")


def check_name(name: str) -> None:
    if name == DEFAULT_WORKSPACE_NAME:
        raise NameTaken(f"name is {name!r}; that one is the project's default workspace.")
    if not NAME_LENGTH_MIN <= len(name) <= NAME_LENGTH_MAX or not _NAME_PATTERN.fullmatch(name):
        raise InvalidRequest(
            f"name is {name[:100]!r}; it must be {NAME_LENGTH_MIN} to {NAME_LENGTH_MAX} letters,"
            " digits, Chinese characters, '-' and '_'."
        )


def check_is_changeable(workspace: Workspace) -> None:
    if workspace.is_default:
        raise WorkspaceFixed(
            f"workspace_id is {workspace.id!r}; the default workspace cannot be changed or deleted."
        )


# ---------------------------------------------------------------- quotas

UNLIMITED: Final = -1
QUOTA_MAX: Final = 1_000_000_000


class QuotaResource(StrEnum):
    """What a workspace may have only so much of. The values are public."""

    TRAINING_JOBS = "training.jobs"
    TRAINING_GPUS = "training.gpus"
    TRAINING_NPUS = "training.npus"
    TRAINING_CPUS = "training.cpus"
    TRAINING_MEMORY = "training.memory"
    NOTEBOOKS = "devenv.instances"
    SERVICES = "infer.instances"
    POOL_NODES = "pool.nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaDetail:
    """How a quota is shown, and what one of its units is in what is counted."""

    name_en: str
    name_cn: str
    unit_en: str = ""
    unit_cn: str = ""
    type: WorkloadType | None = None  # whose workloads count; None: counted otherwise
    counted_by: str = ""  # a field of Use
    per_unit: int = 1


R = QuotaResource

# The only place that says what there are quotas for.
QUOTAS: Final[Mapping[QuotaResource, QuotaDetail]] = {
    R.TRAINING_JOBS: QuotaDetail(
        name_en="Live training jobs", name_cn="活动训练作业", unit_en="jobs", unit_cn="个",
        type=WorkloadType.TRAIN, counted_by="workload_count",
    ),
    R.TRAINING_GPUS: QuotaDetail(
        name_en="GPUs of training jobs", name_cn="训练作业GPU", unit_en="cards", unit_cn="卡",
        type=WorkloadType.TRAIN, counted_by="gpu_count",
    ),
    R.TRAINING_NPUS: QuotaDetail(
        name_en="NPUs of training jobs", name_cn="训练作业NPU", unit_en="cards", unit_cn="卡",
        type=WorkloadType.TRAIN, counted_by="npu_count",
    ),
    R.TRAINING_CPUS: QuotaDetail(
        name_en="CPUs of training jobs", name_cn="训练作业CPU", unit_en="cores", unit_cn="核",
        type=WorkloadType.TRAIN, counted_by="cpu_millis", per_unit=1000,
    ),
    R.TRAINING_MEMORY: QuotaDetail(
        name_en="Memory of training jobs", name_cn="训练作业内存", unit_en="GiB", unit_cn="GiB",
        type=WorkloadType.TRAIN, counted_by="memory_mib", per_unit=1024,
    ),
    R.NOTEBOOKS: QuotaDetail(
        name_en="Live notebooks", name_cn="活动Notebook", unit_en="instances", unit_cn="个",
        type=WorkloadType.NOTEBOOK, counted_by="workload_count",
    ),
    R.SERVICES: QuotaDetail(
        name_en="Live services", name_cn="活动在线服务", unit_en="instances", unit_cn="个",
        type=WorkloadType.INFER, counted_by="workload_count",
    ),
    R.POOL_NODES: QuotaDetail(
        name_en="Nodes of pools", name_cn="资源池节点", unit_en="nodes", unit_cn="个",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What workloads of one type take of a workspace's quotas."""

    workload_count: int = 0
    cpu_millis: int = 0
    memory_mib: int = 0
    gpu_count: int = 0
    npu_count: int = 0

    @classmethod
    def of(cls, resources: Resources) -> "Use":
        """What one workload takes that holds so much."""
        return cls(
            workload_count=1,
            cpu_millis=resources.cpu_millis,
            memory_mib=resources.memory_mib,
            gpu_count=resources.gpu_count,
            npu_count=resources.npu_count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a workspace may have of one resource, and what it has. `used` may be a fraction."""

    resource: QuotaResource
    quota: int = UNLIMITED
    used: int = 0  # in what is counted: per_unit of them are one unit of the quota
    updated_at_ms: int = 0

    @property
    def is_unlimited(self) -> bool:
        return self.quota == UNLIMITED

    @property
    def shown_used(self) -> int | None:
        """In whole units, rounded up: never less than is used. None where there is no limit."""
        return None if self.is_unlimited else -(-self.used // QUOTAS[self.resource].per_unit)


def check_room(
    workspace_id: str, quotas: Iterable[Quota], asked: Mapping[QuotaResource, int]
) -> None:
    """Raise QuotaExceeded unless everything that is asked for fits into what is left.

    Args:
        workspace_id: for the message.
        quotas: what is limited, with what is used of it.
        asked: by resource, in what is counted.
    """
    for quota in quotas:
        more = asked.get(quota.resource, 0)
        per_unit = QUOTAS[quota.resource].per_unit
        left = quota.quota * per_unit - quota.used
        if quota.is_unlimited or more <= max(0, left) or not more:
            continue
        raise QuotaExceeded(
            f"Workspace {workspace_id!r} may have {quota.quota} of {quota.resource} and has"
            f" {max(0, left) / per_unit:g} left; {more / per_unit:g} more was asked for. Wait"
            " until something ends, ask for less, or have the quota raised."
        )


def limits_of(type_: WorkloadType, quotas: Iterable[Quota]) -> dict[str, int]:
    """The most that workloads of a type may take, in what is counted, by field of `Use`.

    Only what is limited. What keeps within it `check_room` lets pass; else that tells why not.
    """
    details = [(QUOTAS[quota.resource], quota) for quota in quotas if not quota.is_unlimited]
    return {
        detail.counted_by: quota.quota * detail.per_unit
        for detail, quota in details
        if detail.type is type_
    }


def asked_by(type_: WorkloadType, use: Use) -> dict[QuotaResource, int]:
    """What workloads of a type take, by resource, in what is counted."""
    return {
        resource: getattr(use, detail.counted_by)
        for resource, detail in QUOTAS.items()
        if detail.type is type_
    }


# ---------------------------------------------------------------- lists


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceList:
    """What a list of workspaces is asked for."""

    sort_by: str = "name"  # or "update_time", "status"
    is_descending: bool = True
    page: int = 0
    limit: int = 1000
    name: str = ""  # a part of it, in any case
    enterprise_project_id: str | None = None
    hidden: frozenset[str] = field(default_factory=frozenset)  # ids to leave out


def select(
    workspaces: Iterable[Workspace], query: WorkspaceList
) -> tuple[int, Sequence[Workspace]]:
    """(how many match, the page of them). Ties are in the order of their ids."""
    matching = [
        workspace
        for workspace in workspaces
        if query.name.lower() in workspace.name.lower()
        and query.enterprise_project_id in (None, workspace.enterprise_project_id)
        and workspace.id not in query.hidden
    ]
    matching.sort(key=lambda workspace: workspace.id)
    # Every workspace that is there is NORMAL: their order by status is that of their ids.
    if query.sort_by == "name":
        matching.sort(key=lambda workspace: workspace.name, reverse=query.is_descending)
    elif query.sort_by == "update_time":
        matching.sort(key=lambda workspace: workspace.updated_at_ms, reverse=query.is_descending)
    start = query.page * query.limit
    return len(matching), matching[start : start + query.limit]
