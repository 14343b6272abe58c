"""What an instance of a batch tells of itself: a file in a folder that its project writes to."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from muster.domain.batch import FAILURES_TOLD_MAX, Progress
from muster.domain.jobfolder import code_folder
from muster.reconciler.batches import PROGRESS_BYTES_MAX, TEXT_LENGTH_MAX, read_progress
from muster.serving.batch import PROGRESS_FILE

TOLD: Final = {
    "is_ready": True,
    "total": 5,
    "answered": 3,
    "failed": 1,
    "failures": [{"name": "a", "reason": "no"}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = code_folder(tmp_path, 0)
    folder.mkdir(parents=True)
    return folder / PROGRESS_FILE


def test_progress_is_read(tmp_path: Path, file: Path) -> None:
    before = read_progress(tmp_path)
    file.write_text(json.dumps(TOLD))

    assert before is None
    assert read_progress(tmp_path) == Progress(
        is_ready=True, total=5, answered=3, failed=1, failures=(("a", "no"),)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"total": -1},
        {"answered": 2**54},
        {"failed": "many"},
        {"total": float("inf")},
        {"failures": "abc"},
        {"failures": {"a": "b"}},
        {"failures": [{"name": "a"}]},
        {"failures": None},
    ],
)
def test_what_makes_no_sense_is_not_believed(
    tmp_path: Path, file: Path, change: dict[str, Any]
) -> None:
    file.write_text(json.dumps(TOLD | change))

    assert read_progress(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "[" * 60_000, '{"total": 5}'])
def test_what_is_no_progress_is_not_believed(tmp_path: Path, file: Path, text: str) -> None:
    file.write_text(text)

    assert read_progress(tmp_path) is None


def test_a_link_is_not_followed(tmp_path: Path, file: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps(TOLD))
    file.symlink_to(elsewhere)

    assert read_progress(tmp_path) is None


def test_what_is_told_has_bounds_and_can_be_shown(tmp_path: Path, file: Path) -> None:
    failures = [{"name": "\x1b[31m\x00\udcff", "reason": "x" * 500}] * (FAILURES_TOLD_MAX + 5)
    text = json.dumps(TOLD | {"failures": failures})
    assert len(text) < PROGRESS_BYTES_MAX
    file.write_text(text)

    found = read_progress(tmp_path)

    assert found is not None
    assert (
        found.failures == (("\ufffd[31m\ufffd\ufffd", "x" * TEXT_LENGTH_MAX),) * FAILURES_TOLD_MAX
    )
