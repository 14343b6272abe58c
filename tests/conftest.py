import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest

from tests.engines.slurm_cluster import SlurmCluster, require_slurm, running_slurm
from tests.required import is_missing, required
from tests.temporary import choose_temporary_folder

# How long an example takes says more of the machine than of us.
hypothesis.settings.register_profile("muster", deadline=None)
hypothesis.settings.load_profile("muster")

PATIENCE_SECONDS = 60.0

_TESTS = Path(__file__).parent
_SLOWEST_FIRST = ("end_to_end", "engines", "store", "simulation", "objects", "reconciler", "api")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_configure() -> None:
    required()  # a word that nothing here is called by would require nothing
    choose_temporary_folder()
    _be_patient()


def _be_patient() -> None:
    """A machine with much else to do answers later than after the five seconds of httpx."""
    timeout = inspect.signature(httpx.get).parameters["timeout"].default
    assert isinstance(timeout, httpx.Timeout)
    timeout.connect = timeout.read = timeout.write = timeout.pool = PATIENCE_SECONDS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: the workers end together, over files that take a moment."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(_TESTS).parts[0]
    return _SLOWEST_FIRST.index(folder) if folder in _SLOWEST_FIRST else len(_SLOWEST_FIRST)


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmCluster]:
    """One cluster for the whole session: it takes a second to come up, and memory to keep."""
    require_slurm()
    with running_slurm() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser to look at pages with. Skips the test where there is none, unless there must be.

    Run it with `--headless --no-sandbox`: tests may run as root.
    """
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        is_missing("chromium", f"no browser is installed: none of {', '.join(_BROWSERS)}")
    return Path(found)
