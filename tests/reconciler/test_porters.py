"""A node that moves objects, and the server that has it do so: both sides as they are."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from muster.engines import porter as node
from muster.engines import shim
from muster.objects.porter import Fetch, Send
from muster.objects.store import Progress
from muster.reconciler import porters
from muster.reconciler.porters import NodePorter, has_porter, is_done, porter_of


@dataclass
class Store:
    """Answers at addresses like http://.../KEY?TOKEN; some tokens, or keys, it refuses."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    failing: Counter[str] = field(default_factory=Counter)  # so many times, as servers do
    asked: list[str] = field(default_factory=list)

    def address(self, key: str, token: str = "good") -> str:  # noqa: S107
        return f"{self.url}/{key}?{token}"


@pytest.fixture
def store() -> Iterator[Store]:
    found = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            key, _, token = self.path[1:].partition("?")
            found.asked.append(f"{self.command} {key} {self.headers.get('Range', '')}".strip())
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = 200, b""
            if found.failing[key] > 0:
                found.failing[key] -= 1
                status = 503
            elif token in found.refused:
                status = 403
            elif self.command == "PUT":
                found.objects[key] = body
            else:
                answer = found.objects[key]
                if start := self.headers.get("Range", "").removeprefix("bytes=").rstrip("-"):
                    status, answer = 206, answer[int(start) :]
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("ETag", '"etag"')
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.url = "http://{}:{}".format(*server.server_address)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (node, porters):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(node, "BEAT_SECONDS", 0.005)
    monkeypatch.setattr(node, "BACKOFF_SECONDS", 0.001)


@asynccontextmanager
async def served(folder: Path, way: str) -> AsyncIterator[Path]:
    """A node at work, until it is told that all is over."""
    moves = folder / node.MOVES_FOLDER / way
    moves.mkdir(parents=True, exist_ok=True)
    thread = asyncio.create_task(asyncio.to_thread(node.serve, str(moves), leaves_when_idle=False))
    try:
        yield moves
    finally:
        shim.write_json(str(moves / node.OVER_FILE), {})
        await thread


def fetch(folder: Path, path: str, size: int) -> Fetch:
    root = folder / "fetched"
    root.mkdir(exist_ok=True)
    part = str(folder / f"{path.replace('/', '-')}.part")
    return Fetch(root=str(root), path=path, part=part, size=size, etag='"e"', modified_ns=7)


def signer(*addresses: str) -> Callable[[], "asyncio.Future[str]"]:
    """Each in its turn, and then the last one."""
    left = list(addresses)

    async def sign() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return sign  # type: ignore[return-value]


async def carried(porter: NodePorter | None, errand: Fetch | Send, *addresses: str) -> str | None:
    assert porter is not None
    async with asyncio.timeout(30):
        return await porter.carry(errand, signer(*addresses))


@pytest.mark.asyncio
async def test_a_node_moves_what_it_is_given_and_counts_it(tmp_path: Path, store: Store) -> None:
    store.objects = {f"k{number}": bytes([number]) * 1000 for number in range(100)}
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "result").write_bytes(b"weights")
    progress = Progress()

    async with served(tmp_path, "in"), porter_of(tmp_path, "in", progress) as porter:
        assert progress.is_carried
        etags = await asyncio.gather(
            *(
                carried(porter, fetch(tmp_path, f"deep/{key}", 1000), store.address(key))
                for key in store.objects
            )
        )
        send = Send(
            root=str(tmp_path / "output"), path="result", size=7, start=0, length=7, removes=True
        )
        assert await carried(porter, send, store.address("out")) == '"etag"'

    assert set(etags) == {""}
    for key in [f"k{number}" for number in range(100)]:
        file = tmp_path / "fetched" / "deep" / key
        assert file.read_bytes() == store.objects[key]
        assert file.stat().st_mtime_ns == 7
    assert store.objects["out"] == b"weights"
    assert not (tmp_path / "output" / "result").exists()
    assert not progress.is_carried
    assert len(store.asked) == 101


@pytest.mark.asyncio
async def test_half_a_file_is_gone_on_with(tmp_path: Path, store: Store) -> None:
    store.objects = {"k": b"0123456789"}
    errand = fetch(tmp_path, "k", 10)
    (tmp_path / "k.part").write_bytes(b"0123")

    async with served(tmp_path, "in"), porter_of(tmp_path, "in", Progress()) as porter:
        assert await carried(porter, errand, store.address("k")) == ""

    assert (tmp_path / "fetched" / "k").read_bytes() == b"0123456789"
    assert store.asked == ["GET k bytes=4-"]


@pytest.mark.asyncio
async def test_what_fails_in_passing_is_asked_for_again(tmp_path: Path, store: Store) -> None:
    store.objects = {"k": b"0123456789"}
    store.failing["k"] = node.TRIES - 1

    async with served(tmp_path, "in"), porter_of(tmp_path, "in", Progress()) as porter:
        assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k")) == ""

    assert len(store.asked) == node.TRIES


@pytest.mark.asyncio
async def test_an_address_that_was_too_late_is_signed_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(porters, "LATE_SECONDS", 0.0)
    store.objects, store.refused = {"k": b"0123456789"}, {"late"}
    addresses = store.address("k", "late"), store.address("k")

    async with served(tmp_path, "in"), porter_of(tmp_path, "in", Progress()) as porter:
        assert await carried(porter, fetch(tmp_path, "k", 10), *addresses) == ""

    assert store.asked == ["GET k"] * 2


@pytest.mark.asyncio
async def test_what_s3_refuses_in_time_is_the_servers_to_find_out_about(
    tmp_path: Path, store: Store
) -> None:
    store.objects, store.refused = {"k": b"0123456789"}, {"bad"}

    async with served(tmp_path, "in"), porter_of(tmp_path, "in", Progress()) as porter:
        assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k", "bad")) is None
        assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k")) == ""


@pytest.mark.asyncio
async def test_a_node_that_fails_again_and_again_is_given_nothing_more(
    tmp_path: Path, store: Store
) -> None:
    store.objects, store.refused = {"k": b"0123456789"}, {"bad"}
    progress = Progress()

    async with served(tmp_path, "in"), porter_of(tmp_path, "in", progress) as porter:
        for _ in range(porters.FAILURES_MAX + 2):
            errand = fetch(tmp_path, "k", 10)
            assert await carried(porter, errand, store.address("k", "bad")) is None
        assert not progress.is_carried

    assert len(store.asked) == porters.FAILURES_MAX


@pytest.mark.asyncio
async def test_a_node_that_is_silent_is_given_up(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(porters, "SILENCE_SECONDS", 0.05)
    progress = Progress()

    async with porter_of(tmp_path, "out", progress) as porter:
        assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k")) is None

        assert not progress.is_carried
    assert store.asked == []
    assert not has_porter(tmp_path, "out")


@pytest.mark.asyncio
async def test_a_node_without_errands_leaves_and_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(node, "IDLE_SECONDS", 0.02)
    moves = tmp_path / node.MOVES_FOLDER / "out"

    await asyncio.to_thread(node.serve, str(moves), leaves_when_idle=True)

    assert not has_porter(tmp_path, "out")
    async with porter_of(tmp_path, "out", Progress()) as porter:
        assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k")) is None


@pytest.mark.asyncio
async def test_one_that_takes_the_place_of_another_gets_its_errands(
    tmp_path: Path, store: Store
) -> None:
    store.objects = {"k": b"0123456789"}
    moves = tmp_path / node.MOVES_FOLDER / "in"

    async with porter_of(tmp_path, "in", Progress()) as porter:
        first = {"who": "one", "beat": 1, "bytes": 0, "has_left": False}
        shim.write_json(str(moves / node.ALIVE_FILE), first)
        waiting = asyncio.create_task(carried(porter, fetch(tmp_path, "k", 10), store.address("k")))
        while not (orders := list(moves.glob(f"{node.ORDER}*.json"))):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        for order in orders:
            order.unlink()  # read by one that was killed then
        await asyncio.sleep(0.02)
        async with served(tmp_path, "in"):
            assert await waiting == ""


@pytest.mark.asyncio
async def test_a_new_server_goes_on_with_the_node_of_the_old_one(
    tmp_path: Path, store: Store
) -> None:
    store.objects = {"k": b"0123456789"}
    async with served(tmp_path, "in") as moves:
        async with porter_of(tmp_path, "in", Progress()) as porter:
            assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k")) == ""
        assert has_porter(tmp_path, "in")
        async with porter_of(tmp_path, "in", Progress()) as porter:
            assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k")) == ""
            assert not is_done(tmp_path, "in")
            assert porter is not None
            await porter.dismiss()
        assert is_done(tmp_path, "in")
    assert json.loads((moves / node.ALIVE_FILE).read_text())["bytes"] == 20


@pytest.mark.parametrize("forged", ["", "[]", '{"told": 1}', '{"told": [{"name": "other"}]}'])
@pytest.mark.asyncio
async def test_what_a_job_may_have_written_there_does_no_harm(
    tmp_path: Path, store: Store, forged: str
) -> None:
    store.objects = {"k": b"0123456789"}
    async with served(tmp_path, "in") as moves, porter_of(tmp_path, "in", Progress()) as porter:
        (moves / f"{node.TOLD}forged.json").write_text(forged)
        (moves / f"{node.TOLD}link.json").symlink_to(tmp_path)
        assert await carried(porter, fetch(tmp_path, "k", 10), store.address("k")) == ""


@pytest.mark.asyncio
async def test_where_a_job_has_put_something_in_its_place_there_is_no_node(tmp_path: Path) -> None:
    (tmp_path / node.MOVES_FOLDER).write_text("not a folder")
    progress = Progress()

    async with porter_of(tmp_path, "out", progress) as porter:
        assert porter is None
        assert not progress.is_carried


def test_results_are_weighed_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "output" / "deep").mkdir(parents=True)
    (tmp_path / "output" / "deep" / "x").write_bytes(bytes(60))
    (tmp_path / "outside").write_bytes(bytes(1000))
    (tmp_path / "output" / "link").symlink_to(tmp_path / "outside")

    def weighs(byte_count: int) -> bool:
        return node.has_results(str(tmp_path), ["output", "outputs/none"], byte_count)

    assert weighs(60)
    assert not weighs(61)
