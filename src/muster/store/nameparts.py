"""What the names of many jobs are made of: searches count few names, and pass few.

Names never change. So those of a workspace with many jobs are learnt later, many at a time and by a
sweep: no job waits for it when it is made. Up to the *mark*, the highest id that a sweep has come
to, it is known how many jobs have each part of one or two characters in their names (`name_part`),
and, of each stretch of the order of names, how many names there are, how all of them begin, and
which parts they have (`name_stretch`). With a job that is deleted goes what it counted; a stretch
may go on to tell of parts that are there no more. Behind the mark, names are looked at one by one.
So what is told is true at every commit.

`store/paging/by_part.py` reads it. Only one server learns at a time: the one that leads.
"""

import json
import uuid
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import add
from typing import Final

from muster.store.connection import Connection
from muster.store.manyrows import run_for_rows
from muster.store.statements import load_statements
from muster.store.transaction import Transaction, reads_no_counters, tells_lists

SQL: Final = load_statements("nameparts")

NAMES_MIN: Final = 50_000  # of a workspace: fewer are looked through in some 10 ms
# A new stretch has about so many names, and is split once it has twice as many: at least, and of a
# workspace with more of them a part in so many.
STRETCH_NAMES: Final = 256
STRETCHES: Final = 1_024
PART_LENGTH_MAX: Final = 2

Place = tuple[str, str]  # project and workspace


# ------------------------------------------------------------------ parts as bits

_SIGNS: Final = "abcdefghijklmnopqrstuvwxyz0123456789-_"
_OTHER: Final = len(_SIGNS)  # of signs that no name should have
_NUMBER_OF: Final = {sign: number for number, sign in enumerate(_SIGNS)}
_BITS_OF: Final = {
    **{sign: 1 << number for sign, number in _NUMBER_OF.items()},
    **{
        first + second: 1 << (_OTHER + 1) * (high + 1) + low
        for first, high in _NUMBER_OF.items()
        for second, low in _NUMBER_OF.items()
    },
}


def parts_of(name: str) -> set[str]:
    """The parts of one or two characters that a name has, in small letters."""
    name = name.lower()
    return {*name, *map(add, name, name[1:])}


def bits_of(parts: Iterable[str]) -> int:
    """A number with a bit for each of the parts."""
    bits = 0
    for part in parts:
        bits |= _BITS_OF.get(part) or _bit_of(part)
    return bits


def _bit_of(part: str) -> int:
    first, *second = [_NUMBER_OF.get(sign, _OTHER) for sign in part]
    return 1 << ((_OTHER + 1) * (first + 1) + second[0] if second else first)


def shared_beginning(one: str, other: str) -> str:
    if other.startswith(one):
        return one
    length = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[: len(other) if length is None else length]


# ------------------------------------------------------------------ read


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the order of names, and what is known of the learnt names in it."""

    low: str  # it begins here; '' is before all names
    name_count: int = 0
    prefix: str = ""  # with which all of them begin
    bits: int = 0  # of the parts that they have, and that deleted ones had

    def with_name(self, name: str, parts: Iterable[str]) -> "Stretch":
        prefix = shared_beginning(self.prefix, name) if self.name_count else name
        return Stretch(self.low, self.name_count + 1, prefix, self.bits | bits_of(parts))


@dataclass(frozen=True, slots=True)
class Names:
    """What is known of the names of a workspace."""

    learnt_id: int  # the mark
    stretches: Sequence[Stretch]  # in their order
    name_count: int  # of all of them: of learnt jobs, but for deleted ones


def read_names(connection: Connection, place: Place) -> Names | None:
    """None: none of its names was ever learnt."""
    found = connection.execute(SQL["get_mark"], _key(place)).fetchone()
    if found is None:
        return None
    learnt_id, edition = found
    names = _remembered.get(edition)
    if names is None:
        names = _names(learnt_id, _read_stretches(connection, place))
        _remember(edition, names)
    return names


def _names(learnt_id: int, stretches: Sequence[Stretch]) -> Names:
    return Names(learnt_id, stretches, sum(stretch.name_count for stretch in stretches))


def _remember(edition: str, names: Names) -> None:
    if len(_remembered) >= REMEMBERED_MAX:
        _remembered.clear()
    _remembered[edition] = names


# By edition: no two are ever the same, in whichever database.
_remembered: Final[dict[str, Names]] = {}
REMEMBERED_MAX: Final = 32  # of a million names, a quarter of a megabyte


def count_learnt(connection: Connection, place: Place, part: str) -> int:
    """How many jobs up to the mark have a part of one or two characters in their names."""
    found = connection.execute(SQL["get_part"], {**_key(place), "part": part}).fetchone()
    return 0 if found is None else int(found[0])


def _read_stretches(connection: Connection, place: Place) -> list[Stretch]:
    found = connection.execute(SQL["list_stretches"], _key(place))
    return [Stretch(low, count, prefix, int(parts, 16)) for low, count, prefix, parts in found]


def _key(place: Place) -> dict[str, str]:
    return {"project_id": place[0], "workspace_id": place[1]}


# ------------------------------------------------------------------ learnt


def list_large_places(connection: Connection, *, names_min: int) -> dict[Place, int]:
    """How many jobs there are in the workspaces that are worth it."""
    found = connection.execute(SQL["list_large_workspaces"], {"names_min": names_min})
    return {(project_id, workspace_id): int(count) for project_id, workspace_id, count in found}


@tells_lists
@reads_no_counters
def begin(tx: Transaction, place: Place) -> None:
    """Let the names of a workspace be one stretch, of which nothing is known yet."""
    tx.execute(SQL["insert_mark"], {**_key(place), "edition": _new_edition()})
    _put_stretches(tx, place, [Stretch("")])


@tells_lists
@reads_no_counters
def learn_next(tx: Transaction, place: Place, *, limit: int, stretch_names: int) -> int:
    """Go on from the mark by at most so many names; return how many there were.

    Stretches that have become too long are split: at most a few, and each rarely.
    """
    names = read_names(tx.connection, place)
    assert names is not None, "it has begun"
    rows = tx.execute(
        SQL["list_next_names"], {**_key(place), "learnt_id": names.learnt_id, "limit": limit}
    ).fetchall()
    if not rows:
        return 0
    stretches = names.stretches
    lows = [stretch.low for stretch in stretches]
    counts: Counter[str] = Counter()
    changed: dict[int, Stretch] = {}
    for _, name in rows:
        parts = parts_of(name)
        counts.update(parts)
        number = bisect_right(lows, name) - 1
        changed[number] = changed.get(number, stretches[number]).with_name(name, parts)
    run_for_rows(
        tx.connection, SQL["add_parts"], [(*place, part, count) for part, count in counts.items()]
    )
    learnt_id = rows[-1][0]
    pieces = {number: [stretch] for number, stretch in changed.items()}
    for number, stretch in changed.items():
        if stretch.name_count >= 2 * stretch_names:
            high = lows[number + 1] if number + 1 < len(lows) else _BEHIND_ALL
            within = _learnt_names(tx.connection, place, stretch.low, high, learnt_id)
            pieces[number] = split(stretch.low, within, stretch_names)
    _put_stretches(tx, place, list(chain.from_iterable(pieces.values())))
    edition = _set_mark(tx, place, learnt_id)
    whole = (pieces.get(number, (stretch,)) for number, stretch in enumerate(stretches))
    _remember(edition, _names(learnt_id, list(chain.from_iterable(whole))))
    return len(rows)


def _set_mark(tx: Transaction, place: Place, learnt_id: int) -> str:
    """Return the new edition."""
    edition = _new_edition()
    tx.execute(SQL["set_mark"], {**_key(place), "learnt_id": learnt_id, "edition": edition})
    return edition


def _new_edition() -> str:
    return uuid.uuid4().hex


def _put_stretches(tx: Transaction, place: Place, stretches: Sequence[Stretch]) -> None:
    run_for_rows(
        tx.connection,
        SQL["put_stretches"],
        [(*place, one.low, one.name_count, one.prefix, f"{one.bits:x}") for one in stretches],
    )


def _learnt_names(
    connection: Connection, place: Place, low: str, high: str, learnt_id: int
) -> list[str]:
    found = connection.execute(
        SQL["list_names_of_stretch"],
        {**_key(place), "low_name": low, "high_name": high, "learnt_id": learnt_id},
    )
    return [name for (name,) in found]


def split(low: str, names: Sequence[str], stretch_names: int) -> list[Stretch]:
    """Stretches of about so many of these names, which are in order; the first begins at `low`."""
    stretches = []
    begin = 0
    while begin < len(names):
        end = len(names)
        if end - begin >= 2 * stretch_names:
            end = _cut(names, begin + stretch_names // 2, begin + stretch_names * 3 // 2)
        piece = names[begin:end]
        stretches.append(
            Stretch(
                piece[0] if begin else low,
                len(piece),
                shared_beginning(piece[0], piece[-1]),
                bits_of(_parts_of_all(piece)),
            )
        )
        begin = end
    return stretches or [Stretch(low)]


def _cut(names: Sequence[str], first: int, last: int) -> int:
    """Where, of these places, names begin otherwise: what has a part often begins alike."""
    shared = len(shared_beginning(names[first - 1], names[last])) + 1
    begins = names[first - 1][:shared]
    return bisect_right(names, begins, first, last, key=lambda name: name[:shared])


_BEHIND_ALL: Final = "\U0010ffff"


def _parts_of_all(names: Sequence[str]) -> set[str]:
    """As `parts_of` each of them, in a fifth of the time."""
    text = "\n".join(names).lower()
    pairs = {first + second for first, second in set(pairwise(text))}
    return {part for part in pairs.union(text) if "\n" not in part}


def forget_name(tx: Transaction, place: Place, job_id: int, name: str) -> None:
    """Call it when a job is deleted."""
    found = tx.execute(SQL["get_mark"], _key(place)).fetchone()
    if found is None or job_id > found[0]:
        return
    parts = json.dumps(sorted(parts_of(name)))
    tx.execute(SQL["take_parts"], {**_key(place), "parts": parts})
    tx.execute(SQL["take_from_stretch"], {**_key(place), "name": name})
    _set_mark(tx, place, found[0])


# ------------------------------------------------------------------ checked


def differences(connection: Connection) -> Iterator[str]:
    """What is told wrongly of the names that are learnt."""
    for *place, learnt_id in connection.execute(SQL["list_marks"]).fetchall():
        project_id, workspace_id = place
        yield from _differences_at(connection, (project_id, workspace_id), learnt_id)


def _differences_at(connection: Connection, place: Place, learnt_id: int) -> Iterator[str]:
    stretches = _read_stretches(connection, place)
    lows = [stretch.low for stretch in stretches]
    if lows[:1] != [""]:
        yield f"name_stretch {place}: the first begins at {lows[:1]}"
        return
    counts: Counter[str] = Counter()
    name_counts: Counter[str] = Counter()
    found = connection.execute(SQL["list_learnt_names"], {**_key(place), "learnt_id": learnt_id})
    for (name,) in found:
        parts = parts_of(name)
        counts.update(parts)
        stretch = stretches[bisect_right(lows, name) - 1]
        name_counts[stretch.low] += 1
        if bits_of(parts) & ~stretch.bits or not name.startswith(stretch.prefix):
            yield f"name_stretch {(*place, stretch.low)}: it does not tell of {name}"
    for one in stretches:
        if name_counts[one.low] != one.name_count:
            yield (
                f"name_stretch {(*place, one.low)}: counted {one.name_count},"
                f" there are {name_counts[one.low]}"
            )
    told: Counter[str] = Counter(
        dict(connection.execute(SQL["list_parts"], _key(place)).fetchall())
    )
    for part in sorted(counts.keys() | told.keys()):
        if counts[part] != told[part]:
            yield f"name_part {(*place, part)}: counted {told[part]}, there are {counts[part]}"
