"""The data folder of a server: one server has it, and the first start leaves credentials there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from muster.domain.errors import MusterError
from muster.operations.identity import FirstCredentials
from muster.wire.credentials import Credentials


class CannotStart(MusterError):
    """The server cannot start; the message says what to change."""


@contextmanager
def locked_data_folder(data: Path, *, is_shared: bool = False) -> Iterator[None]:
    """One server a data folder. The lock goes with the process, however it ends.

    Args:
        data: the folder.
        is_shared: any number of servers of one PostgreSQL may have it; none of SQLite beside them.

    Raises:
        CannotStart: another server has it, or it cannot be written.
    """
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(data / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(
            f"The data folder {data} cannot be written ({error.strerror})."
            " Name another with --data DIR."
        ) from error
    try:
        try:
            kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 64, 0).decode(errors="replace").strip()
            raise CannotStart(
                f"Another muster server{f' (process {owner})' if owner else ''} uses the data"
                f" folder {data}. Stop it, or name another folder with --data DIR."
            ) from error
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        except OSError as error:
            raise CannotStart(
                f"The data folder {data} cannot be written ({error.strerror})."
            ) from error
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
