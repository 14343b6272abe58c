"""Visualization jobs: a TensorBoard over results in a bucket."""

import re
from dataclasses import dataclass
from typing import Final

from muster.domain.errors import FlavorUnknown, InvalidRequest, Unsupported
from muster.domain.flavor import Flavor
from muster.domain.phase import Phase, Reason, view_of
from muster.domain.training import DEFAULT_WORKSPACE_ID, check_description

VISUALIZATIONS_MAX: Final = 1_000  # of one project
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{1,20}")
HOURS_MAX: Final = 24
START_MS_MAX: Final = 1_800_000  # from its first process to its first answer
TENSORBOARD: Final = "tensorboard"
STARTING_STATUS: Final = view_of(Phase.STARTING).v1_status  # it runs, and does not answer yet
GONE_STATUS: Final = view_of(Phase.UNKNOWN).v1_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Visualization:
    """A visualization job, with its latest workload as far as the store has joined it.

    Times are epoch milliseconds. What is said of `train_url`, `flavor_code` and `hours` holds for
    every start.
    """

    id: int = 0
    uid: str  # 32 hex digits; names it in addresses
    project_id: str
    workspace_id: str = DEFAULT_WORKSPACE_ID
    name: str
    description: str = ""
    user_name: str
    train_url: str  # of a folder, with a slash at its end
    flavor_code: str
    hours: int | None = None  # how long it may run; None: until it is stopped
    token: str
    answered: str = ""  # the attempt that has answered
    note: str = ""  # how far its start is, or the end of its log; for people
    is_watched: bool = True  # until its latest start has ended
    created_at_ms: int
    workload_id: int
    revision: int = 0
    phase: Phase | None = None  # of its workload; None: that is gone
    reason: Reason = Reason.NONE
    message: str = ""
    attempt_id: str | None = None
    is_holding: bool = False
    started_at_ms: int | None = None
    ended_at_ms: int | None = None

    @property
    def base_path(self) -> str:
        """Where it answers, below muster's own address; without a slash at the end."""
        return f"/visualizations/{self.uid}"

    @property
    def is_answering(self) -> bool:
        return self.phase is Phase.RUNNING and self.answered == self.attempt_id

    @property
    def status(self) -> int:
        """Its v1 code. It is running once it answers: a page that is opened then is there."""
        if self.phase is None:
            return GONE_STATUS
        if self.phase is Phase.RUNNING and not self.is_answering:
            return STARTING_STATUS
        return view_of(self.phase, self.reason).v1_status

    @property
    def told(self) -> str:
        """Why it waits or has ended, for people: as much as is known."""
        return "\n".join(text for text in (self.message, self.note) if text)

    def duration_ms(self, now_ms: int) -> int:
        """How long it has run since its latest start."""
        if self.started_at_ms is None:
            return 0
        until_ms = now_ms if self.ended_at_ms is None else self.ended_at_ms
        return max(0, until_ms - self.started_at_ms)

    def remaining_ms(self, now_ms: int) -> int | None:
        """How long it may go on; None: as long as it likes, or it does not run."""
        limit_ms = time_limit_ms(self.hours)
        if limit_ms is None or self.phase is not Phase.RUNNING:
            return None
        return max(0, limit_ms - self.duration_ms(now_ms))


def overlap(looked_at: str, written_to: str) -> tuple[str, str] | None:
    """How the folder of a TensorBoard and the one that a job writes to lie in each other.

    Args:
        looked_at: /BUCKET/KEY, as is the next.
        written_to: where the output of a job comes when it ends.

    Returns:
        (what of the output is seen, "" or a path below it; where that shows up, likewise), or None:
        nothing of it is.
    """
    looked_at, written_to = f"{looked_at.rstrip('/')}/", f"{written_to.rstrip('/')}/"
    if written_to.startswith(looked_at):
        return "", written_to.removeprefix(looked_at).rstrip("/")
    if looked_at.startswith(written_to):
        return looked_at.removeprefix(written_to).rstrip("/"), ""
    return None


def time_limit_ms(hours: int | None) -> int | None:
    return None if hours is None else hours * 3_600_000


def check_visualization(visualization: Visualization) -> None:
    """Raise InvalidRequest unless everything that its user says of it is as it may be."""
    if not NAME_PATTERN.fullmatch(visualization.name):
        raise InvalidRequest(
            f"job_name is {visualization.name[:60]!r}; it must be 1 to 20 letters, digits, '_'"
            " and '-'."
        )
    check_description("job_desc", visualization.description)
    hours = visualization.hours
    if hours is not None and not 1 <= hours <= HOURS_MAX:
        raise InvalidRequest(
            f"schedule.duration is {hours}; it must be from 0 to {HOURS_MAX} hours, 0 for no end."
        )


def check_type(job_type: str) -> None:
    if job_type != TENSORBOARD:
        raise Unsupported(
            f"job_type is {job_type[:60]!r}; this server shows results with {TENSORBOARD!r} only."
        )


def choose_flavor(flavors: tuple[Flavor, ...], code: str) -> Flavor:
    """The one of that code; for none the smallest without cards.

    Raises:
        FlavorUnknown: there is no such flavor.
    """
    offered = [flavor for flavor in flavors if not flavor.task.card_count]
    if not code and offered:
        return min(offered, key=lambda flavor: (flavor.task.cpu_millis, flavor.task.memory_mib))
    for flavor in flavors:
        if flavor.code == code:
            return flavor
    raise FlavorUnknown(
        f"flavor.code is {code[:100]!r}; there are {', '.join(flavor.code for flavor in flavors)}."
    )
