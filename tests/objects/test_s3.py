"""S3 when it answers late, half, wrongly or not at all, and keys that no file could have."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from muster.domain.errors import (
    BodyTooLarge,
    CodeFolderInvalid,
    StoragePathInvalid,
    StoreUnavailable,
)
from muster.objects import s3 as s3_module
from muster.objects import s3bucket as bucket_module
from muster.objects.s3 import S3Place, S3Store
from muster.objects.s3bucket import KeysRefused, ObjectChanged, S3Options
from muster.objects.store import Progress
from muster.objects.url import ObjectUrl
from tests.objects.s3_account import SECRET_KEY, S3Account, Wire, wire_to

pytestmark = pytest.mark.asyncio

MIB: Final = 1 << 20

_numbers: Final = count()


@pytest.fixture
def bucket(account: S3Account) -> str:
    return account.make_bucket(f"wired-{next(_numbers)}")


@pytest.fixture
def wire(account: S3Account) -> Iterator[Wire]:
    with wire_to(account.url) as found:
        yield found


@dataclass(slots=True)
class Refusing:
    """What answers every request with the same error of S3's; moto has few of them."""

    options: S3Options
    status: int = 500
    code: str = "InternalError"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = f"<Error><Code>{self.code}</Code></Error>".encode()
        head = f"HTTP/1.1 {self.status} No\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest_asyncio.fixture
async def refusing(account: S3Account) -> AsyncIterator[Refusing]:
    found = Refusing(account.options)
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    found.options = replace(account.options, endpoint=f"http://{host}:{port}")
    async with server:
        yield found


@pytest_asyncio.fixture
async def objects(account: S3Account, wire: Wire, tmp_path: Path) -> AsyncIterator[S3Store]:
    """All buckets of the account, at the other end of the wire."""
    options = replace(account.options, endpoint=wire.url)
    store = S3Store(options, S3Place(), tmp_path / "snapshots")
    yield store
    await store.close()


async def read(objects: S3Store, url: ObjectUrl) -> bytes:
    chunks, _ = await objects.open(url)
    return b"".join([chunk async for chunk in chunks])


async def _content() -> AsyncIterator[bytes]:
    yield b"content"


async def _rest(chunks: AsyncIterator[bytes]) -> None:
    async for _ in chunks:
        pass


async def fetch(
    objects: S3Store,
    url: ObjectUrl,
    target: Path,
    keeps: Callable[[str], bool] | None = None,
) -> Path:
    return await objects.fetch(url, target, field="data_url", progress=Progress(), keeps=keeps)


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class TestCuts:
    async def test_an_object_that_is_cut_is_gone_on_with(
        self, objects: S3Store, account: S3Account, wire: Wire, bucket: str
    ) -> None:
        content = os.urandom(8 * MIB)
        account.put(bucket, "large", content)
        wire.cut_after, wire.cuts_left = 2 * MIB, 3

        assert await read(objects, ObjectUrl(bucket, "large")) == content

        assert wire.cuts == 3
        assert wire.bytes_sent < 2 * len(content), "it does not begin anew each time"

    async def test_an_object_that_is_always_cut_is_given_up(
        self, objects: S3Store, account: S3Account, wire: Wire, bucket: str
    ) -> None:
        account.put(bucket, "large", bytes(4 * MIB))
        chunks, _ = await objects.open(ObjectUrl(bucket, "large"))
        wire.hold_after = wire.bytes_sent + 2 * MIB
        await anext(chunks)
        wire.is_down, wire.hold_after = True, None

        with pytest.raises(StoreUnavailable, match="object 'large' in bucket"):
            await _rest(chunks)

    async def test_an_object_that_is_replaced_meanwhile_is_not_mixed(
        self, objects: S3Store, account: S3Account, wire: Wire, bucket: str
    ) -> None:
        account.put(bucket, "large", b"1" * 8 * MIB)
        wire.cut_after, wire.cuts_left = 2 * MIB, 1
        chunks, _ = await objects.open(ObjectUrl(bucket, "large"))
        assert set(await anext(chunks)) == set(b"1")
        account.replace(bucket, "large", b"2" * 8 * MIB)

        with pytest.raises(ObjectChanged, match="was changed while it was read"):
            await _rest(chunks)

    async def test_a_fetch_goes_on_where_the_last_one_ended(
        self, objects: S3Store, account: S3Account, wire: Wire, bucket: str, tmp_path: Path
    ) -> None:
        content = os.urandom(16 * MIB)
        account.put(bucket, "data/large", content)
        account.put(bucket, "data/small", b"small")
        target = tmp_path / "job/data"
        wire.hold_after = 8 * MIB
        fetching = asyncio.create_task(fetch(objects, ObjectUrl(bucket, "data"), target))
        async with asyncio.timeout(60):
            while sum(map(len, files_of(tmp_path / "job").values())) < 6 * MIB:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        fetching.cancel()
        await asyncio.wait({fetching})
        wire.hold_after = None
        before = wire.bytes_sent

        path = await fetch(objects, ObjectUrl(bucket, "data"), target)

        assert files_of(path) == {"large": content, "small": b"small"}
        assert wire.bytes_sent - before < 12 * MIB
        before = wire.bytes_sent
        await fetch(objects, ObjectUrl(bucket, "data"), target)
        assert wire.bytes_sent - before < 10_000, "lists only"

    async def test_what_has_changed_since_it_was_fetched_is_fetched_again(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        account.put(bucket, "data/x", b"one")
        path = await fetch(objects, ObjectUrl(bucket, "data"), tmp_path / "data")
        account.replace(bucket, "data/x", b"two and more")

        await fetch(objects, ObjectUrl(bucket, "data"), tmp_path / "data")

        assert files_of(path) == {"x": b"two and more"}

    async def test_what_is_not_wanted_is_not_fetched(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        for name in ("x", "deep/x", "deep/y"):
            account.put(bucket, f"data/{name}", name.encode())

        def keeps(path: str) -> bool:
            return path.endswith("x")

        folder = await fetch(objects, ObjectUrl(bucket, "data/"), tmp_path / "data", keeps)
        nothing = await fetch(
            objects, ObjectUrl(bucket, "data/"), tmp_path / "none", lambda _: False
        )

        assert files_of(folder) == {"x": b"x", "deep/x": b"deep/x"}
        assert nothing.is_dir()
        assert files_of(nothing) == {}

    async def test_nothing_is_left_of_a_fetch_but_what_was_fetched(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        account.put(bucket, "data/x", b"one")

        await fetch(objects, ObjectUrl(bucket, "data"), tmp_path / "job/data")

        assert files_of(tmp_path / "job") == {"data/x": b"one"}
        assert [path.name for path in (tmp_path / "job").iterdir()] == ["data"]


class TestNoAnswer:
    async def test_no_answer_is_not_waited_for_long(
        self, objects: S3Store, wire: Wire, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket_module, "REQUEST_SECONDS", 0.3)
        wire.hold_after = -1

        with pytest.raises(StoreUnavailable, match=r"app_url is .* gave no answer within"):
            await objects.keep_code(ObjectUrl(bucket, "code"))
        with pytest.raises(StoreUnavailable, match=r"data_url is .* gave no answer within"):
            await objects.find(ObjectUrl(bucket, "x"), field="data_url")
        with pytest.raises(StoreUnavailable, match="gave no answer within"):
            await objects.has_bucket(bucket)

    async def test_trouble_is_told_soon(
        self, objects: S3Store, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert await objects.find_trouble() is None
        monkeypatch.setattr(s3_module, "CHECK_SECONDS", 0.3)
        wire.hold_after = -1

        assert "gave no answer" in (await objects.find_trouble() or "")

    async def test_keys_that_are_refused_are_told_of_and_not_shown(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        account.put(bucket, "x", b"x")
        url = ObjectUrl(bucket, "x")
        (tmp_path / "file").write_bytes(b"x")
        account.refuse_keys()
        try:
            with pytest.raises(KeysRefused, match="refuses this server's keys") as refused:
                await objects.find(url, field="data_url")
            with pytest.raises(KeysRefused):
                await objects.list_objects(bucket, "")
            with pytest.raises(KeysRefused, match="train_url is"):
                await objects.store_file(tmp_path / "file", url, field="train_url")
            trouble = await objects.find_trouble()
        finally:
            account.accept_keys()

        assert SECRET_KEY not in str(refused.value)
        assert account.options.access_key not in str(refused.value).split()
        assert trouble is not None
        assert "refuses this server's keys" in trouble

    async def test_a_bucket_that_s3_does_not_have_is_named_with_its_field(
        self, objects: S3Store, tmp_path: Path
    ) -> None:
        url = ObjectUrl("no-such-bucket", "x/")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/model").write_bytes(b"x")

        assert not await objects.has_bucket("no-such-bucket")
        with pytest.raises(StoragePathInvalid, match="data_url is '/no-such-bucket/x/'"):
            await fetch(objects, url, tmp_path / "data")
        with pytest.raises(StoragePathInvalid, match=r"train_url is .* has no bucket"):
            await objects.store_folder(
                tmp_path / "out", url, field="train_url", progress=Progress()
            )
        assert (tmp_path / "out/model").is_file(), "nothing is lost"

    async def test_keys_of_our_own_win_over_those_of_the_environment(
        self, account: S3Account, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "of another")

        store = S3Store(account.options, S3Place(), tmp_path / "snapshots")

        assert await store.has_bucket(bucket)


class TestBucketsOfAnAccount:
    @pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", None])
    async def test_one_is_made_and_making_it_again_changes_nothing(
        self, account: S3Account, tmp_path: Path, region: str | None
    ) -> None:
        store = S3Store(replace(account.options, region=region), S3Place(), tmp_path / "snapshots")
        url = ObjectUrl(f"made-in-{region or 'no-region'}".lower(), "x")
        await store.make_bucket(url.bucket)
        await store.put(url, _content())

        await store.make_bucket(url.bucket)

        assert await store.has_bucket(url.bucket)
        assert account.get(url.bucket, "x") == b"content"

    @pytest.mark.parametrize(
        ("name", "why"),
        [("Upper_Case", "3 to 63 lower-case letters"), ("xy", "3 to 63 lower-case letters")],
    )
    async def test_a_name_that_s3_refuses_is_refused_with_its_reason(
        self, account: S3Account, tmp_path: Path, name: str, why: str
    ) -> None:
        store = S3Store(account.options, S3Place(), tmp_path / "snapshots")

        assert not await store.has_bucket(name)
        with pytest.raises(StoragePathInvalid, match=f"There is no bucket '{name}'.*{why}"):
            await store.make_bucket(name)

    @pytest.mark.parametrize(
        ("status", "code", "why"),
        [
            (409, "BucketAlreadyExists", "the name is taken by another account"),
            (403, "AccessDenied", "s3:CreateBucket"),
            (400, "TooManyBuckets", "the account may have no more"),
            (418, "Unheard", "Unheard"),
        ],
    )
    async def test_a_bucket_that_s3_refuses_to_make_is_told_of_with_its_reason(
        self, refusing: Refusing, tmp_path: Path, status: int, code: str, why: str
    ) -> None:
        refusing.status, refusing.code = status, code
        store = S3Store(refusing.options, S3Place(), tmp_path / "snapshots")

        with pytest.raises(StoragePathInvalid, match=why):
            await store.make_bucket("wanted")

    async def test_a_bucket_of_another_account_is_refused_and_not_waited_for(
        self, refusing: Refusing, tmp_path: Path
    ) -> None:
        refusing.status, refusing.code = 403, "AccessDenied"
        store = S3Store(refusing.options, S3Place(), tmp_path / "snapshots")

        with pytest.raises(StoragePathInvalid, match=r"'wanted'.*AccessDenied"):
            await store.has_bucket("wanted")
        refusing.code = "InvalidAccessKeyId"
        with pytest.raises(KeysRefused):
            await store.has_bucket("wanted")

    async def test_no_answer_to_a_wish_for_a_bucket_is_no_refusal(
        self, refusing: Refusing, tmp_path: Path
    ) -> None:
        refusing.status, refusing.code = 503, "SlowDown"
        store = S3Store(refusing.options, S3Place(), tmp_path / "snapshots")
        nowhere = S3Store(
            replace(refusing.options, endpoint="http://127.0.0.1:9"), S3Place(), tmp_path / "none"
        )

        with pytest.raises(StoreUnavailable, match="has failed"):
            await store.make_bucket("wanted")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await nowhere.make_bucket("wanted")


async def test_parts_grow_with_the_size_that_is_told(
    objects: S3Store, account: S3Account, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 takes so many parts of one object; here it is two."""
    monkeypatch.setattr(bucket_module, "PARTS_MAX", 2)
    content = os.urandom(3 * bucket_module.PART_BYTES)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), MIB):
            yield content[start : start + MIB]

    with pytest.raises(BodyTooLarge, match="send it with its Content-Length"):
        await objects.put(ObjectUrl(bucket, "x"), chunks())
    assert await objects.list_objects(bucket, "") == []
    await objects.put(ObjectUrl(bucket, "x"), chunks(), size=len(content))

    assert account.get(bucket, "x") == content


async def test_a_bucket_may_be_part_of_the_name_of_its_host(
    account: S3Account, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server stands in as a proxy, so that a name nobody resolves here leads to it."""
    monkeypatch.setenv("HTTP_PROXY", account.url)
    options = replace(account.options, endpoint="http://s3.amazonaws.com", path_style=False)
    store = S3Store(options, S3Place(), tmp_path / "snapshots")
    (tmp_path / "x").write_bytes(b"content")

    await store.store_file(tmp_path / "x", ObjectUrl(bucket, "k/x"), field="log_url")

    assert [info.key for info in await store.list_objects(bucket, "")] == ["k/x"]
    assert account.get(bucket, "k/x") == b"content"


class TestCode:
    async def test_code_that_is_changed_while_it_is_copied_is_never_mixed(
        self, objects: S3Store, account: S3Account, bucket: str
    ) -> None:
        for name in ("a", "b"):
            account.put(bucket, f"code/{name}.py", b"old")
        times = count()

        async def change() -> None:
            if not next(times):
                for name in ("a", "b"):
                    account.replace(bucket, f"code/{name}.py", b"new")

        digest = await objects.keep_code(ObjectUrl(bucket, "code"), before_copying=change)

        assert next(times) == 2
        found = files_of(objects.snapshot_folder(digest))
        assert found == {"a.py": b"new", "b.py": b"new"}

    async def test_code_that_never_stays_the_same_is_refused(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        account.put(bucket, "code/a.py", b"0")
        times = count(1)

        async def change() -> None:
            account.replace(bucket, "code/a.py", str(next(times)).encode())

        with pytest.raises(StoreUnavailable, match="its code was changed while it was copied"):
            await objects.keep_code(ObjectUrl(bucket, "code"), before_copying=change)

        assert list((tmp_path / "snapshots").iterdir()) == []

    async def test_submits_of_the_same_code_wait_for_one_copy(
        self, objects: S3Store, account: S3Account, wire: Wire, bucket: str
    ) -> None:
        account.put(bucket, "code/large.bin", bytes(4 * MIB))
        url = ObjectUrl(bucket, "code")

        digests = await asyncio.gather(*(objects.keep_code(url) for _ in range(10)))

        assert len(set(digests)) == 1
        assert wire.bytes_sent < 5 * MIB

    async def test_a_copy_that_takes_long_goes_on_without_its_submit(
        self,
        objects: S3Store,
        account: S3Account,
        wire: Wire,
        bucket: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(s3_module, "SUBMIT_SECONDS", 0.5)
        content = os.urandom(4 * MIB)
        account.put(bucket, "code/large.bin", content)
        url = ObjectUrl(bucket, "code")
        wire.hold_after = 2 * MIB

        with pytest.raises(StoreUnavailable, match=r"app_url is .* It goes on; submit again"):
            await objects.keep_code(url)
        wire.hold_after = None
        monkeypatch.setattr(s3_module, "SUBMIT_SECONDS", 60.0)
        digest = await objects.keep_code(url)

        assert files_of(objects.snapshot_folder(digest)) == {"large.bin": content}
        assert wire.bytes_sent < 5 * MIB, "it was copied once"


class TestKeys:
    async def test_marks_of_folders_are_no_files(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        for mark in ("code/", "code/package/", "code/empty/"):
            account.put(bucket, mark, b"")
        account.put(bucket, "code/package/__init__.py", b"")
        account.put(bucket, "code/train.py", b"print()")
        url = ObjectUrl(bucket, "code/")
        expected = {"train.py": b"print()", "package/__init__.py": b""}

        digest = await objects.keep_code(url)
        fetched = await fetch(objects, url, tmp_path / "job/data")

        assert files_of(objects.snapshot_folder(digest)) == expected
        assert files_of(fetched) == expected

    async def test_an_object_below_an_object_is_refused_by_name(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        account.put(bucket, "code/a", b"x")
        account.put(bucket, "code/a/b", b"x")
        url = ObjectUrl(bucket, "code")

        with pytest.raises(CodeFolderInvalid, match="'a' is an object, and objects lie below it"):
            await objects.keep_code(url)
        with pytest.raises(StoragePathInvalid, match=r"data_url is .* cannot be a file"):
            await fetch(objects, url, tmp_path / "job/data")

    async def test_a_key_with_an_empty_part_is_refused_by_name(
        self, objects: S3Store, account: S3Account, bucket: str, tmp_path: Path
    ) -> None:
        account.put(bucket, "code/a//b", b"x")

        for ask in (
            objects.keep_code(ObjectUrl(bucket, "code")),
            fetch(objects, ObjectUrl(bucket, "code"), tmp_path / "job/data"),
            objects.list_objects(bucket, "code/"),
        ):
            with pytest.raises(StoragePathInvalid, match="code/a//b"):
                await ask

    async def test_a_result_that_can_have_no_key_keeps_no_other_from_being_stored(
        self, objects: S3Store, bucket: str, tmp_path: Path
    ) -> None:
        source = tmp_path / "out"
        source.mkdir()
        for name in ("a", "b\tc", "d"):
            (source / name).write_text(name)

        with pytest.raises(StoragePathInvalid, match="control character"):
            await objects.store_folder(
                source, ObjectUrl(bucket, "out"), field="train_url", progress=Progress()
            )

        assert [info.key for info in await objects.list_objects(bucket, "")] == ["out/a", "out/d"]
        assert files_of(source) == {"b\tc": b"b\tc"}
