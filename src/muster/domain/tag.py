"""Tags: what users mark notebooks, training jobs, pools and nodes with. A key has one value."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from muster.domain.errors import InvalidRequest

TAGS_MAX: Final = 20  # of one thing
KEY_LENGTH_MAX: Final = 128
VALUE_LENGTH_MAX: Final = 255

# Where a pool or a node shows its tags, as JSON: [{"key": K, "value": V}, ...].
TAGS_ANNOTATION: Final = "os.modelarts/tms.tags"

_RESERVED: Final = ("CCE-", "__type_baremetal")  # of the resource layer
_NOTE: Final = "muster/"
_SYSTEM: Final = "_sys_"

Tags = Mapping[str, str]


class TagAction(StrEnum):
    """What a request does with the tags that it names. The values are public."""

    CREATE = "create"  # adds them, and gives those that are there their new value
    DELETE = "delete"
    RESET = "reset"  # these, and no others


@dataclass(frozen=True, slots=True, kw_only=True)
class TagChange:
    action: TagAction
    tags: tuple[tuple[str, str | None], ...]  # key and value; a value of None: none was given


def changed_tags(
    tags: Tags, change: TagChange, *, refusal: type[InvalidRequest] = InvalidRequest
) -> dict[str, str]:
    """The tags as they are after the change.

    Raises:
        InvalidRequest: names the key, or how many there would be; as `refusal`, where an API has
            an error of its own for that.
    """
    given = [(key, value or "") for key, value in change.tags]
    match change.action:
        case TagAction.CREATE:
            return with_tags(tags, given, refusal=refusal)
        case TagAction.RESET:
            return with_tags({}, given, refusal=refusal)
        case TagAction.DELETE:
            return without_tags(tags, change.tags)


def with_tags(
    tags: Tags,
    added: Iterable[tuple[str, str]],
    *,
    refusal: type[InvalidRequest] = InvalidRequest,
) -> dict[str, str]:
    """The tags with more of them.

    Raises:
        InvalidRequest: a key is empty or too long, a value too long, or there are too many; as
            `refusal`.
    """
    new = dict(added)
    for key, value in new.items():
        if not key.strip() or len(key) > KEY_LENGTH_MAX or "\0" in key:
            raise refusal(
                f"tags has the key {key[:60]!r}; it must have 1 to {KEY_LENGTH_MAX} characters, and"
                " no NUL."
            )
        if key != key.strip(" ") or key.startswith(_SYSTEM):
            raise refusal(
                f"tags has the key {key[:60]!r}; it must neither begin nor end with a space, nor"
                f" begin with {_SYSTEM}."
            )
        if len(value) > VALUE_LENGTH_MAX or "\0" in value:
            raise refusal(
                f"tags has a value of {len(value)} characters for the key {key[:60]!r}; it must"
                f" have at most {VALUE_LENGTH_MAX}, and no NUL."
            )
    changed = {**tags, **new}
    if len(changed) > TAGS_MAX:
        raise refusal(f"tags would be {len(changed)}; at most {TAGS_MAX} are allowed.")
    return changed


def without_tags(tags: Tags, removed: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """The tags without some: by key, or where a value is given, only with that one."""
    left = dict(tags)
    for key, value in removed:
        if value in (None, "", left.get(key)):
            left.pop(key, None)
    return left


def check_key_is_free(where: str, key: str) -> None:
    """Raise InvalidRequest for a key of a pool or node that others have set apart for themselves.

    The platform keeps its own notes on a node among its tags, see `is_own_tag`.
    """
    if not key or key.startswith((*_RESERVED, _NOTE)):
        raise InvalidRequest(
            f"{where} has the key {key[:60]!r}; it must not be empty, nor begin with"
            f" {', '.join(_RESERVED)} or {_NOTE}."
        )


def is_own_tag(key: str) -> bool:
    """Whether a user has set it: the platform keeps notes of its own beside."""
    return not key.startswith(_NOTE)


def tags_as_text(tags: Tags) -> str:
    """As the annotation has them, in the order of keys."""
    shown = [{"key": key, "value": value} for key, value in sorted(tags.items())]
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def tags_of_text(text: str) -> dict[str, str]:
    """What the annotation of a pool says.

    Raises:
        InvalidRequest: it is no list of tags.
    """
    try:
        given = json.loads(text)
        pairs = [(tag["key"], tag.get("value") or "") for tag in given]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pairs = None
    if pairs is None or not all(isinstance(part, str) for pair in pairs for part in pair):
        raise InvalidRequest(
            f"metadata.annotations['{TAGS_ANNOTATION}'] is {text[:100]!r}; it must be a text like"
            ' [{"key": "K", "value": "V"}].'
        )
    for key, _ in pairs:
        check_key_is_free(f"metadata.annotations['{TAGS_ANNOTATION}']", key)
    return with_tags({}, pairs)


def tags_of_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """The tags of a pool: none where an earlier muster has let something else in."""
    try:
        return tags_of_text(annotations.get(TAGS_ANNOTATION) or "[]")
    except InvalidRequest:
        return {}
