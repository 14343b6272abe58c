"""Makes a layer over the environment of a notebook; run by that environment's interpreter.

    INTERPRETER -I layer.py FOLDER

A layer is a virtual environment that sees everything of the one below it. Kernels and terminals
use it, and what users install goes there: it stays theirs, outlives a stop, and cannot keep
JupyterLab from starting, which runs by the environment below. Made once more, over another
environment, it keeps what is installed there, unless that is for another version of Python.
This file imports nothing of muster: it also runs where only the standard library is.
"""

import importlib.util
import json
import shutil
import site
import sys
import venv
from pathlib import Path
from typing import Any

ARGUMENTS = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]


def main(folder: Path) -> None:
    has_pip = importlib.util.find_spec("pip") is not None
    # Where the environment has none, users still need one to install anything.
    makes_pip = not has_pip and importlib.util.find_spec("ensurepip") is not None
    is_kept = packages_of(folder).is_dir()
    if is_kept:
        for interpreter in (folder / "bin").glob("python*"):
            interpreter.unlink()  # of what was below: those that are there are not made again
    venv.EnvBuilder(clear=not is_kept, symlinks=True, with_pip=makes_pip).create(folder)
    show_what_is_below(folder)
    if has_pip:
        add_pip(folder)
    add_kernel(folder)


def packages_of(folder: Path) -> Path:
    return folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def show_what_is_below(folder: Path) -> None:
    """After the layer's own packages: what is installed there wins. Lines that import are run."""
    lines = [f"import site; site.addsitedir({below!r})\n" for below in site.getsitepackages()]
    (packages_of(folder) / "below.pth").write_text("".join(lines))


def add_pip(folder: Path) -> None:
    """The environment's own pip, installing here. No `#!` line: a path may be too long for one."""
    for name in ("pip", "pip3"):
        script = folder / "bin" / name
        script.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n')
        script.chmod(0o755)


def add_kernel(folder: Path) -> None:
    """The environment's kernel, with its icons, by the layer's interpreter."""
    if importlib.util.find_spec("ipykernel") is None:
        return
    place = Path("share", "jupyter", "kernels", "python3")
    kernel, below = folder / place, Path(sys.prefix) / place
    if below.is_dir():
        shutil.copytree(below, kernel, dirs_exist_ok=True)
    kernel.mkdir(parents=True, exist_ok=True)
    described = kernel / "kernel.json"
    spec: dict[str, Any] = {"display_name": "Python 3 (ipykernel)", "language": "python"}
    if described.exists():
        spec = json.loads(described.read_text())
    _, *arguments = spec.get("argv", ["python", *ARGUMENTS])
    spec["argv"] = [str(folder / "bin" / "python"), *arguments]
    described.write_text(json.dumps(spec, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
