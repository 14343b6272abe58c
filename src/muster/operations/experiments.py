"""What a user may ask of experiments: make, look at, change, delete."""

import uuid
from dataclasses import replace

from muster.domain.experiment import Experiment, check_experiment, uid_of
from muster.operations.caller import Caller
from muster.store import experiments, jobs
from muster.store.database import Database
from muster.store.transaction import Transaction


async def create_experiment(
    database: Database,
    caller: Caller,
    *,
    workspace_id: str,
    name: str,
    description: str,
    now_ms: int,
) -> Experiment:
    """Make one without jobs.

    Raises:
        InvalidRequest: names the field; nothing was made.
    """
    made = Experiment(
        uid=uuid.uuid4().hex,
        project_id=caller.project_id,
        workspace_id=workspace_id,
        name=name,
        description=description,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
    check_experiment(made)

    def insert(tx: Transaction) -> None:
        jobs.check_workspace(tx.connection, caller.project_id, workspace_id)
        experiments.insert_experiment(tx, made)

    await database.write(insert)
    return made


async def get_experiment(
    database: Database, caller: Caller, shown: str, *, field: str = "experiment_id"
) -> Experiment:
    """By its id with or without hyphens; one where the caller may not enter is not there.

    Raises:
        ExperimentUnknown: names the field.
    """
    found = await database.read(experiments.find_experiment, caller.project_id, uid_of(shown))
    if found is None or not caller.may_enter(found.workspace_id):
        raise experiments.experiment_unknown(shown, field=field)
    return found


async def update_experiment(
    database: Database,
    caller: Caller,
    shown: str,
    *,
    name: str | None,
    description: str | None,
    now_ms: int,
) -> Experiment:
    """Change what is given; None stays. Jobs show the name that it had when they were made.

    Raises:
        ExperimentUnknown, InvalidRequest: nothing was changed.
    """
    present = await get_experiment(database, caller, shown)

    def change(tx: Transaction) -> Experiment:
        fresh = experiments.find_experiment(tx.connection, caller.project_id, present.uid)
        if fresh is None:
            raise experiments.experiment_unknown(shown)
        changed = replace(
            fresh,
            name=fresh.name if name is None else name,
            description=fresh.description if description is None else description,
            updated_at_ms=now_ms,
        )
        check_experiment(changed)
        experiments.update_experiment(tx, changed)
        return changed

    return await database.write(change)


async def delete_experiment(database: Database, caller: Caller, shown: str) -> None:
    """Its jobs stay as they are, in no experiment."""
    present = await get_experiment(database, caller, shown)
    await database.write(experiments.delete_experiment, caller.project_id, present.uid)
