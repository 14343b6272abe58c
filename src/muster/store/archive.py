"""What is packed away of workloads that ended long ago, and how it is read again.

The narrow columns that lists, totals and counters read stay in their tables: what those cost does
not grow with their number. What is bulky and read of one workload at a time becomes one packed row.
"""

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from muster.store.connection import Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("archive")

FORMAT: Final = 1  # the first byte of a packed body; names its dictionary, too
EMPTY_RUN: Final = ""  # what stands in place of a packed run

# What bodies of format 1 have in common; the most frequent last, as zlib has it. Never change it:
# what was packed with it is read with it. Another one is another format.
_DICTIONARY: Final = (
    b"TaskSignalAutoStoppedPoolDeletedLostVanishedFoundGivenUpRefusedEngineRefusedCreateFailed"
    b"StopGivenUpStopFailedCanceledImportedRetried"
    b'["StopAsked","Running","Terminating","StoppedByUser","","admin",'
    b'["Stopped","Terminating","Terminated","StoppedByUser","","muster",5]'
    b'["TaskFailed","Running","Failed","TaskExit","Task 0 ended with exit code 1.","muster",4]'
    b'"algorithm":{"id":"","name":"","auto_stop":{"time_unit":"HOURS","duration":'
    b'"annotations":{"fault-tolerance/job-retry-num":"environments":{"'
    b'"inputs":[{"name":"","url":"/","description":"","access_method":"parameter"}],"outputs":['
    b'[["/usr/bin/python3/.venv/bin/python0123456789abcdef'
    b'[{"index":0,"node_name":"","card_kind":"npu","cards":["card_kind":"gpu","cards":[0,1,2,3]}'
    b',{"index":1,"node_name":"[{"index":0,"node_name":"","card_kind":null,"cards":[]}]'
    b'[{"job_name":"","interpreter":"/usr/bin/python3","code":"","boot_file":"train.py",'
    b'"parameters":[],"data_url":"/","train_url":"/","log_url":"/","data_url":null,'
    b'"train_url":null,"log_url":null,"user_image_url":null,"user_command":null,'
    b'"has_volumes":false,"inputs":[],"outputs":[],"environments":{}},'
    b'{"worker_server_num":1,"app_url":"/code/","boot_file_url":"/code//train.py",'
    b'"engine_id":null,"model_id":null,"user_image_url":null,"user_command":null,"spec_id":1,'
    b'"pool_id":null,"parameter":[{"label":"","value":""}],"parameter":null,"data_url":null,'
    b'"dataset_id":null,"dataset_version_id":null,"data_source":null,"train_url":"/",'
    b'"train_url":null,"log_url":null,"volumes":null,"inputs":null,"outputs":null,'
    b'"environments":null,"priority":null,"annotations":null,"auto_stop":null,'
    b'"elastic_flavor":null,"algorithm":null},'
    b'[[1700000000000,"Enqueued","Creating","Queued","","","muster",1],'
    b'[17,"Placed","Queued","Starting","","","muster",2],'
    b'[17,"Started","Starting","Running","","","muster",3],'
    b'[17,"Succeeded","Running","Completed","","","muster",4]],[]]'
)
_LEVEL: Final = 9

# As their tables have them, without the workload.
EventRow = tuple[int, str, str, str, str, str, str, int]
AttemptRow = tuple[int, str, str | None, str, int | None, int, str, str]


class Archived(msgspec.Struct, frozen=True, array_like=True):
    """What was packed of a workload. The three texts are JSON, to the byte as they were."""

    run: msgspec.Raw
    placements: msgspec.Raw
    config: msgspec.Raw  # null: it was no version
    events: list[EventRow]  # first to last
    attempts: list[AttemptRow]  # those before the latest; likewise


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Archived)


class ArchiveUnreadable(Exception):
    """A packed body is damaged, or of a newer muster."""


def pack(archived: Archived) -> bytes:
    packer = zlib.compressobj(_LEVEL, zdict=_DICTIONARY)
    return bytes((FORMAT,)) + packer.compress(_ENCODER.encode(archived)) + packer.flush()


def unpack(body: bytes) -> Archived:
    """Raise ArchiveUnreadable unless it is what `pack` has made; zlib's checksum is in it."""
    if body[:1] != bytes((FORMAT,)):
        raise ArchiveUnreadable(f"The archived row has the format {body[:1].hex()}.")
    unpacker = zlib.decompressobj(zdict=_DICTIONARY)
    try:
        text = unpacker.decompress(body[1:])
        if not unpacker.eof:
            raise ArchiveUnreadable("The archived row is damaged: its end is missing.")
        return _DECODER.decode(text)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ArchiveUnreadable(f"The archived row is damaged: {error}.") from error


def restored_config(kept: str, body: bytes | None) -> str:
    """The config of a version, from what its row keeps and from its archived row, if it has one."""
    if body is None:
        return kept
    return bytes(unpack(body).config).decode()


def find_archived(connection: Connection, workload_ids: Sequence[int]) -> Mapping[int, Archived]:
    """By workload; those that are not archived are left out."""
    if not workload_ids:
        return {}
    rows = connection.execute(
        SQL["find_archived"], {"workload_ids": json.dumps(list(workload_ids))}
    )
    return {workload_id: unpack(body) for workload_id, body in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A workload that is to be archived, packed and ready to be written."""

    workload_id: int
    revision: int  # guards the write: whatever was changed since is not archived as it was
    attempt_ids: tuple[str, ...]
    body: bytes
    kept_config: str | None  # what the version keeps of its config; None: it is no version
    row_count: int  # rows that go or change


def list_due(connection: Connection, *, ended_before_ms: int, limit: int) -> list[Due]:
    """The next workloads to archive, those first that ended first. Packs: run it in a thread."""
    found = connection.execute(
        SQL["list_due"], {"ended_before_ms": ended_before_ms, "limit": limit}
    ).fetchall()
    these = {"workload_ids": json.dumps([row[0] for row in found])}
    events: dict[int, list[EventRow]] = {}
    for workload_id, *event in connection.execute(SQL["list_events"], these):
        events.setdefault(workload_id, []).append(tuple(event))
    attempts: dict[int, list[AttemptRow]] = {}
    for workload_id, *attempt in connection.execute(SQL["list_past_attempts"], these):
        attempts.setdefault(workload_id, []).append(tuple(attempt))
    return [_due(row, events.get(row[0], []), attempts.get(row[0], [])) for row in found]


def _due(row: Sequence[Any], events: list[EventRow], attempts: list[AttemptRow]) -> Due:
    workload_id, revision, attempt_id, run, placements, config = row
    return Due(
        workload_id=workload_id,
        revision=revision,
        attempt_ids=(*(attempt[1] for attempt in attempts), *([attempt_id] if attempt_id else [])),
        body=pack(
            Archived(
                run=msgspec.Raw(run),
                placements=msgspec.Raw(placements),
                config=msgspec.Raw("null" if config is None else config),
                events=events,
                attempts=attempts,
            )
        ),
        kept_config=None if config is None else kept_config(config),
        row_count=4 + len(events) + len(attempts),
    )


class _Named(msgspec.Struct, omit_defaults=True):
    name: str | None = None


class _Kept(msgspec.Struct, omit_defaults=True):
    """What a search looks for in a config: the index `version_by_algorithm` reads it there."""

    algorithm: _Named | None = None


_KEPT: Final = msgspec.json.Decoder(_Kept)


def kept_config(config: str) -> str:
    """What the row of a version keeps of its config, where the whole of it stands elsewhere."""
    return _ENCODER.encode(_KEPT.decode(config)).decode()


def archive_workloads(tx: Transaction, due: Sequence[Due]) -> int:
    """Put packed rows in the place of what they hold; return how many.

    One that was changed, deleted or archived since it was read is left out. No count changes.
    """
    done = 0
    for one in due:
        key = {"workload_id": one.workload_id}
        marked = tx.execute(SQL["mark_archived"], {**key, "revision": one.revision})
        if marked.rowcount == 0:
            continue
        tx.execute(SQL["insert_archived"], {**key, "body": one.body})
        if one.kept_config is not None:
            tx.execute(SQL["shorten_config"], {**key, "config": one.kept_config})
        drop_details(tx, one.workload_id)
        done += 1
    return done


def drop_details(tx: Transaction, workload_id: int) -> None:
    """Drop the rows that only its details are read from: archived, or gone with it."""
    for statement in ("delete_run", "delete_config", "delete_events", "delete_past_attempts"):
        tx.execute(SQL[statement], {"workload_id": workload_id})


def delete_archived(tx: Transaction, workload_id: int) -> Archived | None:
    """Drop the archived row of a workload; return what was in it, None if there was none."""
    row = tx.execute(SQL["delete_archived"], {"workload_id": workload_id}).fetchone()
    return None if row is None else unpack(row[0])


# ------------------------------------------------------------------ snapshots of code


class _Code(msgspec.Struct):
    code: str | None = None


_CODE: Final = msgspec.json.Decoder(_Code)


def snapshot_of(run: str | bytes | msgspec.Raw) -> str | None:
    """The digest of the code that a run, in JSON, was made from; None of one that is damaged."""
    try:
        return _CODE.decode(run).code
    except msgspec.DecodeError:
        return None


def used_snapshots(connection: Connection, digests: Sequence[str]) -> set[str]:
    """Those of the digests that some workload, archived or not, was made from."""
    rows = connection.execute(SQL["used_snapshots"], {"digests": json.dumps(list(digests))})
    return {digest for [digest] in rows}


def forget_snapshots(tx: Transaction, digests: Sequence[str]) -> None:
    """Drop the counts of snapshots that are there no more, and that nothing uses."""
    for digest in digests:
        tx.execute(SQL["forget_snapshot"], {"digest": digest})


# ------------------------------------------------------------------ what a check looks at


def examine(connection: Connection) -> tuple[Counter[str], list[str]]:
    """(how many workloads and models each snapshot has, what is wrong with archived rows).

    Reads and unpacks all of them.
    """
    uses: Counter[str] = Counter()
    problems: list[str] = []
    for [run] in connection.execute(SQL["list_runs"]):
        if digest := snapshot_of(run):
            uses[digest] += 1
    uses.update(code for [code] in connection.execute(SQL["list_model_codes"]))
    for workload_id, body, attempt_count, attempt_id in connection.execute(SQL["list_archived"]):
        try:
            archived = unpack(body)
        except ArchiveUnreadable as error:
            problems.append(f"archived {workload_id}: {error}")
            continue
        if digest := snapshot_of(archived.run):
            uses[digest] += 1
        events = [event[-1] for event in archived.events]
        attempts = [attempt[0] for attempt in archived.attempts]
        if events != [*range(1, len(events) + 1)]:
            problems.append(f"archived {workload_id}: its events are numbered {events}")
        if attempts != [*range(1, attempt_count + (attempt_id is None))]:
            problems.append(
                f"archived {workload_id}: of {attempt_count} attempts it keeps {attempts}"
            )
    return uses, problems
