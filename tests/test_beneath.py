"""Folders that a job has written to: no link in them leads the server anywhere."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.beneath import (
    PARTS_MAX,
    files_beneath,
    move_in,
    open_beneath,
    opened_folder,
    read_beneath,
    remove_beneath,
    remove_tree,
    set_time_beneath,
    take_out,
)

SWAPS = 300


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text("secret")
    return folder


@pytest.fixture
def work(tmp_path: Path, outside: Path) -> Path:
    """Of a job that has left all it can think of."""
    folder = tmp_path / "work"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("own")
    (folder / "link").symlink_to(outside / "file")
    (folder / "folder").symlink_to(outside)
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    return folder


def test_only_files_that_lie_there_are_found(work: Path) -> None:
    assert [path for path, _ in files_beneath(work)] == ["deep/file"]
    assert list(files_beneath(work / "nowhere")) == []
    assert list(files_beneath(work / "folder")) == []


@pytest.mark.parametrize("path", ["link", "folder/file", "loop", "pipe", "deep", "nothing"])
def test_nothing_but_a_file_is_opened(work: Path, path: str) -> None:
    with pytest.raises(OSError, match=r"."):
        open_beneath(work, path)


def test_a_file_is_read_from_its_beginning_or_its_end(work: Path) -> None:
    (work / "deep" / "file").write_text("0123456789")

    assert read_beneath(work, "deep/file", limit=3) == b"012"
    assert read_beneath(work, "deep/file", limit=3, from_end=True) == b"789"


def test_what_a_link_leads_to_is_never_removed_or_changed(work: Path, outside: Path) -> None:
    before = (outside / "file").stat()

    assert not remove_beneath(work, "folder/file")
    assert not remove_beneath(work, "deep")
    with pytest.raises(OSError, match=r"."):
        set_time_beneath(work, "folder/file", 0)
    set_time_beneath(work, "link", 0)
    assert remove_beneath(work, "link")

    assert (outside / "file").stat() == before
    assert not (work / "link").is_symlink()


def test_no_folder_is_made_behind_a_link(work: Path, outside: Path) -> None:
    with pytest.raises(OSError, match=r"."), opened_folder(work, "folder/new", makes_it=True):
        pass
    with opened_folder(work, "deep/er/still", makes_it=True):
        pass

    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (work / "deep" / "er" / "still").is_dir()


def test_what_is_taken_out_is_the_servers_own(work: Path, tmp_path: Path) -> None:
    (work / "deep" / "file").chmod(0o6700)
    if os.geteuid() == 0:
        os.chown(work / "deep" / "file", 12345, 12345)

    take_out(work, "deep/file", tmp_path / "taken")

    taken = (tmp_path / "taken").stat()
    assert (taken.st_uid, taken.st_gid) == (os.geteuid(), os.getegid())
    assert stat.S_IMODE(taken.st_mode) == 0o744
    assert not (work / "deep" / "file").exists()


@pytest.mark.parametrize("path", ["link", "folder/file", "pipe", "folder"])
def test_nothing_but_a_file_is_taken_out(work: Path, outside: Path, path: str) -> None:
    draft = work.parent / "taken"

    with pytest.raises(OSError, match=r"."):
        take_out(work, path, draft)

    assert not draft.exists()
    assert not draft.is_symlink()
    assert (outside / "file").read_text() == "secret"


def test_nothing_is_moved_in_behind_a_link(work: Path, outside: Path, tmp_path: Path) -> None:
    (tmp_path / "brought").write_text("brought")

    with pytest.raises(OSError, match=r"."):
        move_in(tmp_path / "brought", work, "folder/file")
    move_in(tmp_path / "brought", work, "link")

    assert (outside / "file").read_text() == "secret"
    assert (work / "link").read_text() == "brought"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give anything away")
def test_what_is_moved_in_belongs_to_the_owner_of_the_folder(work: Path, tmp_path: Path) -> None:
    os.chown(work / "deep", 12345, 12345)
    (tmp_path / "brought").write_text("brought")

    with opened_folder(work, "deep/made/too", makes_it=True):
        pass
    move_in(tmp_path / "brought", work, "deep/made/too/file")

    made = [work / "deep" / name for name in ("made", "made/too", "made/too/file")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(12345, 12345)}


def test_folders_in_folders_without_end_are_left_at_some_depth(work: Path) -> None:
    fd = os.open(work, os.O_RDONLY)
    for _ in range(PARTS_MAX + 200):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("too-deep", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)

    assert [path for path, _ in files_beneath(work)] == ["deep/file"]


def test_a_folder_goes_however_deep_it_is(work: Path, outside: Path) -> None:
    fd = os.open(work, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=fd)
        os.symlink(outside, "out", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)

    remove_tree(work)

    assert not work.exists()
    assert (outside / "file").read_text() == "secret"


@pytest.mark.parametrize(
    "look",
    [
        lambda work: read_beneath(work, "swapped/file", limit=100),
        lambda work: [path for path, _ in files_beneath(work) if path.startswith("swapped/")],
        lambda work: remove_beneath(work, "swapped/file"),
    ],
)
def test_a_folder_that_is_swapped_for_a_link_meanwhile_tells_nothing(
    work: Path, outside: Path, look: Callable[[Path], object]
) -> None:
    (work / "empty").mkdir()
    (work / "swapped").symlink_to(outside)
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            (work / "swapped").rename(work / "aside")
            (work / "empty").rename(work / "swapped")
            (work / "swapped").rename(work / "empty")
            (work / "aside").rename(work / "swapped")

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        told = set()
        for _ in range(SWAPS):
            try:
                told.add(str(look(work)))
            except OSError:
                told.add("refused")
    finally:
        is_over.set()
        swapping.join()

    assert told <= {"refused", "[]", "False"}
    assert (outside / "file").read_text() == "secret"
