"""The v1 log calls, and our own that answers raw bytes."""

import asyncio

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training import id_of
from muster.operations import logs
from muster.wire.decode import decode_query
from muster.wire.training import LogBytesQuery, LogFiles, LogLines, LogQuery


async def list_log_files(services: Services, request: Request) -> Reply:
    names = await logs.list_logs(
        services.database,
        request.caller,
        job_id=id_of("job_id", request.params[1]),
        version_id=id_of("version_id", request.params[2]),
    )
    return json_reply(LogFiles(log_file_list=names))


async def show_log_lines(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, LogQuery, body=await request.body())
    path = await logs.find_log(
        services.database,
        services.jobs_folder,
        request.caller,
        job_id=id_of("job_id", request.params[1]),
        version_id=id_of("version_id", request.params[2]),
        name=query.log_file,
    )
    # As documented, against intuition: "desc" are the lines that follow the cursor.
    found = await asyncio.to_thread(
        logs.read_lines,
        path,
        cursor=logs.parse_cursor(str(query.base_line)),
        line_count=query.lines,
        is_following=query.order == "desc",
    )
    return json_reply(
        LogLines(
            content=found.content.decode("utf-8", errors="replace"),
            lines=found.line_count,
            start_line=str(found.start),
            end_line=str(found.end),
        )
    )


async def show_log_bytes(services: Services, request: Request) -> Reply:
    """Ours: a log exactly as it was written, whatever its encoding."""
    query = decode_query(request.query, LogBytesQuery)
    path = await logs.find_log(
        services.database,
        services.jobs_folder,
        request.caller,
        job_id=id_of("job_id", request.params[1]),
        version_id=id_of("version_id", request.params[2]),
        name=request.params[3],
    )
    content = await asyncio.to_thread(logs.read_bytes, path, query.offset)
    return Reply(200, content, [(b"content-type", b"application/octet-stream")])
