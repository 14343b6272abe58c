"""Notebooks in the store, each with the workload of its latest start beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from muster.domain.errors import NotebookUnknown, StaleWrite, TooManyNotebooks
from muster.domain.notebook import (
    NOTEBOOKS_MAX,
    CustomSpec,
    Lease,
    Notebook,
    NotebookStatus,
    Volume,
)
from muster.domain.phase import Phase
from muster.store.connection import Connection, Row
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("notebooks")

LIVE_MAX: Final = 10_000  # that the keeper looks at in one pass

_CUSTOM_SPEC: Final = msgspec.json.Decoder(CustomSpec | None)
_VOLUME: Final = msgspec.json.Decoder(Volume)
_LEASE: Final = msgspec.json.Decoder(Lease)
_TAGS: Final = msgspec.json.Decoder(dict[str, str])


def insert_notebook(tx: Transaction, notebook: Notebook) -> None:
    """Store a new one, whose workload is stored already.

    Raises:
        TooManyNotebooks: the project has as many as it may have.
    """
    key = {"project_id": notebook.project_id}
    [count] = tx.execute(SQL["count_notebooks"], key).fetchone()
    if count >= NOTEBOOKS_MAX:
        raise TooManyNotebooks(
            f"This project has {count} notebooks, as many as it may have; delete some first."
        )
    tx.execute(SQL["insert_notebook"], _values_of(notebook)).fetchone()


def update_notebook(tx: Transaction, notebook: Notebook) -> Notebook:
    """Store what can change of it anew; guarded by the revision that it was read with.

    Raises:
        StaleWrite: somebody else changed it first, or it is gone.
    """
    if tx.execute(SQL["update_notebook"], _values_of(notebook)).rowcount == 0:
        raise StaleWrite(f"Notebook {notebook.shown_id} was changed meanwhile.")
    tx.has_work = True
    return replace(notebook, revision=notebook.revision + 1)


def delete_notebook(tx: Transaction, notebook: Notebook) -> None:
    tx.execute(SQL["delete_notebook"], {"id": notebook.id})


def find_notebook(connection: Connection, uid: str) -> Notebook | None:
    """Of whatever project: for those that check that themselves."""
    row = connection.execute(SQL["find_notebook"], {"uid": uid}).fetchone()
    return None if row is None else _notebook(row)


def get_notebook(connection: Connection, project_id: str, uid: str) -> Notebook:
    """One that the project has.

    Raises:
        NotebookUnknown: it has none of that id.
    """
    found = find_notebook(connection, uid)
    if found is None or found.project_id != project_id:
        raise notebook_unknown(uid)
    return found


def notebook_unknown(shown: str) -> NotebookUnknown:
    """One of another project, or where the caller may not enter, is not there either."""
    return NotebookUnknown(f"id is {shown[:100]!r}; this project has no such notebook.")


def list_live_notebooks(connection: Connection) -> list[Notebook]:
    """Those that change by themselves, or by what becomes of their workloads."""
    rows = connection.execute(SQL["list_live_notebooks"], {"limit": LIVE_MAX})
    return [_notebook(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotebookList:
    """What a list is asked for. "": no such filter."""

    project_id: str
    workspace_id: str
    user_id: str = ""
    owner_id: str = ""  # another filter of the same
    user_name: str = ""
    uid: str = ""
    name: str = ""  # a part of it, in any case
    description: str = ""  # likewise
    feature: str = ""
    pool_ids: frozenset[str] | None = None  # None: any
    flavor_code: str = ""
    image_uids: frozenset[str] | None = None  # None: any
    statuses: frozenset[str] | None = None  # None: any
    tags: Mapping[str, str] = field(default_factory=dict)  # it has all of them
    sort_keys: Sequence[str] = ("create_at",)
    is_descending: bool = True
    after_uid: str = ""  # begin after this one
    offset: int = 0
    limit: int = 10


# Columns of a row by what a list may be sorted by.
SORT_KEYS: Final[Mapping[str, int]] = {
    "create_at": 22,
    "update_at": 23,
    "name": 4,
    "status": 17,
    "flavor": 9,
    "owner": 8,
    "image_id": 11,
    "pool_id": 12,
}
_ID: Final = 0
_UID: Final = 1
_TAGS_COLUMN: Final = 16


def page_of_notebooks(connection: Connection, query: NotebookList) -> tuple[int, list[Notebook]]:
    """(how many match, the page of them). Those that are equal in all keys are in id order."""
    rows = connection.execute(
        SQL["list_notebooks"],
        {"project_id": query.project_id, "workspace_id": query.workspace_id},
    )
    matches = _filter_of(query)
    found = sorted((row for row in rows if matches(row)), key=lambda row: row[_ID])
    columns = [SORT_KEYS[key] for key in query.sort_keys]

    def place(row: Row) -> tuple[Any, ...]:
        return tuple(row[column] for column in (*columns, _ID))

    found.sort(key=place, reverse=query.is_descending)
    start = query.offset
    if query.after_uid:
        uids = [row[_UID] for row in found]
        # Nothing comes after one that is the last, or none of these.
        start += uids.index(query.after_uid) + 1 if query.after_uid in uids else len(uids)
    page = found[start : start + query.limit]
    return len(found), [_notebook(row) for row in page]


def _filter_of(query: NotebookList) -> Callable[[Row], bool]:
    equal = [
        (column, wanted)
        for column, wanted in (
            (1, query.uid), (6, query.feature), (7, query.user_id), (7, query.owner_id),
            (8, query.user_name), (9, query.flavor_code),
        )
        if wanted
    ]  # fmt: skip
    parts = [
        (column, part.lower()) for column, part in ((4, query.name), (5, query.description)) if part
    ]

    def matches(row: Row) -> bool:
        return (
            all(row[column] == wanted for column, wanted in equal)
            and all(part in row[column].lower() for column, part in parts)
            and (query.statuses is None or row[17] in query.statuses)
            and (query.image_uids is None or row[11] in query.image_uids)
            and (query.pool_ids is None or row[12] in query.pool_ids)
            and (not query.tags or query.tags.items() <= _TAGS.decode(row[_TAGS_COLUMN]).items())
        )

    return matches


def tags_of_notebooks(
    connection: Connection, project_id: str, workspace_id: str
) -> dict[str, set[str]]:
    """Every value by its key, over all notebooks of a workspace."""
    found: dict[str, set[str]] = {}
    values = {"project_id": project_id, "workspace_id": workspace_id}
    for row in connection.execute(SQL["list_notebooks"], values):
        for key, value in _TAGS.decode(row[_TAGS_COLUMN]).items():
            found.setdefault(key, set()).add(value)
    return found


def find_workspace_of_notebook(connection: Connection, project_id: str, uid: str) -> str | None:
    row = connection.execute(
        SQL["find_workspace_of_notebook"], {"project_id": project_id, "uid": uid}
    ).fetchone()
    return row[0] if row else None


def _values_of(notebook: Notebook) -> dict[str, Any]:
    return {
        "id": notebook.id,
        "uid": notebook.uid,
        "project_id": notebook.project_id,
        "workspace_id": notebook.workspace_id,
        "name": notebook.name,
        "description": notebook.description,
        "feature": notebook.feature,
        "user_id": notebook.user_id,
        "user_name": notebook.user_name,
        "flavor_code": notebook.flavor_code,
        "custom_spec": _json(notebook.custom_spec),
        "image_uid": notebook.image_id,
        "pool_id": notebook.pool_id,
        "volume": _json(notebook.volume),
        "token": notebook.token,
        "lease": _json(notebook.lease),
        "tags": _json(notebook.tags),
        "status": notebook.status.value,
        "fail_reason": notebook.fail_reason,
        "note": notebook.note,
        "server_version": notebook.server_version,
        "last_active_ms": notebook.last_active_ms,
        "created_at_ms": notebook.created_at_ms,
        "updated_at_ms": notebook.updated_at_ms,
        "workload_id": notebook.workload_id,
        "revision": notebook.revision,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _notebook(row: Sequence[Any]) -> Notebook:
    return Notebook(
        id=row[0],
        uid=row[1],
        project_id=row[2],
        workspace_id=row[3],
        name=row[4],
        description=row[5],
        feature=row[6],
        user_id=row[7],
        user_name=row[8],
        flavor_code=row[9],
        custom_spec=_CUSTOM_SPEC.decode(row[10]),
        image_id=row[11],
        pool_id=row[12],
        volume=_VOLUME.decode(row[13]),
        token=row[14],
        lease=_LEASE.decode(row[15]),
        tags=_TAGS.decode(row[16]),
        status=NotebookStatus(row[17]),
        fail_reason=row[18],
        note=row[19],
        server_version=row[20],
        last_active_ms=row[21],
        created_at_ms=row[22],
        updated_at_ms=row[23],
        workload_id=row[24],
        revision=row[25],
        phase=None if row[26] is None else Phase(row[26]),
        phase_message=row[27] or "",
        attempt_id=row[28],
        is_holding=bool(row[29]),
        phase_since_ms=row[30] or 0,
    )
