"""Where `muster import` puts what it has read: a data folder, or a running server."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.output import note, progress

if TYPE_CHECKING:
    from muster.client.client import Client
    from muster.domain.history import HistoryRow
    from muster.store.history import Moved

SENT_AT_ONCE: Final = 1_000
SENT_BYTES_MAX: Final = 700_000  # a request may have 1 MiB
STORE_AWAY: Final = 503
AWAY_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # between questions, while a store is away


@dataclass(slots=True)
class Told:
    """What the end of the command tells: what the store has said it holds."""

    imported: int = 0
    present: int = 0
    unanswered: int = 0  # sent to a server that has not answered: they may be in, or come in yet

    def add(self, moved: "Moved") -> None:
        self.imported += moved.imported
        self.present += moved.present


Line = tuple[int, "HistoryRow"]  # its number in the file, and what it says
Batch = list[Line]
# Takes batches, and how many lines are in all of them; tells what became of each. Once it is
# closed, nothing more comes in: `told` is true then.
Store = Callable[[Iterable[Batch], int], Generator[tuple[Batch, "Moved"], None, None]]


@contextmanager
def into_folder(
    data: Path, project_name: str, told: Told, *, pool_as_public: bool
) -> Iterator[Store]:
    """Straight into a data folder that no server uses meanwhile."""
    from muster.datafolder import locked_data_folder
    from muster.server import now_ms
    from muster.settings import load_settings
    from muster.store import bulk, identity
    from muster.store.addressed import open_database, require_current_store
    from muster.store.connection import Connection
    from muster.store.history import insert_history

    def find_project(connection: Connection) -> str:
        for project in identity.list_projects(connection):
            if project.name == project_name:
                return project.id
        raise click.ClickException(
            f"There is no project {project_name!r}; `muster project list` shows what there is."
        )

    settings = load_settings(data, {})
    require_current_store(settings.store)
    embedded = settings.database_file
    with locked_data_folder(settings.data, database=embedded), ExitStack() as opened:
        if embedded is not None:
            opened.callback(_make_indexes, embedded)  # once the database is closed
        loop = opened.enter_context(_loop_beside())
        database = open_database(settings.store)
        opened.callback(database.close)

        def begin(work: Callable[..., Any], *args: Any, **kwargs: Any) -> "Future[Any]":
            return asyncio.run_coroutine_threadsafe(database.write(work, *args, **kwargs), loop)

        async def write(rows: "list[HistoryRow]") -> "Moved":
            moved = await database.write(
                insert_history,
                project_id,
                rows,
                actor="muster",
                now_ms=now_ms(),
                pool_as_public=pool_as_public,
            )
            told.add(moved)  # here: whoever waits for it may be interrupted
            return moved

        def store(
            batches: Iterable[Batch], count: int
        ) -> Generator[tuple[Batch, "Moved"], None, None]:
            """One batch is read while the one before it is written."""
            if embedded is not None:
                begin(bulk.take_memory).result()
            is_put_off = embedded is None  # only there it can be
            under_way: deque[tuple[Batch, Future[Moved]]] = deque()

            def written() -> tuple[Batch, "Moved"]:
                batch, writing = under_way[0]
                moved: Moved = writing.result()
                under_way.popleft()
                return batch, moved

            try:
                for batch in batches:
                    rows = [row for _, row in batch]
                    writing = asyncio.run_coroutine_threadsafe(write(rows), loop)
                    under_way.append((batch, writing))
                    if len(under_way) == 1:
                        continue
                    before, moved = written()
                    count -= len(before)
                    # Not before something new is there: all of it may have come in earlier.
                    if moved.imported and not is_put_off:
                        is_put_off = begin(bulk.put_off_if_worth_it, count).result()
                    yield before, moved
                while under_way:
                    yield written()
            finally:
                # What was begun comes in, or does not, before anybody is told how much has.
                asyncio.run_coroutine_threadsafe(_others_done(), loop).result()

        finding = database.read(find_project)
        project_id = asyncio.run_coroutine_threadsafe(finding, loop).result()
        yield store


async def _others_done() -> None:
    """Wait for everything else that this event loop has begun."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


def _make_indexes(file: Path) -> None:
    """Those that were put off, however the import ended."""
    from muster.domain.errors import StoreUnavailable
    from muster.store.sqlite import make_put_off_indexes

    try:
        with progress("Indexing", None) as advance:
            make_put_off_indexes(file, lambda _: advance(1))
    except (KeyboardInterrupt, StoreUnavailable):
        note("Some indexes are not made yet: `muster migrate` makes them, or the next start does.")
        raise


@contextmanager
def _loop_beside() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="import-loop")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def into_server(
    client: "AbstractContextManager[Client]", told: Told, *, pool_as_public: bool
) -> Iterator[Store]:
    """Through a running server, some lines a request, so that nobody else has to wait."""
    from muster.store.history import Moved
    from muster.wire.history import encode_line

    with client as connected:

        def send(lines: list[bytes], places: list[int], moved: "Moved") -> None:
            if not lines:
                return
            told.unanswered = len(lines)
            answer = _once_it_is_back(
                lambda: connected.import_history(b"".join(lines), pool_as_public=pool_as_public)
            )
            told.add(Moved(answer["imported"], answer["present"]))
            told.unanswered = 0
            moved.refused += [
                (places[line["line"] - 1], line["error_msg"]) for line in answer["refused"]
            ]

        def store(batches: Iterable[Batch], _: int) -> Generator[tuple[Batch, "Moved"], None, None]:
            for batch in batches:
                for start in range(0, len(batch), SENT_AT_ONCE):
                    part = batch[start : start + SENT_AT_ONCE]
                    yield part, send_all(part)

        def send_all(batch: Batch) -> "Moved":
            moved = Moved()
            lines: list[bytes] = []
            places: list[int] = []
            size = 0
            for place, (_, row) in enumerate(batch):
                line = encode_line(row)
                if len(lines) == SENT_AT_ONCE or size + len(line) > SENT_BYTES_MAX:
                    send(lines, places, moved)
                    lines, places, size = [], [], 0
                lines.append(line)
                places.append(place)
                size += len(line)
            send(lines, places, moved)
            return moved

        yield store


def _once_it_is_back(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the server answers, once its store does. To ask twice brings nothing in twice."""
    from muster.client.errors import ApiError

    for seconds in (*AWAY_SECONDS, None):
        try:
            return ask()
        except ApiError as error:
            if error.status != STORE_AWAY or seconds is None:
                raise
            time.sleep(seconds)
    raise AssertionError
