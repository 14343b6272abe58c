"""`muster import` and `muster export`: the history of jobs, in and out."""

import asyncio
import codecs
import gc
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final
from zoneinfo import ZoneInfo

import click

from muster.cli.connection import connect
from muster.cli.datafolder import data_option
from muster.cli.output import console, examples, note, printable

if TYPE_CHECKING:
    from muster.client.client import Client
    from muster.domain.history import HistoryRow
    from muster.store.history import Moved
    from muster.store.staging import Staging

SHOWN_MAX: Final = 20  # refused lines, beside the file of all of them
STAGED_AT_ONCE: Final = 5_000
STORED_AT_ONCE: Final = 10_000  # rows of one transaction, where nobody else waits
SENT_AT_ONCE: Final = 1_000
SENT_BYTES_MAX: Final = 700_000  # a request may have 1 MiB
REFUSED_TEXT_MAX: Final = 10_000  # of a line that is repeated in the file of the refused
NO_FILE: Final = "-"
GC_THRESHOLD: Final = 200_000  # rows are no rings: looking for any among them takes a tenth longer

_project = click.option(
    "--project",
    "project_name",
    help="With --data: the project's name.  [default: default]",
)


@dataclass(slots=True)
class _Refusals:
    """The lines that were not taken: some for the eye, all of them in a file."""

    file: Path | None
    count: int = 0
    shown: list[str] = field(default_factory=list)
    _out: IO[bytes] | None = None

    def add(self, number: int, why: str, text: bytes) -> None:
        import msgspec

        self.count += 1
        if len(self.shown) < SHOWN_MAX:
            self.shown.append(f"line {number}: {why}")
        if self.file is None:
            return
        if self._out is None:
            self._out = self.file.open("wb")
        told = {
            "line": number,
            "error": why,
            "text": text[:REFUSED_TEXT_MAX].decode("utf-8", "replace").rstrip("\r\n"),
        }
        self._out.write(msgspec.json.encode(told) + b"\n")

    def close(self) -> None:
        if self._out is not None:
            self._out.close()


@dataclass(slots=True)
class _Told:
    """What the end of the command tells: what the store has said it holds."""

    imported: int = 0
    present: int = 0
    unanswered: int = 0  # sent to a server that has not answered: they may be in, or come in yet

    def add(self, moved: "Moved") -> None:
        self.imported += moved.imported
        self.present += moved.present


_Line = tuple[int, "HistoryRow"]  # its number in the file, and what it says
_Batch = list[_Line]
# Takes batches, and how many lines are in all of them; tells what became of each. Once it is
# closed, nothing more comes in: `told` is true then.
_Store = Callable[[Iterable[_Batch], int], Generator[tuple[_Batch, "Moved"], None, None]]


@click.command(
    "import",
    epilog=examples(
        "muster import history.jsonl",
        "muster import history.jsonl --data /srv/muster    # 10 times as quick; stop the server",
        "muster import history.jsonl --pool-as-public",
        "sacct -a -S 2020-01-01 --parsable2 --format=JobID,JobName,User,State,ExitCode,Submit,"
        "Start,End,Elapsed,Partition,AllocTRES,NNodes | muster import -",
    ),
)
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Into the data folder of a server that is stopped.  [default: through a running server]",
)
@_project
@click.option(
    "--pool-as-public",
    is_flag=True,
    help="Count what ran in a pool that is not here in the public pool. Without it, such lines are"
    " refused.",
)
@click.option(
    "--timezone", help="Of sacct's times, such as Europe/Berlin.  [default: this machine's]"
)
@click.pass_context
def import_history(
    context: click.Context,
    file: Path,
    data: Path | None,
    project_name: str | None,
    timezone: str | None,
    *,
    pool_as_public: bool,
) -> None:
    """Move in jobs that ran elsewhere, with their times, cards and states; they are counted.

    FILE (- is stdin) has JSON lines as `muster export` writes them, with the fields of the list of
    versions: version_id, job_name, status, create_time, and start_time, end_time, duration,
    version_desc, pool_id, flavor_code, npu_num, gpu_num, job_id, job_desc, workspace_id where they
    are known. Or it is the output of Slurm's `sacct --parsable2`: a name is a job, and each run of
    it a version.

    Only what has ended can come in. A line that came in before is left out, so that the same
    command may be repeated, after Ctrl-C too; but what has been deleted here since comes in again.
    Lines that cannot be taken are told by number and
    kept in FILE.refused.jsonl; the others come in, and the exit code is 1.
    """
    if project_name is not None and data is None:
        raise click.UsageError("--project belongs to --data; credentials are for one project.")
    zone = _zone(timezone)
    with ExitStack() as opened:
        stream = opened.enter_context(_opened(file))
        size = None if str(file) == NO_FILE else file.stat().st_size
        refusals = _Refusals(None if size is None else Path(f"{file}.refused.jsonl"))
        opened.callback(refusals.close)
        told = _Told()
        target: AbstractContextManager[_Store]
        if data is None:
            target = _server(connect(context), told, pool_as_public=pool_as_public)
        else:
            target = _folder(data, project_name or "default", told, pool_as_public=pool_as_public)
        store = opened.enter_context(target)
        try:
            _import(stream, size, store, told, refusals, zone=zone)
        except BaseException:
            more = f", and perhaps some of {told.unanswered:,} more" if told.unanswered else ""
            note(
                f"Not finished: {told.imported:,} versions{more} have come in, and stay."
                " The same command goes on from there."
            )
            raise
    _tell(told, refusals)


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:
        raise click.BadParameter(
            f"{name!r} is no time zone that this machine knows.", param_hint="--timezone"
        ) from error


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == NO_FILE:
        yield sys.stdin.buffer
        return
    try:
        with file.open("rb") as stream:
            yield stream
    except FileNotFoundError as error:
        if error.filename != str(file):
            raise
        raise click.ClickException(f"There is no file {file}.") from error
    except PermissionError as error:
        raise click.ClickException(
            f"{error.filename} cannot be opened: {error.strerror}."
        ) from error


def _import(
    stream: BinaryIO,
    size: int | None,
    store: _Store,
    told: _Told,
    refusals: _Refusals,
    *,
    zone: tzinfo | None,
) -> None:
    """Read and sort all lines, then store them, oldest first: ids ascend with times then."""
    from muster.server import now_ms
    from muster.store.staging import Staging

    gc.set_threshold(GC_THRESHOLD)
    lines = read_lines(stream)
    first = next(lines, None)
    if first is None:
        return
    parse, is_header = _parser(first[1], zone=zone, now_ms=now_ms())
    staging = Staging()
    try:
        with _progress("Reading", size) as advance:
            _stage(
                lines if is_header else _with_first(first, lines), parse, staging, refusals, advance
            )
        for number, earlier, text in staging.take_repeated():
            refusals.add(number, f"it is line {earlier} once more: the same version.", text)
        count = staging.count()
        with (
            _progress("Importing", count) as advance,
            closing(_batches(staging)) as batches,  # before what it reads from
            closing(store(batches, count)) as stored,
        ):
            for batch, moved in stored:
                for place, why in moved.refused:
                    number, _ = batch[place]
                    refusals.add(number, why, staging.text_of(number))
                advance(len(batch))
    finally:
        staging.close()


def _with_first(
    first: tuple[int, bytes], rest: Iterator[tuple[int, bytes]]
) -> Iterator[tuple[int, bytes]]:
    yield first
    yield from rest


def read_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, line) of each line that is not blank; of one that is far too long, its beginning."""
    from muster.wire.history import LINE_BYTES_MAX

    number = 0
    while line := stream.readline(LINE_BYTES_MAX + 2):
        number += 1
        if len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():
            yield number, line


_Parse = Callable[[bytes], "HistoryRow | None"]


def _parser(first: bytes, *, zone: tzinfo | None, now_ms: int) -> tuple[_Parse, bool]:
    """How lines are read; and whether the first one is a header only."""
    from muster.domain.errors import InvalidRequest
    from muster.domain.history import is_sacct_header, sacct_reader
    from muster.wire.history import LINE_BYTES_MAX, decode_line

    header = first.decode("utf-8", "replace")
    if not is_sacct_header(header):
        return partial(decode_line, now_ms=now_ms), False
    read = sacct_reader(header, zone=zone, now_ms=now_ms)

    def parse(line: bytes) -> "HistoryRow | None":
        if len(line) > LINE_BYTES_MAX:
            raise InvalidRequest(f"The line has more than {LINE_BYTES_MAX} bytes.")
        return read(line.decode("utf-8", "replace"))

    return parse, True


def _stage(
    lines: Iterable[tuple[int, bytes]],
    parse: _Parse,
    staging: "Staging",
    refusals: _Refusals,
    advance: Callable[[int], None],
) -> None:
    from muster.domain.errors import InvalidRequest
    from muster.store.staging import StagedLine
    from muster.wire.history import pack_row

    staged: list[StagedLine] = []
    read = 0
    for number, text in lines:
        read += len(text)
        try:
            row = parse(text)
        except InvalidRequest as error:
            refusals.add(number, error.message, text)
            continue
        if row is not None:
            staged.append(StagedLine(number, row.source, row.created_at_ms, pack_row(row), text))
        if len(staged) == STAGED_AT_ONCE:
            staging.add(staged)
            advance(read)
            staged, read = [], 0
    staging.add(staged)
    advance(read)


def _batches(staging: "Staging") -> Generator[_Batch, None, None]:
    from muster.wire.history import unpack_row

    with closing(staging.oldest_first()) as lines:
        while batch := [(number, unpack_row(row)) for number, row in islice(lines, STORED_AT_ONCE)]:
            yield batch


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=console(is_error=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda by: progress.update(task, advance=by)


# ------------------------------------------------------------------ where it goes


@contextmanager
def _folder(
    data: Path, project_name: str, told: _Told, *, pool_as_public: bool
) -> Iterator[_Store]:
    """Straight into a data folder that no server uses meanwhile."""
    from muster.server import locked_data_folder, now_ms
    from muster.settings import load_settings
    from muster.store import bulk, identity
    from muster.store.addressed import open_database
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
    if isinstance(settings.store, Path) and not settings.store.is_file():
        raise click.ClickException(
            f"There is no muster in {settings.data}; start `muster serve` on it once."
        )
    embedded = settings.store if isinstance(settings.store, Path) else None
    with locked_data_folder(settings.data), ExitStack() as opened:
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
            batches: Iterable[_Batch], count: int
        ) -> Generator[tuple[_Batch, "Moved"], None, None]:
            """One batch is read while the one before it is written."""
            if embedded is not None:
                begin(bulk.take_memory).result()
            is_put_off = embedded is None  # only there it can be
            under_way: deque[tuple[_Batch, Future[Moved]]] = deque()

            def written() -> tuple[_Batch, "Moved"]:
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
        with _progress("Indexing", None) as advance:
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
def _server(
    client: "AbstractContextManager[Client]", told: _Told, *, pool_as_public: bool
) -> Iterator[_Store]:
    """Through a running server, some lines a request, so that nobody else has to wait."""
    from muster.store.history import Moved
    from muster.wire.history import encode_line

    with client as connected:

        def send(lines: list[bytes], places: list[int], moved: "Moved") -> None:
            if not lines:
                return
            told.unanswered = len(lines)
            answer: dict[str, Any] = connected.import_history(
                b"".join(lines), pool_as_public=pool_as_public
            )
            told.add(Moved(answer["imported"], answer["present"]))
            told.unanswered = 0
            moved.refused += [
                (places[line["line"] - 1], line["error_msg"]) for line in answer["refused"]
            ]

        def store(
            batches: Iterable[_Batch], _: int
        ) -> Generator[tuple[_Batch, "Moved"], None, None]:
            for batch in batches:
                for start in range(0, len(batch), SENT_AT_ONCE):
                    part = batch[start : start + SENT_AT_ONCE]
                    yield part, send_all(part)

        def send_all(batch: _Batch) -> "Moved":
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


def _tell(told: _Told, refusals: _Refusals) -> None:
    for line in refusals.shown:
        note(printable(line))
    if refusals.count > len(refusals.shown):
        note(f"... and {refusals.count - len(refusals.shown):,} more.")
    summary = f"{told.imported:,} versions were imported"
    if told.present:
        summary += f", {told.present:,} were here already"
    if not refusals.count:
        click.echo(f"{summary}.")
        return
    click.echo(f"{summary}, {refusals.count:,} lines were refused.")
    if refusals.file is not None:
        note(f"All of the refused, with why: {refusals.file}")
    sys.exit(1)


# ------------------------------------------------------------------ out


@click.command(
    "export",
    epilog=examples(
        "muster export history.jsonl",
        "muster export history.jsonl --data /srv/muster",
        "muster export - | muster import - --data /srv/another",
    ),
)
@click.argument(
    "file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@data_option
@_project
@click.pass_context
def export_history(
    context: click.Context, file: Path, data: Path | None, project_name: str | None
) -> None:
    """Write every version that has ended as JSON lines, as `muster import` takes them.

    All of them are of one moment. FILE is there once it is complete; - is stdout. With --data it is
    read from the data folder, beside a running server too; else the server is asked. Code, logs and
    results are not in it: `muster backup` keeps the database, and folders can be copied.
    """
    if project_name is not None and data is None:
        raise click.UsageError("--project belongs to --data; credentials are for one project.")
    chunks: AbstractContextManager[Iterable[bytes]]
    if data is None:
        chunks = _from_server(connect(context))
    else:
        chunks = _from_folder(data, project_name or "default")
    with chunks as pieces:
        if str(file) == NO_FILE:
            out = sys.stdout.buffer
            count = _write_all(pieces, out)
            out.flush()
        else:
            count = _write_whole(pieces, file)
    note(f"{count:,} versions were exported.")


def _write_whole(pieces: Iterable[bytes], file: Path) -> int:
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as out:
            count = _write_all(pieces, out)
        part.replace(file)
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)
    return count


def _write_all(pieces: Iterable[bytes], out: IO[bytes]) -> int:
    count = 0
    for piece in pieces:
        out.write(piece)
        count += piece.count(b"\n")
    return count


@contextmanager
def _from_server(client: "AbstractContextManager[Client]") -> Iterator[Iterable[bytes]]:
    with client as connected:
        yield connected.export_history()


@contextmanager
def _from_folder(data: Path, project_name: str) -> Iterator[Iterable[bytes]]:
    from muster.settings import load_settings
    from muster.store import identity
    from muster.store.addressed import open_snapshot, require_store
    from muster.store.backup import schema_of
    from muster.store.history import stream_history
    from muster.wire.history import encode_line

    settings = load_settings(data, {})
    require_store(settings.store)
    with open_snapshot(settings.store) as connection:
        if isinstance(settings.store, Path):
            schema_of(connection)  # of a newer muster, it may mean something else
        ids = {project.name: project.id for project in identity.list_projects(connection)}
        if project_name not in ids:
            raise click.ClickException(
                f"There is no project {project_name!r}; there are {', '.join(sorted(ids))}."
            )
        yield (
            b"".join(map(encode_line, rows))
            for rows in stream_history(connection, ids[project_name])
        )
