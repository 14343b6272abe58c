"""What may be missing on a machine: its tests are skipped there, unless this run must have it."""

import os
from importlib import import_module
from typing import Any, Final, NoReturn

import pytest

# Words of MUSTER_TESTS_REQUIRE, apart by spaces; any other word is a mistake.
NAMES: Final = frozenset(
    {
        "bubblewrap",
        "chromium",
        "jupyterlab",
        "postgres-debian",
        "postgres-package",
        "slurm",
        "tensorboard",
    }
)


def required() -> frozenset[str]:
    """What this run must have."""
    asked = frozenset(os.environ.get("MUSTER_TESTS_REQUIRE", "").split())
    unknown = ", ".join(sorted(asked - NAMES))
    if unknown:
        raise pytest.UsageError(
            f"MUSTER_TESTS_REQUIRE names {unknown}; it may name {', '.join(sorted(NAMES))}."
        )
    return asked


def is_missing(name: str, why: str) -> NoReturn:
    """End the test, or the collection of its module: skipped, or failed if `name` is required."""
    if name in required():
        pytest.fail(f"{name} is required: {why}", pytrace=False)
    pytest.skip(why, allow_module_level=True)


def import_needed(module: str, name: str) -> Any:
    """The module, which belongs to what `name` stands for."""
    try:
        return import_module(module)
    except ImportError as error:
        is_missing(name, f"{module} cannot be imported: {error}")
