"""Pages of few rows: all that match are read and sorted."""

import json
from functools import lru_cache
from typing import Final

from muster.store.connection import Connection
from muster.store.paging.scope import (
    CREATED,
    DURATION,
    JOB_NAME,
    POOL,
    REMEMBERED_MAX,
    STATUS,
    Entry,
    Scope,
    SortKey,
    Statement,
    among,
    walk,
)
from muster.store.paging.totals import stretches_of

GATHERED_MAX: Final = 10_000
FEW_MAX: Final = 300  # sorted by the database itself, within a tenth of a millisecond
_LOOK_UP_COST: Final = 3  # of a row of a table, in entries of an index that are passed
_GATHER_COST: Final = 10  # of one row that is gathered, in rows of an index that are passed


def these(entries: list[Entry]) -> Statement:
    ids = [id_ for _, id_ in entries]
    return Statement(
        "SELECT value AS id FROM json_each(:ids)", {"ids": json.dumps(ids)}, known_ids=ids
    )


def entries_of_candidates(
    connection: Connection, scope: Scope, key: SortKey, *, is_descending: bool, now_ms: int
) -> list[Entry]:
    """The candidates that meet every condition, in order."""
    assert scope.candidates is not None
    source, values = among(scope, scope.candidates)
    found = connection.execute(
        f"SELECT {_key_column(key)}, {scope.table}.id {source}", values | {"now_ms": now_ms}
    ).fetchall()
    return in_order(found, key, is_descending)


def is_gathered(
    scope: Scope, key: SortKey, *, offset: int, limit: int, total: int, in_workspace: int
) -> bool:
    """Whether sorting all matches costs less than passing what does not match on the way."""
    if total > GATHERED_MAX:
        return False
    passed = min(offset + limit, total - offset) * in_workspace / total
    if scope.table == "job" and not scope.is_counted:
        # All names are looked through for them; by other keys a row is looked up for each name.
        return key != JOB_NAME and passed * _LOOK_UP_COST > in_workspace
    return not scope.is_counted or total * _cost(key) < passed


def are_few(key: SortKey, *, total: int, in_workspace: int) -> bool:
    """Whether sorting all matches is quick, and costs less than the worst that walking may.

    What has one status often has names that are alike, too: it is no use to reckon with less.
    """
    return total <= FEW_MAX and total * _cost(key) < in_workspace


def _cost(key: SortKey) -> int:
    # Where rows have to be looked up in passing, one costs as much either way.
    return _GATHER_COST if key.has_filters else 1


@lru_cache(REMEMBERED_MAX)
def few(scope: Scope, key: SortKey, is_descending: bool, offset: int, limit: int) -> Statement:
    """A page of few matches, by any key but the duration, which may have no value."""
    source, values = walk(scope, STATUS if scope.pool_ids is None else POOL)
    key_direction = " DESC" if is_descending else ""
    id_direction = key_direction if key.is_mirrored else ""
    source += f" ORDER BY {key.column}{key_direction}, id{id_direction}"
    return Statement(
        f"SELECT id {source} LIMIT :limit OFFSET :offset",
        values | {"limit": limit, "offset": offset},
        f"{source} LIMIT :limit OFFSET :offset",
    )


def gathered(
    connection: Connection, scope: Scope, key: SortKey, *, now_ms: int, is_descending: bool
) -> list[Entry]:
    """Every match, in order."""
    entries: list[Entry] = []
    walks = [walk(scope, CREATED, stretch) for stretch in stretches_of(connection, scope)]
    if scope.table == "job" and not scope.is_counted:
        walks = [walk(scope, JOB_NAME)]  # it has what a search looks at
    for source, values in walks:
        entries += connection.execute(
            f"SELECT {_key_column(key)}, id {source}", values | {"now_ms": now_ms}
        ).fetchall()
    return in_order(entries, key, is_descending)


def _key_column(key: SortKey) -> str:
    return "coalesce(duration_ms, :now_ms - started_at_ms)" if key == DURATION else key.column


def in_order(entries: list[Entry], key: SortKey, is_descending: bool) -> list[Entry]:
    """By the key; the id breaks ties: ascending in both directions, unless the key is mirrored."""
    entries.sort(key=lambda entry: entry[1], reverse=is_descending and key.is_mirrored)
    entries.sort(key=lambda entry: entry[0], reverse=is_descending)
    return entries
