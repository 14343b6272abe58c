"""The page: which of the ways leads to it."""

import heapq
from collections.abc import Iterator
from itertools import chain, islice

from muster.store.connection import Connection
from muster.store.paging.gathering import gathered, is_gathered, these
from muster.store.paging.id_order import by_status, in_id_order, one_walk
from muster.store.paging.key_order import (
    by_duration,
    by_key,
    cursor,
    descending,
    order,
    rank_of,
    running,
)
from muster.store.paging.scope import (
    CREATED,
    CREATED_AT,
    DURATION,
    STATUS,
    Scope,
    SortKey,
    Statement,
    walk,
)
from muster.store.paging.totals import total_and_order


def page_statements(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    is_descending: bool,
    offset: int,
    limit: int,
    total: int,
    now_ms: int,
) -> Iterator[Statement]:
    """What to ask for the ids of a page: the answers, one after the other, are the page."""
    limit = min(limit, total - offset)
    if limit <= 0:
        return
    if key == CREATED:
        yield in_id_order(
            connection, scope, is_descending=is_descending, offset=offset, limit=limit
        )
    elif key == STATUS and scope.is_counted:
        yield from by_status(
            connection, scope, is_descending=is_descending, offset=offset, limit=limit
        )
    elif is_gathered(connection, scope, key, offset=offset, limit=limit, total=total):
        entries = gathered(connection, scope, key, now_ms=now_ms, is_descending=is_descending)
        yield these(entries[offset : offset + limit])
    elif key == DURATION:
        entries = by_duration(
            connection,
            scope,
            is_descending=is_descending,
            offset=offset,
            limit=limit,
            total=total,
            now_ms=now_ms,
        )
        yield these(entries)
    elif (key.is_mirrored or not is_descending) and offset <= total // 2:
        source, values = walk(scope, key)
        yield one_walk(
            f"{source} {order(key, is_reversed=is_descending)}",
            values | {"limit": limit, "offset": offset},
        )
    else:
        entries = by_key(
            connection,
            scope,
            key,
            is_descending=is_descending,
            offset=offset,
            limit=limit,
            total=total,
        )
        yield these(entries)


def in_true_order(key: SortKey, *, is_in_order: bool) -> SortKey:
    """Ids tell create times, unless older history came in later."""
    return CREATED_AT if key == CREATED and not is_in_order else key


def stream_ids(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    is_descending: bool,
    offset: int,
    now_ms: int,
) -> Iterator[int]:
    """The ids of the whole list from `offset` on, as they are asked for."""
    total, is_in_order = total_and_order(connection, scope)
    key = in_true_order(key, is_in_order=is_in_order)
    if key in (CREATED, STATUS):
        statements = page_statements(
            connection,
            scope,
            key,
            is_descending=is_descending,
            offset=offset,
            limit=total - offset,
            total=total,
            now_ms=now_ms,
        )
        rows = chain.from_iterable(connection.execute(s.ids, s.values) for s in statements)
        return (id_ for (id_,) in rows)
    if is_descending and not key.is_mirrored:
        entries = descending(connection, scope, key)
    else:
        entries = cursor(connection, scope, key, is_reversed=is_descending)
    if key == DURATION:
        live = running(connection, scope, now_ms=now_ms, is_descending=is_descending)
        entries = heapq.merge(live, entries, key=rank_of(is_descending))
    return (id_ for _, id_ in islice(entries, offset, None))
