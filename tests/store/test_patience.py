"""Writes that nobody waits for: they gather, and never longer than they may."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from muster.domain.errors import MusterError
from muster.store import groupcommit
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase
from muster.store.transaction import Transaction
from tests.store.rows import PROJECT, add_workload, set_up_store


def add_all(tx: Transaction, names: Sequence[str]) -> list[str | MusterError]:
    for name in names:
        add_workload(tx, name)
    return list(names)


def list_names(connection: Connection) -> list[str]:
    rows = connection.execute("SELECT name FROM job WHERE project_id = ? ORDER BY id", (PROJECT,))
    return [name for (name,) in rows]


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_one_that_comes_alone_waits_for_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "PATIENCE_SECONDS", 3_600)

    assert await database.write_together(add_all, "alone", is_patient=True) == "alone"


@pytest.mark.asyncio
async def test_those_after_it_gather_and_go_along_with_one_that_does_not_wait(
    embedded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    await embedded.write(set_up_store)
    monkeypatch.setattr(groupcommit, "PATIENCE_SECONDS", 3_600)
    await embedded.write_together(add_all, "first", is_patient=True)
    embedded.on_work(lambda: commits.append(1))

    waiting = []
    for name in ("second", "third"):
        waiting.append(asyncio.create_task(embedded.write_together(add_all, name, is_patient=True)))
        await turns_of_the_loop(3)
    assert not any(task.done() for task in waiting)
    await embedded.write_together(add_all, "hasty")

    assert await asyncio.gather(*waiting) == ["second", "third"]
    assert len(commits) == 1
    assert await embedded.read(list_names) == ["first", "second", "third", "hasty"]


@pytest.mark.asyncio
async def test_those_that_nobody_comes_after_are_committed_when_their_patience_ends(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "PATIENCE_SECONDS", 0.001)

    for name in "abcdefgh":
        await database.write_together(add_all, name, is_patient=True)

    assert await database.read(list_names) == list("abcdefgh")


@pytest.mark.asyncio
async def test_closing_commits_those_that_still_gather(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "PATIENCE_SECONDS", 3_600)
    database = SqliteDatabase(file)
    await database.write(set_up_store)
    await database.write_together(add_all, "first", is_patient=True)
    waiting = asyncio.create_task(database.write_together(add_all, "second", is_patient=True))
    await turns_of_the_loop(3)

    database.close()

    assert await waiting == "second"
    again = SqliteDatabase(file)
    assert await again.read(list_names) == ["first", "second"]
    again.close()


async def commit_two_that_waited(database: Database) -> None:
    await database.write_together(add_all, "alone", is_patient=True)
    together = [database.write_together(add_all, name, is_patient=True) for name in ("a", "b")]
    await asyncio.gather(*together)


@pytest.mark.asyncio
async def test_those_that_come_as_a_stream_gather_for_longer(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(groupcommit, "STREAM_PATIENCE_SECONDS", 3_600)
    monkeypatch.setattr(groupcommit, "STREAM_COUNT", 2)
    monkeypatch.setattr(groupcommit, "STREAM_PER_SECOND", 0)
    await commit_two_that_waited(database)

    waiting = asyncio.create_task(database.write_together(add_all, "c", is_patient=True))
    done, _ = await asyncio.wait({waiting}, timeout=0.1)  # an hour, but for the hasty one

    assert not done
    await database.write_together(add_all, "hasty")
    assert await waiting == "c"


@pytest.mark.asyncio
async def test_few_that_come_slowly_are_no_stream(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groupcommit, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(groupcommit, "STREAM_PATIENCE_SECONDS", 3_600)
    monkeypatch.setattr(groupcommit, "STREAM_COUNT", 3)
    await commit_two_that_waited(database)

    assert await database.write_together(add_all, "c", is_patient=True) == "c"


@pytest.mark.asyncio
async def test_when_many_have_gathered_none_of_them_waits(
    embedded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    await embedded.write(set_up_store)
    monkeypatch.setattr(groupcommit, "PATIENCE_SECONDS", 3_600)
    monkeypatch.setattr(groupcommit, "STREAM_BATCH", 3)
    await embedded.write_together(add_all, "first", is_patient=True)
    embedded.on_work(lambda: commits.append(1))

    names = ["second", "third", "fourth"]
    together = [embedded.write_together(add_all, name, is_patient=True) for name in names]

    assert await asyncio.gather(*together) == names
    assert len(commits) == 1
