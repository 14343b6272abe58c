"""The local engine: the contract, and what only real processes can show."""

import asyncio
import errno
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from muster.domain.errors import EngineRefused, EngineUnavailable
from muster.domain.jobfolder import code_folder, task_folder
from muster.domain.placement import CardKind
from muster.engines import attemptfiles, local, localattempt, processes, shim
from muster.engines.attemptfiles import Claim, Result, judge
from muster.engines.engine import Engine, EngineRef, Launch, TaskObservation, TaskState
from muster.engines.local import LocalEngine
from muster.engines.processes import ProcessIdentity
from tests.engines.contract import (
    DEADLINE_SECONDS,
    LOG_AGAIN_SECONDS,
    LONG_GRACE_SECONDS,
    PRINTS_TO_BOTH,
    SUCCEEDS,
    WAITS,
    Bench,
    EngineContract,
    ServingContract,
    program,
    states,
)
from tests.engines.fake import Program

pytestmark = pytest.mark.asyncio

MAKES_A_GRANDCHILD = """
import os, signal, sys, time
hear, say = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(1, b"%d\\n" % os.getpid())
        os.write(say, b"!")
        time.sleep(600)
    os._exit(0)
os.wait()
os.read(hear, 1)
"""
LEAVES_A_GRANDCHILD = program(f"{MAKES_A_GRANDCHILD}\nsys.exit(7)")
WAITS_WITH_A_GRANDCHILD = program(f"{MAKES_A_GRANDCHILD}\ntime.sleep(600)")
PRINTS_ENVIRONMENT = program("import json, os; print(json.dumps(dict(os.environ)))")


class LocalBench(Bench):
    engine: LocalEngine

    def make_engine(self) -> Engine:
        return LocalEngine(self.jobs_folder)

    async def read_pid(self, ref: EngineRef) -> ProcessIdentity:
        """The process that wrote its number to the log."""
        await self.until_log(ref, b"\n")
        identity = processes.find_identity(int(await self.read_log(ref)))
        assert identity is not None
        return identity

    async def until_claimed(self, launch: Launch) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not attemptfiles.is_claimed(launch.folder):  # noqa: ASYNC110 - a file
                await asyncio.sleep(LOG_AGAIN_SECONDS)

    def claim_of(self, ref: EngineRef) -> Claim:
        claim = attemptfiles.read_claim(task_folder(self.jobs_folder / ref, 0))
        assert claim is not None
        return claim


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[LocalBench]:
    jobs_folder = tmp_path / "jobs"
    bench = LocalBench(LocalEngine(jobs_folder), jobs_folder)
    await bench.open()
    yield bench
    for mark in (jobs_folder / attemptfiles.LIVE_FOLDER).iterdir():
        await bench.engine.stop(EngineRef(mark.name), 0)
        await bench.until(EngineRef(mark.name), lambda seen: states(seen) <= localattempt.OVER)
    await bench.engine.close()


class TestLocalEngine(EngineContract):
    pass


class TestServing(ServingContract):
    pass


async def wait_for_end(identity: ProcessIdentity) -> None:
    pidfd = processes.open_process(identity)
    if pidfd is not None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = await asyncio.to_thread(poll.poll, DEADLINE_SECONDS * 1000)
        os.close(pidfd)
        assert ended, "it lives"


# What a task leaves behind


async def test_a_stop_ends_a_grandchild_that_left_the_session_and_ignores_it(
    bench: LocalBench,
) -> None:
    ref = await bench.engine.start(bench.launch(WAITS_WITH_A_GRANDCHILD))
    grandchild = await bench.read_pid(ref)

    await bench.engine.stop(ref, 0.1)

    await bench.until_ended(ref)
    assert not processes.is_alive(grandchild)


async def test_a_daemon_does_not_outlive_its_task(bench: LocalBench) -> None:
    ref = await bench.engine.start(bench.launch(LEAVES_A_GRANDCHILD))
    daemon = await bench.read_pid(ref)

    (task,) = (await bench.until_ended(ref)).tasks

    assert (task.exit_code, task.was_stopped) == (7, False)
    assert not processes.is_alive(daemon)


async def test_when_the_shim_is_killed_the_task_is_gone_with_all_its_processes(
    bench: LocalBench,
) -> None:
    ref = await bench.engine.start(bench.launch(WAITS_WITH_A_GRANDCHILD))
    grandchild = await bench.read_pid(ref)

    os.kill(bench.claim_of(ref).pid, signal.SIGKILL)

    seen = await bench.until(ref, lambda seen: states(seen) == {TaskState.GONE})
    assert seen.is_gone
    assert not processes.is_alive(grandchild)
    await bench.engine.stop(ref, 0)
    assert (await bench.observe(ref)).is_gone


async def test_a_lost_shim_is_no_reason_to_end_another_task(bench: LocalBench) -> None:
    ref = await bench.engine.start(bench.launch(WAITS, task_count=2))
    for index in (0, 1):
        await bench.until_log(ref, b"up\n", task_index=index)

    os.kill(bench.claim_of(ref).pid, signal.SIGKILL)

    seen = await bench.until(ref, lambda seen: seen.tasks[0].state is TaskState.GONE)
    assert seen.tasks[1].state is TaskState.RUNNING
    assert not seen.is_gone


async def test_a_server_that_comes_up_ends_what_a_lost_shim_left_behind(bench: LocalBench) -> None:
    ref = await bench.engine.start(bench.launch(WAITS_WITH_A_GRANDCHILD))
    grandchild, shim_identity = await bench.read_pid(ref), bench.claim_of(ref).identity
    await bench.engine.close()
    os.kill(shim_identity.pid, signal.SIGKILL)
    await wait_for_end(shim_identity)

    bench.engine = LocalEngine(bench.jobs_folder)
    await bench.open()

    await bench.until(ref, lambda seen: states(seen) == {TaskState.GONE})
    assert not processes.is_alive(grandchild)


# Servers that die

SERVER = """
import asyncio, json, sys
from pathlib import Path
from muster.domain.placement import TaskPlacement
from muster.engines.engine import Launch
from muster.engines.local import LocalEngine

async def serve(jobs, launches):
    engine = LocalEngine(jobs)
    await engine.open(lambda: None)
    for attempt_id, argv in launches.items():
        task = TaskPlacement(index=0, node_name="a")
        await engine.start(Launch(attempt_id=attempt_id, argv=tuple(argv), environment={},
            code=None, folder=jobs / attempt_id, tasks=(task,)))
    print("started", flush=True)
    await asyncio.sleep(600)

asyncio.run(serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
"""


async def test_after_kill_9_of_the_server_true_exit_codes_are_found(tmp_path: Path) -> None:
    jobs_folder, word = tmp_path / "jobs", tmp_path / "word"
    bench = LocalBench(LocalEngine(jobs_folder), jobs_folder)
    runs_on = bench.launch(WAITS)
    ends_meanwhile = bench.launch(
        program(
            "import os, time\n"
            f"while not os.path.exists({str(word)!r}): time.sleep(0.01)\n"
            "raise SystemExit(9)"
        )
    )
    launches = {launch.attempt_id: launch.argv for launch in (runs_on, ends_meanwhile)}
    server = subprocess.Popen(  # noqa: ASYNC220, S603 - it is killed below
        [sys.executable, "-c", SERVER, str(jobs_folder), json.dumps(launches)],
        stdout=subprocess.PIPE,
    )
    with server:
        assert server.stdout is not None
        assert await asyncio.to_thread(server.stdout.readline) == b"started\n"
        server.kill()
    await bench.until_claimed(ends_meanwhile)
    word.touch()
    await wait_for_end(bench.claim_of(EngineRef(ends_meanwhile.attempt_id)).identity)

    await bench.open()

    (task,) = (await bench.observe(EngineRef(ends_meanwhile.attempt_id))).tasks
    assert (task.state, task.exit_code) == (TaskState.ENDED, 9)
    ref = await bench.engine.start(runs_on)
    await bench.until_log(ref, b"up\n")
    assert states(await bench.observe(ref)) == {TaskState.RUNNING}
    await bench.engine.stop(ref, LONG_GRACE_SECONDS)
    assert (await bench.until_ended(ref)).tasks[0].was_stopped
    assert await bench.read_log(ref) == b"up\n"
    await bench.engine.close()


async def test_shims_that_are_not_given_the_word_touch_nothing(bench: LocalBench) -> None:
    launch = bench.launch(PRINTS_TO_BOTH, task_count=3)
    attemptfiles.prepare(launch, bench.jobs_folder, master_port=20_000)
    folders = [str(task_folder(launch.folder, index)) for index in range(3)]

    # The server dies here, between having the shims and sending them off.
    shims = bench.engine._nursery.spawn(folders)
    shims.line.close()
    for pidfd in shims.pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert await asyncio.to_thread(poll.poll, DEADLINE_SECONDS * 1000)
        os.close(pidfd)

    assert not attemptfiles.is_claimed(launch.folder)
    assert not list((launch.folder / "logs").iterdir())


async def test_an_attempt_that_never_came_up_is_gone_and_may_be_started_again(
    bench: LocalBench,
) -> None:
    launch = bench.launch(PRINTS_TO_BOTH)
    await bench.engine.close()
    attemptfiles.prepare(launch, bench.jobs_folder, master_port=20_000)

    bench.engine = LocalEngine(bench.jobs_folder)
    await bench.open()

    ref = EngineRef(launch.attempt_id)
    assert states(await bench.observe(ref)) == {TaskState.GONE}
    assert await bench.engine.find(launch.attempt_id, launch.folder) is None
    assert await bench.engine.start(launch) == ref
    await bench.until_ended(ref)
    assert await bench.read_log(ref) == b"bad\ngood\n"


async def test_a_stopped_attempt_that_never_came_up_never_will(bench: LocalBench) -> None:
    launch = bench.launch(PRINTS_TO_BOTH)
    attemptfiles.prepare(launch, bench.jobs_folder, master_port=20_000)
    ref = EngineRef(launch.attempt_id)

    await bench.engine.stop(ref, 0)
    await bench.engine.start(launch)

    (task,) = (await bench.until_ended(ref)).tasks
    assert (task.exit_code, task.was_stopped, task.started_at_ms) == (143, True, None)
    assert task.message
    assert await bench.read_log(ref) == b""


async def test_a_folder_that_was_not_ready_when_the_server_died_is_made_again(
    bench: LocalBench, tmp_path: Path
) -> None:
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot/greeting").write_text("hello\n")
    (tmp_path / "snapshot/link").symlink_to("greeting")
    launch = replace(bench.launch(Program(argv=("/bin/cat", "link"))), code=tmp_path / "snapshot")
    await bench.engine.close()
    attemptfiles.prepare(launch, bench.jobs_folder, master_port=20_000)
    (launch.folder / attemptfiles.ATTEMPT_FILE).unlink()

    bench.engine = LocalEngine(bench.jobs_folder)
    await bench.open()

    ref = EngineRef(launch.attempt_id)
    assert (await bench.observe(ref)).tasks == ()
    await bench.engine.start(launch)
    assert (await bench.until_ended(ref)).tasks[0].exit_code == 0
    assert await bench.read_log(ref) == b"hello\n"


async def test_a_number_that_was_given_out_again_is_not_taken_for_the_shim(
    bench: LocalBench,
) -> None:
    launch = bench.launch(WAITS)
    await bench.engine.close()
    attemptfiles.prepare(launch, bench.jobs_folder, master_port=20_000)
    another = shim.identity(os.getpid()) | {"start_ticks": 1}
    shim.claim(str(task_folder(launch.folder, 0)), {**another, "started_at_ms": 1})

    bench.engine = LocalEngine(bench.jobs_folder)
    await bench.open()

    ref = EngineRef(launch.attempt_id)
    await bench.engine.stop(ref, 0)
    await bench.until(ref, lambda seen: states(seen) == {TaskState.GONE})


async def test_a_folder_has_one_server(bench: LocalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attemptfiles, "LOCK_WAIT_SECONDS", 0.0)
    other = LocalEngine(bench.jobs_folder)

    with pytest.raises(EngineUnavailable, match="Another muster server"):
        await other.open(lambda: None)
    assert not (await other.health()).is_reachable


async def test_a_killed_nursery_is_replaced(bench: LocalBench) -> None:
    running = await bench.start_waiting()
    bench.engine._nursery._process.kill()

    ref = await bench.engine.start(bench.launch(SUCCEEDS))

    assert (await bench.until_ended(ref)).tasks[0].exit_code == 0
    assert states(await bench.observe(running)) == {TaskState.RUNNING}


# Starts that fail


async def test_a_start_that_fails_for_now_may_be_tried_again(
    bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = bench.launch(PRINTS_TO_BOTH)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shim, "write_json", fail)
        with pytest.raises(EngineUnavailable, match="No space left"):
            await bench.engine.start(launch)
    assert await bench.engine.find(launch.attempt_id, launch.folder) is None

    ref = await bench.engine.start(launch)

    await bench.until_ended(ref)
    assert await bench.read_log(ref) == b"bad\ngood\n"


async def test_a_launch_without_its_code_is_refused(bench: LocalBench, tmp_path: Path) -> None:
    launch = replace(bench.launch(SUCCEEDS), code=tmp_path / "missing")

    with pytest.raises(EngineRefused, match="missing"):
        await bench.engine.start(launch)


async def test_more_tasks_than_one_job_can_have_are_refused(bench: LocalBench) -> None:
    with pytest.raises(EngineRefused, match="251"):
        await bench.engine.start(bench.launch(SUCCEEDS, task_count=251))


# What a task sees


async def test_a_task_finds_nothing_of_the_server(
    bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSTER_SECRET_KEY", "hush")
    await bench.restart()

    seen = await environment_of(bench, bench.launch(PRINTS_ENVIRONMENT))

    assert "hush" not in str(seen)
    assert seen["PATH"] == os.environ["PATH"]
    inherited = {name for name in os.environ if seen.get(name) == os.environ[name]}
    assert inherited <= {"PATH", "LANG", "LC_CTYPE", "PYTHONUNBUFFERED"}


async def environment_of(bench: LocalBench, launch: Launch) -> dict[str, str]:
    ref = await bench.engine.start(launch)
    await bench.until_ended(ref)
    found = json.loads(await bench.read_log(ref))
    assert isinstance(found, dict)
    return found


async def test_a_task_sees_its_own_cards_only(bench: LocalBench) -> None:
    launch = bench.launch(PRINTS_ENVIRONMENT)
    (task,) = launch.tasks
    launch = replace(launch, tasks=(replace(task, card_kind=CardKind.GPU, cards=(2, 3)),))

    seen = await environment_of(bench, launch)

    assert (seen["CUDA_VISIBLE_DEVICES"], seen["ASCEND_RT_VISIBLE_DEVICES"]) == ("2,3", "")


async def test_a_task_on_npus_finds_its_rank_table(bench: LocalBench) -> None:
    launch = bench.launch(PRINTS_ENVIRONMENT)
    (task,) = launch.tasks
    launch = replace(launch, tasks=(replace(task, card_kind=CardKind.NPU, cards=(0,)),))

    seen = await environment_of(bench, launch)

    table = await asyncio.to_thread(Path(seen["RANK_TABLE_FILE"]).read_text)
    assert json.loads(table)["server_count"] == "1"


async def test_a_home_and_a_temporary_folder_are_there(bench: LocalBench) -> None:
    seen = await environment_of(bench, bench.launch(PRINTS_ENVIRONMENT))

    folders = [Path(seen[name]) for name in ("HOME", "TMPDIR", "MA_JOB_DIR", "MA_LOG_DIR")]
    assert all(folder.is_dir() and folder.is_relative_to(bench.jobs_folder) for folder in folders)


async def test_each_task_has_its_own_copy_of_the_code(bench: LocalBench, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    code, outside = tmp_path / "snapshot", tmp_path / "outside"
    code.mkdir()
    outside.mkdir()
    (code / "data").write_bytes(data)
    (code / "link").symlink_to(outside)
    os.mkfifo(code / "pipe")
    what = Program(argv=("/bin/sh", "-c", "cat data && echo changed > data"))
    launch = replace(bench.launch(what, task_count=2), code=code)

    ref = await bench.engine.start(launch)

    await bench.until_ended(ref)
    for index in (0, 1):
        assert bench.find_log(ref, index) == data
        assert (code_folder(launch.folder, index) / "link").is_symlink()
    assert (code / "data").read_bytes() == data


async def test_attempts_that_live_together_have_different_ports(bench: LocalBench) -> None:
    # The same first digits: the search for a free port begins at the same one.
    ids = [f"00000000{number:024x}" for number in range(3)]
    for attempt_id in ids:
        folder = bench.jobs_folder / attempt_id
        await bench.engine.start(replace(bench.launch(WAITS), attempt_id=attempt_id, folder=folder))

    ports = {attempt.master_port for attempt in bench.engine._attempts.values()}

    assert len(ports) == 3


# What must not grow, hang or be misled


async def test_an_ended_attempt_leaves_no_mark_that_the_next_server_would_read(
    bench: LocalBench,
) -> None:
    refs = [await bench.engine.start(bench.launch(SUCCEEDS)) for _ in range(3)]
    for ref in refs:
        await bench.until_ended(ref)

    await bench.restart()

    assert bench.engine._attempts == {}
    assert not list((bench.jobs_folder / attemptfiles.LIVE_FOLDER).iterdir())


async def test_a_missed_wake_up_is_made_up_for(
    bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SWEEP_SECONDS", 0.05)
    await bench.restart()
    monkeypatch.setattr(bench.engine, "_watch", lambda _attempt: None)

    ref = await bench.engine.start(bench.launch(SUCCEEDS))

    assert (await bench.until_ended(ref)).tasks[0].exit_code == 0


async def test_a_start_that_nobody_waits_for_any_more_is_finished(bench: LocalBench) -> None:
    launch = bench.launch(PRINTS_TO_BOTH)
    starting = asyncio.create_task(bench.engine.start(launch))
    await asyncio.sleep(0)

    starting.cancel()

    await bench.until_ended(EngineRef(launch.attempt_id))
    assert await bench.read_log(EngineRef(launch.attempt_id)) == b"bad\ngood\n"


@pytest.mark.timeout(DEADLINE_SECONDS)
async def test_what_a_job_puts_in_the_place_of_our_files_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "torn").write_text('{"exit_co')

    assert attemptfiles.read_beginning(tmp_path / "link", 10) is None
    assert attemptfiles.read_beginning(tmp_path / "pipe", 10) is None
    assert attemptfiles.read_state(tmp_path / "torn", Result) is None


CLAIM = Claim(boot_id="b", pid=2, start_ticks=3, started_at_ms=4)
RESULT = Result(exit_code=1, was_stopped=False, started_at_ms=4, ended_at_ms=5, message="")


@pytest.mark.parametrize("is_watched", [True, False])
@pytest.mark.parametrize(
    ("claim", "result", "watched", "unwatched"),
    [
        (None, None, TaskState.STARTING, TaskState.GONE),
        (CLAIM, None, TaskState.RUNNING, TaskState.GONE),
        (CLAIM, RESULT, TaskState.ENDED, TaskState.ENDED),
        (Claim(fenced_at_ms=9), None, TaskState.ENDED, TaskState.ENDED),
    ],
)
async def test_what_is_true_of_a_task_follows_from_its_files_and_its_shim(
    *,
    is_watched: bool,
    claim: Claim | None,
    result: Result | None,
    watched: TaskState,
    unwatched: TaskState,
) -> None:
    seen: TaskObservation = judge(3, claim=claim, result=result, is_watched=is_watched)

    assert seen.index == 3
    assert seen.state is (watched if is_watched else unwatched)
