from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase
from tests.store.rows import set_up_store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "muster.db"


@pytest.fixture
def empty(file: Path) -> Iterator[Database]:
    """A database as the first start finds it: tables without rows."""
    database = SqliteDatabase(file)
    yield database
    database.close()


@pytest_asyncio.fixture
async def database(empty: Database) -> Database:
    """A database with two projects, their public pools, and a dedicated pool for the first."""
    await empty.write(set_up_store)
    return empty
