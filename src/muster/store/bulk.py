"""Many rows at once into the embedded file: its indexes are put off until all of them are in.

An index that is made once, from sorted rows, costs a tenth of one that each row is put into. Which
ones are missing stands in the database, in a table that is there only then; it changes in the same
transactions as they do. So whoever opens the file next makes them, however the import ended.

For a file that nobody else uses: lists ask for these indexes by name.
"""

import logging
import sqlite3
from collections.abc import Callable
from typing import Final

from muster.store.connection import Connection
from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("bulk")

log = logging.getLogger(__name__)  # a command says it on stderr, too

CACHE_KIB: Final = 128 << 10  # what came in earlier is looked for in all of it
WAL_PAGES: Final = 16_384  # 64 MiB: a page that changes again and again is copied once
ROWS_MIN: Final = 10_000  # below, it does not matter
ROWS_TO_ONE: Final = 4  # a row put into all indexes costs as much as some made anew in them


def take_memory(tx: Transaction) -> None:
    """Let the writer keep more pages, in memory and in the log. For as long as it is open."""
    tx.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    tx.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")


def put_off_if_worth_it(tx: Transaction, rows: int) -> bool:
    """Put indexes off if this many rows come in sooner with all of them made anew afterwards."""
    [present] = tx.execute(SQL["count_rows"]).fetchone()
    is_worth_it = rows >= ROWS_MIN and rows * ROWS_TO_ONE >= int(present)
    if is_worth_it:
        put_off_indexes(tx)
    return is_worth_it


def put_off_indexes(tx: Transaction) -> None:
    """Drop the indexes that nothing needs while rows come in, and note them."""
    indexes = tx.execute(SQL["list_indexes"]).fetchall()
    tx.execute(SQL["create_put_off"])
    for name, sql in indexes:
        tx.execute(SQL["insert_put_off"], (name, sql))
        tx.execute(f'DROP INDEX "{name}"')


def list_put_off(connection: Connection) -> list[str]:
    """The names of indexes that are still to be made."""
    [is_there] = connection.execute(SQL["has_put_off"]).fetchone()
    return [name for name, _ in connection.execute(SQL["list_put_off"])] if is_there else []


def list_index_names(connection: Connection) -> frozenset[str]:
    """Of the indexes that are there, but those that a UNIQUE in a table makes."""
    return frozenset(name for (name,) in connection.execute(SQL["list_index_names"]))


def make_all_indexes(
    connection: sqlite3.Connection, advance: Callable[[str], None] | None = None
) -> None:
    """Make those that an import has put off. Each start calls it first; not in a transaction.

    Args:
        connection: of the file.
        advance: told the name of each that is made. None: it is a surprise, and logged.
    """
    names = list_put_off(connection)
    if not names:
        return
    if advance is None:
        log.warning("An import was cut off: %d indexes are made now.", len(names))
    # Rows are sorted for them in a file of their own: in memory, any number would have to fit.
    [temp_store] = connection.execute("PRAGMA temp_store").fetchone()
    connection.execute("PRAGMA temp_store = FILE")
    for name in names:
        connection.execute("BEGIN IMMEDIATE")
        try:
            _make_index(connection, name)
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        if advance is not None:
            advance(name)
    connection.execute(f"PRAGMA temp_store = {temp_store}")


def _make_index(connection: Connection, name: str) -> None:
    """Make one; with the last of them, the note of them goes."""
    put_off = dict(connection.execute(SQL["list_put_off"]).fetchall())
    connection.execute(put_off[name])
    connection.execute(SQL["delete_put_off"], (name,))
    if len(put_off) == 1:
        connection.execute(SQL["drop_put_off"])
