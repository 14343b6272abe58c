"""Bytes and query strings in, typed values out; what does not fit is told in words."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from muster.domain.errors import InvalidRequest, MalformedJson

T = TypeVar("T")

_NO_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_WHERE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_STEP: Final = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+|\.\.\.)\]")
_INTEGER: Final = re.compile(r"-?[0-9]+")
_SECRET: Final = re.compile(r"\.(password|secret_key)\b")  # values that no message repeats
_SHOWN_LENGTH_MAX: Final = 100
_UNKNOWN: Final = object()


def decode_body(body: bytes, type_: type[T]) -> T:
    """A JSON body as `type_`. Numbers and booleans may come as text, unknown fields are ignored.

    Raises:
        MalformedJson: it is not JSON.
        InvalidRequest: names the field, what was given, and what it must be.
    """
    try:
        decoded: T = _decoder(type_).decode(body)  # type: ignore[arg-type]  # it is hashable
    except msgspec.ValidationError as error:
        # The first wrong field ends the decoding: what comes after it may still be no JSON.
        raise InvalidRequest(_explain(error, _plain_json(body), type_)) from error
    except _NO_JSON as error:
        raise _malformed(body, error) from error
    return decoded


@cache
def _decoder(type_: Any) -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(type_, strict=False)


def _plain_json(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except _NO_JSON as error:
        raise _malformed(body, error) from error


def _malformed(body: bytes, error: Exception) -> MalformedJson:
    if not body:
        return MalformedJson("The request has no body; a JSON object is needed.")
    if isinstance(error, RecursionError):
        return MalformedJson("The body is JSON that is nested too deeply.")
    return MalformedJson(f"The body is not valid JSON: {error}.")


def decode_query(query: Mapping[str, Sequence[str]], type_: type[T], *, body: bytes = b"") -> T:
    """Query parameters as `type_`; what the query does not say is taken from a JSON body.

    Old clients send the parameters of a GET in its body. A body that is no JSON object is ignored:
    a GET may carry anything.

    Raises:
        InvalidRequest: names the parameter, what was given, and what it must be.
    """
    values: dict[str, Any] = {}
    if body:
        try:
            decoded = msgspec.json.decode(body)
        except _NO_JSON:
            decoded = None
        if isinstance(decoded, dict):
            values = {str(name): value for name, value in decoded.items() if value is not None}
    for name, texts in query.items():
        values[name] = texts[0] if len(texts) == 1 else list(texts)
    for name, words in _integer_fields(type_).items():  # type: ignore[arg-type]  # it is hashable
        value = values.get(name)
        # `1e3` and `1.0` would be taken for whole numbers; as text they are mistakes.
        if isinstance(value, str) and value not in words and not _INTEGER.fullmatch(value):
            raise InvalidRequest(_refusal(name, value, _expected_at(type_, name)))
    try:
        return msgspec.convert(values, type_, strict=False, str_keys=True)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_explain(error, values, type_)) from error


def decode_value(value: object, type_: type[T], *, name: str) -> T:
    """What a body holds at a place that takes anything, as `type_`.

    Args:
        value: as it was decoded.
        type_: what it is to be, this time.
        name: of the place, for errors.

    Raises:
        InvalidRequest: names the field, what was given, and what it must be.
    """
    try:
        return msgspec.convert(value, type_, strict=False)
    except msgspec.ValidationError as error:
        told = _explain(error, value, type_)
        is_itself = told.startswith("The body ")
        raise InvalidRequest(
            f"{name}{told.removeprefix('The body')}" if is_itself else f"{name}.{told}"
        ) from error


@cache
def _integer_fields(type_: type[Any]) -> Mapping[str, tuple[object, ...]]:
    """The fields that take a whole number and no free text, with the words they take besides."""
    info = inspect.type_info(type_)
    assert isinstance(info, inspect.StructType)
    found = {}
    for field in info.fields:
        union = field.type
        options = union.types if isinstance(union, inspect.UnionType) else (union,)
        kinds = {type(option) for option in options}
        if inspect.IntType in kinds and inspect.StrType not in kinds:
            literals = (o.values for o in options if isinstance(o, inspect.LiteralType))
            found[field.encode_name] = tuple(chain.from_iterable(literals))
    return found


def _explain(error: msgspec.ValidationError, given: object, type_: type[Any]) -> str:
    """Turn `Expected int <= 9, got ...` into what was given and what the annotations allow."""
    match = _WHERE.match(str(error))
    assert match is not None
    path = match["path"] or ""
    field = path.removeprefix(".")
    if missing := _MISSING.match(match["what"]):
        name = f"{field}.{missing[1]}" if field else missing[1]
        return f"{name} is missing; it must be {_expected_at(type_, f'{path}.{missing[1]}')}."
    value = _UNKNOWN if _SECRET.search(path) else _value_at(given, path)
    return _refusal(field or "The body", value, _expected_at(type_, path))


def _refusal(subject: str, value: object, expected: str) -> str:
    if value is _UNKNOWN:
        return f"{subject} must be {expected}."
    return f"{subject} is {shown(value)}; it must be {expected}."


def _value_at(given: Any, path: str) -> object:
    for step in _STEP.finditer(path):
        try:
            given = given[step["name"] or int(step["index"])]
        except (KeyError, IndexError, TypeError, ValueError):
            return _UNKNOWN
    return given


def shown(value: object) -> str:
    """A value as a refusal names it: as JSON, whole if short."""
    try:
        text = msgspec.json.encode(value).decode()
    except OverflowError:  # more than 64 bits
        text = str(value)
    return text if len(text) <= _SHOWN_LENGTH_MAX else f"{text[: _SHOWN_LENGTH_MAX - 3]}..."


def _expected_at(type_: type[Any], path: str) -> str:
    """In words, what the annotations of `type_` allow at a path such as `.config.parameter[0]`."""
    infos: list[inspect.Type] = [inspect.type_info(type_)]
    path = path if path.startswith((".", "[")) or not path else f".{path}"
    for step in _STEP.finditer(path):
        infos = [inner for info in infos for inner in _inside(info, step["name"])]
    return _listed(_words(infos)) or "something else"


def _inside(info: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """The types one step further in: of the field `name`, or of the items of a list or map."""
    match info:
        case inspect.UnionType():
            yield from chain.from_iterable(_inside(option, name) for option in info.types)
        case inspect.StructType() | inspect.DataclassType():
            yield from (field.type for field in info.fields if field.encode_name == name)
        case inspect.ListType() | inspect.VarTupleType():
            yield info.item_type
        case inspect.DictType():
            yield info.value_type
        case _:
            pass  # nothing lies inside


def _words(infos: Iterable[inspect.Type]) -> Iterator[str]:
    """A phrase an alternative, in the order of the annotation; null goes without saying."""
    for info in infos:
        match info:
            case inspect.UnionType():
                yield from _words(info.types)
            case inspect.LiteralType():
                yield from (f"{value!r}" if value != "" else "empty" for value in info.values)
            case inspect.EnumType():
                yield from (f"{member.value!r}" for member in info.cls)
            case inspect.IntType():
                yield _number("a whole number", info.ge, info.le)
            case inspect.FloatType():
                yield _number("a number", info.ge, info.le)
            case inspect.StrType():
                most = info.max_length
                yield "text" if most is None else f"text of at most {most} characters"
            case inspect.BoolType():
                yield "true or false"
            case inspect.ListType() | inspect.VarTupleType():
                yield _counted(info.min_length, info.max_length)
            case inspect.StructType() | inspect.DataclassType() | inspect.DictType():
                yield "an object"
            case _:
                pass  # null


def _counted(least: int | None, most: int | None) -> str:
    if most is None:
        return f"a list of at least {least}" if least else "a list"
    return f"a list of {least} to {most}" if least else f"a list of at most {most}"


def _number(what: str, least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{what} from {least} to {most}"
    return what if least is None else f"{what}, at least {least}"


def _listed(phrases: Iterable[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *others, last = list(dict.fromkeys(phrases)) or [""]
    return f"{', '.join(others)} or {last}" if others else last
