"""What a user may ask of a notebook that is there: start, stop, renew its lease, delete.

Each is one transaction on the notebook and its workload together. What becomes of them then is for
the reconciler and the keeper (`reconciler/notebooks.py`).
"""

from dataclasses import replace

from muster.domain.errors import NotebookNotRunning
from muster.domain.notebook import (
    COMING_UP,
    Lease,
    LeaseType,
    Notebook,
    NotebookEvent,
    NotebookStatus,
    check_duration,
    next_status,
)
from muster.domain.phase import STOPPABLE, Event, Reason
from muster.operations.caller import Caller
from muster.operations.deletion import delete_workload
from muster.operations.images import get_image
from muster.operations.notebookaccess import change_notebook, check_may_change, get_notebook
from muster.operations.notebookstart import Notebooks, prepare_start
from muster.store import moves, workloads
from muster.store.transaction import Transaction


async def renew_lease(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    *,
    duration_ms: int | None,
    lease_type: LeaseType | None,
    now_ms: int,
) -> Notebook:
    """Let it run so long from now on; None: as before.

    Raises:
        NotebookNotRunning: it neither runs nor comes up.
        LeaseInvalid: nothing was changed.
    """
    if duration_ms is not None:
        check_duration("duration", duration_ms)

    def renew(_: Transaction, notebook: Notebook) -> Notebook:
        if notebook.status not in COMING_UP | {NotebookStatus.RUNNING}:
            raise NotebookNotRunning(
                f"The notebook is {notebook.status}; only the lease of one that runs is renewed."
                " Start it with the duration that you want."
            )
        lease = _begun(notebook.lease, duration_ms, lease_type, now_ms=now_ms)
        return replace(notebook, lease=lease, updated_at_ms=now_ms)

    return await change_notebook(desk, caller, shown, renew)


def _begun(
    lease: Lease, duration_ms: int | None, lease_type: LeaseType | None, *, now_ms: int
) -> Lease:
    return replace(
        lease,
        type=lease_type or lease.type,
        duration_ms=lease.duration_ms if duration_ms is None else duration_ms,
        # Who names one wants it to count.
        is_enabled=lease.is_enabled or duration_ms is not None,
        since_ms=now_ms,
        updated_at_ms=now_ms,
    )


async def start_notebook(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    *,
    duration_ms: int | None = None,
    lease_type: LeaseType | None = None,
    now_ms: int,
) -> Notebook:
    """Start it again, with the storage that it had.

    Raises:
        NotebookStateInvalid: it runs, or is about to, or is being stopped.
        NotebookQuotaExceeded, NotebookPoolInvalid: it cannot start now; it stays as it was.
    """
    if duration_ms is not None:
        check_duration("duration", duration_ms)
    present = await get_notebook(desk, caller, shown)
    check_may_change(caller, present)
    next_status(present.status, NotebookEvent.START_ASKED)  # before anything is looked up
    image = await get_image(desk.images, caller, present.image_id, field="image_id")
    start = await prepare_start(desk, caller, present, image)

    def begin(tx: Transaction, notebook: Notebook) -> Notebook:
        status = next_status(notebook.status, NotebookEvent.START_ASKED)
        _forget_workload(tx, notebook, caller, now_ms=now_ms)
        return replace(
            notebook,
            status=status,
            fail_reason="",
            note="",
            lease=_begun(notebook.lease, duration_ms, lease_type, now_ms=now_ms),
            updated_at_ms=now_ms,
            workload_id=start.insert(tx, now_ms=now_ms),
        )

    return await change_notebook(desk, caller, shown, begin)


async def stop_notebook(desk: Notebooks, caller: Caller, shown: str, *, now_ms: int) -> Notebook:
    """Ask it to end. What it has written to its storage stays.

    Raises:
        NotebookStateInvalid: it does not run.
    """

    def stop(tx: Transaction, notebook: Notebook) -> Notebook:
        status = next_status(notebook.status, NotebookEvent.STOP_ASKED)
        _stop_workload(
            tx,
            notebook,
            now_ms=now_ms,
            actor=caller.user_name,
            reason=Reason.STOPPED_BY_USER,
        )
        return replace(notebook, status=status, updated_at_ms=now_ms)

    return await change_notebook(desk, caller, shown, stop)


def _stop_workload(
    tx: Transaction,
    notebook: Notebook,
    *,
    now_ms: int,
    actor: str,
    reason: Reason,
    message: str = "",
) -> None:
    """Ask what runs of it to end, if anything does."""
    if notebook.phase not in STOPPABLE:
        return
    workload = workloads.get_workload(tx.connection, notebook.workload_id)
    moves.move_workload(
        tx,
        workload,
        Event.STOP_ASKED,
        now_ms=now_ms,
        actor=actor,
        reason=reason,
        message=message,
    )


async def delete_notebook(desk: Notebooks, caller: Caller, shown: str, *, now_ms: int) -> Notebook:
    """Take it away with its storage; it is gone once the last of its processes has ended.

    Raises:
        NotebookStateInvalid: it is being deleted.
    """

    def delete(tx: Transaction, notebook: Notebook) -> Notebook:
        status = next_status(notebook.status, NotebookEvent.DELETE_ASKED)
        _forget_workload(tx, notebook, caller, now_ms=now_ms)
        return replace(notebook, status=status, fail_reason="", updated_at_ms=now_ms)

    return await change_notebook(desk, caller, shown, delete)


def _forget_workload(tx: Transaction, notebook: Notebook, caller: Caller, *, now_ms: int) -> None:
    """Take the workload of its last start out of every count; its rows go when they can."""
    if notebook.phase is not None:
        delete_workload(tx, caller, notebook.workload_id, now_ms=now_ms)
