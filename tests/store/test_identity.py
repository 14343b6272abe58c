"""Accounts, projects, users, keys and tokens; and the vault that seals secrets."""

from pathlib import Path

import pytest

from muster.domain.errors import NameTaken
from muster.domain.permission import Role
from muster.domain.workspace import AuthType, Grant, Workspace
from muster.store import identity, workspaces
from muster.store.database import Database
from muster.store.transaction import Transaction
from muster.store.vault import KeyFileWrong, Vault
from tests.store.rows import ACCOUNT, OTHER_PROJECT, PROJECT

ANN = identity.Member("a1", "ann", "hash", ACCOUNT)


def add_ann(tx: Transaction) -> None:
    identity.insert_member(tx, ANN)
    identity.insert_membership(
        tx, member_id="a1", project_id=PROJECT, role="reader", is_default=False
    )
    identity.insert_membership(
        tx, member_id="a1", project_id=OTHER_PROJECT, role="developer", is_default=True
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


@pytest.mark.asyncio
async def test_tokens_are_found_until_they_are_deleted_or_swept_away(database: Database) -> None:
    await database.write(add_ann)
    named = identity.Named("a1", "ann")
    token = identity.StoredToken(named, PROJECT, "reader", 1_000, 2_000)
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


@pytest.mark.asyncio
async def test_a_key_is_disabled_enabled_listed_and_deleted(database: Database) -> None:
    await database.write(add_ann)
    await database.write(
        identity.insert_access_key, access="AK", secret_sealed=b"x", member_id="a1", now_ms=7
    )

    assert await database.write(identity.enable_access_key, "AK", is_enabled=False)
    assert await database.read(identity.find_access_key, "AK") is None
    [listed] = await database.read(identity.list_access_keys)
    assert listed == identity.ListedKey(
        access="AK", user_name="ann", is_enabled=False, created_at_ms=7
    )
    assert await database.write(identity.enable_access_key, "AK", is_enabled=True)
    assert await database.read(identity.find_access_key, "AK") is not None
    assert await database.read(identity.list_access_keys, "nobody") == []
    assert await database.write(identity.delete_access_key, "AK")
    assert not await database.write(identity.delete_access_key, "AK")
    assert not await database.write(identity.enable_access_key, "AK", is_enabled=True)


@pytest.mark.asyncio
async def test_whoever_is_disabled_has_no_key_no_token_and_no_password(database: Database) -> None:
    await database.write(add_ann)
    await database.write(
        identity.insert_access_key, access="AK", secret_sealed=b"x", member_id="a1", now_ms=0
    )
    named = identity.Named("a1", "ann")
    await database.write(
        identity.insert_token, b"1", identity.StoredToken(named, PROJECT, "reader", 0, 9)
    )
    temporary = identity.TemporaryKey(
        secret_sealed=b"x", token_digest=b"t", member=named, project_id=PROJECT, expires_at_ms=9
    )
    await database.write(identity.insert_temporary_key, "MT", temporary, now_ms=0)
    assert await database.read(identity.find_temporary_key, "MT") == temporary

    await database.write(identity.enable_member, "a1", is_enabled=False)

    assert await database.read(identity.find_access_key, "AK") is None
    assert await database.read(identity.find_token, b"1") is None
    assert await database.read(identity.find_temporary_key, "MT") is None
    assert await database.read(identity.find_member, id_="a1") is None
    assert await database.read(identity.find_member_by_name, "ann") == ANN


@pytest.mark.asyncio
async def test_an_expired_temporary_key_is_told_apart_for_a_day(database: Database) -> None:
    await database.write(add_ann)
    key = identity.TemporaryKey(
        secret_sealed=b"x",
        token_digest=b"t",
        member=identity.Named("a1", "ann"),
        project_id=PROJECT,
        expires_at_ms=1_000,
    )
    await database.write(identity.insert_temporary_key, "MT1", key, now_ms=0)

    await database.write(identity.insert_temporary_key, "MT2", key, now_ms=86_400_000)
    assert await database.read(identity.find_temporary_key, "MT1") is not None
    await database.write(identity.insert_temporary_key, "MT3", key, now_ms=86_402_000)
    assert await database.read(identity.find_temporary_key, "MT1") is None


class TestMemberships:
    ANN = identity.Named("a1", "ann")

    @pytest.mark.asyncio
    async def test_a_role_in_each_project(self, database: Database) -> None:
        await database.write(add_ann)

        found = await database.read(identity.find_membership, self.ANN, PROJECT)
        other = await database.read(identity.find_membership, self.ANN, OTHER_PROJECT)

        assert found == identity.Membership(role=Role.READER)
        assert other == identity.Membership(role=Role.DEVELOPER)
        assert await database.read(identity.find_membership, self.ANN, "3" * 32) is None

    @pytest.mark.asyncio
    async def test_a_change_keeps_what_it_does_not_name(self, database: Database) -> None:
        await database.write(add_ann)

        def put(tx: Transaction, role: Role, may_prioritise: bool | None) -> None:
            identity.put_membership(
                tx,
                member_id="a1",
                project_id=PROJECT,
                role=role,
                may_prioritise=may_prioritise,
            )

        for given, may_prioritise in ((True, True), (None, True), (False, False), (None, False)):
            await database.write(put, Role.DEVELOPER, given)
            assert await database.read(identity.find_membership, self.ANN, PROJECT) == (
                identity.Membership(role=Role.DEVELOPER, may_prioritise=may_prioritise)
            )

    @pytest.mark.asyncio
    async def test_only_workspaces_where_the_role_is_another_are_named(
        self, database: Database
    ) -> None:
        await database.write(add_ann)
        made = [
            Workspace(id="public", name="public"),
            Workspace(id="own", name="own", auth_type=AuthType.PRIVATE, owner_id="a1"),
            Workspace(id="closed", name="closed", auth_type=AuthType.PRIVATE),
            Workspace(
                id="granted",
                name="granted",
                auth_type=AuthType.INTERNAL,
                grants=(Grant(user_id="b"), Grant(user_name="ann"), Grant(user_id="a1")),
            ),
            Workspace(
                id="others",
                name="others",
                auth_type=AuthType.INTERNAL,
                grants=(Grant(user_id="b", user_name="ann"),),
            ),
            Workspace(id="more", name="more"),
            Workspace(id="same", name="same", auth_type=AuthType.PRIVATE),
        ]
        for workspace in made:
            await database.write(workspaces.insert_workspace, PROJECT, workspace)
        for workspace_id, role in (("more", Role.ADMINISTRATOR), ("same", Role.READER)):
            await database.write(
                workspaces.put_role,
                project_id=PROJECT,
                workspace_id=workspace_id,
                member_id="a1",
                role=role,
            )

        found = await database.read(identity.find_membership, self.ANN, PROJECT)

        assert found is not None
        assert found.workspace_roles == {
            "closed": None,
            "others": None,
            "more": Role.ADMINISTRATOR,
        }

    @pytest.mark.asyncio
    async def test_who_leaves_a_project_leaves_its_workspaces(self, database: Database) -> None:
        await database.write(add_ann)
        await database.write(
            workspaces.put_role,
            project_id=PROJECT,
            workspace_id="0",
            member_id="a1",
            role=Role.DEVELOPER,
        )

        assert await database.write(identity.delete_membership, member_id="a1", project_id=PROJECT)

        assert await database.read(identity.find_membership, self.ANN, PROJECT) is None
        assert await database.read(workspaces.list_roles, PROJECT) == []
        assert not await database.write(
            identity.delete_membership, member_id="a1", project_id=PROJECT
        )
        [left] = await database.read(identity.list_memberships)
        assert (left.user_name, left.project_name, left.role) == ("ann", "other", "developer")


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
