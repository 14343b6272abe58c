"""What many ask for at once: one call for all of them, and each answered for himself."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from muster.domain.errors import (
    IllegalTransition,
    JobUnknown,
    NameTaken,
    QuotaExceeded,
    StaleWrite,
    StoragePathInvalid,
    WorkspaceUnknown,
)
from muster.domain.phase import Event, Phase, Reason
from muster.domain.placement import TaskPlacement
from muster.domain.workload import Workload
from muster.domain.workspace import QuotaResource
from muster.store import jobs, workloads, workspaces
from muster.store.connection import REFUSED, Connection
from muster.store.database import Database
from muster.store.moves import EndAttempt, Happened, Hold, Move, Release, move_workloads
from muster.store.submissions import Submission, SubmittedVersion, insert_submissions
from muster.store.timeline import list_events, list_past_attempts
from muster.store.transaction import Transaction, reads_no_counters
from tests.store.rows import (
    GPU_POOL,
    OTHER_PROJECT,
    PROJECT,
    TWO_GPUS,
    WORKSPACE,
    a_submission,
    a_version,
    add_job,
    add_workload,
    counts_of,
    find_differences,
    get_workload,
)

ON_EVERY_POSTGRES = True


async def all_of(database: Database, *submissions: Submission) -> list[Any]:
    """What becomes of submissions that come in one moment."""
    return await asyncio.gather(
        *(database.write_together(insert_submissions, one) for one in submissions),
        return_exceptions=True,
    )


async def all_moved(database: Database, *moves: Move) -> list[Any]:
    return await asyncio.gather(
        *(database.write_together(move_workloads, move) for move in moves),
        return_exceptions=True,
    )


def list_jobs(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT name, version_count, status, creator_name FROM job ORDER BY id"
    ).fetchall()


def happened(event: Event, **more: Any) -> Happened:
    return Happened(event=event, now_ms=2_000, actor="muster", **more)


class TestTheStore:
    @pytest.mark.asyncio
    async def test_what_waits_with_the_same_work_is_handed_over_in_one_call(
        self, database: Database
    ) -> None:
        calls: list[list[int]] = []

        def double(tx: Transaction, items: Sequence[int]) -> list[int]:
            calls.append(list(items))
            return [2 * item for item in items]

        answers = await asyncio.gather(
            *(database.write_together(double, item) for item in range(9))
        )

        assert answers == [0, 2, 4, 6, 8, 10, 12, 14, 16]
        assert calls == [list(range(9))]

    @pytest.mark.asyncio
    async def test_work_that_raises_is_done_again_one_by_one(self, database: Database) -> None:
        @reads_no_counters
        def add(tx: Transaction, names: Sequence[str]) -> list[int]:
            made = [add_job(tx, name).id for name in names]
            if "bad" in names:
                raise ZeroDivisionError
            return made

        one, bad, two, other = await asyncio.gather(
            database.write_together(add, "one"),
            database.write_together(add, "bad"),
            database.write_together(add, "two"),
            database.write(add_job, "other"),
            return_exceptions=True,
        )

        assert isinstance(bad, ZeroDivisionError)
        assert not any(isinstance(answer, Exception) for answer in (one, two, other))
        names = {name for name, *_ in await database.read(list_jobs)}
        assert names == {"one", "two", "other"}
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_what_the_schema_refuses_is_refused_to_its_own_caller(
        self, database: Database
    ) -> None:
        uid = "a" * 32
        first, second, third = [
            replace(a_submission(name), version=replace(a_version(name), workload_uid=uid))
            for name in ("first", "second", "third")
        ]
        third = replace(third, version=a_version("third"))

        answers = await all_of(database, first, second, third)

        assert isinstance(answers[0], SubmittedVersion)
        assert isinstance(answers[1], REFUSED)
        assert isinstance(answers[2], SubmittedVersion)
        assert await counts_of(database) == {"Creating": 2}
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_one_that_fails_alone_changes_nothing(self, database: Database) -> None:
        @reads_no_counters
        def add_and_fail(tx: Transaction, names: Sequence[str]) -> list[int]:
            for name in names:
                add_workload(tx, name)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await database.write_together(add_and_fail, "only")

        assert await database.read(list_jobs) == []
        assert await counts_of(database) == {}
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_a_recent_answer_is_as_new_as_what_this_server_has_committed(
        self, database: Database
    ) -> None:
        for count in range(1, 5):
            await database.write(add_job, f"job-{count}")

            assert len(await database.read_recent(list_jobs)) == count

    @pytest.mark.asyncio
    async def test_those_who_ask_in_one_moment_share_a_recent_answer(
        self, database: Database
    ) -> None:
        reads: list[int] = []

        def read(connection: Connection, which: str) -> str:
            reads.append(1)
            return which

        answers = await asyncio.gather(*(database.read_recent(read, "this") for _ in range(20)))

        assert answers == ["this"] * 20
        assert len(reads) == 1


class TestSubmissions:
    @pytest.mark.asyncio
    async def test_each_is_answered_for_itself(self, database: Database) -> None:
        await database.write(add_job, "there")

        answers = await all_of(
            database,
            a_submission("one"),
            a_submission("there"),
            a_submission("one"),
            a_submission("two", workspace_id="nowhere"),
            a_submission("one", project_id=OTHER_PROJECT),
            replace(a_submission("x"), job=99),
            a_submission("three"),
        )

        made, taken, again, nowhere, elsewhere, unknown, last = answers
        assert (made.job_name, made.version_number) == ("one", 1)
        assert isinstance(taken, NameTaken)
        assert isinstance(again, NameTaken)
        assert isinstance(nowhere, WorkspaceUnknown)
        assert isinstance(elsewhere, SubmittedVersion)
        assert isinstance(unknown, JobUnknown)
        assert last.job_id > elsewhere.job_id > made.job_id
        assert await counts_of(database) == {"Creating": 2}
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_times_ascend_with_the_ids(self, database: Database) -> None:
        times = (9, 3, 12, 5)

        made = await all_of(database, *(a_submission(f"job-{time}", now_ms=time) for time in times))

        assert [one.created_at_ms for one in made] == [9, 9, 12, 12]
        assert [one.version_id for one in made] == sorted(one.version_id for one in made)

    @pytest.mark.asyncio
    async def test_versions_of_one_job_are_numbered_one_after_the_other(
        self, database: Database
    ) -> None:
        job = await database.write(add_job, "digits", engine_type=1)
        further = [
            replace(
                a_submission("digits"),
                job=job.id,
                version=a_version("digits"),
                description=f"try {number}" if number < 3 else "",
            )
            for number in (1, 2, 3)
        ]

        made = await all_of(database, *further)

        assert [one.version_number for one in made] == [1, 2, 3]
        shown = await database.read(jobs.get_job, PROJECT, job.id)
        assert (shown.version_count, shown.next_version_number) == (3, 4)
        assert shown.latest_version_id == made[-1].version_id
        assert shown.description == "try 2"
        assert await counts_of(database) == {"Creating": 3}
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_64_clients_get_exactly_what_the_quotas_leave(self, database: Database) -> None:
        def limit(tx: Transaction) -> None:
            quotas = {QuotaResource.TRAINING_JOBS: 40}
            workspaces.put_quotas(tx, PROJECT, WORKSPACE, quotas, now_ms=1)

        await database.write(limit)

        answers = await all_of(
            database,
            *(a_submission(f"here-{n}") for n in range(64)),
            *(a_submission(f"there-{n}", project_id=OTHER_PROJECT, job_quota=7) for n in range(64)),
        )

        kinds = [type(answer) for answer in answers]
        assert kinds[:64] == [SubmittedVersion] * 40 + [QuotaExceeded] * 24
        assert kinds[64:] == [SubmittedVersion] * 7 + [QuotaExceeded] * 57
        assert len(await database.read(list_jobs)) == 47
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_of_two_projects_that_want_a_bucket_the_first_gets_it(
        self, database: Database
    ) -> None:
        def wanting(name: str, project_id: str) -> Submission:
            version = replace(a_version(name, project_id), claims=(("results", False),))
            return replace(a_submission(name, project_id=project_id), version=version)

        first, second, third = await all_of(
            database,
            wanting("a", PROJECT),
            wanting("b", OTHER_PROJECT),
            wanting("c", PROJECT),
        )

        assert isinstance(first, SubmittedVersion)
        assert isinstance(second, StoragePathInvalid)
        assert isinstance(third, SubmittedVersion)
        assert await database.scan(find_differences) == []


class TestMoves:
    @pytest.mark.asyncio
    async def test_each_is_guarded_by_its_own_revision(self, database: Database) -> None:
        ready = [await database.write(add_workload, name) for name in ("a", "b", "c", "d")]
        overtaken = ready[1]._replace(revision=7)
        queue = (happened(Event.ENQUEUED),)

        a, b, c, twice, illegal = await all_moved(
            database,
            Move(workload=ready[0], steps=queue),
            Move(workload=overtaken, steps=queue),
            Move(workload=ready[2], steps=queue),
            Move(workload=ready[0], steps=queue),
            Move(workload=ready[3], steps=(happened(Event.FOUND),)),
        )

        assert (a.phase, c.phase) == (Phase.QUEUED, Phase.QUEUED)
        assert isinstance(b, StaleWrite)
        assert isinstance(twice, StaleWrite)
        assert isinstance(illegal, IllegalTransition)
        assert await get_workload(database, a) == a
        assert await counts_of(database) == {"Creating": 2, "Queue": 2}
        assert len(await database.read(list_events, a.id)) == 1
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_all_steps_of_a_move_are_one_write(self, database: Database) -> None:
        workload = await database.write(add_workload, "a", pool_id=GPU_POOL, task=TWO_GPUS)
        steps = (happened(Event.ENQUEUED), on("gpu-a", 0, 1), happened(Event.PLACED))

        [moved] = await all_moved(database, Move(workload=workload, steps=steps))

        assert (moved.phase, moved.is_holding, moved.attempt_count) == (Phase.STARTING, True, 1)
        assert await get_workload(database, moved) == moved
        events = await database.read(list_events, moved.id)
        assert [(e.number, e.event) for e in events] == [(1, Event.ENQUEUED), (2, Event.PLACED)]
        assert await counts_of(database, GPU_POOL) == {
            "Pending": 1, "cpu_millis": 2_000, "memory_mib": 2_048, "gpu_count": 2
        }  # fmt: skip
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_a_card_goes_to_the_first_who_asks_and_is_free_once_given_back(
        self, database: Database
    ) -> None:
        a, b, c = [
            await database.write(
                add_workload, name, phase=Phase.QUEUED, pool_id=GPU_POOL, task=TWO_GPUS
            )
            for name in ("a", "b", "c")
        ]
        placed = happened(Event.PLACED)

        got, refused, gone = await all_moved(
            database,
            Move(workload=a, steps=(on("gpu-a", 0, 1), placed)),
            Move(workload=b, steps=(on("gpu-a", 1, 2), placed)),
            Move(workload=c, steps=(on("gpu-z", 0, 1), placed)),
        )

        assert isinstance(got, Workload)
        assert isinstance(refused, StaleWrite)
        assert "Card 1 of gpu-a" in refused.message
        assert isinstance(gone, StaleWrite)
        ended = (happened(Event.STARTED), happened(Event.SUCCEEDED), Release())
        given_back, taken = await all_moved(
            database,
            Move(workload=got, steps=ended),
            Move(workload=b, steps=(on("gpu-a", 1, 2), placed)),
        )
        assert (given_back.phase, given_back.is_holding) == (Phase.COMPLETED, False)
        assert (taken.phase, taken.is_holding) == (Phase.STARTING, True)
        held = await database.read(workloads.list_held_cards)
        assert sorted(held) == [("host-of-gpu-a", 1), ("host-of-gpu-a", 2)]
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_many_attempts_end_together(self, database: Database) -> None:
        def add_running(tx: Transaction, name: str) -> Workload:
            workload = add_workload(tx, name, phase=Phase.RUNNING)
            tx.execute("UPDATE workload SET retries_left = 1 WHERE id = ?", (workload.id,))
            return workload._replace(retries_left=1)

        running = [await database.write(add_running, f"job-{n}") for n in range(7)]
        retried = happened(Event.RETRIED, reason=Reason.TASK_EXIT, message="It failed.")
        steps = (retried, Release(), EndAttempt(ended_at_ms=3_000))

        moved = await all_moved(database, *(Move(workload=one, steps=steps) for one in running))

        assert {one.phase for one in moved} == {Phase.QUEUED}
        assert [await get_workload(database, one) for one in moved] == moved
        past = await database.read(list_past_attempts, [one.id for one in moved])
        assert {attempts[0].reason for attempts in past.values()} == {Reason.TASK_EXIT}
        again = await all_moved(
            database, Move(workload=moved[0], steps=(EndAttempt(ended_at_ms=3_000),))
        )
        assert isinstance(again[0], StaleWrite)
        assert await counts_of(database) == {"Queue": 7}
        assert await database.scan(find_differences) == []

    @pytest.mark.asyncio
    async def test_a_move_without_a_change_is_no_write(self, database: Database) -> None:
        workload = await database.write(add_workload, "a", phase=Phase.QUEUED)

        [same] = await all_moved(database, Move(workload=workload, steps=(Release(),)))

        assert same == workload
        assert await get_workload(database, workload) == workload


def on(node_name: str, *cards: int) -> Hold:
    return Hold(
        placements=(TaskPlacement(index=0, node_name=node_name, cards=cards),), attempt_id="f" * 32
    )
