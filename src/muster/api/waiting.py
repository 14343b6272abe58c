"""How both training APIs show why a job waits."""

import uuid
from typing import Final

from muster.api.services import Services
from muster.domain.phase import view_of
from muster.operations.caller import Caller
from muster.operations.waiting import WAITS, Told, explain_waiting
from muster.wire.training import WaitedFor, WaitingView

# One that has its nodes shows the same code, and is told nothing.
WAITING_STATUSES: Final = frozenset(view_of(phase).v1_status for phase in WAITS)


async def show_waiting(services: Services, caller: Caller, workload_id: int) -> WaitingView | None:
    """None: it waits no more."""
    told = await explain_waiting(services.database, caller, workload_id, now_ms=services.clock_ms())
    return None if told is None else _view(told)


def _view(told: Told) -> WaitingView:
    waiting = told.waiting
    return WaitingView(
        reason=waiting.reason,
        message=told.message,
        position=waiting.position,
        missing=waiting.missing,
        unavailable_nodes=list(waiting.nodes),
        waits_for=[WaitedFor(str(uuid.UUID(b.uid)), b.name) for b in told.blockers],
        waits_for_others=told.others,
        predicted_start_time=waiting.predicted_start_ms,
    )
