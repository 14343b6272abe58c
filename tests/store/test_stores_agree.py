"""The same random users on SQLite and on PostgreSQL: both stores answer the same, always.

MUSTER_SEQUENCES sets how many sequences of operations are tried; 10,000 take some minutes.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from muster.domain.phase import StatisticsState
from muster.store import identity, listing, pool_listing, training_listing
from muster.store.connection import Connection
from muster.store.database import Database
from muster.store.listing import JOB_SORT_KEYS, VERSION_SORT_KEYS, ListQuery
from muster.store.tags import TagTerm
from muster.store.training_listing import TRAINING_SORT_KEYS, TrainingSearch
from muster.store.training_terms import SearchTerm
from muster.store.transaction import Transaction
from tests.postgres import postgres_kinds
from tests.store.rows import (
    ACCOUNT,
    GPU_POOL,
    PROJECT,
    WORKSPACE,
    find_differences,
    set_up_store,
)
from tests.store.test_random_operations import User
from tests.stores import Stores

SEQUENCES: Final = int(os.environ.get("MUSTER_SEQUENCES", "80"))
OPERATIONS_MAX: Final = 8  # of one sequence, which is one write
WHOLE_EVERY: Final = 125  # sequences after which everything is compared

TABLES: Final = (
    "tally", "version_total", "job_total", "id_block", "workspace_use", "job", "version",
    "workload", "event", "card_hold", "past_attempt", "node", "pool", "pool_event", "version_tag",
)  # fmt: skip


@pytest.fixture(params=postgres_kinds())
def pair(
    tmp_path: Path, stores: Stores, request: pytest.FixtureRequest
) -> Iterator[list[Database]]:
    with ExitStack() as opened:
        kinds = ["sqlite", request.param]
        yield [opened.enter_context(stores.fresh(kind, tmp_path / kind)) for kind in kinds]


class Asker:
    """Asks random questions; the same ones of each store."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def questions(self, now_ms: int) -> list[tuple[Any, ...]]:
        """(function of `listing`, what it is asked), one of each list."""
        return [
            (listing.page_of_jobs, self._list(JOB_SORT_KEYS, now_ms, self._search())),
            (listing.page_of_versions, self._list(VERSION_SORT_KEYS, now_ms, self._pool())),
            (training_listing.page_of_training_jobs, self._training(now_ms)),
            (page_of_pool, self._pool_workloads()),
            (stream_whole, self._list(VERSION_SORT_KEYS, now_ms, self._pool())),
        ]

    def _list(self, keys: Any, now_ms: int, more: dict[str, Any]) -> ListQuery:
        return ListQuery(
            project_id=PROJECT,
            workspace_id=WORKSPACE,
            sort_key=self.random.choice(sorted(keys)),
            is_descending=self.random.random() < 0.5,
            offset=self.random.choice([0, 0, 3, 40, 400]),
            limit=self.random.choice([1, 5, 20]),
            now_ms=now_ms,
            statuses=self._statuses() or (),
            **more,
        )

    def _statuses(self) -> tuple[int, ...] | None:
        return self.random.choice([None, None, (10,), (7, 8, 10), (1, 11, 12)])

    def _search(self) -> dict[str, Any]:
        return {"search": self.random.choice(["", "", "job", "-1", "JOB-2", "%", "_"])}

    def _pool(self) -> dict[str, Any]:
        return {"pool_id": self.random.choice([None, None, "", GPU_POOL])}

    def _training(self, now_ms: int) -> TrainingSearch:
        terms = [
            (),
            (),
            (SearchTerm(key="name", operator="like", values=("b-1", "v0002")),),
            (SearchTerm(key="name", operator="in", values=("job-3", "job-4-V0002")),),
            (SearchTerm(key="pool_id", operator="not", values=(GPU_POOL,)),),
            (SearchTerm(key="algorithm_name", operator="like", values=("O",)),),
            (SearchTerm(key="algorithm_name", operator="in", values=("yolo", "a_b")),),
            (SearchTerm(key="algorithm_name", operator="not", values=("yolo",)),),
            (SearchTerm(key="user_id", operator="in", values=("id-of-ann",)),),
            (SearchTerm(key="user_id", operator="not", values=("id-of-ann",)),),
        ]
        return TrainingSearch(
            project_id=PROJECT,
            workspace_id=WORKSPACE,
            sort_key=self.random.choice(sorted(TRAINING_SORT_KEYS)),
            is_descending=self.random.random() < 0.5,
            offset=self.random.choice([0, 0, 3, 40]),
            limit=self.random.choice([1, 5, 20]),
            now_ms=now_ms,
            statuses=self._statuses(),
            created_from_ms=self.random.choice([None, now_ms - 20]),
            created_to_ms=self.random.choice([None, now_ms - 5]),
            terms=self.random.choice(terms),
            tags=self.random.choice(
                [(), (), (TagTerm("team"),), (TagTerm("team", ("a", "")), TagTerm("cost"))]
            ),
        )

    def _pool_workloads(self) -> dict[str, Any]:
        states = [StatisticsState.RUNNING, StatisticsState.COMPLETED]
        return {
            "types": self.random.choice([None, ["train"]]),
            "states": self.random.choice([None, states]),
            "hosts": self.random.choice([None, None, ["gpu-1", "gpu-2"]]),
            "is_ascending": self.random.random() < 0.5,
            "offset": self.random.choice([0, 0, 30]),
            "limit": 7,
        }


def page_of_pool(connection: Connection, asked: dict[str, Any]) -> Any:
    return pool_listing.page_of_pool_workloads(
        connection, project_id=PROJECT, pool_id=GPU_POOL, **asked
    )


def stream_whole(connection: Connection, query: ListQuery) -> list[Any]:
    return [row for rows in listing.stream_versions(connection, query) for row in rows]


def tables_of(connection: Connection) -> dict[str, list[Any]]:
    """Every row of every table, in an order that does not depend on the store."""
    columns = {"workload": "id, phase, reason, is_deleted, is_holding, revision, ended_at_ms"}
    return {
        table: sorted(
            connection.execute(f"SELECT {columns.get(table, '*')} FROM {table}").fetchall(),  # noqa: S608
            key=repr,
        )
        for table in TABLES
    }


async def compare(pair: list[Database], seed: int, sequences: int) -> None:
    for database in pair:
        await database.write(set_up_store)
        ann = identity.Member("id-of-ann", "ann", "", ACCOUNT)
        await database.write(identity.insert_member, ann)
    random = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    own = [random.randrange(2**32)] * len(pair)
    users = [User(Random(own_seed)) for own_seed in own]  # noqa: S311
    asker = Asker(random)
    for sequence in range(1, sequences + 1):
        operations = random.randrange(1, OPERATIONS_MAX)

        def act(tx: Transaction, user: User, operations: int = operations) -> None:
            for _ in range(operations):
                user.act(tx)

        for database, user in zip(pair, users, strict=True):
            await database.write(act, user)
        for ask, asked in asker.questions(users[0].now_ms):
            one, other = [as_lists(await database.read(ask, asked)) for database in pair]
            assert one == other, f"sequence {sequence}: {ask.__name__} {asked}"
        if sequence % WHOLE_EVERY == 0 or sequence == sequences:
            one, other = [await database.scan(tables_of) for database in pair]
            assert one == other, f"sequence {sequence}"
            for database in pair:
                assert await database.scan(find_differences) == []


def as_lists(answer: Any) -> Any:
    """Rows as they are, whatever kind of sequence a store gives them in."""
    if isinstance(answer, tuple | list):
        return [as_lists(part) for part in answer]
    return answer


@pytest.mark.timeout(3600)
def test_both_stores_answer_the_same_after_every_sequence_of_operations(
    pair: list[Database],
) -> None:
    asyncio.run(compare(pair, seed=1, sequences=SEQUENCES))
