"""Pools: what users and the inventory wish of them, and the phases that they go through.

Their nodes are in `pool_nodes.py`, their events in `pool_events.py`.
"""

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from muster.domain.errors import PoolChanged, PoolNameTaken, PoolUnknown, StaleWrite
from muster.domain.pool import (
    Pool,
    PoolEvent,
    PoolLine,
    PoolPhase,
    Scope,
    next_pool_phase,
    pool_id_of,
    public_pool,
)
from muster.domain.resources import Resources
from muster.store.connection import REFUSED, Connection
from muster.store.pool_events import PHASE_CHANGED, insert_event, measure_pools, nodes_change
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("pools")
_WARNING_PHASES: Final = frozenset(
    {
        PoolPhase.ABNORMAL,
        PoolPhase.CREATION_FAILED,
        PoolPhase.SCALING_FAILED,
        PoolPhase.ERROR,
    }
)


def find_pool(connection: Connection, project_id: str, pool_id: str) -> Pool | None:
    """One that is deleted is not found."""
    row = connection.execute(
        SQL["find_pool"], {"pool_id": pool_id, "project_id": project_id}
    ).fetchone()
    return _pool(row) if row else None


def get_pool(connection: Connection, project_id: str, pool_id: str) -> Pool:
    """One that the project has.

    Raises:
        PoolUnknown: it has none of that id.
    """
    pool = find_pool(connection, project_id, pool_id)
    if pool is None:
        raise pool_unknown(pool_id)
    return pool


def pool_unknown(pool_id: str) -> PoolUnknown:
    return PoolUnknown(f"Pool {pool_id} not found.")


def list_pools(connection: Connection, project_id: str) -> list[Pool]:
    return [_pool(row) for row in connection.execute(SQL["list_pools"], {"project_id": project_id})]


def list_present_pools(connection: Connection) -> list[Pool]:
    """Of every project, oldest first."""
    return [_pool(row) for row in connection.execute(SQL["list_present_pools"])]


def is_id_used(connection: Connection, pool_id: str) -> bool:
    """Whether some pool has or had that id."""
    return connection.execute(SQL["pool_id_is_used"], {"pool_id": pool_id}).fetchone() is not None


def insert_pool(tx: Transaction, pool: Pool) -> None:
    """Store a new pool, without nodes; the reconciler gives it what its lines ask for.

    Raises:
        PoolNameTaken: the project has a pool of that display name.
    """
    try:
        tx.execute(SQL["insert_pool"], _row_of(pool))
    except REFUSED as error:
        raise PoolNameTaken(
            f"The project has a pool named {pool.display_name!r}; names are unique in a project."
        ) from error
    _put_lines(tx, pool)
    tx.has_work = True


def change_pool(tx: Transaction, pool: Pool, *, now_ms: int | None = None, actor: str = "") -> Pool:
    """Store what a user wishes of it: workspace, scopes, lines, labels, annotations, settings.

    Args:
        tx: the transaction to do it in.
        pool: as it was read, with the changes; its wish guards them.
        now_ms: when; None: the inventory wishes it, and nobody is told.
        actor: who wishes it.

    Raises:
        PoolChanged: somebody else changed it since it was read.
    """
    if tx.execute(SQL["change_pool"], {**_row_of(pool), "wish": pool.wish}).rowcount == 0:
        raise PoolChanged(
            f"Pool {pool.id} was changed by somebody else at the same time; read it again."
        )
    with nodes_change(tx, pool.partition, now_ms=now_ms, actor=actor):
        tx.execute(SQL["delete_lines"], {"pool_id": pool.id})
        _put_lines(tx, pool)
    tx.has_work = True
    return replace(pool, wish=pool.wish + 1)


def _put_lines(tx: Transaction, pool: Pool) -> None:
    for position, line in enumerate(pool.lines):
        tx.execute(
            SQL["insert_line"],
            {
                "pool_id": pool.id,
                "name": line.name,
                "position": position,
                "flavor_code": line.flavor_code,
                "node_count": line.node_count,
                "settings": json.dumps(line.settings),
            },
        )


def move_pool(
    tx: Transaction, pool: Pool, event: PoolEvent, *, now_ms: int, actor: str, message: str = ""
) -> Pool:
    """Carry one event out, and note it: the only function that changes the phase of a pool.

    Raises:
        IllegalTransition: the table of phases has no such move.
        StaleWrite: somebody else moved it first.
    """
    phase = next_pool_phase(pool.phase, event)
    moved = tx.execute(
        SQL["move_pool"],
        {
            "pool_id": pool.id,
            "phase": phase,
            "phase_before": pool.phase,
            "message": message,
            "now_ms": now_ms,
        },
    )
    if moved.rowcount == 0:
        raise StaleWrite(f"Pool {pool.id} was changed meanwhile.")
    insert_event(
        tx,
        pool.id,
        is_warning=phase in _WARNING_PHASES,
        reason=PHASE_CHANGED,
        message=f"Pool status changed, from {pool.phase} to {phase}."
        + (f" {message}" if message else ""),
        now_ms=now_ms,
        actor=actor,
    )
    tx.has_work = True
    return replace(pool, phase=phase, message=message, phase_since_ms=now_ms)


def note_pool(tx: Transaction, pool: Pool, message: str) -> None:
    """Say what it waits for; it stands where it stands."""
    tx.execute(SQL["note_pool"], {"pool_id": pool.id, "message": message})


def end_pool(tx: Transaction, pool: Pool, *, now_ms: int) -> None:
    """Nothing of it is left. Its history stays, under its id."""
    tx.execute(SQL["end_pool"], {"pool_id": pool.id, "now_ms": now_ms})


def is_at_work(connection: Connection, pool: Pool) -> bool:
    """Whether anything in it waits, runs, or holds a node."""
    key = {"project_id": pool.project_id, "pool_id": pool.id}
    return bool(connection.execute(SQL["pool_is_at_work"], key).fetchone()[0])


def is_stoppable(connection: Connection, pool: Pool) -> bool:
    """Whether anything in it waits or runs that has not been told to stop."""
    key = {"project_id": pool.project_id, "pool_id": pool.id}
    return bool(connection.execute(SQL["pool_is_stoppable"], key).fetchone()[0])


def count_pools(connection: Connection, project_id: str) -> int:
    """Those of its own: the public one is not counted."""
    [count] = connection.execute(SQL["count_pools"], {"project_id": project_id}).fetchone()
    return int(count)


def count_wanted_nodes(connection: Connection, project_id: str) -> int:
    """What the project's pools ask for, whether it is there yet or not."""
    [count] = connection.execute(SQL["count_wanted_nodes"], {"project_id": project_id}).fetchone()
    return int(count)


def ensure_public_pool(tx: Transaction, project_id: str, *, now_ms: int) -> None:
    """Give a project its view of the nodes that all share."""
    pool = public_pool(project_id, (), now_ms=now_ms)
    if not is_id_used(tx.connection, pool.id):
        insert_pool(tx, pool)
        measure_pools(tx, pool.partition)


def apply_declared(
    tx: Transaction, declared: Iterable[Pool], *, now_ms: int, withdraws: bool = True
) -> None:
    """Bring the pools in line with the inventory, where its word has changed since the last start.

    A pool that was resized over the API stays so until the inventory says something new. One that
    is declared no more goes, or gives its nodes back where it has history; unless nothing is to be
    withdrawn: then it stays as it is.
    """
    present = {
        (pool.project_id, pool.display_name): pool for pool in list_present_pools(tx.connection)
    }
    for pool in declared:
        known = present.pop((pool.project_id, pool.display_name), None)
        if known is None:
            pool_id = free_pool_id(tx.connection, pool.display_name, pool.project_id)
            insert_pool(tx, replace(pool, id=pool_id, partition=pool_id))
        elif known.declared != pool.declared:
            change_pool(
                tx,
                replace(
                    known,
                    scopes=pool.scopes,
                    lines=pool.lines,
                    settings=pool.settings,
                    declared=pool.declared,
                ),
            )
    for pool in present.values() if withdraws else ():
        if pool.declared and not has_history(tx.connection, pool):
            end_pool(tx, pool, now_ms=now_ms)
        elif pool.declared:
            lines = tuple(replace(line, node_count=0) for line in pool.lines)
            change_pool(tx, replace(pool, lines=lines, declared=WITHDRAWN))


WITHDRAWN: Final = ""  # of a pool that the inventory declared once


def free_pool_id(connection: Connection, display_name: str, project_id: str) -> str:
    """`NAME-PROJECT`, or with four hex digits between them where a deleted pool has that id."""
    pool_id = pool_id_of(display_name, project_id)
    while is_id_used(connection, pool_id):
        pool_id = f"{display_name}-{secrets.token_hex(2)}-{project_id}"
    return pool_id


def has_history(connection: Connection, pool: Pool) -> bool:
    """Whether any workload was ever put there."""
    key = {"project_id": pool.project_id, "pool_id": pool.id}
    return connection.execute(SQL["pool_has_history"], key).fetchone() is not None


def outlook(connection: Connection) -> tuple[object, ...]:
    """Everything that a plan for pools follows from, but for the work on their nodes.

    As long as it stays the same, a plan that came to nothing comes to nothing again.
    """
    found: tuple[object, ...] = connection.execute(SQL["outlook"]).fetchone()
    return found


def _row_of(pool: Pool) -> dict[str, Any]:
    return {
        "id": pool.id,
        "pool_id": pool.id,
        "project_id": pool.project_id,
        "workspace_id": pool.workspace_id,
        "display_name": pool.display_name,
        "partition": pool.partition,
        "phase": pool.phase,
        "message": pool.message,
        "scopes": ",".join(pool.scopes),
        "labels": json.dumps(dict(pool.labels)),
        "annotations": json.dumps(dict(pool.annotations)),
        "settings": json.dumps(dict(pool.settings)),
        "declared": pool.declared,
        "created_at_ms": pool.created_at_ms,
    }


def _pool(row: Sequence[Any]) -> Pool:
    return Pool(
        id=row[0],
        project_id=row[1],
        workspace_id=row[2],
        display_name=row[3],
        partition=row[4],
        phase=PoolPhase(row[5]),
        message=row[6],
        scopes=tuple(Scope(scope) for scope in row[7].split(",") if scope),
        node_count=row[8],
        capacity=Resources(
            cpu_millis=row[9], memory_mib=row[10], gpu_count=row[11], npu_count=row[12]
        ),
        labels=json.loads(row[13]),
        annotations=json.loads(row[14]),
        settings=json.loads(row[15]),
        declared=row[16],
        created_at_ms=row[17],
        phase_since_ms=row[18],
        wish=row[19],
        revision=row[20],
        lines=tuple(
            PoolLine(name=line[0], flavor_code=line[1], node_count=line[2], settings=line[3])
            for line in json.loads(row[21])
        ),
    )
