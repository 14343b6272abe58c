"""What a user may ask of a pool: the rules of a new one, and of a change. Pure.

Fields are named as the API names them: the messages are for those who wrote the request.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from muster.domain.errors import InvalidRequest, NodePoolNameTaken
from muster.domain.pool import USABLE, Node, Pool, PoolLine, PoolPhase, Scope
from muster.domain.poollines import (
    NewLine,
    changed_lines,
    check_line,
    check_line_count,
    free_line_name,
    is_resize,
    line_of,
    new_lines,
    shown,
)
from muster.domain.tag import (
    TAGS_ANNOTATION,
    TagChange,
    changed_tags,
    tags_as_text,
    tags_of_annotations,
    tags_of_text,
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
        lines=new_lines(wish.lines, tuple(flavors)),
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
            f"metadata.labels['{NAME_LABEL}'] is {shown(name)}; it must be 4 to 25 lower-case"
            " letters, digits and hyphens, begin with a letter and not end with a hyphen."
        )


def _check_labels(labels: Mapping[str, str | None]) -> None:
    _check_strings("metadata.labels", labels)
    prefix = labels.get(PREFIX_LABEL)
    if prefix is not None and not _NODE_PREFIX.fullmatch(prefix):
        raise InvalidRequest(
            f"metadata.labels['{PREFIX_LABEL}'] is {shown(prefix)}; it must be 1 to 31 lower-case"
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
    tags_of_text(annotations.get(TAGS_ANNOTATION) or "[]")


def _check_strings(where: str, strings: Mapping[str, str | None]) -> None:
    if len(strings) > LABELS_MAX:
        raise InvalidRequest(f"{where} has {len(strings)} members; at most {LABELS_MAX} may be.")
    for key, value in strings.items():
        if not 1 <= len(key) <= KEY_LENGTH_MAX:
            raise InvalidRequest(
                f"{where} has the key {shown(key)} of {len(key)} characters; 1 to"
                f" {KEY_LENGTH_MAX} are allowed."
            )
        if value is None:
            continue
        if (
            len(value) > VALUE_LENGTH_MAX and key != TAGS_ANNOTATION
        ):  # tags have bounds of their own
            raise InvalidRequest(
                f"{where}[{shown(key)}] has {len(value)} characters; at most {VALUE_LENGTH_MAX}"
                " are allowed."
            )
        if key in _CHOICES and value not in _CHOICES[key]:
            raise InvalidRequest(
                f"{where}[{shown(key)}] is {shown(value)}; it must be one of"
                f" {', '.join(_CHOICES[key])}."
            )


def _scopes(scopes: Sequence[Scope]) -> tuple[Scope, ...]:
    """In the order of the enumeration, each once."""
    if not scopes:
        raise InvalidRequest(
            f"spec.scope is empty; it must name one or more of {', '.join(Scope)}."
        )
    return tuple(scope for scope in Scope if scope in scopes)


def changed_pool(pool: Pool, change: PoolChange, flavors: Iterable[str]) -> Pool:
    """The pool with the change; the same where nothing changes.

    Raises:
        InvalidRequest: names what cannot be changed so, and why.
    """
    _check_changes_labels(pool, change.labels)
    _check_labels(change.labels)
    check_annotations(change.annotations or {})
    lines = pool.lines if change.lines is None else changed_lines(pool, change.lines, flavors)
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


def tagged_pool(pool: Pool, change: TagChange) -> Pool:
    """The pool with other tags; the same where nothing changes.

    Raises:
        InvalidRequest: names the tag, or why the pool cannot be changed.
    """
    before = tags_of_annotations(pool.annotations)
    tags = changed_tags(before, change)
    if tags == before:
        return pool
    check_changeable(pool)
    annotations = {k: v for k, v in pool.annotations.items() if k != TAGS_ANNOTATION}
    if tags:
        annotations[TAGS_ANNOTATION] = tags_as_text(tags)
    return replace(pool, annotations=annotations)


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


def _check_changes_labels(pool: Pool, labels: Mapping[str, str | None]) -> None:
    given = labels.get(NAME_LABEL, pool.display_name)
    if given != pool.display_name:
        what = "removed" if given is None else f"changed to {shown(given)}"
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
    check_line_count(len(names) + 1)
    return replace(pool, lines=(*pool.lines, line_of(wish, wish.name or free_line_name(names))))


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
