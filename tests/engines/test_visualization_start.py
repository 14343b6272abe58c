"""What starts a TensorBoard, as a process of its own; venv and pip are real, the package small."""

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from tests.engines.starting import Script, package, started

pytestmark = pytest.mark.timeout(300)

# In place of TensorBoard: it tells what it was started with.
STAND_IN = """
import json, sys
def run_main():
    print("STARTED " + json.dumps({"arguments": sys.argv[1:], "python": sys.executable}))
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package `tensorboard` without anything that it needs."""
    return package(tmp_path, "tensorboard", **{"main.py": STAND_IN})


class Starter:
    """The script as it is installed, with a list of packages of its own."""

    def __init__(self, folder: Path, packages: str) -> None:
        engines = folder / "installed" / "muster" / "engines"
        engines.mkdir(parents=True)
        for module in ("muster", "muster.engines"):
            target = folder / "installed" / module.replace(".", "/") / "__init__.py"
            shutil.copy(str(files(module) / "__init__.py"), target)
        for name in ("notebook.py", "visualization.py"):
            shutil.copy(str(files("muster.engines") / name), engines / name)
        (engines / "tensorboard-packages.txt").write_text(packages)
        self.environments = folder / "environments"
        self.script = Script(
            path=engines / "visualization.py",
            here=folder / "task" / "code",
            home=folder,
            environments=self.environments,
        )
        self.script.here.mkdir(parents=True)

    def run(self, *, interpreter: str = "", results: str = "/results") -> tuple[int, str]:
        return self.script.run(
            MUSTER_VISUALIZATION_INTERPRETER=interpreter,
            MUSTER_VISUALIZATION_FOLDER=results,
            MUSTER_VISUALIZATION_PREFIX="/visualizations/x",
        )

    def told(self) -> dict[str, str]:
        return self.script.told()


def test_an_environment_is_made_at_the_first_start_and_used_by_the_next(
    tmp_path: Path, wheel: Path
) -> None:
    starter = Starter(tmp_path, f"tensorboard @ file://{wheel}\n")

    code, output = starter.run()
    code_again, output_again = starter.run()

    assert (code, code_again) == (0, 0), output + output_again
    [folder] = [path for path in starter.environments.iterdir() if path.is_dir()]
    assert folder.name.startswith("tensorboard-")
    assert started(output)["python"] == str(folder / "bin" / "python")
    assert "muster: made " in output
    assert "muster: made " not in output_again
    assert starter.told() == {"note": "Starting TensorBoard", "failure": ""}


def test_it_listens_where_it_is_told_and_shows_what_was_fetched_beside_it(
    tmp_path: Path, wheel: Path
) -> None:
    starter = Starter(tmp_path, f"tensorboard @ file://{wheel}\n")

    code, output = starter.run(results="../../fetched/data")

    assert code == 0, output
    assert {
        f"--logdir={tmp_path / 'fetched' / 'data'}",
        "--path_prefix=/visualizations/x",
        "--host=127.0.0.1",
        "--port=12345",
    } <= set(started(output)["arguments"])


def test_why_it_cannot_start_is_told(tmp_path: Path) -> None:
    starter = Starter(tmp_path, "no-such-package==1.0\n")
    bare = tmp_path / "bare"
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True
    )

    code, _ = starter.run()
    failure = starter.told()["failure"]
    code_without, output = starter.run(interpreter=str(bare / "bin" / "python"))

    assert code != 0
    assert "no-such-package==1.0" in failure
    assert code_without != 0
    assert "has no TensorBoard" in output


def test_the_packages_are_all_of_one_version() -> None:
    text = (files("muster.engines") / "tensorboard-packages.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    assert all(line.count("==") == 1 for line in lines)
    assert {"tensorboard", "protobuf", "numpy"} <= {line.split("==")[0] for line in lines}
