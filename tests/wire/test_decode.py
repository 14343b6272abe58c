"""Refusals say which field, what was given, and what the annotations allow."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from muster.domain.errors import InvalidRequest, MalformedJson
from muster.wire.decode import decode_body, decode_query

Count = Annotated[int, Meta(ge=1, le=9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    label: str
    size: Annotated[float, Meta(ge=0)] = 0.0
    kind: Literal["a", "b", "c"] = "a"
    more: tuple["Part", ...] = ()


class Thing(Struct, kw_only=True):
    name: Annotated[str, Meta(max_length=4)]
    parts: list[Part] = []
    by_name: dict[str, Part] = {}
    count: Count | None = None
    is_on: bool = False
    value: str | int | list[str] | None = None


class Query(Struct, kw_only=True):
    count: Count = 1
    at_least: Annotated[int, Meta(ge=0)] = 0
    maybe: Count | Literal["", "all"] = 1
    text: str = ""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{}", "name is missing; it must be text of at most 4 characters."),
        (b'{"name": 1}', "name is 1; it must be text of at most 4 characters."),
        (b'{"name": "abcde"}', 'name is "abcde"; it must be text of at most 4 characters.'),
        (b'{"name": "a", "count": 0}', "count is 0; it must be a whole number from 1 to 9."),
        (b'{"name": "a", "count": "x"}', 'count is "x"; it must be a whole number from 1 to 9.'),
        (b'{"name": "a", "is_on": 2}', "is_on is 2; it must be true or false."),
        (b'{"name": "a", "value": {}}', "value is {}; it must be text, a whole number or a list."),
        (b'{"name": "a", "value": [1]}', "value[0] is 1; it must be text."),
        (b'{"name": "a", "parts": {}}', "parts is {}; it must be a list."),
        (b'{"name": "a", "parts": [{}]}', "parts[0].label is missing; it must be text."),
        (b'{"name": "a", "parts": [1]}', "parts[0] is 1; it must be an object."),
        (
            b'{"name": "a", "parts": [{"label": "x", "more": [{"label": "y", "kind": "d"}]}]}',
            "parts[0].more[0].kind is \"d\"; it must be 'a', 'b' or 'c'.",
        ),
        (
            b'{"name": "a", "parts": [{"label": "x", "size": -1}]}',
            "parts[0].size is -1; it must be a number, at least 0.",
        ),
        (b'{"name": "a", "by_name": {"k": 1}}', "by_name[...] must be an object."),
        (b"[1]", "The body is [1]; it must be an object."),
        (b'{"name": "' + b"x" * 200 + b'"}', 'name is "' + "x" * 96 + "...; it must be text"),
        (b'{"name": 1' + b"0" * 30 + b"}", "name is 1" + "0" * 30 + "; it must be text"),
    ],
)
def test_a_body_that_does_not_fit_is_told_in_words(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_body(body, Thing)

    assert refused.value.message.startswith(says)
    assert not isinstance(refused.value, MalformedJson)


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"name": 1, "x": ', b'{"name": 1, "x": ' + b"[" * 10_000, b"\xff"]
)
def test_what_is_no_json_is_malformed_wherever_it_breaks(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        decode_body(body, Thing)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"count": ["x"]}, 'count is "x"; it must be a whole number from 1 to 9.'),
        ({"count": ["1", "2"]}, 'count is ["1","2"]; it must be a whole number from 1 to 9.'),
        ({"count": ["1.0"]}, 'count is "1.0"; it must be a whole number from 1 to 9.'),
        ({"at_least": ["-1"]}, 'at_least is "-1"; it must be a whole number, at least 0.'),
        ({"maybe": ["1e0"]}, 'maybe is "1e0"; it must be a whole number from 1 to 9, empty or'),
    ],
)
def test_a_query_that_does_not_fit_is_told_in_words(query: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_query(query, Query)

    assert refused.value.message.startswith(says)


def test_words_beside_a_number_are_taken() -> None:
    assert decode_query({"maybe": [""]}, Query).maybe == ""
    assert decode_query({"maybe": ["all"]}, Query).maybe == "all"
    assert decode_query({"maybe": ["9"]}, Query).maybe == 9


def test_the_query_wins_over_the_body_and_null_is_absent() -> None:
    found = decode_query({"count": ["2"]}, Query, body=b'{"count": 3, "text": "t", "maybe": null}')

    assert (found.count, found.text, found.maybe) == (2, "t", 1)
