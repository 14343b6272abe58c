"""What starts a notebook, as a process of its own; venv and pip are real, the packages small."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(120)

# In place of JupyterLab: it tells what it was started with.
STAND_IN = """
import json, os, sys
def main():
    names = ("JUPYTER_TOKEN", "JUPYTER_CONFIG_DIR", "PATH")
    told = {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": {name: os.environ.get(name) for name in names},
        "python": sys.executable,
    }
    print("STARTED " + json.dumps(told))
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package `jupyterlab` without anything that it needs."""
    path = tmp_path / "jupyterlab-0.0.1-py3-none-any.whl"
    info = "jupyterlab-0.0.1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("jupyterlab/__init__.py", "")
        archive.writestr("jupyterlab/commands.py", "")
        archive.writestr("jupyterlab/labapp.py", STAND_IN)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: jupyterlab\nVersion: 0.0.1\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


class Starter:
    """The script with a list of packages of its own."""

    def __init__(self, folder: Path, packages: str) -> None:
        self.folder = folder
        self.environments = folder / "environments"
        self.here = folder / "here"
        self.here.mkdir()
        script = files("muster.engines") / "notebook.py"
        self.script = folder / "notebook.py"
        shutil.copy(str(script), self.script)
        (folder / "notebook-packages.txt").write_text(packages)

    def begin(self, *, interpreter: str = "") -> "subprocess.Popen[str]":
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(self.script), str(self.environments)],
            cwd=self.here,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "TMPDIR": str(self.folder),
                "PIP_NO_INDEX": "1",
                "MUSTER_NOTEBOOK_INTERPRETER": interpreter,
                "MUSTER_NOTEBOOK_FOLDER": str(self.folder / "kept"),
                "MUSTER_NOTEBOOK_BASE_URL": "/notebooks/x/",
                "JUPYTER_TOKEN": "secret",
                "MUSTER_HOST": "127.0.0.1",
                "MUSTER_PORT": "12345",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *, interpreter: str = "") -> tuple[int, str]:
        process = self.begin(interpreter=interpreter)
        output, _ = process.communicate(timeout=100)
        return process.returncode, output

    def told(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.here / "start.json").read_text())
        return found


def started(output: str) -> dict[str, Any]:
    [line] = [line for line in output.splitlines() if line.startswith("STARTED ")]
    found: dict[str, Any] = json.loads(line.removeprefix("STARTED "))
    return found


def test_an_environment_is_made_once_for_all_and_made_anew_where_it_is_not_whole(
    tmp_path: Path, wheel: Path
) -> None:
    starter = Starter(tmp_path, f"jupyterlab @ file://{wheel}\n")

    first, second = starter.begin(), starter.begin()
    outputs = [process.communicate(timeout=100)[0] for process in (first, second)]

    assert [first.returncode, second.returncode] == [0, 0], outputs
    [folder] = [path for path in starter.environments.iterdir() if path.is_dir()]
    for output in outputs:
        assert started(output)["python"] == str(folder / "bin" / "python")
    assert sum("muster: made " in output for output in outputs) == 1
    (folder / "made").unlink()  # as where the machine went down in the middle
    shutil.rmtree(folder / "lib")
    code, output = starter.run()
    assert code == 0, output
    assert "muster: made " in output


def test_why_an_environment_cannot_be_made_is_told(tmp_path: Path) -> None:
    starter = Starter(tmp_path, "no-such-package==1.0\n")

    code, output = starter.run()

    assert code != 0
    failure = starter.told()["failure"]
    assert "The environment could not be made: ERROR: " in failure
    assert "no-such-package==1.0" in failure
    assert failure in output
    assert not list(starter.environments.glob("*/made"))


def test_it_works_in_the_notebooks_folder_and_listens_where_it_is_told(
    tmp_path: Path, wheel: Path
) -> None:
    bare = bare_environment(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        [packages] = bare.glob("lib/python*/site-packages")
        archive.extractall(packages)
    starter = Starter(tmp_path, "")

    code, output = starter.run(interpreter=str(bare / "bin" / "python"))

    assert code == 0, output
    seen = started(output)
    assert seen["folder"] == str(tmp_path / "kept" / "work")
    assert {
        "--ServerApp.base_url=/notebooks/x/",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=12345",
        f"--ServerApp.root_dir={tmp_path / 'kept' / 'work'}",
    } <= set(seen["arguments"])
    assert not any("secret" in argument for argument in seen["arguments"])
    environment = seen["environment"]
    assert environment["JUPYTER_TOKEN"] == "secret"  # noqa: S105 - the test's own
    assert environment["JUPYTER_CONFIG_DIR"].startswith(str(tmp_path / "kept"))
    assert environment["PATH"].split(":")[0] == str(bare / "bin")
    assert starter.told() == {"note": "Starting JupyterLab", "failure": ""}
    assert not starter.environments.exists()


def bare_environment(folder: Path) -> Path:
    """An interpreter without any package."""
    bare = folder / "bare"
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True
    )
    return bare


def test_an_interpreter_without_jupyterlab_says_so(tmp_path: Path) -> None:
    bare = bare_environment(tmp_path)
    starter = Starter(tmp_path, "")

    code, output = starter.run(interpreter=str(bare / "bin" / "python"))

    assert code != 0
    assert "has no JupyterLab" in output
    assert not starter.environments.exists()


def test_the_packages_are_all_of_one_version() -> None:
    text = (files("muster.engines") / "notebook-packages.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    assert all(line.count("==") == 1 for line in lines)
    assert {"jupyterlab", "ipykernel"} <= {line.split("==")[0] for line in lines}
