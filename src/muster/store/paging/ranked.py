"""An order of a list in which any place is found by counts: see `store/keyblocks.py`.

However deep a page lies, a stretch or two of the index are walked for it, whatever the filter.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from muster.store.connection import Connection
from muster.store.keyblocks import (
    SORTS,
    Stretches,
    between,
    read_stretches,
    settled_up_to,
)
from muster.store.paging.scope import (
    CREATED,
    Candidates,
    Entry,
    Fragment,
    Scope,
    SortKey,
    among,
    counted_conditions,
    place,
    walk,
    which_rows,
)
from muster.store.paging.totals import total_of, unfiltered

# An entry that is passed in an index costs a part of one that is read, sorted and looked for.
_UNSETTLED_PART: Final = 8
# A row is counted one by one in many times the time that it takes among all of an order.
_ANEW_PART: Final = 5


@dataclass(frozen=True, slots=True)
class Ranked:
    """The entries of a scope by a key, ascending, at any rank."""

    connection: Connection
    scope: Scope
    key: SortKey
    stretches: Stretches
    befores: Sequence[int]  # the entries before each stretch, and at last all of them

    def at(self, rank: int, limit: int) -> list[Entry]:
        """`limit` entries from a rank on."""
        entries: list[Entry] = []
        befores, lows = self.befores, self.stretches.lows
        # Stretches that lie together and have any of it are walked together.
        first = bisect_right(befores, rank) - 1
        while first < len(lows) + 1 and len(entries) < limit:
            behind = first
            while behind < len(lows) + 1 and befores[behind] < min(
                befores[behind + 1], rank + limit
            ):
                behind += 1
            entries += self._walked(
                lows[first - 1] if first else None,
                lows[behind - 1] if behind <= len(lows) else None,
                offset=max(0, rank - befores[first]),
                limit=limit - len(entries),
            )
            first = max(behind, bisect_right(befores, befores[behind]) - 1)
        return entries

    def count_above(self, entry: Entry) -> int:
        """How many entries have the key of this one, and a higher id."""
        key, id_ = entry
        return self._rank((key, _BEHIND_ALL)) - self._rank((key, id_ + 1))

    def of_key(self, one: Any, *, offset: int, limit: int) -> list[Entry]:
        """Entries of one key; the offset is among them."""
        return self.at(self._rank((one, _BEFORE_ALL)) + offset, limit)

    def _rank(self, bound: Entry) -> int:
        """How many entries lie before a bound."""
        lows = self.stretches.lows
        index = bisect_right(lows, bound)
        low = lows[index - 1] if index else None
        return self.befores[index] + sum(
            self._count_in(part) for part in between(self.scope, self.key, low, bound)
        )

    def _count_in(self, part: Fragment) -> int:
        source, values = part
        [count] = self.connection.execute(f"SELECT count(*) {source}", values).fetchone()
        return int(count)

    def _walked(
        self, low: Entry | None, high: Entry | None, *, offset: int, limit: int
    ) -> list[Entry]:
        column = self.key.column
        entries: list[Entry] = []
        for source, values in between(self.scope, self.key, low, high):
            found = self.connection.execute(
                f"SELECT {column}, id {source} ORDER BY {column}, id LIMIT :limit OFFSET :offset",
                values | {"limit": limit - len(entries), "offset": offset},
            ).fetchall()
            entries += found
            if len(entries) == limit:
                break
            # All that is there has been passed.
            offset = 0 if found or not offset else offset - self._count_in((source, values))
        return entries


_BEFORE_ALL: Final = -1
_BEHIND_ALL: Final = 2**62  # ids are far below it


def unsettled_total(connection: Connection, place: Scope) -> int:
    """How many rows of a whole list nobody has looked at yet."""
    settled_id = settled_up_to(connection, place) or 0
    return total_of(connection, replace(place, id_from=settled_id + 1))


def is_worth_counting_anew(connection: Connection, place: Scope) -> bool:
    """Whether a whole list is not counted, or so much has come in that counting on takes longer."""
    if settled_up_to(connection, place) is None:
        return True
    return unsettled_total(connection, place) * _ANEW_PART > total_of(connection, place)


def ranked(connection: Connection, scope: Scope, key: SortKey, *, total: int) -> Ranked | None:
    """The order of a scope with `total` entries; None: its rows are not counted, or too few are."""
    whole = unfiltered(scope)
    if key not in SORTS[scope.table] or not scope.is_counted or scope.has_range:
        return None
    settled_id = settled_up_to(connection, whole)
    if settled_id is None:
        return None
    if unsettled_total(connection, whole) * _UNSETTLED_PART > total_of(connection, whole):
        return None
    stretches = read_stretches(connection, whole, key)
    settled = _settled_counts(connection, scope, key)
    gone = _gone(connection, scope, key)
    others = _unsettled(connection, scope, key, settled_id)
    befores = [0]
    count = 0
    for number, low in zip(stretches.numbers, stretches.lows, strict=False):
        count += settled.get(number, 0)
        befores.append(count - bisect_left(gone, low) + bisect_left(others, low))
    count += settled.get(stretches.numbers[-1], 0)
    befores.append(count - len(gone) + len(others))
    # Counters that do not agree with each other lead nowhere; `muster check` tells about them.
    if befores[-1] != total:
        return None
    return Ranked(connection, scope, key, stretches, befores)


def _settled_counts(connection: Connection, scope: Scope, key: SortKey) -> dict[int, int]:
    """By stretch."""
    where, values = place(scope)
    where += counted_conditions(scope, values)
    if scope.pool_ids is None:
        where += " AND pool_id = ''"
    values |= {"list": scope.table if scope.pool_ids is None else "pooled", "sort": key.index}
    rows = connection.execute(
        f"SELECT number, sum(count) FROM key_block WHERE list = :list AND sort = :sort"  # noqa: S608
        f" AND {where} GROUP BY number",
        values,
    )
    return {number: int(count) for number, count in rows}


def _gone(connection: Connection, scope: Scope, key: SortKey) -> list[Entry]:
    """What is counted still and is there no more, in order."""
    where, values = place(scope)
    where += counted_conditions(scope, values)
    column = "name" if key.index == "by_name" else key.column
    rows = connection.execute(
        f"SELECT {column}, id FROM key_gone WHERE list = :list AND {where}"  # noqa: S608
        f" AND {column} IS NOT NULL",
        values | {"list": scope.table},
    )
    return sorted(rows)


def _unsettled(connection: Connection, scope: Scope, key: SortKey, settled_id: int) -> list[Entry]:
    """What is there and is not counted, in order."""
    condition = which_rows(key)
    source, values = walk(replace(scope, id_from=settled_id + 1), CREATED)
    entries = connection.execute(f"SELECT {key.column}, id {source}{condition}", values).fetchall()
    where, values = place(scope)
    source, values = among(
        scope,
        Candidates(
            "id",
            f"SELECT id AS value FROM key_unsettled WHERE list = :list AND {where}",  # noqa: S608
            values | {"list": scope.table},
        ),
    )
    entries += connection.execute(
        f"SELECT {key.column}, {scope.table}.id {source}{condition}", values
    ).fetchall()
    return sorted(entries)
