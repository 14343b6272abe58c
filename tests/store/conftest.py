from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase
from tests.postgres import find_programs
from tests.store.rows import set_up_store
from tests.stores import Stores, running_stores

STORES = ("sqlite", *(f"postgres-{whose}" for whose in find_programs()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "muster.db"


@pytest.fixture(scope="session")
def stores() -> Iterator[Stores]:
    """Servers are started when a test first asks for one."""
    with running_stores() as stores:
        yield stores


@pytest.fixture(params=STORES)
def empty(file: Path, stores: Stores, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database as the first start finds it: tables without rows. On every store there is."""
    with ExitStack() as opened:
        yield opened.enter_context(stores.fresh(request.param, file))


@pytest_asyncio.fixture
async def database(empty: Database) -> Database:
    """A database with two projects, their public pools, and a dedicated pool for the first."""
    await empty.write(set_up_store)
    return empty


@pytest.fixture
def embedded(file: Path) -> Iterator[Database]:
    """As `empty`, in a file: for what only the embedded store does."""
    database = SqliteDatabase(file)
    yield database
    database.close()
