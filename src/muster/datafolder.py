"""The data folder of a server: one server has it, and the first start leaves credentials there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from muster.domain.errors import MusterError
from muster.operations.identity import FirstCredentials
from muster.wire.credentials import Credentials


class CannotStart(MusterError):
    """The server cannot start; the message says what to change."""


@contextmanager
def locked_data_folder(
    data: Path, *, database: Path | None = None, is_shared: bool = False
) -> Iterator[None]:
    """One server a data folder, and one a database file. The locks go with the process.

    Args:
        data: the folder.
        database: the file of the embedded store, which may lie elsewhere; None: there is none.
        is_shared: any number of servers of one PostgreSQL may have it; none of SQLite beside them.

    Raises:
        CannotStart: another server has one of them, or it cannot be written.
    """
    of_data = _Locked(what=f"data folder {data}", instead="another folder with --data DIR")
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise of_data.cannot_be_written(error) from error
    with ExitStack() as locks:
        locks.enter_context(_lock(data / "server.lock", of_data, is_shared=is_shared))
        if database is not None:
            # Its own: a server on another data folder would admit and start the same jobs.
            of_file = _Locked(
                what=f"database {database}", instead="another file with --database FILE"
            )
            file = database.resolve()
            locks.enter_context(_lock(file.with_name(f"{file.name}.lock"), of_file))
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class _Locked:
    """What a lock stands for, as messages name it."""

    what: str
    instead: str

    def cannot_be_written(self, error: OSError) -> CannotStart:
        return CannotStart(
            f"The {self.what} cannot be written ({error.strerror}). Name {self.instead}."
        )


@contextmanager
def _lock(file: Path, locked: _Locked, *, is_shared: bool = False) -> Iterator[None]:
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise locked.cannot_be_written(error) from error
    try:
        try:
            kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 64, 0).decode(errors="replace").strip()
            raise CannotStart(
                f"Another muster server{f' (process {owner})' if owner else ''} uses the"
                f" {locked.what}. Stop it, or name {locked.instead}."
            ) from error
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise locked.cannot_be_written(error) from error
        yield
    finally:
        os.close(handle)


CREDENTIALS_FILE_NAME: Final = "credentials.json"  # written by the first start, and by no other


def write_credentials(path: Path, first: FirstCredentials, url: str) -> None:
    """Written once, at the first start; never readable by others.

    Raises:
        CannotStart: they are not on disk.
    """
    credentials = Credentials(
        url=url,
        project_id=first.project.id,
        project_name=first.project.name,
        domain=first.project.account.name,
        user=first.user_name,
        password=first.password,
        access_key=first.access_key,
        secret_key=first.secret_key,
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(credentials), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CannotStart(
            f"{path} cannot be written ({error.strerror}); the next start tries again."
        ) from error
