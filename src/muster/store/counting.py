"""Counters that are exact at every commit.

They change in the transaction of what they count, last in it and in key order: out of order, many
writers deadlock on a shared database. Where several writes share a commit, what they change is
added up first and written once. `store/recount.py` holds them against a full count.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from operator import add
from typing import Final

from muster.domain.phase import StatisticsState
from muster.domain.resources import Resources
from muster.store.connection import Connection
from muster.store.manyrows import change_rows
from muster.store.statements import load_statements

SQL: Final = load_statements("counting")

STATES: Final = tuple(StatisticsState)
HELD: Final = ("cpu_millis", "memory_mib", "gpu_count", "npu_count")
USED: Final = ("workload_count", *HELD)
BLOCK_BITS: Final = 14  # the lists count their rows by blocks of 16,384 ids, too

_STATE_INDEX: Final = {state: index for index, state in enumerate(STATES)}
_TALLY_WIDTH: Final = len(STATES) + len(HELD)


_Key = tuple[str | int, ...]


@dataclass(slots=True)
class Counts:
    """The changes of one write, gathered while it runs.

    Writes that share a commit may share their counters: `before` gathers what the earlier of them
    have changed and nobody has written yet. A write that fails takes its own changes with it.
    """

    before: "Counts | None" = None
    # By table and key.
    _changes: dict[str, dict[_Key, list[int]]] = field(default_factory=partial(defaultdict, dict))

    def workload(
        self, project_id: str, pool_id: str, type_: str, state: StatisticsState, by: int
    ) -> None:
        row = self._row("tally", (project_id, pool_id, type_), width=_TALLY_WIDTH)
        row[_STATE_INDEX[state]] += by

    def held(
        self, project_id: str, pool_id: str, type_: str, resources: Resources, by: int
    ) -> None:
        row = self._row("tally", (project_id, pool_id, type_), width=_TALLY_WIDTH)
        for index, name in enumerate(HELD, start=len(STATES)):
            row[index] += getattr(resources, name) * by

    def version(
        self,
        project_id: str,
        workspace_id: str,
        pool_id: str,
        status: int,
        by: int,
        *,
        version_id: int,
    ) -> None:
        self._add("version_total", (project_id, workspace_id, pool_id, status), by)
        block = version_id >> BLOCK_BITS
        self._add("id_block", ("version", project_id, workspace_id, "", status, block), by)
        self._add("id_block", ("pooled", project_id, workspace_id, pool_id, status, block), by)

    def job(self, project_id: str, workspace_id: str, status: int, by: int, *, job_id: int) -> None:
        self._add("job_total", (project_id, workspace_id, status), by)
        block = job_id >> BLOCK_BITS
        self._add("id_block", ("job", project_id, workspace_id, "", status, block), by)

    def settled(
        self,
        place: tuple[str, str, str],
        sort: str,
        pool_id: str,
        status: int,
        number: int,
        by: int,
    ) -> None:
        """In a stretch of an order; `place` is the list, its project and its workspace."""
        list_, *workspace = place
        self._add("key_block", (list_, sort, *workspace, "", status, number), by)
        if list_ == "version":
            self._add("key_block", ("pooled", sort, *workspace, pool_id, status, number), by)

    def use(
        self, project_id: str, workspace_id: str, type_: str, resources: Resources, by: int
    ) -> None:
        """A workload begins or ceases to take of the quotas of its workspace."""
        row = self._row("workspace_use", (project_id, workspace_id, type_), width=len(USED))
        row[0] += by
        for index, name in enumerate(HELD, start=1):
            row[index] += getattr(resources, name) * by

    def snapshot(self, digest: str | None, by: int) -> None:
        """A workload that was made from a snapshot of code comes or goes; None: from no code."""
        if digest is not None:
            self._add("snapshot_use", (digest,), by)

    def pending_use(self, project_id: str, workspace_id: str, type_: str) -> list[int]:
        """What the table does not show yet of a use; in the order of USED."""
        key = (project_id, workspace_id, type_)
        pending = [0] * len(USED)
        for changes in self._pending("workspace_use"):
            if (more := changes.get(key)) is not None:
                pending = list(map(add, pending, more))
        return pending

    def pending_jobs(self, project_id: str, statuses: Container[int]) -> int:
        """What the table does not show yet of a project's jobs in some statuses."""
        return sum(
            count
            for changes in self._pending("job_total")
            for (project, _, status), [count] in changes.items()
            if project == project_id and status in statuses
        )

    def _pending(self, table: str) -> Iterator[Mapping[_Key, list[int]]]:
        if self.before is not None:
            yield from self.before._pending(table)
        if table in self._changes:
            yield self._changes[table]

    def _add(self, table: str, key: _Key, by: int) -> None:
        """To a row of one counter."""
        self._row(table, key, width=1)[0] += by

    def _row(self, table: str, key: _Key, *, width: int) -> list[int]:
        rows = self._changes[table]
        if (row := rows.get(key)) is None:
            row = rows[key] = [0] * width
        return row

    def take_over(self, later: "Counts") -> None:
        """Gather what a later write has changed, now that it has succeeded."""
        if not self._changes:  # as a rule, where nearly all of a commit is done together
            self._changes, later._changes = later._changes, self._changes
            return
        for table, changes in later._changes.items():
            for key, values in changes.items():
                row = self._row(table, key, width=len(values))
                for index, value in enumerate(values):
                    row[index] += value

    def apply(self, connection: Connection) -> None:
        """Write every change, once: to the row that is there, else as a new one."""
        for table in sorted(self._changes):
            changes = sorted(self._changes[table].items())
            rows = [(*values, *key) for key, values in changes if any(values)]
            if change_rows(connection, SQL[f"add_to_{table}"], rows) < len(rows):
                change_rows(connection, SQL[f"insert_{table}"], rows)
        self._changes.clear()


def held_by_pool(connection: Connection, project_id: str) -> Mapping[str, Resources]:
    """What the project's workloads hold now, in each pool where it has any."""
    rows = connection.execute(SQL["held_by_pool"], {"project_id": project_id})
    return {
        pool_id: Resources(**dict(zip(HELD, amounts, strict=True))) for pool_id, *amounts in rows
    }
