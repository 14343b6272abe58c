"""Counts of ended rows by stretches of each order of a list: they lead to a page at any depth.

What has ended changes no more, but by hand. So its rows are counted here later, many at a time and
by a sweep: no job waits for it, neither when it is made nor when it ends. A row is *settled* when
it is counted. Three kinds of rows are not, and all of them are few: those behind the *mark*, the
highest id that a sweep has come to; those before it that had not ended (`key_unsettled`); and those
that were deleted or changed since. Of the last, what is counted still stands in `key_gone`, until a
sweep takes it away. So true counts are at hand at every commit:

    rows before a place = settled before it - gone before it + unsettled before it

`store/paging/ranked.py` reads them. Only one server settles at a time: the one that leads. No page
shows anything else for it (`tells_lists`).
"""

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from muster.domain.phase import LIVE_STATUSES
from muster.store.connection import Connection, Row
from muster.store.manyrows import run_for_rows
from muster.store.paging.scope import (
    CREATED_AT,
    DESCRIPTION,
    DURATION,
    ENGINE_TYPE,
    JOB_NAME,
    VERSION_COUNT,
    VERSION_NAME,
    Entry,
    Fragment,
    Scope,
    SortKey,
    Values,
    walk,
)
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, tells_lists

SQL: Final = load_statements("keyblocks")

ROWS_MIN: Final = 50_000  # of a list: fewer are passed in some 10 ms
STRETCH_ROWS: Final = 8_192  # of a new one; it is split once twice as many are counted in it
PIECES_OF_WRITE: Final = 32  # of an order that is counted anew: some thousand counters, about 15 ms

# The orders that are counted, and the place of their key in the rows that are read here.
_KEYS: Final[Mapping[str, Mapping[SortKey, int]]] = {
    "job": {
        JOB_NAME: 3,
        DESCRIPTION: 4,
        DURATION: 5,
        CREATED_AT: 6,
        VERSION_COUNT: 7,
        ENGINE_TYPE: 8,
    },
    "version": {VERSION_NAME: 3, DESCRIPTION: 4, DURATION: 5, CREATED_AT: 6},
}
SORTS: Final[Mapping[str, tuple[SortKey, ...]]] = {
    table: tuple(keys) for table, keys in _KEYS.items()
}
_LIVE: Final = json.dumps(sorted(LIVE_STATUSES))


@dataclass(frozen=True, slots=True)
class Stretches:
    """Where the stretches of an order begin."""

    numbers: Sequence[int]  # in the order
    lows: Sequence[Entry]  # of all but the first, which has no bound

    def number_of(self, entry: Entry) -> int:
        return self.numbers[bisect_right(self.lows, entry)]

    def bounds(self) -> Iterator[tuple[int, Entry | None, Entry | None]]:
        """(number, the first entry that belongs to it, the first that does not); None: no bound."""
        return zip(self.numbers, (None, *self.lows), (*self.lows, None), strict=True)


Orders = Mapping[SortKey, Stretches]
_Counts = Counter[tuple[str, int]]  # by pool and status
Piece = tuple[Entry | None, _Counts]  # where a stretch begins, and what is counted in it


def list_large_places(connection: Connection, *, rows_min: int) -> list[Scope]:
    """The whole lists that are worth it: of each workspace, its jobs and its versions."""
    found = connection.execute(SQL["list_large_places"], {"rows_min": rows_min})
    return [_place(*row) for row in found]


def list_settled_places(connection: Connection) -> list[Scope]:
    return [_place(*row) for row in connection.execute(SQL["list_marks"])]


def _pooled(place: Scope) -> str:
    """The list that counts by pools, too; "": jobs are in none."""
    return "pooled" if place.table == "version" else ""


def _place(table: Any, project_id: str, workspace_id: str) -> Scope:
    return Scope(table=table, project_id=project_id, workspace_id=workspace_id)


def _key(place: Scope) -> Values:
    return {
        "list": place.table,
        "project_id": place.project_id,
        "workspace_id": place.workspace_id,
    }


def settled_up_to(connection: Connection, place: Scope) -> int | None:
    """The mark of a list; None: it is not counted, or not wholly yet."""
    found = connection.execute(SQL["get_mark"], _key(place)).fetchone()
    return None if found is None or not found[1] else int(found[0])


def read_orders(connection: Connection, place: Scope) -> Orders:
    return {key: read_stretches(connection, place, key) for key in SORTS[place.table]}


def read_stretches(connection: Connection, place: Scope, key: SortKey) -> Stretches:
    found = connection.execute(SQL["list_stretches"], {**_key(place), "sort": key.index})
    bounds = [(json.loads(low_key), low_id, number) for number, low_key, low_id in found]
    first = [number for low_key, _, number in bounds if low_key is None]
    others = sorted(bound for bound in bounds if bound[0] is not None)
    return Stretches(
        (*first, *(number for *_, number in others)), [(low, id_) for low, id_, _ in others]
    )


# ------------------------------------------------------------------ counted


@tells_lists
def forget(tx: Transaction, place: Scope) -> None:
    """From now on, no page of the list is found by counts, and nothing of it is gone."""
    tx.execute(SQL["delete_mark"], _key(place))
    tx.execute(SQL["drop_unsettled"], _key(place))
    tx.execute(SQL["drop_gone"], _key(place))


@tells_lists
def forget_order(tx: Transaction, place: Scope, key: SortKey) -> None:
    where = {**_key(place), "sort": key.index}
    tx.execute(SQL["drop_blocks"], where | {"pooled": _pooled(place)})
    tx.execute(SQL["drop_stretches"], where)


@tells_lists
def begin(tx: Transaction, place: Scope) -> None:
    """Say what is to be counted anew: all that is there and has ended.

    From now on that stays the same, as what changes of it is noted: it can be counted at leisure.
    """
    where = _key(place)
    tx.execute(SQL[f"insert_mark_of_{place.table}s"], where)
    tx.execute(SQL[f"insert_live_{place.table}s"], where | {"live": _LIVE})


def count_order(
    connection: Connection, place: Scope, key: SortKey, *, stretch_rows: int
) -> list[Piece]:
    """Cut a whole order into stretches, and count what is in them. In a thread: it reads all."""
    return list(_pieces(connection, place, key, None, None, stretch_rows))


@tells_lists
def write_pieces(
    tx: Transaction, place: Scope, key: SortKey, first: int, pieces: Sequence[Piece]
) -> None:
    """Make stretches with the numbers from `first` on, and what is counted in them."""
    where = tuple(_key(place).values())
    stretches = []
    for number, (low, counts) in enumerate(pieces, start=first):
        low_key, low_id = ("null", 0) if low is None else (json.dumps(low[0]), low[1])
        stretches.append((*where, key.index, number, low_key, low_id))
        _add(tx, place, key, number, counts, 1)
    run_for_rows(tx.connection, SQL["insert_stretch"], stretches)


@tells_lists
def make_ready(tx: Transaction, place: Scope) -> None:
    """Every order is counted: pages may be found by that."""
    tx.execute(SQL["make_ready"], _key(place))


@tells_lists
def settle_next(tx: Transaction, place: Scope, orders: Orders, *, limit: int) -> int:
    """Go on from the mark by at most so many rows; return how many there were.

    What has ended is counted, what has not is unsettled from now on.
    """
    where = _key(place)
    settled_id, _ = tx.execute(SQL["get_mark"], where).fetchone()
    rows = tx.execute(
        SQL[f"list_next_{place.table}s"],
        {**where, "settled_id": settled_id, "limit": limit},
    ).fetchall()
    if not rows:
        return 0
    _count(tx, place, orders, [row for row in rows if row[1] not in LIVE_STATUSES], 1)
    unsettled = [(*where.values(), row[0]) for row in rows if row[1] in LIVE_STATUSES]
    run_for_rows(tx.connection, SQL["insert_unsettled"], unsettled)
    tx.execute(SQL["set_mark"], {**where, "settled_id": rows[-1][0]})
    return len(rows)


@tells_lists
def settle_unsettled(tx: Transaction, place: Scope, orders: Orders, *, limit: int) -> int:
    """Count rows before the mark that have ended since, and forget those that are there no more.

    Returns how many there were. They are looked for here: until a moment ago they may have lived.
    """
    where = _key(place)
    found = tx.execute(
        SQL[f"list_unsettled_{place.table}s"], {**where, "live": _LIVE, "limit": limit}
    ).fetchall()
    if found:
        ids = json.dumps([id_ for (id_,) in found])
        ended = tx.execute(SQL[f"find_ended_{place.table}s"], {"ids": ids, "live": _LIVE})
        _count(tx, place, orders, ended.fetchall(), 1)
        tx.execute(SQL["delete_unsettled"], {**where, "ids": ids})
    return len(found)


@tells_lists
def settle_gone(tx: Transaction, place: Scope, orders: Orders, *, limit: int) -> int:
    """Take away what is counted still of rows that are gone; return how many there were."""
    where = _key(place)
    rows = tx.execute(SQL["list_gone"], {**where, "limit": limit}).fetchall()
    if rows:
        _count(tx, place, orders, [row[1:] for row in rows], -1)
        tx.execute(SQL["delete_gone"], {**where, "number": rows[-1][0]})
    return len(rows)


def _count(tx: Transaction, place: Scope, orders: Orders, rows: Sequence[Row], by: int) -> None:
    for key, column in _KEYS[place.table].items():
        number_of = orders[key].number_of
        found: dict[int, _Counts] = {}
        for row in rows:
            if row[column] is not None:
                counts = found.setdefault(number_of((row[column], row[0])), Counter())
                counts[row[2], row[1]] += 1
        for number, counts in found.items():
            _add(tx, place, key, number, counts, by)


def _add(
    tx: Transaction, place: Scope, key: SortKey, number: int, counts: _Counts, by: int
) -> None:
    where = (place.table, place.project_id, place.workspace_id)
    for (pool_id, status), count in counts.items():
        tx.counts.settled(where, key.index, pool_id, status, number, by * count)


# ------------------------------------------------------------------ changed


def unsettle_versions(tx: Transaction, ids: Sequence[int]) -> None:
    """Call it before rows that may have ended are deleted or changed."""
    _unsettle(tx, "version", ids)


def unsettle_jobs(tx: Transaction, ids: Sequence[int]) -> None:
    """Likewise of jobs: of those, a new version is a change, too."""
    _unsettle(tx, "job", ids)


def unsettle_job_with_versions(tx: Transaction, job_id: int) -> None:
    found = tx.execute(SQL["list_versions_of_job"], {"job_id": job_id}).fetchall()
    _unsettle(tx, "version", [id_ for (id_,) in found])
    _unsettle(tx, "job", [job_id])


def _unsettle(tx: Transaction, table: str, ids: Sequence[int]) -> None:
    gone = tx.execute(
        SQL[f"keep_gone_{table}s"], {"ids": json.dumps(ids), "live": _LIVE}
    ).fetchall()
    run_for_rows(
        tx.connection,
        SQL["insert_unsettled"],
        [(table, project_id, workspace_id, id_) for id_, project_id, workspace_id in gone],
    )


# ------------------------------------------------------------------ split


@dataclass(frozen=True, slots=True)
class Split:
    """How one stretch becomes several."""

    key: SortKey
    number: int
    pieces: Sequence[Piece]  # those that come behind what is left of it


def plan_splits(connection: Connection, place: Scope, *, stretch_rows: int) -> list[Split]:
    """The stretches in which too much is counted.

    Reads all that lies in them: in a thread. It stays true until this server settles more.
    """
    splits = []
    for key in SORTS[place.table]:
        counts = dict(
            connection.execute(SQL["count_stretches"], {**_key(place), "sort": key.index})
        )
        for number, low, high in read_stretches(connection, place, key).bounds():
            if counts.get(number, 0) >= 2 * stretch_rows:
                _, *pieces = _pieces(connection, place, key, low, high, stretch_rows)
                splits.append(Split(key, number, pieces))
    return splits


@tells_lists
def write_split(tx: Transaction, place: Scope, split: Split) -> None:
    for _, counts in split.pieces:
        _add(tx, place, split.key, split.number, counts, -1)
    numbers = read_stretches(tx.connection, place, split.key).numbers
    write_pieces(tx, place, split.key, max(numbers) + 1, split.pieces)


def _pieces(
    connection: Connection,
    place: Scope,
    key: SortKey,
    low: Entry | None,
    high: Entry | None,
    stretch_rows: int,
) -> Iterator[Piece]:
    """What lies between two bounds in pieces of so many rows, whether those are settled or not."""
    settled_id, _ = connection.execute(SQL["get_mark"], _key(place)).fetchone()
    others = _others(connection, place, key)
    lows: list[Entry] = []
    for source, values in between(place, key, low, high):
        lows += connection.execute(
            f"SELECT key, id FROM (SELECT {key.column} AS key, id,"  # noqa: S608 - constant
            f" row_number() OVER (ORDER BY {key.column}, id) AS place {source}) AS numbered"
            " WHERE place % :stretch_rows = 0",
            values | {"stretch_rows": stretch_rows},
        ).fetchall()
    lows.sort()
    for begins, ends in zip((low, *lows), (*lows, high), strict=True):
        yield begins, _counted_in(connection, place, key, begins, ends, settled_id, others)


def _counted_in(
    connection: Connection,
    place: Scope,
    key: SortKey,
    low: Entry | None,
    high: Entry | None,
    settled_id: int,
    others: "_Others",
) -> _Counts:
    """What is counted between two bounds, by pool and status, from the rows themselves."""
    counts: _Counts = Counter()
    columns = "pool_id, status" if place.table == "version" else "status"
    for source, values in between(place, key, low, high):
        for *pool, status, count in connection.execute(
            f"SELECT {columns}, count(*) {source} AND id <= :settled_id"  # noqa: S608 - likewise
            " AND status NOT IN (SELECT value FROM json_each(:live))"
            f" GROUP BY {columns}",
            values | {"settled_id": settled_id, "live": _LIVE},
        ):
            counts[pool[0] if pool else "", status] += count
    first = 0 if low is None else bisect_left(others, (low,))
    behind = len(others) if high is None else bisect_left(others, (high,))
    for _, what, by in others[first:behind]:
        counts[what] += by
    return +counts


# Where what is counted is not what is there: an entry, its pool and status, and by how much.
_Others = list[tuple[Entry, tuple[str, int], int]]


def _others(connection: Connection, place: Scope, key: SortKey) -> _Others:
    """In the order: what is gone is counted still, what has ended since is not counted yet."""
    where, column = _key(place), _KEYS[place.table][key]
    gone = connection.execute(SQL["list_gone"], {**where, "limit": -1})
    found = [(row[1:], 1) for row in gone]
    ended = connection.execute(SQL[f"list_ended_{place.table}s"], {**where, "live": _LIVE})
    found += [(row, -1) for row in ended]
    return sorted(
        ((row[column], row[0]), (row[2], row[1]), by)
        for row, by in found
        if row[column] is not None
    )


def between(scope: Scope, key: SortKey, low: Entry | None, high: Entry | None) -> list[Fragment]:
    """`FROM` and `WHERE` over a part of the index of a key, up to and without `high`.

    In parts, one after the other: SQLite finds no place in an index by a key and an id together,
    and of one key there may be millions of rows.
    """
    if low is not None and high is not None and low[0] == high[0]:
        return [_of_one_key(scope, key, low[0], id_from=low[1], id_below=high[1])]
    parts = []
    if low is not None:
        parts.append(_of_one_key(scope, key, low[0], id_from=low[1]))
    source, values = walk(scope, key)
    if low is not None:
        source += f" AND {key.column} > :low_key"
        values["low_key"] = low[0]
    if high is not None:
        source += f" AND {key.column} < :high_key"
        values["high_key"] = high[0]
    parts.append((source, values))
    if high is not None:
        parts.append(_of_one_key(scope, key, high[0], id_below=high[1]))
    return parts


def _of_one_key(
    scope: Scope, key: SortKey, one: Any, *, id_from: int | None = None, id_below: int | None = None
) -> Fragment:
    source, values = walk(scope, key)
    source += f" AND {key.column} = :one_key"
    values["one_key"] = one
    if id_from is not None:
        source += " AND id >= :one_from"
        values["one_from"] = id_from
    if id_below is not None:
        source += " AND id < :one_below"
        values["one_below"] = id_below
    return source, values


# ------------------------------------------------------------------ recounted


def differences(connection: Connection) -> Iterator[str]:
    """Every stretch that counts something else than there is, a line each."""
    for place in list_settled_places(connection):
        settled_id = settled_up_to(connection, place) or 0
        for key in SORTS[place.table]:
            counted = _blocks(connection, place, key)
            others = _others(connection, place, key)
            for number, low, high in read_stretches(connection, place, key).bounds():
                there = _counted_in(connection, place, key, low, high, settled_id, others)
                whole: _Counts = Counter()
                for (_, status), count in there.items():
                    whole["", status] += count
                for list_, counts in ((place.table, whole), (_pooled(place), there)):
                    found = counted.pop((list_, number), Counter())
                    if list_ and found != counts:
                        yield (
                            f"key_block {(*_key(place).values(), key.index, list_, number)}:"
                            f" counted {dict(found)}, there are {dict(counts)}"
                        )
            for list_, number in counted:
                yield f"key_block {(list_, key.index, number)}: there is no such stretch"


def _blocks(connection: Connection, place: Scope, key: SortKey) -> dict[tuple[str, int], _Counts]:
    """What is counted, by list and stretch, of each pool and status."""
    blocks: dict[tuple[str, int], _Counts] = {}
    for list_, pool_id, status, number, count in connection.execute(
        SQL["list_blocks"], {**_key(place), "pooled": _pooled(place), "sort": key.index}
    ):
        blocks.setdefault((list_, number), Counter())[pool_id, status] += count
    return blocks
