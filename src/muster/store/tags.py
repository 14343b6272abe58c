"""Tags of training jobs in the store; and where a node is, which alone its tags are asked for by.

A node has its tags in its row, and a pool in its annotations: see `domain/tag.py`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from muster.domain.errors import NodeUnknown
from muster.domain.pool import PUBLIC_PARTITION, public_pool_id
from muster.store.connection import Connection
from muster.store.paging.scope import Candidates, Scope
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("tags")


@dataclass(frozen=True, slots=True)
class TagTerm:
    """Jobs that have a tag of that key, with any of the values; without values: with any at all."""

    key: str
    values: tuple[str, ...] = ()


def find_pool_of_node(connection: Connection, project_id: str, node_name: str) -> str | None:
    """The id of the pool that a node is in, as the project would see it; None: there is no node."""
    row = connection.execute(SQL["find_partition_of_node"], {"node_name": node_name}).fetchone()
    if row is None:
        return None
    return public_pool_id(project_id) if row[0] == PUBLIC_PARTITION else str(row[0])


def node_unknown(name: str) -> NodeUnknown:
    return NodeUnknown(f"Node {name[:100]} not found.")


def is_listed(connection: Connection, version_id: int) -> bool:
    row = connection.execute(SQL["version_is_listed"], {"version_id": version_id}).fetchone()
    return row is not None


def list_version_tags(connection: Connection, version_id: int) -> dict[str, str]:
    return dict(connection.execute(SQL["list_version_tags"], {"version_id": version_id}).fetchall())


def list_tags_of_versions(
    connection: Connection, version_ids: Sequence[int]
) -> dict[int, dict[str, str]]:
    """By version; those without any are left out."""
    found: dict[int, dict[str, str]] = {}
    values = {"version_ids": json.dumps(version_ids)}
    for version_id, key, value in connection.execute(SQL["list_tags_of_versions"], values):
        found.setdefault(version_id, {})[key] = value
    return found


def put_version_tags(
    tx: Transaction, version_id: int, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    """Let a listed version have these tags, and no more those that it had before."""
    for key in before.keys() - after.keys():
        tx.execute(SQL["take_version_tag"], {"version_id": version_id, "key": key})
    for key, value in after.items():
        if before.get(key) != value:
            tag = {"version_id": version_id, "key": key, "value": value}
            tx.execute(SQL["put_version_tag"], tag)


def take_version_tags(tx: Transaction, version_id: int) -> None:
    """A version is listed no more: it has no tags either."""
    tx.execute(SQL["take_version_tags"], {"version_id": version_id})


def list_workspace_tags(
    connection: Connection, project_id: str, workspace_ids: Iterable[str]
) -> list[tuple[str, str]]:
    """(key, value) of all jobs in these workspaces; a pair as often as there are workspaces."""
    return [
        (key, value)
        for workspace_id in workspace_ids
        for key, value in connection.execute(
            SQL["list_workspace_tags"], {"project_id": project_id, "workspace_id": workspace_id}
        )
    ]


# ---------------------------------------------------------------- searching by them


def condition(term: TagTerm, name: str) -> tuple[str, dict[str, str]]:
    """What a version meets that has such a tag, and what that binds under names from `name`."""
    where, values = _matching(term, name)
    return (
        " AND EXISTS (SELECT 1 FROM version_tag AS t"  # noqa: S608 - constant fragments
        f" WHERE t.version_id = version.id{where})",
        values,
    )


def candidates(term: TagTerm, name: str, scope: Scope) -> Candidates:
    """The versions with such a tag, of the times that the scope is about."""
    where, values = _matching(term, name)
    since = {"id_from": (">=", scope.id_from), "id_below": ("<", scope.id_below)}
    ids = {bound: id_ for bound, (_, id_) in since.items() if id_ is not None}
    for bound in ids:
        where += f" AND t.version_id {since[bound][0]} :{bound}"
    return Candidates(
        "id",
        "SELECT t.version_id AS value"  # noqa: S608 - likewise
        " FROM version_tag AS t INDEXED BY version_tag_by_key"
        f" WHERE t.project_id = :project_id AND t.workspace_id = :workspace_id{where}",
        values | ids,
    )


UNTAGGED: Final = " AND NOT EXISTS (SELECT 1 FROM version_tag AS t WHERE t.version_id = version.id)"


def _matching(term: TagTerm, name: str) -> tuple[str, dict[str, str]]:
    where, values = f" AND t.key = :{name}", {name: term.key}
    if term.values:
        where += f" AND t.value IN (SELECT value FROM json_each(:{name}_values))"  # noqa: S608
        values[f"{name}_values"] = json.dumps(term.values)
    return where, values
