"""Nodes that move the objects of their jobs, as the leading server sees them.

`engines/porter.py` is what runs there; it names the files that both sides keep in the job folder. A
node that is silent, or fails, is given up for this transfer: the server does the rest itself.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from muster.engines import porter as node
from muster.engines import shim
from muster.engines.attemptfiles import read_state
from muster.objects.porter import SIGNED_SECONDS, Errand, name_of
from muster.objects.store import Progress

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.1  # between two looks for what a node has told
SILENCE_SECONDS: Final = 15.0  # without a sign of life, until a node is given up
FAILURES_MAX: Final = 3  # in a row: it may not reach S3 at all
ERRANDS_MAX: Final = 64  # under way
LATE_SECONDS: Final = SIGNED_SECONDS - 60  # from then on a refusal may be of the address alone
FORBIDDEN: Final = 403  # S3's word for an address that was too late, among others


class Alive(msgspec.Struct, frozen=True):
    """A node's sign of life."""

    who: str  # another one knows nothing of the errands of the one before
    beat: int
    bytes: int
    has_left: bool


class Told(msgspec.Struct, frozen=True):
    """What became of an errand."""

    name: str
    etag: str = ""
    status: int = 0  # of S3's answer, where it has refused it
    trouble: str = ""


class _ToldFile(msgspec.Struct, frozen=True):
    told: list[Told]


@asynccontextmanager
async def porter_of(
    folder: Path, way: str, progress: Progress
) -> AsyncIterator["NodePorter | None"]:
    """Whoever moves objects on a node of the job in `folder`, be it there already or not.

    None: there can be none. A job may have put anything in the place of the folder that both need.
    """
    moves = folder / node.MOVES_FOLDER / way
    try:
        await asyncio.to_thread(_clear, moves)
    except OSError as error:
        log.warning("node_not_reached", folder=str(moves), why=str(error))
        yield None
        return
    porter = NodePorter(moves, progress)
    exchanging = asyncio.create_task(porter.exchange())
    try:
        yield porter
    finally:
        porter.give_up()
        exchanging.cancel()
        await asyncio.wait({exchanging})


def has_porter(folder: Path, way: str) -> bool:
    """One has come, and has not said that it leaves."""
    alive = read_state(folder / node.MOVES_FOLDER / way / node.ALIVE_FILE, Alive)
    return alive is not None and not alive.has_left


def is_done(folder: Path, way: str) -> bool:
    """A server has had everything moved."""
    return node.is_over(str(folder / node.MOVES_FOLDER / way))


def _clear(folder: Path) -> None:
    """Drop what an earlier server has left: what it was not told of is found in other ways."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.name.startswith((node.ORDER, node.TOLD)):
            file.unlink(missing_ok=True)


class NodePorter:
    """Keeps the promises of `objects.porter.Porter`."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.memory = folder
        self.lanes = asyncio.Semaphore(ERRANDS_MAX)
        self._progress = progress
        self._progress.is_carried = True
        self._is_there = True
        self._failures = 0
        self._orders: list[str] = []  # names of what is to be written
        self._given: dict[str, tuple[dict[str, object], asyncio.Future[Told | None]]] = {}

    async def carry(self, errand: Errand, sign: Callable[[], Awaitable[str]]) -> str | None:
        loop = asyncio.get_running_loop()
        while self._is_there:
            signed_at = loop.time()
            told = await self._give(errand, await sign())
            if told is None:
                return None
            if not told.trouble:
                self._failures = 0
                return told.etag
            is_late = told.status == FORBIDDEN and loop.time() - signed_at >= LATE_SECONDS
            if not is_late:
                self._note_failure(told)
                return None
        return None

    async def _give(self, errand: Errand, address: str) -> Told | None:
        if not self._is_there:
            return None
        name = name_of(errand)
        content = {**msgspec.to_builtins(errand), "name": name, "address": address}
        answer: asyncio.Future[Told | None] = asyncio.get_running_loop().create_future()
        self._given[name] = content, answer
        self._orders.append(name)
        return await answer

    def _note_failure(self, told: Told) -> None:
        self._failures += 1
        # Nothing of its words gets to users: the server finds out itself, and tells in its own.
        log.info("node_has_not_moved_object", folder=str(self.memory), why=told.trouble)
        if self._failures >= FAILURES_MAX:
            self.give_up()

    def give_up(self) -> None:
        """Let the server do whatever is left."""
        self._is_there = False
        self._progress.is_carried = False
        for _, answer in self._given.values():
            if not answer.done():
                answer.set_result(None)
        self._given.clear()

    async def dismiss(self) -> None:
        """All is moved: the tasks may start, or the node may go."""
        over = str(self.memory / node.OVER_FILE)
        await asyncio.to_thread(shim.write_json, over, {})

    async def exchange(self) -> None:
        """Give errands, and take in what became of them, until the node is given up."""
        loop = asyncio.get_running_loop()
        last: Alive | None = None
        heard_at = loop.time()
        while self._is_there:
            names, self._orders = self._orders, []
            orders = [self._given[name][0] for name in names if name in self._given]
            try:
                told, alive = await asyncio.to_thread(_exchange, self.memory, orders)
            except OSError as error:
                log.warning("node_not_reached", folder=str(self.memory), why=str(error))
                break
            for one in told:
                self._take_in(one)
            if alive is not None and alive != last:
                heard_at = loop.time()
                self._note_life(alive, last)
                last = alive
            if loop.time() - heard_at > SILENCE_SECONDS or (alive is not None and alive.has_left):
                break
            await asyncio.sleep(LOOK_SECONDS)
        self.give_up()

    def _take_in(self, told: Told) -> None:
        _, answer = self._given.pop(told.name, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(told)

    def _note_life(self, alive: Alive, last: Alive | None) -> None:
        if last is None:
            return
        if alive.who == last.who:
            self._progress.byte_count += alive.bytes - last.bytes
        else:
            self._orders = list(self._given)


def _exchange(folder: Path, orders: Sequence[dict[str, object]]) -> tuple[list[Told], Alive | None]:
    """Write errands; read, and drop, what the node has told."""
    if orders:
        # By name, it must not look like an order before it is whole.
        draft = folder / f".{uuid.uuid4().hex}"
        draft.write_bytes(msgspec.json.encode({"errands": orders}))
        draft.replace(folder / f"{node.ORDER}{draft.name[1:]}.json")
    # First: what it has told before it left is there by then.
    alive = read_state(folder / node.ALIVE_FILE, Alive)
    told: list[Told] = []
    for file in list(folder.glob(f"{node.TOLD}*.json")):
        found = read_state(file, _ToldFile)
        told += [] if found is None else found.told
        with suppress(FileNotFoundError):
            file.unlink()
    return told, alive
