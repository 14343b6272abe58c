"""Transfers whose bytes somebody else moves: here the very code that runs on nodes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.errors import StoragePathInvalid, StoreUnavailable
from muster.engines import porter as node
from muster.objects.porter import Errand, Fetch, Send, name_of
from muster.objects.s3 import S3Place, S3Store
from muster.objects.s3porter import PART_BYTES, WHOLE_BYTES_MAX, part_bytes_of
from muster.objects.store import Progress
from muster.objects.url import ObjectUrl
from tests.objects.s3_account import S3Account, Wire, wire_to

MIB: Final = 1 << 20
GIB: Final = 1 << 30


@dataclass
class Hands:
    """Does errands at once, as a node would; some it leaves undone."""

    memory: Path
    leaves: Callable[[Errand], bool] = lambda _: False
    lanes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    done: list[Errand] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    async def carry(self, errand: Errand, sign: Callable[[], Awaitable[str]]) -> str | None:
        address = await sign()
        self.addresses.append(address)
        if self.leaves(errand):
            return None
        order = {**msgspec.to_builtins(errand), "name": name_of(errand), "address": address}
        porter = node.Porter(str(self.memory))
        await asyncio.to_thread(porter.do, order)
        porter.tell()
        [file] = self.memory.glob("told-*.json")
        [told] = json.loads(file.read_text())["told"]
        file.unlink()
        if told.get("trouble"):
            self.troubles.append(told["trouble"])
            return None
        self.done.append(errand)
        return str(told.get("etag", ""))


@pytest.fixture
def wire(account: S3Account) -> Iterator[Wire]:
    with wire_to(account.url) as found:
        yield found


@pytest.fixture
def bucket(account: S3Account, tmp_path: Path) -> str:
    return account.make_bucket(f"by-{tmp_path.name.strip('_').replace('_', '-').lower()}"[:60])


@pytest_asyncio.fixture
async def objects(account: S3Account, wire: Wire, tmp_path: Path) -> AsyncIterator[S3Store]:
    options = replace(account.options, endpoint=wire.url)
    store = S3Store(options, S3Place(), tmp_path / "snapshots")
    yield store
    await store.close()


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    memory = tmp_path / "moves"
    memory.mkdir()
    return Hands(memory)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


async def fetch(objects: S3Store, url: ObjectUrl, target: Path, hands: Hands) -> Path:
    return await objects.fetch(url, target, field="data_url", progress=Progress(), porter=hands)


async def store(objects: S3Store, source: Path, url: ObjectUrl, hands: Hands) -> None:
    await objects.store_folder(source, url, field="train_url", progress=Progress(), porter=hands)


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def places_of(hands: Hands) -> set[str]:
    """The objects that addresses were signed for."""
    return {unquote(urlsplit(address).path) for address in hands.addresses}


@pytest.mark.asyncio
class TestInputs:
    async def test_what_was_fetched_is_not_asked_for_again(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path, hands: Hands
    ) -> None:
        content = {"one": b"1", "deep/er/two": b"22", "empty": b""}
        for path, text in content.items():
            account.put(bucket, f"data/{path}", text)
        account.put(bucket, "database/other", b"of another folder")
        target = tmp_path / "job" / "data"

        assert await fetch(objects, ObjectUrl(bucket, "data/"), target, hands) == target
        assert files_of(target) == content
        assert places_of(hands) == {f"/{bucket}/data/{path}" for path in content}
        await fetch(objects, ObjectUrl(bucket, "data/"), target, hands)

        assert len(hands.done) == len(content)

    async def test_one_object_is_a_file_of_its_name(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path, hands: Hands
    ) -> None:
        account.put(bucket, "data/one.bin", b"1")

        url = ObjectUrl(bucket, "data/one.bin")
        weighed = await objects.weigh(url, tmp_path / "data", field="data_url")
        file = await fetch(objects, url, tmp_path / "data", hands)

        assert weighed == (file, 1)
        assert file.read_bytes() == b"1"

    async def test_half_an_object_is_gone_on_with_by_the_next_try(
        self,
        objects: S3Store,
        account: S3Account,
        wire: Wire,
        bucket: str,
        tmp_path: Path,
        hands: Hands,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(node, "TRIES", 1)
        content = os.urandom(8 * MIB)
        account.put(bucket, "large", content)
        wire.cut_after, wire.cuts_left = 5 * MIB, 1
        url, target = ObjectUrl(bucket, "large"), tmp_path / "data"
        hands.leaves = lambda _: bool(hands.troubles)
        wire_is_cut = wire.bytes_sent
        wire.is_down = False

        async def server_does_nothing(*_: object) -> None:
            raise StoreUnavailable("not by the server")

        with monkeypatch.context() as patched:
            patched.setattr("muster.objects.s3.fetch_object", server_does_nothing)
            with pytest.raises(StoreUnavailable, match="not by the server"):
                await fetch(objects, url, target, hands)
        hands.leaves = lambda _: False
        await fetch(objects, url, target, hands)

        assert (target / "large").read_bytes() == content
        assert wire.bytes_sent - wire_is_cut < 10 * MIB

    async def test_an_object_that_was_changed_since_is_not_mixed_with_what_it_was(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path, hands: Hands
    ) -> None:
        account.put(bucket, "data", b"before")

        def change(_: Errand) -> bool:
            account.replace(bucket, "data", b"after!")
            return False

        hands.leaves = change
        with pytest.raises(StoreUnavailable, match="was changed while it was read"):
            await fetch(objects, ObjectUrl(bucket, "data"), tmp_path / "data", hands)
        hands.leaves = lambda _: False
        file = await fetch(objects, ObjectUrl(bucket, "data"), tmp_path / "data", hands)

        assert file.read_bytes() == b"after!"
        assert hands.troubles[0].startswith("HTTP 412")

    async def test_what_nobody_else_fetches_the_server_does(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path, hands: Hands
    ) -> None:
        for name in "abc":
            account.put(bucket, f"data/{name}", name.encode())
        hands.leaves = lambda errand: errand.path == "b"

        await fetch(objects, ObjectUrl(bucket, "data"), tmp_path / "data", hands)

        assert files_of(tmp_path / "data") == {"a": b"a", "b": b"b", "c": b"c"}
        assert sorted(errand.path for errand in hands.done) == ["a", "c"]

    async def test_what_is_not_there_is_told_before_anything_is_signed(
        self, objects: S3Store, bucket: str, tmp_path: Path, hands: Hands
    ) -> None:
        for url in (ObjectUrl(bucket, "none"), ObjectUrl("no-such-bucket", "none")):
            with pytest.raises(StoragePathInvalid, match="data_url is"):
                await fetch(objects, url, tmp_path / "data", hands)
            with pytest.raises(StoragePathInvalid, match="data_url is"):
                await objects.weigh(url, tmp_path / "data", field="data_url")

        assert hands.addresses == []


@pytest.mark.asyncio
class TestResults:
    async def test_they_are_stored_and_gone_from_the_folder(
        self, objects: S3Store, account: S3Account, bucket: str, source: Path, hands: Hands
    ) -> None:
        content = {"a b/ü+%~(1).bin": b"odd", "deep/er/x": b"x", "empty": b""}
        for path, text in content.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(text)

        await store(objects, source, ObjectUrl(bucket, "out"), hands)

        assert {path: account.get(bucket, f"out/{path}") for path in content} == content
        assert files_of(source) == {}
        assert len(hands.done) == len(content)

    async def test_whatever_a_job_leaves_only_its_own_place_is_signed(
        self, objects: S3Store, account: S3Account, bucket: str, source: Path, hands: Hands,
        tmp_path: Path,
    ) -> None:  # fmt: skip
        secret = tmp_path / "secret"
        secret.write_text("of another job")
        (source / "link").symlink_to(secret)
        (source / "folder").symlink_to(tmp_path)
        (source / "..\\..\\up").write_text("up")
        (source / "%2e%2e").mkdir()
        (source / "%2e%2e" / "x?uploads&y=#").write_text("x")
        (source / "b\tc").write_text("no key")
        os.mkfifo(source / "pipe")

        with pytest.raises(StoragePathInvalid, match="control character"):
            await store(objects, source, ObjectUrl(bucket, "out/of/job"), hands)

        assert places_of(hands) == {
            f"/{bucket}/out/of/job/..\\..\\up",
            f"/{bucket}/out/of/job/%2e%2e/x?uploads&y=#",
        }
        keys = [info.key for info in await objects.list_objects(bucket, "")]
        assert keys == ["out/of/job/%2e%2e/x?uploads&y=#", "out/of/job/..\\..\\up"]

    async def test_a_link_that_takes_the_place_of_a_file_meanwhile_is_not_followed(
        self, objects: S3Store, bucket: str, source: Path, hands: Hands, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").write_text("12345")
        (source / "x").write_text("12345")

        def swap(_: Errand) -> bool:
            (source / "x").unlink()
            (source / "x").symlink_to(tmp_path / "secret")
            return False

        hands.leaves = swap
        with pytest.raises(OSError, match="symbolic link"):
            await store(objects, source, ObjectUrl(bucket, "out"), hands)

        assert await objects.list_objects(bucket, "") == []

    async def test_a_large_one_goes_in_parts_and_what_is_missing_by_the_server(
        self, objects: S3Store, account: S3Account, bucket: str, source: Path, hands: Hands
    ) -> None:
        content = os.urandom(WHOLE_BYTES_MAX + PART_BYTES + 7)
        (source / "large").write_bytes(content)
        hands.leaves = lambda errand: isinstance(errand, Send) and errand.start == PART_BYTES

        await store(objects, source, ObjectUrl(bucket, "out"), hands)

        assert account.get(bucket, "out/large") == content
        assert len(hands.done) == 3, "of four parts"
        assert files_of(source) == {}

    async def test_parts_that_are_stored_are_not_sent_again_by_the_next_try(
        self, objects: S3Store, account: S3Account, wire: Wire, bucket: str, source: Path,
        hands: Hands,
    ) -> None:  # fmt: skip
        content = os.urandom(WHOLE_BYTES_MAX + PART_BYTES)
        (source / "large").write_bytes(content)

        def breaks(errand: Errand) -> bool:
            wire.is_down = isinstance(errand, Send) and errand.start == 2 * PART_BYTES
            return wire.is_down

        hands.lanes = asyncio.Semaphore(1)
        hands.leaves = breaks
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("muster.objects.s3porter.PARTS_AT_ONCE", 1)
            with pytest.raises(StoreUnavailable, match="train_url is"):
                await store(objects, source, ObjectUrl(bucket, "out"), hands)
        wire.is_down = False
        again = Hands(hands.memory)
        await store(objects, source, ObjectUrl(bucket, "out"), again)

        assert account.get(bucket, "out/large") == content
        assert [errand.start for errand in again.done if isinstance(errand, Send)] == [
            2 * PART_BYTES
        ]

    async def test_one_that_was_completed_though_nobody_was_told_is_not_sent_again(
        self, objects: S3Store, bucket: str, source: Path, hands: Hands
    ) -> None:
        content = bytes(WHOLE_BYTES_MAX + 1)
        (source / "large").write_bytes(content)
        await store(objects, source, ObjectUrl(bucket, "out"), hands)
        (source / "large").write_bytes(content)  # as if it had not been removed any more
        again = Hands(hands.memory)

        await store(objects, source, ObjectUrl(bucket, "out"), again)

        assert again.addresses == []
        assert files_of(source) == {}

    async def test_what_a_job_has_put_in_the_place_of_what_is_remembered_is_not_waited_for(
        self, objects: S3Store, account: S3Account, bucket: str, source: Path, hands: Hands
    ) -> None:
        content = bytes(WHOLE_BYTES_MAX + 1)
        for replaced in (os.mkfifo, lambda file: file.write_text('{"upload_id": "another"}')):
            (source / "large").write_bytes(content)
            await store(objects, source, ObjectUrl(bucket, "out"), hands)
            [memory] = hands.memory.glob("upload-*")
            memory.unlink()
            replaced(memory)
            (source / "large").write_bytes(content)

            await store(objects, source, ObjectUrl(bucket, "out"), hands)

            assert account.get(bucket, "out/large") == content

    async def test_an_upload_that_s3_has_dropped_begins_anew(
        self, objects: S3Store, account: S3Account, bucket: str, source: Path, hands: Hands
    ) -> None:
        content = bytes(WHOLE_BYTES_MAX + 1)
        (source / "large").write_bytes(content)
        await store(objects, source, ObjectUrl(bucket, "out"), hands)
        await objects.delete(ObjectUrl(bucket, "out/large"))
        (source / "large").write_bytes(content)

        await store(objects, source, ObjectUrl(bucket, "out"), hands)

        assert account.get(bucket, "out/large") == content


@settings(max_examples=200)
@given(st.integers(min_value=1, max_value=5 << 40))
def test_parts_are_as_s3_takes_them(size: int) -> None:
    part = part_bytes_of(size)

    assert part >= 5 * MIB
    assert -(-size // part) <= 10_000


def test_an_errand_has_a_name_by_what_it_is_about() -> None:
    one = Fetch(root="/r", path="a", part="/p", size=1, etag="e", modified_ns=2)

    assert name_of(one) == name_of(replace_field(one, path="a"))
    assert name_of(one) != name_of(replace_field(one, etag="f"))


def replace_field(errand: Fetch, **changes: str) -> Fetch:
    return msgspec.structs.replace(errand, **changes)
