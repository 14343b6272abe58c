"""Which stores the tests have run on."""

from tests.postgres import find_programs
from tests.required import required


def test_every_store_that_is_required_is_here() -> None:
    """MUSTER_TESTS_REQUIRE names them; without it, what is not here is left out."""
    present = {f"postgres-{whose}" for whose in find_programs()}

    assert {name for name in required() if name.startswith("postgres-")} <= present
