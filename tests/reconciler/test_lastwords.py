"""What a program has left for people, whatever it has left."""

import json
from pathlib import Path

import pytest

from muster.domain.jobfolder import code_folder, log_file
from muster.reconciler.lastwords import START_FILE, read_last_words, read_start


def write_log(folder: Path, content: bytes) -> None:
    file = log_file(folder, 0)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)


def test_the_last_lines_are_read_without_empty_ones(tmp_path: Path) -> None:
    write_log(tmp_path, b"first\n\nsecond  \n\nthird\n")

    assert read_last_words(tmp_path, lines_max=2) == "second\nthird"


def test_of_one_that_has_said_nothing_there_are_none(tmp_path: Path) -> None:
    assert read_last_words(tmp_path) == ""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"a\x00b\x1b[31mred\x7f\n", "a\ufffdb\ufffd[31mred\ufffd"),
        (b"tab\there\xff\n", "tab\there\ufffd"),
        (b"10 %\r20 %\rbroken\r\n", "10 %\n20 %\nbroken"),
    ],
)
def test_what_no_store_and_no_terminal_takes_is_left_out(
    tmp_path: Path, said: bytes, told: str
) -> None:
    write_log(tmp_path, said)

    assert read_last_words(tmp_path) == told


def test_the_same_holds_for_how_far_a_start_is(tmp_path: Path) -> None:
    folder = code_folder(tmp_path, 0)
    folder.mkdir(parents=True)
    (folder / START_FILE).write_text(json.dumps({"note": "making\x00", "failure": "no\ud800"}))

    assert read_start(tmp_path) == ("making\ufffd", "no\ufffd")
