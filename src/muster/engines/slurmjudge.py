"""What is true of an attempt on Slurm, by its files alone. Pure."""

from dataclasses import replace
from functools import partial
from signal import SIGKILL, SIGTERM
from typing import Final

from muster.engines.attemptfiles import judge, stopped_before_start
from muster.engines.engine import Observation, TaskObservation, TaskState
from muster.engines.slurmcommands import PREEMPTED
from muster.engines.slurmfiles import JobClaim, JobEnd, JobFiles, TaskFiles

NEVER_CAME_UP_EXIT_CODE: Final = 126
KILLS: Final = frozenset({128 + SIGTERM, 128 + SIGKILL})
CANCELLED: Final = "CANCELLED"
_ENDS_BY_ITSELF: Final = frozenset({"COMPLETED", "FAILED"})


def judge_attempt(files: JobFiles, *, task_count: int) -> Observation:
    end = files.end
    is_unfed = end is not None and files.awaits_inputs
    if is_unfed and end is not None and end.state != CANCELLED:
        # Whoever brought its inputs is gone, and its program has not begun.
        gone = partial(TaskObservation, state=TaskState.GONE, message=end.message)
        tasks = tuple(gone(index=index) for index in range(task_count))
    elif files.has_begun and not is_unfed:
        tasks = tuple(_judge_begun(index, task, end) for index, task in enumerate(files.tasks))
    else:
        tasks = tuple(_judge_not_begun(index, files.claim, end) for index in range(task_count))
    # What Slurm took off its queue before it ran, for a node or a partition, has lost nothing.
    was_preempted = end is not None and (
        end.state in PREEMPTED or (end.is_loss and (is_unfed or not files.has_begun))
    )
    awaits_inputs = end is None and files.awaits_inputs
    return Observation(tasks=tasks, was_preempted=was_preempted, awaits_inputs=awaits_inputs)


def _judge_not_begun(index: int, claim: JobClaim | None, end: JobEnd | None) -> TaskObservation:
    if claim is not None and claim.fenced_at_ms is not None:
        return stopped_before_start(index, claim.fenced_at_ms)
    if end is None:
        return TaskObservation(index=index, state=TaskState.STARTING)
    if end.is_loss:
        return TaskObservation(index=index, state=TaskState.GONE, message=end.message)
    return TaskObservation(
        index=index,
        state=TaskState.ENDED,
        exit_code=NEVER_CAME_UP_EXIT_CODE,
        ended_at_ms=end.at_ms,
        message=f"It never came up. {end.message}".strip(),
    )


def _judge_begun(index: int, task: TaskFiles, end: JobEnd | None) -> TaskObservation:
    if task.is_gone and task.result is None:
        started_at_ms = task.claim.started_at_ms if task.claim is not None else None
        return TaskObservation(index=index, state=TaskState.GONE, started_at_ms=started_at_ms)
    seen = judge(index, claim=task.claim, result=task.result, is_watched=end is None)
    if end is None or not is_killed(seen) or end.state in _ENDS_BY_ITSELF:
        return seen
    if end.is_loss:
        return TaskObservation(
            index=index,
            state=TaskState.GONE,
            started_at_ms=seen.started_at_ms,
            message=end.message,
        )
    return replace(seen, message=seen.message or end.message)


def is_killed(task: TaskObservation) -> bool:
    """A signal ended it that muster did not send: the user's, or Slurm's."""
    return task.state is TaskState.ENDED and task.exit_code in KILLS and not task.was_stopped
