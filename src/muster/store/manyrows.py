"""Statements for many rows: a few large ones instead of one a row.

Begun once for each row, a statement takes twice the time in the embedded store, and a round trip
in the other.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Final

from muster.store.connection import Connection, Cursor, Row

ROWS_OF_STATEMENT: Final = 200  # SQLite takes 32,766 values, 23 a row at most
# Few sizes, so that each text is soon known to the database.
_SIZES: Final = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64, ROWS_OF_STATEMENT)
_VALUES: Final = re.compile(r"VALUES (\((?:[^()]|\([^()]*\))*\))")
_JOINED: Final = re.compile(rf"\s+FROM \({_VALUES.pattern}\) AS m\b")
_COLUMN: Final = re.compile(r"\bm\.column(\d+)\b")
_VALUE: Final = re.compile(r"CAST\(\? AS \w+\)")

_ExecuteRows = Callable[[str, Sequence[Row]], Cursor]


def run_for_rows(connection: Connection, sql: str, rows: Sequence[Row]) -> list[Row]:
    """Run a statement with one line of VALUES for as many rows as there are.

    Returns:
        What it returns, of all rows, in any order.
    """
    returned: list[Row] = []
    for cursor in _run(connection, sql, rows):
        if cursor.description is not None:
            returned += cursor.fetchall()
    return returned


def change_rows(connection: Connection, sql: str, rows: Sequence[Row]) -> int:
    """Likewise, one that returns nothing; return how many rows it has changed or made."""
    return sum(cursor.rowcount for cursor in _run(connection, sql, rows))


def _run(connection: Connection, sql: str, rows: Sequence[Row]) -> Iterator[Cursor]:
    # Of the other store, which takes any number of rows as one value.
    execute_rows: _ExecuteRows | None = getattr(connection, "execute_rows", None)
    if execute_rows is not None:
        for start in range(0, len(rows), ROWS_OF_STATEMENT):
            yield execute_rows(sql, rows[start : start + ROWS_OF_STATEMENT])
        return
    width = len(rows[0]) if rows else 0
    start, left = 0, len(rows)
    while left > 0:
        if left <= _alone_at_most(sql):
            text, order = of_one_row(sql)
            for row in rows[start:]:
                yield connection.execute(text, tuple([row[index] for index in order]))
            return
        values = tuple(chain.from_iterable(rows[start : start + ROWS_OF_STATEMENT]))
        if sql.startswith("UPDATE"):
            # One statement, of the next size: no row is found by nulls.
            size = next((size for size in _SIZES if size >= left), ROWS_OF_STATEMENT)
            values += (None,) * (size * width - len(values))
        else:
            size = next(size for size in reversed(_SIZES) if size <= left)
            values = values[: size * width]
        yield connection.execute(of_rows(sql, size), values)
        start, left = start + size, left - size


@cache
def _alone_at_most(sql: str) -> int:
    """How many rows are quicker one by one."""
    return 3 if sql.startswith("UPDATE") and "RETURNING" not in sql else 1


@cache
def of_rows(sql: str, count: int) -> str:
    """The statement with its one line of values as often as it takes rows."""
    head, values, tail = _VALUES.split(sql)
    return f"{head}VALUES {', '.join([values] * count)}{tail}"


@cache
def of_one_row(sql: str) -> tuple[str, Sequence[int]]:
    """The statement for a single row, and which of the row's values it takes, in its order.

    One that joins its values as a table has them in place: that table, and what of it is kept until
    all rows are found, cost more than the row itself.
    """
    [values] = _VALUES.findall(sql)
    joined = _JOINED.search(sql)
    if joined is None:
        return sql, range(values.count("?"))
    casts = _VALUE.findall(values)
    text = sql[: joined.start()] + sql[joined.end() :]
    columns = [int(number) - 1 for number in _COLUMN.findall(text)]
    return _COLUMN.sub(lambda found: casts[int(found[1]) - 1], text), columns
