"""Files in folders that a job has written to: no link in them is ever followed.

A job may have put anything there, and may still have a hold on a folder while it is read: so each
part of a path is opened by itself, and what was opened is looked at. Everything here blocks.
"""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe in the place of a file is not waited for.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # or a link is in its place
LIFTED_PARTS: Final = 100
LIFTS_MAX: Final = 100_000
PARTS_MAX: Final = 512  # of a path: no key of an object has more


@contextmanager
def opened_folder(root: Path, path: str, *, makes_it: bool = False) -> Iterator[int]:
    """A file descriptor of a folder below another one; "" is that one itself.

    Args:
        root: a folder that is not the job's to replace.
        path: below it, its parts apart by "/".
        makes_it: where it is missing; it has the owner of what it lies in.

    Raises:
        OSError: it is not there, or a link or a file is in its place.
    """
    fd = os.open(root, _FOLDER)
    try:
        for part in filter(None, path.split("/")):
            if makes_it:
                with suppress(FileExistsError):
                    os.mkdir(part, _FOLDER_MODE, dir_fd=fd)
                    _give(part, fd, dir_fd=fd)
            inner = os.open(part, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def open_beneath(root: Path, path: str) -> int:
    """A file descriptor of a regular file, to read; as `opened_folder`.

    Raises:
        OSError: it is not there, or something else is in its place.
    """
    folder, _, name = path.rpartition("/")
    with opened_folder(root, folder) as parent:
        fd = os.open(name, _FILE, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "It is no file", path)
    return fd


def read_beneath(root: Path, path: str, *, limit: int, from_end: bool = False) -> bytes:
    """The first bytes of a file, or its last ones. Raises OSError as `open_beneath`."""
    fd = open_beneath(root, path)
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, limit, max(0, size - limit) if from_end else 0)
    finally:
        os.close(fd)


def entries_beneath(root: Path) -> Iterator[tuple[str, os.stat_result, int]]:
    """(path, what the system tells of it, a file descriptor of its folder) of all that is there.

    A folder comes before what is in it. One that lies deeper than any key of an object is left out:
    else it could be made so deep that to look for its end takes all that a server has.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        prefix = f"{folder}/" if folder else ""
        try:
            with opened_folder(root, folder) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    path = f"{prefix}{entry.name}"
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # gone meanwhile
                    if stat.S_ISDIR(found.st_mode) and path.count("/") < PARTS_MAX:
                        waiting.append(path)
                    yield path, found, fd
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise


def files_beneath(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path, what the system tells of it) of each regular file."""
    for path, found, _ in entries_beneath(root):
        if stat.S_ISREG(found.st_mode):
            yield path, found


def remove_beneath(root: Path, path: str) -> bool:
    """Remove a file, or a link; whether one is gone now. A folder stays."""
    folder, _, name = path.rpartition("/")
    try:
        with opened_folder(root, folder) as parent:
            os.unlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (*_NOT_THERE, errno.EISDIR):
            raise
        return False
    return True


def remove_tree(root: Path) -> None:
    """Remove a folder with all that is in it, however deep that goes.

    Raises:
        OSError: as shutil.rmtree, which follows no link either.
    """
    for _ in range(LIFTS_MAX):
        try:
            shutil.rmtree(root)
        except RecursionError:
            lift_deep_folders(root)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            lift_deep_folders(root)
        else:
            return
    raise OSError(errno.EMFILE, "Its folders lie too deep", str(root))


def lift_deep_folders(root: Path) -> None:
    """Bring folders that lie deep to the top: to go down to them takes a file descriptor a step."""
    with opened_folder(root, "") as top:
        for path, found, fd in entries_beneath(root):
            if stat.S_ISDIR(found.st_mode) and path.count("/") == LIFTED_PARTS:
                name = path.rpartition("/")[2]
                os.rename(name, f"lifted-{uuid.uuid4().hex}", src_dir_fd=fd, dst_dir_fd=top)


def set_time_beneath(root: Path, path: str, time_ns: int) -> None:
    folder, _, name = path.rpartition("/")
    with opened_folder(root, folder) as parent:
        os.utime(name, ns=(time_ns, time_ns), dir_fd=parent, follow_symlinks=False)


def take_out(root: Path, path: str, draft: Path) -> None:
    """Move a file to where it is the server's own: neither its owner nor its mode goes with it.

    Args:
        root: as for `opened_folder`.
        path: of the file below it.
        draft: where it goes, in a folder of the server's; nothing is left there after an error.

    Raises:
        OSError: EXDEV where that is on another file system, among others.
    """
    folder, _, name = path.rpartition("/")
    with opened_folder(root, folder) as parent:
        os.rename(name, draft, src_dir_fd=parent)
    try:
        # Looked at only here, where nobody can put anything in its place any more.
        moved = os.open(draft, _FILE)
        try:
            found = os.fstat(moved)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "It is no file", path)
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(moved, os.geteuid(), os.getegid())
            os.fchmod(moved, _FILE_MODE | (found.st_mode & 0o111))
        finally:
            os.close(moved)
    except OSError:
        draft.unlink()
        raise


def move_in(source: Path, root: Path, path: str) -> None:
    """Put a file of the server's own in a place below a folder, whose owner has it then."""
    folder, _, name = path.rpartition("/")
    with opened_folder(root, folder) as parent:
        _give(source, parent)
        os.rename(source, name, dst_dir_fd=parent)


def _give(path: Path | str, folder: int, *, dir_fd: int | None = None) -> None:
    """To the owner of a folder: a job goes on with what the server puts in its own."""
    owner = os.fstat(folder)
    if owner.st_uid != os.geteuid():
        os.chown(path, owner.st_uid, owner.st_gid, dir_fd=dir_fd, follow_symlinks=False)
