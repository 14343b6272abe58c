"""Models: kept, found, listed, deleted."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from muster.domain.errors import ModelInUse, ModelUnknown, ModelVersionTaken, QuotaExceeded
from muster.domain.model import MODELS_MAX, Model, ModelList, Recipe, version_rank
from muster.store.connection import REFUSED, Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("models")

_RECIPE: Final = msgspec.json.Decoder(Recipe)


def insert_model(tx: Transaction, model: Model) -> None:
    """Store a new one. The snapshot of its folder stays as long as it does.

    Raises:
        ModelVersionTaken: the workspace has that version of a model of that name.
        QuotaExceeded: the project has too many.
    """
    [count] = tx.execute(SQL["count_models"], {"project_id": model.project_id}).fetchone()
    if count >= MODELS_MAX:
        raise QuotaExceeded(f"This project has {count} models, and may have {MODELS_MAX}.")
    try:
        tx.execute(SQL["insert_model"], _row_of(model))
    except REFUSED as error:
        raise ModelVersionTaken(
            f"model_name is {model.name!r} and model_version {model.version!r}; workspace"
            f" {model.workspace_id!r} has that version of it already."
        ) from error
    tx.counts.snapshot(model.recipe.code, 1)


def find_model(connection: Connection, project_id: str, uid: str) -> Model | None:
    row = connection.execute(SQL["find_model"], {"project_id": project_id, "uid": uid}).fetchone()
    return None if row is None else _model(row)


def get_model(connection: Connection, project_id: str, uid: str) -> Model:
    found = find_model(connection, project_id, uid)
    if found is None:
        raise model_unknown(uid)
    return found


def model_unknown(shown: str, *, field: str = "model_id") -> ModelUnknown:
    """One of another project, or where the caller may not enter, is not there either."""
    return ModelUnknown(f"{field} is {shown[:100]!r}; this project has no such model.")


def find_workspace_of_model(connection: Connection, project_id: str, uid: str) -> str | None:
    row = connection.execute(
        SQL["find_workspace_of_model"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return row[0] if row else None


def list_versions(connection: Connection, model: Model) -> list[str]:
    """The ids of every version of its name in its workspace, itself among them."""
    rows = connection.execute(
        SQL["list_versions_of_model"],
        {
            "project_id": model.project_id,
            "workspace_id": model.workspace_id,
            "name": model.name,
        },
    )
    return [uid for (uid,) in rows]


def page_of_models(connection: Connection, query: ModelList) -> tuple[int, list[Model]]:
    """(how many match, the page of them). Ties are in the order of their ids."""
    rows = connection.execute(
        SQL["list_models"],
        {"project_id": query.project_id, "workspace_id": query.workspace_id},
    ).fetchall()
    found = [row for row in rows if _matches(row, query)]
    keys = {"create_at": 5, "model_version": 2, "model_size": 4}
    found.sort(key=lambda row: row[0])
    found.sort(key=lambda row: row[keys[query.sort_by]], reverse=query.is_descending)
    ids = [row[0] for row in found]
    start = query.page * query.limit
    if query.marker:
        # What comes after it; nothing, where it is the last, or none of these.
        start = ids.index(query.marker) + 1 if query.marker in ids else len(ids)
    page = ids[start : start + query.limit]
    return len(ids), [get_model(connection, query.project_id, uid) for uid in page]


def _matches(row: Sequence[Any], query: ModelList) -> bool:
    _, name, _, type_, _, _, version, description = row
    is_named = name == query.name if query.is_exact else query.name.lower() in name.lower()
    return (
        (not query.name or is_named)
        and query.version in ("", version)
        and query.status in ("", "published")
        and query.type in ("", type_)
        and (not query.not_type or query.not_type != type_)
        and query.description.lower() in description.lower()
    )


def delete_model(tx: Transaction, project_id: str, uid: str) -> None:
    """Drop one that no service runs.

    Raises:
        ModelUnknown: the project has none of that id.
        ModelInUse: names the service.
    """
    model = get_model(tx.connection, project_id, uid)
    user = tx.execute(SQL["find_service_with_model"], {"uid": uid}).fetchone()
    if user is not None:
        raise ModelInUse(
            f"Model {model.name} {model.version} is run by the service {user[0]!r}; delete that"
            " first, or have it run another model."
        )
    tx.execute(SQL["delete_model"], {"project_id": project_id, "uid": uid}).fetchone()
    tx.counts.snapshot(model.recipe.code, -1)


def _row_of(model: Model) -> dict[str, Any]:
    return {
        "uid": model.id,
        "project_id": model.project_id,
        "workspace_id": model.workspace_id,
        "name": model.name,
        "version": model.version,
        "version_rank": version_rank(model.version),
        "type": model.type,
        "description": model.description,
        "creator_name": model.creator_name,
        "size_bytes": model.size_bytes,
        "code": model.recipe.code,
        "recipe": msgspec.json.encode(model.recipe).decode(),
        "created_at_ms": model.created_at_ms,
    }


def _model(row: Sequence[Any]) -> Model:
    return Model(
        id=row[0],
        project_id=row[1],
        workspace_id=row[2],
        name=row[3],
        version=row[4],
        type=row[5],
        description=row[6],
        creator_name=row[7],
        size_bytes=row[8],
        recipe=_RECIPE.decode(row[9]),
        created_at_ms=row[10],
    )
