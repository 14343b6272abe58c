"""What every engine promises; run on each of them.

A test module for an engine subclasses `EngineContract` and gives it a `bench` fixture.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from muster.domain.errors import EngineRefused
from muster.domain.jobfolder import code_folder, log_file
from muster.domain.placement import TaskPlacement
from muster.engines.engine import (
    Cluster,
    ClusterWish,
    Engine,
    EngineRef,
    Launch,
    Observation,
    TaskState,
    TaskUsage,
)
from muster.proxy.endpoint import read_endpoint
from tests.engines.fake import KILLED, TERMINATED, Program

DEADLINE_SECONDS: Final = 60.0
LOG_AGAIN_SECONDS: Final = 0.01
LONG_GRACE_SECONDS: Final = 600.0

BYTES: Final = bytes(range(256)) * 40


def program(
    source: str,
    *,
    exit_code: int | None = None,
    output: bytes = b"",
    stop_exit_code: int | None = TERMINATED,
    cpu_millis: int | None = None,
    memory_mib: int | None = None,
) -> Program:
    """A Python program that starts fast, and what it comes to."""
    return Program(
        argv=(sys.executable, "-I", "-S", "-c", source),
        exit_code_of=lambda _index: exit_code,
        output=output,
        stop_exit_code=stop_exit_code,
        cpu_millis=cpu_millis,
        memory_mib=memory_mib,
    )


SUCCEEDS: Final = program("pass", exit_code=0)
FAILS: Final = program("raise SystemExit(3)", exit_code=3)
IS_KILLED: Final = program("import os; os.kill(os.getpid(), 9)", exit_code=KILLED)
PRINTS_BYTES: Final = program(
    "import os\nfor _ in range(40): os.write(1, bytes(range(256)))", exit_code=0, output=BYTES
)
PRINTS_TO_BOTH: Final = program(
    "import os; os.write(2, b'bad\\n'); os.write(1, b'good\\n')", exit_code=0, output=b"bad\ngood\n"
)
WAITS: Final = program("import os, time; os.write(1, b'up\\n'); time.sleep(600)", output=b"up\n")
IGNORES_STOP: Final = program(
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write(1, b'up\\n'); time.sleep(600)",
    output=b"up\n",
    stop_exit_code=None,
)
CLEANS_UP: Final = program(
    "import os, signal, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: os._exit(5))\n"
    "os.write(1, b'up\\n'); time.sleep(600)",
    output=b"up\n",
    stop_exit_code=5,
)
SECOND_TASK_FAILS: Final = Program(
    argv=(
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import os, time\n"
        "os.write(1, b'up\\n')\n"
        "time.sleep(600) if os.environ['VC_TASK_INDEX'] != '1' else os._exit(3)",
    ),
    exit_code_of=lambda index: 3 if index == 1 else None,
    output=b"up\n",
)
IS_MISSING: Final = Program(
    argv=("/no/such/program",), exit_code_of=lambda _index: 127, message="There is no such program."
)
HELD_MIB: Final = 64
IS_BUSY: Final = program("while True: pass", cpu_millis=1000, memory_mib=8)
HOLDS_MEMORY: Final = program(
    f"import time; held = b'x' * ({HELD_MIB} << 20); time.sleep(600)",
    cpu_millis=0,
    memory_mib=HELD_MIB + 8,
)
IS_BUSY_AS_A_DAEMON: Final = program(
    f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        held = b"x" * ({HELD_MIB} << 20)
        while True:
            pass
    os._exit(0)
os.wait()
time.sleep(600)
""",
    cpu_millis=1000,
    memory_mib=HELD_MIB + 16,
)
SERVES: Final = program(
    """
import http.server, json, os

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"cwd": os.getcwd(), "environment": dict(os.environ)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

open("was-here", "w").close()
address = os.environ["MUSTER_HOST"], int(os.environ["PORT"])
http.server.HTTPServer(address, Answer).serve_forever()
"""
)
PROGRAMS: Final = (
    SUCCEEDS,
    FAILS,
    IS_KILLED,
    PRINTS_BYTES,
    PRINTS_TO_BOTH,
    WAITS,
    IGNORES_STOP,
    CLEANS_UP,
    SECOND_TASK_FAILS,
    IS_MISSING,
    IS_BUSY,
    HOLDS_MEMORY,
    IS_BUSY_AS_A_DAEMON,
)


class Bench:
    """An engine that is open, and what a test needs around it."""

    manages_machines = False  # whether it is the engine that says what there is to run on

    def __init__(self, engine: Engine, jobs_folder: Path) -> None:
        self.engine = engine
        self.jobs_folder = jobs_folder
        self.changed = asyncio.Event()

    async def open(self) -> None:
        await self.engine.open(self.changed.set)

    async def restart(self) -> None:
        """Put another server in the place of this one."""
        await self.engine.close()
        self.engine = self.make_engine()
        await self.open()

    def make_engine(self) -> Engine:
        """An engine that finds what the one before it has left."""
        raise NotImplementedError

    async def wait(self) -> None:
        """Wait until something may have changed."""
        await self.changed.wait()

    def launch(self, what: Program, *, task_count: int = 1) -> Launch:
        attempt_id = uuid4().hex
        return Launch(
            attempt_id=attempt_id,
            argv=what.argv,
            environment={},
            code=None,
            folder=self.jobs_folder / attempt_id,
            tasks=tuple(
                TaskPlacement(index=index, node_name=f"node-{index}") for index in range(task_count)
            ),
        )

    async def observe(self, ref: EngineRef) -> Observation:
        return (await self.engine.observe([ref]))[ref]

    async def until(self, ref: EngineRef, is_so: Callable[[Observation], bool]) -> Observation:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                self.changed.clear()
                seen = await self.observe(ref)
                if is_so(seen):
                    return seen
                await self.wait()

    async def until_ended(self, ref: EngineRef) -> Observation:
        return await self.until(ref, lambda seen: states(seen) == {TaskState.ENDED})

    async def until_log(self, ref: EngineRef, data: bytes, *, task_index: int = 0) -> None:
        """Wait until the task's own code has got somewhere: it says so in its log."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while data not in await self.read_log(ref, task_index):  # noqa: ASYNC110 - a file
                await asyncio.sleep(LOG_AGAIN_SECONDS)

    async def read_log(self, ref: EngineRef, task_index: int = 0) -> bytes:
        return self.find_log(ref, task_index) or b""

    def find_log(self, ref: EngineRef, task_index: int = 0) -> bytes | None:
        """What stands where requests read it; None where there is no file."""
        file = log_file(self.jobs_folder / ref, task_index)
        return file.read_bytes() if file.exists() else None

    async def sample_task(self, ref: EngineRef, index: int = 0) -> TaskUsage | None:
        tasks = (await self.engine.sample([])).tasks
        return next((task for task in tasks if (task.ref, task.index) == (ref, index)), None)

    async def until_used(self, ref: EngineRef, *, cpu_millis: int = 0, memory_mib: int = 0) -> None:
        """Wait until a sample shows the first task to use at least so much."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                task = await self.sample_task(ref)
                if (
                    task is not None
                    and (task.cpu_millis or 0) >= cpu_millis
                    and (task.memory_mib or 0) >= memory_mib
                ):
                    return
                await asyncio.sleep(LOG_AGAIN_SECONDS)

    async def until_seen(self) -> Cluster | None:
        """The machines that the engine manages, once it has seen them; None: it manages none."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.manages_machines:
                if (cluster := await self.engine.observe_cluster()) is not None:
                    return cluster
                await asyncio.sleep(LOG_AGAIN_SECONDS)
        return await self.engine.observe_cluster()

    async def until_marked(self, pools: frozenset[str]) -> None:
        """Wait until the engine's cluster bears the marks of these pools, and of no others."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                cluster = await self.engine.observe_cluster()
                if (cluster.marked if cluster else frozenset()) == pools:
                    return
                await asyncio.sleep(LOG_AGAIN_SECONDS)

    async def start_waiting(self) -> EngineRef:
        """An attempt of one task that runs until it is stopped, and is known to be up."""
        ref = await self.engine.start(self.launch(WAITS))
        await self.until_log(ref, b"up\n")
        # An engine that asks others may hear of it a moment later than the log tells.
        await self.until(ref, lambda seen: states(seen) == {TaskState.RUNNING})
        return ref


def states(seen: Observation) -> set[TaskState]:
    return {task.state for task in seen.tasks}


@pytest.mark.asyncio
class EngineContract:
    """The promises in the docstrings of `muster.engines.engine.Engine`, one a test."""

    @pytest.mark.parametrize(
        ("what", "exit_code"), [(SUCCEEDS, 0), (FAILS, 3), (IS_KILLED, 128 + 9)]
    )
    async def test_an_ended_task_reports_its_exit_code(
        self, bench: Bench, what: Program, exit_code: int
    ) -> None:
        ref = await bench.engine.start(bench.launch(what))

        (task,) = (await bench.until_ended(ref)).tasks
        assert (task.exit_code, task.was_stopped, task.message) == (exit_code, False, "")

    async def test_an_ended_task_reports_when_it_started_and_ended(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(SUCCEEDS))

        (task,) = (await bench.until_ended(ref)).tasks
        assert task.started_at_ms is not None
        assert task.ended_at_ms is not None
        assert 0 < task.started_at_ms <= task.ended_at_ms

    async def test_a_running_task_reports_when_it_started(self, bench: Bench) -> None:
        ref = await bench.start_waiting()

        (task,) = (await bench.until(ref, lambda s: states(s) == {TaskState.RUNNING})).tasks
        assert task.started_at_ms is not None
        assert (task.exit_code, task.ended_at_ms) == (None, None)

    async def test_a_command_that_cannot_be_started_ends_with_a_message(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(IS_MISSING))

        (task,) = (await bench.until_ended(ref)).tasks
        assert task.exit_code == 127
        assert task.message

    async def test_every_task_of_an_attempt_is_started(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(PRINTS_TO_BOTH, task_count=3))

        seen = await bench.until_ended(ref)
        assert [task.index for task in seen.tasks] == [0, 1, 2]
        assert [await bench.read_log(ref, index) for index in range(3)] == [b"bad\ngood\n"] * 3

    async def test_a_task_that_fails_leaves_the_others_running(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(SECOND_TASK_FAILS, task_count=3))

        seen = await bench.until(ref, lambda s: s.tasks[1].state is TaskState.ENDED)
        assert seen.tasks[1].exit_code == 3
        for index in (0, 2):
            await bench.until_log(ref, b"up\n", task_index=index)
            assert (await bench.observe(ref)).tasks[index].state is TaskState.RUNNING

    async def test_the_same_attempt_started_twice_runs_once(self, bench: Bench) -> None:
        launch = bench.launch(PRINTS_TO_BOTH)

        first = await bench.engine.start(launch)
        second = await bench.engine.start(launch)
        await bench.until_ended(first)
        third = await bench.engine.start(launch)

        assert first == second == third
        await bench.until_ended(first)
        assert await bench.read_log(first) == b"bad\ngood\n"

    async def test_the_same_attempt_started_at_the_same_time_runs_once(self, bench: Bench) -> None:
        launch = bench.launch(PRINTS_TO_BOTH)

        refs = await asyncio.gather(*(bench.engine.start(launch) for _ in range(5)))

        assert len(set(refs)) == 1
        await bench.until_ended(refs[0])
        assert await bench.read_log(refs[0]) == b"bad\ngood\n"

    async def test_a_stopped_task_ends_and_says_why(self, bench: Bench) -> None:
        ref = await bench.start_waiting()

        await bench.engine.stop(ref, LONG_GRACE_SECONDS)

        (task,) = (await bench.until_ended(ref)).tasks
        assert (task.exit_code, task.was_stopped) == (TERMINATED, True)

    async def test_a_stopped_task_may_clean_up_and_choose_its_exit_code(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(CLEANS_UP))
        await bench.until_log(ref, b"up\n")

        await bench.engine.stop(ref, LONG_GRACE_SECONDS)

        (task,) = (await bench.until_ended(ref)).tasks
        assert (task.exit_code, task.was_stopped) == (5, True)

    async def test_a_task_that_ignores_the_stop_is_killed_after_the_grace_time(
        self, bench: Bench
    ) -> None:
        ref = await bench.engine.start(bench.launch(IGNORES_STOP))
        await bench.until_log(ref, b"up\n")

        await bench.engine.stop(ref, 0.2)

        (task,) = (await bench.until_ended(ref)).tasks
        assert (task.exit_code, task.was_stopped) == (KILLED, True)
        assert task.started_at_ms is not None
        assert task.ended_at_ms is not None
        assert task.ended_at_ms - task.started_at_ms >= 200

    async def test_a_later_stop_may_hurry_but_not_put_off(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(IGNORES_STOP))
        await bench.until_log(ref, b"up\n")

        for grace_seconds in (LONG_GRACE_SECONDS, 0.1, LONG_GRACE_SECONDS):
            await bench.engine.stop(ref, grace_seconds)

        (task,) = (await bench.until_ended(ref)).tasks
        assert (task.exit_code, task.was_stopped) == (KILLED, True)

    async def test_every_task_of_a_stopped_attempt_ends(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(WAITS, task_count=3))

        await bench.engine.stop(ref, LONG_GRACE_SECONDS)

        seen = await bench.until_ended(ref)
        assert [task.was_stopped for task in seen.tasks] == [True] * 3

    async def test_a_stop_right_after_the_start_ends_the_attempt(self, bench: Bench) -> None:
        launch = bench.launch(WAITS, task_count=2)
        starting = asyncio.create_task(bench.engine.start(launch))
        await asyncio.sleep(0)

        await bench.engine.stop(EngineRef(launch.attempt_id), LONG_GRACE_SECONDS)
        ref = await starting
        await bench.engine.stop(ref, LONG_GRACE_SECONDS)

        seen = await bench.until_ended(ref)
        assert [(task.exit_code, task.was_stopped) for task in seen.tasks] == [(143, True)] * 2

    async def test_a_stop_leaves_an_ended_attempt_as_it_is(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(FAILS))
        before = await bench.until_ended(ref)

        await bench.engine.stop(ref, 0)

        assert await bench.observe(ref) == before

    async def test_a_stop_of_an_unknown_attempt_changes_nothing(self, bench: Bench) -> None:
        ref = EngineRef(uuid4().hex)

        await bench.engine.stop(ref, 0)

        assert await bench.observe(ref) == Observation()

    async def test_an_unknown_attempt_has_no_tasks_and_is_gone(self, bench: Bench) -> None:
        seen = await bench.observe(EngineRef(uuid4().hex))

        assert seen.tasks == ()
        assert seen.is_gone

    async def test_many_attempts_are_observed_in_one_call(self, bench: Bench) -> None:
        ended = [await bench.engine.start(bench.launch(SUCCEEDS)) for _ in range(3)]
        waiting = await bench.start_waiting()
        unknown = EngineRef(uuid4().hex)
        for ref in ended:
            await bench.until_ended(ref)

        seen = await bench.engine.observe([*ended, waiting, unknown])

        assert [states(seen[ref]) for ref in ended] == [{TaskState.ENDED}] * 3
        assert states(seen[waiting]) == {TaskState.RUNNING}
        assert seen[unknown] == Observation()
        assert await bench.engine.observe([]) == {}

    async def test_a_log_is_exactly_what_was_written(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(PRINTS_BYTES))

        await bench.until_ended(ref)

        assert bench.find_log(ref) == BYTES

    async def test_a_log_is_there_while_the_task_runs(self, bench: Bench) -> None:
        ref = await bench.start_waiting()

        assert bench.find_log(ref) == b"up\n"

    async def test_only_an_attempt_that_was_started_is_found(self, bench: Bench) -> None:
        launch, other = bench.launch(SUCCEEDS), bench.launch(SUCCEEDS)

        ref = await bench.engine.start(launch)

        assert await bench.engine.find(launch.attempt_id, launch.folder) == ref
        assert await bench.engine.find(other.attempt_id, other.folder) is None

    async def test_a_forgotten_attempt_leaves_no_trace(self, bench: Bench) -> None:
        launch = bench.launch(PRINTS_TO_BOTH)
        ref = await bench.engine.start(launch)
        await bench.until_ended(ref)

        await bench.engine.forget(ref)
        await bench.engine.forget(ref)

        assert await bench.observe(ref) == Observation()
        assert await bench.engine.find(launch.attempt_id, launch.folder) is None
        assert not launch.folder.exists()
        assert bench.find_log(ref) is None

    async def test_a_running_attempt_is_not_forgotten(self, bench: Bench) -> None:
        ref = await bench.start_waiting()

        await bench.engine.forget(ref)

        assert states(await bench.observe(ref)) == {TaskState.RUNNING}

    async def test_another_server_finds_what_runs_and_can_stop_it(self, bench: Bench) -> None:
        launch = bench.launch(WAITS)
        ref = await bench.engine.start(launch)
        await bench.until_log(ref, b"up\n")

        await bench.restart()

        assert await bench.engine.find(launch.attempt_id, launch.folder) == ref
        assert states(await bench.observe(ref)) == {TaskState.RUNNING}
        await bench.engine.stop(ref, LONG_GRACE_SECONDS)
        (task,) = (await bench.until_ended(ref)).tasks
        assert (task.exit_code, task.was_stopped) == (TERMINATED, True)

    async def test_another_server_finds_what_has_ended(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(FAILS))
        before = await bench.until_ended(ref)

        await bench.restart()

        assert await bench.observe(ref) == before

    async def test_an_attempt_started_again_by_another_server_runs_once(self, bench: Bench) -> None:
        launch = bench.launch(PRINTS_TO_BOTH)
        ref = await bench.engine.start(launch)
        await bench.until_ended(ref)

        await bench.restart()

        assert await bench.engine.start(launch) == ref
        await bench.until_ended(ref)
        assert await bench.read_log(ref) == b"bad\ngood\n"

    async def test_a_change_is_told(self, bench: Bench) -> None:
        bench.changed.clear()
        ref = await bench.engine.start(bench.launch(WAITS))
        await asyncio.wait_for(bench.changed.wait(), DEADLINE_SECONDS)
        await bench.until_log(ref, b"up\n")

        bench.changed.clear()
        await bench.engine.stop(ref, LONG_GRACE_SECONDS)

        await asyncio.wait_for(bench.changed.wait(), DEADLINE_SECONDS)

    async def test_a_busy_task_is_seen_to_use_a_cpu(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(IS_BUSY))

        await bench.until_used(ref, cpu_millis=100, memory_mib=1)

    async def test_a_task_that_holds_memory_is_seen_to_hold_it(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(HOLDS_MEMORY))

        await bench.until_used(ref, memory_mib=HELD_MIB)

    async def test_a_process_that_left_the_session_counts_as_its_tasks(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(IS_BUSY_AS_A_DAEMON))

        await bench.until_used(ref, cpu_millis=100, memory_mib=HELD_MIB)

    async def test_every_running_task_is_sampled_and_none_that_has_ended(
        self, bench: Bench
    ) -> None:
        ended = await bench.engine.start(bench.launch(SUCCEEDS))
        await bench.until_ended(ended)
        running = await bench.engine.start(bench.launch(WAITS, task_count=2))
        for index in range(2):
            await bench.until_log(running, b"up\n", task_index=index)
        await bench.until(running, lambda seen: states(seen) == {TaskState.RUNNING})

        sample = await bench.engine.sample([])

        assert {(task.ref, task.index) for task in sample.tasks} == {(running, 0), (running, 1)}

    async def test_only_hosts_that_were_asked_for_are_sampled(self, bench: Bench) -> None:
        sample = await bench.engine.sample(["node-a"])

        assert set(sample.hosts) <= {"node-a"}
        assert (await bench.engine.sample([])).hosts == {}

    async def test_a_task_found_again_by_another_server_is_sampled(self, bench: Bench) -> None:
        ref = await bench.engine.start(bench.launch(IS_BUSY))
        await bench.until_used(ref, cpu_millis=100)

        await bench.restart()

        await bench.until_used(ref, cpu_millis=100)

    async def test_a_host_of_which_nothing_is_said_is_up(self, bench: Bench) -> None:
        conditions = await bench.engine.observe_hosts()

        assert [host for host, condition in conditions.items() if not condition.is_up] == []

    async def test_of_every_host_of_its_cluster_an_engine_tells_the_condition(
        self, bench: Bench
    ) -> None:
        cluster = await bench.until_seen()

        hosts = {host.name for host in cluster.hosts} if cluster else set()
        assert hosts <= (await bench.engine.observe_hosts()).keys()
        members = [
            name for names in (cluster.partitions if cluster else {}).values() for name in names
        ]
        assert set(members) <= hosts

    async def test_what_runs_on_a_node_that_is_to_be_drained_goes_on(self, bench: Bench) -> None:
        ref = await bench.start_waiting()
        cluster = await bench.until_seen()
        hosts = [host.name for host in cluster.hosts] if cluster else ["node-0"]
        wish = ClusterWish(drained=dict.fromkeys(hosts, "a-pool"), own=frozenset({"a-pool"}))

        await bench.engine.arrange(wish)
        await bench.engine.arrange(wish)

        # An engine that manages no machines has nothing to mark.
        marked = frozenset({"a-pool"} if cluster else ())
        await bench.until_marked(marked)
        conditions = await bench.engine.observe_hosts()
        assert [name for name, condition in conditions.items() if not condition.is_up] == []
        assert states(await bench.observe(ref)) == {TaskState.RUNNING}
        await bench.engine.arrange(ClusterWish(own=frozenset({"a-pool"})))
        await bench.until_marked(frozenset())

    async def test_an_open_engine_is_healthy(self, bench: Bench) -> None:
        health = await bench.engine.health()

        assert health.is_reachable
        assert health.version
        assert not health.message


@pytest.mark.asyncio
class ServingContract:
    """What an engine of real processes promises of a launch that serves."""

    async def test_a_task_that_serves_answers_where_it_says(self, bench: Bench) -> None:
        launch = replace(bench.launch(SERVES), serves=True, environment={"PORT": "1", "OWN": "2"})

        await bench.engine.start(launch)

        host, port = await until_told(launch)
        told = await until_answered(host, port)
        names = ("PORT", "MUSTER_PORT", "JUPYTER_PORT", "MUSTER_HOST", "OWN")
        assert [told["environment"][name] for name in names] == [*[str(port)] * 3, host, "2"]
        assert told["cwd"] == str(code_folder(launch.folder, 0))

    async def test_those_that_start_together_get_ports_of_their_own(self, bench: Bench) -> None:
        launches = [replace(bench.launch(SERVES, task_count=2), serves=True) for _ in range(3)]

        await asyncio.gather(*(bench.engine.start(launch) for launch in launches))

        found = [await until_told(launch, index) for launch in launches for index in range(2)]
        assert len(set(found)) == 6
        for host, port in found:
            assert (await until_answered(host, port))["environment"]["PORT"] == str(port)

    async def test_a_task_that_does_not_serve_has_no_port(self, bench: Bench) -> None:
        source = "import os; print('PORT' in os.environ, 'MUSTER_HOST' in os.environ)"
        launch = bench.launch(program(source, exit_code=0))

        ref = await bench.engine.start(launch)

        await bench.until_ended(ref)
        assert await bench.read_log(ref) == b"False False\n"
        assert read_endpoint(launch.folder) is None

    async def test_it_works_in_the_folder_that_it_is_given_and_leaves_it_there(
        self, bench: Bench
    ) -> None:
        folder = bench.jobs_folder.parent / "storage"
        folder.mkdir()
        (folder / "kept").write_text("before")
        launch = replace(bench.launch(SERVES), serves=True, work_folder=folder)

        ref = await bench.engine.start(launch)
        told = await until_answered(*await until_told(launch))
        await bench.engine.stop(ref, 0)
        await bench.until_ended(ref)
        await bench.engine.forget(ref)

        assert (told["cwd"], told["environment"]["MA_JOB_DIR"]) == (str(folder), str(folder))
        assert not launch.folder.exists()
        assert sorted(path.name for path in folder.iterdir()) == ["kept", "was-here"]

    async def test_a_folder_that_is_not_there_is_refused(self, bench: Bench) -> None:
        missing = bench.jobs_folder.parent / "no-storage"
        launch = replace(bench.launch(SERVES), serves=True, work_folder=missing)

        with pytest.raises(EngineRefused, match="no-storage"):
            await bench.engine.start(launch)


async def until_told(launch: Launch, index: int = 0) -> tuple[str, int]:
    """Where a task says that it answers."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (found := read_endpoint(launch.folder, index)) is None:  # noqa: ASYNC110 - a file
            await asyncio.sleep(LOG_AGAIN_SECONDS)
    return found


async def until_answered(host: str, port: int) -> dict[str, Any]:
    """What it answers once it listens."""
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        httpx.AsyncClient(trust_env=False, timeout=DEADLINE_SECONDS) as client,
    ):
        while True:
            try:
                return dict((await client.get(f"http://{host}:{port}/")).json())
            except httpx.ConnectError:
                await asyncio.sleep(LOG_AGAIN_SECONDS)
