"""A workload: whatever holds nodes. A training job version, a start of a notebook, ..."""

from enum import StrEnum
from typing import Final, NamedTuple

from muster.domain.phase import FINISHED, Phase, Reason, View, view_of
from muster.domain.placement import TaskPlacement
from muster.domain.resources import Resources
from muster.domain.training import DEFAULT_WORKSPACE_ID

PRIORITY_MIN: Final = 1
PRIORITY_MAX: Final = 3


class WorkloadType(StrEnum):
    """What a workload is for. The values are public: they appear in the statistics."""

    TRAIN = "train"
    INFER = "infer"
    NOTEBOOK = "notebook"


class Workload(NamedTuple):
    """What placement, the reconciler and the counters need to know of one.

    A tuple: made and changed in a third of the time, of which every move takes some.
    """

    id: int
    project_id: str
    pool_id: str
    partition: str
    type: WorkloadType
    task: Resources  # what one task holds
    task_count: int
    priority: int
    phase: Phase
    workspace_id: str = DEFAULT_WORKSPACE_ID
    reason: Reason = Reason.NONE
    message: str = ""
    is_deleted: bool = False
    is_holding: bool = False  # its nodes and cards are its own until this is false again
    attempt_id: str | None = None
    engine_ref: str | None = None
    attempt_started_at_ms: int | None = None  # of this attempt; `started_at_ms` is of the first
    placements: tuple[TaskPlacement, ...] = ()
    created_at_ms: int = 0
    phase_since_ms: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    time_limit_ms: int | None = None  # from the first start on
    retries_left: int = 0
    attempt_count: int = 0  # the one that goes on included
    revision: int = 0

    @property
    def view(self) -> View:
        return view_of(self.phase, self.reason)

    @property
    def resources(self) -> Resources:
        """What it holds while it holds anything."""
        return self.task * self.task_count

    @property
    def ends_by_ms(self) -> int | None:
        """When its time limit is over; None before it has started, and without a limit."""
        if self.started_at_ms is None or self.time_limit_ms is None:
            return None
        return self.started_at_ms + self.time_limit_ms

    @property
    def takes_quota(self) -> bool:
        return takes_quota(self.phase, is_holding=self.is_holding)


def turn(workload: Workload) -> tuple[int, int]:
    """Its place among those that wait: priority first, then who came first.

    One that is to be tried again is older than all that came after it: so it stands at the head.
    """
    return (-workload.priority, workload.id)


def takes_quota(phase: Phase, *, is_holding: bool) -> bool:
    """Whether it takes of its workspace's quotas: until nothing of it is left to run."""
    return phase not in FINISHED or is_holding
