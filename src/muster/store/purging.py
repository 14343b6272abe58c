"""Deleted workloads: what is left of them goes, once nothing runs for them any more."""

from collections.abc import Sequence
from typing import Any, Final

from muster.domain.phase import Phase
from muster.domain.resources import Resources
from muster.domain.workload import takes_quota
from muster.store.archive import delete_archived, drop_details, snapshot_of
from muster.store.connection import Connection
from muster.store.counting import HELD
from muster.store.statements import load_statements
from muster.store.timeline import list_past_attempts
from muster.store.transaction import Transaction
from muster.store.workloads import stored_run

SQL: Final = load_statements("purging")
PURGE_BATCH: Final = 200


def list_purgeable(connection: Connection) -> list[tuple[int, list[tuple[str, str | None]]]]:
    """Deleted workloads that nothing runs for any more: (id, [(attempt id, engine ref)])."""
    rows = connection.execute(SQL["list_deleted"], {"limit": PURGE_BATCH}).fetchall()
    past = list_past_attempts(connection, [row[0] for row in rows if row[3]])
    return [
        (
            workload_id,
            [(attempt.attempt_id, attempt.engine_ref) for attempt in past.get(workload_id, ())]
            + ([(attempt_id, engine_ref)] if attempt_id is not None else []),
        )
        for workload_id, attempt_id, engine_ref, _ in rows
    ]


def purge_workload(tx: Transaction, workload_id: int) -> None:
    """Drop every row of a deleted workload, and of its job when it was the last of it."""
    key = {"workload_id": workload_id}
    run = stored_run(tx.connection, workload_id)
    archived = delete_archived(tx, workload_id)
    drop_details(tx, workload_id)
    version = tx.execute(SQL["delete_version"], key).fetchone()
    row = tx.execute(SQL["delete_workload"], key).fetchone()
    if row is not None:
        tx.counts.snapshot(snapshot_of(archived.run if archived else run), -1)
        _forget_use(tx, row)
    if version is not None:
        tx.execute(SQL["delete_empty_job"], {"job_id": version[0]})


def _forget_use(tx: Transaction, row: Sequence[Any]) -> None:
    """A lost one may be purged while it still counts: nothing can end it any more."""
    project_id, workspace_id, type_, phase, is_holding, task_count, *amounts = row
    if takes_quota(Phase(phase), is_holding=bool(is_holding)):
        task = Resources(**dict(zip(HELD, amounts, strict=True)))
        tx.counts.use(project_id, workspace_id, type_, task * task_count, -1)
