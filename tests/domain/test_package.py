import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.package import joined, list_requirements

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def origin(url: str, **more: object) -> bytes:
    return json.dumps({"url": url, **more}).encode()


def test_packages_of_an_index_are_pinned_to_their_versions() -> None:
    lines, others = list_requirements({
        "torch-2.4.1+cpu.dist-info": b"", "numpy-1.26.4.dist-info": b"", "torch": b"",
        "__pycache__": b"", "below.pth": b"", "~orch-2.4.0.dist-info.draft": b"",
    })  # fmt: skip

    assert joined(lines) == "numpy==1.26.4\ntorch==2.4.1+cpu\n"
    assert others == []


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (origin("https://h/p-1.whl", archive_info={}), "p @ https://h/p-1.whl"),
        (
            origin("https://h/p.git", vcs_info={"vcs": "git", "commit_id": COMMIT}),
            f"p @ git+https://h/p.git@{COMMIT}",
        ),
        (
            origin("https://h/p.zip", archive_info={}, subdirectory="python/p"),
            "p @ https://h/p.zip#subdirectory=python/p",
        ),
    ],
)
def test_what_came_from_an_address_is_fetched_from_there(told: bytes, line: str) -> None:
    assert list_requirements({"p-1.dist-info": told}) == ([line], [])


@pytest.mark.parametrize(
    "told",
    [
        origin("file:///home/me/p", dir_info={"editable": True}),
        origin("file:///home/me/p-1.whl", archive_info={}),
        origin("https://h/p"),
        origin("https://h/p\n--index-url http://evil/", archive_info={}),
        origin("https://h/p", vcs_info={"vcs": "git", "commit_id": "1 --index-url http://evil"}),
        b"no json",
        b"?",
        b"[]",
    ],
)
def test_what_lies_in_the_notebook_only_is_named(told: bytes) -> None:
    lines, others = list_requirements({"p-1.dist-info": told})

    assert lines == []
    assert others == ["p (from files of the notebook)"]


def test_what_has_no_record_is_named() -> None:
    lines, others = list_requirements({"old-1.egg-info": b"", "linked.egg-link": b""})

    assert lines == []
    assert [told.split(" ")[0] for told in others] == ["linked", "old-1"]


@given(st.dictionaries(st.text().map(lambda text: f"{text}.dist-info"), st.binary(), max_size=5))
def test_whatever_is_there_a_line_is_one_line_and_no_option(records: dict[str, bytes]) -> None:
    lines, others = list_requirements(records)

    assert len(lines) + len(others) == len(records)
    for line in lines:
        assert line[0].isalnum()
        assert len(joined([line]).splitlines()) == 1
