"""Where a program says that it answers: read as what anybody may have put there."""

import os
from pathlib import Path

import pytest

from muster.domain.jobfolder import endpoint_file
from muster.proxy.endpoint import read_endpoint


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = endpoint_file(tmp_path, 0)
    file.parent.mkdir()
    return file


def test_what_the_shim_has_written_is_read(tmp_path: Path, file: Path) -> None:
    file.write_text('{"host": "10.0.0.7", "port": 12345}')

    assert read_endpoint(tmp_path) == ("10.0.0.7", 12345)


def test_one_that_has_not_come_up_has_none(tmp_path: Path) -> None:
    assert read_endpoint(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"host": "x", "port": 123',
        '{"host": "x", "port": "1"}',
        '{"host": "x", "port": 0}',
        '{"host": "x", "port": 65536}',
        '{"host": "", "port": 1}',
        "[" * 10_000,
    ],
)
def test_anything_else_is_none(tmp_path: Path, file: Path, text: str) -> None:
    file.write_text(text)

    assert read_endpoint(tmp_path) is None


def test_a_link_is_not_followed(tmp_path: Path, file: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"host": "10.0.0.7", "port": 1}')
    file.symlink_to(elsewhere)

    assert read_endpoint(tmp_path) is None


def test_a_pipe_is_not_waited_for(tmp_path: Path, file: Path) -> None:
    os.mkfifo(file)

    assert read_endpoint(tmp_path) is None
