import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_to_collect() -> Iterator[None]:
    """What a client left open is told of in the tests of that client, not in somebody else's."""
    yield
    gc.collect()
