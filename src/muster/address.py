"""Where a running server answers, told in its data folder for clients on the same machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from muster.wire.credentials import ADDRESS_FILE_NAME, ServerAddress


@contextmanager
def told_address(data: Path, url: str) -> Iterator[None]:
    """Let clients find the server there, for as long as it runs.

    `credentials.json` keeps the address of the first start, or the one that somebody has put
    there. Of several servers that share a folder the one that was started last is told of.
    """
    file = data / ADDRESS_FILE_NAME
    written = msgspec.json.encode(ServerAddress(url=url, process_id=os.getpid()))
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):  # on a full disk the server is of more use than its address
        draft.write_bytes(written)
        draft.replace(file)
    try:
        yield
    finally:
        with suppress(OSError):  # who takes the folder away has taken it too
            if file.read_bytes() == written:
                file.unlink()
