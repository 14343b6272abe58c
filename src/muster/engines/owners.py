"""Whose files are whose, where each project's jobs run under a user id of their own.

Everything here blocks: call it in a thread. Only root can do most of it.
"""

import grp
import hashlib
import os
import pwd
import stat
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from muster.beneath import entries_beneath, opened_folder

# From here to 2^31 no system hands out any: neither to accounts, nor to services or containers.
# Source: "Users, Groups, UIDs and GIDs on systemd Systems", summary.
USER_FIRST: Final = 0x7000_0000
USER_COUNT: Final = 0x1000_0000
ENTRIES_MAX: Final = 20_000  # of an input, whose modes are looked at before each start


def choose_user(
    project_id: str, taken: Collection[int], is_account: Callable[[int], bool] = lambda _user: False
) -> int:
    """A user id that nobody has.

    It follows from the project's own id, as far as it can: so two servers of one machine, which do
    not know of each other, do not begin with the same one.
    """
    digest = hashlib.sha256(project_id.encode()).digest()
    first = int.from_bytes(digest[:4], "big")
    for step in range(USER_COUNT):
        user = USER_FIRST + (first + step) % USER_COUNT
        if user not in taken and not is_account(user):
            return user
    raise AssertionError("there are more user ids than projects")


def is_account(user: int) -> bool:
    """Whether the machine knows a user or a group of this number."""
    for look_up in (pwd.getpwuid, grp.getgrgid):
        try:
            look_up(user)
        except KeyError:
            continue
        return True
    return False


class Users:
    """The user id of each project, in a file: once given it stays, for files have it as owner."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mutex = threading.Lock()
        self._known: dict[str, int] = {}

    def of(self, project_id: str) -> int:
        """Raises OSError or ValueError where the file cannot be read or written."""
        with self._mutex:
            if project_id not in self._known:
                # Another server of the same folder may have led meanwhile.
                known = self._read()
                if project_id not in known:
                    taken = frozenset(known.values())
                    known[project_id] = choose_user(project_id, taken, is_account)
                    self._write(known)
                self._known = known
            return self._known[project_id]

    def _read(self) -> dict[str, int]:
        try:
            data = self._file.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return msgspec.json.decode(data, type=dict[str, int])
        except msgspec.DecodeError as error:
            # To begin anew would give one project what another one owns.
            raise OSError(f"{self._file} cannot be read: {error}") from error

    def _write(self, known: dict[str, int]) -> None:
        draft = self._file.with_name(f"{self._file.name}.draft")
        with draft.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(msgspec.json.encode(known))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file)


def hand_over(folder: Path, user: int) -> None:
    """Make a user own a folder and all that is in it. A link is given away, not what it leads to.

    A file that has another name elsewhere, and another owner, stays as it is: it may be no one's
    to give away. One that the user owns already is not looked through: see `move_in`.
    """
    with opened_folder(folder, "") as top:
        if os.fstat(top).st_uid == user:
            return
        for path, found, fd in entries_beneath(folder):
            is_ours = found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)
            if found.st_uid != user and is_ours:
                name = path.rpartition("/")[2]
                os.chown(name, user, user, dir_fd=fd, follow_symlinks=False)
        os.fchown(top, user, user)  # last: it stands for all of it


def take_back(folders: Iterable[Path]) -> None:
    """Note that the server's own user works in folders that were handed over.

    What it leaves there is handed over with the rest, should they be given to a project again.
    """
    for folder in folders:
        with suppress(FileNotFoundError), opened_folder(folder, "") as fd:
            if os.geteuid() == 0 and os.fstat(fd).st_uid != 0:
                os.fchown(fd, 0, 0)


def make_readable(path: Path) -> None:
    """Let everybody read a file, or the files of a folder, who can get there.

    What the server stores is readable so by itself; what people put into its folders may not be.
    Of a very large folder, the first files are looked at.
    """
    found = path.stat()
    path.chmod(_readable(found.st_mode))
    if not stat.S_ISDIR(found.st_mode):
        return
    for below, found, fd in islice(entries_beneath(path), ENTRIES_MAX):
        mode = _readable(found.st_mode)
        if mode != stat.S_IMODE(found.st_mode):
            os.chmod(below.rpartition("/")[2], mode, dir_fd=fd)


def _readable(mode: int) -> int:
    """The mode of a file or folder that everybody may read; of anything else, its own."""
    if stat.S_ISDIR(mode):
        return stat.S_IMODE(mode) | stat.S_IROTH | stat.S_IXOTH
    return stat.S_IMODE(mode) | (stat.S_IROTH if stat.S_ISREG(mode) else 0)
