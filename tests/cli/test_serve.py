"""How `muster serve` gets its server."""

import subprocess
import sys

_IMPORTED = """
import gc, sys
from muster.cli.serve import _only_importing

with _only_importing():
    import muster.server
print("rich" in sys.modules, gc.isenabled())
import rich.table
"""


def test_a_server_is_imported_without_rich_which_can_be_had_afterwards() -> None:
    found = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True
    )

    assert found.stdout.split() == ["False", "True"]
