"""What a task sees of the files of its machine. Pure: what is hidden and needed in, places out.

A view is a list of places, parents first. Two can bring it about: `confine.py`, by mounts of a
process that is root, and bubblewrap, by the arguments that `bubblewrap_arguments` makes of it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath as Path
from typing import Final

SCRATCH_FOLDERS: Final = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - those of the machine
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - likewise


PlaceText = tuple[str, str, str]  # kind, path, source: as `confine.py` is told of a place


class Kind(StrEnum):
    """How a place looks from inside. The values are those of `confine.py`."""

    EMPTY = "empty"  # nothing of what lies there, but room for places below it
    NOTHING = "nothing"  # of a file: as if it were empty
    SCRATCH = "scratch"  # empty, and the task may write there; for bubblewrap alone
    READ = "read"
    WRITE = "write"


_COVERS: Final = frozenset({Kind.EMPTY, Kind.NOTHING, Kind.SCRATCH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    kind: Kind
    path: Path  # as the task names it
    source: Path | None = None  # what is seen there; None: a cover

    @property
    def text(self) -> PlaceText:
        return self.kind.value, str(self.path), str(self.source or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that a task must be able to reach."""

    path: Path  # as it is named
    real: Path  # where that leads, with no link in it
    is_writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a view is made of. No path has a link in it, but for `Need.path`."""

    hidden: Collection[Path]  # folders of which nothing may be seen but what is needed
    hidden_files: Collection[Path] = ()
    barred: Collection[Path] = ()  # folders that the task's user cannot pass through
    needs: Sequence[Need]
    replaced: Sequence[tuple[Path, Path]] = ()  # (a path, what is to be found there, writable)
    read_in_place_of: Sequence[tuple[Path, Path]] = ()  # likewise, but only to read
    # Of the task: where programs find the machine's own temporary folders. None: those themselves.
    temporary: Path | None


def plan_view(sight: Sight) -> tuple[Place, ...]:
    """The places that make a task see what it needs, and nothing that is hidden.

    What is needed and can be seen anyway has no place: each one costs time at every start.
    """
    covers = dict.fromkeys((*sight.hidden, *sight.barred), Kind.EMPTY)
    covers |= dict.fromkeys(sight.hidden_files, Kind.NOTHING)
    shown = {
        path: Place(kind=Kind.WRITE, path=path, source=source) for path, source in sight.replaced
    }
    for path, source in sight.read_in_place_of:
        shown[path] = Place(kind=Kind.READ, path=path, source=source)
    if sight.temporary is not None:
        covers[SHARED_MEMORY] = Kind.SCRATCH
        for folder in SCRATCH_FOLDERS:
            # On the disk, unless there is something that has to be shown below it.
            if any(_lies_below(path, folder) for path in _named(sight.needs)):
                covers[folder] = Kind.SCRATCH
            else:
                shown[folder] = Place(kind=Kind.WRITE, path=folder, source=sight.temporary)
    for need in sight.needs:
        kind = Kind.WRITE if need.is_writable else Kind.READ
        for path in {need.real, need.path}:
            # A link that lies in what is covered is gone: what it led to stands in its place.
            if path == need.real or _is_below_any(path, covers):
                known = shown.get(path)
                if known is None or known.kind is Kind.READ:
                    shown[path] = Place(kind=kind, path=path, source=need.real)
    places = [Place(kind=kind, path=path) for path, kind in covers.items()]
    places += shown.values()
    # A cover before what is shown at the same place: that wins, as it was asked for by name.
    places.sort(key=lambda place: (len(place.path.parts), place.kind not in _COVERS, place.path))
    kept: dict[Path, Place] = {}
    for place in places:
        if not _is_idle(place, kept):
            kept[place.path] = place
    return tuple(kept.values())


def _named(needs: Iterable[Need]) -> set[Path]:
    return {path for need in needs for path in (need.path, need.real)}


def _lies_below(path: Path, folder: Path) -> bool:
    return path != folder and path.is_relative_to(folder)


def _is_below_any(path: Path, folders: Collection[Path]) -> bool:
    return any(parent in folders for parent in path.parents)


def _is_idle(place: Place, kept: dict[Path, Place]) -> bool:
    """Whether the places above it make it look that way already."""
    above = next((kept[p] for p in (place.path, *place.path.parents) if p in kept), None)
    if place.kind in _COVERS and place.kind is not Kind.SCRATCH:
        return above is not None and (above.kind in _COVERS or above.source != above.path)
    if place.kind is Kind.SCRATCH or place.source != place.path:
        return False
    if above is None:
        return place.kind is Kind.READ
    if above.kind in _COVERS or above.source != above.path:
        return False
    return place.kind is Kind.READ or above.kind is Kind.WRITE


def bubblewrap_arguments(
    places: Iterable[PlaceText], *, program: str, folder: str
) -> tuple[str, ...]:
    """A command that, with another one behind it, runs that one with this view and no other.

    Everything is there to read only, but for what the view lets be written. A process sees only
    those that it has started itself, so that it can signal none of the server's: they all have one
    user. It does not end with who started it: a job outlives the server.
    """
    arguments = [program, "--unshare-pid", "--unshare-ipc", "--ro-bind", "/", "/"]
    arguments += ["--dev-bind", "/dev", "/dev", "--proc", "/proc"]
    covered = []
    for kind, path, source in places:
        match Kind(kind):
            case Kind.EMPTY:
                arguments += ["--tmpfs", path]
                covered.append(path)
            case Kind.SCRATCH:
                arguments += ["--tmpfs", path]
            case Kind.NOTHING:
                arguments += ["--ro-bind", "/dev/null", path]
            case Kind.READ:
                arguments += ["--ro-bind", source, path]
            case Kind.WRITE:
                arguments += ["--bind", source, path]
    for path in covered:  # only now: what is shown below them had to be put there
        arguments += ["--remount-ro", path]
    return (*arguments, "--chdir", folder, "--")
