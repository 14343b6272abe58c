"""Snapshots of code: kept by content, found again without reading, and never stale."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.domain.errors import StoragePathInvalid
from muster.objects import folder as folder_module
from muster.objects.folder import QUICK_ENTRIES_MAX, FolderStore
from muster.objects.url import ObjectUrl

CODE = ObjectUrl("bucket", "code/")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "objects/bucket/code"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text("print(1)\n")
    return folder


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """Files count as settled at once: no test waits for them."""
    monkeypatch.setattr(folder_module, "_SETTLED_SECONDS", -1.0)
    return FolderStore(tmp_path / "objects", tmp_path / "snapshots")


@pytest.mark.usefixtures("code")
def test_code_that_was_kept_is_found_without_reading_it(objects: FolderStore) -> None:
    assert objects.find_snapshot(CODE) is None

    digest = objects.snapshot(CODE)

    assert objects.find_snapshot(CODE) == digest


@pytest.mark.usefixtures("code")
def test_code_that_has_just_changed_is_read_each_time(tmp_path: Path) -> None:
    objects = FolderStore(tmp_path / "objects", tmp_path / "snapshots")

    objects.snapshot(CODE)

    assert objects.find_snapshot(CODE) is None


def rewrite(code: Path) -> None:
    (code / "main.py").write_text("print(22)\n")


def rewrite_with_the_old_size_and_time(code: Path) -> None:
    before = (code / "main.py").stat()
    (code / "main.py").write_text("print(2)\n")
    os.utime(code / "main.py", ns=(before.st_atime_ns, before.st_mtime_ns))


def put_another_file_in_its_place(code: Path) -> None:
    before = (code / "main.py").stat()
    (code / "other").write_text("print(3)\n")
    os.utime(code / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
    (code / "other").replace(code / "main.py")


def change_its_mode(code: Path) -> None:
    (code / "main.py").chmod(0o755)


def add_a_file(code: Path) -> None:
    (code / "more").mkdir()
    (code / "more/model.py").write_text("")


def swap_the_folder(code: Path) -> None:
    code.rename(code.with_name("old"))
    shutil.copytree(code.with_name("old"), code)
    (code / "main.py").write_text("print(4)\n")


def grow(code: Path) -> None:
    for index in range(QUICK_ENTRIES_MAX):
        (code / f"{index}.py").write_text("")


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        rewrite_with_the_old_size_and_time,
        put_another_file_in_its_place,
        change_its_mode,
        add_a_file,
        swap_the_folder,
        grow,
    ],
)
def test_code_that_has_changed_is_never_taken_for_what_it_was(
    objects: FolderStore, code: Path, change: Callable[[Path], None]
) -> None:
    before = objects.snapshot(CODE)
    wait_for_another_time_stamp(code)

    change(code)

    assert objects.find_snapshot(CODE) is None
    assert objects.snapshot(CODE) != before


def wait_for_another_time_stamp(code: Path) -> None:
    """File systems count time in steps of some milliseconds; _SETTLED_SECONDS is for that."""
    probe = code.parent / "probe"
    newest_ns = max(path.stat().st_ctime_ns for path in code.rglob("*"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        probe.write_text("")
        if probe.stat().st_ctime_ns > newest_ns:
            return
    raise AssertionError("the clock of the file system stands still")


def test_a_snapshot_that_was_taken_away_is_taken_again(
    objects: FolderStore, tmp_path: Path, code: Path
) -> None:
    digest = objects.snapshot(CODE)
    shutil.rmtree(tmp_path / "snapshots" / digest)

    assert objects.find_snapshot(CODE) is None
    assert objects.snapshot(CODE) == digest
    assert (objects.snapshot_folder(digest) / "main.py").read_text() == (
        code / "main.py"
    ).read_text()


def test_a_code_folder_behind_a_link_out_of_its_bucket_is_refused(
    objects: FolderStore, tmp_path: Path, code: Path
) -> None:
    shutil.rmtree(code)
    (tmp_path / "elsewhere").mkdir()
    code.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StoragePathInvalid, match="leads out of its bucket"):
        objects.find_snapshot(CODE)


def test_a_folder_that_is_not_there_is_not_found(objects: FolderStore) -> None:
    assert objects.find_snapshot(ObjectUrl("bucket", "nothing")) is None
