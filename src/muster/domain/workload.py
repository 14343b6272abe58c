"""A workload: whatever holds nodes. A training job version, a notebook, a service deployment."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from muster.domain.phase import Phase, Reason, View, view_of
from muster.domain.placement import TaskPlacement
from muster.domain.resources import Resources

PRIORITY_MIN: Final = 1
PRIORITY_MAX: Final = 3


class WorkloadType(StrEnum):
    """What a workload is for. The values are public: they appear in the statistics."""

    TRAIN = "train"
    INFER = "infer"
    NOTEBOOK = "notebook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What placement, the reconciler and the counters need to know of one."""

    id: int
    project_id: str
    pool_id: str
    partition: str
    type: WorkloadType
    task: Resources  # what one task holds
    task_count: int
    priority: int
    phase: Phase
    reason: Reason = Reason.NONE
    message: str = ""
    is_deleted: bool = False
    is_holding: bool = False  # its nodes and cards are its own until this is false again
    attempt_id: str | None = None
    engine_ref: str | None = None
    placements: tuple[TaskPlacement, ...] = ()
    created_at_ms: int = 0
    phase_since_ms: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    revision: int = 0

    @property
    def view(self) -> View:
        return view_of(self.phase, self.reason)

    @property
    def resources(self) -> Resources:
        """What it holds while it holds anything."""
        return self.task * self.task_count
