"""Runs the command of a task as the user of its project, with a view of files of its own.

The process that starts it must be root. Between its fork and its exec it leaves the file systems of
the machine for a copy that only the task has, covers there what the task is not to see, shows again
what it needs, and becomes a user that can never become another.

This file imports only the standard library, and is loaded by `shim.py`, beside which it lies.

Source: mount(2), mount_namespaces(7), proc(5), prctl(2), Linux man-pages 6.03.
"""

# pathlib takes as long to import as half of the rest together.
# ruff: noqa: PTH103, PTH110, PTH112, PTH113, PTH118, PTH120

import ctypes
import os
import signal
import sys

TYPE_CHECKING = False  # typing itself takes a tenth of the start
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

_CLONE_NEWNS = 0x0002_0000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_SLAVE = 1 << 12, 1 << 14, 1 << 19
_KEPT_FLAGS = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC  # of what is shown; statvfs numbers them alike
_PR_SET_NO_NEW_PRIVS = 38
_ERROR_BYTES_MAX = 4096
_COVER = b"mode=755,size=1m"  # it holds nothing but the folders of places below it

_libc = ctypes.CDLL(None, use_errno=True)


def spawn(
    *,
    argv: list[str],
    environment: dict[str, str],
    folder: str,
    log: str,
    confinement: "dict[str, Any]",
    defaults: "Collection[int]",
) -> int:
    """Start the command in a session of its own, with nothing of ours but its log.

    Args:
        argv: the command.
        environment: all that it gets.
        folder: where it begins; as it sees it.
        log: where its output goes; the file becomes the user's.
        confinement: {"user", "groups", "places", "hides_processes"}; a place is [kind, path,
            source], as in `view.py`.
        defaults: signals that must not be ignored.

    Raises:
        OSError: it could not be started.
    """
    log_fd = open_log(log, confinement["user"])
    hear, say = os.pipe()  # closed by the exec, so that silence means success
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.umask(0o022)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log_fd, 1)
            os.dup2(log_fd, 2)
            enter(confinement["places"], hides_processes=confinement["hides_processes"])
            become(confinement["user"], confinement["groups"])
            os.umask(0o077)  # what it leaves in /tmp is for its project alone
            # Only now: before, it would be the folder on the other side of what is covered.
            os.chdir(folder)
            program = find_program(argv[0], environment.get("PATH", os.defpath))
            for number in defaults:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execve(program, argv, environment)  # noqa: S606 - no shell
        except BaseException as error:  # noqa: BLE001 - a fork never returns into its parent's code
            tell_error(say, error)
        finally:
            os._exit(126)
    os.close(say)
    os.close(log_fd)
    told = b""
    while part := os.read(hear, _ERROR_BYTES_MAX):
        told += part
    os.close(hear)
    if told:
        os.waitpid(pid, 0)
        code, _, text = told.decode("utf-8", "replace").partition(" ")
        raise OSError(int(code), text)
    return pid


def open_log(path: str, user: int) -> int:
    """The log, which its user may write to by its name in /proc too, as /dev/stdout is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o644)
    os.fchown(fd, user, user)
    return fd


def tell_error(fd: int, error: BaseException) -> None:
    number = error.errno if isinstance(error, OSError) and error.errno else 1
    text = os.strerror(number) if isinstance(error, OSError) and error.errno else repr(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    if isinstance(error, OSError) and error.filename:
        text = f"{text}: {error.filename}"
    os.write(fd, f"{number} {text}".encode()[:_ERROR_BYTES_MAX])


def enter(places: "Sequence[tuple[str, str, str]]", *, hides_processes: bool) -> None:
    """See files as these places say, from now on and for good.

    Raises:
        OSError: this process may not, or something that is to be shown is not there.
    """
    check(_libc.unshare(_CLONE_NEWNS), "unshare")
    # What is mounted here must not show elsewhere; what the machine mounts may well show here.
    mount("none", "/", "", _MS_REC | _MS_SLAVE)
    # Opened before any of them is covered.
    sources = [os.open(source, os.O_PATH) if source else -1 for _, _, source in places]
    for (kind, path, _), source in zip(places, sources, strict=True):
        if kind == "empty":
            make_folder(path)
            mount("muster", path, "tmpfs", _MS_NOSUID | _MS_NODEV, _COVER)
        elif kind == "nothing":
            if os.path.exists(path):
                mount(os.devnull, path, "", _MS_BIND)
        else:
            show(source, path, is_writable=kind == "write")
    if hides_processes:
        # The word is known only to kernels where this counts for this mount alone.
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        mount("proc", "/proc", "proc", flags, b"hidepid=invisible")
    for source in sources:
        if source >= 0:
            os.close(source)


def show(source: int, path: str, *, is_writable: bool) -> None:
    """Let what an open file descriptor stands for be seen at a path."""
    name = f"/proc/self/fd/{source}"
    if os.path.isdir(name):
        make_folder(path)
    elif not os.path.lexists(path):
        make_folder(os.path.dirname(path))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444))
    mount(name, path, "", _MS_BIND | _MS_REC)
    if not is_writable:
        kept = os.statvfs(path).f_flag & _KEPT_FLAGS
        mount("none", path, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, 0o755, exist_ok=True)


def mount(source: str, path: str, kind: str, flags: int, options: bytes | None = None) -> None:
    done = _libc.mount(
        os.fsencode(source), os.fsencode(path), kind.encode(), ctypes.c_ulong(flags), options
    )
    check(done, f"mount {path}")


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def become(user: int, groups: "Sequence[int]") -> None:
    """Be this user and nobody else, whatever programs it will run."""
    os.setgroups(list(groups))
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


def find_program(name: str, path: str) -> str:
    """As in `shim.py`, by this user's own rights."""
    if "/" in name:
        return name
    for folder in path.split(os.pathsep):
        program = os.path.join(folder, name)
        if os.access(program, os.X_OK) and os.path.isfile(program):
            return program
    raise FileNotFoundError(2, f"no program {name!r} in PATH={path}")


if __name__ == "__main__":
    sys.exit("This is loaded by shim.py.")
