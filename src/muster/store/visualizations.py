"""Visualization jobs in the store, each with the workload of its latest start beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from muster.domain.command import Run
from muster.domain.errors import JobUnknown, QuotaExceeded, StaleWrite
from muster.domain.phase import Phase, Reason
from muster.domain.visualization import VISUALIZATIONS_MAX, Visualization, overlap
from muster.store.connection import REFUSED, Connection, Row
from muster.store.jobs import name_taken
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("visualizations")

WATCHED_MAX: Final = 10_000  # that the keeper looks at in one pass
WRITERS_MAX: Final = 1_000  # jobs of one project that are asked for what they write

_RUN: Final = msgspec.json.Decoder(Run)


@dataclass(frozen=True, slots=True)
class Writer:
    """A job that writes what a TensorBoard is to show."""

    attempt_id: str
    output: str  # the name of one of its outputs (v2); "": what comes under its train_url
    part: str  # of that output: a path below it; "": all of it
    place: str  # where that shows up, below the folder that is looked at; "": there itself


def count_visualizations(connection: Connection, project_id: str) -> int:
    [count] = connection.execute(SQL["count_visualizations"], {"project_id": project_id}).fetchone()
    return int(count)


def insert_visualization(tx: Transaction, new: Visualization) -> int:
    """Store a new one, whose workload is stored already; return its id.

    Raises:
        QuotaExceeded: the project has as many as it may have.
        NameTaken: its workspace has one of that name.
    """
    count = count_visualizations(tx.connection, new.project_id)
    if count >= VISUALIZATIONS_MAX:
        raise QuotaExceeded(
            f"This project has {count} visualization jobs, as many as it may have; delete some"
            " first."
        )
    try:
        [id_] = tx.execute(SQL["insert_visualization"], _values_of(new)).fetchone()
    except REFUSED as error:
        raise name_taken(new.name) from error
    return int(id_)


def update_visualization(tx: Transaction, changed: Visualization) -> None:
    """Store what can change of it anew; guarded by the revision that it was read with.

    Raises:
        StaleWrite: somebody else changed it first, or it is gone.
    """
    if tx.execute(SQL["update_visualization"], _values_of(changed)).rowcount == 0:
        raise StaleWrite(f"Visualization job {changed.id} was changed meanwhile.")
    tx.has_work = True


def delete_visualization(tx: Transaction, visualization: Visualization) -> None:
    tx.execute(SQL["delete_visualization"], {"id": visualization.id})


def get_visualization(connection: Connection, project_id: str, id_: int) -> Visualization:
    """One that the project has.

    Raises:
        JobUnknown: it has none of that id.
    """
    row = connection.execute(SQL["find_visualization"], {"id": id_}).fetchone()
    if row is None or row[_PROJECT] != project_id:
        raise visualization_unknown(id_)
    return _visualization(row)


def visualization_unknown(id_: int) -> JobUnknown:
    """One of another project, or where the caller may not enter, is not there either."""
    return JobUnknown(f"job_id is {id_}; this project has no such visualization job.")


def find_by_uid(connection: Connection, uid: str) -> Visualization | None:
    """Of whatever project: for those that check that themselves."""
    row = connection.execute(SQL["find_visualization_by_uid"], {"uid": uid}).fetchone()
    return None if row is None else _visualization(row)


def list_watched(connection: Connection) -> list[Visualization]:
    """Those whose latest start has not ended yet, as far as that was noted."""
    rows = connection.execute(SQL["list_watched_visualizations"], {"limit": WATCHED_MAX})
    return [_visualization(row) for row in rows]


def list_writers(connection: Connection, project_id: str, folder: str) -> list[Writer]:
    """Jobs that run now and will leave something there when they end, the newest first.

    Args:
        connection: to the store.
        project_id: whose jobs.
        folder: /BUCKET/KEY of a TensorBoard; what lies in it, or around it, counts.
    """
    rows = connection.execute(SQL["list_writers"], {"project_id": project_id, "limit": WRITERS_MAX})
    writers = []
    for attempt_id, text in rows:
        run = _RUN.decode(text)
        urls = [("", run.train_url)] if run.train_url else []
        urls += [(channel.name, channel.url) for channel in run.outputs]
        for output, url in urls:
            place = overlap(folder, url)
            if place is not None:
                writers.append(Writer(attempt_id, output, *place))
    return writers


def find_workspace(connection: Connection, project_id: str, job_id: int) -> str | None:
    row = connection.execute(
        SQL["find_workspace"], {"project_id": project_id, "id": job_id}
    ).fetchone()
    return row[0] if row else None


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualizationList:
    """What a list is asked for."""

    project_id: str
    workspace_id: str
    part: str = ""  # of the name, in any case
    statuses: Sequence[int] = ()  # none: any
    sort_key: str = "job_id"
    is_descending: bool = False
    offset: int = 0
    limit: int = 10


def page_of_visualizations(
    connection: Connection, query: VisualizationList
) -> tuple[int, list[Visualization]]:
    """(how many match, the page of them). Those that are equal are in the order of their ids."""
    rows = connection.execute(
        SQL["list_visualizations"],
        {"project_id": query.project_id, "workspace_id": query.workspace_id},
    )
    part = query.part.lower()
    found = [
        one
        for one in map(_visualization, rows)
        if part in one.name.lower() and (not query.statuses or one.status in query.statuses)
    ]
    field = SORT_KEYS[query.sort_key]
    found.sort(key=lambda one: (getattr(one, field), one.id), reverse=query.is_descending)
    return len(found), found[query.offset : query.offset + query.limit]


SORT_KEYS: Final[Mapping[str, str]] = {
    "job_id": "id",
    "job_name": "name",
    "job_desc": "description",
    "create_time": "created_at_ms",
    "status": "status",
}


def _values_of(one: Visualization) -> dict[str, Any]:
    return {
        "id": one.id,
        "uid": one.uid,
        "project_id": one.project_id,
        "workspace_id": one.workspace_id,
        "name": one.name,
        "description": one.description,
        "user_name": one.user_name,
        "train_url": one.train_url,
        "flavor_code": one.flavor_code,
        "hours": one.hours,
        "token": one.token,
        "answered": one.answered,
        "note": one.note,
        "is_watched": int(one.is_watched),
        "created_at_ms": one.created_at_ms,
        "workload_id": one.workload_id,
        "revision": one.revision,
    }


_PROJECT: Final = 2


def _visualization(row: Row) -> Visualization:
    return Visualization(
        id=row[0],
        uid=row[1],
        project_id=row[_PROJECT],
        workspace_id=row[3],
        name=row[4],
        description=row[5],
        user_name=row[6],
        train_url=row[7],
        flavor_code=row[8],
        hours=row[9],
        token=row[10],
        answered=row[11],
        note=row[12],
        is_watched=bool(row[13]),
        created_at_ms=row[14],
        workload_id=row[15],
        revision=row[16],
        phase=None if row[17] is None else Phase(row[17]),
        reason=Reason(row[18] or ""),
        message=row[19] or "",
        attempt_id=row[20],
        is_holding=bool(row[21]),
        started_at_ms=row[22],
        ended_at_ms=row[23],
    )
