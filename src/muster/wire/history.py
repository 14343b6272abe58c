"""Job history as JSON lines: the fields of the versions list, and what else there is to keep."""

import re
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from muster.domain.errors import InvalidRequest, MusterError
from muster.domain.history import TEXT_LENGTH_MAX, HistoryRow, check_row, times_of
from muster.domain.phase import Reason
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.wire.decode import decode_body

LINE_BYTES_MAX: Final = 256 << 10  # a row has a few hundred bytes

# SQLite has no larger numbers, and neither have the APIs.
_TIME_MS_MAX: Final = 253_402_300_799_999
Milliseconds = Annotated[int, Meta(ge=0, le=_TIME_MS_MAX)]
Number = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Text = Annotated[str, Meta(max_length=TEXT_LENGTH_MAX)]
VERSION_NUMBER_MAX: Final = 1_000_000_000
Id = Annotated[int, Meta(ge=0)] | Text


class HistoryLine(Struct, kw_only=True, omit_defaults=True):
    """One version that has ended. The first twelve fields are those of the versions list."""

    version_id: Id
    version_name: str | None = None  # the name of the job, as in the versions list
    status: int
    create_time: Milliseconds
    start_time: Milliseconds | None = None  # null or 0: it never ran
    end_time: Milliseconds | None = None
    duration: Milliseconds | None = None
    version_desc: str | None = None
    pool_id: Text | None = None  # null: the public pool
    flavor_code: Text | None = None
    npu_num: Number | None = None  # over all workers
    gpu_num: Number | None = None
    job_id: Id | None = None  # absent: versions of one name are of one job
    job_name: str | None = None
    job_desc: str | None = None
    workspace_id: Text | None = None
    # Not in the versions list; `muster export` writes them, and nobody needs to.
    job_create_time: Milliseconds | None = None
    version_number: Annotated[int, Meta(ge=1, le=VERSION_NUMBER_MAX)] | None = None
    worker_server_num: Number | None = None
    pool_name: Text | None = None
    user_name: Text | None = None
    training_job_id: UUID | None = None  # as the v2 API names it
    status_reason: Reason | None = None
    status_message: str | None = None


class RefusedLine(Struct, kw_only=True):
    line: int  # of the request, from 1
    error_code: str
    error_msg: str


class HistoryImport(Struct, kw_only=True):
    """What became of the lines. Blank ones are none of the three."""

    imported: int
    present: int  # they came in earlier
    refused: list[RefusedLine]


class HistoryQuery(Struct, kw_only=True):
    pool_as_public: bool = False  # what ran in a pool that is not here goes to the public one


_DECODER: Final = msgspec.json.Decoder(HistoryLine, strict=False)
_ENCODER: Final = msgspec.json.Encoder()


def decode_line(line: bytes, *, now_ms: int) -> HistoryRow:
    """One line of history, checked.

    Raises:
        InvalidRequest: it cannot be taken; names the field, what was given, and what is allowed.
    """
    if len(line) > LINE_BYTES_MAX:
        raise InvalidRequest(
            f"The line has more than {LINE_BYTES_MAX} bytes; a version has a few hundred."
        )
    try:
        decoded = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = _explained(line)
    return check_row(_row_of(decoded), now_ms=now_ms)


def _explained(line: bytes) -> HistoryLine:
    """What does not fit is told in the words of every other body."""
    try:
        return decode_body(line, HistoryLine)
    except MusterError as error:
        raise InvalidRequest(error.message.replace("The body", "The line", 1)) from error


def _row_of(line: HistoryLine) -> HistoryRow:
    name = line.version_name if line.job_name is None else line.job_name
    if name is None:
        raise InvalidRequest("job_name is missing; so is version_name, which may tell it too.")
    started_ms, ended_ms = times_of(
        created_ms=line.create_time,
        started_ms=line.start_time or None,
        ended_ms=line.end_time or None,
        duration_ms=line.duration,
    )
    # One that is missing is told by the other; one that is empty is empty.
    version_text = line.job_desc if line.version_desc is None else line.version_desc
    job_text = line.version_desc if line.job_desc is None else line.job_desc
    return HistoryRow(
        version_id=str(line.version_id),
        job_id="" if line.job_id is None else str(line.job_id),
        job_name=name,
        job_description=job_text or "",
        description=version_text or "",
        workspace_id=line.workspace_id or DEFAULT_WORKSPACE_ID,
        status=line.status,
        reason=line.status_reason or Reason.NONE,
        message=line.status_message or "",
        created_at_ms=line.create_time,
        started_at_ms=started_ms,
        ended_at_ms=ended_ms,
        pool_id=line.pool_id or "",
        pool_name=line.pool_name or "",
        flavor_code=line.flavor_code or "",
        gpu_count=line.gpu_num or 0,
        npu_count=line.npu_num or 0,
        worker_count=line.worker_server_num or 1,
        creator_name=line.user_name or "",
        uid=line.training_job_id.hex if line.training_job_id else "",
        number=line.version_number,
        job_created_at_ms=line.job_create_time,
    )


def encode_line(row: HistoryRow) -> bytes:
    """A row as the line that `decode_line` makes it from, with its end."""
    # The version after the last number has one more: without it, it is the next one there too.
    number = None if row.number is None or row.number > VERSION_NUMBER_MAX else row.number
    line = HistoryLine(
        version_id=_id(row.version_id),
        version_name=row.job_name,
        status=row.status,
        create_time=row.created_at_ms,
        start_time=row.started_at_ms,
        end_time=row.ended_at_ms,
        duration=row.duration_ms,
        version_desc=row.description or None,
        pool_id=row.pool_id or None,
        flavor_code=row.flavor_code,
        npu_num=row.npu_count,
        gpu_num=row.gpu_count,
        job_id=_id(row.job_id) if row.job_id else None,
        job_name=row.job_name,
        job_desc=row.job_description,
        workspace_id=row.workspace_id,
        job_create_time=row.job_created_at_ms,
        version_number=number,
        worker_server_num=row.worker_count,
        pool_name=row.pool_name or None,
        user_name=row.creator_name or None,
        training_job_id=UUID(row.uid) if row.uid else None,
        status_reason=row.reason or None,
        status_message=row.message or None,
    )
    return _ENCODER.encode(line) + b"\n"


_NUMBER_ID: Final = re.compile(r"0|[1-9][0-9]{0,17}")


def _id(text: str) -> int | str:
    """Our own are numbers. Only what reads back as this very text: others are told apart by it."""
    return int(text) if _NUMBER_ID.fullmatch(text) else text


# ------------------------------------------------------------------ between two readings

_PACKER: Final = msgspec.msgpack.Encoder()
_UNPACKER: Final = msgspec.msgpack.Decoder(HistoryRow)


def pack_row(row: HistoryRow) -> bytes:
    """A row for one process to read again, at a third of what its line costs."""
    return _PACKER.encode(row)


def unpack_row(packed: bytes) -> HistoryRow:
    return _UNPACKER.decode(packed)
