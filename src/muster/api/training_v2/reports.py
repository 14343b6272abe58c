"""What somebody reports of a task: it becomes an event of its job."""

from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.lookup import find_row
from muster.api.training_v2.views import task_id_of
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.operations.reports import report_task
from muster.wire import training_v2 as shapes
from muster.wire.decode import decode_body, shown

_KIND: Final = "training-event"


@in_v2_words
async def report_event(services: Services, request: Request) -> Reply:
    _, _, task_id, kind = request.params
    body = decode_body(await request.body(), shapes.TaskReport)
    if kind != _KIND:
        raise errors.ParameterInvalid(f"report_type is {shown(kind)}; it must be {_KIND}.")
    row = await find_row(services, request)
    task_ids = [task_id_of(index) for index in range(row.task_count)]
    if task_id not in task_ids:
        raise errors.ParameterInvalid(
            f"task_id is {shown(task_id)}; this job has {', '.join(task_ids)}."
        )
    await report_task(
        services.database,
        request.caller,
        row.workload_id,
        f"{task_id}: {body.type}",
        now_ms=services.clock_ms(),
    )
    return json_reply({})
