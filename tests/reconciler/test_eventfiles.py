"""Copies of event files for a TensorBoard: what grows, what is replaced, and bad folders."""

import os
from pathlib import Path

import pytest

from muster.reconciler import eventfiles
from muster.reconciler.eventfiles import EventFiles, Source

EVENTS = "events.out.tfevents.1"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder that a job writes to."""
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def files(tmp_path: Path) -> EventFiles:
    return EventFiles(tmp_path / "shown")


def shown(files: EventFiles) -> dict[str, bytes]:
    return {
        path.relative_to(files.target).as_posix(): path.read_bytes()
        for path in files.target.rglob("*")
        if path.is_file()
    }


def test_what_is_new_of_a_file_is_added_to_its_copy(written: Path, files: EventFiles) -> None:
    with (written / EVENTS).open("wb", buffering=0) as file:
        file.write(b"one")
        assert files.bring([Source(folder=written)]) == ""
        inode = (files.target / EVENTS).stat().st_ino
        file.write(b" two")
        files.bring([Source(folder=written)])
        again = files.bring([Source(folder=written)])

    assert shown(files) == {EVENTS: b"one two"}
    assert (files.target / EVENTS).stat().st_ino == inode
    assert again == ""


def test_only_what_tensorboard_reads_is_copied(written: Path, files: EventFiles) -> None:
    (written / "train/plugins/profile").mkdir(parents=True)
    for name in ("checkpoint.bin", f"train/{EVENTS}", "train/plugins/profile/trace.json"):
        (written / name).write_bytes(b"x")

    files.bring([Source(folder=written, place="run-1")])

    assert set(shown(files)) == {f"run-1/train/{EVENTS}", "run-1/train/plugins/profile/trace.json"}


def test_of_two_files_of_one_path_the_first_source_has_it(
    written: Path, files: EventFiles, tmp_path: Path
) -> None:
    (written / EVENTS).write_bytes(b"running now")
    stored = tmp_path / "stored"
    stored.mkdir()
    for name in (EVENTS, "older.tfevents"):
        (stored / name).write_bytes(b"stored")

    files.bring([Source(folder=written), Source(folder=stored)])
    files.bring([Source(folder=written), Source(folder=stored)])

    assert shown(files) == {EVENTS: b"running now", "older.tfevents": b"stored"}


def test_what_a_job_has_written_stays_shown_when_it_has_been_stored(
    written: Path, files: EventFiles, tmp_path: Path
) -> None:
    (written / EVENTS).write_bytes(b"all of it")
    files.bring([Source(folder=written)])
    stored = tmp_path / "stored"
    written.rename(stored)

    trouble = files.bring([Source(folder=written), Source(folder=stored)])

    assert (trouble, shown(files)) == ("", {EVENTS: b"all of it"})


@pytest.mark.parametrize("content", [b"new", b"longer than the one before", b""])
def test_another_file_of_the_name_replaces_the_copy(
    written: Path, files: EventFiles, content: bytes
) -> None:
    (written / EVENTS).write_bytes(b"before, long")
    files.bring([Source(folder=written)])
    fresh = written / "fresh"
    fresh.write_bytes(content)
    fresh.rename(written / EVENTS)

    files.bring([Source(folder=written)])

    assert shown(files) == {EVENTS: content}


def test_a_copy_that_somebody_else_has_changed_is_made_anew(
    written: Path, files: EventFiles
) -> None:
    (written / EVENTS).write_bytes(b"one")
    files.bring([Source(folder=written)])
    (files.target / EVENTS).write_bytes(b"cut")
    (files.target / EVENTS).unlink()
    with (written / EVENTS).open("ab") as file:
        file.write(b" two")

    files.bring([Source(folder=written)])

    assert shown(files) == {EVENTS: b"one two"}


def test_no_link_and_no_pipe_is_read(written: Path, files: EventFiles, tmp_path: Path) -> None:
    secret = tmp_path / "secret.tfevents"
    secret.write_bytes(b"secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / EVENTS).write_bytes(b"secret")
    (written / "a.tfevents").symlink_to(secret)
    (written / "folder").symlink_to(tmp_path / "elsewhere")
    (written / "turns").symlink_to(".")
    os.mkfifo(written / "b.tfevents")

    trouble = files.bring([Source(folder=written), Source(folder=tmp_path / "nowhere")])

    assert (trouble, shown(files)) == ("", {})


def test_a_folder_that_is_swapped_for_a_link_shows_nothing(
    written: Path, files: EventFiles, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / EVENTS).write_bytes(b"secret")
    written.rmdir()
    written.symlink_to(tmp_path / "elsewhere")

    files.bring([Source(folder=written)])

    assert shown(files) == {}


def test_whoever_the_tensorboard_runs_as_can_read_the_copies(
    written: Path, files: EventFiles
) -> None:
    (written / "run").mkdir()
    (written / "run" / EVENTS).write_bytes(b"x")
    (written / "run" / EVENTS).chmod(0o600)
    before = os.umask(0o077)
    try:
        files.bring([Source(folder=written)])
    finally:
        os.umask(before)

    copy = files.target / "run" / EVENTS
    modes = [oct(path.stat().st_mode & 0o777) for path in (copy, copy.parent, files.target)]
    assert modes == ["0o644", "0o755", "0o755"]


def test_bounds_are_told(written: Path, files: EventFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (written / f"{number}.tfevents").write_bytes(b"x" * 100)
    monkeypatch.setattr(eventfiles, "FILES_MAX", 3)
    too_many = files.bring([Source(folder=written)])
    monkeypatch.setattr(eventfiles, "FILES_MAX", 10)
    monkeypatch.setattr(eventfiles, "BYTES_MAX", 350)
    too_long = files.bring([Source(folder=written)])
    monkeypatch.setattr(eventfiles, "ENTRIES_MAX", 3)
    too_wide = files.bring([Source(folder=written)])

    assert "first 3 event files" in too_many
    assert "do not fit" in too_long
    assert "first 3 files were looked at" in too_wide
    assert len(shown(files)) == 3


def test_a_folder_that_is_nested_without_end_ends(written: Path, files: EventFiles) -> None:
    deep = written
    for _ in range(100):
        deep = deep / "d"
        deep.mkdir()
        (deep / EVENTS).write_bytes(b"x")

    trouble = files.bring([Source(folder=written)])

    assert trouble == ""
    assert len(shown(files)) == eventfiles.DEPTH_MAX
