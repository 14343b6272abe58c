"""Which rows a list is about, in which order, and the SQL that walks an index over them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

REMEMBERED_MAX: Final = 1_024  # statements of each way to a page: few lists are asked for

Entry = tuple[Any, int]  # the key that a list is sorted by, and the id
Values = dict[str, Any]
Fragment = tuple[str, Values]


@dataclass(frozen=True, slots=True)
class Statement:
    """Some of the ids of a page, in its order."""

    ids: str  # it answers one column, `id`
    values: Values
    source: str = ""  # the same from FROM on, where it reads one index: any column can be asked for
    known_ids: Sequence[int] | None = None  # where they are found already
    # What its order is told by, so that rows can be put into it; "": by the ids that it answers.
    ordered_by: Literal["", "id", "name"] = ""
    is_reversed: bool = False
    is_cut_off: bool = False  # it passes so many rows at most: there may be more than it finds


@dataclass(frozen=True, slots=True)
class Candidates:
    """Few rows that a list can only be about; each must meet the other conditions still."""

    column: str  # `id` or `job_id`
    source: str  # a SELECT of one column, `value`
    values: Mapping[str, Any]
    is_known: bool = False  # their ids are here already, and few
    # They are all of the scope, or with `counts_others` all that it is not. Those by `id` are
    # counted without a look at any row; where they are by `job_id`, the total is known.
    is_whole: bool = False


def candidates_of(column: str, ids: Sequence[int]) -> Candidates:
    """Those with these ids, or of the jobs with these ids."""
    return Candidates(
        column,
        "SELECT value FROM json_each(:candidates)",
        {"candidates": json.dumps(ids)},
        is_known=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which rows a list is about: of one workspace, and never deleted ones."""

    table: Literal["job", "version"]
    project_id: str
    workspace_id: str
    pool_ids: tuple[str, ...] | None = None  # versions only; None: all
    statuses: tuple[int, ...] | None = None  # None: all; (): none
    id_from: int | None = None
    id_below: int | None = None
    more: str = ""  # a further condition, which no counter knows of
    more_values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    has_times: bool = False  # `more` has a range of create times
    # `more` says that this, in small letters, is a part of the name of the job, and says no more.
    name_part: str = ""
    candidates: Candidates | None = field(default=None, hash=False)  # None: any row
    # What counts a scope with `more`, where the rows are too many to be candidates: those that
    # meet it, or with `counts_others` those that alone do not.
    counted_by: Candidates | None = field(default=None, hash=False)
    counts_others: bool = False
    known_total: int | None = None  # how many there are, where what found that was asked already
    # What finds all that meet `more`, where it may lead to a page sooner than an index does.
    found_by: Candidates | None = field(default=None, hash=False)

    @property
    def is_empty(self) -> bool:
        return self.statuses == () or self.pool_ids == ()

    @property
    def is_counted(self) -> bool:
        return not self.more

    @property
    def is_plain(self) -> bool:
        """Whether there are few of the kind: what is made of one is worth remembering."""
        return self.is_counted and self.candidates is None and not self.has_range

    @property
    def has_range(self) -> bool:
        return self.id_from is not None or self.id_below is not None

    @property
    def is_filtered(self) -> bool:
        return (
            self.statuses is not None or self.pool_ids is not None or self.has_range
        ) or not self.is_counted


@dataclass(frozen=True, slots=True)
class SortKey:
    """A column that a list is sorted by, and the index that has it in order."""

    column: str
    index: str
    # Descending is ascending read backwards: no two rows have one key, or the ids of those that
    # have descend then, too. Of any other key the ids ascend in both directions.
    is_mirrored: bool = False
    has_filters: bool = True  # the index has what a list is filtered by: no row is looked up


CREATED: Final = SortKey("id", "by_id")  # ids and times are handed out together, ascending
CREATED_AT: Final = SortKey("created_at_ms", "by_created", is_mirrored=True, has_filters=False)
STATUS: Final = SortKey("status", "by_status")
POOL: Final = SortKey("pool_id", "by_pool")
DURATION: Final = SortKey("duration_ms", "by_duration")
JOB_NAME: Final = SortKey("name", "by_name", is_mirrored=True)
VERSION_NAME: Final = SortKey("job_name", "by_name")
DESCRIPTION: Final = SortKey("description", "by_description")
VERSION_COUNT: Final = SortKey("version_count", "by_version_count", has_filters=False)
ENGINE_TYPE: Final = SortKey("engine_type", "by_engine_type", has_filters=False)
RUNNING: Final = SortKey("started_at_ms", "running")
ALGORITHM: Final = SortKey("json_extract(config, '$.algorithm.name')", "by_algorithm")

Stretch = tuple[str | None, int | None]  # of one pool, or of all; of one status, or of all
EVERYTHING: Final[Stretch] = (None, None)

# Of what not every row has an entry in the index.
_INDEX_CONDITIONS: Final = {
    "by_duration": " AND duration_ms IS NOT NULL",
    "running": " AND duration_ms IS NULL",
    "by_algorithm": f" AND config <> '{{}}' AND {ALGORITHM.column} IS NOT NULL",
}


def walk(scope: Scope, key: SortKey, stretch: Stretch = EVERYTHING, *, label: str = "") -> Fragment:
    """`FROM` and `WHERE` over the index of a key; by id, over that of one status or of all.

    With a label of its own, it stands beside others of one list in one statement.
    """
    index = key.index
    pool_id, status = stretch
    if status is not None:
        index = "by_status" if pool_id is None else "by_pool"
        pool_ids = scope.pool_ids if pool_id is None else (pool_id,)
        scope = replace(scope, statuses=(status,), pool_ids=pool_ids)
    where, values = conditions(scope, label=label)
    where += _INDEX_CONDITIONS.get(index, "")
    return f"FROM {scope.table} INDEXED BY {scope.table}_{index} WHERE {where}", values


def which_rows(key: SortKey) -> str:
    """What a row must meet besides to have an entry in the index of a key."""
    return _INDEX_CONDITIONS.get(key.index, "")


def conditions(scope: Scope, *, label: str = "") -> Fragment:
    """Everything that a row of the scope meets, except that it is one of the candidates."""
    where, values = place(scope)
    where += " AND is_deleted = 0" + counted_conditions(scope, values, label=label)
    if scope.id_from is not None:
        where += " AND id >= :id_from"
        values["id_from"] = scope.id_from
    if scope.id_below is not None:
        where += " AND id < :id_below"
        values["id_below"] = scope.id_below
    return where + scope.more, {**values, **scope.more_values}


def plain(scope: Scope) -> Scope:
    """The scope without what no counter knows of."""
    return replace(
        scope,
        more="",
        more_values={},
        has_times=False,
        name_part="",
        counted_by=None,
        known_total=None,
        found_by=None,
    )


def among(scope: Scope, candidates: Candidates) -> Fragment:
    """`FROM` and `WHERE` over the candidates that are in the scope."""
    where, values = conditions(scope)
    # The plus keeps the planner from walking the whole workspace for each of them.
    return (
        f"FROM ({candidates.source}) AS candidate CROSS JOIN {scope.table}"
        f" WHERE {scope.table}.{candidates.column} = candidate.value AND +{where}",
        {**values, **candidates.values},
    )


def place(scope: Scope) -> Fragment:
    values: Values = {"project_id": scope.project_id, "workspace_id": scope.workspace_id}
    return "project_id = :project_id AND workspace_id = :workspace_id", values


def counted_conditions(scope: Scope, values: Values, *, label: str = "") -> str:
    """What the counters are kept by; what it binds is added to `values`."""
    where = ""
    if scope.statuses is not None:
        where += f" AND {_status_condition(scope.statuses, values)}"
    if scope.pool_ids is not None:
        where += f" AND {_pool_condition(scope.pool_ids, values, label)}"
    return where


def _status_condition(statuses: Sequence[int], values: Values) -> str:
    if not statuses:
        return "0 = 1"
    names = [f"status_{status}" for status in statuses]
    values |= dict(zip(names, statuses, strict=True))
    if len(names) == 1:
        return f"status = :{names[0]}"
    return f"status IN ({', '.join(f':{name}' for name in names)})"


def _pool_condition(pool_ids: Sequence[str], values: Values, label: str) -> str:
    if len(pool_ids) == 1:
        values[f"pool_id{label}"] = pool_ids[0]
        return f"pool_id = :pool_id{label}"
    values["pool_ids"] = json.dumps(pool_ids)
    return "pool_id IN (SELECT value FROM json_each(:pool_ids))"
