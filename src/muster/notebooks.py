"""Puts together what notebooks need: the image that comes with muster, and what starts one."""

import importlib.metadata
import platform
import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

from muster.domain.catalogue import Catalogue
from muster.domain.image import BUILT_IN_NAME, Arch, Image, built_in_image
from muster.objects.store import ObjectStore
from muster.operations.images import Images
from muster.operations.notebookstart import Notebooks
from muster.store.database import Database

_ENGINES: Final = files("muster.engines")
_ARM: Final = ("aarch64", "arm64")


def build_notebooks(
    database: Database, objects: ObjectStore, catalogue: Catalogue, data: Path
) -> Notebooks:
    """What the operations on notebooks work with, in the data folder of a server."""
    environments = data / "environments"
    return Notebooks(
        database=database,
        objects=objects,
        catalogue=catalogue,
        images=Images(
            database=database,
            catalogue=catalogue,
            built_in=find_built_in_image(),
            folder=environments,
            lists=data / "images",
        ),
        folder=data / "notebooks",
        # Without site packages: it needs none, and each of them costs time.
        starter=(sys.executable, "-I", "-S", str(_ENGINES / "notebook.py"), str(environments)),
    )


def find_built_in_image() -> Image:
    """JupyterLab by muster's own interpreter, if that has it; else one that is made for it."""
    arch = Arch.AARCH64 if platform.machine().lower() in _ARM else Arch.X86_64
    try:
        version = importlib.metadata.version(BUILT_IN_NAME)
    except importlib.metadata.PackageNotFoundError:
        return built_in_image(_packaged_version(), arch, interpreter="")
    return built_in_image(version, arch, interpreter=sys.executable)


def _packaged_version() -> str:
    """Of the environment that is made, by its list of packages."""
    name = f"{BUILT_IN_NAME}=="
    lines = (_ENGINES / "notebook-packages.txt").read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix(name) for line in lines if line.startswith(name))
