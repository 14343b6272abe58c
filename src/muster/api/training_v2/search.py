"""The search for training jobs, and its filters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from muster.api.http import Reply, Request
from muster.api.services import Services
from muster.api.training_v2.rendered import json_of_list
from muster.api.training_v2.times import TIME_MS_MAX
from muster.api.training_v2.words import in_v2_words
from muster.domain import errors
from muster.domain.phase import Phase, Reason, view_of
from muster.domain.training import DEFAULT_WORKSPACE_ID
from muster.store import jobs, timeline, training_listing
from muster.store.connection import Connection
from muster.store.tags import TagTerm
from muster.store.timeline import PastAttempt
from muster.store.training_listing import TrainingRow, TrainingSearch
from muster.store.training_terms import SearchTerm
from muster.wire import training_v2 as shapes
from muster.wire.decode import decode_body, decode_query, shown
from muster.wire.tags import TagFilter

PAGE_SIZE: Final = 50
SHARED_ROWS_MAX: Final = 100
FILTERS_MAX: Final = 20
FILTER_VALUES_MAX: Final = 1_000
DAY_MS: Final = 86_400_000
SPAN_MS_MAX: Final = 31 * DAY_MS


@in_v2_words
async def search_jobs(services: Services, request: Request) -> Reply:
    body = decode_body(await request.body() or b"{}", shapes.TrainingJobSearch)
    query = decode_query(request.query, shapes.SearchQuery)
    page = _first(body.offset, query.offset, 0)
    limit = _first(body.limit, query.limit, PAGE_SIZE)
    now_ms = services.clock_ms()
    wanted = _search(
        body,
        page=page,
        limit=limit,
        project_id=request.caller.project_id,
        now_ms=now_ms,
    )
    total, rows, past = await _read_page(services, wanted)
    shown_page = shapes.TrainingJobList(
        total=total,
        count=len(rows),
        limit=limit,
        offset=page,
        sort_by=body.sort_by or _DEFAULT_SORT_KEY,
        order=body.order or "desc",
        group_by=body.group_by or "",
        workspace_id=wanted.workspace_id,
        train_type=body.train_type or "job",
        items=[],
    )
    render = services.rendered_jobs.render
    items = [render(row, past.get(row.workload_id, ()), now_ms) for row in rows]
    return Reply(200, json_of_list(shown_page, items))


_DEFAULT_SORT_KEY: Final = "create_time"


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


_Page = tuple[int, list[TrainingRow], dict[int, list[PastAttempt]]]


async def _read_page(services: Services, wanted: TrainingSearch) -> _Page:
    if wanted.is_quick:
        # As at the moment 0, and so the same until something is committed. Deep pages are few,
        # and would take memory until then.
        bounded = replace(wanted, now_ms=0, is_bounded=True)
        is_shared = wanted.offset == 0 and wanted.limit <= SHARED_ROWS_MAX
        read = services.database.read_shared if is_shared else services.database.read
        page = await read(_bounded_page, bounded)
        if page is not None:
            return page
    return await services.database.scan(_page, wanted)


def _bounded_page(connection: Connection, search: TrainingSearch) -> _Page | None:
    try:
        return _page(connection, search)
    except training_listing.TooFar:
        return None


def _page(connection: Connection, search: TrainingSearch) -> _Page:
    jobs.check_workspace(connection, search.project_id, search.workspace_id)
    total, rows = training_listing.page_of_training_jobs(connection, search)
    retried = [row.workload_id for row in rows if row.was_retried]
    return total, rows, timeline.list_past_attempts(connection, retried)


def _search(
    body: shapes.TrainingJobSearch, *, page: int, limit: int, project_id: str, now_ms: int
) -> TrainingSearch:
    if body.host_ips:
        raise errors.Unsupported(
            "host_ips: jobs are found by node in GET .../pools/POOL/workloads?hostip=NODE."
        )
    sort_key = body.sort_by or _DEFAULT_SORT_KEY
    if sort_key not in training_listing.TRAINING_SORT_KEYS:
        raise errors.SortUnknown(
            f"sort_by is {sort_key!r}; it must be one of"
            f" {', '.join(sorted(training_listing.TRAINING_SORT_KEYS))}."
        )
    filters = _Filters(body.filters or (), has_none=body.train_type == "ftjob")
    if body.tags:
        filters.keep_to_recent(now_ms)
    return TrainingSearch(
        project_id=project_id,
        workspace_id=body.workspace_id or DEFAULT_WORKSPACE_ID,
        sort_key=sort_key,
        is_descending=body.order != "asc",
        offset=page * limit,
        limit=limit,
        now_ms=now_ms,
        statuses=filters.statuses,
        created_from_ms=filters.created_from_ms,
        created_to_ms=filters.created_to_ms,
        terms=tuple(filters.terms),
        tags=tag_terms(body.tags or ()),
    )


def tag_terms(given: Sequence[TagFilter]) -> tuple[TagTerm, ...]:
    """The tags that a job must have, each once.

    Raises:
        ParameterInvalid: a key, or a value of one, stands there twice.
    """
    terms = tuple(
        TagTerm(tag.key, tuple(value for value in tag.values or () if value)) for tag in given
    )
    for texts in ([term.key for term in terms], *(term.values for term in terms)):
        for text in texts:
            if texts.count(text) > 1:
                raise errors.ParameterInvalid(f"tags has {shown(text)} twice; once is enough.")
    return terms


_LISTED: Final = ("in", "not")
_TEXT: Final = ("like", *_LISTED)
_FILTER_OPERATORS: Final[Mapping[str, Sequence[str]]] = {
    "name": _TEXT,
    "id": _TEXT,
    "pool_id": _TEXT,
    "user_id": _LISTED,
    "phase": _LISTED,
    "create_time": ("between",),
    "kind": _LISTED,
    "algorithm_name": _TEXT,
    "runtime_type": _LISTED,
}

# The same for every job of this server: such a filter holds for all of them, or for none.
_CONSTANTS: Final[Mapping[str, str]] = {"kind": "job", "runtime_type": ""}


def _statuses_by_phase() -> Mapping[str, frozenset[int]]:
    views = [view_of(phase, reason) for phase in Phase for reason in Reason]
    return {
        name: frozenset(view.v1_status for view in views if view.v2_phase == name)
        for name in dict.fromkeys(view.v2_phase for view in views)
    }


_STATUSES: Final = _statuses_by_phase()


class _Filters:
    """The filters of a search, read one after the other; all of them must hold."""

    def __init__(self, filters: Sequence[shapes.SearchFilter], *, has_none: bool) -> None:
        self.statuses: tuple[int, ...] | None = () if has_none else None
        self.created_from_ms: int | None = None
        self.created_to_ms: int | None = None
        self.terms: list[SearchTerm] = []
        if len(filters) > FILTERS_MAX:
            raise errors.SearchValueInvalid(
                f"filters has {len(filters)} entries; at most {FILTERS_MAX} are allowed."
            )
        for given in filters:
            self._add(given)

    def _add(self, given: shapes.SearchFilter) -> None:
        operators = _FILTER_OPERATORS.get(given.key)
        if operators is None:
            raise errors.SearchKeyUnknown(
                f"filters has the key {shown(given.key)}; there are {', '.join(_FILTER_OPERATORS)}."
            )
        if given.operator not in operators:
            raise errors.SearchOperatorUnknown(
                f"filters has the operator {shown(given.operator)} for {given.key}; it must be"
                f" {' or '.join(operators)}."
            )
        values = _filter_values(given)
        if not any(values):
            return  # nothing is asked for
        match given.key:
            case "create_time":
                self._add_times(values)
            case "phase":
                self._add_phases(given.operator, values)
            case key if key in _CONSTANTS:
                if not _holds(_CONSTANTS[key], given.operator, values):
                    self.statuses = ()
            case key:
                if key == "id":
                    values = [value.replace("-", "").lower() for value in values]
                self.terms.append(
                    SearchTerm(key=key, operator=given.operator, values=tuple(values))
                )

    def _add_times(self, values: Sequence[str]) -> None:
        if len(values) != 2:
            raise errors.SearchValueInvalid(
                f"filters has {len(values)} values for create_time; it must be [from, to], either"
                ' of them "" for an open end.'
            )
        start, end = (_time_ms(value) if value else None for value in values)
        self.created_from_ms = _most(max, self.created_from_ms, start)
        self.created_to_ms = _most(min, self.created_to_ms, end)

    def keep_to_recent(self, now_ms: int) -> None:
        """Some searches are of 31 days at most: the last ones, unless times are given."""
        until_ms = now_ms if self.created_to_ms is None else self.created_to_ms
        if self.created_from_ms is None:
            self.created_from_ms = max(0, until_ms - SPAN_MS_MAX)
        elif until_ms - self.created_from_ms > SPAN_MS_MAX:
            raise errors.SearchValueInvalid(
                f"filters has a create_time from {self.created_from_ms} to {until_ms}; with tags,"
                f" it must be {SPAN_MS_MAX // DAY_MS} days at most."
            )

    def _add_phases(self, operator: str, values: Sequence[str]) -> None:
        for value in values:
            if value not in _STATUSES:
                raise errors.SearchValueInvalid(
                    f"filters has the phase {shown(value)}; there are {', '.join(_STATUSES)}."
                )
        is_in = operator == "in"
        wanted = {s for phase in _STATUSES if (phase in values) == is_in for s in _STATUSES[phase]}
        if self.statuses is not None:
            wanted &= set(self.statuses)
        self.statuses = tuple(sorted(wanted))


def _filter_values(given: shapes.SearchFilter) -> list[str]:
    value = given.value
    if value is None:
        return []
    values = [str(item) for item in (value if isinstance(value, list) else [value])]
    if len(values) > FILTER_VALUES_MAX:
        raise errors.SearchValueInvalid(
            f"filters has {len(values)} values for {given.key}; at most {FILTER_VALUES_MAX} are"
            " allowed."
        )
    # "" is an open end of a time, and nothing at all anywhere else.
    return values if given.key == "create_time" else [text for text in values if text]


def _holds(constant: str, operator: str, values: Sequence[str]) -> bool:
    if operator == "like":
        return any(value.lower() in constant for value in values)
    return (constant in values) == (operator == "in")


def _time_ms(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 15 or int(text) > TIME_MS_MAX:
        raise errors.SearchValueInvalid(
            f"filters has the create_time {text[:100]!r}; it must be epoch milliseconds."
        )
    return int(text)


def _most(choose: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)
