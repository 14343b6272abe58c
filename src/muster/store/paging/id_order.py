"""Pages in id order, and by status: blocks of ids that lie before them are passed by their counts.

At any depth at most one block is walked.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final

from muster.store.connection import Connection
from muster.store.counting import BLOCK_BITS
from muster.store.paging.scope import (
    CREATED,
    EVERYTHING,
    REMEMBERED_MAX,
    Scope,
    Statement,
    Stretch,
    Values,
    walk,
)
from muster.store.paging.totals import (
    blocks_of,
    rank,
    stretches_of,
    total_of,
    totals_by_status,
)

STRETCHES_MAX: Final = 100  # merged in one statement; SQLite takes 500
# A page that begins before is walked to from the end. Further in, its block is found sooner, among
# hundreds of them at ten million rows, above all on PostgreSQL: a row passed is 3 us there.
WALKED_MAX: Final = 1 << 12


def in_id_order(
    connection: Connection, scope: Scope, *, is_descending: bool, offset: int, limit: int
) -> Statement:
    if offset > WALKED_MAX and scope.is_counted:
        scope, offset = _skip_blocks(connection, scope, is_descending, offset)
    stretches = tuple(stretches_of(connection, scope))
    if len(stretches) > STRETCHES_MAX:
        stretches = (EVERYTHING,)  # of so many parts together, the next one is never far
    make = _merged_before if scope.is_plain else _merged
    return make(scope, stretches, is_descending, offset, limit)


def beginning_of(
    connection: Connection, scope: Scope, *, is_descending: bool, offset: int
) -> tuple[Scope, Stretch, int] | None:
    """(the scope from where a list begins, its index, how much is left to skip there).

    None where several stretches of an index have it.
    """
    if offset > WALKED_MAX and scope.is_counted:
        scope, offset = _skip_blocks(connection, scope, is_descending, offset)
    stretches = stretches_of(connection, scope)
    return (scope, stretches[0], offset) if len(stretches) == 1 else None


def _merged(
    scope: Scope, stretches: tuple[Stretch, ...], is_descending: bool, offset: int, limit: int
) -> Statement:
    direction = "DESC" if is_descending else "ASC"
    values: Values = {"limit": limit, "offset": offset}
    parts = []
    # Each part lies in id order in its own stretch of the index. Merging them reads as far as
    # the page goes; one condition on all of them would be answered by sorting every match.
    for number, stretch in enumerate(stretches):
        source, own = walk(scope, CREATED, stretch, label=f"_{number}")
        values |= own
        parts.append(source)
    if len(parts) == 1:
        walked = one_walk(f"{parts[0]} ORDER BY id {direction}", values)
        return replace(walked, ordered_by="id", is_reversed=is_descending)
    merged = " UNION ALL ".join(f"SELECT id {part}" for part in parts)
    return Statement(
        f"{merged} ORDER BY 1 {direction} LIMIT :limit OFFSET :offset",
        values,
        ordered_by="id",
        is_reversed=is_descending,
    )


_merged_before: Final = lru_cache(REMEMBERED_MAX)(_merged)


def one_walk(source: str, values: Values) -> Statement:
    """A page that is one walk of one index."""
    source += " LIMIT :limit OFFSET :offset"
    return Statement(f"SELECT id {source}", values, source)


def by_status(
    connection: Connection, scope: Scope, *, is_descending: bool, offset: int, limit: int
) -> Iterator[Statement]:
    """Status after status, in each of them in id order, ascending whatever the direction."""
    totals = totals_by_status(connection, scope)
    for status in sorted(totals, reverse=is_descending):
        one = replace(scope, statuses=(status,))
        count = total_of(connection, one) if scope.has_range else totals[status]
        if offset < count:
            part = min(limit, count - offset)
            yield in_id_order(connection, one, is_descending=False, offset=offset, limit=part)
            limit -= part
        offset = max(0, offset - count)
        if not limit:
            return


def _skip_blocks(
    connection: Connection, scope: Scope, is_descending: bool, offset: int
) -> tuple[Scope, int]:
    """The scope from the block on in which the page begins, and what is left to skip there."""
    everything = replace(scope, id_from=None, id_below=None)
    blocks = blocks_of(connection, everything)
    if is_descending:
        blocks.reverse()
        if scope.id_below is not None:
            offset += total_of(connection, everything)
            offset -= rank(connection, everything, scope.id_below)
    elif scope.id_from is not None:
        offset += rank(connection, everything, scope.id_from)
    passed, block = 0, 0
    for block, count in blocks:  # noqa: B007 - the page begins in the one that it stops at
        if passed + count > offset:
            break
        passed += count
    if is_descending:
        return replace(scope, id_below=(block + 1) << BLOCK_BITS), offset - passed
    return replace(scope, id_from=block << BLOCK_BITS), offset - passed
