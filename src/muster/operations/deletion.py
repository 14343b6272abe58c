"""What the deletion of anything that runs has in common."""

from muster.domain.phase import STOPPABLE, Event, Reason
from muster.operations.caller import Caller
from muster.store import moves, workloads
from muster.store.transaction import Transaction


def delete_workload(tx: Transaction, caller: Caller, workload_id: int, *, now_ms: int) -> None:
    """Take a workload out of every count, and stop it; its rows go once nothing of it runs."""
    workload = workloads.mark_deleted(tx, workloads.get_workload(tx.connection, workload_id))
    if workload.phase in STOPPABLE:
        moves.move_workload(
            tx,
            workload,
            Event.STOP_ASKED,
            now_ms=now_ms,
            actor=caller.user_name,
            reason=Reason.DELETED_BY_USER,
        )
