from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from muster.store.database import Database
from muster.store.identity import list_projects
from tests.postgres import postgres_kinds
from tests.store.rows import set_up_store
from tests.stores import Stores, new_sqlite, running_stores

POSTGRES, *OTHERS = postgres_kinds()
STORES = ("sqlite", POSTGRES, *OTHERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Any one PostgreSQL is good for most tests; further ones run where they may differ.

    They differ in their version, and in whether names can be searched by trigrams. A module whose
    tests might notice says so by ON_EVERY_POSTGRES.
    """
    items[:] = [item for item in items if not _is_repetition(item)]


def _is_repetition(item: pytest.Item) -> bool:
    callspec, module = getattr(item, "callspec", None), getattr(item, "module", None)
    kind = None if callspec is None else callspec.params.get("empty")
    return kind in OTHERS and not getattr(module, "ON_EVERY_POSTGRES", False)


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
    set_up = set_up_store if "database" in request.fixturenames else None
    with stores.fresh(request.param, file, set_up) as database:
        yield database


@pytest_asyncio.fixture
async def database(empty: Database) -> Database:
    """A database with two projects, their public pools, and a dedicated pool for the first."""
    if not await empty.read(list_projects):  # where a module has an `empty` of its own
        await empty.write(set_up_store)
    return empty


@pytest.fixture
def embedded(file: Path) -> Iterator[Database]:
    """As `empty`, in a file: for what only the embedded store does."""
    database = new_sqlite(file)
    yield database
    database.close()
