from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from structlog.testing import capture_logs

from tests.reconciler.site import Site, open_site, set_up_site
from tests.stores import new_sqlite


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose counts are exact at the end, and where nothing unexpected was survived."""
    database = new_sqlite(tmp_path / "muster.db")
    with capture_logs() as logged, open_site(tmp_path, database) as site:
        await site.database.write(set_up_site)
        yield site
        assert await site.differences() == []
    assert not [line for line in logged if line["log_level"] == "error"]
