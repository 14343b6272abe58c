"""Moving in what was run elsewhere, beside everything else that a server does."""

from collections.abc import Sequence
from typing import Final

from muster.domain.history import HistoryRow
from muster.domain.permission import Permission
from muster.operations.caller import Caller
from muster.store.database import Database
from muster.store.history import Moved, insert_history

BATCH_ROWS: Final = 200  # of one transaction: nobody else waits longer than for that many


async def import_history(
    database: Database,
    caller: Caller,
    rows: Sequence[HistoryRow],
    *,
    now_ms: int,
    pool_as_public: bool,
    lines: Sequence[int],
) -> Moved:
    """Store ended versions in the caller's project, some at a time. What is in stays in.

    Args:
        database: the store.
        caller: who moves them in; rows of workspaces where that one may not are refused.
        rows: as checked by `check_row`, the oldest first.
        now_ms: when.
        pool_as_public: what ran in a pool that the project has not goes to its public one.
        lines: where each row stood in the request, for who reads why one is refused.

    Returns:
        What became of the rows; those that are refused by their place in `rows`.
    """
    moved = Moved()
    allowed: list[tuple[int, HistoryRow]] = []
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        if not caller.may(Permission.HISTORY_WRITE, row.workspace_id):
            why = (
                f"workspace_id is {row.workspace_id!r}; this project has no such workspace, or you"
                f" have no {Permission.HISTORY_WRITE} in it."
            )
            moved.refused.append((place, why))
        elif (earlier := first.setdefault(row.source, place)) != place:
            moved.refused.append((place, repeated(row, lines[earlier])))
        else:
            allowed.append((place, row))
    for start in range(0, len(allowed), BATCH_ROWS):
        batch = allowed[start : start + BATCH_ROWS]
        stored = await database.write(
            insert_history,
            caller.project_id,
            [row for _, row in batch],
            actor=caller.user_name,
            now_ms=now_ms,
            pool_as_public=pool_as_public,
        )
        moved.imported += stored.imported
        moved.present += stored.present
        moved.refused += [(batch[place][0], why) for place, why in stored.refused]
    moved.refused.sort()
    return moved


def repeated(row: HistoryRow, line: int) -> str:
    """Why a line is refused whose version an earlier line has."""
    return f"version_id is {row.version_id!r}; line {line} is this version of the job already."
