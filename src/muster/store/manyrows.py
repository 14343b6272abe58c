"""Statements for many rows: a few large ones instead of one a row.

Begun once for each row, a statement takes twice the time in the embedded store, and a round trip
in the other.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Final

from muster.store.connection import Connection, Row

ROWS_OF_STATEMENT: Final = 200  # SQLite takes 32,766 values, 23 a row at most
# Few sizes, so that each text is soon known to the database.
_SIZES: Final = (ROWS_OF_STATEMENT, 64, 16, 6, 4, 2, 1)
_VALUES: Final = re.compile(r"VALUES (\((?:[^()]|\([^()]*\))*\))")


def run_for_rows(connection: Connection, sql: str, rows: Sequence[Row]) -> list[Row]:
    """Run a statement with one line of VALUES for as many rows as there are.

    Returns:
        What it returns, of all rows, in any order.
    """
    returned: list[Row] = []
    start, left = 0, len(rows)
    while left:
        size = next(size for size in _SIZES if size <= left)
        values = tuple(chain.from_iterable(rows[start : start + size]))
        cursor = connection.execute(_of_rows(sql, size), values)
        if cursor.description is not None:
            returned += cursor.fetchall()
        start, left = start + size, left - size
    return returned


@cache
def _of_rows(sql: str, count: int) -> str:
    """The statement with its one line of values as often as it takes rows."""
    head, values, tail = _VALUES.split(sql)
    return f"{head}VALUES {', '.join([values] * count)}{tail}"
