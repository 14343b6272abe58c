"""The schema as all migrations together make it, for a database that is new."""

import sqlite3
from contextlib import closing

from muster.store.sqlite import migrate

# The search of the embedded store has tables of its own kind.
_SEARCH = "job_search%"


def schema_statements() -> list[str]:
    """What makes every table, after those that it refers to, and then every index."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        found = connection.execute(
            "SELECT type, name, sql FROM sqlite_master"
            " WHERE sql IS NOT NULL AND type IN ('table', 'index')"
            " AND name NOT LIKE 'sqlite_%' AND name NOT LIKE ? ORDER BY rowid",
            (_SEARCH,),
        ).fetchall()
        refers_to = {
            name: {row[2] for row in connection.execute(f"PRAGMA foreign_key_list({name})")}
            for type_, name, _ in found
            if type_ == "table"
        }
    tables = {name: sql for type_, name, sql in found if type_ == "table"}
    ordered: dict[str, str] = {}
    while len(ordered) < len(tables):
        ordered |= {
            name: sql
            for name, sql in tables.items()
            if name not in ordered and refers_to[name] <= ordered.keys() | {name}
        }
    return [*ordered.values(), *(sql for type_, _, sql in found if type_ == "index")]
