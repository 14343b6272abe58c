"""The lease on the right to act, held in a real PostgreSQL."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from muster.domain.errors import StaleWrite
from muster.domain.lease import Lease
from muster.engines import processes
from muster.reconciler import leadership as leadership_module
from muster.reconciler.leadership import (
    FencedDatabase,
    Leadership,
    end_process_of,
    this_server,
)
from muster.store.database import Database
from muster.store.leases import RECONCILER, keep_lease, take_lease
from muster.store.transaction import Transaction, reads_no_counters
from tests.postgres import postgres_kinds
from tests.store.rows import set_up_store
from tests.stores import running_stores

FIRST = this_server()
SECOND = replace(FIRST, name="second", pid=FIRST.pid + 1)


@pytest.fixture(scope="module")
def shared() -> Iterator[Database]:
    with (
        running_stores() as stores,
        stores.fresh(postgres_kinds()[0], Path()) as database,
    ):
        asyncio.run(database.write(set_up_store))
        yield database


@pytest.fixture
def database(shared: Database) -> Database:
    def free(tx: Transaction) -> None:
        tx.execute("DELETE FROM lease")

    asyncio.run(shared.write(free))
    return shared


async def take(database: Database, holder=FIRST, *, for_ms: int = 60_000):  # type: ignore[no-untyped-def]
    return await database.write(
        take_lease, RECONCILER, holder, watched_ms=60_000, for_ms=for_ms, elsewhere_ms=0
    )


@pytest.mark.asyncio
async def test_one_has_it_until_its_time_has_run_out(database: Database) -> None:
    lease, before = await take(database)
    assert (lease.revision, before) == (1, None)
    assert await take(database, SECOND) is None

    lease, before = await take(database, for_ms=-1)
    assert (lease.revision, before) == (1, None)  # it has only kept it

    taken, before = await take(database, SECOND)
    assert taken.revision == 2
    assert before.holder == FIRST


@pytest.mark.asyncio
async def test_what_a_former_holder_writes_is_refused_and_changes_nothing(
    database: Database,
) -> None:
    lease, _ = await take(database, for_ms=-1)
    former = FencedDatabase(database, lease)

    def rename(tx: Transaction, name: str) -> None:
        tx.execute("UPDATE account SET name = :name", {"name": name})

    await former.write(rename, "by its holder")
    await take(database, SECOND)

    with pytest.raises(StaleWrite, match="Another server has taken over"):
        await former.write(rename, "by nobody")
    with pytest.raises(StaleWrite):
        await database.write(keep_lease, RECONCILER, lease, for_ms=1)
    [[name]] = await database.read(lambda c: c.execute("SELECT name FROM account").fetchall())
    assert name == "by its holder"


@pytest.mark.asyncio
async def test_what_goes_together_looks_at_the_lease_once_and_is_refused_without_it(
    database: Database,
) -> None:
    lease, _ = await take(database, for_ms=-1)
    former = FencedDatabase(database, lease)
    calls: list[Sequence[str]] = []

    @reads_no_counters
    def rename(tx: Transaction, names: Sequence[str]) -> Sequence[str]:
        calls.append(names)
        tx.execute("UPDATE account SET name = :name", {"name": names[-1]})
        return names

    named = await asyncio.gather(*(former.write_together(rename, name) for name in "abc"))
    await take(database, SECOND)
    refused = await asyncio.gather(
        *(former.write_together(rename, name) for name in "xyz"), return_exceptions=True
    )

    assert named == ["a", "b", "c"]
    assert calls == [["a", "b", "c"]]
    assert [type(answer) for answer in refused] == [StaleWrite] * 3
    [[name]] = await database.read(lambda c: c.execute("SELECT name FROM account").fetchall())
    assert name == "c"


class Led:
    """Notes when a server leads, and on which lease."""

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    @asynccontextmanager
    async def lead(self, fenced: Database) -> AsyncIterator[None]:
        assert isinstance(fenced, FencedDatabase)
        self.revisions.append(fenced.lease.revision)
        self.begun.set()
        try:
            yield
        finally:
            self.ended.set()


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_server_that_ends_in_order_leaves_the_lease_to_the_next_at_once(
    database: Database,
) -> None:
    one, two = Led(), Led()
    first = Leadership(database, one.lead, server=FIRST)
    second = Leadership(database, two.lead, server=SECOND)
    turns = [asyncio.create_task(first.run())]
    await one.begun.wait()
    turns.append(asyncio.create_task(second.run()))

    turns[0].cancel()
    await asyncio.wait({turns[0]})
    await two.begun.wait()

    assert one.ended.is_set()
    assert (one.revisions, two.revisions) == ([1], [2])
    assert (first.is_leading, second.is_leading) == (False, True)
    turns[1].cancel()
    await asyncio.wait({turns[1]})


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_leader_that_learns_that_another_has_it_leads_no_more(database: Database) -> None:
    led = Led()
    leadership = Leadership(database, led.lead, server=FIRST)
    turns = asyncio.create_task(leadership.run())
    await led.begun.wait()

    def usurp(tx: Transaction) -> None:
        tx.execute(
            "UPDATE lease SET holder = 'x', revision = revision + 1, until_ms = until_ms * 2"
        )

    await database.write(usurp)
    await led.ended.wait()

    turns.cancel()
    await asyncio.wait({turns})
    assert led.revisions == [1]


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_a_leader_that_fails_as_nobody_expected_leads_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would serve for months, and nothing would be started any more."""
    led = Led()
    failures = iter([KeyError("lease")])

    def keep(tx: Transaction, name: str, lease: Lease, *, for_ms: int) -> None:
        for failure in failures:
            raise failure
        keep_lease(tx, name, lease, for_ms=for_ms)

    monkeypatch.setattr(leadership_module, "keep_lease", keep)
    turns = asyncio.create_task(Leadership(database, led.lead, server=FIRST).run())
    await led.ended.wait()
    led.begun.clear()
    await asyncio.wait(
        {turns, asyncio.create_task(led.begun.wait())}, return_when="FIRST_COMPLETED"
    )

    assert not turns.done()
    assert len(led.revisions) == 2
    turns.cancel()
    await asyncio.wait({turns})


def test_a_stalled_leader_of_this_machine_is_ended_and_no_other_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        identity = processes.find_identity(process.pid)
        assert identity is not None
        stalled = replace(FIRST, name="stalled", pid=process.pid, start_ticks=identity.start_ticks)
        try:
            for other in (
                replace(stalled, machine="elsewhere"),
                replace(stalled, boot_id="before"),
                replace(stalled, start_ticks=stalled.start_ticks + 1),
                replace(stalled, name=""),  # it gave the lease back
            ):
                end_process_of(other, FIRST)
            assert process.poll() is None

            end_process_of(stalled, FIRST)
            assert process.wait(10) == -9
        finally:
            process.kill()
    end_process_of(stalled, FIRST)  # it is gone: nothing to do
    assert os.getpid() == FIRST.pid


def test_a_lease_names_this_process() -> None:
    assert (FIRST.pid, bool(FIRST.machine), bool(FIRST.name)) == (os.getpid(), True, True)
    assert Lease(holder=FIRST, revision=1, until_ms=0).holder == FIRST
