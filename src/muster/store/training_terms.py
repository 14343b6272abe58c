"""The terms of a search of v2 training jobs, as what a scope is narrowed by.

What an index answers becomes candidates, or a count of them; a term that none answers is asked of
each row. No user text ever becomes SQL text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from muster.domain.pool import public_pool_id
from muster.store import named, tags
from muster.store.connection import Connection
from muster.store.paging.by_part import count_of_part, first_by_name
from muster.store.paging.scope import ALGORITHM, Candidates, Scope, candidates_of, plain, walk
from muster.store.paging.totals import total_of, unfiltered
from muster.store.statements import load_statements
from muster.store.tags import TagTerm

SEARCH: Final = load_statements("search")

FOUND_MAX: Final = 50_000  # candidates: their keys are kept in memory

# A version after the first needs a name of its own where each version is a job.
TRAINING_NAME = (
    "CASE WHEN version.number = 1 THEN version.job_name"
    " ELSE version.job_name || printf('-V%04d', version.number) END"
)

POOL: Final = "pool_id"

# What a search may look at. Each reads one row by its key, so that a count needs no join.
_SEARCHED: Final[Mapping[str, str]] = {
    "name": TRAINING_NAME,
    "id": "(SELECT w.uid FROM workload AS w WHERE w.id = version.workload_id)",
    "algorithm_name": "coalesce(json_extract(version.config, '$.algorithm.name'), '')",
    "user_id": "(SELECT j.creator_name FROM job AS j WHERE j.id = version.job_id)",
}

_OPERATORS: Final[Mapping[str, str]] = {
    "in": "coalesce({subject}, '') IN (SELECT value FROM json_each(:{name}))",
    "not": "coalesce({subject}, '') NOT IN (SELECT value FROM json_each(:{name}))",
    "like one": "instr(lower({subject}), :{name}) > 0",
    "like": (
        "EXISTS (SELECT 1 FROM json_each(:{name}) AS part"
        " WHERE instr(lower({subject}), part.value) > 0)"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTerm:
    key: str  # of _SEARCHED, or POOL
    operator: str  # of _OPERATORS
    values: tuple[str, ...]  # any of them; none is ""


def with_pools(connection: Connection, scope: Scope, terms: Sequence[SearchTerm]) -> Scope:
    """The terms about pools become a set of them.

    Pools are few, and the counters know in which of them anything ran.
    """
    terms = [term for term in terms if term.key == POOL]
    if not terms:
        return scope
    public = public_pool_id(scope.project_id)
    place = {"project_id": scope.project_id, "workspace_id": scope.workspace_id}
    pool_ids = [pool_id for (pool_id,) in connection.execute(SEARCH["list_pools"], place)]
    meeting = [id_ for id_ in pool_ids if all(_is_met(term, id_ or public) for term in terms)]
    return replace(scope, pool_ids=None if meeting == pool_ids else tuple(meeting))


def _is_met(term: SearchTerm, text: str) -> bool:
    if term.operator == "like":
        return any(value.casefold() in text.casefold() for value in term.values)
    return (text in term.values) == (term.operator == "in")


def with_tags(connection: Connection, scope: Scope, terms: Sequence[TagTerm]) -> Scope:
    """What has the rarest tag, about, becomes candidates; every row must have all tags."""
    if not terms:
        return scope
    more, values = scope.more, dict(scope.more_values)
    found = []
    for index, term in enumerate(terms):
        name = f"tag_{index}"
        where, bound = tags.condition(term, name)
        more += where
        values |= bound
        found.append(tags.candidates(term, name, scope))
    scope = replace(scope, more=more, more_values=values)
    for count_max in (FOUND_MAX // 100, FOUND_MAX // 10, FOUND_MAX):
        for candidates in found:
            if named.are_at_most(connection, scope, candidates, count_max):
                return replace(scope, candidates=candidates)
    return replace(scope, counted_by=found[0])


def with_terms(connection: Connection, scope: Scope, terms: Sequence[SearchTerm]) -> Scope:
    """What an index answers of the other terms becomes candidates; every row must meet them all."""
    terms = [_with_names(connection, scope, term) for term in terms if term.key != POOL]
    is_alone = scope.is_counted and len(terms) == 1
    is_all_there_is = is_alone and not scope.is_filtered
    part = _part_of_job_name(terms[0]) if is_alone else None
    if part is not None:
        by_part = _with_part(connection, scope, part)
        if by_part is not None:
            return by_part
    more = scope.more
    values = dict(scope.more_values)
    for index, term in enumerate(terms):
        name = f"term_{index}"
        operator, given = term.operator, term.values
        if operator == "like":
            given = tuple(value.casefold() for value in given)
            if len(given) == 1:  # as a rule; it costs a tenth of looking through a list
                operator, values[name] = "like one", given[0]
        more += f" AND {_OPERATORS[operator].format(subject=_SEARCHED[term.key], name=name)}"
        values.setdefault(name, json.dumps(given))
    scope = replace(scope, more=more, more_values=values)
    too_many = None
    for term in terms:
        is_not = term.operator == "not"
        found = None if is_not and not is_alone else _candidates(connection, scope, term)
        if found is None:
            continue
        if is_all_there_is and term.key == "user_id":
            total = _total_of_users(connection, scope, term)
            scope, found = replace(scope, known_total=total), replace(found, is_whole=True)
        if is_alone and (is_not or found.is_whole):
            return replace(scope, counted_by=found, counts_others=is_not)
        found = replace(found, is_whole=False)  # of those, some do not meet the other terms
        if found.is_known or named.are_at_most(connection, scope, found, FOUND_MAX):
            return replace(scope, candidates=found)
        too_many = too_many or found
    return scope if too_many is None else replace(scope, counted_by=too_many)


def _part_of_job_name(term: SearchTerm) -> str | None:
    """What must stand in the name of a job; None: the term is about something else, too."""
    if (term.key, term.operator, len(term.values)) != ("name", "like", 1):
        return None
    part = term.values[0].casefold()
    return None if _IN_NUMBER.search(part) or "\0" in part else part


def _with_part(connection: Connection, scope: Scope, part: str) -> Scope | None:
    """What has a part in the name of its job, as far as names are learnt; None: it is too little.

    The names stand in an index, so that none is looked up. A part that a search finds may be rare.
    """
    scope = replace(
        scope,
        more=" AND job_name LIKE :part ESCAPE '\\'",
        more_values={"part": named.like(part)},
        name_part=part,
    )
    found = named.with_any([part], column="job_id")
    if found is not None:
        if named.are_at_most(connection, scope, found, FOUND_MAX):
            return replace(scope, candidates=found)
        count = count_of_part(connection, scope, walked_to_one=WALKED_TO_ONE)
        return None if count is None else replace(scope, known_total=count)
    ids = first_by_name(connection, scope, FOUND_MAX + 1)
    if ids is None:
        return None
    if len(ids) <= FOUND_MAX:
        return replace(scope, candidates=candidates_of("id", ids))
    return replace(scope, known_total=count_of_part(connection, scope))


# Versions to be walked for each job that is known to be found: those are looked up, and joined.
WALKED_TO_ONE: Final = 16


def _with_names(connection: Connection, scope: Scope, term: SearchTerm) -> SearchTerm:
    """The term, about names as rows have them where it is about something that they stand for."""
    if term.key == "user_id":
        creators = _creators(connection, scope.project_id, term.values)
        return replace(term, values=tuple(creators))
    if (term.key, term.operator) == ("algorithm_name", "like"):
        place = {"project_id": scope.project_id, "workspace_id": scope.workspace_id}
        found = connection.execute(
            SEARCH["list_names_of_algorithms"], place | {"limit": ALGORITHMS_MAX + 1}
        ).fetchall()
        if len(found) <= ALGORITHMS_MAX:
            names = tuple(name for (name,) in found if _is_met(term, name))
            return replace(term, operator="in", values=names)
    return term


ALGORITHMS_MAX: Final = 10_000  # names; in more of them, versions are looked for one by one


def _candidates(connection: Connection, scope: Scope, term: SearchTerm) -> Candidates | None:
    """What an index has of one term, or of its contrary; None: no index knows."""
    match term.key, term.operator:
        case "id", "in" | "not":
            uids = {"uids": json.dumps(term.values)}
            found = connection.execute(SEARCH["find_versions_by_uid"], uids)
            return candidates_of("id", [id_ for (id_,) in found])
        case "id", "like" if all(len(value) >= _UID_LENGTH for value in term.values):
            # In which id is a whole one? In itself.
            values = tuple(value.casefold() for value in term.values)
            return _candidates(connection, scope, replace(term, operator="in", values=values))
        case "id", "like":
            return _with_part_of_id(connection, term.values)
        case "name", "in" | "not":
            return candidates_of("id", _find_named(connection, scope, term.values))
        case "user_id", "in" | "not":
            creators = {"creators": json.dumps(term.values)}
            return Candidates("job_id", SEARCH["jobs_of_creators"], creators)
        case "algorithm_name", _:
            return _of_algorithms(scope, term)
        case "name", "like":
            # What may stand there is left out: the rest is in the name of the job for sure.
            parts = [_IN_NUMBER.sub("", value.casefold()) for value in term.values]
            return named.with_any(parts, column="job_id")
        case _:
            return None


def _total_of_users(connection: Connection, scope: Scope, term: SearchTerm) -> int:
    """How many versions of the workspace are those of the users that the term is about."""
    place = {"project_id": scope.project_id, "workspace_id": scope.workspace_id}
    [count] = connection.execute(
        SEARCH["count_versions_of_creators"], place | {"creators": json.dumps(term.values)}
    ).fetchone()
    if term.operator == "in":
        return int(count)
    return total_of(connection, unfiltered(scope)) - int(count)


def _of_algorithms(scope: Scope, term: SearchTerm) -> Candidates:
    """The versions in the scope that are made of these algorithms, from their index alone."""
    source, values = walk(plain(scope), ALGORITHM)
    match term.operator, term.values:
        case "like", parts:
            condition, given = _OPERATORS["like"], json.dumps([part.casefold() for part in parts])
        case _, [name]:  # in the order of ids, as the index has them
            condition, given = "{subject} = :{name}", name
        case _, names:
            condition, given = _AMONG, json.dumps(names)
    where = condition.format(subject=ALGORITHM.column, name="algorithms")
    return Candidates(
        "id",
        f"SELECT id AS value {source} AND {where}",
        values | {"algorithms": given},
        is_whole=True,
    )


_AMONG: Final = "{subject} IN (SELECT value FROM json_each(:{name}))"


def _with_part_of_id(connection: Connection, parts: Sequence[str]) -> Candidates | None:
    """The versions with any of the parts in their ids; None: they are too many to be kept."""
    found: set[int] = set()
    for part in parts:
        values = {"part": part.casefold(), "limit": FOUND_MAX + 1}
        found.update(id_ for (id_,) in connection.execute(SEARCH[_BY_PART_OF_UID], values))
        if len(found) > FOUND_MAX:
            return None
    return candidates_of("id", sorted(found))


_BY_PART_OF_UID: Final = "find_versions_by_part_of_uid"
_UID_LENGTH: Final = 32  # of a workload

# Where a part may stand, wholly or in part, in what a name has behind that of its job: -V0002.
_IN_NUMBER: Final = re.compile(r"(-|-v\d*)\Z|\Av?\d*\Z")
_NUMBER: Final = re.compile(r"-V\d{4,}\Z")


def _find_named(connection: Connection, scope: Scope, names: Sequence[str]) -> list[int]:
    """The versions that have these names."""
    of_jobs = {_NUMBER.sub("", name) for name in names}.union(names)
    found = connection.execute(
        SEARCH["find_versions_of_names"],
        {
            "project_id": scope.project_id,
            "workspace_id": scope.workspace_id,
            "names": json.dumps(sorted(of_jobs)),
        },
    )
    return [
        id_
        for id_, name, number in found
        if (name if number == 1 else f"{name}-V{number:04d}") in names
    ]


def _creators(connection: Connection, project_id: str, user_ids: Sequence[str]) -> list[str]:
    """The names that those users put on their jobs."""
    found = connection.execute(
        SEARCH["list_creators"], {"project_id": project_id, "user_ids": json.dumps(user_ids)}
    )
    return [name for (name,) in found]
