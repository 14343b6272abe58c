"""Whole lists as JSON that the database itself writes, many rows in one step.

Each step runs without the interpreter, which so is there for the other calls meanwhile; and no
value of a row becomes an object of Python.
"""

import sqlite3
from collections.abc import Iterator, Sequence

from muster.store.connection import Connection
from muster.store.paging.id_order import beginning_of
from muster.store.paging.pages import Part
from muster.store.paging.scope import CREATED, Scope, Values, walk


def stream_texts(
    connection: Connection,
    scope: Scope,
    part: Part,
    fields: Sequence[tuple[str, str]],
    values: Values,
    *,
    chunk_rows: int,
) -> Iterator[bytes] | None:
    """The rows as JSON objects with commas in between, chunk by chunk, and no comma at either end.

    None where the database cannot: it is another one, or no one index has the list in its order.

    Args:
        connection: on the snapshot that all of it is read from.
        scope: which rows.
        part: which of them, in which order.
        fields: of each object, and the column that it shows.
        values: for the columns.
        chunk_rows: read in one step.
    """
    if not isinstance(connection, sqlite3.Connection) or part.key != CREATED:
        return None
    begun = beginning_of(connection, scope, is_descending=part.is_descending, offset=part.offset)
    if begun is None:
        return None
    scope, stretch, offset = begun
    source, own = walk(scope, CREATED, stretch)
    shown = ", ".join(f"'{name}', {column}" for name, column in fields)
    bound, order = ("<", "DESC") if part.is_descending else (">", "ASC")

    def statement(more: str) -> str:
        return (
            "SELECT CAST(group_concat(shown) AS BLOB), count(*),"  # noqa: S608 - constant fragments
            f" {'min' if part.is_descending else 'max'}(id)"
            f" FROM (SELECT json_object({shown}) AS shown, id {source}{more}"
            f" ORDER BY id {order} LIMIT :limit OFFSET :offset) AS chunk"
        )

    following = statement(f" AND id {bound} :last")

    def chunks() -> Iterator[bytes]:
        sql, given = statement(""), own | values | {"offset": offset}
        left = part.limit
        while left > 0:
            given["limit"] = min(chunk_rows, left)
            text, count, given["last"] = connection.execute(sql, given).fetchone()
            yield text
            left -= count
            sql, given["offset"] = following, 0

    return chunks()
