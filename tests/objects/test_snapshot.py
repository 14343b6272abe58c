"""Snapshots of code: kept by content, found again without reading, and never stale."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from muster.domain.errors import CodeFolderInvalid, StoragePathInvalid
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


class Copying:
    """Holds each copy up until it may go on, and counts them."""

    def __init__(self, objects: FolderStore) -> None:
        self.begun = 0
        self.may_go_on = threading.Event()
        self._has_begun = threading.Event()
        self._snapshot = objects.snapshot
        objects.snapshot = self.snapshot  # type: ignore[method-assign]

    def snapshot(self, url: ObjectUrl, *, field: str = "app_url") -> str:
        digest = self._snapshot(url, field=field)
        self.begun += 1
        self._has_begun.set()
        assert self.may_go_on.wait(timeout=30)
        return digest

    async def are_begun(self) -> None:
        assert await asyncio.to_thread(self._has_begun.wait, 30)


@pytest.fixture
def unsettled(tmp_path: Path) -> FolderStore:
    """Files have just changed: each submit has to look into them."""
    return FolderStore(tmp_path / "objects", tmp_path / "snapshots")


@pytest.mark.asyncio
async def test_those_who_come_while_code_is_copied_share_the_next_copy(
    unsettled: FolderStore, code: Path
) -> None:
    copying = Copying(unsettled)
    first = asyncio.create_task(unsettled.keep_code(CODE))
    await copying.are_begun()

    rewrite(code)
    later = [asyncio.create_task(unsettled.keep_code(CODE)) for _ in range(20)]
    await asyncio.sleep(0)
    copying.may_go_on.set()
    digests = await asyncio.gather(*later)

    assert copying.begun == 2
    assert len(set(digests)) == 1
    kept = unsettled.snapshot_folder(digests[0]) / "main.py"
    assert kept.read_text() == (code / "main.py").read_text()
    assert await first != digests[0]


@pytest.mark.asyncio
async def test_who_waits_behind_a_copy_that_is_called_off_copies_for_himself(
    unsettled: FolderStore, code: Path
) -> None:
    copying = Copying(unsettled)
    first = asyncio.create_task(unsettled.keep_code(CODE))
    await copying.are_begun()
    second = asyncio.create_task(unsettled.keep_code(CODE))
    await asyncio.sleep(0)

    first.cancel()
    copying.may_go_on.set()

    kept = unsettled.snapshot_folder(await second) / "main.py"
    assert kept.read_text() == (code / "main.py").read_text()


@pytest.mark.asyncio
async def test_each_who_waits_is_refused_by_the_name_that_his_own_request_has(
    unsettled: FolderStore,
) -> None:
    fields = ("app_url", "source", "app_url")

    refused = await asyncio.gather(
        *(unsettled.keep_code(CODE, field=field) for field in fields), return_exceptions=True
    )

    for error, field in zip(refused, fields, strict=True):
        assert isinstance(error, CodeFolderInvalid)
        assert error.message.startswith(f"{field} is '/bucket/code/'")
