"""`muster import`: the history of jobs, in."""

import codecs
import gc
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Final
from zoneinfo import ZoneInfo

import click

from muster.cli.connection import connect
from muster.cli.datafolder import project_option
from muster.cli.history_targets import Batch, Store, Told, into_folder, into_server
from muster.cli.output import NO_FILE, examples, note, printable, progress

if TYPE_CHECKING:
    from muster.domain.history import HistoryRow
    from muster.store.staging import Staging


SHOWN_MAX: Final = 20  # refused lines, beside the file of all of them
STAGED_AT_ONCE: Final = 5_000
STORED_AT_ONCE: Final = 10_000  # rows of one transaction, where nobody else waits
REFUSED_TEXT_MAX: Final = 10_000  # of a line that is repeated in the file of the refused
GC_THRESHOLD: Final = 200_000  # rows are no rings: looking for any among them takes a tenth longer


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
        told = {
            "line": number,
            "error": why,
            "text": text[:REFUSED_TEXT_MAX].decode("utf-8", "replace").rstrip("\r\n"),
        }
        try:
            if self._out is None:
                self._out = self.file.open("wb")
            self._out.write(msgspec.json.encode(told) + b"\n")
        except OSError as error:
            self._do_without(error)

    def close(self) -> None:
        try:
            if self._out is not None:
                self._out.close()
        except OSError as error:
            self._do_without(error)

    def _do_without(self, error: OSError) -> None:
        """What can be taken comes in all the same."""
        note(
            f"{self.file} cannot be written: {error.strerror}. Of refused lines some are told here."
        )
        self.file = None
        if self._out is not None:
            with suppress(OSError):
                self._out.close()


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
@project_option
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
        told = Told()
        target: AbstractContextManager[Store]
        if data is None:
            target = into_server(connect(context), told, pool_as_public=pool_as_public)
        else:
            target = into_folder(
                data, project_name or "default", told, pool_as_public=pool_as_public
            )
        store = opened.enter_context(target)
        try:
            _import(stream, size, store, told, refusals, zone=zone)
        except BaseException as error:
            if _is_unreadable(error, told):
                raise
            more = f", and perhaps some of {told.unanswered:,} more" if told.unanswered else ""
            note(
                f"Not finished: {told.imported:,} versions{more} have come in, and stay."
                " The same command goes on from there."
            )
            raise
    _tell(told, refusals)


def _is_unreadable(error: BaseException, told: Told) -> bool:
    """The file as a whole cannot be taken as it is: the same command would say the same again."""
    from muster.domain.errors import InvalidRequest

    return isinstance(error, InvalidRequest) and not (told.imported or told.unanswered)


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
    store: Store,
    told: Told,
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
        with progress("Reading", size) as advance:
            _stage(
                lines if is_header else _with_first(first, lines), parse, staging, refusals, advance
            )
        for number, earlier, text in staging.take_repeated():
            refusals.add(number, f"it is line {earlier} once more: the same version.", text)
        count = staging.count()
        with (
            progress("Importing", count) as advance,
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
    from muster.domain.sacct import is_sacct_header, sacct_reader
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


def _batches(staging: "Staging") -> Generator[Batch, None, None]:
    from muster.wire.history import unpack_row

    with closing(staging.oldest_first()) as lines:
        while batch := [(number, unpack_row(row)) for number, row in islice(lines, STORED_AT_ONCE)]:
            yield batch


def _tell(told: Told, refusals: _Refusals) -> None:
    for line in refusals.shown:
        note(printable(line))
    if refusals.count > len(refusals.shown):
        note(f"... and {refusals.count - len(refusals.shown):,} more.")
    summary = f"{_counted(told.imported, 'version')} imported"
    if told.present:
        summary += f", {told.present:,} {_were(told.present)} here already"
    if not refusals.count:
        click.echo(f"{summary}.")
        return
    click.echo(f"{summary}, {_counted(refusals.count, 'line')} refused.")
    if refusals.file is not None:
        note(f"All of the refused, with why: {refusals.file}")
    sys.exit(1)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'} {_were(count)}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
