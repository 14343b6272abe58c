"""Whose a bucket is that an account of S3 does not have yet."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from muster.domain.errors import StoragePathInvalid
from muster.objects.s3 import S3Place, S3Store
from muster.operations.buckets import make_bucket
from muster.store import buckets
from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase
from tests.objects.s3_account import S3Account, running_s3
from tests.store.rows import OTHER_PROJECT, PROJECT, set_up_store

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Account]:
    with running_s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Database]:
    database = SqliteDatabase(tmp_path / "muster.db")
    yield database
    database.close()


@pytest_asyncio.fixture
async def database(opened: Database) -> Database:
    await opened.write(set_up_store)
    return opened


@pytest.fixture
def objects(account: S3Account, tmp_path: Path) -> S3Store:
    return S3Store(account.options, S3Place(), tmp_path / "snapshots")


async def test_one_that_is_made_is_the_projects_at_once(
    database: Database, objects: S3Store
) -> None:
    assert await make_bucket(database, objects, OTHER_PROJECT, "made")

    assert await objects.has_bucket("made")
    assert await database.read(buckets.list_buckets, OTHER_PROJECT) == ["made"]
    assert not await make_bucket(database, objects, PROJECT, "made")


async def test_a_name_of_another_project_is_neither_made_nor_taken(
    database: Database, objects: S3Store
) -> None:
    kept = buckets.project_bucket(OTHER_PROJECT)
    await database.write(buckets.claim_bucket, OTHER_PROJECT, "gone-in-s3", is_there=False)

    for name in (kept, "gone-in-s3"):
        assert not await make_bucket(database, objects, PROJECT, name)
        assert not await objects.has_bucket(name)


async def test_a_name_that_s3_refuses_is_nobodys(database: Database, objects: S3Store) -> None:
    with pytest.raises(StoragePathInvalid):
        await make_bucket(database, objects, PROJECT, "No_Name")

    assert await database.read(buckets.list_buckets, PROJECT) == []


async def test_of_two_projects_that_want_one_at_once_one_has_it(
    database: Database, objects: S3Store
) -> None:
    took = await asyncio.gather(
        *(make_bucket(database, objects, project, "both") for project in (PROJECT, OTHER_PROJECT))
    )

    assert sorted(took) == [False, True]
    owners = [await database.read(buckets.list_buckets, p) for p in (PROJECT, OTHER_PROJECT)]
    assert sorted(owners) == [[], ["both"]]
