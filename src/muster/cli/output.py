"""How the commands print: tables, times and durations for people, JSON for programs."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from muster.cli.status import style_of, word_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Into a pipe or a file, a table is as wide as it needs to be: nothing is cut off.
PIPE_WIDTH: Final = 4096
NOTHING: Final = "-"
NO_FILE: Final = "-"  # as the name of a file: stdin, or stdout


def print_json(answer: object) -> None:
    """The server's answer as it is, laid out for reading."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2))


def console(*, is_error: bool = False) -> "Console":
    from rich.console import Console

    stream = sys.stderr if is_error else sys.stdout
    return Console(
        file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, markup=False
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()
) -> "Table":
    """A table to print.

    Args:
        columns: their titles.
        rows: cells, each text, a number, a rich Text or None.
        right: titles of the columns that hold numbers.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in columns:
        made.add_column(title, justify="right" if title in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(cell, row))
    return made


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Collection[str] = ()
) -> None:
    _print(table(columns, rows, right=right))


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line. Those without a value are left out."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in facts:
        if value not in (None, ""):
            grid.add_row(cell(name), cell(value))
    _print(grid)


def _print(made: "Table") -> None:
    out = console()
    with out.capture() as capture:
        out.print(made)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())  # a table pads its last column too


def cell(value: object) -> "Text":
    from rich.text import Text

    if isinstance(value, Text):
        return value
    return Text(NOTHING if value in (None, "") else printable(str(value)))


def lines(text: str | None) -> "Text | None":
    """A cell of several lines, such as the end of a log; None: there is nothing to tell."""
    from rich.text import Text

    return Text("\n".join(map(printable, text.splitlines()))) if text else None


def printable(text: str) -> str:
    """Text without what a terminal would take for a command: names are chosen by other people."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def status_text(status: int) -> "Text":
    from rich.text import Text

    return Text(word_of(status), style=style_of(status))


def when(epoch_ms: int | None) -> str:
    """A time in this machine's time zone."""
    if not epoch_ms:
        return NOTHING
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def duration(elapsed_ms: int | None) -> str:
    """An elapsed time in its two largest units; a dash for what has not begun."""
    if not elapsed_ms:
        return NOTHING
    if elapsed_ms < 9_950:
        return f"{elapsed_ms / 1000:.1f} s"
    seconds = round(elapsed_ms / 1000)
    for size, unit, smaller_size, smaller_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller_size} {smaller_unit}"
    return f"{seconds} s"


def note(text: str) -> None:
    """A line beside the output proper; it never mixes with what a pipe receives."""
    click.echo(text, err=True)


yes_option = click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")


def ask(question: str, *, is_sure: bool) -> None:
    """Before something is lost. Without a yes, of a person or of what is piped in, nothing is."""
    if not is_sure:
        click.confirm(question, abort=True, err=True)


def examples(*lines: str) -> str:
    """The end of a command's help."""
    # The control character keeps click from filling the lines as one paragraph.
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import Progress

    with Progress(console=console(is_error=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda by: bar.update(task, advance=by)
