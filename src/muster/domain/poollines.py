"""The lines of a pool, `spec.resources`: the rules of new ones, and of a change. Pure.

Fields are named as the API names them: the messages are for those who wrote the request.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from muster.domain.errors import InvalidRequest
from muster.domain.pool import DEFAULT_LINE, LINES_MAX, NODES_MAX, Node, Pool, PoolLine
from muster.domain.tag import check_key_is_free

_LINE_NAME: Final = re.compile(r"[a-z0-9-]{1,50}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLine:
    """One of `spec.resources`: so many nodes of a flavor."""

    where: str  # it stands in the request
    flavor_code: str
    node_count: int
    node_count_max: int | None = None
    name: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


def new_lines(wishes: Sequence[NewLine], flavors: Sequence[str]) -> tuple[PoolLine, ...]:
    if not wishes:
        raise InvalidRequest("spec.resources is empty; at least one flavor with nodes is needed.")
    check_line_count(len(wishes))
    names = [wish.name for wish in wishes if wish.name]
    lines: list[PoolLine] = []
    for wish in wishes:
        check_line(wish, flavors)
        name = wish.name or free_line_name(names)
        if not wish.name:
            names.append(name)
        if any(line.name == name for line in lines):
            raise InvalidRequest(
                f"{wish.where}.nodePool is {name!r}, as that of another one; the node pools of a"
                " pool have names of their own."
            )
        lines.append(line_of(wish, name))
    return tuple(lines)


def check_line_count(count: int) -> None:
    if count > LINES_MAX:
        raise InvalidRequest(f"spec.resources has {count} members; at most {LINES_MAX} may be.")


def check_line(wish: NewLine, flavors: Sequence[str]) -> None:
    """Raise InvalidRequest unless such nodes can be asked for."""
    if wish.flavor_code not in flavors:
        raise InvalidRequest(
            f"{wish.where}.flavor is {shown(wish.flavor_code)}; there are"
            f" {', '.join(sorted(flavors))}."
        )
    if not 1 <= wish.node_count <= NODES_MAX:
        raise InvalidRequest(
            f"{wish.where}.count is {wish.node_count}; it must be a whole number from 1 to"
            f" {NODES_MAX}."
        )
    if wish.node_count_max not in (None, wish.node_count):
        raise InvalidRequest(
            f"{wish.where}.maxCount is {wish.node_count_max}; the nodes of a pool do not come and"
            f" go by themselves: it must be count, {wish.node_count}, or be left out."
        )
    if wish.name is not None:
        check_line_name(f"{wish.where}.nodePool", wish.name)
    for tag in cast("Sequence[Mapping[str, str]]", wish.settings.get("tags") or ()):
        check_key_is_free(f"{wish.where}.tags", tag["key"])


def check_line_name(where: str, name: str) -> None:
    if not _LINE_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{where} is {shown(name)}; it must be 1 to 50 lower-case letters, digits and hyphens."
        )


def free_line_name(names: Iterable[str]) -> str:
    """`default`, `default-2` ...: the first that is not taken."""
    taken = set(names)
    name, number = DEFAULT_LINE, 1
    while name in taken:
        number += 1
        name = f"{DEFAULT_LINE}-{number}"
    return name


def line_of(wish: NewLine, name: str) -> PoolLine:
    return PoolLine(
        name=name,
        flavor_code=wish.flavor_code,
        node_count=wish.node_count,
        settings=dict(wish.settings),
    )


def changed_lines(
    pool: Pool, wishes: Sequence[NewLine], flavors: Iterable[str]
) -> tuple[PoolLine, ...]:
    """Lines with the counts that are wished for; those that are not named go."""
    codes = tuple(flavors)
    named = _lines_meant(pool.lines, wishes)
    taken = {line.name for line in pool.lines} | {wish.name for wish in wishes if wish.name}
    after: list[PoolLine] = []
    for wish, before in zip(wishes, named, strict=True):
        if before is None:
            if wish.node_count == 0:
                continue  # none of what is not there: nothing to do
            check_line(wish, codes)
            name = wish.name or free_line_name(taken)
            taken.add(name)
            after.append(line_of(wish, name))
        elif wish.node_count:
            after.append(resized_line(before, wish, codes))
    if not after:
        raise InvalidRequest(
            "spec.resources would leave the pool without nodes; one must stay. Delete the pool"
            " instead."
        )
    check_line_count(len(after))
    check_moves_one_way(pool.lines, after)
    return tuple(after)


def _lines_meant(lines: Sequence[PoolLine], wishes: Sequence[NewLine]) -> list[PoolLine | None]:
    """The line that each wish is for: by its name, else the first of that flavor that is left."""
    by_name = {line.name: line for line in lines}
    asked = [wish.name for wish in wishes if wish.name]
    for name in asked:
        if asked.count(name) > 1:
            raise InvalidRequest(f"spec.resources names the node pool {name!r} more than once.")
    left = [line for line in lines if line.name not in asked]
    meant: list[PoolLine | None] = []
    for wish in wishes:
        if wish.name:
            meant.append(by_name.get(wish.name))
            continue
        same = next((line for line in left if line.flavor_code == wish.flavor_code), None)
        if same is not None:
            left.remove(same)
        meant.append(same)
    return meant


def resized_line(before: PoolLine, wish: NewLine, flavors: Sequence[str]) -> PoolLine:
    """The line with another count and settings; its nodes stay what they are."""
    if wish.flavor_code != before.flavor_code:
        raise InvalidRequest(
            f"{wish.where}.flavor is {shown(wish.flavor_code)}; the nodes of {before.name!r} are"
            f" of flavor {before.flavor_code}. Ask for the other one in a node pool of its own."
        )
    # A flavor that the inventory has dropped since may still be shrunk.
    check_line(wish, (*flavors, before.flavor_code))
    return replace(
        before, node_count=wish.node_count, settings={**before.settings, **wish.settings}
    )


def is_resize(before: Sequence[PoolLine], after: Sequence[PoolLine]) -> bool:
    return _sizes(before) != _sizes(after)


def _sizes(lines: Sequence[PoolLine]) -> dict[tuple[str, str], int]:
    return {(line.name, line.flavor_code): line.node_count for line in lines}


def check_moves_one_way(before: Sequence[PoolLine], after: Sequence[PoolLine]) -> None:
    """Raise InvalidRequest where some nodes would come and others go."""
    counts = {line.name: line.node_count for line in before}
    for line in after:
        counts[line.name] = line.node_count - counts.get(line.name, 0)
    for line in before:
        if all(line.name != other.name for other in after):
            counts[line.name] = -line.node_count
    grown = sorted(name for name, by in counts.items() if by > 0)
    shrunk = sorted(name for name, by in counts.items() if by < 0)
    if grown and shrunk:
        raise InvalidRequest(
            f"spec.resources would grow {', '.join(grown)} and shrink {', '.join(shrunk)}; one call"
            " does one of them."
        )


def check_locked_stay(nodes: Iterable[Node], lines: Sequence[PoolLine]) -> None:
    """Raise InvalidRequest where fewer nodes are to stay than are locked."""
    wanted = {line.name: line.node_count for line in lines}
    locked: dict[str, list[str]] = {}
    for node in nodes:
        if node.is_locked:
            locked.setdefault(node.line_name, []).append(node.name)
    for line_name, names in locked.items():
        if len(names) > wanted.get(line_name, 0):
            raise InvalidRequest(
                f"spec.resources would remove locked nodes of {line_name!r}:"
                f" {', '.join(names[:10])}. Unlock them first."
            )


def shown(value: str) -> str:
    return repr(value if len(value) <= 100 else f"{value[:97]}...")
