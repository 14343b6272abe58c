"""Jobs under bubblewrap, of a server that runs without rights."""

import re
import shutil
from pathlib import Path

import pytest

from tests.engines.isolating import require_root
from tests.engines.unprivileged import ROOT, run_unprivileged
from tests.required import is_missing


@pytest.fixture(scope="module", autouse=True)
def _there_is_bubblewrap() -> None:
    if shutil.which("bwrap") is None:
        is_missing("bubblewrap", "bubblewrap is not installed: no bwrap")
    require_root()


@pytest.mark.timeout(300)
def test_jobs_of_an_unprivileged_server_are_isolated_by_bubblewrap(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={folder / 'temp'}"]
    options += [f"--rootdir={ROOT}", f"--confcutdir={ROOT / 'tests' / 'engines'}"]

    code, output = run_unprivileged(
        ["-m", "pytest", *options, str(ROOT / "tests" / "engines" / "bubblewrapped.py")],
        folder=folder,
        environment={"PYTHONPATH": str(ROOT)},
    )

    assert code == 0, output
    found = re.search(r"(\d+) passed", output)
    assert found is not None
    assert int(found[1]) > 50, output
    assert "skipped" not in output, output
