"""How the tasks of the local engine are kept from the server, and from those of other projects.

By users: each project's tasks run under a user id of their own, and see no file of the server's but
those that they need. By bubblewrap: they run under the server's user, but in a namespace where they
see nothing else. What is seen is planned by `view.py` for both; `probe.py` finds out which works.
"""

import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final

from muster.domain.jobfolder import channel_folder, code_folder, log_file, output_folder
from muster.domain.placement import CardKind, TaskPlacement
from muster.engines import environment
from muster.engines.engine import Launch
from muster.engines.owners import Users, hand_over, make_readable
from muster.engines.view import Need, Place, PlaceText, Sight, bubblewrap_arguments, plan_view

USER_NAME: Final = "job"  # what a project's user is called by programs that ask
PASSWD: Final = Path("/etc/passwd")
_CARD_DEVICES: Final = {
    CardKind.GPU: ("nvidia*", "kfd", "dri/render*"),
    CardKind.NPU: ("davinci*", "devmm_svm", "hisi_hdc"),
}
PLANS_MAX: Final = 1_000
PLAN_SECONDS: Final = 10.0
_LINKS_MAX: Final = 10  # from the name of an interpreter to its file


class Kind(StrEnum):
    USERS = "users"
    BUBBLEWRAP = "bubblewrap"
    OFF = "off"


class Plans:
    """What tasks see, planned once for all that are alike but for their job folder.

    To plan takes a thousand questions to the file system and as long as all the rest of a start; of
    many short jobs, most are alike. A plan is soon forgotten: an interpreter may be put elsewhere.
    """

    def __init__(self) -> None:
        self._known: dict[object, tuple[float, str, tuple[PlaceText, ...]]] = {}

    def find(self, isolation: "Isolation", launch: Launch, index: int) -> tuple[PlaceText, ...]:
        alike = (
            launch.folder.parent, index, launch.interpreters, launch.reads, launch.writes,
            launch.output_names, launch.work_folder,
            tuple(path.exists() for path in launch.reads),
        )  # fmt: skip
        now = time.monotonic()
        known = self._known.get(alike)
        if known is None or known[0] < now:
            if len(self._known) >= PLANS_MAX:
                self._known.clear()
            planned = tuple(place.text for place in _plan(isolation, launch, index))
            known = self._known[alike] = (now + PLAN_SECONDS, launch.folder.name, planned)
        # The name of a job folder is as long as a digest, and part of no other path.
        _, name, places = known
        return tuple(
            (kind, path.replace(name, launch.folder.name), source.replace(name, launch.folder.name))
            for kind, path, source in places
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """One way of keeping tasks apart."""

    kind: Kind
    hidden: tuple[Path, ...] = ()  # folders of the server's
    hidden_files: tuple[Path, ...] = ()
    common: tuple[Path, ...] = ()  # what each task may read, where it is there
    users: Users | None = None  # of `Kind.USERS`
    bubblewrap: str = ""  # its program
    plans: Plans = field(default_factory=Plans, compare=False, repr=False)
    hides_processes: bool = True  # those of others, where each project has a user
    trouble: str = ""  # why there is none, and what would help; for people


OFF: Final = Isolation(kind=Kind.OFF)


def folders_of_task(launch: Launch, index: int) -> tuple[Path, ...]:
    """Where a task may write."""
    return (
        output_folder(launch.folder),
        *(channel_folder(launch.folder, name) for name in launch.output_names),
        code_folder(launch.folder, index),
        environment.home_folder(launch.folder, index),
        environment.temporary_folder(launch.folder, index),
        own_log_folder(launch.folder, index),
        *((launch.work_folder,) if launch.work_folder is not None else ()),
        *launch.writes,
    )


def own_log_folder(folder: Path, index: int) -> Path:
    """What a task that is isolated finds as MA_LOG_DIR: the logs themselves are the server's."""
    return environment.temporary_folder(folder, index).with_name("logs")


def passwd_file(folder: Path, index: int) -> Path:
    """What a task finds as /etc/passwd, where its user has no account."""
    return environment.temporary_folder(folder, index).with_name("passwd")


def hand_over_folders(isolation: Isolation, launch: Launch) -> None:
    """Give tasks what is theirs, and let them read what they are given. Everything is there."""
    for folder in launch.writes:
        folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    for task in launch.tasks:
        own_log_folder(launch.folder, task.index).mkdir(exist_ok=True)
    if isolation.users is None:
        return
    user = isolation.users.of(launch.project_id)
    # Whatever the server's umask is: its own files in there are no secret of its.
    for folder in (launch.folder, *launch.folder.glob("task-*"), launch.folder / "outputs"):
        if folder.is_dir():
            folder.chmod(0o755)
    for folder in {part for task in launch.tasks for part in folders_of_task(launch, task.index)}:
        hand_over(folder, user)
    for path in launch.reads:
        if path.exists():
            make_readable(path.resolve())


def confine_task(isolation: Isolation, launch: Launch, task: TaskPlacement) -> dict[str, Any]:
    """What the shim has to know besides, for this task."""
    if isolation.kind is Kind.OFF:
        return {}
    places = isolation.plans.find(isolation, launch, task.index)
    if isolation.users is None:
        folder = environment.work_folder(launch, task.index)
        command = bubblewrap_arguments(places, program=isolation.bubblewrap, folder=str(folder))
        return {"wrapper": command}
    user = isolation.users.of(launch.project_id)
    home = environment.home_folder(launch.folder, task.index)
    passwd = passwd_file(launch.folder, task.index)
    passwd.write_text(f"{_accounts()}{USER_NAME}:x:{user}:{user}:a job of muster:{home}:/bin/sh\n")
    passwd.chmod(0o644)
    return {
        "confinement": {
            "user": user,
            "groups": find_device_groups(task),
            "hides_processes": isolation.hides_processes,
            "places": places,
        }
    }


def _plan(isolation: "Isolation", launch: Launch, index: int) -> tuple[Place, ...]:
    needs = tuple(_needs(isolation, launch, index))
    by_users = isolation.users is not None
    folder = Path(os.path.realpath(launch.folder))
    own_logs, passwd = own_log_folder(folder, index), passwd_file(folder, index)
    return plan_view(
        Sight(
            hidden=[_pure(path) for path in isolation.hidden if path.is_dir()],
            hidden_files=[_pure(path) for path in isolation.hidden_files if path.is_file()],
            barred=find_barred(needs) if by_users else (),
            needs=needs,
            replaced=[(_pure(log_file(folder, index).parent), _pure(own_logs))],
            read_in_place_of=[(_pure(PASSWD), _pure(passwd))] if by_users else (),
            # What users leave in the machine's own is theirs; see `confine.py` for its mode.
            temporary=None if by_users else _pure(environment.temporary_folder(folder, index)),
        )
    )


def name_user(isolation: Isolation) -> dict[str, str]:
    """Variables for programs that ask them who they are."""
    return {} if isolation.users is None else {"USER": USER_NAME, "LOGNAME": USER_NAME}


def _accounts() -> str:
    """Those that the machine itself knows; a number without a name stops some programs."""
    try:
        text = PASSWD.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    return text if text.endswith("\n") or not text else f"{text}\n"


def _needs(isolation: Isolation, launch: Launch, index: int) -> Iterator[Need]:
    # Where each project has a user, what is the server's in there is kept by its owner.
    yield _need(launch.folder, is_writable=isolation.users is not None)
    for folder in folders_of_task(launch, index):
        yield _need(folder, is_writable=True)
    reads: list[Path] = [*isolation.common, *launch.reads]
    # Not what the command names: that may be a user's, who would be shown whatever it is.
    for program in (sys.executable, *launch.interpreters):
        reads += find_installation(program)
    for one in reads:
        if one.exists():  # else the task is told so where it asks for it
            yield _need(one)


def _need(path: Path, *, is_writable: bool = False) -> Need:
    real = os.path.realpath(path)
    return Need(
        path=PurePosixPath(path.absolute()), real=PurePosixPath(real), is_writable=is_writable
    )


def find_installation(program: str) -> list[Path]:
    """The folders that a program needs to be there: of an interpreter, all that it imports."""
    if not program.startswith("/"):
        found = shutil.which(program)
        if found is None:
            return []
        program = found
    installation: list[Path] = []
    file = Path(program)
    for _ in range(_LINKS_MAX):
        installation.append(prefix_of(file))
        if (base := _base_of(installation[-1])) is not None:
            installation.append(base)
        if not file.is_symlink():
            break
        file = Path(os.path.normpath(file.parent / file.readlink()))
    return list(dict.fromkeys(installation))


def prefix_of(file: Path) -> Path:
    """Where the interpreter with this file has its packages; of anything else, the file alone."""
    prefix = file.parent.parent
    has_packages = (prefix / "pyvenv.cfg").is_file() or any(prefix.glob("lib*/python3*"))
    return prefix if file.parent.name == "bin" and has_packages else file


def _base_of(prefix: Path) -> Path | None:
    """Where the interpreter lies that an environment was made of."""
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition("=")
        if name.strip() == "home":
            return prefix_of(Path(value.strip()) / "python")
    return None


def find_barred(needs: Sequence[Need]) -> set[PurePosixPath]:
    """The outermost folders on the way to what is needed that not everybody may pass through."""
    found: set[PurePosixPath] = set()
    seen: set[PurePosixPath] = set()
    for path in {path for need in needs for path in (need.path, need.real)}:
        for parent in reversed(path.parents):
            if parent in found:
                break
            if parent in seen:
                continue
            seen.add(parent)
            if not Path(parent).stat().st_mode & stat.S_IXOTH:
                found.add(PurePosixPath(os.path.realpath(parent)))
                break
    return found


def find_device_groups(task: TaskPlacement) -> list[int]:
    """The groups that may use the cards of a task: root's own user needs none of them."""
    if not task.cards or task.card_kind is None:
        return []
    groups = set()
    for pattern in _CARD_DEVICES[task.card_kind]:
        for device in Path("/dev").glob(pattern):
            groups.add(device.stat().st_gid)
    return sorted(groups - {0})


def _pure(path: Path) -> PurePosixPath:
    return PurePosixPath(path)
