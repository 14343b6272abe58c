"""Job history made elsewhere: the shape of one ended version, and Slurm's way of telling it.

Source: sacct(1), `--parsable2` and section JOB STATE CODES, Slurm 24.05.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from functools import cache
from typing import Final, NamedTuple

from muster.domain.errors import InvalidRequest
from muster.domain.phase import FINISHED, Phase, Reason, view_of
from muster.domain.pool import NODES_MAX
from muster.domain.training import (
    DEFAULT_WORKSPACE_ID,
    NAME_PATTERN,
    check_description,
    check_name,
)

TEXT_LENGTH_MAX: Final = 256  # of ids, flavors and names that are kept as they came
MESSAGE_LENGTH_MAX: Final = 4_096
CARDS_MAX: Final = 1_000_000
# More than a job may ask for here, as it ran elsewhere; each is a task that an answer may list.
WORKERS_MAX: Final = NODES_MAX
_SHOWN_LENGTH_MAX: Final = 100


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
                f"{shown} is {_shown(text)}; the character NUL (\\u0000) must not be in it."
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


# ------------------------------------------------------------------ Slurm

_NEEDED_COLUMNS: Final = ("JobID", "JobName", "State", "Submit", "End")

# Every state that is final. Slurm's time limit is our time limit: it stops a job.
_SLURM_STATES: Final[Mapping[str, tuple[int, Reason]]] = {
    "COMPLETED": (10, Reason.NONE),
    "FAILED": (11, Reason.TASK_EXIT),
    "OUT_OF_MEMORY": (11, Reason.TASK_SIGNAL),
    "NODE_FAIL": (11, Reason.LOST),
    "BOOT_FAIL": (5, Reason.ENGINE_REFUSED),
    "LAUNCH_FAILED": (5, Reason.ENGINE_REFUSED),
    "RECONFIG_FAIL": (5, Reason.ENGINE_REFUSED),
    "CANCELLED": (12, Reason.STOPPED_BY_USER),
    "PREEMPTED": (12, Reason.NONE),
    "REVOKED": (12, Reason.NONE),
    "TIMEOUT": (12, Reason.AUTO_STOPPED),
    "DEADLINE": (12, Reason.AUTO_STOPPED),
}
_NO_TIME: Final = frozenset({"", "Unknown", "None", "N/A"})
_ELAPSED: Final = re.compile(r"(?:([0-9]+)-)?(?:([0-9]+):)?([0-9]+):([0-9]+)(?:\.[0-9]+)?")
_COUNT: Final = re.compile(r"([0-9]+)(\.50?)?([KMG]?)")
_DIGITS_MAX: Final = 9  # of a number of Slurm's; what is longer is no count and no time
# By 1024 for whatever it counts, and only where no more than a half is left over.
# Source: convert_num_unit2 of Slurm 24.05, as sacct calls it.
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NO_NAME_LETTERS: Final = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_LENGTH_MAX: Final = 64


def is_sacct_header(line: str) -> bool:
    """Whether a file that begins with this line is the output of `sacct --parsable2`."""
    columns = line.rstrip("\r\n").split("|")
    return len(columns) > 1 and "JobID" in columns


def sacct_reader(
    header: str, *, zone: tzinfo | None, now_ms: int
) -> Callable[[str], HistoryRow | None]:
    """Reads the lines after the header. None: a step of a job, which is told by its job.

    Args:
        header: the first line of `sacct --parsable2`.
        zone: of times that name none; None: the one of this machine.
        now_ms: nothing has ended after it.

    Raises:
        InvalidRequest: from the first call, a column is missing that nothing can be told without;
            from the reader, the line cannot be taken.
    """
    columns = header.rstrip("\r\n").split("|")
    missing = [name for name in _NEEDED_COLUMNS if name not in columns]
    if missing:
        raise InvalidRequest(
            f"The header has no {' and no '.join(missing)}; call sacct with --parsable2"
            " --format=JobID,JobName,User,State,ExitCode,Submit,Start,End,Elapsed,Partition,"
            "AllocTRES,NNodes."
        )

    def read(line: str) -> HistoryRow | None:
        cells = line.rstrip("\r\n").split("|")
        if len(cells) == len(columns) + 1 and not cells[-1]:
            cells.pop()  # `--parsable` ends each line with the separator, but not the header
        if len(cells) != len(columns):
            raise InvalidRequest(
                f"The line has {len(cells)} columns, the header {len(columns)}; a '|' in a name"
                " cannot be told from one between columns."
            )
        return _from_sacct(dict(zip(columns, cells, strict=True)), zone=zone, now_ms=now_ms)

    return read


def _from_sacct(cell: Mapping[str, str], *, zone: tzinfo | None, now_ms: int) -> HistoryRow | None:
    if "." in cell["JobID"]:
        return None
    state = cell["State"].split(" ", 1)[0].rstrip("+")
    if state not in _SLURM_STATES:
        raise InvalidRequest(
            f"State is {_shown(cell['State'])}, which is no state of a job that has ended; those"
            f" are {', '.join(_SLURM_STATES)}."
        )
    status, reason = _SLURM_STATES[state]
    submitted = _slurm_time("Submit", cell["Submit"], zone)
    if submitted is None:
        raise InvalidRequest(f"Submit is {_shown(cell['Submit'])}; it must be a time.")
    started, ended = times_of(
        created_ms=submitted,
        started_ms=_slurm_time("Start", cell.get("Start", ""), zone),
        ended_ms=_slurm_time("End", cell["End"], zone),
        # What was suspended in between counts in neither: start and end are the better word.
        duration_ms=None if cell.get("Start") else _slurm_elapsed(cell.get("Elapsed", "")),
    )
    tres = _tres(cell.get("AllocTRES", "") or cell.get("AllocGRES", ""))
    name = slurm_name(cell["JobName"])
    row = HistoryRow(
        # One that was requeued keeps its number, and has other times.
        version_id=f"{cell['JobID']}/{started or 0}",
        job_id="slurm",
        job_name=name,
        description="" if name == cell["JobName"] else cell["JobName"][:TEXT_LENGTH_MAX],
        status=status,
        reason=reason,
        message=_slurm_message(cell),
        created_at_ms=submitted,
        started_at_ms=started,
        ended_at_ms=ended,
        pool_id=cell.get("Partition", "")[:TEXT_LENGTH_MAX],
        pool_name=cell.get("Partition", "")[:TEXT_LENGTH_MAX],
        gpu_count=_cards(tres, ("gpu",)),
        npu_count=_cards(tres, ("npu", "ascend")),
        worker_count=_nodes(cell, tres),
        creator_name=cell.get("User", "")[:TEXT_LENGTH_MAX],
    )
    return check_row(row, now_ms=now_ms)


def slurm_name(name: str) -> str:
    """A name that a job may have here, after one that Slurm lets it have."""
    if NAME_PATTERN.fullmatch(name):
        return name
    return _NO_NAME_LETTERS.sub("-", name)[:_NAME_LENGTH_MAX].strip("-") or "job"


def _slurm_time(column: str, text: str, zone: tzinfo | None) -> int | None:
    if text in _NO_TIME:
        return None
    if text.isascii() and text.isdigit() and len(text) <= len("253402300799"):
        return int(text) * 1000  # SLURM_TIME_FORMAT=%s
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None and zone is not None:
            time = time.replace(tzinfo=zone)
        return round(time.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(
            f"{column} is {_shown(text)}; it must be a time such as 2026-01-31T13:45:00."
        ) from None


def _slurm_elapsed(text: str) -> int | None:
    match = _ELAPSED.fullmatch(text)
    if match is None:
        return None
    parts = [part or "0" for part in match.groups()]
    if max(map(len, parts)) > _DIGITS_MAX:
        raise InvalidRequest(f"Elapsed is {_shown(text)}; it must be a time such as 1-02:03:04.")
    days, hours, minutes, seconds = map(int, parts)
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000


def _tres(text: str) -> Mapping[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: value for name, _, value in pairs}


def _cards(tres: Mapping[str, str], kinds: Sequence[str]) -> int:
    """Slurm tells the sum of a kind, and each model of it besides."""
    count = 0
    for kind in kinds:
        whole = tres.get(f"gres/{kind}")
        models = [value for name, value in tres.items() if name.startswith(f"gres/{kind}:")]
        texts = models if whole is None else [whole]
        count += sum(_slurm_count(f"gres/{kind} of AllocTRES", text) for text in texts)
    return count


def _nodes(cell: Mapping[str, str], tres: Mapping[str, str]) -> int:
    """How many it ran on; 1 for one that was cancelled before it had any."""
    for column in ("NNodes", "AllocNodes"):
        if text := cell.get(column):
            return max(1, _slurm_count(column, text))
    return max(1, _slurm_count("node of AllocTRES", tres.get("node", "1")))


def _slurm_count(column: str, text: str) -> int:
    match = _COUNT.fullmatch(text)
    whole, half, unit = match.groups() if match else ("", None, "")
    if not 0 < len(whole) <= _DIGITS_MAX or (half and not unit):
        raise InvalidRequest(
            f"{column} is {_shown(text)}; it must be a number such as 2, or 2K for 2048. Call"
            " sacct with --noconvert."
        )
    count = int(whole) * _UNITS[unit]
    return count + _UNITS[unit] // 2 if half else count


def _slurm_message(cell: Mapping[str, str]) -> str:
    exit_code = cell.get("ExitCode", "")
    ended = f", exit code {exit_code}" if exit_code not in ("", "0:0") else ""
    return f"Slurm job {cell['JobID']}: {cell['State']}{ended}."


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[:_SHOWN_LENGTH_MAX]}...")
