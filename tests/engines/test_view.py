"""What a task is to see, from what is hidden and what it needs."""

from pathlib import PurePosixPath as Path

from hypothesis import given
from hypothesis import strategies as st

from muster.engines.view import (
    SCRATCH_FOLDERS,
    SHARED_MEMORY,
    Kind,
    Need,
    Place,
    Sight,
    bubblewrap_arguments,
    plan_view,
)

DATA, JOB = Path("/srv/data"), Path("/srv/data/jobs/1")
NAMES = st.sampled_from(["srv", "data", "jobs", "1", "home", "opt", "x"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map(lambda parts: Path("/", *parts))


def need(path: Path | str, *, is_writable: bool = False, real: Path | str | None = None) -> Need:
    return Need(path=Path(path), real=Path(real or path), is_writable=is_writable)


def view(*needs: Need, **more: object) -> dict[Path, Place]:
    given = {"hidden": [DATA], "needs": needs, "temporary": JOB / "tmp", **more}
    return {place.path: place for place in plan_view(Sight(**given))}  # type: ignore[arg-type]


def kinds(places: dict[Path, Place]) -> dict[str, Kind]:
    own = {*SCRATCH_FOLDERS, SHARED_MEMORY}
    return {str(path): place.kind for path, place in places.items() if path not in own}


def test_what_is_needed_shows_in_what_is_hidden() -> None:
    assert kinds(view(need(JOB), need(JOB / "out", is_writable=True))) == {
        "/srv/data": Kind.EMPTY,
        "/srv/data/jobs/1": Kind.READ,
        "/srv/data/jobs/1/out": Kind.WRITE,
    }


def test_what_can_be_seen_anyway_has_no_place() -> None:
    places = view(
        need("/usr"),
        need(JOB, is_writable=True),
        need(JOB / "out", is_writable=True),
        need(JOB / "in"),
    )

    assert kinds(places) == {"/srv/data": Kind.EMPTY, str(JOB): Kind.WRITE}


def test_what_is_hidden_in_something_needed_stays_hidden() -> None:
    places = view(need("/opt/all"), need(JOB), hidden=[DATA, Path("/opt"), Path("/opt/all/secret")])

    assert kinds(places) == {
        "/opt": Kind.EMPTY,
        "/opt/all": Kind.READ,
        "/opt/all/secret": Kind.EMPTY,
        "/srv/data": Kind.EMPTY,
        str(JOB): Kind.READ,
    }


def test_a_link_in_what_is_covered_is_made_good() -> None:
    places = view(need("/root/link/python", real="/root/real/python"), barred=[Path("/root")])

    assert places[Path("/root/link/python")].source == Path("/root/real/python")
    assert places[Path("/root/real/python")].source == Path("/root/real/python")


def test_a_link_that_can_be_seen_is_left_to_itself() -> None:
    places = view(need("/opt/link", real=JOB))

    assert Path("/opt/link") not in places
    assert places[JOB].kind is Kind.READ


def test_temporary_files_lie_on_the_disk_unless_something_has_to_show_there() -> None:
    tmp = Path("/tmp")  # noqa: S108

    assert view(need(JOB))[tmp] == Place(kind=Kind.WRITE, path=tmp, source=JOB / "tmp")
    assert view(need(tmp / "data" / "1"))[tmp] == Place(kind=Kind.SCRATCH, path=tmp)


def test_users_have_the_temporary_folders_of_the_machine() -> None:
    places = view(need(JOB), temporary=None)

    assert places.keys().isdisjoint({*SCRATCH_FOLDERS, SHARED_MEMORY})


@given(
    hidden=st.lists(PATHS, max_size=4),
    barred=st.lists(PATHS, max_size=3),
    needs=st.lists(st.builds(need, PATHS, is_writable=st.booleans()), max_size=5),
)
def test_nothing_hidden_shows_but_what_is_needed_and_all_of_that_does(
    hidden: list[Path], barred: list[Path], needs: list[Need]
) -> None:
    places = view(*needs, hidden=hidden, barred=barred)

    def seen(path: Path) -> Place | None:
        """The place that says how a path looks: the innermost."""
        return next((places[p] for p in (path, *path.parents) if p in places), None)

    order = list(places)
    assert order == sorted(order, key=lambda path: len(path.parts))
    for one in needs:
        place = seen(one.path)
        assert place is None or place.source is not None
        if one.is_writable:
            assert place is not None
            assert place.kind is Kind.WRITE
    shown = {one.path for one in needs}
    for path in (*hidden, *barred):
        if not shown & {path, *path.parents}:
            place = seen(path / "secret")
            assert place is not None
            assert place.source is None


def test_bubblewrap_shows_all_else_to_read_only() -> None:
    places = [place.text for place in view(need(JOB, is_writable=True)).values()]

    arguments = bubblewrap_arguments(places, program="/bin/bwrap", folder=str(JOB))

    text = " ".join(arguments)
    assert text.startswith("/bin/bwrap --unshare-pid --unshare-ipc --ro-bind / / ")
    assert f"--tmpfs {DATA} " in text
    assert f"--bind {JOB} {JOB} " in text
    assert text.endswith(f"--remount-ro {DATA} --chdir {JOB} --")
    assert "--die-with-parent" not in arguments
