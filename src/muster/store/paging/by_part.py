"""Jobs with a part in their names, and versions of such, in the order of names.

Stretches of the order in which no name has the part are passed at once: see `store/nameparts.py`.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from muster.store.connection import Connection
from muster.store.nameparts import (
    PART_LENGTH_MAX,
    SQL,
    Names,
    Place,
    bits_of,
    count_learnt,
    parts_of,
    read_names,
)
from muster.store.paging.scope import (
    CREATED,
    JOB_NAME,
    VERSION_NAME,
    Candidates,
    Fragment,
    Scope,
    SortKey,
    among,
    walk,
)
from muster.store.paging.totals import total_of, unfiltered

UNLEARNT_PART: Final = 8  # one name in so many, at most, is looked at behind the mark
WALKED_NAMES: Final = 16_384  # in one statement, so that it ends soon behind a page: some 4 ms
PASSED_TO_ONE: Final = 4  # names for each that is found: to sort those would take as long
WALKED_MAX: Final = 10_000  # ids that are kept on the way to a page


class _Has(Enum):
    """Which of some learnt names have the part."""

    NONE = "none"
    SOME = "some"  # possibly
    ALL = "all"


_KEYS: Final[Mapping[str, SortKey]] = {"job": JOB_NAME, "version": VERSION_NAME}


@dataclass(frozen=True, slots=True)
class _Run:
    """Stretches that lie together, and are walked or passed together."""

    low: str | None  # None: no bound
    high: str | None
    name_count: int
    has: _Has


def count_of_part(
    connection: Connection, scope: Scope, *, walked_to_one: int | None = None
) -> int | None:
    """How many rows of a scope have its part in the name; None: too little is known of names.

    Args:
        connection: to be read from.
        scope: of jobs or versions, with a part.
        walked_to_one: names to be walked for each that is known to have the part. None is returned
            where there are more, and a search finds what there is sooner.
    """
    names = _names(connection, scope)
    if names is None:
        return None
    others = _unlearnt(connection, scope, names)
    is_told = scope.table == "job" and scope.statuses is None
    if is_told and len(scope.name_part) <= PART_LENGTH_MAX:
        return count_learnt(connection, _place(scope), scope.name_part) + len(others)
    known = count = 0
    walked = []
    for run in _runs(names, scope.name_part):
        known += run.name_count if run.has == _Has.ALL else 0
        if run.has == _Has.SOME or (run.has == _Has.ALL and not is_told):
            walked.append(run)
        else:
            count += len(_between(others, run))
            count += run.name_count if run.has == _Has.ALL else 0
    if walked_to_one is not None:
        walked_count = sum(run.name_count for run in walked)
        if walked_count > max(WALKED_NAMES, known * walked_to_one):
            return None
    for run in walked:
        source, values = _within(scope, run)
        [found] = connection.execute(f"SELECT count(*) {source}", values).fetchone()
        count += found
    return count


def first_by_name(
    connection: Connection,
    scope: Scope,
    limit: int,
    *,
    is_reversed: bool = False,
    passed_max: int | None = None,
) -> list[int] | None:
    """The ids of the first so many rows of a scope with its part in the name, in that order.

    None where they are not found by passing about `passed_max` names, or nothing is learnt.
    """
    names = _names(connection, scope)
    if names is None:
        return None
    others = _unlearnt(connection, scope, names)
    runs = _runs(names, scope.name_part)
    column, direction = _KEYS[scope.table].column, " DESC" if is_reversed else ""
    ids: list[int] = []
    for run in reversed(runs) if is_reversed else runs:
        if run.has != _Has.NONE:
            source, values = _within(scope, run)
            found = connection.execute(
                f"SELECT id {source} ORDER BY {column}{direction}, id{direction} LIMIT :limit",
                values | {"limit": limit - len(ids)},
            )
            ids += [id_ for (id_,) in found]
        else:
            between = [id_ for _, id_ in _between(others, run)]
            ids += between[::-1] if is_reversed else between
        if len(ids) >= limit:
            break
        if passed_max is not None and run.has != _Has.NONE:
            passed_max -= run.name_count
            if passed_max < 0:
                return None
    return ids[:limit]


def page_by_part(
    connection: Connection,
    scope: Scope,
    *,
    is_descending: bool,
    offset: int,
    limit: int,
    total: int,
) -> list[int] | None:
    """The ids of a page in the order of names, from its nearer end.

    None as in `first_by_name`, and where it is sooner to sort all `total` that a search finds.
    """
    passed_max = None if scope.found_by is None else total * PASSED_TO_ONE
    from_end = total - offset - limit
    if min(offset, from_end) + limit > WALKED_MAX:
        return None
    if offset <= from_end:
        ids = first_by_name(
            connection, scope, offset + limit, is_reversed=is_descending, passed_max=passed_max
        )
        return None if ids is None else ids[offset:]
    ids = first_by_name(
        connection, scope, from_end + limit, is_reversed=not is_descending, passed_max=passed_max
    )
    return None if ids is None else ids[from_end:][::-1]


def _place(scope: Scope) -> Place:
    return scope.project_id, scope.workspace_id


def _names(connection: Connection, scope: Scope) -> Names | None:
    """What is known of names; None: too little of what there is."""
    names = read_names(connection, _place(scope))
    if names is None:
        return None
    in_workspace = total_of(connection, unfiltered(replace(scope, table="job")))
    behind = in_workspace - names.name_count
    return names if behind * UNLEARNT_PART <= in_workspace else None


def _unlearnt(connection: Connection, scope: Scope, names: Names) -> list[tuple[str, int]]:
    """(name of its job, id) of what is in the scope, of jobs behind the mark, in order."""
    if scope.table == "job":
        source, values = walk(replace(scope, id_from=names.learnt_id + 1), CREATED)
        return sorted(connection.execute(f"SELECT name, id {source}", values))
    jobs = Candidates("job_id", SQL["jobs_behind_mark"], {"learnt_id": names.learnt_id})
    source, values = among(scope, jobs)
    return sorted(connection.execute(f"SELECT job_name, version.id {source}", values))


def _between(entries: Sequence[tuple[str, int]], run: _Run) -> Sequence[tuple[str, int]]:
    """Those that lie in a run."""
    begin = 0 if run.low is None else bisect_left(entries, (run.low, 0))
    end = len(entries) if run.high is None else bisect_left(entries, (run.high, 0))
    return entries[begin:end]


def _within(scope: Scope, run: _Run) -> Fragment:
    key = _KEYS[scope.table]
    source, values = walk(scope, key)
    if run.low is not None:
        source, values["low_name"] = f"{source} AND {key.column} >= :low_name", run.low
    if run.high is not None:
        source, values["high_name"] = f"{source} AND {key.column} < :high_name", run.high
    return source, values


def _runs(names: Names, part: str) -> list[_Run]:
    """All of the order of names; what is to be walked is of a length that is walked soon."""
    needed = bits_of(parts_of(part))
    stretches = names.stretches
    runs: list[_Run] = []
    low: str | None = None
    last, name_count = None, 0
    for one in stretches:
        if one.bits & needed != needed:
            has = _Has.NONE
        else:
            has = _Has.ALL if part in one.prefix.lower() else _Has.SOME
        if last is None:
            last = has
        elif has != last or (has != _Has.NONE and name_count + one.name_count > WALKED_NAMES):
            runs.append(_Run(low, one.low, name_count, last))
            low, last, name_count = one.low, has, 0
        name_count += one.name_count
    return [*runs, _Run(low, None, name_count, last or _Has.NONE)]
