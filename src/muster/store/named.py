"""Jobs by parts of their names, as far as the search by trigrams knows them.

It tells exactly which jobs of a workspace have a part in their names, and how many: neither is
looked up in the jobs themselves. Only the newest 256 at most, which it has not learnt yet, are
looked through.
"""

import json
import re
from collections.abc import Sequence
from typing import Final

from muster.store.connection import Connection
from muster.store.paging.scope import Candidates, Scope
from muster.store.statements import load_statements

SQL: Final = load_statements("search")

GRAM_LENGTH: Final = 3  # of what it knows; it finds no shorter part

_LIKE_SIGNS: Final = re.compile(r"([\\%_])")
_ESCAPED: Final = r"\\\1"


def like(part: str) -> str:
    """A pattern for what contains it."""
    return f"%{_LIKE_SIGNS.sub(_ESCAPED, part)}%"


def with_any(parts: Sequence[str], *, column: str) -> Candidates | None:
    """The jobs of a workspace with any of some parts in their names.

    None where the search does not help: a part is shorter than what it knows, or has a character
    that no name has, and that would end what is asked for.

    Args:
        parts: in small letters.
        column: that has the ids of jobs in what is listed.
    """
    if any(len(part) < GRAM_LENGTH or "\0" in part for part in parts):
        return None
    words = " OR ".join('"' + part.replace('"', '""') + '"' for part in parts)
    return Candidates(
        column,
        SQL["named_like"],
        {
            "words": words,  # and `parts`: embedded
            "parts": json.dumps(parts),
            "patterns": json.dumps([like(part) for part in parts]),  # PostgreSQL
        },
    )


def first_of(connection: Connection, scope: Scope, found: Candidates, *, limit: int) -> list[int]:
    """The ids of so many candidates at most."""
    rows = connection.execute(
        f"{found.source} LIMIT :limit", {**_place(scope), **found.values, "limit": limit}
    )
    return [id_ for (id_,) in rows]


def count_of(connection: Connection, scope: Scope, found: Candidates) -> int:
    """How many candidates there are in the workspace of a scope."""
    [count] = connection.execute(
        f"SELECT count(*) FROM ({found.source}) AS found",  # noqa: S608 - constant fragments
        {**_place(scope), **found.values},
    ).fetchone()
    return int(count)


def are_at_most(connection: Connection, scope: Scope, found: Candidates, count_max: int) -> bool:
    """Whether there are so few candidates in the workspace of a scope."""
    [count] = connection.execute(
        f"SELECT count(*) FROM ({found.source} LIMIT :limit) AS found",  # noqa: S608 - likewise
        {**_place(scope), **found.values, "limit": count_max + 1},
    ).fetchone()
    return int(count) <= count_max


def _place(scope: Scope) -> dict[str, str]:
    return {"project_id": scope.project_id, "workspace_id": scope.workspace_id}
