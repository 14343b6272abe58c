"""Networks: make, change, delete."""

from collections.abc import Mapping

from muster.domain.errors import InvalidRequest
from muster.domain.network import (
    Network,
    NetworkChange,
    NetworkSpec,
    changed_network,
    new_network,
)
from muster.domain.pool import Pool
from muster.operations.caller import Caller
from muster.store import jobs, networks, pools
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.transaction import Transaction

_NAMED_MAX = 10  # pools in the message of a refusal


async def create_network(
    database: Database,
    caller: Caller,
    *,
    display_name: str,
    workspace_id: str,
    spec: NetworkSpec,
    annotations: Mapping[str, str],
    now_ms: int,
) -> Network:
    """Keep a new one.

    Raises:
        InvalidRequest: names the field; nothing was made.
    """
    network = new_network(
        project_id=caller.project_id,
        workspace_id=workspace_id,
        display_name=display_name,
        spec=spec,
        annotations=annotations,
        now_ms=now_ms,
    )

    def insert(tx: Transaction) -> Network:
        jobs.check_workspace(tx.connection, caller.project_id, workspace_id)
        networks.insert_network(tx, network)
        return network

    return await database.write(insert)


async def change_network(
    database: Database, caller: Caller, name: str, change: NetworkChange
) -> Network:
    """Carry out a merge patch.

    Raises:
        InvalidRequest, NetworkUnknown: nothing was changed.
    """

    def update(tx: Transaction) -> Network:
        before = networks.get_network(tx.connection, caller.project_id, name)
        after = changed_network(before, change)
        if after.workspace_id != before.workspace_id:
            jobs.check_workspace(tx.connection, caller.project_id, after.workspace_id)
        if after != before:
            networks.update_network(tx, after)
        return after

    return await database.write(update)


async def delete_network(database: Database, caller: Caller, name: str) -> Network:
    """Forget it; it as it was.

    Raises:
        InvalidRequest: pools name it.
        NetworkUnknown: it is not there.
    """

    def delete(tx: Transaction) -> Network:
        network = networks.get_network(tx.connection, caller.project_id, name)
        used_by = [pool.id for pool in pools_in(tx.connection, network)]
        if used_by:
            more = f" and {len(used_by) - _NAMED_MAX} more" if len(used_by) > _NAMED_MAX else ""
            raise InvalidRequest(
                f"Network {name} is named by the pools {', '.join(used_by[:_NAMED_MAX])}{more};"
                " delete them first."
            )
        networks.delete_network(tx, name)
        return network

    return await database.write(delete)


def pools_in(connection: Connection, network: Network) -> list[Pool]:
    """The pools of the project that name the network, until the last node of them is gone."""
    return [
        pool
        for pool in pools.list_pools(connection, network.project_id)
        if network_named_by(pool) == network.name
    ]


def network_named_by(pool: Pool) -> str:
    """Empty where it names none. It need not be one that is there: nothing depends on it."""
    given = pool.settings.get("network")
    named = given.get("name") if isinstance(given, Mapping) else None
    return named if isinstance(named, str) else ""
