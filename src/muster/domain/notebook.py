"""Notebooks: what they are, the states they pass through, and when their lease is over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from muster.domain import errors
from muster.domain.phase import FINISHED, Phase
from muster.domain.pool import public_pool_id
from muster.domain.resources import Resources
from muster.domain.training import DEFAULT_WORKSPACE_ID

NOTEBOOKS_MAX: Final = 1_000  # of one project
ANSWER_MS_MAX: Final = 1_800_000  # from its first process to its first answer
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
DESCRIPTION_LENGTH_MAX: Final = 512
DESCRIPTION_FORBIDDEN: Final = "&<>\"'/"
REASON_LENGTH_MAX: Final = 2_000
DURATION_MS_MIN: Final = 3_600_000
DURATION_MS_MAX: Final = 259_200_000
FILES_FOLDER: Final = "work"  # of what is kept of it: the one that opens
LAYER_FOLDER: Final = "environment"  # likewise: what its user has installed
WRITTEN_FOLDERS: Final = (FILES_FOLDER, "settings", LAYER_FOLDER)  # the rest is the platform's
MOUNT_PATH: Final = "/home/ma-user/work/"  # as published; here it is the folder that opens
CAPACITY_GB_MAX: Final = 4_096
CUSTOM_FLAVOR: Final = "custom.flavor.spec.code"
CUSTOM_CPUS_MIN: Final = 0.4
CUSTOM_MEMORY_MIB_MIN: Final = 513


class NotebookStatus(StrEnum):
    """Where a notebook stands. The values are public."""

    INIT = "INIT"
    CREATING = "CREATING"  # its first start: queued, or coming up
    STARTING = "STARTING"  # a later one
    RUNNING = "RUNNING"  # it answers
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    SNAPSHOTTING = "SNAPSHOTTING"
    CREATE_FAILED = "CREATE_FAILED"
    START_FAILED = "START_FAILED"
    ERROR = "ERROR"  # it ended, or was lost, while it ran
    DELETING = "DELETING"
    DELETE_FAILED = "DELETE_FAILED"
    DELETED = "DELETED"
    FROZEN = "FROZEN"


class NotebookEvent(StrEnum):
    """What happened to a notebook."""

    READY = "Ready"  # it answers for the first time since its start
    FAILED = "Failed"  # it ended before it ever answered, or cannot be deleted
    DIED = "Died"  # it ended by itself, or was lost
    FOUND = "Found"  # a lost one is there again
    STOP_ASKED = "StopAsked"  # by its user, or by its lease
    ENDED = "Ended"  # nothing of it runs any more
    START_ASKED = "StartAsked"
    DELETE_ASKED = "DeleteAsked"


S, E = NotebookStatus, NotebookEvent

# The only place that says which moves exist. A deleted one has no row.
NOTEBOOK_TRANSITIONS: Final[Mapping[tuple[NotebookStatus, NotebookEvent], NotebookStatus]] = {
    (S.CREATING, E.READY): S.RUNNING,
    (S.CREATING, E.FAILED): S.CREATE_FAILED,
    (S.CREATING, E.STOP_ASKED): S.STOPPING,
    (S.STARTING, E.READY): S.RUNNING,
    (S.STARTING, E.FAILED): S.START_FAILED,
    (S.STARTING, E.STOP_ASKED): S.STOPPING,
    (S.RUNNING, E.STOP_ASKED): S.STOPPING,
    (S.RUNNING, E.DIED): S.ERROR,
    (S.ERROR, E.FOUND): S.RUNNING,
    (S.STOPPING, E.ENDED): S.STOPPED,
    (S.STOPPING, E.DIED): S.ERROR,  # processes are left that do not end
    (S.STOPPED, E.START_ASKED): S.STARTING,
    (S.CREATE_FAILED, E.START_ASKED): S.STARTING,
    (S.START_FAILED, E.START_ASKED): S.STARTING,
    (S.ERROR, E.START_ASKED): S.STARTING,
    **{
        (status, E.DELETE_ASKED): S.DELETING
        for status in (
            S.CREATING, S.STARTING, S.RUNNING, S.STOPPING, S.STOPPED, S.CREATE_FAILED,
            S.START_FAILED, S.ERROR, S.DELETE_FAILED,
        )
    },
    (S.DELETING, E.FAILED): S.DELETE_FAILED,
}  # fmt: skip

# Those that the keeper looks after; all others stay as they are until somebody asks.
LIVE: Final = frozenset({S.CREATING, S.STARTING, S.RUNNING, S.STOPPING, S.ERROR, S.DELETING})
COMING_UP: Final = frozenset({S.CREATING, S.STARTING})
STARTABLE: Final = frozenset(s for s, event in NOTEBOOK_TRANSITIONS if event is E.START_ASKED)


def billing_items(status: NotebookStatus) -> tuple[str, ...]:
    """What it would be charged for, in published words: nothing computes for one at rest."""
    return ("COMPUTE", "STORAGE") if status is S.RUNNING else ("STORAGE",)


def next_status(status: NotebookStatus, event: NotebookEvent) -> NotebookStatus:
    """The status after `event`.

    Raises:
        NotebookStateInvalid: the table has no such move; with the API's own code where it has one.
    """
    after = NOTEBOOK_TRANSITIONS.get((status, event))
    if after is not None:
        return after
    refusal = _REFUSALS.get((event, status), errors.NotebookStateInvalid)
    raise refusal(f"The notebook is {status}; it cannot be {_ASKED.get(event, event)} now.")


_ASKED: Final = {
    E.START_ASKED: "started",
    E.STOP_ASKED: "stopped",
    E.DELETE_ASKED: "deleted",
}
_REFUSALS: Final[
    Mapping[tuple[NotebookEvent, NotebookStatus], type[errors.NotebookStateInvalid]]
] = {
    (E.START_ASKED, S.RUNNING): errors.NotebookRunning,
    (E.START_ASKED, S.STARTING): errors.NotebookStarting,
    (E.START_ASKED, S.CREATING): errors.NotebookStarting,
    (E.START_ASKED, S.STOPPING): errors.NotebookStopping,
    (E.STOP_ASKED, S.STOPPED): errors.NotebookStopped,
    (E.STOP_ASKED, S.STOPPING): errors.NotebookStopping,
    (E.STOP_ASKED, S.CREATE_FAILED): errors.NotebookNotRunning,
    (E.STOP_ASKED, S.START_FAILED): errors.NotebookNotRunning,
    (E.STOP_ASKED, S.ERROR): errors.NotebookNotRunning,
}


class LeaseType(StrEnum):
    """What ends a notebook by itself. The values are public."""

    TIMING = "TIMING"  # a time after it came up, or was renewed
    IDLE = "IDLE"  # so long without a request and without a kernel at work


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How long a notebook may run. It begins when the notebook is up, and anew when renewed."""

    type: LeaseType = LeaseType.TIMING
    duration_ms: int = DURATION_MS_MIN
    is_enabled: bool = True
    since_ms: int  # when it began; shown as its create time
    updated_at_ms: int

    def ends_at_ms(self, last_active_ms: int) -> int | None:
        """When it is over, as things are; None: it never is.

        Args:
            last_active_ms: when something was last done in the notebook, as far as is known.
        """
        if not self.is_enabled:
            return None
        is_idle = self.type is LeaseType.IDLE
        return self.duration_ms + (max(self.since_ms, last_active_ms) if is_idle else self.since_ms)


def check_duration(field_name: str, duration_ms: int) -> None:
    if not DURATION_MS_MIN <= duration_ms <= DURATION_MS_MAX:
        raise errors.LeaseInvalid(
            f"{field_name} is {duration_ms}; it must be from {DURATION_MS_MIN} to"
            f" {DURATION_MS_MAX} milliseconds."
        )


def parse_lease_type(field_name: str, text: str) -> LeaseType:
    """In any case: the documents write both."""
    try:
        return LeaseType(text.upper())
    except ValueError:
        raise errors.NotebookTypeInvalid(
            f"{field_name} is {text[:60]!r}; it must be {' or '.join(LeaseType)}."
        ) from None


class VolumeCategory(StrEnum):
    """What a notebook's storage is called. Here each of them is a folder of the data folder.

    That of OBS and OBSFS holds what a folder of a bucket holds, while the notebook runs.
    """

    EFS = "EFS"
    EVS = "EVS"
    SFS = "SFS"
    OBS = "OBS"
    OBSFS = "OBSFS"


IN_BUCKETS: Final = frozenset({VolumeCategory.OBS, VolumeCategory.OBSFS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A notebook's storage: it outlives stops, and goes with the notebook."""

    category: VolumeCategory = VolumeCategory.EFS
    capacity_gb: int = 50  # kept and shown; nothing holds it
    uri: str = ""  # /BUCKET/FOLDER/ of those in buckets


def check_volume_uri(field_name: str, volume: Volume) -> None:
    """Whether one is given just where there has to be one; not yet whether it is there."""
    if volume.category not in IN_BUCKETS:
        return
    if not volume.uri:
        raise errors.VolumePathMissing(
            f"{field_name} is missing; it must be /BUCKET/FOLDER/ or obs://BUCKET/FOLDER/."
        )
    if not volume.uri.endswith("/"):
        raise errors.VolumePathNoFolder(
            f"{field_name} is {volume.uri[:100]!r}; it must be a folder, and end with '/'."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomSpec:
    """What is asked for in place of a flavor, in a dedicated pool."""

    cpus: float
    memory_mib: float
    gpus: float = 0

    @property
    def task(self) -> Resources:
        return Resources(
            cpu_millis=round(self.cpus * 1000),
            memory_mib=round(self.memory_mib),
            gpu_count=int(self.gpus),
        )


def check_custom_spec(spec: CustomSpec) -> None:
    if spec.cpus < CUSTOM_CPUS_MIN:
        raise errors.NotebookFlavorInvalid(
            f"custom_spec.cpu is {spec.cpus:g}; it must be at least {CUSTOM_CPUS_MIN}."
        )
    if spec.memory_mib < CUSTOM_MEMORY_MIB_MIN:
        raise errors.NotebookFlavorInvalid(
            f"custom_spec.memory is {spec.memory_mib:g}; it must be at least"
            f" {CUSTOM_MEMORY_MIB_MIN} (MB)."
        )
    if spec.gpus < 0 or spec.gpus != int(spec.gpus):
        raise errors.NotebookFlavorInvalid(
            f"custom_spec.gpu is {spec.gpus:g}; it must be a whole number, 0 or more: cards are"
            " not shared."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """A development environment, with its latest workload as far as the store has joined it."""

    id: int = 0
    uid: str  # 32 hex digits
    project_id: str
    workspace_id: str = DEFAULT_WORKSPACE_ID
    name: str
    description: str = ""
    feature: str = "NOTEBOOK"
    user_id: str
    user_name: str
    flavor_code: str
    custom_spec: CustomSpec | None = None
    image_id: str
    pool_id: str
    volume: Volume = field(default_factory=Volume)
    token: str
    lease: Lease
    tags: Mapping[str, str] = field(default_factory=dict)
    status: NotebookStatus = NotebookStatus.CREATING
    fail_reason: str = ""
    note: str = ""  # for people: how far its start is, or that it runs and does not answer
    server_version: str = ""  # what answered, once it did
    last_active_ms: int = 0
    created_at_ms: int
    updated_at_ms: int
    workload_id: int
    revision: int = 0
    phase: Phase | None = None  # of its workload; None: that is gone
    phase_message: str = ""
    phase_since_ms: int = 0
    attempt_id: str | None = None
    is_holding: bool = False

    @property
    def shown_id(self) -> str:
        return shown_id(self.uid)

    @property
    def is_in_public_pool(self) -> bool:
        return self.pool_id == public_pool_id(self.project_id)

    @property
    def told(self) -> str:
        """What is the matter with it; "": nothing."""
        return self.fail_reason or (self.note if self.status is NotebookStatus.RUNNING else "")

    @property
    def is_at_rest(self) -> bool:
        """Nothing of its workload runs, or will run, any more."""
        return self.phase is None or (self.phase in FINISHED and not self.is_holding)


def shown_id(uid: str) -> str:
    """As a UUID is written."""
    return f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:]}"


def check_notebook(notebook: Notebook) -> None:
    """Raise InvalidRequest unless everything that its user says of it is as it may be."""
    if not NAME_PATTERN.fullmatch(notebook.name):
        raise errors.NotebookTextInvalid(
            f"name is {notebook.name[:60]!r}; it must be 1 to 128 letters, digits, '_' and '-'."
        )
    text = notebook.description
    if len(text) > DESCRIPTION_LENGTH_MAX:
        raise errors.NotebookTextInvalid(
            f"description has {len(text)} characters; at most {DESCRIPTION_LENGTH_MAX} are allowed."
        )
    wrong = sorted({letter for letter in text if letter in DESCRIPTION_FORBIDDEN or letter == "\0"})
    if wrong:
        raise errors.NotebookTextInvalid(
            f"description holds {', '.join(map(repr, wrong))}; it must be without"
            f" {' '.join(DESCRIPTION_FORBIDDEN)} and NUL."
        )
    if notebook.custom_spec is not None:
        check_custom_spec(notebook.custom_spec)


def check_capacity(field_name: str, capacity_gb: int, *, least: int = 1) -> None:
    if not least <= capacity_gb <= CAPACITY_GB_MAX:
        raise errors.VolumeSizeInvalid(
            f"{field_name} is {capacity_gb}; it must be from {least} to {CAPACITY_GB_MAX} (GB)."
        )


class StepStatus(StrEnum):
    """How far one step of a start is. The values are public."""

    WAITING = "WAITING"
    PROCESSING = "PROCESSING"
    FAILED = "FAILED"
    COMPLETED = "COMPLETED"


STEPS: Final = ("storage", "compute resources", "network", "initialization")


def progress_of(notebook: Notebook) -> tuple[StepStatus, ...]:
    """How far each of STEPS is in the start that goes on, or that was the last."""
    status = notebook.status
    if status in (S.CREATE_FAILED, S.START_FAILED):
        return _steps(done=3 if notebook.attempt_id else 1, then=StepStatus.FAILED)
    if status not in COMING_UP:
        return _steps(done=len(STEPS))
    match notebook.phase:
        case Phase.STARTING:
            return _steps(done=2, then=StepStatus.PROCESSING)
        case Phase.CREATING | Phase.QUEUED | None:
            return _steps(done=1, then=StepStatus.PROCESSING)
        case _:
            return _steps(done=3, then=StepStatus.PROCESSING)


def _steps(*, done: int, then: StepStatus = StepStatus.WAITING) -> tuple[StepStatus, ...]:
    rest = len(STEPS) - done
    return (
        (StepStatus.COMPLETED,) * done + (then,) * (rest > 0) + (StepStatus.WAITING,) * (rest - 1)
    )
