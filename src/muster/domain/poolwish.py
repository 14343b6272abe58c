"""What a user may ask of a pool: the rules of a new one, and of a change. Pure.

Fields are named as the API names them: the messages are for those who wrote the request.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from muster.domain.errors import InvalidRequest, NodePoolNameTaken
from muster.domain.pool import (
    DEFAULT_LINE,
    LINES_MAX,
    NODES_MAX,
    USABLE,
    Node,
    Pool,
    PoolLine,
    PoolPhase,
    Scope,
)

NAME_LABEL: Final = "os.modelarts/name"
WORKSPACE_LABEL: Final = "os.modelarts/workspace.id"
PREFIX_LABEL: Final = "os.modelarts/node.prefix"
SHARING_LABEL: Final = "os.modelarts/sharing"
DESCRIPTION: Final = "os.modelarts/description"

# Labels that tell what the platform knows; nobody else sets them.
FIXED_LABELS: Final = frozenset(
    {
        NAME_LABEL,
        "os.modelarts/resource.id",
        "os.modelarts/tenant.domain.id",
        "os.modelarts/tenant.project.id",
        "os.modelarts.pool/biz",
    }
)
LABELS_MAX: Final = 64  # likewise annotations
KEY_LENGTH_MAX: Final = 253
VALUE_LENGTH_MAX: Final = 1024

# Members of `spec` that are kept and shown; the second ones can be changed later.
CHANGEABLE_SETTINGS: Final = frozenset({"driver", "jobFlavors"})

_DISPLAY_NAME: Final = re.compile(r"[a-z][a-z0-9-]{2,23}[a-z0-9]")
_NODE_PREFIX: Final = re.compile(r"[a-z][a-z0-9-]{0,29}[a-z0-9]?")
_LINE_NAME: Final = re.compile(r"[a-z0-9-]{1,50}")
_DESCRIPTION_FORBIDS: Final = "!<>=&\"'"

# Annotations with a fixed set of values.
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "os.modelarts/billing.mode": ("0", "1"),
    "os.modelarts/period.type": ("2", "3"),
    "os.modelarts/auto.renew": ("0", "1"),
    "os.modelarts/auto.pay": ("true", "false"),
    SHARING_LABEL: ("unshared", "shared"),
}

Strings = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLine:
    """One of `spec.resources`: so many nodes of a flavor."""

    where: str  # it stands in the request
    flavor_code: str
    node_count: int
    node_count_max: int | None = None
    name: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPool:
    display_name: str
    workspace_id: str
    scopes: tuple[Scope, ...]
    lines: tuple[NewLine, ...]
    labels: Strings = field(default_factory=dict)
    annotations: Strings = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChange:
    """A merge patch: what is None stays, but for values, where None takes them away."""

    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] | None = field(default_factory=dict)  # None: all of them
    scopes: tuple[Scope, ...] | None = None
    lines: tuple[NewLine, ...] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


# ---------------------------------------------------------------- new ones


def new_pool(
    wish: NewPool, flavors: Iterable[str], *, pool_id: str, project_id: str, now_ms: int
) -> Pool:
    """The pool that was asked for, without nodes yet.

    Raises:
        InvalidRequest: names the field, what was given, and what is allowed.
    """
    check_display_name(wish.display_name)
    _check_labels(wish.labels)
    check_annotations(wish.annotations)
    return Pool(
        id=pool_id,
        project_id=project_id,
        workspace_id=wish.workspace_id,
        display_name=wish.display_name,
        partition=pool_id,
        phase=PoolPhase.CREATING,
        scopes=_scopes(wish.scopes),
        lines=_new_lines(wish.lines, tuple(flavors)),
        labels={key: value for key, value in wish.labels.items() if key not in _KEPT_APART},
        annotations=dict(wish.annotations),
        settings=dict(wish.settings),
        created_at_ms=now_ms,
        phase_since_ms=now_ms,
    )


_KEPT_APART: Final = FIXED_LABELS | {WORKSPACE_LABEL}


def check_display_name(name: str) -> None:
    if not _DISPLAY_NAME.fullmatch(name):
        raise InvalidRequest(
            f"metadata.labels['{NAME_LABEL}'] is {_shown(name)}; it must be 4 to 25 lower-case"
            " letters, digits and hyphens, begin with a letter and not end with a hyphen."
        )


def _check_labels(labels: Mapping[str, str | None]) -> None:
    _check_strings("metadata.labels", labels)
    prefix = labels.get(PREFIX_LABEL)
    if prefix is not None and not _NODE_PREFIX.fullmatch(prefix):
        raise InvalidRequest(
            f"metadata.labels['{PREFIX_LABEL}'] is {_shown(prefix)}; it must be 1 to 31 lower-case"
            " letters, digits and hyphens, and begin with a letter."
        )


def check_annotations(annotations: Mapping[str, str | None]) -> None:
    _check_strings("metadata.annotations", annotations)
    found = sorted(set(annotations.get(DESCRIPTION) or "") & set(_DESCRIPTION_FORBIDS))
    if found:
        raise InvalidRequest(
            f"metadata.annotations['{DESCRIPTION}'] has {' '.join(found)}; a description holds none"
            f" of {_DESCRIPTION_FORBIDS}"
        )


def _check_strings(where: str, strings: Mapping[str, str | None]) -> None:
    if len(strings) > LABELS_MAX:
        raise InvalidRequest(f"{where} has {len(strings)} members; at most {LABELS_MAX} may be.")
    for key, value in strings.items():
        if not 1 <= len(key) <= KEY_LENGTH_MAX:
            raise InvalidRequest(
                f"{where} has the key {_shown(key)} of {len(key)} characters; 1 to"
                f" {KEY_LENGTH_MAX} are allowed."
            )
        if value is None:
            continue
        if len(value) > VALUE_LENGTH_MAX:
            raise InvalidRequest(
                f"{where}[{_shown(key)}] has {len(value)} characters; at most {VALUE_LENGTH_MAX}"
                " are allowed."
            )
        if key in _CHOICES and value not in _CHOICES[key]:
            raise InvalidRequest(
                f"{where}[{_shown(key)}] is {_shown(value)}; it must be one of"
                f" {', '.join(_CHOICES[key])}."
            )


def _scopes(scopes: Sequence[Scope]) -> tuple[Scope, ...]:
    """In the order of the enumeration, each once."""
    if not scopes:
        raise InvalidRequest(
            f"spec.scope is empty; it must name one or more of {', '.join(Scope)}."
        )
    return tuple(scope for scope in Scope if scope in scopes)


def _new_lines(wishes: Sequence[NewLine], flavors: Sequence[str]) -> tuple[PoolLine, ...]:
    if not wishes:
        raise InvalidRequest("spec.resources is empty; at least one flavor with nodes is needed.")
    _check_line_count(len(wishes))
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
        lines.append(_line(wish, name))
    return tuple(lines)


def _check_line_count(count: int) -> None:
    if count > LINES_MAX:
        raise InvalidRequest(f"spec.resources has {count} members; at most {LINES_MAX} may be.")


def check_line(wish: NewLine, flavors: Sequence[str]) -> None:
    """Raise InvalidRequest unless such nodes can be asked for."""
    if wish.flavor_code not in flavors:
        raise InvalidRequest(
            f"{wish.where}.flavor is {_shown(wish.flavor_code)}; there are"
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
        check_tag(f"{wish.where}.tags", tag["key"])


def check_line_name(where: str, name: str) -> None:
    if not _LINE_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{where} is {_shown(name)}; it must be 1 to 50 lower-case letters, digits and hyphens."
        )


def check_tag(where: str, key: str) -> None:
    if not key or key.startswith(("CCE-", "__type_baremetal")):
        raise InvalidRequest(
            f"{where} has the key {_shown(key)}; it must not be empty, nor begin with CCE- or"
            " __type_baremetal."
        )


def free_line_name(names: Iterable[str]) -> str:
    """`default`, `default-2` ...: the first that is not taken."""
    taken = set(names)
    name, number = DEFAULT_LINE, 1
    while name in taken:
        number += 1
        name = f"{DEFAULT_LINE}-{number}"
    return name


def _line(wish: NewLine, name: str) -> PoolLine:
    return PoolLine(
        name=name,
        flavor_code=wish.flavor_code,
        node_count=wish.node_count,
        settings=dict(wish.settings),
    )


# ---------------------------------------------------------------- changes


def changed_pool(pool: Pool, change: PoolChange, flavors: Iterable[str]) -> Pool:
    """The pool with the change; the same where nothing changes.

    Raises:
        InvalidRequest: names what cannot be changed so, and why.
    """
    _check_changes_labels(pool, change.labels)
    _check_labels(change.labels)
    check_annotations(change.annotations or {})
    lines = pool.lines if change.lines is None else _changed_lines(pool, change.lines, flavors)
    workspace_id = change.labels.get(WORKSPACE_LABEL) or pool.workspace_id
    if is_resize(pool.lines, lines):
        check_resizable(pool)
        if workspace_id != pool.workspace_id:
            raise InvalidRequest(
                f"metadata.labels['{WORKSPACE_LABEL}'] and spec.resources cannot be changed"
                " together; do one after the other."
            )
    labels = {key: value for key, value in change.labels.items() if key not in _KEPT_APART}
    annotations = {} if change.annotations is None else pool.annotations
    changed = replace(
        pool,
        workspace_id=workspace_id,
        scopes=pool.scopes if change.scopes is None else _scopes(change.scopes),
        lines=lines,
        labels=_merged_strings("metadata.labels", pool.labels, labels),
        annotations=_merged_strings("metadata.annotations", annotations, change.annotations or {}),
        settings=_changed_settings(pool.settings, change.settings),
    )
    if changed != pool:
        check_changeable(pool)
    return changed


def check_changeable(pool: Pool) -> None:
    """Raise InvalidRequest where a project cannot change the pool or its nodes."""
    if pool.is_public:
        raise InvalidRequest(
            f"Pool {pool.id} is the public one; all projects share its nodes, and only the"
            " inventory of the server changes them."
        )
    if pool.phase in (PoolPhase.DELETING, PoolPhase.CREATION_FAILED):
        raise InvalidRequest(f"Pool {pool.id} is {pool.phase}; it cannot be changed any more.")


def check_resizable(pool: Pool) -> None:
    """Raise InvalidRequest unless its size can be changed now."""
    check_changeable(pool)
    if pool.phase not in USABLE:
        raise InvalidRequest(
            f"Pool {pool.id} is {pool.phase}; only one that is {' or '.join(sorted(USABLE))} can be"
            " resized."
        )


def is_resize(before: Sequence[PoolLine], after: Sequence[PoolLine]) -> bool:
    return _sizes(before) != _sizes(after)


def _sizes(lines: Sequence[PoolLine]) -> dict[tuple[str, str], int]:
    return {(line.name, line.flavor_code): line.node_count for line in lines}


def _check_changes_labels(pool: Pool, labels: Mapping[str, str | None]) -> None:
    given = labels.get(NAME_LABEL, pool.display_name)
    if given != pool.display_name:
        what = "removed" if given is None else f"changed to {_shown(given)}"
        raise InvalidRequest(f"metadata.labels['{NAME_LABEL}'] cannot be {what}.")
    if WORKSPACE_LABEL in labels and not labels[WORKSPACE_LABEL]:
        raise InvalidRequest(
            f"metadata.labels['{WORKSPACE_LABEL}'] cannot be removed; the default workspace is '0'."
        )


def _merged_strings(
    where: str, before: Strings, change: Mapping[str, str | None]
) -> dict[str, str]:
    merged = {key: value for key, value in {**before, **change}.items() if value is not None}
    _check_strings(where, merged)
    return merged


def _changed_settings(
    before: Mapping[str, object], change: Mapping[str, object]
) -> dict[str, object]:
    after = dict(before)
    for key, value in change.items():
        merged = merge_patch(before.get(key), value)
        if key not in CHANGEABLE_SETTINGS and merged != before.get(key):
            raise InvalidRequest(
                f"spec.{key} cannot be {'removed' if value is None else 'changed'};"
                f" {', '.join(sorted(CHANGEABLE_SETTINGS))}, resources and scope can."
            )
        if merged is None:
            after.pop(key, None)
        else:
            after[key] = merged
    return after


def merge_patch(target: object, patch: object) -> object:
    """RFC 7386: members of objects are merged, null takes away, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _changed_lines(
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
            after.append(_line(wish, name))
        elif wish.node_count:
            after.append(resized_line(before, wish, codes))
    if not after:
        raise InvalidRequest(
            "spec.resources would leave the pool without nodes; one must stay. Delete the pool"
            " instead."
        )
    _check_line_count(len(after))
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
            f"{wish.where}.flavor is {_shown(wish.flavor_code)}; the nodes of {before.name!r} are"
            f" of flavor {before.flavor_code}. Ask for the other one in a node pool of its own."
        )
    # A flavor that the inventory has dropped since may still be shrunk.
    check_line(wish, (*flavors, before.flavor_code))
    return replace(
        before, node_count=wish.node_count, settings={**before.settings, **wish.settings}
    )


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


# ---------------------------------------------------------------- lines by name


def with_line(pool: Pool, wish: NewLine, flavors: Iterable[str]) -> Pool:
    """The pool with one node pool more.

    Raises:
        InvalidRequest: it cannot be.
        NodePoolNameTaken: the pool has one of that name.
    """
    check_resizable(pool)
    check_line(wish, tuple(flavors))
    names = [line.name for line in pool.lines]
    if wish.name in names:
        raise NodePoolNameTaken(
            f"metadata.name is {wish.name!r}; pool {pool.id} has a node pool of that name."
        )
    _check_line_count(len(names) + 1)
    return replace(pool, lines=(*pool.lines, _line(wish, wish.name or free_line_name(names))))


def with_changed_line(pool: Pool, line: PoolLine) -> Pool:
    """The pool with this in place of its line of that name."""
    lines = tuple(line if other.name == line.name else other for other in pool.lines)
    if is_resize(pool.lines, lines):
        check_resizable(pool)
    elif lines != pool.lines:
        check_changeable(pool)
    return replace(pool, lines=lines)


def without_line(pool: Pool, name: str) -> Pool:
    """The pool without its line of that name; one must stay."""
    check_resizable(pool)
    lines = tuple(line for line in pool.lines if line.name != name)
    if not lines:
        raise InvalidRequest(
            f"Node pool {name!r} is the only one of pool {pool.id}; one must stay. Delete the pool"
            " instead."
        )
    return replace(pool, lines=lines)


def without_nodes(pool: Pool, leaving: Iterable[Node]) -> Pool:
    """The pool with so many nodes less in each line; lines that are left without any go."""
    counts: dict[str, int] = {}
    for node in leaving:
        counts[node.line_name] = counts.get(node.line_name, 0) + 1
    lines = (
        replace(line, node_count=max(0, line.node_count - counts.get(line.name, 0)))
        for line in pool.lines
    )
    return replace(pool, lines=tuple(line for line in lines if line.node_count))


def _shown(value: str) -> str:
    return repr(value if len(value) <= 100 else f"{value[:97]}...")
