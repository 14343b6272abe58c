"""What happened to a training job, where its tasks were put, and its stages."""

import uuid
from collections.abc import Mapping
from typing import Final

from muster.api.http import Reply, Request, json_reply
from muster.api.services import Services
from muster.api.training_v2.lookup import find_row
from muster.api.training_v2.times import TIME_MS_MAX, rfc3339
from muster.api.training_v2.views import task_id_of
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.domain.phase import FINISHED, Event, Phase
from muster.store import timeline, workloads
from muster.store.connection import Connection
from muster.store.timeline import WorkloadEvent
from muster.store.training_listing import TrainingRow
from muster.wire import training_v2 as shapes
from muster.wire.decode import decode_query


@in_v2_words
async def list_events(services: Services, request: Request) -> Reply:
    query = decode_query(request.query, shapes.EventsQuery)
    start, end = _event_times(query)
    source = (query.source or "").lower()
    if source and source not in _SOURCES:
        raise errors.QueryInvalid(
            f"source is {query.source!r}; it must be one of K8S, Job and Task."
        )
    row = await find_row(services, request)
    found = [
        (at_ms, event)
        for at_ms, event in await _events(services, row)
        if (start is None or at_ms >= start)
        and (end is None or at_ms <= end)
        and (query.level is None or query.level == event.level)
        and query.pattern in event.message
        and (not source or source == event.source.lower())
    ]
    if query.order == "desc":
        found.reverse()
    return json_reply(
        shapes.TrainingEventList(
            total=len(found),
            limit=query.limit,
            offset=query.offset,
            order=query.order,
            start_time=None if start is None else rfc3339(start),
            end_time=None if end is None else rfc3339(end),
            events=[event for _, event in found[query.offset : query.offset + query.limit]],
        )
    )


def _event_times(query: shapes.EventsQuery) -> tuple[int | None, int | None]:
    texts = (query.start_time or "", query.end_time or "")
    if texts == ("", ""):
        return None, None
    if not all(t.isascii() and t.isdigit() and len(t) <= 15 for t in texts):
        raise errors.QueryInvalid(
            f"start_time is {texts[0][:100]!r} and end_time {texts[1][:100]!r}; give both, as epoch"
            " milliseconds, or neither."
        )
    start, end = (min(int(text), TIME_MS_MAX) for text in texts)
    if start > end:
        raise errors.QueryInvalid(f"start_time is {start}, after end_time, {end}.")
    return start, end


async def _events(services: Services, row: TrainingRow) -> list[tuple[int, shapes.TrainingEvent]]:
    """First to last, with when they happened."""
    recorded = await services.database.read(timeline.list_events, row.workload_id)
    first = shapes.TrainingEvent(
        time=rfc3339(row.created_at_ms),
        level="Info",
        message=f"{row.creator_name} submitted the job.",
        source="Job",
    )
    return [(row.created_at_ms, first), *((event.at_ms, _event_view(event)) for event in recorded)]


def _event_view(event: WorkloadEvent) -> shapes.TrainingEvent:
    return shapes.TrainingEvent(
        time=rfc3339(event.at_ms),
        level=_LEVELS.get(event.event, "Info"),
        message=_told(event),
        source="Task" if event.event in _OF_TASKS else "Job",
    )


# The third source that is published, K8S, tells of a cluster that there is none of here.
_SOURCES: Final = frozenset({"k8s", "job", "task"})
_OF_TASKS: Final = frozenset(
    {Event.STARTED, Event.TASK_FAILED, Event.VANISHED, Event.FOUND, Event.REPORTED}
)


_LEVELS: Final[Mapping[Event, str]] = {
    Event.TASK_FAILED: "Error",
    Event.REFUSED: "Error",
    Event.STOP_GIVEN_UP: "Error",
    Event.GIVEN_UP: "Error",
    Event.VANISHED: "Warning",
    Event.RETRIED: "Warning",
    Event.PREEMPTED: "Warning",
}
_WORDS: Final[Mapping[Event, str]] = {
    Event.ENQUEUED: "The job is in the queue of its pool.",
    Event.PLACED: "The job has its nodes; its tasks are being started.",
    Event.STARTED: "The job is running.",
    Event.SUCCEEDED: "Every task has ended with exit code 0.",
    Event.TASK_FAILED: "The job has failed.",
    Event.STOP_ASKED: "A stop was asked for.",
    Event.STOPPED: "The job was stopped.",
    Event.STOP_GIVEN_UP: "Processes of the job are left that do not end.",
    Event.REFUSED: "The job cannot be started.",
    Event.VANISHED: "The processes of the job are not to be found.",
    Event.FOUND: "The processes of the job have been found again.",
    Event.RETRIED: "The job has failed; it is tried again.",
    Event.PREEMPTED: "The job was preempted; it waits in the queue to run again.",
    Event.GIVEN_UP: "The job is given up.",
    Event.IMPORTED: "The job had ended elsewhere; its history was moved in.",
    Event.REPORTED: "Reported of",
}


def _told(event: WorkloadEvent) -> str:
    words = _WORDS[event.event]
    if event.event is Event.STOP_ASKED:
        words = f"{event.actor} asked for a stop."
    if event.event is Event.PREEMPTED and event.phase_before is Phase.STARTING:
        words = "The job has not begun to run; it is back in the queue of its pool."
    return f"{words} {event.message}".rstrip()


@in_v2_words
async def list_tasks(services: Services, request: Request) -> Reply:
    """Where each task was put, by the latest attempt or another; nothing before it was."""
    query = decode_query(request.query, shapes.TasksQuery)
    row = await find_row(services, request)

    def read(connection: Connection) -> list[shapes.TaskPlace]:
        workload = workloads.get_workload(connection, row.workload_id)
        past = timeline.list_past_attempts(connection, [row.workload_id]).get(row.workload_id, [])
        placed = {attempt.number: attempt.placements for attempt in past}
        if workload.attempt_id is not None:
            placed[workload.attempt_count] = workload.placements
        which = query.schedule_count or workload.attempt_count
        return [
            shapes.TaskPlace(
                task=task_id_of(place.index), host_ip=place.node_name, schedule_count=which
            )
            for place in placed.get(which, ())
        ]

    return json_reply(await services.database.read(read))


@in_v2_words
async def list_stages(services: Services, request: Request) -> Reply:
    """One record: what the job went through, from event to event."""
    row = await find_row(services, request)
    events = await services.database.read(timeline.list_events, row.workload_id)
    moves = [(row.created_at_ms, Phase.CREATING)]
    moves += [(e.at_ms, e.phase_after) for e in events if e.phase_after is not e.phase_before]
    ends = [at_ms for at_ms, _ in moves[1:]]
    stages: list[shapes.TrainingStage] = []
    for (at_ms, phase), end in zip(moves, [*ends, None], strict=True):
        if phase in FINISHED:
            continue
        name, words = _STAGES[phase]
        stages.append(
            shapes.TrainingStage(
                job_id=str(uuid.UUID(row.uid)),
                name=name,
                en_message=words,
                start_time=rfc3339(at_ms),
                end_time=None if end is None else rfc3339(end),
                stage_order=len(stages) + 1,
                sub_stages=[],
            )
        )
    record = shapes.StageRecord(record_order=1, stages=stages)
    return json_reply(shapes.TrainingStageList(total_count=1, running_records=[record]))


_STAGES: Final[Mapping[Phase, tuple[str, str]]] = {
    Phase.CREATING: ("Creating", "Accepted."),
    Phase.QUEUED: ("Queuing", "In the queue of its pool."),
    Phase.STARTING: ("Starting", "Its nodes are held, its tasks are being started."),
    Phase.RUNNING: ("Running", "Its tasks run."),
    Phase.TERMINATING: ("Terminating", "A stop was asked for."),
    Phase.LOST: ("Lost", "Its processes are not to be found."),
}
