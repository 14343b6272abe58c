"""The end of a log of a training job."""

import asyncio
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.lookup import find_row
from muster.api.training_v2.views import task_id_of
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.domain.phase import FINISHED
from muster.operations import logs
from muster.wire import training_v2 as shapes

PREVIEW_BYTES_MAX: Final = 5 << 20


@in_v2_words
async def preview_log(services: Services, request: Request) -> Reply:
    """The end of a log. 204, as documented, while a job that is not over has written nothing."""
    row = await find_row(services, request)
    task_ids = [task_id_of(index) for index in range(row.task_count)]
    task_id = request.params[2]
    if task_id not in task_ids:
        raise errors.LogUnknown(
            f"task_id is {task_id[:100]!r}; this job has {', '.join(task_ids)}."
        )
    try:
        path = await logs.find_log(
            services.database,
            services.jobs_folder,
            request.caller,
            job_id=row.job_id,
            version_id=row.version_id,
            name=logs.log_name(row.job_name, task_ids.index(task_id)),
        )
    except errors.LogNotReady:
        if row.phase in FINISHED:
            raise
        return Reply(204, b"", [])
    content, size = await asyncio.to_thread(logs.read_tail, path, PREVIEW_BYTES_MAX)
    return json_reply(
        shapes.LogPreview(
            content=content.decode("utf-8", errors="replace"),
            current_size=len(content),
            full_size=size,
        )
    )
