"""Statements for many rows as PostgreSQL takes them: all rows come as one value, JSON.

So a statement is one text, however many rows it is for: it is planned once, and neither side has
thousands of parameters to look at.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

import msgspec

from muster.store.connection import Row

_ENCODER: Final = msgspec.json.Encoder()
_LINE: Final = r"VALUES \(((?:[^()]|\([^()]*\))*)\)"
_JOINED: Final = re.compile(rf"\bFROM \({_LINE}\) AS m\b")
_INSERTED: Final = re.compile(rf"(INSERT INTO (\w+) \(([^()]*)\))\s+{_LINE}")
_TYPE: Final = re.compile(r"CAST\(\? AS (\w+)\)")


@cache
def in_one_value(sql: str) -> tuple[str, Sequence[str]]:
    """The statement with a single parameter, and the names by which its JSON has the values."""
    joined = _JOINED.search(sql)
    if joined is not None:
        types = {
            f"column{number}": type_ for number, type_ in enumerate(_TYPE.findall(joined[1]), 1)
        }
        columns = ", ".join(f"{name} {type_}" for name, type_ in types.items())
        rows = f"FROM json_to_recordset(CAST(? AS json)) AS m ({columns})"
        return f"{sql[: joined.start()]}{rows}{sql[joined.end() :]}", tuple(types)
    inserted = _INSERTED.match(sql)
    assert inserted is not None, sql
    head, table, names, values = inserted.groups()
    tail = sql[inserted.end() :]  # what is done about a conflict
    given = dict(zip(_parts(names), _parts(values), strict=True))
    columns = ", ".join(f"m.{name}" if value == "?" else value for name, value in given.items())
    return (
        f"{head} SELECT {columns}"  # noqa: S608 - parts of our own statements
        f" FROM json_populate_recordset(CAST(NULL AS {table}), CAST(? AS json)) AS m{tail}",
        tuple(name for name, value in given.items() if value == "?"),
    )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def encoded(names: Sequence[str], rows: Sequence[Row]) -> str:
    """Rows of numbers, text and None as that parameter."""
    assert bytes not in map(type, rows[0]), "JSON has no bytes"
    return _ENCODER.encode([dict(zip(names, row, strict=True)) for row in rows]).decode()
