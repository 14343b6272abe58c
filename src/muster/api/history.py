"""Our own: job history in and out, as JSON lines."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from muster.api.authenticate import declared_hash
from muster.api.http import Reply, Request, begun, json_reply
from muster.api.services import Services
from muster.domain.errors import InvalidRequest, SignatureWrong
from muster.domain.history import HistoryRow
from muster.operations import history as operations
from muster.store import history
from muster.store.connection import Connection
from muster.wire.decode import decode_query
from muster.wire.history import (
    HistoryImport,
    HistoryQuery,
    RefusedLine,
    decode_line,
    encode_line,
)

JSON_LINES: Final = (b"content-type", b"application/x-ndjson")


async def import_history(services: Services, request: Request) -> Reply:
    """Each line for itself: what cannot be taken is told by its number, the others come in."""
    query = decode_query(request.query, HistoryQuery)
    body = await request.body()
    expected = declared_hash(request)
    if expected is not None and sha256(body).hexdigest() != expected.lower():
        raise SignatureWrong("The body is not the one that was signed.")
    now_ms = services.clock_ms()
    rows: list[HistoryRow] = []
    numbers: list[int] = []
    refused: list[RefusedLine] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(decode_line(line, now_ms=now_ms))
            numbers.append(number)
        except InvalidRequest as error:
            refused.append(_refused(number, error.message))
    moved = await operations.import_history(
        services.database,
        request.caller,
        rows,
        now_ms=now_ms,
        pool_as_public=query.pool_as_public,
        lines=numbers,
    )
    refused += [_refused(numbers[place], why) for place, why in moved.refused]
    return json_reply(
        HistoryImport(
            imported=moved.imported,
            present=moved.present,
            refused=sorted(refused, key=lambda line: line.line),
        )
    )


def _refused(number: int, why: str) -> RefusedLine:
    return RefusedLine(line=number, error_code=InvalidRequest.code, error_msg=why)


async def export_history(services: Services, request: Request) -> Reply:
    """Every version that has ended, at one moment, in workspaces that the caller may enter."""
    caller = request.caller
    chunks = services.database.stream(_chunks, caller.project_id, caller.hidden_workspaces)
    return Reply(200, await begun(chunks), [JSON_LINES])


def _chunks(connection: Connection, project_id: str, hidden: frozenset[str]) -> Iterator[bytes]:
    yield b""  # so that what cannot be read at all is told by the status
    for rows in history.stream_history(connection, project_id, hidden):
        yield b"".join(map(encode_line, rows))
