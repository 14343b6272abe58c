"""What both object stores keep: the same calls, and the same answers."""

import os
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from muster.domain.errors import (
    CodeFolderInvalid,
    CodeTooLarge,
    CodeTooManyFiles,
    NameTaken,
    ObjectUnknown,
    StoragePathInvalid,
)
from muster.objects import store as store_module
from muster.objects.folder import FolderStore
from muster.objects.s3 import S3Place, S3Store
from muster.objects.s3bucket import PART_BYTES
from muster.objects.store import LIST_MAX, Kind, ObjectStore, Progress
from muster.objects.url import ObjectUrl
from tests.objects.s3_account import S3Account

pytestmark = pytest.mark.asyncio

_numbers: Final = count()


@pytest.fixture
def bucket() -> str:
    """A name that no other test has."""
    return f"things-{next(_numbers)}"


@pytest_asyncio.fixture(params=["a folder", "one bucket of S3", "an account of S3"])
async def objects(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: str
) -> AsyncIterator[ObjectStore]:
    if request.param == "a folder":
        yield FolderStore(tmp_path / "objects", tmp_path / "snapshots")
        return
    account: S3Account = request.getfixturevalue("account")
    if request.param == "one bucket of S3":
        place = S3Place(account.make_bucket(f"base-{bucket}"), "below/here")
    else:
        place = S3Place()
        account.make_bucket(bucket)
    store = S3Store(account.options, place, tmp_path / "snapshots")
    yield store
    await store.close()


def files_of(folder: Path) -> list[str]:
    """By path below it, links too."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in found)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def put(objects: ObjectStore, bucket: str, key: str, content: bytes = b"x") -> ObjectUrl:
    url = ObjectUrl(bucket, key)
    await objects.put(url, chunks(content))
    return url


async def get(objects: ObjectStore, url: ObjectUrl) -> bytes:
    content, info = await objects.open(url)
    read = b"".join([chunk async for chunk in content])
    assert info.size == len(read)
    assert info.key == url.key
    return read


class TestObjects:
    @pytest.mark.parametrize("content", [b"", b"\0", b"text\n", bytes(range(256)) * 5_000])
    async def test_what_is_put_comes_back(
        self, objects: ObjectStore, bucket: str, content: bytes
    ) -> None:
        url = await put(objects, bucket, "a/b/c.bin", content)

        assert await get(objects, url) == content
        assert (await objects.describe(url)).size == len(content)

    async def test_a_large_object_comes_back_whole(self, objects: ObjectStore, bucket: str) -> None:
        url = ObjectUrl(bucket, "large")
        pieces = [os.urandom(1 << 20) for _ in range(2 * PART_BYTES // (1 << 20) + 3)]

        await objects.put(url, chunks(*pieces))

        assert await get(objects, url) == b"".join(pieces)

    async def test_a_second_put_replaces_the_first(self, objects: ObjectStore, bucket: str) -> None:
        await put(objects, bucket, "twice", b"one, and longer")
        url = await put(objects, bucket, "twice", b"two")

        assert await get(objects, url) == b"two"

    @pytest.mark.parametrize("sent", [1, 3 * PART_BYTES], ids=["small", "large"])
    async def test_a_put_that_breaks_off_leaves_what_was_there(
        self, objects: ObjectStore, bucket: str, sent: int
    ) -> None:
        url = await put(objects, bucket, "kept", b"whole")

        async def broken() -> AsyncIterator[bytes]:
            for start in range(0, sent, 1 << 20):
                yield bytes(min(1 << 20, sent - start))
            raise NameTaken("the client goes away")

        with pytest.raises(NameTaken, match="goes away"):
            await objects.put(url, broken())

        assert await get(objects, url) == b"whole"

    @pytest.mark.parametrize(
        "key",
        ["plain", "with space", "ümläut/名", "a%b", "a%2Fb", "a+b", "a#b", "a?b", "a&b=c", "'\"",
         ".h", "...", "..a", "a..", "~", "-", "a*b", "a^{b}|c", "a" * 200],
    )  # fmt: skip
    async def test_any_name_that_stays_inside_is_taken(
        self, objects: ObjectStore, bucket: str, key: str
    ) -> None:
        url = await put(objects, bucket, f"names/{key}", b"x")

        assert await get(objects, url) == b"x"
        listed = await objects.list_objects(bucket, f"names/{key}")
        assert [info.key for info in listed] == [f"names/{key}"]
        await objects.delete(url)
        assert await objects.find(url, field="key") is None

    async def test_what_is_not_there_is_not_found(self, objects: ObjectStore, bucket: str) -> None:
        await put(objects, bucket, "folder/file")

        for key in ("nothing", "folder", "folder/", "folder/file/", ""):
            url = ObjectUrl(bucket, key)
            for ask in (objects.describe, objects.open, objects.delete):
                with pytest.raises(ObjectUnknown, match="There is no object"):
                    await ask(url)

    async def test_a_folder_and_an_object_are_told_apart(
        self, objects: ObjectStore, bucket: str
    ) -> None:
        await put(objects, bucket, "folder/file")

        async def find(key: str) -> Kind | None:
            return await objects.find(ObjectUrl(bucket, key), field="data_url")

        assert await find("folder/file") is Kind.OBJECT
        assert await find("folder") is Kind.FOLDER
        assert await find("folder/") is Kind.FOLDER
        assert await find("") is Kind.FOLDER
        assert await find("fold") is None
        assert await find("folder/file2") is None

    async def test_a_bucket_is_there_once_it_holds_something(
        self, objects: ObjectStore, bucket: str
    ) -> None:
        await put(objects, bucket, "x")

        assert await objects.has_bucket(bucket)
        assert not await objects.has_bucket("no-such-bucket-anywhere")

    async def test_a_store_that_answers_has_no_trouble(self, objects: ObjectStore) -> None:
        assert await objects.find_trouble() is None


class TestList:
    @pytest.mark.parametrize(
        ("prefix", "after", "expected"),
        [
            ("", "", ["a-b", "a.txt", "a/1", "a/2", "a/b/3", "ab", "b", "ü"]),
            ("a", "", ["a-b", "a.txt", "a/1", "a/2", "a/b/3", "ab"]),
            ("a/", "", ["a/1", "a/2", "a/b/3"]),
            ("a/b", "", ["a/b/3"]),
            ("a/b/3", "", ["a/b/3"]),
            ("a.", "", ["a.txt"]),
            ("ü", "", ["ü"]),
            ("c", "", []),
            ("b/", "", []),
            ("A", "", []),
            ("0", "", []),
            ("", "a/2", ["a/b/3", "ab", "b", "ü"]),
            ("", "ü", []),
            ("a/", "a/1", ["a/2", "a/b/3"]),
            ("a", "a/1", ["a/2", "a/b/3", "ab"]),
            ("a/", "b", []),
        ],
    )
    async def test_a_prefix_selects_in_key_order(
        self, objects: ObjectStore, bucket: str, prefix: str, after: str, expected: list[str]
    ) -> None:
        for key in ("b", "a/b/3", "a/1", "ab", "a/2", "a.txt", "a-b", "ü"):
            await put(objects, bucket, key, key.encode())

        found = await objects.list_objects(bucket, prefix, after=after)

        assert [info.key for info in found] == expected
        assert [info.size for info in found] == [len(key.encode()) for key in expected]

    async def test_a_long_list_comes_in_parts(
        self, objects: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("folder", "s3", "s3bucket"):
            monkeypatch.setattr(f"muster.objects.{module}.LIST_MAX", 5)
        assert LIST_MAX > 5
        for number in range(8):
            await put(objects, bucket, f"{number:04d}")

        first = await objects.list_objects(bucket, "")
        rest = await objects.list_objects(bucket, "", after=first[4].key)

        assert [info.key for info in first] == [f"{number:04d}" for number in range(6)]
        assert [info.key for info in rest] == ["0005", "0006", "0007"]


class TestCode:
    @pytest.fixture
    def code(self, bucket: str) -> ObjectUrl:
        return ObjectUrl(bucket, "code/")

    async def fill(self, objects: ObjectStore, bucket: str) -> None:
        await put(objects, bucket, "code/train.py", b"print(1)\n")
        await put(objects, bucket, "code/model/net.py", b"")
        await put(objects, bucket, "codex/other.py", b"not of it")

    def files(self, folder: Path) -> dict[str, bytes]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    async def test_a_snapshot_holds_the_code_and_nothing_else(
        self, objects: ObjectStore, bucket: str, code: ObjectUrl
    ) -> None:
        await self.fill(objects, bucket)

        digest = await objects.keep_code(code)

        folder = objects.snapshot_folder(digest)
        assert self.files(folder) == {"train.py": b"print(1)\n", "model/net.py": b""}
        listed = await objects.list_code(code, field="code_dir")
        assert list(listed) == [("model/net.py", 0), ("train.py", 9)]

    async def test_a_snapshot_stays_what_it_was(
        self, objects: ObjectStore, bucket: str, code: ObjectUrl
    ) -> None:
        await self.fill(objects, bucket)
        before = await objects.keep_code(code)

        await put(objects, bucket, "code/train.py", b"print(2)\n")
        await objects.delete(ObjectUrl(bucket, "code/model/net.py"))
        after = await objects.keep_code(code)

        assert before != after
        assert self.files(objects.snapshot_folder(before))["train.py"] == b"print(1)\n"
        assert self.files(objects.snapshot_folder(after)) == {"train.py": b"print(2)\n"}

    async def test_the_same_content_is_kept_once_wherever_it_lies(
        self, objects: ObjectStore, bucket: str, code: ObjectUrl, tmp_path: Path
    ) -> None:
        await self.fill(objects, bucket)
        await put(objects, bucket, "copy/train.py", b"print(1)\n")
        await put(objects, bucket, "copy/model/net.py", b"")

        digests = {await objects.keep_code(code), await objects.keep_code(code)}
        digests.add(await objects.keep_code(ObjectUrl(bucket, "copy")))

        assert len(digests) == 1
        assert [path.name for path in (tmp_path / "snapshots").iterdir()] == list(digests)

    async def test_a_snapshot_that_was_taken_away_is_taken_again(
        self, objects: ObjectStore, bucket: str, code: ObjectUrl
    ) -> None:
        await self.fill(objects, bucket)
        digest = await objects.keep_code(code)
        objects.snapshot_folder(digest).rename(objects.snapshot_folder("away"))

        assert await objects.keep_code(code) == digest
        assert self.files(objects.snapshot_folder(digest))["train.py"] == b"print(1)\n"

    async def test_what_refuses_before_anything_is_copied_is_heard(
        self, objects: ObjectStore, bucket: str, code: ObjectUrl, tmp_path: Path
    ) -> None:
        await self.fill(objects, bucket)

        async def refuse() -> None:
            raise NameTaken("the name is taken")

        with pytest.raises(NameTaken):
            await objects.keep_code(code, before_copying=refuse)

        assert list((tmp_path / "snapshots").iterdir()) == []

    async def test_a_folder_that_is_not_there_is_refused_by_name(
        self, objects: ObjectStore, bucket: str, code: ObjectUrl
    ) -> None:
        await put(objects, bucket, "other/train.py")

        with pytest.raises(CodeFolderInvalid, match=f"app_url is '/{bucket}/code/'; there is no"):
            await objects.keep_code(code)
        with pytest.raises(CodeFolderInvalid, match="code_dir is"):
            await objects.list_code(code, field="code_dir")
        with pytest.raises(CodeFolderInvalid, match="source is"):
            await objects.keep_code(code, field="source")

    async def test_what_is_no_code_folder_any_more_is_refused(
        self, objects: ObjectStore, bucket: str, code: ObjectUrl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.fill(objects, bucket)

        monkeypatch.setattr(store_module, "CODE_BYTES_MAX", 8)
        with pytest.raises(CodeTooLarge, match="app_url"):
            await objects.keep_code(code)
        monkeypatch.setattr(store_module, "CODE_FILES_MAX", 1)
        with pytest.raises(CodeTooManyFiles, match="app_url"):
            await objects.keep_code(code)


class TestInputs:
    async def fetch(self, objects: ObjectStore, url: ObjectUrl, target: Path) -> Path:
        return await objects.fetch(url, target, field="data_url", progress=Progress())

    async def test_a_folder_is_a_local_folder_then(
        self, objects: ObjectStore, bucket: str, tmp_path: Path
    ) -> None:
        await put(objects, bucket, "data/train/1.bin", b"one")
        await put(objects, bucket, "data/empty", b"")
        await put(objects, bucket, "database", b"not of it")

        for key in ("data", "data/"):
            path = await self.fetch(objects, ObjectUrl(bucket, key), tmp_path / "job/data")

            assert files_of(path) == ["empty", "train/1.bin"]
            assert (path / "train/1.bin").read_bytes() == b"one"

    async def test_an_object_is_a_local_file_of_its_name(
        self, objects: ObjectStore, bucket: str, tmp_path: Path
    ) -> None:
        url = await put(objects, bucket, "data/digits.csv", b"1,2\n")

        path = await self.fetch(objects, url, tmp_path / "job/data")

        assert path.name == "digits.csv"
        assert path.read_bytes() == b"1,2\n"


class TestResults:
    @pytest.fixture
    def written(self, tmp_path: Path) -> Path:
        folder = tmp_path / "job" / "output"
        (folder / "deep").mkdir(parents=True)
        (folder / "model.bin").write_bytes(b"weights")
        (folder / "deep/er.txt").write_text("er")
        (tmp_path / "secret").write_text("not to be told")
        (folder / "link").symlink_to(tmp_path / "secret")
        return folder

    async def store(self, objects: ObjectStore, source: Path, url: ObjectUrl) -> None:
        await objects.store_folder(source, url, field="train_url", progress=Progress())

    @pytest.mark.parametrize("key", ["out", "out/", ""])
    async def test_what_was_written_is_stored_and_may_be_again(
        self, objects: ObjectStore, bucket: str, written: Path, key: str
    ) -> None:
        url = ObjectUrl(bucket, key)
        await self.store(objects, written, url)
        (written / "late.txt").write_text("late")
        await self.store(objects, written, url)

        keys = {info.key for info in await objects.list_objects(bucket, "")}
        root = "out/" if key else ""
        assert keys == {f"{root}{name}" for name in ("model.bin", "deep/er.txt", "late.txt")}
        assert await get(objects, ObjectUrl(bucket, f"{root}model.bin")) == b"weights"
        assert files_of(written) == ["link"]

    async def test_a_folder_that_is_not_there_is_an_empty_one(
        self, objects: ObjectStore, bucket: str, tmp_path: Path
    ) -> None:
        await self.store(objects, tmp_path / "nothing", ObjectUrl(bucket, "out"))

        assert list(await objects.list_objects(bucket, "")) == []

    async def test_a_file_is_copied_and_stays(
        self, objects: ObjectStore, bucket: str, written: Path
    ) -> None:
        url = ObjectUrl(bucket, "logs/job.0")

        await objects.store_file(written / "model.bin", url, field="log_url")

        assert await get(objects, url) == b"weights"
        assert (written / "model.bin").is_file()


async def test_no_name_leads_to_another_bucket(objects: ObjectStore, bucket: str) -> None:
    """Names with dots are refused before; a store that meets one must not follow it either."""
    await put(objects, bucket, "x")
    ask: Any
    for ask in (objects.describe, objects.delete):
        with pytest.raises((StoragePathInvalid, ObjectUnknown)):
            await ask(ObjectUrl(bucket, "../x/../../secret"))
