"""The database as a whole: a copy of one moment of it, and the number of its schema."""

import fcntl
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from muster.domain.errors import MusterError
from muster.store.connection import Connection, NewerDatabase, NotADatabase
from muster.store.sqlite import open_snapshot
from muster.store.statements import load_migrations

PAGES_AT_ONCE: Final = 4_096


class CannotBackUp(MusterError):
    """The copy cannot be written; the message says why. What was there before is untouched."""


def schema_of(connection: Connection) -> int:
    """The number of the last migration that the database has.

    Raises:
        NewerDatabase: a newer muster has written it.
    """
    [present] = connection.execute("PRAGMA user_version").fetchone()
    known = len(load_migrations())
    if present > known:
        raise NewerDatabase(
            f"The database has schema {present}; this muster knows up to {known}."
            " Use the muster that wrote it, or a newer one."
        )
    return int(present)


def back_up(database: Path, copy: Path, advance: Callable[[int, int], None]) -> int:
    """Copy one moment of a database that is in use; return the size of the copy.

    The read transaction of the source stays open for all of it: writers go on beside it, and the
    copy need not begin again when they commit.

    Args:
        database: the file.
        copy: a new file; it is there once it is complete and on disk.
        advance: told (pages done, pages in all).

    Raises:
        CannotBackUp: nothing was left behind.
        NotADatabase: the database is damaged; nor was it then.
        MusterError: the database cannot be read, or is of a newer muster.
    """
    try:
        # Nobody else may read it, not meanwhile either: it holds the digests of passwords.
        handle, name = tempfile.mkstemp(prefix=f"{copy.name}.", suffix=".part", dir=copy.parent)
    except OSError as error:
        raise _cannot(copy, error.strerror) from error
    part = Path(name)
    try:
        with suppress(OSError):  # some file systems have no locks; nothing is cleared away there
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _clear_away_parts(copy)
        with open_snapshot(database) as source:
            schema_of(source)
            _copy(source, part, copy, advance)
        _refuse_damaged(part, database)
        _to_disk(part)
        os.link(part, copy)  # unlike a rename, it never takes the place of another file
        _to_disk(copy.parent)
        return copy.stat().st_size
    except FileExistsError as error:
        raise CannotBackUp(f"{copy} exists; name a new file.") from error
    except OSError as error:
        raise _cannot(copy, error.strerror) from error
    finally:
        part.unlink(missing_ok=True)
        os.close(handle)


def _clear_away_parts(copy: Path) -> None:
    """Remove what a killed backup to the same name has left: its lock went with its process."""
    name = re.compile(rf"{re.escape(copy.name)}\.[a-z0-9_]{{8}}\.part")
    for part in copy.parent.iterdir():
        if not name.fullmatch(part.name):
            continue
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while it is being written
            part.unlink()


def _copy(
    source: sqlite3.Connection, part: Path, copy: Path, advance: Callable[[int, int], None]
) -> None:
    try:
        # Without locks of its own: on NFS they would meet the one that says who writes it.
        alone = f"{part.as_uri()}?nolock=1"
        with closing(sqlite3.connect(alone, uri=True, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")  # it is put on disk once, at the end
            target.execute("PRAGMA journal_mode = OFF")  # what is not whole is thrown away
            source.backup(
                target,
                pages=PAGES_AT_ONCE,
                progress=lambda _, left, pages: advance(pages - left, pages),
            )
    except sqlite3.Error as error:
        raise _cannot(copy, str(error)) from error


def _refuse_damaged(part: Path, database: Path) -> None:
    """A copy page by page tells nothing of what is in them; and nobody looks into it for months."""
    alone = f"{part.as_uri()}?immutable=1"  # it has no log, and needs none made
    with closing(sqlite3.connect(alone, uri=True, isolation_level=None)) as copied:
        try:
            [found] = copied.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            found = str(error)
    if found != "ok":
        why = " ".join(found.split())
        raise NotADatabase(
            f"{database} is damaged ({why}): no backup was made. Put the last one in its place, and"
            " what `muster export` still reads of this one."
        )


def _cannot(copy: Path, why: str | None) -> CannotBackUp:
    return CannotBackUp(f"{copy} cannot be written: {why}. Nothing was left there.")


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
