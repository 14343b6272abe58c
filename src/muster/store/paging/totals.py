"""How many rows a list has, exactly, from counters wherever they know."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from muster.store.connection import Connection
from muster.store.counting import BLOCK_BITS
from muster.store.history import is_out_of_order
from muster.store.paging.scope import (
    CREATED,
    CREATED_AT,
    EVERYTHING,
    JOB_NAME,
    REMEMBERED_MAX,
    Candidates,
    Fragment,
    Scope,
    Stretch,
    among,
    counted_conditions,
    place,
    plain,
    walk,
)


class Totals(NamedTuple):
    """What is counted of a list before a page of it is looked for."""

    matching: int
    in_workspace: int | None  # None: it was not asked for
    is_in_order: bool  # ids ascend with create times: no older history came in later


def total_of(connection: Connection, scope: Scope) -> int:
    """How many rows there are, exactly: from counters, unless `more` is asked for."""
    return totals_of(connection, scope).matching


def totals_of(connection: Connection, scope: Scope, *, with_workspace: bool = False) -> Totals:
    """How many rows there are, exactly; with `with_workspace`, how many without any filter."""
    if scope.is_counted and not scope.has_range and not scope.is_empty:
        return _counted(connection, scope, with_workspace=with_workspace)
    is_in_order = not is_out_of_order(connection, scope.project_id, scope.workspace_id, scope.table)
    in_workspace = None
    if with_workspace:
        in_workspace = total_of(connection, unfiltered(scope))
    return Totals(_walked(connection, scope), in_workspace, is_in_order)


def unfiltered(scope: Scope) -> Scope:
    """All of its workspace."""
    return Scope(table=scope.table, project_id=scope.project_id, workspace_id=scope.workspace_id)


def _counted(connection: Connection, scope: Scope, *, with_workspace: bool) -> Totals:
    sql, values = _counting(scope, with_workspace)
    matching, in_workspace, out_of_order = connection.execute(sql, values).fetchone()
    if with_workspace and in_workspace is None:
        in_workspace = matching
    return Totals(int(matching), in_workspace, not out_of_order)


@lru_cache(REMEMBERED_MAX)
def _counting(scope: Scope, with_workspace: bool) -> Fragment:
    where, values = place(scope)
    filters = counted_conditions(scope, values).removeprefix(" AND ")
    counts = "coalesce(sum(count), 0), NULL"
    if with_workspace and filters:
        counts = f"coalesce(sum(CASE WHEN {filters} THEN count END), 0), coalesce(sum(count), 0)"
    elif filters:
        where += f" AND {filters}"
    # All in one statement: to begin one takes as long as what it does here.
    return (
        f"SELECT {counts}, (SELECT count(*) FROM out_of_order"  # noqa: S608
        " WHERE project_id = :project_id AND workspace_id = :workspace_id AND list = :list)"
        f" FROM {scope.table}_total WHERE {where}",
        values | {"list": scope.table},
    )


def _walked(connection: Connection, scope: Scope) -> int:
    if scope.is_empty:
        return 0
    if scope.known_total is not None:
        return scope.known_total
    if scope.counted_by is not None:
        source, values = _counting_by(scope, scope.counted_by)
        [count] = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        return total_of(connection, plain(scope)) - count if scope.counts_others else int(count)
    if not scope.is_counted:
        # Of a job, what a search looks at stands in the index of its name.
        key = JOB_NAME if scope.table == "job" else CREATED_AT if scope.has_times else CREATED
        source, values = walk(scope, key)
        [count] = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        return int(count)
    everything = replace(scope, id_from=None, id_below=None)
    below = (
        total_of(connection, everything)
        if scope.id_below is None
        else rank(connection, everything, scope.id_below)
    )
    before = 0 if scope.id_from is None else rank(connection, everything, scope.id_from)
    return max(0, below - before)


def _counting_by(scope: Scope, found: Candidates) -> Fragment:
    if found.is_whole:
        return f"FROM ({found.source}) AS found", dict(found.values)
    return among(plain(scope) if scope.counts_others else replace(scope, counted_by=None), found)


def totals_by_status(connection: Connection, scope: Scope) -> dict[int, int]:
    """Of those statuses of the scope that any row has."""
    where, values = place(scope)
    where += counted_conditions(scope, values)
    rows = connection.execute(
        f"SELECT status, sum(count) FROM {scope.table}_total WHERE {where}"  # noqa: S608
        " AND count > 0 GROUP BY status",
        values,
    )
    return {status: int(count) for status, count in rows}


def stretches_of(connection: Connection, scope: Scope) -> list[Stretch]:
    """Parts of the scope whose rows lie in id order each; EVERYTHING where all do together."""
    if scope.statuses is None and scope.pool_ids is None:
        return [EVERYTHING]
    if scope.statuses is not None and len(scope.statuses) == 1:
        if scope.pool_ids is None:
            return [(None, scope.statuses[0])]
        if len(scope.pool_ids) == 1:
            return [(scope.pool_ids[0], scope.statuses[0])]
    # Those that no row has would cost a statement its time for nothing.
    if scope.pool_ids is None:
        return [(None, status) for status in sorted(totals_by_status(connection, scope))]
    where, values = place(scope)
    where += counted_conditions(scope, values)
    return connection.execute(
        f"SELECT pool_id, status FROM {scope.table}_total WHERE {where} AND count > 0",  # noqa: S608
        values,
    ).fetchall()


def blocks_of(connection: Connection, scope: Scope) -> list[tuple[int, int]]:
    """(block, how many of the scope's rows lie in it), ascending."""
    where, values = place(scope)
    where += counted_conditions(scope, values)
    if scope.pool_ids is None:
        where += " AND pool_id = ''"
    values["list"] = scope.table if scope.pool_ids is None else "pooled"
    counts: dict[int, int] = {}
    for block, count in connection.execute(
        f"SELECT block, count FROM id_block WHERE list = :list AND {where} AND count > 0",  # noqa: S608
        values,
    ):
        counts[block] = counts.get(block, 0) + count
    return sorted(counts.items())


def rank(connection: Connection, scope: Scope, id_: int) -> int:
    """How many rows of the scope, whatever its range, have an id below `id_`."""
    first = max(0, id_ >> BLOCK_BITS)
    whole = sum(count for block, count in blocks_of(connection, scope) if block < first)
    edge = replace(scope, id_from=first << BLOCK_BITS, id_below=id_)
    part = 0
    for stretch in stretches_of(connection, scope):
        source, values = walk(edge, CREATED, stretch)
        [count] = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        part += count
    return whole + part


def first_id_since(connection: Connection, scope: Scope, at_ms: int) -> int:
    """An id from which on the workspace has what was made at `at_ms` or later, and nothing else.

    Found by halving: times of creation ascend with ids.
    """
    source, values = walk(scope, CREATED)
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
