import pytest

from muster.domain.errors import InvalidRequest, NotebookTextInvalid
from muster.domain.tag import (
    KEY_LENGTH_MAX,
    TAGS_ANNOTATION,
    TAGS_MAX,
    VALUE_LENGTH_MAX,
    TagAction,
    TagChange,
    changed_tags,
    check_key_is_free,
    tags_as_text,
    tags_of_annotations,
    tags_of_text,
    with_tags,
)

BEFORE = {"team": "vision", "cost": "7"}


def change(action: TagAction, *tags: tuple[str, str | None]) -> dict[str, str]:
    return changed_tags(BEFORE, TagChange(action=action, tags=tags))


def test_a_key_has_one_value_and_the_last_one_counts() -> None:
    assert change(TagAction.CREATE, ("team", "audio"), ("new", None)) == {
        "team": "audio",
        "cost": "7",
        "new": "",
    }


def test_a_tag_is_removed_by_its_key_or_only_with_the_value_that_is_given() -> None:
    assert change(TagAction.DELETE, ("team", None)) == {"cost": "7"}
    assert change(TagAction.DELETE, ("team", "vision"), ("absent", "x")) == {"cost": "7"}
    assert change(TagAction.DELETE, ("team", "audio")) == BEFORE


def test_a_reset_leaves_what_it_names_and_nothing_else() -> None:
    assert change(TagAction.RESET, ("new", "1")) == {"new": "1"}
    assert change(TagAction.RESET) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "x"),
        (" ", "x"),
        ("k ", "x"),
        ("_sys_k", "x"),
        ("k" * (KEY_LENGTH_MAX + 1), "x"),
        ("k\0", "x"),
        ("k", "v" * (VALUE_LENGTH_MAX + 1)),
        ("k", "\0"),
    ],
)
def test_keys_and_values_have_bounds(key: str, value: str) -> None:
    with pytest.raises(NotebookTextInvalid, match="tags has"):
        with_tags({}, [(key, value)], refusal=NotebookTextInvalid)


def test_there_are_so_many_tags_and_no_more() -> None:
    full = with_tags({}, [(f"key-{n}", "") for n in range(TAGS_MAX)])

    assert with_tags(full, [("key-0", "again")])["key-0"] == "again"
    with pytest.raises(InvalidRequest, match=f"at most {TAGS_MAX}"):
        with_tags(full, [("one-more", "")])


@pytest.mark.parametrize("key", ["", "CCE-x", "__type_baremetal", "muster/stands-in"])
def test_keys_that_others_have_set_apart_are_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match="tags has the key"):
        check_key_is_free("tags", key)


def test_the_text_of_an_annotation_is_read_as_it_is_written() -> None:
    assert tags_of_text(tags_as_text(BEFORE)) == BEFORE
    assert tags_as_text({"b": "ü", "a": ""}) == '[{"key":"a","value":""},{"key":"b","value":"ü"}]'


@pytest.mark.parametrize(
    "text",
    ["x", "{}x", "1", "[1]", '[{"value": "v"}]', '[{"key": 1}]', '[{"key": "CCE-1"}]', "[[]]",
     '[{"key": "k", "value": ["v"]}]', "null", "[" * 100_000],
)  # fmt: skip
def test_a_text_that_is_no_list_of_tags_is_refused_and_read_as_none(text: str) -> None:
    with pytest.raises(InvalidRequest):
        tags_of_text(text)
    assert tags_of_annotations({TAGS_ANNOTATION: text}) == {}
