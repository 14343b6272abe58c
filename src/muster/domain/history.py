"""Job history made elsewhere: the shape of one version that has ended."""

from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

from muster.domain.errors import InvalidRequest
from muster.domain.phase import FINISHED, Phase, Reason, view_of
from muster.domain.pool import NODES_MAX
from muster.domain.training import DEFAULT_WORKSPACE_ID, check_description, check_name

TEXT_LENGTH_MAX: Final = 256  # of ids, flavors and names that are kept as they came
MESSAGE_LENGTH_MAX: Final = 4_096
CARDS_MAX: Final = 1_000_000
# More than a job may ask for here, as it ran elsewhere; each is a task that an answer may list.
WORKERS_MAX: Final = NODES_MAX
_QUOTED_LENGTH_MAX: Final = 100


def _ended_statuses() -> Mapping[int, tuple[Phase, Reason]]:
    """What to store so that the code of an ended version reads back as it was."""
    found: dict[int, tuple[Phase, Reason]] = {}
    for reason in Reason:
        for phase in sorted(FINISHED):
            found.setdefault(view_of(phase, reason).v1_status, (phase, reason))
    return dict(sorted(found.items()))


ENDED: Final = _ended_statuses()


class HistoryRow(NamedTuple):
    """One version that has ended, as its history tells it. Times are epoch milliseconds.

    A tuple, as millions of them are made: one costs a third of a frozen dataclass.
    """

    version_id: str  # the source's own, as are the ids of its job and its pool
    job_name: str
    status: int
    created_at_ms: int
    ended_at_ms: int
    started_at_ms: int | None = None  # None: it never ran
    job_id: str = ""  # "": versions of one name are of one job
    job_description: str = ""
    description: str = ""
    workspace_id: str = DEFAULT_WORKSPACE_ID
    reason: Reason = Reason.NONE  # for the codes that do not tell it by themselves
    message: str = ""
    pool_id: str = ""  # "" is the public pool
    pool_name: str = ""  # tried where no pool has that id
    flavor_code: str = ""
    gpu_count: int = 0  # over all workers
    npu_count: int = 0
    worker_count: int = 1
    creator_name: str = ""  # "": whoever moves it in
    uid: str = ""  # of the workload; "" or taken: it gets a new one
    number: int | None = None  # within its job; None: the next one
    job_created_at_ms: int | None = None  # None: with the first version that comes in

    @property
    def source_job(self) -> str:
        """What tells its job from every other job of every history."""
        return f"{self.job_id}:{self.job_name}"

    @property
    def source(self) -> str:
        """What tells it from every other version; the time, as two clouds may use the same ids."""
        return f"{self.source_job}/{self.version_id}/{self.created_at_ms}"

    @property
    def duration_ms(self) -> int:
        return 0 if self.started_at_ms is None else self.ended_at_ms - self.started_at_ms


@cache
def ending_of(status: int, reason: Reason) -> tuple[Phase, Reason]:
    """The stored truth that shows this status. A reason that would show another one is dropped."""
    phase, usual = ENDED[status]
    fits = view_of(phase, reason).v1_status == status
    return phase, reason if fits else usual


def check_row(row: HistoryRow, *, now_ms: int) -> HistoryRow:
    """The row, if nothing in it is impossible.

    Raises:
        InvalidRequest: names the field, what was given, and what is allowed.
    """
    if row.status not in ENDED:
        raise InvalidRequest(
            f"status is {row.status}, which is not the code of a version that has ended;"
            f" those are {', '.join(map(str, ENDED))}."
        )
    check_name("job_name", row.job_name)
    check_description("job_desc", row.job_description)
    check_description("version_desc", row.description)
    _check_texts(row)
    _check_times(row, now_ms)
    if not 1 <= row.worker_count <= WORKERS_MAX:
        raise InvalidRequest(
            f"worker_server_num is {row.worker_count}; it must be from 1 to {WORKERS_MAX}."
        )
    for name, count in (("gpu_num", row.gpu_count), ("npu_num", row.npu_count)):
        if not 0 <= count <= CARDS_MAX:
            raise InvalidRequest(f"{name} is {count}; it must be from 0 to {CARDS_MAX}.")
    if len(row.message) > MESSAGE_LENGTH_MAX:
        return row._replace(message=row.message[:MESSAGE_LENGTH_MAX])
    return row


_TEXTS: Final = {  # what a text that is kept as it came is called in a line
    "version_id": "version_id",
    "job_id": "job_id",
    "job_description": "job_desc",
    "description": "version_desc",
    "workspace_id": "workspace_id",
    "message": "status_message",
    "pool_id": "pool_id",
    "pool_name": "pool_name",
    "flavor_code": "flavor_code",
    "creator_name": "user_name",
}


def _check_texts(row: HistoryRow) -> None:
    """PostgreSQL keeps no NUL, and SQLite's own functions end a text at the first one."""
    # All at once: there are millions of rows, and hardly ever a NUL.
    if "\0" not in "".join(
        (row.version_id, row.job_id, row.job_description, row.description, row.workspace_id,
         row.message, row.pool_id, row.pool_name, row.flavor_code, row.creator_name)
    ):  # fmt: skip
        return
    for name, shown in _TEXTS.items():
        if "\0" in (text := getattr(row, name)):
            raise InvalidRequest(
                f"{shown} is {quoted(text)}; the character NUL (\\u0000) must not be in it."
            )


def _check_times(row: HistoryRow, now_ms: int) -> None:
    if row.created_at_ms < 0:
        raise InvalidRequest(f"create_time is {row.created_at_ms}; it must be 0 or more.")
    begun_ms = row.created_at_ms if row.started_at_ms is None else row.started_at_ms
    if begun_ms < row.created_at_ms:
        raise InvalidRequest(f"start_time is {begun_ms}, before create_time, {row.created_at_ms}.")
    if row.ended_at_ms < begun_ms:
        before = "create_time" if row.started_at_ms is None else "start_time"
        raise InvalidRequest(f"end_time is {row.ended_at_ms}, before {before}, {begun_ms}.")
    if row.ended_at_ms > now_ms:
        # A job made later would have to be given a time after it: lists go by both.
        raise InvalidRequest(
            f"end_time is {row.ended_at_ms}, after this machine's time, {now_ms}; what has ended"
            " cannot lie ahead."
        )
    if row.job_created_at_ms is not None and not 0 <= row.job_created_at_ms <= row.created_at_ms:
        raise InvalidRequest(
            f"job_create_time is {row.job_created_at_ms}; it must be from 0 to create_time,"
            f" {row.created_at_ms}."
        )


def times_of(
    *, created_ms: int, started_ms: int | None, ended_ms: int | None, duration_ms: int | None
) -> tuple[int | None, int]:
    """(start, end) of an ended version; what one field does not say, the others may.

    Raises:
        InvalidRequest: they contradict one another, or do not tell the end.
    """
    if started_ms is not None and ended_ms is not None:
        if duration_ms is not None and duration_ms != ended_ms - started_ms >= 0:
            raise InvalidRequest(
                f"duration is {duration_ms}; from start_time to end_time it is"
                f" {ended_ms - started_ms}. Leave one of the three out."
            )
        return started_ms, ended_ms
    if not duration_ms:
        # It never ran, or for no time at all.
        if started_ms is not None and duration_ms is None:
            raise InvalidRequest(
                "end_time is missing; with start_time, end_time or duration must be there."
            )
        end = ended_ms if ended_ms is not None else started_ms
        return started_ms, created_ms if end is None else end
    if started_ms is not None:
        return started_ms, started_ms + duration_ms
    if ended_ms is not None:
        return ended_ms - duration_ms, ended_ms
    raise InvalidRequest(
        f"duration is {duration_ms}, and neither start_time nor end_time says when that was."
    )


def quoted(text: str) -> str:
    """As a message quotes what was given."""
    return repr(text if len(text) <= _QUOTED_LENGTH_MAX else f"{text[:_QUOTED_LENGTH_MAX]}...")
