"""Batch services: what one works through, the rules for that, and how far it has come."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from muster.domain.errors import InvalidRequest

URI_LENGTH_MAX: Final = 1_024
RULE_BYTES_MAX: Final = 32 << 10  # it travels in a variable of the environment
RULE_DEPTH_MAX: Final = 32
COLUMN_MAX: Final = 10_000
FAILURES_TOLD_MAX: Final = 20  # of a service, by name; its summary in the bucket names more

# How the folders are named to whoever asks: `serving/batch.py`, in its environment.
SRC_CHANNEL: Final = "MUSTER_BATCH_SRC"
DEST_CHANNEL: Final = "MUSTER_BATCH_DEST"

_LEAVES: Final = ("string", "number", "integer", "boolean")


class MappingType(StrEnum):
    """What of the input is one request. The values are public."""

    FILE = "file"  # each file
    CSV = "csv"  # each row of each file


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """What a batch service reads, asks and writes."""

    src_path: str  # URL of a folder
    dest_path: str  # likewise
    req_uri: str = "/"
    mapping_type: MappingType
    mapping_rule: dict[str, Any] | None = None  # of a csv: how a row becomes a request


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one instance has come with its share."""

    is_ready: bool = False  # its model has answered that it is well
    total: int = 0  # requests of the share
    answered: int = 0
    failed: int = 0
    failures: tuple[tuple[str, str], ...] = ()  # (which input, why); the first of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How far a batch service has come, or came when it last ran."""

    total: int = 0  # requests, of all shares that have begun
    answered: int = 0
    failed: int = 0
    percent: int = 0
    failures: tuple[tuple[str, str], ...] = field(default=())  # as of `Progress`

    @property
    def asked(self) -> int:
        return self.answered + self.failed

    def told_failures(self) -> str:
        """For people: what failed and why, as far as it is known by name."""
        named = "; ".join(f"{name} ({why})" for name, why in self.failures)
        unnamed = self.failed - len(self.failures)
        return f"{named}; and {unnamed} more" if unnamed > 0 and named else named


def without_answers(progress: Progress, lost: Sequence[str]) -> Progress:
    """That of an instance some of whose answers had no place under `dest_path`.

    Args:
        progress: as it was told.
        lost: the names of the answers.
    """
    count = min(len(lost), progress.answered)
    failures = tuple((name, "it could not be stored under dest_path") for name in lost)
    return replace(
        progress,
        answered=progress.answered - count,
        failed=progress.failed + count,
        failures=(*progress.failures, *failures)[:FAILURES_TOLD_MAX],
    )


def sum_up(shares: Sequence[Progress], *, instance_count: int) -> Tally:
    """How far they have come together. Each instance weighs the same: what is not begun is 0."""
    done = sum(
        (share.answered + share.failed) / share.total if share.total else float(share.is_ready)
        for share in shares
    )
    failures = [failure for share in shares for failure in share.failures]
    return Tally(
        total=sum(share.total for share in shares),
        answered=sum(share.answered for share in shares),
        failed=sum(share.failed for share in shares),
        percent=min(99, int(100 * done / instance_count)),  # 100 is for one that is finished
        failures=tuple(failures[:FAILURES_TOLD_MAX]),
    )


# ---------------------------------------------------------------- rules


def form_field(apis: Sequence[Mapping[str, Any]], uri: str) -> str:
    """The field of a form that a file goes into; "": the file is the whole request.

    Args:
        apis: of the model, as they stand in its `config.json`. What makes no sense there is passed
            over: they were written for people and for other platforms as well.
        uri: that is asked.
    """
    path = uri.partition("?")[0]
    for api in apis:
        request = api.get("request")
        if api.get("url") != path or not isinstance(request, Mapping):
            continue
        kind = next((request[key] for key in request if key.lower() == "content-type"), "")
        data = request.get("data")
        if "multipart/form-data" not in str(kind).lower() or not isinstance(data, Mapping):
            continue
        properties = data.get("properties")
        for name, one in properties.items() if isinstance(properties, Mapping) else ():
            if isinstance(one, Mapping) and str(one.get("type")).lower() == "file":
                return str(name)
    return ""


def read_mapping_type(given: str, *, field_name: str) -> MappingType:
    try:
        return MappingType(given.lower())
    except ValueError:
        allowed = " or ".join(repr(one.value) for one in MappingType)
        raise InvalidRequest(f"{field_name} is {given[:100]!r}; it must be {allowed}.") from None


def check_uri(uri: str, *, field_name: str) -> None:
    is_plain = uri.isascii() and uri.isprintable() and " " not in uri
    if not uri.startswith("/") or len(uri) > URI_LENGTH_MAX or not is_plain:
        raise InvalidRequest(
            f"{field_name} is {uri[:100]!r}; it must be a path that begins with '/', of at most"
            f" {URI_LENGTH_MAX} characters of ASCII without spaces."
        )


def read_mapping_rule(given: object, *, field_name: str) -> dict[str, Any]:
    """The rule by which a row of a csv becomes the JSON of a request.

    It is a JSON schema: objects have `properties`, arrays have `items` (one schema or a list of
    them), and everything else has an `index`: the column that the value stands in, from 0.

    Args:
        given: the rule, or its JSON as text.
        field_name: of the request; errors name it.

    Raises:
        InvalidRequest: it is no such rule.
    """
    rule = given
    if isinstance(given, str):
        try:
            rule = json.loads(given)
        except (ValueError, RecursionError):
            raise InvalidRequest(
                f"{field_name} is {given[:100]!r}, which is no JSON; it must be a JSON schema such"
                f" as {_EXAMPLE}."
            ) from None
    _check_schema(rule, field_name, depth=0)
    assert isinstance(rule, dict)
    if rule["type"] in _LEAVES:
        raise InvalidRequest(
            f"{field_name}.type is {rule['type']!r}; the whole request must be an 'object' or an"
            " 'array'."
        )
    size = len(json.dumps(rule).encode())
    if size > RULE_BYTES_MAX:
        raise InvalidRequest(
            f"{field_name} has {size} bytes; at most {RULE_BYTES_MAX} are allowed."
        )
    return rule


_EXAMPLE: Final = '{"type": "object", "properties": {"x": {"type": "number", "index": 0}}}'


def _check_schema(schema: object, name: str, *, depth: int) -> None:
    if depth > RULE_DEPTH_MAX:
        raise InvalidRequest(f"{name} lies more than {RULE_DEPTH_MAX} levels deep in its rule.")
    if not isinstance(schema, Mapping):
        raise InvalidRequest(
            f"{name} is {_shown(schema)}; it must be a JSON schema such as {_EXAMPLE}."
        )
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            raise InvalidRequest(
                f"{name}.properties is {_shown(properties)}; it must be an object with a schema for"
                " each member."
            )
        for key, one in properties.items():
            _check_schema(one, f"{name}.properties.{str(key)[:50]}", depth=depth + 1)
    elif kind == "array":
        items = schema.get("items")
        if isinstance(items, list) and items:
            for index, one in enumerate(items):
                _check_schema(one, f"{name}.items[{index}]", depth=depth + 1)
        else:
            _check_schema(items, f"{name}.items", depth=depth + 1)
    elif kind in _LEAVES:
        column = schema.get("index")
        is_column = isinstance(column, int) and not isinstance(column, bool)
        if not is_column or not 0 <= column <= COLUMN_MAX:  # type: ignore[operator]  # an int here
            raise InvalidRequest(
                f"{name}.index is {_shown(column)}; it must be the number of a column, from 0 to"
                f" {COLUMN_MAX}."
            )
    else:
        raise InvalidRequest(
            f"{name}.type is {_shown(kind)}; it must be 'object', 'array',"
            f" {', '.join(map(repr, _LEAVES[:-1]))} or {_LEAVES[-1]!r}."
        )


def _shown(value: object) -> str:
    return "missing" if value is None else f"{value!r:.100}"
