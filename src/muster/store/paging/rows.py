"""The rows of a page: what a list shows of the ids that it has found."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from muster.store.connection import Connection
from muster.store.history import is_out_of_order
from muster.store.paging.gathering import entries_of_candidates, these
from muster.store.paging.pages import in_true_order, page_statements, stream_ids
from muster.store.paging.scope import Scope, SortKey, Statement, Values
from muster.store.paging.totals import total_and_order

_THESE: Final = "SELECT value AS id FROM json_each(:ids)"


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of a list, and where they are read."""

    columns: str
    table: str
    tables: str  # that and what is joined to it
    id_place: int = 0  # of the id among the columns

    def of(self, connection: Connection, statement: Statement, values: Values) -> list[Any]:
        """The rows of a part of a page, in its order."""
        if statement.source and self.tables == self.table:
            # Read along the index: nothing is looked up twice.
            sql = f"SELECT {self.columns} {statement.source}"
            return connection.execute(sql, statement.values | values).fetchall()
        ids = statement.known_ids
        if ids is None:
            ids = [id_ for (id_,) in connection.execute(statement.ids, statement.values)]
        return self.by_ids(connection, ids, values)

    def by_ids(self, connection: Connection, ids: Sequence[int], values: Values) -> list[Any]:
        """The rows with these ids, in their order."""
        rows = connection.execute(
            f"SELECT {self.columns} FROM ({_THESE}) AS page"  # noqa: S608 - constant fragments
            f" CROSS JOIN {self.tables} WHERE {self.table}.id = page.id",
            values | {"ids": json.dumps(ids)},
        ).fetchall()
        # The order of a join is no promise of any database.
        places = {id_: place for place, id_ in enumerate(ids)}
        rows.sort(key=lambda row: places[row[self.id_place]])
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which part of a list, in which order."""

    key: SortKey
    is_descending: bool
    offset: int
    limit: int | None  # None: everything
    now_ms: int  # one moment for every running duration that the list is sorted by


def page_of(
    connection: Connection, scope: Scope, wanted: Wanted, rows: Rows, values: Values
) -> tuple[int, list[Any]]:
    """(how many match, the rows of the page); `values` are for the columns."""
    end = None if wanted.limit is None else wanted.offset + wanted.limit
    if scope.candidates is not None:
        entries = entries_of_candidates(
            connection,
            scope,
            in_true_order(wanted.key, is_in_order=_is_in_order(connection, scope)),
            is_descending=wanted.is_descending,
            now_ms=wanted.now_ms,
        )
        page = rows.of(connection, these(entries[wanted.offset : end]), values)
        return len(entries), page
    total, is_in_order = total_and_order(connection, scope)
    page = []
    for statement in page_statements(
        connection,
        scope,
        in_true_order(wanted.key, is_in_order=is_in_order),
        is_descending=wanted.is_descending,
        offset=wanted.offset,
        limit=total if wanted.limit is None else wanted.limit,
        total=total,
        now_ms=wanted.now_ms,
    ):
        page += rows.of(connection, statement, values)
    return total, page


def _is_in_order(connection: Connection, scope: Scope) -> bool:
    return not is_out_of_order(connection, scope.project_id, scope.workspace_id, scope.table)


def stream_of(
    connection: Connection, scope: Scope, wanted: Wanted, rows: Rows, *, chunk_rows: int
) -> Iterator[list[Any]]:
    """The rows in chunks, as they are asked for, on the snapshot of the connection."""
    ids = stream_ids(
        connection,
        scope,
        wanted.key,
        is_descending=wanted.is_descending,
        offset=wanted.offset,
        now_ms=wanted.now_ms,
    )
    ids = islice(ids, wanted.limit)
    while chunk := list(islice(ids, chunk_rows)):
        yield rows.by_ids(connection, chunk, {})
