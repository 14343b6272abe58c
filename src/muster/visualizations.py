"""Puts together what visualization jobs need: what starts one, and what it is started with."""

import importlib.util
import sys
from importlib.resources import files
from pathlib import Path

from muster.domain.catalogue import Catalogue
from muster.objects.store import ObjectStore
from muster.operations.visualizations import Visualizations
from muster.store.database import Database


def build_visualizations(
    database: Database, objects: ObjectStore, catalogue: Catalogue, data: Path
) -> Visualizations:
    """What the operations on visualization jobs work with, in the data folder of a server."""
    script = files("muster.engines") / "visualization.py"
    has_tensorboard = importlib.util.find_spec("tensorboard") is not None
    return Visualizations(
        database=database,
        objects=objects,
        catalogue=catalogue,
        interpreter=sys.executable if has_tensorboard else "",
        # Without site packages: it needs none, and each of them costs time.
        starter=(sys.executable, "-I", "-S", str(script), str(data / "environments")),
    )
