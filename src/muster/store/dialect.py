"""Puts the SQL of the store, which is written for SQLite, into the words of PostgreSQL.

Both databases run the same statements. Most need their parameters spelled otherwise and no more;
what SQLite calls by other names is a function of `sql/postgres/baseline.sql`, and the few
statements that say something else altogether stand in `sql/postgres/*.sql` under their own names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from muster.store.statements import load_statements

TEXTS_MAX: Final = 4_096  # lists put their statements together from few fragments


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement as PostgreSQL takes it."""

    text: str
    lists: tuple[str, ...]  # the parameters that are JSON lists, and go in as arrays

    def values(self, given: Any) -> Any:
        """The parameters as this statement takes them."""
        if not self.lists:
            return given
        return {
            **given,
            **{name: msgspec.json.decode(given[name]) for name in self.lists},
        }


@lru_cache(maxsize=TEXTS_MAX)
def in_postgres(sql: str) -> Statement:
    """A statement of the store in PostgreSQL's words."""
    text = _overrides().get(sql, sql).replace("%", "%%")
    lists: dict[str, None] = {}
    for pattern, replacement in _LISTS:
        lists |= dict.fromkeys(pattern.findall(text))
        text = pattern.sub(replacement, text)
    text = _with_ordered_page(text)
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    return Statement(_with_parameters(text), tuple(lists))


def _with_ordered_page(text: str) -> str:
    """Say of the rows of a page that they come as their ids do: SQLite walks them so anyway."""
    found = _PAGE.match(text)
    if found is None:
        return _with_merged_ids(text)
    columns, ids, rows = found.groups()
    return (
        f"{columns} FROM (SELECT id, row_number() OVER () AS place"  # noqa: S608 - our own texts
        f" FROM ({_with_merged_ids(ids)}) AS found) AS page CROSS JOIN {rows} ORDER BY page.place"
    )


def _with_merged_ids(ids: str) -> str:
    """Let several walks be merged in their order: PostgreSQL has to be told it of each of them."""
    union, order, rest = ids.rpartition(" ORDER BY 1 ")
    if not order or _UNION not in union:
        return ids
    direction = rest.split(maxsplit=1)[0]
    walks = _UNION.join(f"({walk} ORDER BY id {direction})" for walk in union.split(_UNION))
    return f"SELECT id FROM ({walks}) AS merged ORDER BY id {rest}"  # noqa: S608 - likewise


_UNION: Final = " UNION ALL "
_PAGE: Final = re.compile(r"(SELECT .*?) FROM \((.*)\) AS page CROSS JOIN (.*)\Z", re.DOTALL)


def schema_in_postgres(sql: str) -> str:
    """A script that makes tables and indexes in PostgreSQL's words."""
    for pattern, replacement in _SCHEMA_WORDS:
        sql = pattern.sub(replacement, sql)
    return sql


# A list of values is bound as JSON text. As an array it takes its type from what it is held
# against; where it is walked like a table, it is of ids, unless a cast behind it says otherwise.
_LISTS: Final = (
    (re.compile(r"\bLIKE ANY \(SELECT value FROM json_each\(:(\w+)\)\)"), r"LIKE ANY (:\1)"),
    (re.compile(r"\bNOT IN \(SELECT value FROM json_each\(:(\w+)\)\)"), r"<> ALL (:\1)"),
    (re.compile(r"\bIN \(SELECT value FROM json_each\(:(\w+)\)\)"), r"= ANY (:\1)"),
    (
        re.compile(r"\bSELECT value AS id FROM json_each\(:(\w+)\)"),
        r"SELECT id FROM unnest(CAST(:\1 AS bigint[])) AS these (id)",
    ),
    (
        re.compile(r"\bSELECT value FROM json_each\(:(\w+)\)"),
        r"SELECT value FROM unnest(CAST(:\1 AS bigint[])) AS these (value)",
    ),
)

_WORDS: Final = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"\bjson_each\(:(\w+)\)", r"json_each(CAST(:\1 AS text))"),
        (r" INDEXED BY \w+", ""),  # PostgreSQL takes no hints
        (r" NOT INDEXED\b", ""),
        (r"\bCROSS JOIN ((?:\w+)(?: AS \w+)?)(\s+)ON\b", r"JOIN \1\2ON"),
        (r"\bAND \+(\w)", r"AND \1"),  # a hint, too
        (r"\bIS NOT (?!NULL\b|DISTINCT\b)", "IS DISTINCT FROM "),
        (r"\bLIMIT :limit\b", "LIMIT nullif(CAST(:limit AS bigint), -1)"),
        (
            r"\bjson_group_array\(json_array\(([^()]*), json\((\w+\.\w+)\)\)\)",
            r"coalesce(CAST(json_agg(json_build_array(\1, CAST(\2 AS json))) AS text), '[]')",
        ),
    )
)

_SCHEMA_WORDS: Final = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (  # rows come in the order of their ids there: SQLite walks them so, PostgreSQL need not
            r"\bFROM \((.*)\) AS page CROSS JOIN (.*)\Z",
            r"FROM (SELECT id, row_number() OVER () AS place FROM (\1) AS found) AS page"
            r" CROSS JOIN \2 ORDER BY page.place",
        ),
        (r"\bINTEGER PRIMARY KEY AUTOINCREMENT\b", "BIGINT GENERATED BY DEFAULT AS IDENTITY KEY"),
        (r"\bIDENTITY KEY\b", "IDENTITY PRIMARY KEY"),
        (r"\bINTEGER\b", "BIGINT"),
        (r"\bBLOB\b", "BYTEA"),
        (r"\bTEXT\b", 'TEXT COLLATE "C"'),  # in the order of its bytes, as SQLite has it
        (r"\)\s*WITHOUT ROWID\b", ")"),
    )
)

# Literals and casts are passed over; ":name" and "?" anywhere else are parameters.
_PARAMETER: Final = re.compile(r"'(?:[^']|'')*'|::|:(\w+)|(\?)")


def _with_parameters(text: str) -> str:
    def parameter(found: re.Match[str]) -> str:
        name, is_positional = found.groups()
        if name:
            return f"%({name})s"
        return "%s" if is_positional else found[0]

    return _PARAMETER.sub(parameter, text)


@lru_cache(maxsize=1)
def _overrides() -> Mapping[str, str]:
    """Statements that PostgreSQL has in its own way, by the text that they stand for."""
    folder = files("muster.store") / "sql" / "postgres"
    own: dict[str, str] = {}
    for entry in folder.iterdir():
        noun, _, ending = entry.name.partition(".")
        if ending != "sql" or noun == "baseline":
            continue
        common = load_statements(noun)
        for name, text in load_statements(f"postgres/{noun}").items():
            own[common[name]] = text
    return own
