"""The shim reads and writes state files without the json module, and just as that does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.engines.shim import from_json, to_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_what_it_writes_is_what_json_writes(value: object) -> None:
    assert to_json(value) == json.dumps(value)


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_it_reads_whatever_json_writes(value: object, indent: int | None, is_ascii: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)

    assert from_json(text) == value


@pytest.mark.parametrize("text", ["", " ", "{", '{"a": 1', "[1,]", '"', "nul", "{} {}", "1 2"])
def test_what_is_cut_short_or_goes_on_is_an_error_of_the_value(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        from_json(text)
