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
    Candidates,
    Entry,
    Scope,
    SortKey,
    Statement,
    Values,
    among,
    conditions,
    counted_conditions,
    walk,
)
from muster.store.paging.totals import stretches_of, unfiltered

GATHERED_MAX: Final = 10_000
ORDERED_MAX: Final = 50_000  # found by an index: they may stand together, far from where it begins
FEW_MAX: Final = 300  # sorted by the database itself, within a tenth of a millisecond
_LOOK_UP_COST: Final = 3  # of a row of a table, in entries of an index that are passed
_GATHER_COST: Final = 10  # of one row that is gathered, in rows of an index that are passed
_PASSED_TO_ONE: Final = 2  # entries of an index for each that is found, before all are sorted


def these(entries: list[Entry]) -> Statement:
    return known([id_ for _, id_ in entries])


def known(ids: list[int]) -> Statement:
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
    # The plus keeps PostgreSQL from passing a whole index that is in that order already.
    source += f" ORDER BY +{key.column}{key_direction}, id{id_direction}"
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


def found(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    is_descending: bool,
    offset: int,
    limit: int,
    total: int,
    now_ms: int,
) -> Statement:
    """A page of what a search finds.

    What is common stands among the first entries of an index, as a rule. But all that has a part in
    its name may stand together, far from there: so it is looked for in as many of them as cost less
    than sorting, and otherwise put in order by the database, which keeps no more than the page.
    """
    assert scope.found_by is not None
    is_mirrored = key.is_mirrored or key == CREATED
    if key != DURATION and (is_mirrored or not is_descending):
        passed_max = total * _PASSED_TO_ONE // (1 if key == JOB_NAME else _LOOK_UP_COST)
        source, values = walk(unfiltered(scope), key)
        values |= conditions(scope)[1]
        direction = " DESC" if is_descending else ""
        ids = connection.execute(
            "SELECT id FROM (SELECT id, name, status"  # noqa: S608 - constant fragments
            f" {source} ORDER BY {key.column}{direction}, id{direction} LIMIT :passed_max"
            f") AS passed WHERE {_of_rows(scope, values)} LIMIT :limit OFFSET :offset",
            values | {"passed_max": passed_max, "limit": limit, "offset": offset},
        ).fetchall()
        if len(ids) == limit:
            return known([id_ for (id_,) in ids])
    return in_order_of(
        connection,
        scope,
        scope.found_by,
        key,
        is_descending=is_descending,
        offset=offset,
        limit=limit,
        now_ms=now_ms,
    )


def in_order_of(
    connection: Connection,
    scope: Scope,
    candidates: Candidates,
    key: SortKey,
    *,
    is_descending: bool,
    offset: int,
    limit: int,
    now_ms: int,
) -> Statement:
    """A page of candidates, which the database puts in order; it keeps no more than the page."""
    key_direction = " DESC" if is_descending else ""
    if candidates.is_whole and candidates.column == "id" and key == CREATED:
        source, values = f"FROM ({candidates.source}) AS candidate", dict(candidates.values)
        id_, order = "candidate.value", f"candidate.value{key_direction}"
    else:
        source, values = among(scope, candidates)
        id_ = f"{scope.table}.id"
        id_direction = key_direction if key.is_mirrored or key == CREATED else ""
        order = f"{_key_column(key)}{key_direction}, {id_}{id_direction}"
    ids = connection.execute(
        f"SELECT {id_} {source} ORDER BY {order} LIMIT :limit OFFSET :offset",
        values | {"limit": limit, "offset": offset, "now_ms": now_ms},
    ).fetchall()
    return known([id_ for (id_,) in ids])


def are_found_sooner(
    scope: Scope, key: SortKey, *, offset: int, limit: int, total: int, in_workspace: int
) -> bool:
    """Whether putting all that was found in order costs less than passing what was not."""
    found = scope.counted_by
    if found is None or not found.is_whole or scope.counts_others:
        return False
    # Rows that are passed by their ids lie one after the other.
    cost = _LOOK_UP_COST if key == CREATED and found.column != "id" else 1
    passed = min(offset + limit, total - offset) * in_workspace / total
    return total <= ORDERED_MAX or total * cost < passed


def _of_rows(scope: Scope, values: Values) -> str:
    """What rows of a workspace have to meet to be in the scope; binds what that asks for."""
    return (counted_conditions(scope, values) + scope.more).removeprefix(" AND ")


def _key_column(key: SortKey) -> str:
    return "coalesce(duration_ms, :now_ms - started_at_ms)" if key == DURATION else key.column


def in_order(entries: list[Entry], key: SortKey, is_descending: bool) -> list[Entry]:
    """By the key; the id breaks ties: ascending in both directions, unless the key is mirrored."""
    entries.sort(key=lambda entry: entry[1], reverse=is_descending and key.is_mirrored)
    entries.sort(key=lambda entry: entry[0], reverse=is_descending)
    return entries
