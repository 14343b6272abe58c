import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.engines.slurm_cluster import SlurmCluster, require_slurm, running_slurm

# How long an example takes says more of the machine than of us.
hypothesis.settings.register_profile("muster", deadline=None)
hypothesis.settings.load_profile("muster")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


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
    for name in _BROWSERS:
        if found := shutil.which(name):
            return Path(found)
    missing = f"no browser is installed: none of {', '.join(_BROWSERS)}"
    if "chromium" in os.environ.get("MUSTER_TESTS_REQUIRE", "").split():
        pytest.fail(missing)
    pytest.skip(missing)
