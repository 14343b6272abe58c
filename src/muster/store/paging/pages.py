"""The page: which of the ways leads to it."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Final

from muster.store.connection import Connection
from muster.store.paging.by_part import page_by_part
from muster.store.paging.gathering import (
    are_few,
    are_found_sooner,
    few,
    found,
    gathered,
    in_order_of,
    is_gathered,
    known,
    these,
)
from muster.store.paging.id_order import by_status, in_id_order, one_walk
from muster.store.paging.key_order import (
    Order,
    Walked,
    by_duration,
    by_key,
    cursor,
    descending,
    in_index_order,
    rank_of,
    running,
)
from muster.store.paging.ranked import ranked
from muster.store.paging.scope import (
    CREATED,
    CREATED_AT,
    DURATION,
    JOB_NAME,
    REMEMBERED_MAX,
    STATUS,
    VERSION_NAME,
    Entry,
    Scope,
    SortKey,
    Statement,
    counted_conditions,
    walk,
)
from muster.store.paging.totals import Totals, unfiltered

PASSED_MAX: Final = 3_000  # entries of an index where others wait: less than half a millisecond
NEAR_ROWS: Final = 20_000  # of an index, in a thread: no counters lead to them sooner


class TooFar(Exception):
    """A page is not to be had by a bounded read of an index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which part of a list is asked for, and what is known of the list already."""

    key: SortKey
    is_descending: bool
    offset: int
    limit: int  # no row after the last: more than none, and never more than there are
    totals: Totals
    now_ms: int

    @property
    def in_workspace(self) -> int:
        assert self.totals.in_workspace is not None, "it is counted where `is_counted_whole`"
        return self.totals.in_workspace


def is_counted_whole(scope: Scope, key: SortKey) -> bool:
    """Whether how many rows there are without any filter decides which way is taken."""
    return scope.is_filtered and not (_is_told_by_counters(scope, key) and scope.counted_by is None)


def _is_told_by_counters(scope: Scope, key: SortKey) -> bool:
    return key == CREATED or (key == STATUS and scope.is_counted)


def page_statements(connection: Connection, scope: Scope, part: Part) -> Iterator[Statement]:
    """What to ask for the ids of a page: the answers, one after the other, are the page."""
    key, total = part.key, part.totals.matching
    is_descending, offset, limit = part.is_descending, part.offset, part.limit
    by_part = _by_part(connection, scope, part)
    if by_part is not None:
        yield by_part
    elif scope.found_by is not None:
        yield found(
            connection,
            scope,
            key,
            is_descending=is_descending,
            offset=offset,
            limit=limit,
            total=total,
            now_ms=part.now_ms,
        )
    elif scope.counted_by is not None and are_found_sooner(
        scope, key, offset=offset, limit=limit, total=total, in_workspace=part.in_workspace
    ):
        yield in_order_of(
            connection,
            scope,
            scope.counted_by,
            key,
            is_descending=is_descending,
            offset=offset,
            limit=limit,
            now_ms=part.now_ms,
        )
    elif key == CREATED and (scope.is_counted or offset <= total // 2):
        yield in_id_order(
            connection, scope, is_descending=is_descending, offset=offset, limit=limit
        )
    elif key == CREATED:  # no counter knows how to skip what comes before: its end is nearer
        from_end = in_id_order(
            connection,
            scope,
            is_descending=not is_descending,
            offset=total - offset - limit,
            limit=limit,
        )
        ids = [id_ for (id_,) in connection.execute(from_end.ids, from_end.values)]
        yield known(ids[::-1])
    elif key == STATUS and scope.is_counted:
        yield from by_status(
            connection, scope, is_descending=is_descending, offset=offset, limit=limit
        )
    else:
        yield _by_key(connection, scope, part)


def _by_part(connection: Connection, scope: Scope, part: Part) -> Statement | None:
    """A page of jobs with a part in their names, by name; None: other ways are to be taken."""
    if part.key != JOB_NAME or not scope.name_part:
        return None
    ids = page_by_part(
        connection,
        scope,
        is_descending=part.is_descending,
        offset=part.offset,
        limit=part.limit,
        total=part.totals.matching,
    )
    return None if ids is None else known(ids)


def _by_key(connection: Connection, scope: Scope, part: Part) -> Statement:
    key, is_descending, offset, limit = part.key, part.is_descending, part.offset, part.limit
    matching = part.totals.matching
    is_best_gathered = scope.is_filtered and is_gathered(
        scope, key, offset=offset, limit=limit, total=matching, in_workspace=part.in_workspace
    )
    if is_best_gathered and is_gathered(
        scope, key, offset=0, limit=limit, total=matching, in_workspace=part.in_workspace
    ):
        return _gathered(connection, scope, part)  # sooner than the page alone is walked over
    live: list[Entry] = []
    if key == DURATION:
        live = running(connection, scope, now_ms=part.now_ms, is_descending=is_descending)
    total = matching - len(live)
    order: Order | None = None
    if _is_far(scope, part):
        order = ranked(connection, scope, key, total=total)
    if order is None and is_best_gathered:
        return _gathered(connection, scope, part)
    if order is None and key != DURATION and _is_walked_at_once(key, part):
        source, values = walk(scope, key)
        return one_walk(
            f"{source} {in_index_order(key, is_reversed=is_descending)}",
            values | {"limit": limit, "offset": offset},
        )
    order = order or Walked(connection, scope, key, total)
    find = partial(by_duration, order, live) if key == DURATION else partial(by_key, order, key)
    return these(find(is_descending=is_descending, offset=offset, limit=limit, total=total))


def _gathered(connection: Connection, scope: Scope, part: Part) -> Statement:
    key, is_descending = part.key, part.is_descending
    entries = gathered(connection, scope, key, now_ms=part.now_ms, is_descending=is_descending)
    return these(entries[part.offset : part.offset + part.limit])


def _is_walked_at_once(key: SortKey, part: Part) -> bool:
    """Whether rows can be read along the index, from its beginning to the page."""
    return (key.is_mirrored or not part.is_descending) and part.offset <= part.totals.matching // 2


def _is_far(scope: Scope, part: Part) -> bool:
    """Whether a page may lie behind many entries: what has one status often stands together.

    So does what has one key, whose ids the index has in one direction only. Few have one name.
    """
    total = part.totals.matching
    if scope.is_filtered:
        return part.in_workspace > NEAR_ROWS
    if part.is_descending and not part.key.is_mirrored and part.key not in _NAMES:
        return total > NEAR_ROWS
    return min(part.offset + part.limit, total - part.offset) > NEAR_ROWS


def bounded_statements(connection: Connection, scope: Scope, part: Part) -> Iterator[Statement]:
    """As `page_statements`, by ways alone that are quick whatever is stored.

    A statement that is cut off may find less than there is.

    Raises:
        TooFar: there is no such way.
    """
    key = part.key
    if not is_counted_whole(scope, key):
        yield from page_statements(connection, scope, part)
    elif key == DURATION or not scope.is_plain:
        raise TooFar
    elif are_few(key, total=part.totals.matching, in_workspace=part.in_workspace):
        yield few(scope, key, part.is_descending, part.offset, part.limit)
    elif key in _NAMES and (key.is_mirrored or not part.is_descending):
        yield _cut_off(scope, key, part.is_descending, part.offset, part.limit, PASSED_MAX)
    else:
        raise TooFar


_NAMES: Final = (JOB_NAME, VERSION_NAME)


@lru_cache(REMEMBERED_MAX)
def _cut_off(
    scope: Scope, key: SortKey, is_descending: bool, offset: int, limit: int, passed_max: int
) -> Statement:
    """What is found of a page among the first `passed_max` entries of its index."""
    source, values = walk(unfiltered(scope), key)
    filters = counted_conditions(scope, values).removeprefix(" AND ")
    filtered_by = "status" if scope.table == "job" else "status, pool_id"
    return Statement(
        f"SELECT id FROM (SELECT id, {filtered_by} {source}"  # noqa: S608 - constant fragments
        f" {in_index_order(key, is_reversed=is_descending)} LIMIT :passed_max) AS passed"
        f" WHERE {filters} LIMIT :limit OFFSET :offset",
        values | {"passed_max": passed_max, "limit": limit, "offset": offset},
        ordered_by="name",
        is_reversed=is_descending,
        is_cut_off=True,
    )


def in_true_order(key: SortKey, *, is_in_order: bool) -> SortKey:
    """Ids tell create times, unless older history came in later."""
    return CREATED_AT if key == CREATED and not is_in_order else key


def stream_statements(
    connection: Connection, scope: Scope, part: Part
) -> Iterator[Statement] | None:
    """What to ask for the whole list from the offset on; None: no few statements answer it."""
    key = part.key
    if _is_told_by_counters(scope, key):
        return page_statements(connection, scope, part)
    if key == DURATION or (part.is_descending and not key.is_mirrored):
        return None
    source, values = walk(scope, key)
    values |= {"limit": part.limit, "offset": part.offset}
    order = in_index_order(key, is_reversed=part.is_descending)
    return iter([one_walk(f"{source} {order}", values)])


def stream_ids(connection: Connection, scope: Scope, part: Part) -> Iterator[int]:
    """The ids of the whole list from the offset on, as they are asked for."""
    key, is_descending = part.key, part.is_descending
    if is_descending and not key.is_mirrored:
        entries = descending(connection, scope, key)
    else:
        entries = cursor(connection, scope, key, is_reversed=is_descending)
    if key == DURATION:
        live = running(connection, scope, now_ms=part.now_ms, is_descending=is_descending)
        entries = heapq.merge(live, entries, key=rank_of(is_descending))
    return (id_ for _, id_ in islice(entries, part.offset, None))
