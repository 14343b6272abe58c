"""Which stores the tests have run on."""

import os

from tests.postgres import find_programs


def test_every_store_that_is_required_is_here() -> None:
    """MUSTER_TESTS_REQUIRE names them; without it, what is not here is left out."""
    required = os.environ.get("MUSTER_TESTS_REQUIRE", "").split()
    present = {f"postgres-{whose}" for whose in find_programs()}

    assert {name for name in required if name.startswith("postgres-")} <= present
