"""The rows of a page: what a list shows of the ids that it has found."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from muster.store.connection import Connection
from muster.store.history import is_out_of_order
from muster.store.paging.gathering import entries_of_candidates, these
from muster.store.paging.pages import (
    Part,
    TooFar,
    bounded_statements,
    in_true_order,
    is_counted_whole,
    page_statements,
    stream_ids,
    stream_statements,
)
from muster.store.paging.scope import Scope, SortKey, Statement, Values
from muster.store.paging.texts import stream_texts
from muster.store.paging.totals import Totals, totals_of

_THESE: Final = "SELECT value AS id FROM json_each(:ids)"


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of a list, and where they are read."""

    columns: str
    table: str
    tables: str  # that and what is joined to it
    id_place: int = 0  # of the id among the columns
    name_place: int = 1

    def of(self, connection: Connection, statement: Statement, values: Values) -> list[Any]:
        """The rows of a part of a page, in its order."""
        if statement.source and self.tables == self.table:
            # Read along the index: nothing is looked up twice.
            sql = f"SELECT {self.columns} {statement.source}"
            return connection.execute(sql, statement.values | values).fetchall()
        if statement.ordered_by:
            return self._joined(connection, statement, values)
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

    def _joined(self, connection: Connection, statement: Statement, values: Values) -> list[Any]:
        """As `by_ids`, in one statement with that which finds the ids."""
        rows = connection.execute(
            f"SELECT {self.columns} FROM ({statement.ids}) AS page"  # noqa: S608 - likewise
            f" CROSS JOIN {self.tables} WHERE {self.table}.id = page.id",
            statement.values | values,
        ).fetchall()
        id_, name = self.id_place, self.name_place
        if statement.ordered_by == "id":
            rows.sort(key=itemgetter(id_), reverse=statement.is_reversed)
        else:
            rows.sort(key=itemgetter(name, id_), reverse=statement.is_reversed)
        return rows

    def stream(
        self, connection: Connection, statement: Statement, *, chunk_rows: int
    ) -> Iterator[list[Any]]:
        """The rows of a part of a list, in its order, as they are asked for."""
        if statement.source and self.tables == self.table:
            found = connection.execute(
                f"SELECT {self.columns} {statement.source}", statement.values
            )
            while rows := found.fetchmany(chunk_rows):
                yield rows
            return
        found = connection.execute(statement.ids, statement.values)
        while ids := found.fetchmany(chunk_rows):
            yield self.by_ids(connection, [id_ for (id_,) in ids], {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which part of a list, in which order."""

    key: SortKey
    is_descending: bool
    offset: int
    limit: int | None  # None: everything
    now_ms: int  # one moment for every running duration that the list is sorted by
    is_bounded: bool = False  # nobody can wait: TooFar rather than passing many rows


def page_of(
    connection: Connection, scope: Scope, wanted: Wanted, rows: Rows, values: Values
) -> tuple[int, list[Any]]:
    """(how many match, the rows of the page); `values` are for the columns.

    Raises:
        TooFar: it is not to be had by a bounded read, and one was asked for.
    """
    if scope.candidates is not None:
        end = None if wanted.limit is None else wanted.offset + wanted.limit
        entries = entries_of_candidates(
            connection,
            scope,
            in_true_order(wanted.key, is_in_order=_is_in_order(connection, scope)),
            is_descending=wanted.is_descending,
            now_ms=wanted.now_ms,
        )
        page = rows.of(connection, these(entries[wanted.offset : end]), values)
        return len(entries), page
    totals, part = _part(connection, scope, wanted)
    if part is None:
        return totals.matching, []
    page = []
    statements = bounded_statements if wanted.is_bounded else page_statements
    for statement in statements(connection, scope, part):
        found = rows.of(connection, statement, values)
        if statement.is_cut_off and len(found) < part.limit:
            raise TooFar
        page += found
    return totals.matching, page


def _is_in_order(connection: Connection, scope: Scope) -> bool:
    return not is_out_of_order(connection, scope.project_id, scope.workspace_id, scope.table)


def _part(connection: Connection, scope: Scope, wanted: Wanted) -> tuple[Totals, Part | None]:
    """(what is counted, the part of the list that is asked for; None: nothing is there)."""
    key = wanted.key
    totals = totals_of(connection, scope, with_workspace=is_counted_whole(scope, key))
    true_key = in_true_order(key, is_in_order=totals.is_in_order)
    if true_key != key and is_counted_whole(scope, true_key):
        totals = totals_of(connection, scope, with_workspace=True)
    left = totals.matching - wanted.offset
    limit = left if wanted.limit is None else min(wanted.limit, left)
    if limit <= 0:
        return totals, None
    return totals, Part(
        key=true_key,
        is_descending=wanted.is_descending,
        offset=wanted.offset,
        limit=limit,
        totals=totals,
        now_ms=wanted.now_ms,
    )


def stream_texts_of(
    connection: Connection,
    scope: Scope,
    wanted: Wanted,
    fields: Sequence[tuple[str, str]],
    values: Values,
    *,
    chunk_rows: int,
) -> Iterator[bytes] | None:
    """As `stream_of`, as JSON that the database writes; None where it cannot: see `texts.py`."""
    _, part = _part(connection, scope, wanted)
    if part is None:
        return iter(())
    return stream_texts(connection, scope, part, fields, values, chunk_rows=chunk_rows)


def stream_of(
    connection: Connection, scope: Scope, wanted: Wanted, rows: Rows, *, chunk_rows: int
) -> Iterator[list[Any]]:
    """The rows in chunks of at most so many, as they are asked for, on the snapshot."""
    _, part = _part(connection, scope, wanted)
    if part is None:
        return
    statements = stream_statements(connection, scope, part)
    if statements is not None:
        for statement in statements:
            yield from rows.stream(connection, statement, chunk_rows=chunk_rows)
        return
    ids = islice(stream_ids(connection, scope, part), part.limit)
    while chunk := list(islice(ids, chunk_rows)):
        yield rows.by_ids(connection, chunk, {})
