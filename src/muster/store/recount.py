"""Holds every counter, and everything derived, against the rows that it is derived from."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Final

from muster.domain.phase import Phase, Reason, view_of
from muster.domain.workload import takes_quota
from muster.store import archive, bulk, keyblocks, nameparts
from muster.store.connection import Connection
from muster.store.counting import HELD, SQL, STATES, USED
from muster.store.sqlite import migrate
from muster.store.statements import load_statements

CHECK_SQL: Final = load_statements("check")


def differences(connection: Connection) -> Iterator[str]:
    """Every difference found, a line each; none means that the store is exact.

    Reads every row: run it on a snapshot, not in the event loop.
    """
    yield from _compare("tally", _recount_tallies(connection), _tallies(connection))
    for table in ("version_total", "job_total", "id_block"):
        yield from _compare(
            table,
            Counter({row[:-1]: row[-1] for row in connection.execute(SQL[f"recount_{table}"])}),
            Counter({row[:-1]: row[-1] for row in connection.execute(SQL[f"list_{table}s"])}),
        )
    yield from keyblocks.differences(connection)
    yield from nameparts.differences(connection)
    yield from _compare("workspace_use", _recount_uses(connection), _uses(connection))
    snapshots, archive_problems = archive.examine(connection)
    yield from archive_problems
    yield from _compare(
        "snapshot_use",
        Counter({(digest,): count for digest, count in snapshots.items()}),
        Counter({row[:1]: row[1] for row in connection.execute(SQL["list_snapshot_uses"])}),
    )
    for name, statement in CHECK_SQL.items():
        if name == "statuses":
            continue
        for row in connection.execute(statement):
            yield f"{name}: {row}"
    yield from _wrong_statuses(connection)
    if isinstance(connection, sqlite3.Connection):
        for [problem] in connection.execute("PRAGMA integrity_check"):
            if problem != "ok":
                yield f"integrity: {problem}"
        put_off = bulk.list_put_off(connection)
        for name in sorted(_index_names() - bulk.list_index_names(connection)):
            # Nothing is wrong with what is stored, but lists ask for it by name.
            next_step = "; the next start makes it" if name in put_off else ""
            yield f"index: {name} is missing{next_step}"


@cache
def _index_names() -> frozenset[str]:
    """Those that all migrations together make."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        return bulk.list_index_names(connection)


_Counts = Counter[tuple[str | int, ...]]


def _recount_tallies(connection: Connection) -> _Counts:
    counts: _Counts = Counter()
    for row in connection.execute(SQL["recount_tally"]):
        project_id, pool_id, type_, phase, reason, is_deleted, is_holding, count, *sums = row
        key = (project_id, pool_id, type_)
        if not is_deleted:
            counts[(*key, view_of(Phase(phase), Reason(reason)).statistics)] += count
        if is_holding:
            for name, amount in zip(HELD, sums, strict=True):
                counts[(*key, name)] += amount
    return counts


def _tallies(connection: Connection) -> _Counts:
    counts: _Counts = Counter()
    for project_id, pool_id, type_, *values in connection.execute(SQL["list_tallies"]):
        for name, value in zip((*STATES, *HELD), values, strict=True):
            counts[project_id, pool_id, type_, name] += value
    return counts


def _recount_uses(connection: Connection) -> _Counts:
    counts: _Counts = Counter()
    for row in connection.execute(SQL["recount_workspace_use"]):
        project_id, workspace_id, type_, phase, is_holding, *amounts = row
        if takes_quota(Phase(phase), is_holding=bool(is_holding)):
            for name, amount in zip(USED, amounts, strict=True):
                counts[project_id, workspace_id, type_, name] += amount
    return counts


def _uses(connection: Connection) -> _Counts:
    return Counter(
        {
            (project_id, workspace_id, type_, name): amount
            for project_id, workspace_id, type_, *amounts in connection.execute(
                SQL["list_workspace_uses"]
            )
            for name, amount in zip(USED, amounts, strict=True)
        }
    )


def _compare(table: str, rows: _Counts, counters: _Counts) -> Iterator[str]:
    for key in sorted(rows.keys() | counters.keys(), key=str):
        if rows[key] != counters[key]:
            yield f"{table} {key}: counted {counters[key]}, there are {rows[key]}"


def _wrong_statuses(connection: Connection) -> Iterator[str]:
    for version_id, status, phase, reason in connection.execute(CHECK_SQL["statuses"]):
        expected = view_of(Phase(phase), Reason(reason)).v1_status
        if status != expected:
            yield f"version {version_id}: shows status {status}, its workload is {expected}"
