import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.required import import_needed

SHOWN_MS: Final = 90_000.0  # JupyterLab loads much, and the machine may have other work


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_to_collect() -> Iterator[None]:
    """What a client left open is told of in the tests of that client, not in somebody else's."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def page(chromium: Path) -> Iterator[Any]:
    """An empty page of a real browser."""
    playwright = import_needed("playwright.sync_api", "chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(SHOWN_MS)
        yield page
        browser.close()
