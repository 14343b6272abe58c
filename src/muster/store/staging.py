"""Lines on their way in, to be sorted and held against one another before anything is stored."""

import sqlite3
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from muster.domain.errors import StoreUnavailable
from muster.store.statements import load_statements

SQL: Final = load_statements("staging")


class StagedLine(NamedTuple):
    number: int  # in the file it came from
    source: str
    created_at_ms: int
    row: bytes  # what it says, packed
    text: bytes


class Staging:
    """Any number of lines in little memory: in a file of SQLite's own, gone with the process."""

    def __init__(self) -> None:
        with _told():
            self._connection = sqlite3.connect("", isolation_level=None)
            for setting in ("journal_mode = OFF", "synchronous = OFF"):
                self._connection.execute(f"PRAGMA {setting}")
            self._connection.execute(SQL["create_lines"])

    def close(self) -> None:
        self._connection.close()

    def add(self, lines: Iterable[StagedLine]) -> None:
        with _told():
            self._connection.execute("BEGIN")
            self._connection.executemany(SQL["insert_line"], lines)
            self._connection.execute("COMMIT")

    def text_of(self, number: int) -> bytes:
        with _told():
            [text] = self._connection.execute(SQL["text_of_line"], (number,)).fetchone()
        return bytes(text)

    def take_repeated(self) -> Iterator[tuple[int, int, bytes]]:
        """Take out lines whose source an earlier line has: (number, the earlier one, text)."""
        with _told():
            self._connection.execute(SQL["index_sources"])
            for number, first, text in self._connection.execute(SQL["list_repeated"]).fetchall():
                self._connection.execute(SQL["delete_line"], (number,))
                yield number, first, text

    def count(self) -> int:
        [count] = self._connection.execute(SQL["count_lines"]).fetchone()
        return int(count)

    def oldest_first(self) -> Generator[tuple[int, bytes], None, None]:
        """(number, row) of each line that is left. To be closed before this is."""
        with _told():
            yield from self._connection.execute(SQL["list_lines"])


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"The lines cannot be sorted ({error}). Is there room in {tempfile.gettempdir()}?"
            " SQLITE_TMPDIR names another folder. Nothing more was imported."
        ) from error
