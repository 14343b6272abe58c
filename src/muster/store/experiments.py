"""Experiments in the store, and which versions of training jobs stand in them."""

from typing import Any, Final

from muster.domain.errors import ExperimentNameTaken, ExperimentUnknown, QuotaExceeded
from muster.domain.experiment import EXPERIMENTS_MAX, SORT_KEYS, Experiment, shown_id
from muster.store.connection import REFUSED, Connection, Row
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("experiments")


def insert_experiment(tx: Transaction, new: Experiment) -> None:
    """Store a new one.

    Raises:
        QuotaExceeded: the project has as many as it may have.
        ExperimentNameTaken: its workspace has one of that name.
    """
    [count] = tx.execute(SQL["count_experiments"], {"project_id": new.project_id}).fetchone()
    if count >= EXPERIMENTS_MAX:
        raise QuotaExceeded(
            f"This project has {count} experiments, as many as it may have; delete some first."
        )
    try:
        tx.execute(SQL["insert_experiment"], _values_of(new))
    except REFUSED as error:
        raise _name_taken(new) from error


def update_experiment(tx: Transaction, changed: Experiment) -> None:
    """Store its name and description anew.

    Raises:
        ExperimentNameTaken: its workspace has another one of that name.
        ExperimentUnknown: it is gone.
    """
    try:
        updated = tx.execute(SQL["update_experiment"], _values_of(changed)).rowcount
    except REFUSED as error:
        raise _name_taken(changed) from error
    if updated == 0:
        raise experiment_unknown(changed.shown_id)


def _name_taken(experiment: Experiment) -> ExperimentNameTaken:
    return ExperimentNameTaken(
        f"metadata.name is {experiment.name!r}; the workspace has an experiment of that name."
    )


def delete_experiment(tx: Transaction, project_id: str, uid: str) -> None:
    """Its jobs stay, in no experiment.

    Raises:
        ExperimentUnknown: the project has none of that id.
    """
    key = {"project_id": project_id, "uid": uid}
    tx.execute(SQL["forget_versions"], key)
    if tx.execute(SQL["delete_experiment"], key).rowcount == 0:
        raise experiment_unknown(shown_id(uid))


def find_experiment(connection: Connection, project_id: str, uid: str) -> Experiment | None:
    row = connection.execute(
        SQL["find_experiment"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return None if row is None else _experiment(row)


def find_by_name(
    connection: Connection, project_id: str, workspace_id: str, name: str
) -> Experiment | None:
    key = {"project_id": project_id, "workspace_id": workspace_id, "name": name}
    row = connection.execute(SQL["find_experiment_by_name"], key).fetchone()
    return None if row is None else _experiment(row)


def experiment_unknown(shown: str, *, field: str = "experiment_id") -> ExperimentUnknown:
    """One of another project, or where the caller may not enter, is not there either."""
    return ExperimentUnknown(f"{field} is {shown[:100]!r}; this project has no such experiment.")


def find_workspace_of_experiment(connection: Connection, project_id: str, uid: str) -> str | None:
    row = connection.execute(
        SQL["find_workspace_of_experiment"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return row[0] if row else None


def page_of_experiments(
    connection: Connection,
    project_id: str,
    workspace_id: str,
    *,
    sort_key: str,
    is_descending: bool,
    offset: int,
    limit: int,
) -> tuple[int, list[Experiment]]:
    """(how many there are, the page of them). Those that are equal are in the order of ids."""
    key = {"project_id": project_id, "workspace_id": workspace_id}
    found = [_experiment(row) for row in connection.execute(SQL["list_experiments"], key)]
    if is_descending:
        found.reverse()  # what is equal stays in this order
    field = SORT_KEYS[sort_key]
    found.sort(key=lambda one: getattr(one, field), reverse=is_descending)
    return len(found), found[offset : offset + limit]


def put_version(tx: Transaction, project_id: str, uid: str, version_id: int) -> None:
    """Let a new version stand in an experiment that is there."""
    key = {"project_id": project_id, "uid": uid}
    tx.execute(SQL["put_version"], key | {"version_id": version_id})
    tx.execute(SQL["count_version"], key)


def take_version(tx: Transaction, version_id: int) -> None:
    """A version is listed no more: it stands in no experiment either."""
    taken = tx.execute(SQL["take_version"], {"version_id": version_id}).fetchone()
    if taken is not None:
        tx.execute(SQL["count_version_no_more"], {"id": taken[0]})


def _values_of(experiment: Experiment) -> dict[str, Any]:
    return {
        "uid": experiment.uid,
        "project_id": experiment.project_id,
        "workspace_id": experiment.workspace_id,
        "name": experiment.name,
        "description": experiment.description,
        "created_at_ms": experiment.created_at_ms,
        "updated_at_ms": experiment.updated_at_ms,
    }


def _experiment(row: Row) -> Experiment:
    return Experiment(
        uid=row[0],
        project_id=row[1],
        workspace_id=row[2],
        name=row[3],
        description=row[4],
        job_count=row[5],
        created_at_ms=row[6],
        updated_at_ms=row[7],
    )
