"""Mirrors: a folder and the objects of a bucket, made alike before a program and after it."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.errors import StoragePathInvalid, StoreUnavailable
from muster.domain.program import Mirror
from muster.objects import folder as folder_module
from muster.objects.folder import FolderStore
from muster.objects.s3 import S3Place, S3Store
from muster.objects.store import ObjectStore, Progress
from muster.objects.url import ObjectUrl
from muster.reconciler import mirror as mirrors
from muster.reconciler.mirror import (
    Stamps,
    fetch_mirror,
    plan_fetch,
    plan_store,
    read_trouble,
    store_mirror,
)
from tests.objects.s3_account import S3Account, running_s3

_numbers: Final = count()
FOLDER: Final = "notes/"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def bucket() -> str:
    return f"mirrored-{next(_numbers)}"


@pytest_asyncio.fixture(params=["a folder", "S3"])
async def objects(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: str
) -> AsyncIterator[ObjectStore]:
    if request.param == "a folder":
        (tmp_path / "objects" / bucket).mkdir(parents=True)
        yield FolderStore(tmp_path / "objects", tmp_path / "snapshots")
        return
    account: S3Account = request.getfixturevalue("account")
    account.make_bucket(bucket)
    store = S3Store(account.options, S3Place(), tmp_path / "snapshots")
    yield store
    await store.close()


@pytest.fixture
def mirror(tmp_path: Path, bucket: str) -> Mirror:
    return Mirror(url=f"/{bucket}/{FOLDER}", folder=str(tmp_path / "kept" / "work"))


async def put(objects: ObjectStore, bucket: str, key: str, content: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    await objects.put(ObjectUrl(bucket, key), chunks(), size=len(content))


async def contents(objects: ObjectStore, bucket: str) -> dict[str, bytes]:
    """Of every object below the mirrored folder."""
    found = {}
    for info in await objects.list_objects(bucket, FOLDER):
        chunks, _ = await objects.open(ObjectUrl(bucket, info.key))
        found[info.key.removeprefix(FOLDER)] = b"".join([chunk async for chunk in chunks])
    return found


def files(mirror: Mirror) -> dict[str, bytes]:
    folder = Path(mirror.folder)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write(mirror: Mirror, path: str, content: bytes) -> None:
    file = Path(mirror.folder, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def drop(mirror: Mirror, path: str) -> None:
    """A file, or a folder that is empty."""
    target = Path(mirror.folder, path)
    if target.is_dir():
        target.rmdir()
    else:
        target.unlink()


async def fetch(mirror: Mirror, objects: ObjectStore) -> Progress:
    progress = Progress()
    await fetch_mirror(mirror, objects, progress)
    return progress


async def store(mirror: Mirror, objects: ObjectStore) -> Progress:
    progress = Progress()
    await store_mirror(mirror, objects, progress)
    return progress


@pytest.mark.asyncio
class TestTransfers:
    async def test_what_is_there_is_fetched_and_what_was_changed_is_stored(
        self, objects: ObjectStore, bucket: str, mirror: Mirror
    ) -> None:
        await put(objects, bucket, "notes/kept.txt", b"kept")
        await put(objects, bucket, "notes/deep/er/changed.txt", b"before")
        await put(objects, bucket, "notes/deleted.txt", b"deleted")
        await put(objects, bucket, "notes-not/other.txt", b"other")
        await put(objects, bucket, "outside.txt", b"outside")

        fetched = await fetch(mirror, objects)
        assert files(mirror) == {
            "kept.txt": b"kept", "deep/er/changed.txt": b"before", "deleted.txt": b"deleted",
        }  # fmt: skip
        assert (fetched.file_count, fetched.byte_count) == (3, 17)
        write(mirror, "deep/er/changed.txt", b"after")
        write(mirror, "made/new.txt", b"new")
        drop(mirror, "deleted.txt")
        stored = await store(mirror, objects)

        assert await contents(objects, bucket) == {
            "kept.txt": b"kept", "deep/er/changed.txt": b"after", "made/new.txt": b"new",
        }  # fmt: skip
        assert (stored.file_count, stored.byte_count) == (2, 8)
        names = [info.key for info in await objects.list_objects(bucket, "")]
        assert {"notes-not/other.txt", "outside.txt"} <= set(names)

    async def test_a_second_time_moves_nothing(
        self, objects: ObjectStore, bucket: str, mirror: Mirror
    ) -> None:
        await put(objects, bucket, "notes/a.txt", b"a")
        await fetch(mirror, objects)
        write(mirror, "b.txt", b"b")
        await store(mirror, objects)

        assert (await store(mirror, objects)).file_count == 0
        assert (await fetch(mirror, objects)).file_count == 0
        assert files(mirror) == {"a.txt": b"a", "b.txt": b"b"}

    async def test_what_others_change_and_delete_in_the_bucket_is_so_at_the_next_start(
        self, objects: ObjectStore, bucket: str, mirror: Mirror
    ) -> None:
        for name in ("changed", "deleted", "kept"):
            await put(objects, bucket, f"notes/{name}", name.encode())
        await fetch(mirror, objects)
        await store(mirror, objects)
        await put(objects, bucket, "notes/changed", b"by others")
        await objects.delete(ObjectUrl(bucket, "notes/deleted"))

        await fetch(mirror, objects)

        assert files(mirror) == {"changed": b"by others", "kept": b"kept"}

    async def test_what_others_change_while_it_runs_is_not_overwritten_by_an_old_file(
        self, objects: ObjectStore, bucket: str, mirror: Mirror
    ) -> None:
        await put(objects, bucket, "notes/shared", b"before")
        await put(objects, bucket, "notes/gone", b"gone")
        await fetch(mirror, objects)
        await put(objects, bucket, "notes/shared", b"by others")
        await put(objects, bucket, "notes/gone", b"there again")
        drop(mirror, "gone")

        await store(mirror, objects)

        assert await contents(objects, bucket) == {
            "shared": b"by others", "gone": b"there again",
        }  # fmt: skip

    async def test_a_fetch_that_is_cut_short_is_gone_on_with(
        self,
        objects: ObjectStore,
        bucket: str,
        mirror: Mirror,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for number in range(20):
            await put(objects, bucket, f"notes/{number:02}", b"before")
        await fetch(mirror, objects)
        await store(mirror, objects)
        for number in range(20):
            await put(objects, bucket, f"notes/{number:02}", b"changed")
        whole = mirrors._fetch_file

        async def breaks(store: ObjectStore, url: ObjectUrl, *rest: object) -> None:
            if url.key.endswith("10"):
                raise StoreUnavailable("cut off")
            await whole(store, url, *rest)  # type: ignore[arg-type]  # as it was called

        monkeypatch.setattr(mirrors, "_fetch_file", breaks)
        with pytest.raises(StoreUnavailable):
            await fetch(mirror, objects)
        monkeypatch.undo()

        again = await fetch(mirror, objects)

        assert files(mirror) == {f"{number:02}": b"changed" for number in range(20)}
        assert 0 < again.file_count < 20
        assert (await store(mirror, objects)).file_count == 0

    async def test_a_fetched_file_is_on_disk_before_it_is_in_its_place(
        self, objects: ObjectStore, bucket: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Emptied by a power loss, it would look changed here, and be stored over the object."""
        place = Path(mirror.folder) / "one.txt"
        flushed: dict[int, tuple[int, bool]] = {}  # by inode: its size, and if it was there yet

        def fsync(fd: int) -> None:
            flushed[os.fstat(fd).st_ino] = (os.fstat(fd).st_size, place.exists())

        monkeypatch.setattr(os, "fsync", fsync)
        await put(objects, bucket, "notes/one.txt", b"first")

        await fetch_mirror(mirror, objects, Progress())

        assert flushed[place.stat().st_ino] == (5, False)

    async def test_links_are_neither_followed_nor_stored(
        self, objects: ObjectStore, bucket: str, mirror: Mirror, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        await fetch(mirror, objects)
        work = Path(mirror.folder)
        (work / "file").symlink_to(outside / "secret")
        (work / "folder").symlink_to(outside)

        await store(mirror, objects)
        assert await contents(objects, bucket) == {}
        await put(objects, bucket, "notes/folder/planted", b"planted")
        with pytest.raises(StoragePathInvalid, match="'folder/planted'"):
            await fetch(mirror, objects)

        assert [path.name for path in outside.iterdir()] == ["secret"]

    async def test_a_folder_swapped_for_a_link_costs_nothing_that_lies_outside(
        self, objects: ObjectStore, bucket: str, mirror: Mirror, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "muster.db").write_bytes(b"the server's")
        await put(objects, bucket, "notes/sub/muster.db", b"an object")
        await put(objects, bucket, "notes/sub/deep/new", b"another")
        await fetch(mirror, objects)
        work = Path(mirror.folder)
        shutil.rmtree(work / "sub")
        (work / "sub").symlink_to(outside)

        with pytest.raises(StoragePathInvalid, match="'sub/"):
            await fetch(mirror, objects)
        await store(mirror, objects)

        assert [path.name for path in outside.iterdir()] == ["muster.db"]
        assert (outside / "muster.db").read_bytes() == b"the server's"
        assert b"the server's" not in (await contents(objects, bucket)).values()

    async def test_a_bucket_that_is_gone_is_told_and_the_files_stay(
        self, objects: ObjectStore, mirror: Mirror
    ) -> None:
        nowhere = Mirror(url="/never-made/x/", folder=mirror.folder)

        with pytest.raises(StoragePathInvalid, match="there is no bucket 'never-made'"):
            await fetch(nowhere, objects)
        write(mirror, "work.txt", b"work")
        await store(nowhere, objects)

        assert "there is no bucket 'never-made'" in read_trouble(Path(mirror.folder))
        assert files(mirror) == {"work.txt": b"work"}

    async def test_a_name_that_no_object_can_have_keeps_nothing_else_from_being_stored(
        self, objects: ObjectStore, bucket: str, mirror: Mirror
    ) -> None:
        await fetch(mirror, objects)
        write(mirror, "back\\slash", b"1")
        write(mirror, os.fsdecode(b"not-\xff-text"), b"2")
        write(mirror, "über.txt", b"3")

        await store(mirror, objects)

        assert await contents(objects, bucket) == {"über.txt": b"3"}
        assert "(2 files like that)" in read_trouble(Path(mirror.folder))
        await fetch(mirror, objects)
        assert len(files(mirror)) == 3
        assert read_trouble(Path(mirror.folder)) == ""

    async def test_it_holds_a_bounded_number_of_files(
        self,
        objects: ObjectStore,
        bucket: str,
        mirror: Mirror,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(mirrors, "FILES_MAX", 2)
        await fetch(mirror, objects)
        for name in "abc":
            write(mirror, name, b"")

        await store(mirror, objects)

        assert "more than 2 files" in read_trouble(Path(mirror.folder))
        for name in "abc":
            await put(objects, bucket, f"notes/{name}", b"x")
        with pytest.raises(StoragePathInvalid, match="more than 2 files"):
            await fetch(mirror, objects)

    async def test_a_file_that_became_a_folder_and_back_is_stored_as_it_is(
        self, objects: ObjectStore, bucket: str, mirror: Mirror
    ) -> None:
        await put(objects, bucket, "notes/thing", b"file")
        await fetch(mirror, objects)
        drop(mirror, "thing")
        write(mirror, "thing/inside", b"inside")
        await store(mirror, objects)
        assert await contents(objects, bucket) == {"thing/inside": b"inside"}

        await fetch(mirror, objects)
        drop(mirror, "thing/inside")
        drop(mirror, "thing")
        write(mirror, "thing", b"file again")
        await store(mirror, objects)

        assert await contents(objects, bucket) == {"thing": b"file again"}
        assert read_trouble(Path(mirror.folder)) == ""

    async def test_more_than_a_page_of_objects_is_fetched(
        self,
        objects: ObjectStore,
        bucket: str,
        mirror: Mirror,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from muster.objects import s3 as s3_module

        for module in (folder_module, s3_module, mirrors):
            monkeypatch.setattr(module, "LIST_MAX", 3)
        await asyncio.gather(*(put(objects, bucket, f"notes/{n}", b"x") for n in range(10)))

        fetched = await fetch(mirror, objects)

        assert fetched.file_count == len(files(mirror)) == 10


# ---------------------------------------------------------------- plans

stamps: st.SearchStrategy[Stamps] = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.integers(0, 1), st.integers(0, 2))
)


@given(known=stamps, here=stamps, there=stamps)
def test_a_fetch_never_touches_a_file_that_is_not_as_it_was_fetched_or_stored(
    known: Stamps, here: Stamps, there: Stamps
) -> None:
    plan = plan_fetch(known, here=here, there=there)

    for path in (*plan.fetched, *plan.dropped):
        assert path not in here or here[path] == known[path]


@given(known=stamps, here=stamps, there=stamps)
def test_after_a_fetch_each_object_has_its_file_and_another_fetch_has_nothing_to_do(
    known: Stamps, here: Stamps, there: Stamps
) -> None:
    plan = plan_fetch(known, here=here, there=there)

    after = {path: stamp for path, stamp in here.items() if path not in plan.dropped}
    after |= {path: there[path] for path in plan.fetched}
    assert there.keys() <= after.keys()
    again = plan_fetch(plan.known, here=after, there=there)
    assert (again.fetched, again.dropped, again.known) == ([], [], plan.known)


@given(known=stamps, here=stamps, there=stamps)
def test_a_store_never_drops_an_object_that_somebody_else_has_changed(
    known: Stamps, here: Stamps, there: Stamps
) -> None:
    plan = plan_store(known, here=here, there=there)

    assert all(there[path] == known[path] and path not in here for path in plan.dropped)
    assert here.keys() <= {*plan.stored, *there}
    changed = {path for path in here if here[path] != known.get(path)}
    assert changed <= {*plan.stored}
