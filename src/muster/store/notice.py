"""How a command beside a running server tells it that what it remembers of logins is outdated.

A file in the data folder: whoever changes a login puts it there after the commit, the server takes
it away and forgets. So it can never be missed: one that is put down again while the server forgets
is simply found the next time.
"""

import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 0.05  # how often the server looks
_NAME: Final = "logins.changed"
_WAIT_SECONDS: Final = 0.01


def take_notice(data: Path) -> bool:
    """Whether logins were changed since the last call."""
    try:
        (data / _NAME).unlink()
    except FileNotFoundError:
        return False
    except OSError:
        pass  # it cannot be taken away: then nothing is remembered for longer than a look
    return True


def give_notice(data: Path, *, longest_seconds: float) -> None:
    """Return once a running server has forgotten, or has nothing to forget.

    Args:
        data: the data folder.
        longest_seconds: for how long a server remembers; then there is nothing to wait for.
    """
    notice = data / _NAME
    fresh = data / f"{_NAME}.{secrets.token_hex(4)}"
    fresh.touch(mode=0o600)
    fresh.replace(notice)
    started = time.monotonic()
    is_sure_of_server = False
    while notice.exists() and (waited := time.monotonic() - started) < longest_seconds:
        if waited > 2 * LOOK_SECONDS and not is_sure_of_server:
            if not _is_served(data):
                notice.unlink(missing_ok=True)
                return
            is_sure_of_server = True
        time.sleep(_WAIT_SECONDS)


def _is_served(data: Path) -> bool:
    """Whether somebody holds the lock of the data folder."""
    try:
        handle = os.open(data / "server.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
