"""Pages of few rows: all that match are read and sorted."""

import json
from dataclasses import replace
from typing import Final

from muster.store.connection import Connection
from muster.store.paging.scope import (
    CREATED,
    DURATION,
    Entry,
    Scope,
    SortKey,
    Statement,
    among,
    walk,
)
from muster.store.paging.totals import stretches_of, total_of

GATHERED_MAX: Final = 10_000
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
    connection: Connection, scope: Scope, key: SortKey, *, offset: int, limit: int, total: int
) -> bool:
    """Whether sorting all matches costs less than passing what does not match on the way."""
    if not scope.is_filtered or total > GATHERED_MAX:
        return False
    if not scope.is_counted:
        return True
    everything = replace(scope, statuses=None, pool_ids=None, id_from=None, id_below=None)
    passed = min(offset + limit, total - offset) * total_of(connection, everything) / total
    # Where rows have to be looked up in passing, one costs as much either way.
    return total * (_GATHER_COST if key.has_filters else 1) < passed


def gathered(
    connection: Connection, scope: Scope, key: SortKey, *, now_ms: int, is_descending: bool
) -> list[Entry]:
    """Every match, in order."""
    entries: list[Entry] = []
    for stretch in stretches_of(connection, scope):
        source, values = walk(scope, CREATED, stretch)
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
