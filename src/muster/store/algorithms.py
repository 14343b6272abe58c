"""Algorithms in the store."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from muster.domain.algorithm import (
    ALGORITHMS_MAX,
    Algorithm,
    AlgorithmList,
    AutoSearch,
    Recipe,
)
from muster.domain.errors import AlgorithmNameTaken, AlgorithmUnknown, TrainingQuotaExceeded
from muster.domain.requirement import Requirement
from muster.store.connection import REFUSED, Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("algorithms")

_RECIPE: Final = msgspec.json.Decoder(Recipe)
_REQUIREMENTS: Final = msgspec.json.Decoder(tuple[Requirement, ...])
_AUTO_SEARCH: Final = msgspec.json.Decoder(AutoSearch | None)


def insert_algorithm(tx: Transaction, algorithm: Algorithm) -> None:
    """Store a new one.

    Raises:
        AlgorithmNameTaken: its workspace has one of that name.
        TrainingQuotaExceeded: the project has as many as it may have.
    """
    key = {"project_id": algorithm.project_id}
    [count] = tx.execute(SQL["count_algorithms"], key).fetchone()
    if count >= ALGORITHMS_MAX:
        raise TrainingQuotaExceeded(
            f"This project has {count} algorithms, as many as it may have; delete some first."
        )
    try:
        tx.execute(SQL["insert_algorithm"], _row_of(algorithm))
    except REFUSED as error:
        raise _name_taken(algorithm) from error


def update_algorithm(tx: Transaction, algorithm: Algorithm) -> None:
    """Store what can change of it anew.

    Raises:
        AlgorithmNameTaken: its workspace has another one of that name.
        AlgorithmUnknown: it is gone.
    """
    try:
        changed = tx.execute(SQL["update_algorithm"], _row_of(algorithm)).rowcount
    except REFUSED as error:
        raise _name_taken(algorithm) from error
    if changed == 0:
        raise algorithm_unknown(algorithm.id)


def delete_algorithm(tx: Transaction, project_id: str, uid: str) -> None:
    key = {"project_id": project_id, "uid": uid}
    if tx.execute(SQL["delete_algorithm"], key).rowcount == 0:
        raise algorithm_unknown(uid)


def find_algorithm(connection: Connection, project_id: str, uid: str) -> Algorithm | None:
    row = connection.execute(
        SQL["find_algorithm"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return None if row is None else _algorithm(row)


def get_algorithm(connection: Connection, project_id: str, uid: str) -> Algorithm:
    found = find_algorithm(connection, project_id, uid)
    if found is None:
        raise algorithm_unknown(uid)
    return found


def algorithm_unknown(shown: str, *, field: str = "algorithm_id") -> AlgorithmUnknown:
    """One of another project, or where the caller may not enter, is not there either."""
    return AlgorithmUnknown(f"{field} is {shown[:100]!r}; this project has no such algorithm.")


def page_of_algorithms(connection: Connection, query: AlgorithmList) -> tuple[int, list[Algorithm]]:
    """(how many match, the page of them)."""
    values = {
        "project_id": query.project_id,
        "workspace_id": query.workspace_id,
        "part": query.name,
    }
    [total] = connection.execute(SQL["count_listed_algorithms"], values).fetchone()
    listed = "list_algorithms_descending" if query.is_descending else "list_algorithms_ascending"
    rows = connection.execute(
        SQL[listed],
        values
        | {
            "group_key": query.group_key,
            "sort_key": query.sort_key,
            "limit": query.limit,
            "offset": query.offset,
        },
    )
    return int(total), [_algorithm(row) for row in rows]


def find_workspace_of_algorithm(connection: Connection, project_id: str, uid: str) -> str | None:
    row = connection.execute(
        SQL["find_workspace_of_algorithm"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return row[0] if row else None


def find_project_account(connection: Connection, project_id: str) -> str:
    """The id of the account that has the project."""
    [account_id] = connection.execute(
        SQL["find_project_account"], {"project_id": project_id}
    ).fetchone()
    return str(account_id)


def _name_taken(algorithm: Algorithm) -> AlgorithmNameTaken:
    return AlgorithmNameTaken(
        f"metadata.name is {algorithm.name!r}; workspace {algorithm.workspace_id!r} has an"
        " algorithm of that name."
    )


def _row_of(algorithm: Algorithm) -> dict[str, Any]:
    return {
        "uid": algorithm.id,
        "project_id": algorithm.project_id,
        "workspace_id": algorithm.workspace_id,
        "name": algorithm.name,
        "description": algorithm.description,
        "creator_name": algorithm.creator_name,
        "recipe": _json(algorithm.recipe),
        "requirements": _json(algorithm.requirements),
        "auto_search": _json(algorithm.auto_search),
        "code_bytes": algorithm.code_bytes,
        "created_at_ms": algorithm.created_at_ms,
        "updated_at_ms": algorithm.updated_at_ms,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _algorithm(row: Sequence[Any]) -> Algorithm:
    return Algorithm(
        id=row[0],
        project_id=row[1],
        workspace_id=row[2],
        name=row[3],
        description=row[4],
        creator_name=row[5],
        recipe=_RECIPE.decode(row[6]),
        requirements=_REQUIREMENTS.decode(row[7]),
        auto_search=_AUTO_SEARCH.decode(row[8]),
        code_bytes=row[9],
        created_at_ms=row[10],
        updated_at_ms=row[11],
    )
