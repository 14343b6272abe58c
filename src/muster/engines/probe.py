"""Finds out, once at a start, how tasks can be isolated here: by doing it.

What a system says that it can do, a container around it may forbid. So a task is run, as any other
would be: it has to find what is its own, and nothing that is hidden from it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from muster.domain.errors import EngineUnavailable
from muster.domain.jobfolder import log_file, task_folder
from muster.domain.placement import TaskPlacement
from muster.engines import shim
from muster.engines.attemptfiles import lay_out, read_beginning, read_result
from muster.engines.engine import Launch
from muster.engines.isolation import OFF, Isolation, Kind
from muster.engines.owners import Users

AUTO: Final = "auto"
WORDS: Final = (AUTO, *Kind)  # of the setting
USERS_FILE: Final = ".users.json"  # in the jobs folder
PROBE_SECONDS: Final = 20.0
_SAID_BYTES_MAX: Final = 300
# It leaves a file, and must not see the one that it is told of.
_PROBE: Final = """
import os, sys
open("left", "w").close()
if os.path.exists(sys.argv[1]):
    sys.exit(f"it can see {sys.argv[1]}")
"""

# Folders that many others lie in: none of them is hidden as a whole, whoever's home it is.
_SYSTEM: Final = frozenset(
    map(
        Path,
        (
            *("/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/media", "/mnt", "/opt"),
            *("/proc", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin"),  # noqa: S108
            *("/usr/lib", "/usr/local", "/usr/sbin", "/usr/share", "/var", "/var/lib"),
            *("/var/cache", "/var/log", "/var/spool", "/var/tmp"),  # noqa: S108
        ),
    )
)
# What lies in /run lets a user of the machine reach services of it: each other's containers, a
# session's own. These are what programs need there.
_RUN: Final = Path("/run")
_SHOWN_IN_RUN: Final = tuple(
    _RUN / name
    for name in ("systemd/resolve", "resolvconf", "NetworkManager", "nvidia-persistenced")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What of this machine is the server's."""

    jobs_folder: Path
    hidden: tuple[Path, ...]  # folders that no task may see; one that is not there is fine
    hidden_files: tuple[Path, ...] = ()  # likewise, wherever they lie
    common: tuple[Path, ...] = ()  # what in them every task may read


def find_isolation(wanted: str, grounds: Grounds) -> Isolation:
    """What is wanted, or the best there is. Blocks.

    Args:
        wanted: one of WORDS.
        grounds: what has to be hidden, and what not.

    Raises:
        EngineUnavailable: what is wanted by name does not work here; says why.
    """
    if wanted == Kind.OFF:
        return replace(OFF, trouble="The setting `isolation` is off.")
    is_root = os.geteuid() == 0
    kind = Kind(wanted) if wanted != AUTO else Kind.USERS if is_root else Kind.BUBBLEWRAP
    found = _by_users(grounds) if kind is Kind.USERS else _by_bubblewrap(grounds)
    if found.kind is Kind.OFF and wanted != AUTO:
        raise EngineUnavailable(f"isolation is {wanted!r}, which does not work: {found.trouble}")
    return found


def describe(isolation: Isolation) -> str:
    """One line for whoever starts the server."""
    if isolation.kind is Kind.USERS:
        return (
            "Jobs are isolated from this server: those of each project run under a user id of"
            " their own, and see none of its files but what they need."
        )
    if isolation.kind is Kind.BUBBLEWRAP:
        return (
            "Jobs are isolated from this server by bubblewrap: they see none of its files but what"
            " they need, and no process but their own."
        )
    return (
        "Jobs are not isolated from this server: they run under its own user and can read its"
        f" files. {isolation.trouble}".rstrip()
    )


def _by_users(grounds: Grounds) -> Isolation:
    if os.geteuid() != 0:
        return replace(OFF, trouble="A user id for each project takes a server that runs as root.")
    isolation = Isolation(
        kind=Kind.USERS,
        hidden=_hidden(grounds),
        hidden_files=_real(grounds.hidden_files),
        common=grounds.common,
        users=Users(grounds.jobs_folder / USERS_FILE),
    )
    # Kernels before 5.8 cannot hide processes from one task alone; nothing else depends on it.
    for choice in (isolation, replace(isolation, hides_processes=False)):
        trouble = find_trouble(choice, grounds.jobs_folder)
        if not trouble:
            return choice
    return replace(
        OFF,
        trouble=f"To give each project a user id of its own was tried: {trouble}. In a container,"
        " that takes the right to mount (CAP_SYS_ADMIN) and all user ids.",
    )


def _by_bubblewrap(grounds: Grounds) -> Isolation:
    if os.geteuid() == 0:
        return replace(OFF, trouble="bubblewrap is for servers that do not run as root.")
    program = shutil.which("bwrap")
    if program is None:
        return replace(
            OFF, trouble="Install bubblewrap (the program bwrap), or run the server as root."
        )
    isolation = Isolation(
        kind=Kind.BUBBLEWRAP,
        hidden=(*_hidden(grounds), *_real([_RUN])),
        hidden_files=_real(grounds.hidden_files),
        common=(*grounds.common, *_SHOWN_IN_RUN),
        bubblewrap=program,
    )
    trouble = find_trouble(isolation, grounds.jobs_folder)
    if not trouble:
        return isolation
    return replace(
        OFF,
        trouble=f"bubblewrap ({program}) was tried: {trouble}. It takes user namespaces, which the"
        " system or a container around it may forbid.",
    )


def _hidden(grounds: Grounds) -> tuple[Path, ...]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - that of pathlib raises where there is none
    return tuple(p for p in _real([*grounds.hidden, home]) if p not in _SYSTEM)


def _real(paths: Iterable[Path]) -> tuple[Path, ...]:
    """With no link in them; whether they are there is asked when a task starts."""
    return tuple(dict.fromkeys(path.resolve() for path in paths))


def find_trouble(isolation: Isolation, jobs_folder: Path) -> str:
    """What keeps a task from being isolated so; "": nothing does. Blocks."""
    try:
        jobs_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".probe-", dir=jobs_folder))
    except OSError as error:
        return str(error)
    try:
        (folder / "secret").touch(0o644)
        if isolation.users is not None:
            isolation = replace(isolation, users=Users(folder / "users.json"))
        return _run_task(isolation, folder / "job", folder / "secret")
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def _run_task(isolation: Isolation, folder: Path, secret: Path) -> str:
    launch = Launch(
        attempt_id=uuid.uuid4().hex,
        argv=(sys.executable, "-I", "-S", "-c", _PROBE, str(secret)),
        environment={},
        code=None,
        folder=folder,
        tasks=(TaskPlacement(index=0, node_name=""),),
    )
    lay_out(launch, master_port=0, isolation=isolation)
    command = [sys.executable, "-I", "-S", shim.__file__, str(task_folder(folder, 0))]
    subprocess.run(  # noqa: S603 - our own file, our own interpreter
        command,
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PROBE_SECONDS,
        check=True,
    )
    result = read_result(task_folder(folder, 0))
    assert result is not None, "a shim that ends well has written its result"
    if result.exit_code == 0:
        return ""
    said = read_beginning(log_file(folder, 0), _SAID_BYTES_MAX) or b""
    told = result.message or said.decode("utf-8", "replace").strip()
    return json.dumps(told or f"exit code {result.exit_code}").strip('"')
