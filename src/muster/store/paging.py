"""Where the page of a list lies, at any depth and without sorting what it does not show.

Three ways lead to a page, each to the ids of its rows in their order:

- In id order (which is the order of creation) and by status, counters of blocks of ids say where
  the page begins, and at most one block is walked.
- By any other key, through the index of that key from its nearer end.
- Where few rows match, they are all gathered and sorted: GATHERED_MAX of them.

Every statement names its index: left to itself, the planner sorts everything where a filter looks
rare. It is put together from constant fragments; every value is bound.
"""

import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, islice
from typing import Any, Final, Literal

from muster.store.connection import Connection
from muster.store.counting import BLOCK_BITS

WALKED_MAX: Final = 1 << BLOCK_BITS  # a page that begins before is walked to from the end
GATHERED_MAX: Final = 10_000
_GATHER_COST: Final = 10  # of one row that is gathered, in rows of an index that are passed
_CHUNK_ROWS: Final = 100

Entry = tuple[Any, int]  # the key that a list is sorted by, and the id
Values = dict[str, Any]
Fragment = tuple[str, Values]


@dataclass(frozen=True, slots=True)
class Statement:
    """Some of the ids of a page, in its order."""

    ids: str  # it answers one column, `id`
    values: Values
    source: str = ""  # the same from FROM on, where it reads one index: any column can be asked for


@dataclass(frozen=True, slots=True)
class Candidates:
    """Few rows that a list can only be about; each must meet the other conditions still."""

    column: str  # `id` or `job_id`
    values: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which rows a list is about: of one workspace, and never deleted ones."""

    table: Literal["job", "version"]
    project_id: str
    workspace_id: str
    pool_id: str | None = None  # versions only
    statuses: tuple[int, ...] | None = None  # None: all; (): none
    id_from: int | None = None
    id_below: int | None = None
    more: str = ""  # a further condition, which no counter knows of
    more_values: Mapping[str, Any] = field(default_factory=dict)
    candidates: Candidates | None = None  # None: any row

    @property
    def is_counted(self) -> bool:
        return not self.more

    @property
    def has_range(self) -> bool:
        return self.id_from is not None or self.id_below is not None

    @property
    def is_filtered(self) -> bool:
        return (
            self.statuses is not None or self.pool_id is not None or self.has_range
        ) or not self.is_counted


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column that a list is sorted by, and the index that has it in order."""

    column: str
    index: str
    is_unique: bool = False  # within a workspace: so that no id breaks a tie


CREATED: Final = SortKey("id", "by_id")
STATUS: Final = SortKey("status", "by_status")
DURATION: Final = SortKey("duration_ms", "by_duration")
_JOB_NAME: Final = SortKey("name", "by_name", is_unique=True)


# ------------------------------------------------------------------ how many there are


def total_of(connection: Connection, scope: Scope) -> int:
    """How many rows there are, exactly: from counters, unless `more` is asked for."""
    if scope.statuses == ():
        return 0
    if not scope.is_counted:
        # Of a job, what a search looks at stands in the index of its name.
        source, values = _walk(scope, _JOB_NAME if scope.table == "job" else CREATED)
        [count] = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        return int(count)
    if scope.has_range:
        everything = replace(scope, id_from=None, id_below=None)
        below = (
            total_of(connection, everything)
            if scope.id_below is None
            else _rank(connection, everything, scope.id_below)
        )
        before = 0 if scope.id_from is None else _rank(connection, everything, scope.id_from)
        return max(0, below - before)
    where, values = _place(scope)
    if scope.pool_id is not None:
        where += " AND pool_id = :pool_id"
    if scope.statuses is not None:
        where += f" AND {_status_condition(scope.statuses, values)}"
    [count] = connection.execute(
        f"SELECT coalesce(sum(count), 0) FROM {scope.table}_total WHERE {where}",  # noqa: S608
        values,
    ).fetchone()
    return int(count)


def _totals_by_status(connection: Connection, scope: Scope) -> dict[int, int]:
    """Of those statuses that any row has."""
    where, values = _place(scope)
    if scope.pool_id is not None:
        where += " AND pool_id = :pool_id"
    totals: dict[int, int] = {}
    for status, count in connection.execute(
        f"SELECT status, count FROM {scope.table}_total WHERE {where} AND count > 0",  # noqa: S608
        values,
    ):
        if scope.statuses is None or status in scope.statuses:
            totals[status] = totals.get(status, 0) + count
    return totals


def _blocks(connection: Connection, scope: Scope) -> list[tuple[int, int]]:
    """(block, how many of the scope's rows lie in it), ascending."""
    values: Values = {
        "list": "pooled" if scope.pool_id is not None else scope.table,
        "project_id": scope.project_id,
        "workspace_id": scope.workspace_id,
        "pool_id": scope.pool_id or "",
    }
    where = (
        "list = :list AND project_id = :project_id AND workspace_id = :workspace_id"
        " AND pool_id = :pool_id"
    )
    if scope.statuses is not None:
        where += f" AND {_status_condition(scope.statuses, values)}"
    counts: dict[int, int] = {}
    for block, count in connection.execute(
        f"SELECT block, count FROM id_block WHERE {where} AND count > 0",  # noqa: S608
        values,
    ):
        counts[block] = counts.get(block, 0) + count
    return sorted(counts.items())


def _rank(connection: Connection, scope: Scope, id_: int) -> int:
    """How many rows of the scope, whatever its range, have an id below `id_`."""
    first = max(0, id_ >> BLOCK_BITS)
    whole = sum(count for block, count in _blocks(connection, scope) if block < first)
    edge = replace(scope, id_from=first << BLOCK_BITS, id_below=id_)
    part = 0
    for status in _stretches(connection, scope):
        source, values = _walk(edge, CREATED, status=status)
        [count] = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        part += count
    return whole + part


def first_id_since(connection: Connection, scope: Scope, at_ms: int) -> int:
    """An id from which on the workspace has what was made at `at_ms` or later, and nothing else.

    Found by halving: times of creation ascend with ids.
    """
    source, values = _walk(scope, CREATED)
    newest = connection.execute(f"SELECT id {source} ORDER BY id DESC LIMIT 1", values).fetchone()
    if newest is None:
        return 0
    low, high = 0, newest[0] + 1
    while low < high:
        middle = (low + high) // 2
        # Ids may be missing, so that the time is that of the next row there is.
        id_, created_at_ms = connection.execute(
            f"SELECT id, created_at_ms {source} AND id >= :id ORDER BY id LIMIT 1",
            values | {"id": middle},
        ).fetchone()
        if created_at_ms < at_ms:
            low = id_ + 1
        else:
            high = middle
    return int(low)


# ------------------------------------------------------------------ the page


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
        yield _in_id_order(
            connection, scope, is_descending=is_descending, offset=offset, limit=limit
        )
    elif key == STATUS and scope.is_counted:
        yield from _by_status(connection, scope, is_descending, offset, limit)
    elif _is_gathered(connection, scope, offset=offset, limit=limit, total=total):
        entries = _gathered(connection, scope, key, now_ms=now_ms, is_descending=is_descending)
        yield _these(entries[offset : offset + limit])
    elif key == DURATION:
        yield _these(_by_duration(connection, scope, is_descending, offset, limit, total, now_ms))
    elif (key.is_unique or not is_descending) and offset <= total // 2:
        source, values = _walk(scope, key)
        yield _statement(
            f"{source} {_order(key, is_reversed=is_descending)}",
            values | {"limit": limit, "offset": offset},
        )
    else:
        yield _these(_by_key(connection, scope, key, is_descending, offset, limit, total))


def _these(entries: Sequence[Entry]) -> Statement:
    ids = ",".join(str(id_) for _, id_ in entries)
    return Statement("SELECT value AS id FROM json_each(:ids)", {"ids": f"[{ids}]"})


def _statement(source: str, values: Values) -> Statement:
    source += " LIMIT :limit OFFSET :offset"
    return Statement(f"SELECT id {source}", values, source)


def _in_id_order(
    connection: Connection, scope: Scope, *, is_descending: bool, offset: int, limit: int
) -> Statement:
    """One page in id order: blocks of ids that lie before it are passed by their counts."""
    if offset > WALKED_MAX and scope.is_counted:
        scope, offset = _skip_blocks(connection, scope, is_descending, offset)
    direction = "DESC" if is_descending else "ASC"
    values: Values = {"limit": limit, "offset": offset}
    parts = []
    # Each status lies in id order in its own stretch of the index. Merging them reads as far as
    # the page goes; one condition on all of them would be answered by sorting every match.
    for status in _stretches(connection, scope):
        source, own = _walk(scope, CREATED, status=status)
        values |= own
        parts.append(source)
    if len(parts) == 1:
        return _statement(f"{parts[0]} ORDER BY id {direction}", values)
    merged = " UNION ALL ".join(f"SELECT id {part}" for part in parts)
    return Statement(f"{merged} ORDER BY 1 {direction} LIMIT :limit OFFSET :offset", values)


def _skip_blocks(
    connection: Connection, scope: Scope, is_descending: bool, offset: int
) -> tuple[Scope, int]:
    """The scope from the block on in which the page begins, and what is left to skip there."""
    everything = replace(scope, id_from=None, id_below=None)
    blocks = _blocks(connection, everything)
    if is_descending:
        blocks.reverse()
        if scope.id_below is not None:
            offset += total_of(connection, everything)
            offset -= _rank(connection, everything, scope.id_below)
    elif scope.id_from is not None:
        offset += _rank(connection, everything, scope.id_from)
    passed, block = 0, 0
    for block, count in blocks:  # noqa: B007 - the page begins in the one that it stops at
        if passed + count > offset:
            break
        passed += count
    if is_descending:
        return replace(scope, id_below=(block + 1) << BLOCK_BITS), offset - passed
    return replace(scope, id_from=block << BLOCK_BITS), offset - passed


def _stretches(connection: Connection, scope: Scope) -> list[int | None]:
    """The statuses whose rows lie in id order each; [None] where all do together."""
    if scope.statuses is None and scope.pool_id is None:
        return [None]
    if scope.statuses is not None and len(scope.statuses) == 1:
        return [*scope.statuses]
    # Those that no row has would cost a statement its time for nothing.
    return [*sorted(_totals_by_status(connection, scope))]


def _by_status(
    connection: Connection, scope: Scope, is_descending: bool, offset: int, limit: int
) -> Iterator[Statement]:
    """Status after status, in each of them in id order, ascending whatever the direction."""
    totals = _totals_by_status(connection, scope)
    for status in sorted(totals, reverse=is_descending):
        one = replace(scope, statuses=(status,))
        count = total_of(connection, one) if scope.has_range else totals[status]
        if offset < count:
            part = min(limit, count - offset)
            yield _in_id_order(connection, one, is_descending=False, offset=offset, limit=part)
            limit -= part
        offset = max(0, offset - count)
        if not limit:
            return


# ------------------------------------------------------------------ few rows: gather and sort


def page_of_candidates(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    is_descending: bool,
    offset: int,
    limit: int | None,
    now_ms: int,
) -> tuple[int, Statement]:
    """(how many of the candidates meet every condition, what to ask for the ids of the page)."""
    assert scope.candidates is not None
    where, values = _conditions(scope)
    found = connection.execute(
        f"SELECT {_key_column(key)}, {scope.table}.id"  # noqa: S608 - constant fragments
        " FROM (SELECT value FROM json_each(:candidates)) AS candidate"
        # The plus keeps the planner from walking the whole workspace for each of them.
        f" CROSS JOIN {scope.table} WHERE {scope.table}.{scope.candidates.column} = candidate.value"
        f" AND +{where}",
        values | {"candidates": json.dumps(scope.candidates.values), "now_ms": now_ms},
    ).fetchall()
    entries = _in_order(found, is_descending)
    end = None if limit is None else offset + limit
    return len(entries), _these(entries[offset:end])


def _is_gathered(
    connection: Connection, scope: Scope, *, offset: int, limit: int, total: int
) -> bool:
    """Whether sorting all matches costs less than passing what does not match on the way."""
    if not scope.is_filtered or total > GATHERED_MAX:
        return False
    if not scope.is_counted:
        return True
    everything = replace(scope, statuses=None, pool_id=None, id_from=None, id_below=None)
    passed = min(offset + limit, total - offset) * total_of(connection, everything) / total
    return total * _GATHER_COST < passed


def _gathered(
    connection: Connection, scope: Scope, key: SortKey, *, now_ms: int, is_descending: bool
) -> list[Entry]:
    """Every match, in order."""
    entries: list[Entry] = []
    for status in _stretches(connection, scope):
        source, values = _walk(scope, CREATED, status=status)
        entries += connection.execute(
            f"SELECT {_key_column(key)}, id {source}", values | {"now_ms": now_ms}
        ).fetchall()
    return _in_order(entries, is_descending)


def _key_column(key: SortKey) -> str:
    return "coalesce(duration_ms, :now_ms - started_at_ms)" if key == DURATION else key.column


def _in_order(entries: list[Entry], is_descending: bool) -> list[Entry]:
    """By the key; the id breaks ties, ascending in both directions."""
    entries.sort(key=lambda entry: entry[1])
    entries.sort(key=lambda entry: entry[0], reverse=is_descending)
    return entries


# ------------------------------------------------------------------ through the index of a key


def _by_key(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    is_descending: bool,
    offset: int,
    limit: int,
    total: int,
) -> list[Entry]:
    """The entries from `offset` on, by the key's index from its nearer end.

    `total` counts what the index has of the scope.
    """
    if limit <= 0:
        return []
    if is_descending:
        return _descending_page(connection, scope, key, offset, limit, total)
    if offset <= total // 2:
        return _entries(connection, scope, key, offset=offset, limit=limit)
    limit = min(limit, total - offset)
    from_end = total - offset - limit
    found = _entries(connection, scope, key, offset=from_end, limit=limit, is_reversed=True)
    return found[::-1]


def _descending_page(
    connection: Connection, scope: Scope, key: SortKey, offset: int, limit: int, total: int
) -> list[Entry]:
    """Keys descend and the ids of one key ascend: the index, read backwards, has both descend.

    So the key at the page's first place is looked up, then how many rows come before that key.
    """
    if offset <= total // 2:
        [(first, _)] = _entries(connection, scope, key, offset=offset, limit=1, is_reversed=True)
        before = _count(connection, scope, key, ">", first)
    else:
        [(first, _)] = _entries(connection, scope, key, offset=total - 1 - offset, limit=1)
        before = total - _count(connection, scope, key, "<=", first)
    page = _entries(connection, scope, key, offset=offset - before, limit=limit, bound=("=", first))
    if len(page) < limit:
        chunk = min(limit - len(page), _CHUNK_ROWS)
        rest = _descending(connection, scope, key, below=(first,), chunk=chunk)
        page += islice(rest, limit - len(page))
    return page


def _descending(
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
        yield from _cursor(connection, scope, key, bound=("=", last))
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
        _cursor(
            connection,
            scope,
            key,
            offset=offset,
            limit=limit,
            is_reversed=is_reversed,
            bound=bound,
        )
    )


def _cursor(
    connection: Connection,
    scope: Scope,
    key: SortKey,
    *,
    offset: int = 0,
    limit: int = -1,
    is_reversed: bool = False,
    bound: tuple[str, Any] | None = None,
) -> Iterator[Entry]:
    source, values = _walk(scope, key)
    if bound is not None:
        source += f" AND {key.column} {bound[0]} :key"
        values["key"] = bound[1]
    rows = connection.execute(
        f"SELECT {key.column}, id {source} {_order(key, is_reversed=is_reversed)}"
        " LIMIT :limit OFFSET :offset",
        values | {"limit": limit, "offset": offset},
    )
    return iter(rows)


def _count(connection: Connection, scope: Scope, key: SortKey, comparison: str, than: Any) -> int:
    source, values = _walk(scope, key)
    [count] = connection.execute(
        f"SELECT count(*) {source} AND {key.column} {comparison} :key", values | {"key": than}
    ).fetchone()
    return int(count)


def _order(key: SortKey, *, is_reversed: bool = False) -> str:
    direction = " DESC" if is_reversed else ""
    return f"ORDER BY {key.column}{direction}, id{direction}"


# ------------------------------------------------------------------ by duration


def _running(
    connection: Connection, scope: Scope, *, now_ms: int, is_descending: bool
) -> list[Entry]:
    """What runs, by how long it has; bounded by what the nodes hold."""
    source, values = _walk(scope, SortKey("started_at_ms", "running"))
    rows = connection.execute(
        f"SELECT :now_ms - started_at_ms, id {source}", values | {"now_ms": now_ms}
    ).fetchall()
    return _in_order(rows, is_descending)


def _by_duration(
    connection: Connection,
    scope: Scope,
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
    running = _running(connection, scope, now_ms=now_ms, is_descending=is_descending)
    ended_total = total - len(running)
    first = min(ended_total, max(0, offset - len(running)))
    ended = _by_key(
        connection,
        scope,
        DURATION,
        is_descending,
        first,
        min(ended_total, offset + limit) - first,
        ended_total,
    )
    rank = _rank_of(is_descending)
    before = [entry for entry in running if first and rank(entry) < rank(ended[0])]
    merged = heapq.merge(ended, running[len(before) :], key=rank)
    begin = offset - first - len(before)
    return list(islice(merged, begin, begin + limit))


def _rank_of(is_descending: bool) -> Callable[[Entry], tuple[int, int]]:
    sign = -1 if is_descending else 1
    return lambda entry: (sign * entry[0], entry[1])


# ------------------------------------------------------------------ everything, from one place on


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
    if key in (CREATED, STATUS):
        left = total_of(connection, scope) - offset
        statements = page_statements(
            connection,
            scope,
            key,
            is_descending=is_descending,
            offset=offset,
            limit=left,
            total=left + offset,
            now_ms=now_ms,
        )
        rows = chain.from_iterable(connection.execute(s.ids, s.values) for s in statements)
        return (id_ for (id_,) in rows)
    entries = (
        _descending(connection, scope, key) if is_descending else _cursor(connection, scope, key)
    )
    if key == DURATION:
        running = _running(connection, scope, now_ms=now_ms, is_descending=is_descending)
        entries = heapq.merge(running, entries, key=_rank_of(is_descending))
    return (id_ for _, id_ in islice(entries, offset, None))


# ------------------------------------------------------------------ fragments

_RUNNING_CONDITIONS: Final = {
    "by_duration": " AND duration_ms IS NOT NULL",
    "running": " AND duration_ms IS NULL",
}


def _walk(scope: Scope, key: SortKey, *, status: int | None = None) -> Fragment:
    """`FROM` and `WHERE` over the index of a key; by id, over that of one status or of all."""
    index = key.index
    if status is not None:
        index = "by_status" if scope.pool_id is None else "by_pool"
        scope = replace(scope, statuses=(status,))
    where, values = _conditions(scope)
    where += _RUNNING_CONDITIONS.get(index, "")
    return f"FROM {scope.table} INDEXED BY {scope.table}_{index} WHERE {where}", values


def _conditions(scope: Scope) -> Fragment:
    where, values = _place(scope)
    where += " AND is_deleted = 0"
    if scope.statuses is not None:
        where += f" AND {_status_condition(scope.statuses, values)}"
    if scope.pool_id is not None:
        where += " AND pool_id = :pool_id"
    if scope.id_from is not None:
        where += " AND id >= :id_from"
        values["id_from"] = scope.id_from
    if scope.id_below is not None:
        where += " AND id < :id_below"
        values["id_below"] = scope.id_below
    return where + scope.more, {**values, **scope.more_values}


def _place(scope: Scope) -> Fragment:
    values: Values = {"project_id": scope.project_id, "workspace_id": scope.workspace_id}
    if scope.pool_id is not None:
        values["pool_id"] = scope.pool_id
    return "project_id = :project_id AND workspace_id = :workspace_id", values


def _status_condition(statuses: Sequence[int], values: Values) -> str:
    names = [f"status_{status}" for status in statuses]
    values |= dict(zip(names, statuses, strict=True))
    if len(names) == 1:
        return f"status = :{names[0]}"
    return f"status IN ({', '.join(f':{name}' for name in names)})"
