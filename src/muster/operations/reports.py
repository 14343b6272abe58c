"""What users report of jobs that run."""

from typing import Final

from muster.domain.errors import Unsupported
from muster.domain.phase import Phase
from muster.operations.caller import Caller
from muster.store import timeline, workloads
from muster.store.database import Database
from muster.store.transaction import Transaction

# There are tasks, of which something can be told, in these alone.
_HAS_TASKS: Final = (Phase.STARTING, Phase.RUNNING, Phase.TERMINATING)


async def report_task(
    database: Database, caller: Caller, workload_id: int, message: str, *, now_ms: int
) -> None:
    """Write an event of a job's task.

    Raises:
        Unsupported: the job has no tasks now.
        QuotaExceeded: as many reports as may be are there already.
    """

    def report(tx: Transaction) -> None:
        phase = workloads.get_workload(tx.connection, workload_id).phase
        if phase not in _HAS_TASKS:
            raise Unsupported(
                f"The job is {phase}; only of one that is {', '.join(_HAS_TASKS)} can anything be"
                " reported."
            )
        timeline.insert_report(
            tx, workload_id, phase, message=message, actor=caller.user_name, now_ms=now_ms
        )

    await database.write(report)
