"""Read, plan, act, record: on a real store, with a fake engine that outlives its servers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from muster.domain.errors import EngineUnavailable, StoreUnavailable
from muster.domain.jobfolder import log_file, output_folder
from muster.domain.phase import Event, Phase, Reason
from muster.domain.training import RETRY_ANNOTATION, TimeLimit, TimeUnit
from muster.engines.engine import EngineRef, Launch
from muster.objects.folder import FolderStore
from muster.reconciler import transfers
from muster.reconciler.plan import RETRY_TIMEOUT_MS
from muster.store import moves, workloads
from muster.store.database import Database
from muster.store.sqlite import SqliteDatabase
from muster.store.submissions import SubmittedVersion
from muster.store.transaction import Transaction
from tests.engines.fake import TERMINATED, Crash, FakeEngine, Fault
from tests.reconciler.site import (
    GPU_FLAVOR,
    GPUS_FLAVOR,
    LOST_TIMEOUT_MS,
    Site,
    status_of,
)


async def phase_of(site: Site, version: SubmittedVersion) -> Phase:
    return (await site.workload(version)).phase


async def run_one(site: Site, name: str = "digits", **config: Any) -> tuple[SubmittedVersion, str]:
    """A job that runs, and its attempt."""
    version = await site.submit(name, **config)
    await site.settle()
    assert await phase_of(site, version) is Phase.RUNNING
    return version, await site.attempt(version)


def once(method: str, fault: Fault) -> Callable[[str], Fault]:
    """The fault for the first call of a method; none afterwards."""
    left = [fault]

    def choose(called: str) -> Fault:
        return left.pop() if called == method and left else Fault.NONE

    return choose


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - whatever it is, nobody tells when
            await asyncio.sleep(0)


async def until_phase(site: Site, version: SubmittedVersion, phase: Phase) -> None:
    async with asyncio.timeout(30):
        while await phase_of(site, version) is not phase:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_submitted_job_gets_its_cards_and_runs(site: Site) -> None:
    version = await site.submit("digits", flavor=GPUS_FLAVOR, workers=2)

    await site.settle()

    workload = await site.workload(version)
    assert workload.phase is Phase.RUNNING
    assert site.engine.running() == {workload.attempt_id}
    assert len(site.engine.cards_in_use()) == 4
    assert await site.database.read(status_of, version) == 8


@pytest.mark.asyncio
async def test_a_second_pass_has_nothing_to_do(site: Site) -> None:
    await run_one(site)
    before = await site.row_counts()

    async with asyncio.TaskGroup() as actions:
        planned = await site.reconciler.pass_once(actions)

    assert planned == []
    assert await site.row_counts() == before


@pytest.mark.asyncio
async def test_the_engine_gets_the_command_and_the_code_of_the_version(site: Site) -> None:
    _, attempt = await run_one(site, train_url="/results/digits/", data_url="/code/", parameter=())

    launch = site.engine.started[attempt]
    folder = site.folder / "jobs" / attempt
    assert launch.folder == folder
    assert launch.argv == (
        "/usr/bin/python3",
        "train.py",
        f"--data_url={site.folder / 'objects' / 'code'}",
        f"--train_url={output_folder(folder)}",
    )
    assert launch.code is not None
    assert (launch.code / "train.py").read_text() == "print('training')\n"


@pytest.mark.asyncio
async def test_a_job_that_has_ended_gives_its_nodes_back(site: Site) -> None:
    version, attempt = await run_one(site, flavor=GPUS_FLAVOR)
    site.engine.advance(5_000)
    site.engine.finish(attempt, 0, 0)

    await site.settle()

    workload = await site.workload(version)
    assert (workload.phase, workload.is_holding) == (Phase.COMPLETED, False)
    assert (workload.ended_at_ms or 0) - (workload.started_at_ms or 0) == 5_000
    assert (await site.row_counts())["card_hold"] == 0


@pytest.mark.asyncio
async def test_a_job_that_waits_starts_when_there_is_room(site: Site) -> None:
    _, attempt = await run_one(site, "first", flavor=GPUS_FLAVOR, workers=2)
    waiting = await site.submit("second", flavor=GPU_FLAVOR)
    await site.settle()
    assert await phase_of(site, waiting) is Phase.QUEUED

    site.engine.finish(attempt, 0, 0)
    site.engine.finish(attempt, 1, 0)
    await site.settle()

    assert await phase_of(site, waiting) is Phase.RUNNING


@pytest.mark.asyncio
async def test_results_and_logs_are_stored_before_anybody_is_told_the_end(site: Site) -> None:
    version, attempt = await run_one(site, train_url="/results/digits/", log_url="/results/logs/")
    folder = site.folder / "jobs" / attempt
    for path, text in (
        (output_folder(folder) / "model" / "weights", "weights"),
        (log_file(folder, 0), "training\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    site.engine.finish(attempt, 0, 3)

    await site.settle()

    assert await phase_of(site, version) is Phase.FAILED
    results = site.folder / "objects" / "results"
    assert (results / "digits" / "model" / "weights").read_text() == "weights"
    assert (results / "logs" / "digits.0").read_text() == "training\n"


@pytest.mark.asyncio
async def test_a_job_ends_though_its_results_can_never_be_stored(site: Site) -> None:
    version, attempt = await run_one(site, train_url="/results/digits/")
    results = output_folder(site.folder / "jobs" / attempt) / "weights"
    results.parent.mkdir(parents=True)
    results.write_text("weights")
    (site.folder / "objects" / "results").mkdir()
    (site.folder / "objects" / "results" / "digits").write_text("an object, not a folder")
    site.engine.finish(attempt, 0, 0)

    await site.settle()

    assert await phase_of(site, version) is Phase.COMPLETED


@pytest.mark.asyncio
@pytest.mark.parametrize("is_stopped", [True, False])
async def test_nodes_are_given_back_while_results_wait_for_an_object_store_that_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    version, attempt = await run_one(site, workers=4, train_url="/results/digits/")
    results = output_folder(site.folder / "jobs" / attempt) / "weights"
    results.parent.mkdir(parents=True)
    results.write_text("weights")
    waiting = await site.submit("waiting", workers=4)
    with monkeypatch.context() as away:
        away.setattr(FolderStore, "is_near", False)
        away.setattr(FolderStore, "store_folder", _is_away)
        away.setattr(transfers, "RETRY_SECONDS", 0.0)
        if is_stopped:
            await site.stop(version)
        else:
            for index in range(4):
                site.engine.finish(attempt, index, 0)
        await passes(site, 6)

        ended = await site.workload(version)
        assert ended.phase is (Phase.TERMINATING if is_stopped else Phase.RUNNING)
        assert not ended.is_holding
        assert await phase_of(site, waiting) is Phase.RUNNING
        site.restart()
        away.setattr(FolderStore, "store_folder", FOLDER_STORE)
        await passes(site, 3)

    assert await phase_of(site, version) is (Phase.TERMINATED if is_stopped else Phase.COMPLETED)
    stored = site.folder / "objects" / "results" / "digits" / "weights"
    assert stored.read_text() == "weights"
    assert await phase_of(site, waiting) is Phase.RUNNING


FOLDER_STORE: Final = FolderStore.store_folder


async def _is_away(*_: object, **__: object) -> None:
    raise StoreUnavailable("The object store is away.")


async def passes(site: Site, count: int) -> None:
    """Some, of things to do that have no end."""
    for _ in range(count):
        async with asyncio.TaskGroup() as actions:
            await site.reconciler.pass_once(actions)


@pytest.mark.asyncio
async def test_a_task_that_fails_ends_the_others_and_the_job(site: Site) -> None:
    version, attempt = await run_one(site, workers=3)

    site.engine.finish(attempt, 1, 3)
    await site.settle()

    workload = await site.workload(version)
    assert (workload.phase, workload.reason) == (Phase.FAILED, Reason.TASK_EXIT)
    assert workload.message == "Task 1 ended with exit code 3."
    assert site.engine.running() == set()


@pytest.mark.asyncio
async def test_a_stopped_job_ends_and_gives_its_nodes_back(site: Site) -> None:
    version, _ = await run_one(site, flavor=GPUS_FLAVOR)

    await site.stop(version)
    await site.settle()

    workload = await site.workload(version)
    assert (workload.phase, workload.reason) == (Phase.TERMINATED, Reason.STOPPED_BY_USER)
    assert not workload.is_holding
    assert site.engine.running() == set()
    assert site.reconciler.platform.stopping == {}


@pytest.mark.asyncio
async def test_a_job_that_is_stopped_in_the_queue_never_runs(site: Site) -> None:
    await run_one(site, "first", workers=4)
    version = await site.submit("second")
    await site.settle()

    await site.stop(version)
    await site.settle()

    workload = await site.workload(version)
    assert (workload.phase, workload.started_at_ms) == (Phase.TERMINATED, None)
    assert len(site.engine.started) == 1


@pytest.mark.asyncio
async def test_a_stop_that_came_too_late_leaves_the_job_completed(site: Site) -> None:
    version, attempt = await run_one(site)
    site.engine.finish(attempt, 0, 0)

    await site.stop(version)
    await site.settle()

    assert await phase_of(site, version) is Phase.COMPLETED


@pytest.mark.asyncio
async def test_what_cannot_run_here_says_why_and_gives_its_nodes_back(site: Site) -> None:
    image = await site.submit("image", user_image_url="registry/image:1")
    volumes = await site.submit("volumes", volumes=({"nfs": {}},))
    await site.settle()

    for version, why in ((image, "runs no images yet"), (volumes, "mounts none")):
        workload = await site.workload(version)
        assert (workload.phase, workload.reason) == (Phase.CREATE_FAILED, Reason.ENGINE_REFUSED)
        assert why in workload.message
        assert not workload.is_holding


# ---------------------------------------------------------------- crashes, lost and late answers


async def crash_in(site: Site, method: str) -> None:
    """Run passes until the server dies right after the engine has done `method`."""
    site.engine.choose_fault = once(method, Fault.CRASH)
    with pytest.raises(BaseExceptionGroup) as died:
        await site.settle()
    assert died.group_contains(Crash)
    site.restart()


@pytest.mark.asyncio
async def test_a_crash_after_the_start_does_not_start_it_again(site: Site) -> None:
    version = await site.submit("digits", flavor=GPU_FLAVOR)
    await crash_in(site, "start")
    assert (await site.workload(version)).engine_ref is None

    await site.settle()

    assert await phase_of(site, version) is Phase.RUNNING
    assert set(site.engine.start_counts.values()) == {1}


@pytest.mark.asyncio
async def test_what_was_started_before_a_crash_is_found_by_a_stop(site: Site) -> None:
    version = await site.submit("digits", flavor=GPU_FLAVOR)
    await crash_in(site, "start")

    await site.stop(version)
    await site.settle()

    assert await phase_of(site, version) is Phase.TERMINATED
    assert site.engine.running() == set()
    assert len(site.engine.started) == 1


@pytest.mark.asyncio
async def test_a_crash_after_a_stop_still_ends_the_job(site: Site) -> None:
    site.engine.ends_at_once = False
    version, attempt = await run_one(site)
    await site.stop(version)
    await crash_in(site, "stop")

    await site.settle()
    site.engine.finish(attempt, 0, TERMINATED)
    await site.settle()

    assert await phase_of(site, version) is Phase.TERMINATED


@pytest.mark.asyncio
async def test_jobs_that_fail_in_words_of_their_own_are_told_of_once_each(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(launch: Launch) -> EngineRef:
        raise EngineUnavailable(f"There is no room for {launch.attempt_id}.")

    monkeypatch.setattr(FakeEngine, "start", lambda _engine, launch: start(launch))
    for name in ("digits", "letters"):
        await site.submit(name)
    with capture_logs() as logged:
        await passes(site, 5)

    told = [line["why"] for line in logged if line["event"] == "reconciler_paused"]
    assert len(told) == len(set(told)) == 2


@pytest.mark.asyncio
async def test_a_job_says_why_it_could_not_be_started_yet_until_it_could(site: Site) -> None:
    site.engine.choose_fault = lambda method: Fault.NO_ANSWER if method == "start" else Fault.NONE
    version = await site.submit("digits")
    with capture_logs() as logged:
        await passes(site, 5)

    waits = await site.workload(version)
    assert waits.phase is Phase.STARTING
    assert waits.message.startswith("It could not be started yet: ")
    assert [line["event"] for line in logged].count("reconciler_paused") == 1

    site.engine.choose_fault = lambda _: Fault.NONE
    await passes(site, 1)
    assert (await site.workload(version)).message == ""


@pytest.mark.asyncio
async def test_a_job_tells_why_the_engines_own_queue_holds_it_until_it_runs(site: Site) -> None:
    site.engine.comes_up_at_once = False
    version = await site.submit("digits")
    await site.settle()
    attempt = await site.attempt(version)
    site.engine.keep_waiting(attempt, "Others have its nodes.")
    await site.settle()

    assert (await site.workload(version)).message == "Others have its nodes."

    site.engine.come_up(attempt)
    await site.settle()
    runs = await site.workload(version)
    assert (runs.phase, runs.message) == (Phase.RUNNING, "")


@pytest.mark.asyncio
async def test_of_many_that_come_to_wait_for_something_else_a_pass_tells_of_some(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster.reconciler.loop.TELLS_MAX", 2)
    site.engine.comes_up_at_once = False
    versions = [await site.submit(f"job-{number}") for number in range(3)]
    await site.settle()
    for version in versions:
        site.engine.keep_waiting(await site.attempt(version), "Others have its nodes.")

    await passes(site, 1)
    told = [(await site.workload(version)).message for version in versions]
    assert sorted(map(bool, told)) == [False, True, True]

    await passes(site, 1)
    assert all([(await site.workload(version)).message for version in versions])


@pytest.mark.asyncio
async def test_a_job_that_nothing_is_to_be_done_for_is_planned_for_again_once_it_changes(
    site: Site,
) -> None:
    version, attempt = await run_one(site)
    await passes(site, 2)
    workload = await site.workload(version)
    assert (await site.reconciler.read_world()).at_rest == {workload.id}

    site.engine.finish(attempt, 0, 3)
    assert (await site.reconciler.read_world()).at_rest == frozenset()
    await site.settle()

    assert await phase_of(site, version) is Phase.FAILED


@pytest.mark.asyncio
async def test_a_start_whose_answer_is_lost_is_made_once(site: Site) -> None:
    version = await site.submit("digits")
    site.engine.choose_fault = once("start", Fault.ANSWER_LOST)

    await site.settle()

    assert await phase_of(site, version) is Phase.RUNNING
    assert set(site.engine.start_counts.values()) == {1}


@pytest.mark.asyncio
async def test_a_stop_overtakes_a_start_whose_answer_is_late(site: Site) -> None:
    version = await site.submit("digits", flavor=GPUS_FLAVOR)
    site.engine.choose_fault = once("start", Fault.ANSWER_LATE)
    async with asyncio.TaskGroup() as actions:
        await site.reconciler.pass_once(actions)  # admits
        await site.reconciler.pass_once(actions)  # launches; the answer does not come
        await until(lambda: bool(site.engine.started))
        await site.stop(version)
        assert await site.reconciler.pass_once(actions) == []  # an action is under way
        site.engine.release_answers()

    await site.settle()

    assert await phase_of(site, version) is Phase.TERMINATED
    assert site.engine.running() == set()
    assert (await site.row_counts())["card_hold"] == 0


@pytest.mark.asyncio
async def test_what_ended_while_the_engine_was_asked_is_left_to_the_next_pass(site: Site) -> None:
    """Its row was read before, and is an old one."""
    await run_one(site)
    version = await site.submit("second")

    def end_the_start_meanwhile(method: str) -> Fault:
        if method != "observe":
            return Fault.NONE
        site.engine.release_answers()
        site.engine.choose_fault = lambda _method: Fault.NONE
        return Fault.ANSWER_LATE

    async with asyncio.TaskGroup() as actions:
        await site.reconciler.pass_once(actions)  # admits
        site.engine.choose_fault = once("start", Fault.ANSWER_LATE)
        await site.reconciler.pass_once(actions)  # launches; the answer does not come
        await until(lambda: len(site.engine.started) == 2)
        site.engine.choose_fault = end_the_start_meanwhile
        passing = actions.create_task(site.reconciler.pass_once(actions))
        await until(lambda: not site.reconciler._busy)
        site.engine.release_answers()
        planned = await passing

    assert planned == []
    await site.settle()
    assert await phase_of(site, version) is Phase.RUNNING


@pytest.mark.asyncio
async def test_an_engine_that_gives_no_answer_changes_nothing(site: Site) -> None:
    version, _ = await run_one(site)
    queued = await site.submit("queued")
    site.engine.is_unavailable = True

    with pytest.raises(BaseExceptionGroup) as failed:
        await site.settle()
    assert failed.group_contains(EngineUnavailable)
    assert await phase_of(site, version) is Phase.RUNNING
    assert await phase_of(site, queued) is Phase.QUEUED

    site.engine.is_unavailable = False
    await site.settle()
    assert await phase_of(site, queued) is Phase.RUNNING


# ---------------------------------------------------------------- lost, and not to be stopped


@pytest.mark.asyncio
async def test_a_lost_job_frees_its_nodes_at_once_and_is_given_up_later(site: Site) -> None:
    version, attempt = await run_one(site, flavor=GPUS_FLAVOR)

    site.engine.lose(attempt)
    await site.settle()
    workload = await site.workload(version)
    assert (workload.phase, workload.is_holding) == (Phase.LOST, False)

    site.engine.advance(LOST_TIMEOUT_MS + 1)
    await site.settle()
    workload = await site.workload(version)
    assert (workload.phase, workload.reason) == (Phase.FAILED, Reason.LOST)
    assert "left neither a process nor a result" in workload.message


@pytest.mark.asyncio
async def test_a_lost_job_that_runs_after_all_is_found(site: Site) -> None:
    version, _ = await run_one(site)
    started_at_ms = (await site.workload(version)).started_at_ms

    def lose(tx: Transaction) -> None:
        workload = workloads.get_workload(tx.connection, 1)
        moves.move_workload(tx, workload, Event.VANISHED, now_ms=9_000, actor="muster")

    await site.database.write(lose)
    await site.settle()

    workload = await site.workload(version)
    assert (workload.phase, workload.started_at_ms) == (Phase.RUNNING, started_at_ms)


@pytest.mark.asyncio
async def test_what_cannot_be_stopped_keeps_its_nodes_until_it_has_ended(site: Site) -> None:
    site.engine.ends_at_once = False
    version, attempt = await run_one(site, flavor=GPUS_FLAVOR)
    await site.stop(version)
    await site.settle()
    assert await phase_of(site, version) is Phase.TERMINATING

    site.clock_ahead_ms += 600_001
    await site.settle()
    workload = await site.workload(version)
    assert (workload.phase, workload.reason) == (Phase.STOP_FAILED, Reason.PROCESSES_LEFT)
    assert workload.is_holding

    site.engine.finish(attempt, 0, TERMINATED)
    await site.settle()
    workload = await site.workload(version)
    assert (workload.phase, workload.is_holding) == (Phase.STOP_FAILED, False)


@pytest.mark.asyncio
async def test_the_time_a_server_was_down_does_not_count_as_time_to_stop(site: Site) -> None:
    site.engine.ends_at_once = False
    version, attempt = await run_one(site)
    await site.stop(version)
    site.clock_ahead_ms += 10_000_000
    site.restart()

    await site.settle()
    assert await phase_of(site, version) is Phase.TERMINATING

    site.engine.finish(attempt, 0, TERMINATED)
    await site.settle()
    assert await phase_of(site, version) is Phase.TERMINATED


# ---------------------------------------------------------------- deleted


@pytest.mark.asyncio
async def test_a_deleted_job_is_ended_and_leaves_no_trace(site: Site) -> None:
    version, attempt = await run_one(site, flavor=GPUS_FLAVOR)

    await site.delete(version)
    await site.settle()
    await site.settle()

    assert site.engine.running() == set()
    assert not await site.engine.find(attempt, site.folder)
    assert (await site.row_counts()).total() == 0


@pytest.mark.asyncio
async def test_a_deleted_job_is_dropped_once_the_engine_answers_again(site: Site) -> None:
    version, attempt = await run_one(site)
    site.engine.finish(attempt, 0, 0)
    await site.settle()
    site.engine.choose_fault = once("forget", Fault.NO_ANSWER)

    await site.delete(version)
    await site.settle()
    assert (await site.row_counts())["workload"] == 1
    await site.settle()

    assert (await site.row_counts()).total() == 0


# ---------------------------------------------------------------- a store that fails


@pytest.mark.asyncio
async def test_a_stop_survives_a_store_that_fails_right_after_the_engine_was_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody would ever observe that it has ended."""
    version = await site.submit("digits")
    await crash_in(site, "start")
    await site.stop(version)
    fail_writes_once(monkeypatch, site.database)

    for _ in range(3):
        await site.settle()

    assert await phase_of(site, version) is Phase.TERMINATED


def fail_writes_once(monkeypatch: pytest.MonkeyPatch, database: Database) -> None:
    failures = [StoreUnavailable("The disk is full.")]

    def failing(write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def fail_or_write(self: SqliteDatabase, *args: Any, **kwargs: Any) -> Any:
            if failures:
                raise failures.pop()
            return await write(self, *args, **kwargs)

        return fail_or_write

    monkeypatch.setattr(SqliteDatabase, "write", failing(SqliteDatabase.write))
    monkeypatch.setattr(SqliteDatabase, "write_together", failing(SqliteDatabase.write_together))


@pytest.mark.asyncio
async def test_a_pass_that_cannot_write_ends_only_when_all_its_writes_have(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that came later would take room that the next pass gives away as well."""
    versions = [await site.submit(name) for name in ("a", "b", "c")]
    fail_writes_once(monkeypatch, site.database)

    async with asyncio.TaskGroup() as actions:
        with pytest.raises(StoreUnavailable):
            await site.reconciler.pass_once(actions)
        phases = [await phase_of(site, version) for version in versions]

    assert phases == [Phase.QUEUED, Phase.STARTING, Phase.STARTING]


# ---------------------------------------------------------------- the loop itself


@pytest.mark.asyncio
async def test_the_loop_is_woken_by_a_submit_and_by_the_engine(site: Site) -> None:
    await site.engine.open(site.reconciler.wake)
    site.database.on_work(site.reconciler.wake)
    running = asyncio.create_task(site.reconciler.run())

    version = await site.submit("digits")
    await until(lambda: bool(site.engine.started))
    attempt = await site.attempt(version)
    site.engine.finish(attempt, 0, 0)
    await until_phase(site, version, Phase.COMPLETED)
    site.reconciler.close()
    await running

    assert (await site.row_counts())["card_hold"] == 0


@pytest.mark.asyncio
async def test_the_loop_goes_on_after_a_pass_that_failed(site: Site) -> None:
    _, attempt = await run_one(site)
    site.engine.is_unavailable = True
    site.database.on_work(site.reconciler.wake)
    pending = await site.submit("pending")
    running = asyncio.create_task(site.reconciler.run())
    with capture_logs() as logged:
        await until(lambda: any(line["event"] == "reconciler_paused" for line in logged))

    site.engine.is_unavailable = False
    site.reconciler.wake()
    await until(lambda: site.engine.running() > {attempt})
    site.reconciler.close()
    await running

    assert await phase_of(site, pending) is not Phase.CREATING


@pytest.mark.asyncio
async def test_one_workload_that_breaks_everything_does_not_hold_up_the_others(
    site: Site,
) -> None:
    broken = await site.submit("broken")
    good = await site.submit("good")
    breaking = (
        "UPDATE workload_run SET run = replace(run, 'has_volumes\":false', 'has_volumes\":7')"
        " WHERE workload_id = 1"
    )
    await site.database.write(lambda tx: tx.execute(breaking) and None)

    with capture_logs() as logged:
        for _ in range(4):
            async with asyncio.TaskGroup() as actions:
                await site.reconciler.pass_once(actions)

    assert await phase_of(site, good) is Phase.RUNNING
    assert await phase_of(site, broken) is Phase.STARTING
    assert [line["event"] for line in logged if line["log_level"] == "error"]


@pytest.mark.asyncio
async def test_a_job_that_fails_is_tried_again_before_whoever_came_later(site: Site) -> None:
    first, attempt = await run_one(
        site, "first", flavor=GPUS_FLAVOR, workers=2, annotations={RETRY_ANNOTATION: "1"}
    )
    later = await site.submit("later", flavor=GPUS_FLAVOR, workers=2)
    await site.settle()

    site.engine.finish(attempt, 0, 3)
    await site.settle()

    workload = await site.workload(first)
    assert (workload.phase, workload.attempt_count, workload.retries_left) == (Phase.RUNNING, 2, 0)
    assert workload.attempt_id != attempt
    assert await phase_of(site, later) is Phase.QUEUED
    assert set(site.engine.start_counts.values()) == {1}
    assert await site.differences() == []

    site.engine.finish(await site.attempt(first), 1, 4)
    await site.settle()

    assert await phase_of(site, first) is Phase.FAILED
    assert await phase_of(site, later) is Phase.RUNNING


@pytest.mark.asyncio
async def test_what_each_try_has_written_is_stored(site: Site) -> None:
    version, attempt = await run_one(
        site, train_url="/results/digits/", annotations={RETRY_ANNOTATION: "1"}
    )
    write_output(site, attempt, "of-the-first.txt", "1")
    site.engine.finish(attempt, 0, 3)
    await site.settle()

    second = await site.attempt(version)
    write_output(site, second, "of-the-second.txt", "2")
    site.engine.finish(second, 0, 0)
    await site.settle()

    stored = site.folder / "objects" / "results" / "digits"
    assert sorted(path.name for path in stored.iterdir()) == [
        "of-the-first.txt",
        "of-the-second.txt",
    ]


def write_output(site: Site, attempt: str, name: str, text: str) -> None:
    folder = output_folder(site.folder / "jobs" / attempt)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.asyncio
async def test_a_job_whose_host_dies_is_tried_again_on_another(site: Site) -> None:
    version, attempt = await run_one(site, flavor=GPUS_FLAVOR, annotations={RETRY_ANNOTATION: "1"})
    [died_on] = [task.node_name for task in site.engine.started[attempt].tasks]

    site.engine.take_down(f"host-of-{died_on}")
    await site.settle()

    workload = await site.workload(version)
    assert workload.phase is Phase.RUNNING
    assert [place.node_name for place in workload.placements] == [
        name for name in ("gpu-a", "gpu-b") if name != died_on
    ]
    assert await site.differences() == []


@pytest.mark.asyncio
async def test_a_job_whose_host_dies_fails_after_a_time_if_it_may_not_be_tried_again(
    site: Site,
) -> None:
    version, _ = await run_one(site)

    site.engine.take_down("shared")
    await site.settle()
    assert await phase_of(site, version) is Phase.LOST
    site.engine.advance(LOST_TIMEOUT_MS + 1)
    await site.settle()

    assert await phase_of(site, version) is Phase.FAILED


@pytest.mark.asyncio
async def test_one_that_was_to_be_tried_again_is_given_up_when_no_host_comes_back(
    site: Site,
) -> None:
    version, _ = await run_one(site, annotations={RETRY_ANNOTATION: "1"})

    site.engine.take_down("shared")
    await site.settle()
    assert await phase_of(site, version) is Phase.QUEUED
    site.engine.advance(RETRY_TIMEOUT_MS + 1)
    await site.settle()

    workload = await site.workload(version)
    assert workload.phase is Phase.FAILED
    assert "30 minutes" in workload.message
    assert await site.differences() == []


@pytest.mark.asyncio
async def test_a_job_ends_at_its_time_limit(site: Site) -> None:
    limit = TimeLimit(time_unit=TimeUnit.HOURS, duration=1)
    version, _ = await run_one(site, auto_stop=limit, annotations={RETRY_ANNOTATION: "3"})

    site.engine.advance(3_599_999)
    await site.settle()
    assert await phase_of(site, version) is Phase.RUNNING
    site.engine.advance(1)
    await site.settle()

    workload = await site.workload(version)
    assert (workload.phase, workload.reason) == (Phase.TERMINATED, Reason.AUTO_STOPPED)
    assert workload.attempt_count == 1


@pytest.mark.asyncio
async def test_a_job_that_was_tried_again_leaves_no_trace_when_it_is_deleted(site: Site) -> None:
    version, attempt = await run_one(site, annotations={RETRY_ANNOTATION: "1"})
    site.engine.finish(attempt, 0, 3)
    await site.settle()
    second = await site.attempt(version)

    await site.delete(version)
    await site.settle()

    assert [await site.engine.find(a, site.folder) for a in (attempt, second)] == [None, None]
    assert (await site.row_counts())["workload"] == 0
