"""Sweeps: what is archived when, what is left on disk, and which snapshots go."""

import os
import time
from pathlib import Path
from typing import Any, Final

import pytest

from muster.domain.command import Run
from muster.domain.errors import StoreUnavailable
from muster.domain.jobfolder import channel_folder, code_folder, log_file, output_folder
from muster.domain.phase import Phase
from muster.domain.training import Parameter, TrainingConfig
from muster.objects.url import parse_url
from muster.operations import training
from muster.reconciler.sweeps import BATCH_ROWS, SNAPSHOT_IDLE_SECONDS, Sweeper, batches
from muster.store import jobs, timeline, workloads
from muster.store.archive import Due
from muster.store.connection import Connection
from muster.store.submissions import SubmittedVersion
from tests.reconciler.site import CALLER, PROJECT, Site

DAY_MS: Final = 86_400_000


def sweeper_of(site: Site, *, after_ms: int | None = DAY_MS, database: Any = None) -> Sweeper:
    return Sweeper(
        database=database or site.database,
        objects=site.training.objects,
        jobs_folder=site.folder / "jobs",
        clock_ms=site.clock_ms,
        archive_after_ms=after_ms,
        rest_seconds=0.0,
    )


async def submit_and_finish(site: Site, name: str, **config: Any) -> SubmittedVersion:
    version = await site.submit(name, **config)
    await site.settle()
    attempt = await site.attempt(version)
    site.engine.come_up(attempt)
    site.engine.finish(attempt, 0, 0)
    await site.settle()
    assert (await site.workload(version)).phase is Phase.COMPLETED
    return version


async def archived(site: Site) -> list[int]:
    def read(connection: Connection) -> list[int]:
        rows = connection.execute("SELECT workload_id FROM archived ORDER BY workload_id")
        return [workload_id for [workload_id] in rows]

    return await site.database.read(read)


@pytest.mark.asyncio
async def test_a_job_is_archived_once_it_has_ended_for_so_long(site: Site) -> None:
    await submit_and_finish(site, "old")
    sweeper = sweeper_of(site)

    assert await sweeper.archive_due() == 0
    site.clock_ahead_ms += DAY_MS + 1
    await submit_and_finish(site, "new")
    assert await sweeper.archive_due() == 1

    assert await archived(site) == [1]
    assert await sweeper.archive_due() == 0


@pytest.mark.asyncio
async def test_nothing_is_archived_unless_it_is_asked_for(site: Site) -> None:
    await submit_and_finish(site, "old")
    site.clock_ahead_ms += 1_000 * DAY_MS

    assert await sweeper_of(site, after_ms=None).archive_due() == 0


@pytest.mark.asyncio
async def test_what_is_archived_stays_readable_when_it_is_switched_off_again(site: Site) -> None:
    version = await submit_and_finish(site, "old")
    before = await site.workload(version)
    site.clock_ahead_ms += DAY_MS + 1
    await sweeper_of(site).archive_due()

    assert await sweeper_of(site, after_ms=None).archive_due() == 0

    after = await site.workload(version)
    assert after._replace(revision=0) == before._replace(revision=0)
    assert len(await site.database.read(timeline.list_events, before.id)) == 4


class DyingDatabase:
    """Passes everything on, until so many writes are done."""

    def __init__(self, site: Site, *, writes: int) -> None:
        self._database, self._left = site.database, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, *args: Any, **kwargs: Any) -> Any:
        if not self._left:
            raise StoreUnavailable("The server has died.")
        self._left -= 1
        return await self._database.write(*args, **kwargs)


@pytest.mark.asyncio
async def test_a_server_that_dies_between_two_batches_leaves_nothing_half_done(site: Site) -> None:
    count = 2 * BATCH_ROWS // 6 + 1  # each has a row, a version and four events
    for number in range(count):
        await submit_and_finish(site, f"job-{number}")
    site.clock_ahead_ms += DAY_MS + 1

    with pytest.raises(StoreUnavailable):
        await sweeper_of(site, database=DyingDatabase(site, writes=1)).archive_due()

    done = len(await archived(site))
    assert 0 < done < count
    assert await site.differences() == []
    assert await sweeper_of(site).archive_due() == count - done
    assert await site.differences() == []


@pytest.mark.asyncio
async def test_a_job_that_is_deleted_while_it_is_being_archived_goes(site: Site) -> None:
    version = await submit_and_finish(site, "old")
    site.clock_ahead_ms += DAY_MS + 1

    class Deleting(DyingDatabase):
        async def write(self, *args: Any, **kwargs: Any) -> Any:
            await site.delete(version)
            return await super().write(*args, **kwargs)

    assert await sweeper_of(site, database=Deleting(site, writes=9)).archive_due() == 0

    await site.settle()
    assert (await site.row_counts())["workload"] == 0
    assert await archived(site) == []


@pytest.mark.asyncio
async def test_an_archived_version_is_run_again_as_it_was(site: Site) -> None:
    first = await submit_and_finish(
        site, "old", parameter=[Parameter(label="epochs", value="3")], train_url="/results/there/"
    )
    site.clock_ahead_ms += DAY_MS + 1
    assert await sweeper_of(site).archive_due() == 1

    again = await training.create_version(
        site.training,
        CALLER,
        job_id=first.job_id,
        description="",
        config=TrainingConfig(),
        pre_version_id=first.version_id,
        now_ms=site.clock_ms(),
    )

    def config(connection: Connection, version: SubmittedVersion) -> str:
        assert version.version_id is not None
        return jobs.get_version(connection, PROJECT, first.job_id, version.version_id).config

    assert await site.database.read(config, again) == await site.database.read(config, first)
    workload = await site.workload(again)
    run = await site.database.read(workloads.get_run, workload.id)
    assert isinstance(run, Run)
    assert run.parameters == (("epochs", "3"),)


@pytest.mark.asyncio
async def test_only_working_copies_of_an_archived_job_go(site: Site) -> None:
    version = await submit_and_finish(site, "old")
    folder = site.folder / "jobs" / await site.attempt(version)
    kept = [
        log_file(folder, 0),
        output_folder(folder) / "model",
        channel_folder(folder, "model") / "weights",
        folder / "task-0" / "exit.json",
        folder / "attempt.json",
    ]
    going = [
        code_folder(folder, 0) / "deep" / "train.py",
        folder / "task-0" / "home" / ".cache" / "much",
        folder / "task-0" / "tmp" / "more",
    ]
    for path in (*kept, *going):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("something")
    elsewhere = site.folder / "elsewhere"
    (elsewhere / "code").mkdir(parents=True)
    (folder / "task-1").symlink_to(elsewhere)
    site.clock_ahead_ms += DAY_MS + 1

    assert await sweeper_of(site).archive_due() == 1

    assert [path for path in kept if not path.exists()] == []
    assert [path for path in going if path.exists()] == []
    assert (elsewhere / "code").exists(), "a link leads nowhere"


def due(workload_id: int, rows: int) -> Due:
    return Due(
        workload_id=workload_id,
        revision=0,
        attempt_ids=(),
        body=b"",
        kept_config=None,
        row_count=rows,
    )


def test_a_transaction_changes_few_rows_or_one_workload() -> None:
    sizes = [6, 60, 40, 1, 5_000, 3, 97, 1]

    made = list(batches([due(place, rows) for place, rows in enumerate(sizes)]))

    assert [[one.row_count for one in batch] for batch in made] == [
        [6, 60],
        [40, 1],
        [5_000],
        [3, 97],
        [1],
    ]


# ------------------------------------------------------------------ snapshots of code


def snapshots(site: Site) -> list[Path]:
    return sorted((site.folder / "snapshots").iterdir())


def grow_old(folder: Path) -> None:
    then = time.time() - SNAPSHOT_IDLE_SECONDS - 3_700
    os.utime(folder, (then, then))


def change_code(site: Site, text: str) -> None:
    (site.folder / "objects" / "code" / "digits" / "train.py").write_text(text)


@pytest.mark.asyncio
async def test_a_snapshot_goes_with_the_last_workload_that_was_made_from_it(site: Site) -> None:
    version = await submit_and_finish(site, "old")
    other = await submit_and_finish(site, "same-code")
    [snapshot] = snapshots(site)
    grow_old(snapshot)
    site.clock_ahead_ms += DAY_MS + 1
    await sweeper_of(site).archive_due()

    assert await sweeper_of(site).drop_snapshots() == 0
    await site.delete(version)
    await site.settle()
    assert await sweeper_of(site).drop_snapshots() == 0
    await site.delete(other)
    await site.settle()
    assert await sweeper_of(site).drop_snapshots() == 1

    assert snapshots(site) == []
    assert await site.differences() == []


@pytest.mark.asyncio
async def test_code_is_taken_again_after_its_snapshot_has_gone(site: Site) -> None:
    version = await submit_and_finish(site, "old")
    await site.delete(version)
    await site.settle()
    grow_old(snapshots(site)[0])
    await sweeper_of(site).drop_snapshots()

    await submit_and_finish(site, "new")

    assert len(snapshots(site)) == 1


@pytest.mark.asyncio
async def test_a_snapshot_that_a_submit_has_just_taken_stays(site: Site) -> None:
    version = await submit_and_finish(site, "old")
    await site.delete(version)
    await site.settle()
    [snapshot] = snapshots(site)
    grow_old(snapshot)

    class Submitting(DyingDatabase):
        """Between the look at the store and the removal somebody submits."""

        async def read_fresh(self, *args: Any, **kwargs: Any) -> Any:
            found = await site.database.read_fresh(*args, **kwargs)
            await site.training.objects.keep_code(parse_url("/code/digits/", field="app_url"))
            return found

    sweeper = sweeper_of(site, database=Submitting(site, writes=9))

    assert await sweeper.drop_snapshots() == 0
    assert snapshots(site) == [snapshot]


@pytest.mark.asyncio
async def test_a_young_snapshot_without_a_workload_stays_for_a_day(site: Site) -> None:
    version = await submit_and_finish(site, "old")
    await site.delete(version)
    await site.settle()

    assert await sweeper_of(site).drop_snapshots() == 0
    assert len(snapshots(site)) == 1


@pytest.mark.asyncio
async def test_remnants_of_a_server_that_was_killed_go(site: Site) -> None:
    await submit_and_finish(site, "old")
    [snapshot] = snapshots(site)
    folder = snapshot.parent
    for name in (".taking-abc", ".taking-new", ".dropping-abc"):
        (folder / name / "code").mkdir(parents=True)
    grow_old(folder / ".taking-abc")
    grow_old(folder / ".dropping-abc")

    await sweeper_of(site).drop_snapshots()

    assert [path.name for path in snapshots(site)] == [".taking-new", snapshot.name]


@pytest.mark.asyncio
async def test_each_change_of_the_code_is_counted_by_itself(site: Site) -> None:
    for number in range(3):
        change_code(site, f"print({number})\n")
        await submit_and_finish(site, f"job-{number}")

    def read(connection: Connection) -> list[int]:
        rows = connection.execute("SELECT workload_count FROM snapshot_use")
        return [count for [count] in rows]

    assert await site.database.read(read) == [1, 1, 1]
    assert len(snapshots(site)) == 3
