"""The shim alone, as it runs where there is no engine beside it."""

import ast
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from muster.engines import processes, shim

DEADLINE_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.01
SIGNALS_OF_THE_C_LIBRARY = 0b11 << 31  # 32 and 33, which no program can use
PYTHON = (sys.executable, "-I", "-S", "-c")
SHELL = ("/bin/sh", "-c")


def make_task(folder: Path, *argv: str, environment: dict[str, str] | None = None) -> Path:
    (folder / "code").mkdir(parents=True)
    spec = {
        "argv": argv,
        "environment": environment or {},
        "folder": str(folder / "code"),
        "log": str(folder / "log"),
    }
    (folder / shim.SPEC_FILE).write_text(json.dumps(spec))
    return folder


def start_shim(task: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-I", "-S", shim.__file__, str(task)]
    return subprocess.Popen(command, start_new_session=True)  # noqa: S603


def run_shim(task: Path) -> Any:
    with start_shim(task) as process:
        assert process.wait(DEADLINE_SECONDS) == 0
    return json.loads((task / shim.EXIT_FILE).read_text())


def wait_for_log(task: Path, text: bytes) -> bytes:
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        if (task / "log").exists() and text in (log := (task / "log").read_bytes()):
            return log
        time.sleep(LOOK_AGAIN_SECONDS)
    pytest.fail(f"{text!r} is not in the log")


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(shim.__file__).read_text())
    imported = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }

    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)],
)
def test_it_writes_how_the_command_ended(tmp_path: Path, command: str, exit_code: int) -> None:
    result = run_shim(make_task(tmp_path / "t", *SHELL, command))

    assert (result["exit_code"], result["was_stopped"], result["message"]) == (exit_code, False, "")
    assert 0 < result["started_at_ms"] <= result["ended_at_ms"]


def test_how_a_command_ended_is_on_disk_before_the_shim_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []  # inodes
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_ino))

    shim.write_result(str(tmp_path), {"exit_code": 0})

    assert flushed == [(tmp_path / shim.EXIT_FILE).stat().st_ino, tmp_path.stat().st_ino]


def test_a_disk_that_is_full_only_once_it_is_flushed_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OSError(errno.ENOSPC, "full")]

    def fsync(_fd: int) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(shim, "DISK_RETRY_SECONDS", 0.0)

    shim.write_result(str(tmp_path), {"exit_code": 7})

    assert json.loads((tmp_path / shim.EXIT_FILE).read_text()) == {"exit_code": 7}
    assert errors == []


def test_it_leaves_no_drafts_behind(tmp_path: Path) -> None:
    task = make_task(tmp_path / "t", *SHELL, "exit 0")

    run_shim(task)

    assert {file.name for file in task.iterdir()} == {
        "code",
        "log",
        shim.SPEC_FILE,
        shim.CLAIM_FILE,
        shim.EXIT_FILE,
    }


@pytest.mark.parametrize(
    ("program", "exit_code"), [("/no/such/program", 127), ("no-such-program", 127), ("/etc", 126)]
)
def test_a_command_that_cannot_be_started_is_explained(
    tmp_path: Path, program: str, exit_code: int
) -> None:
    result = run_shim(make_task(tmp_path / "t", program))

    assert result["exit_code"] == exit_code
    assert program in result["message"]


def test_a_program_is_looked_for_on_the_path_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "bin/tool").chmod(0o755)
    path = {"PATH": f"/nowhere:{tmp_path}/bin"}

    assert run_shim(make_task(tmp_path / "t", "tool", environment=path))["exit_code"] == 9


def test_the_command_inherits_nothing_but_its_log(tmp_path: Path) -> None:
    task = make_task(
        tmp_path / "t",
        *SHELL,
        "pwd; echo $0 $GREETING; set -- /proc/$$/fd/*; echo $#; readlink /proc/$$/fd/0;"
        " while read -r name value; do case $name in SigBlk:|SigIgn:) echo $value;; esac;"
        " done < /proc/$$/status",
        environment={"GREETING": "hello", "PATH": os.defpath},
    )

    run_shim(task)

    *lines, blocked, ignored = (task / "log").read_text().splitlines()
    assert lines == [
        str(task / "code"),
        "/bin/sh hello",
        "4",  # 0, 1, 2, and the one that lists them
        "/dev/null",
    ]
    assert int(blocked, 16) == 0
    assert int(ignored, 16) & ~SIGNALS_OF_THE_C_LIBRARY == 0


def test_of_many_shims_for_a_task_one_runs_it(tmp_path: Path) -> None:
    task = make_task(tmp_path / "t", *SHELL, "echo once")

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(lambda _: start_shim(task).wait(DEADLINE_SECONDS), range(5)))

    assert (task / "log").read_text() == "once\n"


def test_a_fenced_task_is_never_run(tmp_path: Path) -> None:
    task = make_task(tmp_path / "t", *SHELL, "echo never")
    assert shim.claim(str(task), {"fenced_at_ms": 1})

    with start_shim(task) as process:
        assert process.wait(DEADLINE_SECONDS) == 0

    assert not (task / "log").exists()
    assert not (task / shim.EXIT_FILE).exists()


def test_a_claim_names_the_process_that_runs_the_task(tmp_path: Path) -> None:
    task = make_task(tmp_path / "t", *SHELL, "echo up; exec sleep 600")
    with start_shim(task) as process:
        wait_for_log(task, b"up\n")

        claim = json.loads((task / shim.CLAIM_FILE).read_text())
        found = processes.find_identity(process.pid)

        process.send_signal(signal.SIGTERM)
    assert found == processes.ProcessIdentity(
        boot_id=claim["boot_id"], pid=claim["pid"], start_ticks=claim["start_ticks"]
    )


def test_a_signal_that_nobody_asked_for_is_passed_on_but_is_no_stop(tmp_path: Path) -> None:
    task = make_task(tmp_path / "t", *SHELL, "echo up; exec sleep 600")
    with start_shim(task) as process:
        wait_for_log(task, b"up\n")

        process.send_signal(signal.SIGTERM)

    result = json.loads((task / shim.EXIT_FILE).read_text())
    assert (result["exit_code"], result["was_stopped"]) == (143, False)


def test_a_stop_reaches_what_left_the_session(tmp_path: Path) -> None:
    task = make_task(
        tmp_path / "t",
        *PYTHON,
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'asked\\n'), os._exit(0)))\n"
        "    os.write(1, b'up\\n')\n"
        "time.sleep(600)",
    )
    with start_shim(task) as process:
        wait_for_log(task, b"up\n")
        shim.write_json(str(task / shim.STOP_FILE), {"grace_seconds": 600})

        process.send_signal(signal.SIGTERM)

    result = json.loads((task / shim.EXIT_FILE).read_text())
    assert (result["exit_code"], result["was_stopped"]) == (143, True)
    assert (task / "log").read_bytes() == b"up\nasked\n"


# As bubblewrap does: what stands around a command, what is the first process of its view, and it.
SLOW_WRAPPER = """
import os, signal, sys, time
def pass_on(work):
    pid = os.fork()
    if pid == 0:
        work()
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
def be_first():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.write(1, b'first\\n')
    time.sleep(0.5)
    pass_on(run)
def run():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os.execv(sys.argv[1], sys.argv[1:])
os.write(1, b'around\\n')
time.sleep(0.5)
pass_on(be_first)
"""


@pytest.mark.parametrize("stands", ["around", "first"])
def test_a_stop_reaches_a_command_that_what_stands_around_it_has_not_started_yet(
    tmp_path: Path, stands: str
) -> None:
    task = make_task(tmp_path / "t", "/bin/sleep", "600")
    spec = json.loads((task / shim.SPEC_FILE).read_text())
    spec["wrapper"] = [*PYTHON, SLOW_WRAPPER]
    (task / shim.SPEC_FILE).write_text(json.dumps(spec))
    with start_shim(task) as process:
        wait_for_log(task, stands.encode())
        shim.write_json(str(task / shim.STOP_FILE), {"grace_seconds": DEADLINE_SECONDS})
        asked_at = time.monotonic()

        process.send_signal(signal.SIGTERM)

    assert time.monotonic() - asked_at < DEADLINE_SECONDS  # it was not killed at the last
    result = json.loads((task / shim.EXIT_FILE).read_text())
    assert result["was_stopped"]


def test_a_process_whose_first_thread_has_ended_counts_as_alive(tmp_path: Path) -> None:
    task = make_task(
        tmp_path / "t",
        *PYTHON,
        "import ctypes, os, threading, time\n"
        "def go_on():\n"
        "    os.write(1, b'up %d\\n' % os.getpid())\n"
        "    time.sleep(600)\n"
        "threading.Thread(target=go_on).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)",
    )
    with start_shim(task) as process:
        pid = int(wait_for_log(task, b"\n").split()[1])
        end = time.monotonic() + DEADLINE_SECONDS
        while b") Z" not in Path(f"/proc/{pid}/stat").read_bytes() and time.monotonic() < end:
            time.sleep(LOOK_AGAIN_SECONDS)

        identity = processes.find_identity(pid)
        shim.write_json(str(task / shim.STOP_FILE), {"grace_seconds": 0})
        process.send_signal(signal.SIGTERM)

    assert identity is not None
    assert not processes.is_alive(identity)


def test_a_zombie_counts_as_dead() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        assert processes.find_identity(process.pid) is None


def test_a_port_is_given_to_one_and_free_again_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "SERVING_PORTS", range(*three_free_ports()))
    first_port, first = shim.take_port()
    second_port, second = shim.take_port()
    third_port, third = shim.take_port()

    assert {first_port, second_port, third_port} == set(shim.SERVING_PORTS)
    with pytest.raises(OSError, match="no port is free"):
        shim.take_port()
    second.close()
    again_port, again = shim.take_port()
    assert again_port == second_port
    for claim in (first, third, again):
        claim.close()


def test_a_port_that_somebody_else_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    start, end = three_free_ports()
    monkeypatch.setattr(shim, "SERVING_PORTS", range(start, end))
    with socket.socket() as other:
        other.bind(("127.0.0.1", start + 1))
        other.listen()
        given = [shim.take_port() for _ in range(2)]

    assert {port for port, _ in given} == {start, start + 2}
    for _, claim in given:
        claim.close()


def three_free_ports() -> tuple[int, int]:
    """(the first, the one after the last) of a few that nobody uses."""
    for start in range(25_000, 30_000, 3):
        try:
            for port in range(start, start + 3):
                with socket.socket() as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return start, start + 3
    pytest.fail("no ports are free")
