"""Pages by a key other than the id, through its index from the nearer end.

Half of what is listed is passed at most: such pages belong into a thread.
"""

import heapq
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any, Final

from muster.store.connection import Connection
from muster.store.paging.gathering import in_order
from muster.store.paging.scope import DURATION, RUNNING, Entry, Scope, SortKey, walk

_CHUNK_ROWS: Final = 100


def by_key(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    is_descending: bool,
    offset: int,
    limit: int,
    total: int,
) -> list[Entry]:
    """The entries from `offset` on. `total` counts what the index has of the scope."""
    limit = min(limit, total - offset)
    if limit <= 0:
        return []
    if is_descending and not key.is_mirrored:
        return _descending_page(connection, scope, key, offset, limit, total)
    if offset <= total // 2:
        return _entries(
            connection, scope, key, offset=offset, limit=limit, is_reversed=is_descending
        )
    from_end = total - offset - limit
    found = _entries(
        connection, scope, key, offset=from_end, limit=limit, is_reversed=not is_descending
    )
    return found[::-1]


def _descending_page(
    connection: Connection, scope: Scope, key: SortKey, offset: int, limit: int, total: int
) -> list[Entry]:
    """Keys descend and the ids of one key ascend: the index, read backwards, has both descend.

    So the key at the page's first place is looked up, then how many rows come before that key:
    of those passed, all but the ones of that key itself.
    """
    # One place, from either end.
    from_end = total - 1 - offset
    is_reversed = offset <= from_end
    [(first, id_)] = _entries(
        connection, scope, key, offset=min(offset, from_end), limit=1, is_reversed=is_reversed
    )
    before = offset - _count_of(connection, scope, key, first, above=id_)
    page = _entries(connection, scope, key, offset=offset - before, limit=limit, bound=("=", first))
    if len(page) < limit:
        chunk = min(limit - len(page), _CHUNK_ROWS)
        rest = descending(connection, scope, key, below=(first,), chunk=chunk)
        page += islice(rest, limit - len(page))
    return page


def descending(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    below: tuple[Any] | None = None,
    chunk: int = _CHUNK_ROWS,
) -> Iterator[Entry]:
    """The entries by keys descending, and of one key by ids ascending, without sorting any.

    A chunk of the index is read backwards: of all its keys but the last one it has all entries.
    """
    while True:
        found = _entries(
            connection,
            scope,
            key,
            offset=0,
            limit=chunk,
            is_reversed=True,
            bound=None if below is None else ("<", below[0]),
        )
        if not found:
            return
        last = found[-1][0]
        for one, entries in groupby(found, key=lambda entry: entry[0]):
            if one != last:
                yield from reversed(list(entries))
        yield from cursor(connection, scope, key, bound=("=", last))
        below = (last,)


def _entries(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    offset: int,
    limit: int,
    is_reversed: bool = False,
    bound: tuple[str, Any] | None = None,
) -> list[Entry]:
    return list(
        cursor(
            connection,
            scope,
            key,
            offset=offset,
            limit=limit,
            is_reversed=is_reversed,
            bound=bound,
        )
    )


def cursor(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    offset: int = 0,
    limit: int = -1,
    is_reversed: bool = False,
    bound: tuple[str, Any] | None = None,
) -> Iterator[Entry]:
    source, values = walk(scope, key)
    if bound is not None:
        source += f" AND {key.column} {bound[0]} :key"
        values["key"] = bound[1]
    rows = connection.execute(
        f"SELECT {key.column}, id {source} {order(key, is_reversed=is_reversed)}"
        " LIMIT :limit OFFSET :offset",
        values | {"limit": limit, "offset": offset},
    )
    return iter(rows)


def _count_of(connection: Connection, scope: Scope, key: SortKey, one: Any, *, above: int) -> int:
    """How many rows of one key have an id above one."""
    source, values = walk(scope, key)
    [count] = connection.execute(
        f"SELECT count(*) {source} AND {key.column} = :key AND id > :above",
        values | {"key": one, "above": above},
    ).fetchone()
    return int(count)


def order(key: SortKey, *, is_reversed: bool = False) -> str:
    direction = " DESC" if is_reversed else ""
    return f"ORDER BY {key.column}{direction}, id{direction}"


# ------------------------------------------------------------------ by duration


def running(
    connection: Connection, scope: Scope, *, now_ms: int, is_descending: bool
) -> list[Entry]:
    """What runs, by how long it has; bounded by what the nodes hold."""
    source, values = walk(scope, RUNNING)
    rows = connection.execute(
        f"SELECT :now_ms - started_at_ms, id {source}", values | {"now_ms": now_ms}
    ).fetchall()
    return in_order(rows, DURATION, is_descending)


def by_duration(
    connection: Connection,
    scope: Scope,
    *,
    is_descending: bool,
    offset: int,
    limit: int,
    total: int,
    now_ms: int,
) -> list[Entry]:
    """What has ended by its stored duration, merged with what runs.

    At most all that runs can stand before the page, so that the page and what may change places
    with it are a bounded part of what has ended.
    """
    live = running(connection, scope, now_ms=now_ms, is_descending=is_descending)
    ended_total = total - len(live)
    first = min(ended_total, max(0, offset - len(live)))
    ended = by_key(
        connection,
        scope,
        DURATION,
        is_descending=is_descending,
        offset=first,
        limit=min(ended_total, offset + limit) - first,
        total=ended_total,
    )
    rank = rank_of(is_descending)
    before = [entry for entry in live if first and rank(entry) < rank(ended[0])]
    merged = heapq.merge(ended, live[len(before) :], key=rank)
    begin = offset - first - len(before)
    return list(islice(merged, begin, begin + limit))


def rank_of(is_descending: bool) -> Callable[[Entry], tuple[int, int]]:
    sign = -1 if is_descending else 1
    return lambda entry: (sign * entry[0], entry[1])
