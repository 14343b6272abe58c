"""Job history as Slurm tells it: the lines of `sacct --parsable2`.

Source: sacct(1), `--parsable2` and section JOB STATE CODES, Slurm 24.05.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Final

from muster.domain.errors import InvalidRequest
from muster.domain.history import TEXT_LENGTH_MAX, HistoryRow, check_row, quoted, times_of
from muster.domain.phase import Reason
from muster.domain.training import NAME_PATTERN

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
    "REQUEUED": (12, Reason.NONE),  # what it was requeued from; its next run has a line of its own
    "REVOKED": (12, Reason.NONE),
    "TIMEOUT": (12, Reason.AUTO_STOPPED),
    "DEADLINE": (12, Reason.AUTO_STOPPED),
}
_NO_TIME: Final = frozenset({"", "Unknown", "None", "N/A"})
_ELAPSED: Final = re.compile(r"(?:([0-9]+)-)?(?:([0-9]+):)?([0-9]+):([0-9]+)(?:\.[0-9]+)?")
_COUNT: Final = re.compile(r"([0-9]+)(\.50?)?([KMG]?)")
_EPOCH: Final = re.compile(r"[0-9]{9,12}")  # since 1973; of fewer digits, it is a date
_DIGITS_MAX: Final = 9  # of a number of Slurm's; what is longer is no count and no time
# By 1024 for whatever it counts, and only where no more than a half is left over.
# Source: convert_num_unit2 of Slurm 24.05, as sacct calls it.
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_NO_NAME_LETTERS: Final = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_LENGTH_MAX: Final = 64


def is_sacct_header(line: str) -> bool:
    """Whether a file that begins with this line is the output of `sacct --parsable2`.

    Raises:
        InvalidRequest: it is, but without its header.
    """
    columns = line.rstrip("\r\n").split("|")
    if len(columns) < len(_NEEDED_COLUMNS) or line.lstrip().startswith("{"):
        return False
    if "JobID" not in columns:
        raise InvalidRequest(
            "The first line has columns, but no JobID among them: the output of sacct must begin"
            " with its header. Call it without --noheader."
        )
    return True


def sacct_reader(
    header: str, *, zone: tzinfo | None, now_ms: int
) -> Callable[[str], HistoryRow | None]:
    """Reads the lines after the header. None: nothing to take, as a step is told by its job.

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
        if cells == columns:
            return None  # of another call, whose output follows in the same file
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
            f"State is {quoted(cell['State'])}, which is no state of a job that has ended; those"
            f" are {', '.join(_SLURM_STATES)}."
        )
    status, reason = _SLURM_STATES[state]
    submitted, started, ended = _slurm_times(cell, zone=zone, now_ms=now_ms)
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


def _slurm_times(
    cell: Mapping[str, str], *, zone: tzinfo | None, now_ms: int
) -> tuple[int, int | None, int]:
    """(submitted, started, ended) of one that has ended.

    Raises:
        InvalidRequest: in the words of sacct's columns.
    """
    submitted = _slurm_time("Submit", cell["Submit"], zone)
    if submitted is None:
        raise InvalidRequest(f"Submit is {quoted(cell['Submit'])}; it must be a time.")
    elapsed = _slurm_elapsed(cell.get("Elapsed", ""))
    started = _slurm_time("Start", cell.get("Start", ""), zone, not_before=submitted)
    begun = submitted if started is None else started + (elapsed or 0)
    ended = _slurm_time("End", cell["End"], zone, not_before=begun)
    _check_ascending(cell, {"Submit": submitted, "Start": started, "End": ended})
    if ended is not None and ended > now_ms:
        raise InvalidRequest(
            f"End is {quoted(cell['End'])}, which lies ahead of this machine's clock. Where these"
            " times are another zone's, --timezone names it."
        )
    started, ended = times_of(
        created_ms=submitted,
        started_ms=started,
        ended_ms=ended,
        # What was suspended in between counts in neither: start and end are the better word.
        duration_ms=None if cell.get("Start") else elapsed,
    )
    return submitted, started, ended


def _check_ascending(cell: Mapping[str, str], times: Mapping[str, int | None]) -> None:
    known = [(column, time) for column, time in times.items() if time is not None]
    for (earlier, before), (later, after) in pairwise(known):
        if after < before:
            raise InvalidRequest(
                f"{later} is {quoted(cell[later])}, before {earlier}, {quoted(cell[earlier])}."
            )


def _slurm_time(
    column: str, text: str, zone: tzinfo | None, *, not_before: int | None = None
) -> int | None:
    """Where clocks were set back, a time of day comes twice: the one that is not before another."""
    if text in _NO_TIME:
        return None
    if _EPOCH.fullmatch(text):
        return int(text) * 1000  # SLURM_TIME_FORMAT=%s
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None and zone is not None:
            time = time.replace(tzinfo=zone)
        first, second = (round(time.replace(fold=fold).timestamp() * 1000) for fold in (0, 1))
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(
            f"{column} is {quoted(text)}; it must be a time such as 2026-01-31T13:45:00."
        ) from None
    return second if not_before is not None and first < not_before <= second else first


def _slurm_elapsed(text: str) -> int | None:
    match = _ELAPSED.fullmatch(text)
    if match is None:
        return None
    parts = [part or "0" for part in match.groups()]
    if max(map(len, parts)) > _DIGITS_MAX:
        raise InvalidRequest(f"Elapsed is {quoted(text)}; it must be a time such as 1-02:03:04.")
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
            f"{column} is {quoted(text)}; it must be a number such as 2, or 2K for 2048. Call"
            " sacct with --noconvert."
        )
    count = int(whole) * _UNITS[unit]
    return count + _UNITS[unit] // 2 if half else count


def _slurm_message(cell: Mapping[str, str]) -> str:
    exit_code = cell.get("ExitCode", "")
    ended = f", exit code {exit_code}" if exit_code not in ("", "0:0") else ""
    return f"Slurm job {cell['JobID']}: {cell['State']}{ended}."
