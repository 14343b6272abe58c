"""Pages by a key other than the id.

An order tells what stands at a rank. `Walked` passes what lies before it in the index of the key,
from the nearer end: half of what is listed at most, and such pages belong into a thread. That of
`ranked.py` knows how much lies before.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Final, Protocol

from muster.store.connection import Connection
from muster.store.paging.gathering import in_order
from muster.store.paging.scope import DURATION, RUNNING, Entry, Scope, SortKey, walk

_CHUNK_ROWS: Final = 100


class Order(Protocol):
    """The entries of a scope by a key, and of one key by their ids; both ascend."""

    def at(self, rank: int, limit: int) -> list[Entry]:
        """`limit` entries from a rank on; there are that many."""
        ...

    def count_above(self, entry: Entry) -> int:
        """How many entries have the key of this one, and a higher id."""
        ...

    def of_key(self, one: Any, *, offset: int, limit: int) -> list[Entry]:
        """`limit` entries of one key; the offset is among them."""
        ...


@dataclass(frozen=True, slots=True)
class Walked:
    """An order, by its index alone."""

    connection: Connection
    scope: Scope
    key: SortKey
    total: int

    def at(self, rank: int, limit: int) -> list[Entry]:
        if rank <= self.total // 2:
            return self._entries(offset=rank, limit=limit)
        from_end = self.total - rank - limit
        return self._entries(offset=from_end, limit=limit, is_reversed=True)[::-1]

    def count_above(self, entry: Entry) -> int:
        source, values = walk(self.scope, self.key)
        [count] = self.connection.execute(
            f"SELECT count(*) {source} AND {self.key.column} = :key AND id > :above",
            values | {"key": entry[0], "above": entry[1]},
        ).fetchone()
        return int(count)

    def of_key(self, one: Any, *, offset: int, limit: int) -> list[Entry]:
        return self._entries(offset=offset, limit=limit, bound=("=", one))

    def _entries(
        self,
        *,
        offset: int,
        limit: int,
        is_reversed: bool = False,
        bound: tuple[str, Any] | None = None,
    ) -> list[Entry]:
        return list(
            cursor(
                self.connection,
                self.scope,
                self.key,
                offset=offset,
                limit=limit,
                is_reversed=is_reversed,
                bound=bound,
            )
        )


def by_key(
    order: Order, key: SortKey, *, is_descending: bool, offset: int, limit: int, total: int
) -> list[Entry]:
    """The entries from `offset` on. `total` counts what the order has."""
    limit = min(limit, total - offset)
    if limit <= 0:
        return []
    if not is_descending:
        return order.at(offset, limit)
    last_first = order.at(total - offset - limit, limit)[::-1]
    return last_first if key.is_mirrored else _ids_ascending(order, last_first)


def _ids_ascending(order: Order, last_first: list[Entry]) -> list[Entry]:
    """Keys descend and the ids of one key ascend: an order that is read backwards has both descend.

    Entries of one key change places. Of the first and the last key of a page there may be more
    before and behind it, so that others stand on the page.
    """
    page: list[Entry] = []
    groups = [list(entries) for _, entries in groupby(last_first, key=lambda entry: entry[0])]
    for index, group in enumerate(groups):
        if index == 0:
            above = order.count_above(group[0])
            page += order.of_key(group[0][0], offset=above, limit=len(group))
        elif index == len(groups) - 1:
            page += order.of_key(group[0][0], offset=0, limit=len(group))
        else:
            page += reversed(group)
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
        bound = None if below is None else ("<", below[0])
        found = list(cursor(connection, scope, key, limit=chunk, is_reversed=True, bound=bound))
        if not found:
            return
        last = found[-1][0]
        for one, entries in groupby(found, key=lambda entry: entry[0]):
            if one != last:
                yield from reversed(list(entries))
        yield from cursor(connection, scope, key, bound=("=", last))
        below = (last,)


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
        f"SELECT {key.column}, id {source} {in_index_order(key, is_reversed=is_reversed)}"
        " LIMIT :limit OFFSET :offset",
        values | {"limit": limit, "offset": offset},
    )
    return iter(rows)


def in_index_order(key: SortKey, *, is_reversed: bool = False) -> str:
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
    ended_order: Order,
    live: list[Entry],
    *,
    is_descending: bool,
    offset: int,
    limit: int,
    total: int,
) -> list[Entry]:
    """What has ended by its stored duration, merged with what runs, `live`.

    `total` counts what has ended.
    At most all that runs can stand before the page, so that the page and what may change places
    with it are a bounded part of what has ended.
    """
    first = min(total, max(0, offset - len(live)))
    ended = by_key(
        ended_order,
        DURATION,
        is_descending=is_descending,
        offset=first,
        limit=min(total, offset + limit) - first,
        total=total,
    )
    rank = rank_of(is_descending)
    before = [entry for entry in live if first and rank(entry) < rank(ended[0])]
    merged = heapq.merge(ended, live[len(before) :], key=rank)
    begin = offset - first - len(before)
    return list(islice(merged, begin, begin + limit))


def rank_of(is_descending: bool) -> Callable[[Entry], tuple[int, int]]:
    sign = -1 if is_descending else 1
    return lambda entry: (sign * entry[0], entry[1])
