"""What starts a notebook, as a process of its own; venv and pip are real, the packages small."""

import ensurepip
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from tests.engines.starting import Script, package, started

pytestmark = pytest.mark.timeout(300)

# In place of JupyterLab: it tells what it was started with.
STAND_IN = """
import json, os, shutil, subprocess, sys
def find_packages():
    python = shutil.which("python")
    program = "import importlib.util as u, sys; print(sys.argv[1], u.find_spec(sys.argv[1]))"
    def is_there(name):
        told = subprocess.run([python, "-c", program, name], capture_output=True, text=True)
        return told.stdout.startswith(name) and not told.stdout.endswith("None\\n")
    return [name for name in ("jupyterlab", "small") if is_there(name)]
def main():
    names = ("JUPYTER_TOKEN", "JUPYTER_CONFIG_DIR", "JUPYTER_PATH", "PATH")
    told = {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": {name: os.environ.get(name) for name in names},
        "python": sys.executable,
        "packages": find_packages(),
    }
    print("STARTED " + json.dumps(told))
"""


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package `jupyterlab` without anything that it needs."""
    return package(tmp_path, "jupyterlab", **{"commands.py": "", "labapp.py": STAND_IN})


class Starter:
    """The script with a list of packages of its own."""

    def __init__(self, folder: Path, packages: str = "") -> None:
        self.folder = folder
        self.layer = folder / "kept" / "environment"
        self.environments = folder / "environments"
        self.here = folder / "here"
        self.here.mkdir()
        for script in ("notebook.py", "layer.py"):
            shutil.copy(str(files("muster.engines") / script), folder)
        (folder / "notebook-packages.txt").write_text(packages)
        self.script = Script(
            path=folder / "notebook.py",
            here=self.here,
            home=folder,
            environments=self.environments,
        )

    def begin(self, *, interpreter: str = "", packages: str = "") -> "subprocess.Popen[str]":
        return self.script.begin(**self._environment(interpreter, packages))

    def run(self, *, interpreter: str = "", packages: str = "") -> tuple[int, str]:
        return self.script.run(**self._environment(interpreter, packages))

    def _environment(self, interpreter: str, packages: str) -> dict[str, str]:
        return {
            "MUSTER_NOTEBOOK_INTERPRETER": interpreter,
            "MUSTER_NOTEBOOK_PACKAGES": packages,
            "MUSTER_NOTEBOOK_FOLDER": str(self.folder / "kept"),
            "MUSTER_NOTEBOOK_BASE_URL": "/notebooks/x/",
            "JUPYTER_TOKEN": "secret",
        }

    def told(self) -> dict[str, str]:
        return self.script.told()


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
    bare = environment_with(wheel, tmp_path)
    starter = Starter(tmp_path)

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
    assert environment["PATH"].split(":")[:2] == [str(starter.layer / "bin"), str(bare / "bin")]
    assert environment["JUPYTER_PATH"] == str(starter.layer / "share" / "jupyter")
    assert (seen["python"], seen["packages"]) == (str(bare / "bin" / "python"), ["jupyterlab"])
    assert starter.told() == {"note": "Starting JupyterLab", "failure": ""}
    assert not starter.environments.exists()


class TestLayer:
    """What a notebook's user installs: it is the notebook's own."""

    def test_what_is_installed_there_stays_and_the_environment_below_is_untouched(
        self, tmp_path: Path, wheel: Path
    ) -> None:
        bare = environment_with(wheel, tmp_path)
        before = sorted(bare.rglob("*"))
        starter = Starter(tmp_path)
        interpreter = str(bare / "bin" / "python")
        starter.run(interpreter=interpreter)
        packages = Path(subprocess.check_output([  # noqa: S603
            str(starter.layer / "bin" / "python"), "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ], text=True).strip())  # fmt: skip
        assert packages.is_relative_to(starter.layer)

        (packages / "small.py").write_text("")
        _, output = starter.run(interpreter=interpreter)

        assert started(output)["packages"] == ["jupyterlab", "small"]
        assert sorted(path for path in bare.rglob("*") if "__pycache__" not in str(path)) == before

    def test_what_is_installed_is_kept_over_another_environment(
        self, tmp_path: Path, wheel: Path
    ) -> None:
        bare = environment_with(wheel, tmp_path)
        starter = Starter(tmp_path)
        starter.run(interpreter=str(bare / "bin" / "python"))
        [packages] = starter.layer.glob("lib/python*/site-packages")
        (packages / "small.py").write_text("")
        bare.rename(tmp_path / "other")

        _, output = starter.run(interpreter=str(tmp_path / "other" / "bin" / "python"))

        assert started(output)["packages"] == ["jupyterlab", "small"]
        assert str(tmp_path / "other") in (packages / "below.pth").read_text()

    def test_what_is_installed_for_another_python_is_dropped(
        self, tmp_path: Path, wheel: Path
    ) -> None:
        bare = environment_with(wheel, tmp_path)
        starter = Starter(tmp_path)
        packages = starter.layer / "lib" / "python2.7" / "site-packages"
        packages.mkdir(parents=True)
        (packages / "small.py").write_text("")

        _, output = starter.run(interpreter=str(bare / "bin" / "python"))

        assert started(output)["packages"] == ["jupyterlab"]
        assert not packages.exists()

    def test_it_begins_with_what_a_saved_image_has(self, tmp_path: Path, wheel: Path) -> None:
        interpreter = str(environment_with(wheel, tmp_path) / "bin" / "python")
        small = package(tmp_path, "small", needs="nothing-that-there-is")
        starter = Starter(tmp_path)

        code, output = starter.run(interpreter=interpreter, packages=f"small @ file://{small}\n")

        assert code == 0, output
        assert started(output)["packages"] == ["jupyterlab", "small"]
        _, output = starter.run(interpreter=interpreter, packages=f"small @ file://{small}\n")
        assert "Processing" not in output
        assert started(output)["packages"] == ["jupyterlab", "small"]

    def test_what_of_an_image_is_not_there_any_more_is_told(
        self, tmp_path: Path, wheel: Path
    ) -> None:
        interpreter = str(environment_with(wheel, tmp_path) / "bin" / "python")
        starter = Starter(tmp_path)

        code, _ = starter.run(interpreter=interpreter, packages="no-such-package==1.0\n")

        assert code != 0
        assert "no-such-package==1.0" in starter.told()["failure"]


def environment_with(wheel: Path, folder: Path) -> Path:
    """An interpreter with that package, and with pip, which is quicker unpacked than installed."""
    bare = bare_environment(folder)
    [packages] = bare.glob("lib/python*/site-packages")
    for one in (wheel, *Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")):
        with zipfile.ZipFile(one) as archive:
            archive.extractall(packages)
    return bare


def bare_environment(folder: Path) -> Path:
    """An interpreter without any package."""
    bare = folder / "bare"
    command = [sys.executable, "-m", "venv", "--without-pip", str(bare)]
    subprocess.run(command, check=True)  # noqa: S603
    return bare


def test_an_interpreter_without_jupyterlab_says_so(tmp_path: Path) -> None:
    bare = bare_environment(tmp_path)
    starter = Starter(tmp_path, "")

    code, output = starter.run(interpreter=str(bare / "bin" / "python"))

    assert code != 0
    assert "has no JupyterLab" in output
    assert not starter.environments.exists()
    assert (starter.layer / "bin" / "pip").exists()  # of its own: there was none below


def test_the_packages_are_all_of_one_version() -> None:
    text = (files("muster.engines") / "notebook-packages.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]

    assert all(line.count("==") == 1 for line in lines)
    assert {"jupyterlab", "ipykernel"} <= {line.split("==")[0] for line in lines}
