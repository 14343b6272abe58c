"""Networks in the store."""

from typing import Any, Final

import msgspec

from muster.domain.errors import NameTaken, NetworkUnknown, QuotaExceeded
from muster.domain.network import NETWORKS_MAX, Network, NetworkSpec
from muster.domain.poolwish import NAME_LABEL
from muster.store.connection import REFUSED, Connection, Row
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("networks")
_ANNOTATIONS: Final = msgspec.json.Decoder(dict[str, str])
_SPEC: Final = msgspec.json.Decoder(NetworkSpec)


def insert_network(tx: Transaction, new: Network) -> None:
    """Store a new one.

    Raises:
        QuotaExceeded: the project has as many as it may have.
        NameTaken: the project has one of that display name.
    """
    count = count_networks(tx.connection, new.project_id)
    if count >= NETWORKS_MAX:
        raise QuotaExceeded(
            f"The project has {count} networks, as many as it may have; delete one first."
        )
    try:
        tx.execute(SQL["insert_network"], _values_of(new))
    except REFUSED as error:
        raise NameTaken(
            f"metadata.labels['{NAME_LABEL}'] is {new.display_name!r}; the project has a network"
            " of that name."
        ) from error


def update_network(tx: Transaction, changed: Network) -> None:
    """Store one anew that has been read in the same transaction."""
    tx.execute(SQL["update_network"], _values_of(changed))


def delete_network(tx: Transaction, name: str) -> None:
    tx.execute(SQL["delete_network"], {"name": name})


def count_networks(connection: Connection, project_id: str) -> int:
    [count] = connection.execute(SQL["count_networks"], {"project_id": project_id}).fetchone()
    return int(count)


def get_network(connection: Connection, project_id: str, name: str) -> Network:
    """One that the project has.

    Raises:
        NetworkUnknown: it has none of that name.
    """
    row = connection.execute(
        SQL["find_network"], {"project_id": project_id, "name": name}
    ).fetchone()
    if row is None:
        raise network_unknown(name)
    return _network(row)


def network_unknown(name: str) -> NetworkUnknown:
    return NetworkUnknown(f"Network {name[:100]} not found.")


def list_networks(connection: Connection, project_id: str) -> list[Network]:
    rows = connection.execute(SQL["list_networks"], {"project_id": project_id})
    return [_network(row) for row in rows]


def find_workspace_of_network(connection: Connection, project_id: str, name: str) -> str | None:
    try:
        return get_network(connection, project_id, name).workspace_id
    except NetworkUnknown:
        return None


def _values_of(network: Network) -> dict[str, Any]:
    return {
        "name": network.name,
        "project_id": network.project_id,
        "workspace_id": network.workspace_id,
        "display_name": network.display_name,
        "annotations": msgspec.json.encode(network.annotations).decode(),
        "spec": msgspec.json.encode(network.spec).decode(),
        "created_at_ms": network.created_at_ms,
    }


def _network(row: Row) -> Network:
    return Network(
        name=row[0],
        project_id=row[1],
        workspace_id=row[2],
        display_name=row[3],
        annotations=_ANNOTATIONS.decode(row[4]),
        spec=_SPEC.decode(row[5]),
        created_at_ms=row[6],
    )
