"""Accounts, projects, users, keys and tokens; and the vault that seals secrets."""

from pathlib import Path

import pytest

from muster.domain.errors import NameTaken
from muster.store import identity
from muster.store.database import Database, Transaction
from muster.store.vault import KeyFileWrong, Vault
from tests.store.rows import ACCOUNT, OTHER_PROJECT, PROJECT

ANN = identity.Member("a1", "ann", "hash", ACCOUNT)


def add_ann(tx: Transaction) -> None:
    identity.insert_member(tx, ANN)
    identity.insert_membership(
        tx, member_id="a1", project_id=PROJECT, role="admin", is_default=False
    )
    identity.insert_membership(
        tx, member_id="a1", project_id=OTHER_PROJECT, role="user", is_default=True
    )


@pytest.mark.asyncio
async def test_a_project_is_found_by_its_id_and_by_its_name(database: Database) -> None:
    by_id = await database.read(identity.find_project, PROJECT)

    assert by_id == identity.Project(PROJECT, "default", ACCOUNT)
    assert await database.read(identity.find_project, "default") == by_id
    assert await database.read(identity.find_project, "nobody") is None
    assert [p.name for p in await database.read(identity.list_projects)] == ["default", "other"]


@pytest.mark.asyncio
async def test_a_name_of_a_project_or_user_is_taken_once(database: Database) -> None:
    await database.write(add_ann)

    with pytest.raises(NameTaken, match="A user named 'ann' exists"):
        await database.write(identity.insert_member, identity.Member("b", "ann", "", ACCOUNT))
    with pytest.raises(NameTaken, match="A project named 'other' exists"):
        await database.write(
            identity.insert_project,
            identity.Project("3" * 32, "other", ACCOUNT),
            is_default=False,
            now_ms=0,
        )


@pytest.mark.asyncio
async def test_a_user_is_found_by_id_or_by_name_within_an_account(database: Database) -> None:
    await database.write(add_ann)

    assert await database.read(identity.find_member, id_="a1") == ANN
    for account in (ACCOUNT.id, ACCOUNT.name):
        found = await database.read(identity.find_member, name="ann", account=account)
        assert found == ANN
    assert await database.read(identity.find_member, name="ann", account="another") is None
    assert await database.read(identity.find_account) == ACCOUNT


@pytest.mark.asyncio
async def test_a_users_default_project_comes_first(database: Database) -> None:
    await database.write(add_ann)

    projects = await database.read(identity.list_projects_of, "a1")

    assert [project.name for project in projects] == ["other", "default"]
    assert await database.read(identity.find_role, "a1", PROJECT) == "admin"
    assert await database.read(identity.find_role, "a1", "3" * 32) is None


@pytest.mark.asyncio
async def test_tokens_are_found_until_they_are_deleted_or_swept_away(database: Database) -> None:
    await database.write(add_ann)
    named = identity.Named("a1", "ann")
    token = identity.StoredToken(named, PROJECT, "admin", 1_000, 2_000)
    unscoped = identity.StoredToken(named, None, None, 1_000, 9_000)

    await database.write(identity.insert_token, b"1", token)
    await database.write(identity.insert_token, b"2", unscoped)

    assert await database.read(identity.find_token, b"1") == token
    assert await database.read(identity.find_token, b"2") == unscoped
    await database.write(identity.delete_token, b"2")
    assert await database.read(identity.find_token, b"2") is None

    later = identity.StoredToken(named, PROJECT, "admin", 2_001, 3_000)
    await database.write(identity.insert_token, b"3", later)

    assert await database.read(identity.find_token, b"1") is None


@pytest.mark.asyncio
async def test_an_access_key_tells_whose_it_is(database: Database) -> None:
    await database.write(add_ann)
    await database.write(
        identity.insert_access_key, access="AK", secret_sealed=b"x", member_id="a1", now_ms=0
    )

    found = await database.read(identity.find_access_key, "AK")

    assert found == identity.AccessKey(b"x", identity.Named("a1", "ann"))
    assert await database.read(identity.find_access_key, "other") is None


def test_a_vault_opens_what_it_has_sealed(tmp_path: Path) -> None:
    sealed = Vault(tmp_path / "key").seal("secret")

    assert b"secret" not in sealed
    assert Vault(tmp_path / "key").open(sealed) == "secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    sealed = Vault(tmp_path / "key").seal("secret")

    with pytest.raises(KeyFileWrong, match="not the one that sealed"):
        Vault(tmp_path / "other").open(sealed)


def test_a_key_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("not a key")

    with pytest.raises(KeyFileWrong, match="cannot be used"):
        Vault(tmp_path / "key")
