"""The phases of a workload, the moves between them, and how each API shows them.

The stored truth is (phase, reason). The v1 status code, the v2 phases and the statistics state are
derived from it by `view_of`, here and nowhere else.

Source: the published status tables of the v1 and v2 training APIs and of the workload statistics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from muster.domain.errors import IllegalTransition


class Phase(StrEnum):
    """Where a workload stands. The values are stored; each API shows its own view of them."""

    CREATING = "Creating"  # accepted; not yet handed to the queue
    QUEUED = "Queued"  # in its pool's queue; holds nothing
    STARTING = "Starting"  # holds its nodes; its tasks are not up yet
    RUNNING = "Running"
    TERMINATING = "Terminating"  # stop asked for, not yet confirmed
    TERMINATED = "Terminated"  # stopped on request
    COMPLETED = "Completed"  # every task ended with exit code 0
    FAILED = "Failed"  # the user's program ended badly
    CREATE_FAILED = "CreateFailed"  # the platform could not start it
    STOP_FAILED = "StopFailed"  # the platform could not end it
    LOST = "Lost"  # the engine no longer knows it; it may come back
    UNKNOWN = "Unknown"


class Event(StrEnum):
    """What happened to a workload."""

    ENQUEUED = "Enqueued"  # it stands in its queue
    PLACED = "Placed"  # its nodes and cards are held
    STARTED = "Started"  # its first task is up
    SUCCEEDED = "Succeeded"  # every task ended with exit code 0
    TASK_FAILED = "TaskFailed"  # a task ended badly, and every other one has ended too
    RETRIED = "Retried"  # its attempt has failed, and it may be tried again
    PREEMPTED = "Preempted"  # it was taken off its nodes; it did nothing wrong, and waits again
    STOP_ASKED = "StopAsked"
    STOPPED = "Stopped"  # the stop has reached the last process
    STOP_GIVEN_UP = "StopGivenUp"  # processes are left that cannot be ended
    REFUSED = "Refused"  # it can never start as it was asked for
    VANISHED = "Vanished"  # no trace of its processes is left, and no result
    FOUND = "Found"  # a lost one is there again
    GIVEN_UP = "GivenUp"  # lost for too long, or waiting too long to be tried again
    IMPORTED = "Imported"  # it had ended elsewhere; no move leads there
    REPORTED = "Reported"  # somebody told of a task; it moves nothing


P, E = Phase, Event

# The only place that says which moves exist. The CHECK in the schema, the diagram in
# docs/architecture.md and the tests are all held against this table.
TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = {
    (P.CREATING, E.ENQUEUED): P.QUEUED,
    (P.CREATING, E.REFUSED): P.CREATE_FAILED,
    (P.CREATING, E.STOP_ASKED): P.TERMINATING,
    (P.QUEUED, E.PLACED): P.STARTING,
    (P.QUEUED, E.REFUSED): P.CREATE_FAILED,
    (P.QUEUED, E.STOP_ASKED): P.TERMINATING,
    (P.QUEUED, E.GIVEN_UP): P.FAILED,  # it waited too long to be tried again
    (P.STARTING, E.STARTED): P.RUNNING,
    (P.STARTING, E.REFUSED): P.CREATE_FAILED,
    (P.STARTING, E.STOP_ASKED): P.TERMINATING,
    (P.STARTING, E.VANISHED): P.LOST,
    (P.STARTING, E.PREEMPTED): P.QUEUED,
    (P.RUNNING, E.SUCCEEDED): P.COMPLETED,
    (P.RUNNING, E.TASK_FAILED): P.FAILED,
    (P.RUNNING, E.RETRIED): P.QUEUED,
    (P.RUNNING, E.PREEMPTED): P.QUEUED,
    (P.RUNNING, E.STOP_ASKED): P.TERMINATING,
    (P.RUNNING, E.VANISHED): P.LOST,
    (P.TERMINATING, E.STOPPED): P.TERMINATED,
    (P.TERMINATING, E.SUCCEEDED): P.COMPLETED,  # it finished before the stop reached it
    (P.TERMINATING, E.TASK_FAILED): P.FAILED,  # likewise
    (P.TERMINATING, E.STOP_GIVEN_UP): P.STOP_FAILED,
    (P.LOST, E.FOUND): P.RUNNING,
    (P.LOST, E.GIVEN_UP): P.FAILED,
    (P.LOST, E.RETRIED): P.QUEUED,
}

FINISHED: Final = frozenset(Phase) - {phase for phase, _ in TRANSITIONS}
STOPPABLE: Final = frozenset(phase for phase, event in TRANSITIONS if event is E.STOP_ASKED)


def next_phase(phase: Phase, event: Event) -> Phase:
    """The phase after `event`.

    Raises:
        IllegalTransition: the table has no such move.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(phase, event) from None


class Reason(StrEnum):
    """Why a workload stands where it stands. The values are public; messages may change."""

    NONE = ""
    TASK_EXIT = "TaskExit"  # a task ended with a non-zero exit code
    TASK_SIGNAL = "TaskSignal"  # a task was ended by a signal that muster did not send
    STOPPED_BY_USER = "StoppedByUser"
    DELETED_BY_USER = "DeletedByUser"
    POOL_DELETED = "PoolDeleted"  # the pool it was in
    AUTO_STOPPED = "AutoStopped"  # its time limit was over
    ENGINE_REFUSED = "EngineRefused"  # the engine can never run it as it is
    LOST = "Lost"  # no process and no result
    PREEMPTED = "Preempted"  # the cluster took it off its nodes in favour of another job
    PROCESSES_LEFT = "ProcessesLeft"  # they outlived SIGKILL
    # The rest is never set by muster itself: it keeps the status of history made elsewhere.
    IMAGE_FAILED = "ImageFailed"
    REVIEW_FAILED = "ReviewFailed"
    CANCELED = "Canceled"
    MODEL_SUBMIT_FAILED = "ModelSubmitFailed"
    DEPLOY_FAILED = "DeployFailed"


class StatisticsState(StrEnum):
    """The nine states of the workload statistics, spelled and ordered as they are counted."""

    QUEUE = "Queue"
    PENDING = "Pending"
    ABNORMAL = "Abnormal"
    TERMINATING = "Terminating"
    CREATING = "Creating"
    RUNNING = "Running"
    COMPLETED = "Completed"
    TERMINATED = "Terminated"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class View:
    """How the APIs show one (phase, reason)."""

    v1_status: int
    v2_phase: str
    v2_secondary_phase: str
    statistics: StatisticsState


S = StatisticsState

_VIEW_OF_PHASE: Final[Mapping[Phase, View]] = {
    P.CREATING: View(1, "Creating", "Creating", S.CREATING),
    P.QUEUED: View(7, "Pending", "Queuing", S.QUEUE),
    P.STARTING: View(7, "Pending", "Creating", S.PENDING),
    P.RUNNING: View(8, "Running", "Running", S.RUNNING),
    P.TERMINATING: View(9, "Terminating", "Terminating", S.TERMINATING),
    P.TERMINATED: View(12, "Terminated", "Terminated", S.TERMINATED),
    P.COMPLETED: View(10, "Completed", "Completed", S.COMPLETED),
    P.FAILED: View(11, "Failed", "Failed", S.FAILED),
    P.CREATE_FAILED: View(5, "Abnormal", "CreateFailed", S.ABNORMAL),
    P.STOP_FAILED: View(6, "Abnormal", "TerminatedFailed", S.ABNORMAL),
    P.LOST: View(14, "Abnormal", "Lost", S.ABNORMAL),
    P.UNKNOWN: View(0, "Abnormal", "Unknown", S.ABNORMAL),
}

_VIEW_OF_REASON: Final[Mapping[tuple[Phase, Reason], View]] = {
    (P.CREATE_FAILED, Reason.IMAGE_FAILED): View(3, "Abnormal", "CreateFailed", S.ABNORMAL),
    (P.CREATE_FAILED, Reason.REVIEW_FAILED): View(21, "Abnormal", "CreateFailed", S.ABNORMAL),
    (P.TERMINATED, Reason.CANCELED): View(13, "Terminated", "Terminated", S.TERMINATED),
    (P.FAILED, Reason.MODEL_SUBMIT_FAILED): View(16, "Failed", "Failed", S.FAILED),
    (P.FAILED, Reason.DEPLOY_FAILED): View(17, "Failed", "Failed", S.FAILED),
}


def view_of(phase: Phase, reason: Reason = Reason.NONE) -> View:
    """How the APIs show a workload that stands in `phase` because of `reason`."""
    return _VIEW_OF_REASON.get((phase, reason)) or _VIEW_OF_PHASE[phase]


V1_STATUS_MAX: Final = 21

# The v1 codes of a version that may still change by itself: they count against the job quota.
LIVE_STATUSES: Final = frozenset(
    view_of(phase).v1_status for phase in Phase if phase not in FINISHED
)
