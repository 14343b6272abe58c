"""Who is calling, once it is known, and what that one may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from muster.domain.errors import Forbidden
from muster.domain.permission import PERMISSIONS, Permission, Role, may
from muster.domain.workload import PRIORITY_MAX

_PRIORITISERS = frozenset({Role.ADMINISTRATOR, Role.RESOURCE_MANAGER})


@dataclass(frozen=True, slots=True)
class Caller:
    """A user in one project.

    `workspace_roles` has only the workspaces where the user is something else than in the project,
    None where it may not enter: usually it is empty, and nobody needs to look at workspaces.
    """

    user_id: str
    user_name: str
    project_id: str
    role: Role | None  # None: of no project
    may_prioritise: bool = False
    workspace_roles: Mapping[str, Role | None] = field(default_factory=dict)

    def role_in(self, workspace_id: str) -> Role | None:
        """None: the user may not enter it; it looks as if it were not there."""
        return self.workspace_roles.get(workspace_id, self.role)

    def may_enter(self, workspace_id: str) -> bool:
        return self.role_in(workspace_id) is not None

    def may(self, permission: Permission, workspace_id: str) -> bool:
        return may(self.role_in(workspace_id), permission)

    @property
    def hidden_workspaces(self) -> frozenset[str]:
        """Ids of those that the user may not enter."""
        return frozenset(id_ for id_, role in self.workspace_roles.items() if role is None)


def forbidden(caller: Caller, permission: Permission, role: Role | None, where: str) -> Forbidden:
    """The refusal of somebody in that role: what it lacks, and who has it."""
    able = [str(role) for role in Role if permission in PERMISSIONS[role]]
    who = f"is {role} in {where}" if role is not None else f"has no role in {where}"
    return Forbidden(
        f"User {caller.user_name!r} {who} and lacks the permission {permission}, which"
        f" {' and '.join(able)} have. An administrator can grant it with `muster role set`."
    )


def check_priority(caller: Caller, priority: int, *, workspace_id: str) -> None:
    """Raise Forbidden unless the caller may ask for that priority."""
    if priority < PRIORITY_MAX or caller.may_prioritise:
        return
    role = caller.role_in(workspace_id)
    if role in _PRIORITISERS:
        return
    raise Forbidden(
        f"priority is {priority}; user {caller.user_name!r} is {role} and may ask for at most"
        f" {PRIORITY_MAX - 1} (modelarts:trainJob:setHighPriority). An administrator can grant it"
        " with `muster role set --high-priority`."
    )
