"""Runs the command of one task, and leaves no process behind when it ends.

A shim stands between the engine and the command, in a session of its own, and outlives the server:
it alone can tell how the command ended. It is run in one of two ways:

    INTERPRETER -I -S shim.py TASK_FOLDER                   one task, at once
    INTERPRETER -I -S shim.py --serve CONTROL_FD LOCK_FD    forks a shim for each task asked for

The second is there because starting Python costs many times as much as forking it.
This file imports nothing of muster: it also runs where only the standard library is. A command that
is to be kept from the server and other projects is started by `confine.py`, which lies beside it.

What it and the engine keep in a task's folder:

    spec.json    what to run; written by the engine
    claim.json   who runs it; made only once, so that a task is started at most once
    stop.json    the shortest grace time of a stop; written before SIGTERM is sent
    endpoint.json where it answers requests, if it serves
    exit.json    how it ended

Source: prctl(2), pidfd_open(2), proc_pid_stat(5), Linux man-pages 6.03.
"""

# pathlib takes as long to import as half of the rest together.
# ruff: noqa: PTH100, PTH104, PTH108, PTH113, PTH116, PTH118, PTH120, PTH123, PTH208

import gc
import os
import sys
import time

TYPE_CHECKING = False  # typing itself takes a tenth of the start
if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable, Collection, Iterator, Mapping
    from typing import Any
else:
    # What signal is made of. With json, ctypes and contextlib it would take longer to import than
    # Python takes to start, and a node of a cluster starts it for each job.
    import _signal as signal

SPEC_FILE = "spec.json"
CLAIM_FILE = "claim.json"
STOP_FILE = "stop.json"
ENDPOINT_FILE = "endpoint.json"
EXIT_FILE = "exit.json"

GRACE_SECONDS = 10.0  # for a SIGTERM that no stop.json explains: the machine is shutting down
LEFTOVER_GRACE_SECONDS = 2.0  # for what is still there when the command itself has ended
KILL_AGAIN_SECONDS = 0.02  # doubles up to the next: what forks on needs more than one SIGKILL
KILL_AGAIN_SECONDS_MAX = 1.0
ASK_AGAIN_SECONDS = 0.05  # while what is to be asked to end has not come up yet
LOOK_AGAIN_SECONDS = 30.0  # SIGCHLD tells at once; should one be missed, nothing hangs
DISK_RETRY_SECONDS = 1.0
DISK_RETRIES_MAX = 3600  # a full disk must not turn a finished task into a lost one

# Where a program that serves is told its port: by whatever name it looks for it.
PORT_VARIABLES = ("PORT", "MUSTER_PORT", "JUPYTER_PORT")
HOST_VARIABLE = "MUSTER_HOST"
# Below those that attempts meet at (MASTER_PORTS) and that the kernel hands out by itself.
SERVING_PORTS = range(12_000, 20_000)

EXIT_NOT_FOUND = 127  # both as a shell answers
EXIT_NOT_RUNNABLE = 126

REQUEST_BYTES_MAX = 1 << 17
ANSWER_BYTES_MAX = 1 << 12
TASKS_MAX = 250  # SCM_RIGHTS carries at most 253 file descriptors

GO = b"g"
UP = b"u"

_PR_SET_CHILD_SUBREAPER = 36
# Fields 3, 4, 20 and 22 of /proc/PID/stat, counted from the one after the name.
_STATE, _PARENT, _THREAD_COUNT, _START_TICKS = 0, 1, 17, 19
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
# Python ignores the first two; a command must not inherit that.
_SIGNALS_OF_COMMAND = {signal.SIGPIPE, signal.SIGXFSZ, *_SIGNALS}


def main(arguments: list[str]) -> None:
    if arguments[0] == "--serve":
        serve(control_fd=int(arguments[1]), lock_fd=int(arguments[2]))
    else:
        run_task(arguments[0])


def run_task(task_folder: str, on_claimed: "Callable[[], None]" = lambda: None) -> None:
    """Run the task in `task_folder`, unless another shim has claimed it already."""
    # Blocked before the claim: who sees the claim may send signals, and they must wait for us.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    spec = read_json(f"{task_folder}/{SPEC_FILE}")
    become_subreaper()
    started_at_ms = now_ms()
    if not claim(task_folder, {**identity(os.getpid()), "started_at_ms": started_at_ms}):
        return
    on_claimed()

    result = run_command(task_folder, spec)

    result.update(started_at_ms=started_at_ms, ended_at_ms=now_ms())
    write_result(task_folder, result)


def claim(folder: str, content: "Mapping[str, object]", name: str = CLAIM_FILE) -> bool:
    """Take the one claim there is on a task or an attempt; False when somebody else has it.

    A link either appears whole or not at all, and only one can have the name.
    """
    draft = f"{folder}/{name}.{os.getpid()}.{time.monotonic_ns()}"
    with open(draft, "w") as file:
        file.write(to_json(content))
    try:
        os.link(draft, f"{folder}/{name}")
    except FileExistsError:
        return False
    finally:
        os.unlink(draft)
    return True


def run_command(task_folder: str, spec: dict[str, object]) -> dict[str, object]:
    """How the command ended, once it and all that it left behind have ended."""
    serves_at = spec.pop("serves_at", None)
    before = spec.pop("before", None)
    claim_on_port = None
    exit_code, was_stopped = 0, False
    for step in (spec,) if before is None else (before, spec):
        try:
            if step is spec and serves_at is not None:
                port, claim_on_port = take_port()
                tell_port(task_folder, spec["environment"], str(serves_at), port)  # type: ignore[arg-type]
            pid = spawn(**step)  # type: ignore[arg-type]  # the engine wrote it for this call
        except (OSError, ValueError) as error:
            is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            return {
                "exit_code": EXIT_NOT_FOUND if is_missing else EXIT_NOT_RUNNABLE,
                "was_stopped": False,
                "message": f"The command could not be started: {error}",
            }
        exit_code, was_stopped = wait_for_all(pid, task_folder, is_wrapped="wrapper" in step)  # type: ignore[operator]
        if exit_code or was_stopped:
            break
    if claim_on_port is not None:
        claim_on_port.close()
    return {"exit_code": exit_code, "was_stopped": was_stopped, "message": ""}


def take_port() -> "tuple[int, socket.socket]":
    """A port that nobody listens on, and the claim that keeps other shims of the machine off it.

    The program will listen a while from now: until then only the claim tells. It is a name in the
    abstract namespace, which the kernel drops with this process, however that ends.
    """
    import socket  # it takes a tenth of the start, and few tasks need it

    first = int.from_bytes(os.urandom(4), "big")
    for step in range(len(SERVING_PORTS)):
        port = SERVING_PORTS[(first + step) % len(SERVING_PORTS)]
        claim_on_port = socket.socket(socket.AF_UNIX)
        try:
            claim_on_port.bind(f"\0muster-port-{port}")
            with socket.socket() as listener:
                listener.bind(("", port))
        except OSError:
            claim_on_port.close()
        else:
            return port, claim_on_port
    raise OSError(f"no port is free from {SERVING_PORTS.start} to {SERVING_PORTS.stop - 1}")


def tell_port(task_folder: str, environment: dict[str, str], host: str, port: int) -> None:
    """Tell the program where it is to listen, and whoever asks where it does."""
    environment.update(dict.fromkeys(PORT_VARIABLES, str(port)))
    environment[HOST_VARIABLE] = host
    write_json(f"{task_folder}/{ENDPOINT_FILE}", {"host": host, "port": port})


def spawn(
    *,
    argv: list[str],
    environment: dict[str, str],
    folder: str,
    log: str,
    wrapper: "list[str] | None" = None,
    confinement: "dict[str, Any] | None" = None,
) -> int:
    """Start the command in a session of its own, with nothing of ours but its log.

    Args:
        argv: the command.
        environment: all that it gets.
        folder: where it begins.
        log: the file of its output.
        wrapper: a command that runs another one, isolated; it ends as that one does.
        confinement: as `confine.spawn` takes it, where it is to be isolated so.
    """
    if confinement is not None:
        return load_confine().spawn(  # type: ignore[no-any-return]
            argv=argv,
            environment=environment,
            folder=folder,
            log=log,
            confinement=confinement,
            defaults=_SIGNALS_OF_COMMAND,
        )
    os.chdir(folder)
    program = find_program(argv[0], environment.get("PATH", os.defpath))
    if wrapper is not None:
        os.stat(program)  # the wrapper would not tell, but end as if the command had
        program, argv = wrapper[0], [*wrapper, program, *argv[1:]]
    log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return os.posix_spawn(
            program,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log_fd, 1),
                (os.POSIX_SPAWN_DUP2, log_fd, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=_SIGNALS_OF_COMMAND,
        )
    finally:
        os.close(log_fd)


def load_confine() -> "Any":
    """The module beside this file. It is loaded once, by the process that shims are forked from."""
    import importlib

    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    try:
        return importlib.import_module("confine")
    finally:
        sys.path.pop()


def find_program(name: str, path: str) -> str:
    """The first `name` on the command's own PATH; a name with a slash stands for itself."""
    if "/" in name:
        return name
    for folder in path.split(os.pathsep):
        program = os.path.join(folder, name)
        if os.access(program, os.X_OK) and os.path.isfile(program):
            return program
    raise FileNotFoundError(f"no program {name!r} in PATH={path}")


def wait_for_all(
    command_pid: int, task_folder: str, *, is_wrapped: bool = False
) -> tuple[int, bool]:
    """Wait for the command, end what it left behind, and tell its exit code and if it was stopped.

    Being the subreaper, this process inherits every descendant whose parent ends, also one that
    left the session: no child left means no descendant left.

    Args:
        command_pid: the command, or what stands around it.
        task_folder: of the task.
        is_wrapped: the process ends as the command in it does, so it is not asked to end itself.
    """
    spared = {command_pid} if is_wrapped else set()
    has_asked = True  # the command, where it was to be
    exit_code: int | None = None
    was_stopped = False
    kill_at: float | None = None  # once set: everything has been asked to end
    pause = KILL_AGAIN_SECONDS
    while True:
        codes, has_children = reap()
        exit_code = codes.get(command_pid, exit_code)
        if not has_children and exit_code is not None:
            return exit_code, was_stopped
        if exit_code is not None and kill_at is None:
            signal_descendants(signal.SIGTERM, spared)
            kill_at = time.monotonic() + LEFTOVER_GRACE_SECONDS
        if not has_asked:
            has_asked = exit_code is not None or ask_wrapped(spared)

        wait_seconds = LOOK_AGAIN_SECONDS if kill_at is None else kill_at - time.monotonic()
        if not has_asked:
            wait_seconds = min(wait_seconds, ASK_AGAIN_SECONDS)
        if wait_seconds <= 0:
            signal_descendants(signal.SIGKILL)
            wait_seconds, pause = pause, min(pause * 2, KILL_AGAIN_SECONDS_MAX)

        received = signal.sigtimedwait(_SIGNALS, wait_seconds)
        if received is None or received.si_signo not in (signal.SIGTERM, signal.SIGINT):
            continue
        grace_seconds = read_grace(task_folder)
        # Without a request it was not `stop` that ended the task, but whoever sent the signal.
        was_stopped = was_stopped or (exit_code is None and grace_seconds is not None)
        if kill_at is None and is_wrapped:
            has_asked = ask_wrapped(spared)
        elif kill_at is None:
            signal_descendants(signal.SIGTERM)
        # A later stop may hurry, but never put off what an earlier one has promised.
        wanted = time.monotonic() + (GRACE_SECONDS if grace_seconds is None else grace_seconds)
        kill_at = wanted if kill_at is None else min(kill_at, wanted)


def reap() -> tuple[dict[int, int], bool]:
    """Exit codes of the children that have ended, and whether any child is left."""
    codes: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return codes, False
        if pid == 0:
            return codes, True
        code = os.waitstatus_to_exitcode(status)
        codes[pid] = code if code >= 0 else 128 - code


def read_grace(task_folder: str) -> float | None:
    """The shortest grace time that a stop has asked for; None when nobody asked."""
    try:
        return float(read_json(f"{task_folder}/{STOP_FILE}")["grace_seconds"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or not one of ours
        return None


def ask_wrapped(wrappers: "Collection[int]") -> bool:
    """Ask what is in a wrapper to end; False: its command was not there yet.

    Between the two stands the first process of what the command sees, which nothing asks to end.
    """
    processes = list_processes()
    inner = list(find_descendants({os.getpid()}, processes))
    for pid in inner:
        if pid not in wrappers:
            send_signal(pid, processes[pid][1], signal.SIGTERM)
    return any(pid not in wrappers and processes[pid][0] not in wrappers for pid in inner)


def signal_descendants(number: "signal.Signals", spared: "Collection[int]" = ()) -> None:
    processes = list_processes()
    for pid in find_descendants({os.getpid()}, processes):
        if pid not in spared:
            send_signal(pid, processes[pid][1], number)


def list_processes() -> dict[int, tuple[int, int]]:
    """The parent and the start ticks of every process that is alive.

    Read from the stat files: the kernel may be built without /proc/PID/task/TID/children.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid: found for pid in pids if (found := read_stat(pid)) is not None}


def find_descendants(
    ancestors: set[int], processes: "Mapping[int, tuple[int, int]]"
) -> "Iterator[int]":
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    generation = list(ancestors)
    while generation:
        generation = [child for pid in generation for child in children.pop(pid, ())]
        yield from generation


def send_signal(pid: int, start_ticks: int, number: "signal.Signals") -> None:
    """Signal the process that was seen as `pid`, never a later one of the same number."""
    with Suppressed(OSError):
        fd = os.pidfd_open(pid)
        try:
            found = read_stat(pid)
            if found is not None and found[1] == start_ticks:
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def read_stat(pid: int) -> tuple[int, int] | None:
    """Parent and start ticks of a living process, or None. A zombie counts as dead.

    But not one whose first thread alone has ended: that shows as a zombie with threads left.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may itself hold brackets and blanks.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None  # and on nothing else: not being able to look says nothing
    if not fields or (fields[_STATE] in (b"Z", b"X") and int(fields[_THREAD_COUNT]) <= 1):
        return None
    return int(fields[_PARENT]), int(fields[_START_TICKS])


def identity(pid: int) -> dict[str, object]:
    """What names a process for good: its number alone is given out again."""
    found = read_stat(pid)
    return {
        "boot_id": read_boot_id(),
        "pid": pid,
        "start_ticks": found[1] if found is not None else 0,
    }


def read_boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def become_subreaper() -> None:
    import _ctypes  # what ctypes is made of, in a quarter of its time

    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    if _ctypes.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def write_result(task_folder: str, result: "Mapping[str, object]") -> None:
    """Write exit.json. A full disk is waited for, as the exit code is known nowhere else.

    It is on disk before the shim ends: a task that has ended is not lost in a power failure, even
    where no server was there to record it.
    """
    for _ in range(DISK_RETRIES_MAX):
        try:
            write_json(f"{task_folder}/{EXIT_FILE}", result)
            keep_on_disk(f"{task_folder}/{EXIT_FILE}")
            with Suppressed(OSError):  # not every file system does that for folders
                keep_on_disk(task_folder)
        except FileNotFoundError:
            return  # the folder is gone: nobody will ask
        except OSError:
            time.sleep(DISK_RETRY_SECONDS)
        else:
            return


def keep_on_disk(path: str) -> None:
    """Flush a file, or a folder with the names in it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: str, content: "Mapping[str, object]") -> None:
    """Put a whole file in place: a reader finds the old one or the new one."""
    draft = f"{path}.{os.getpid()}.{time.monotonic_ns()}"
    with open(draft, "w") as file:
        file.write(to_json(content))
    os.rename(draft, path)


def read_json(path: str) -> "Any":
    """What a state file holds.

    Raises:
        ValueError: it is no JSON, or cut short.
    """
    with open(path, encoding="utf-8") as file:
        return from_json(file.read())


# json itself needs regular expressions: they take half as long to import as Python takes to start.


def to_json(value: object) -> str:
    """As json.dumps."""
    from _json import encode_basestring_ascii, make_encoder

    quote = encode_basestring_ascii
    encode = make_encoder(None, None, quote, None, ": ", ", ", False, False, True)  # type: ignore[arg-type]
    return "".join(encode(value, 0))


class JsonWays:
    """How json reads by default, told to the part of it that is written in C."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def from_json(text: str) -> "Any":
    """As json.loads."""
    from _json import make_scanner

    text = text.strip()
    try:
        value, end = make_scanner(JsonWays)(text, 0)  # type: ignore[arg-type]
    except StopIteration:
        raise ValueError("no JSON") from None
    if end != len(text):
        raise ValueError(f"more than JSON from character {end} on")
    return value


class Suppressed:
    """As contextlib.suppress."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def serve(*, control_fd: int, lock_fd: int) -> None:
    """Fork shims for an engine, until it closes the control socket or is gone.

    A request is a JSON list of task folders, with one end of a socket, the line. The answer is
    `{}` with a pidfd for each shim, or an error. A shim waits on the line for GO, claims its task
    and answers UP; when the line closes first it ends without having touched anything. So an engine
    that dies in the middle starts either all tasks or none.

    Every shim keeps the lock until it has claimed: whoever gets the lock knows that no task will
    come up any more which has not come up yet.
    """
    import socket  # as above; the shims that are forked from here have it then

    for fd in (control_fd, lock_fd):
        os.set_inheritable(fd, False)
    load_confine()
    gc.freeze()  # shims share these pages as long as the collector does not write to them
    signal.signal(signal.SIGCHLD, on_child_ended)
    with socket.socket(fileno=control_fd) as control:
        while True:
            request, fds, _, _ = socket.recv_fds(
                control, REQUEST_BYTES_MAX, 1, socket.MSG_CMSG_CLOEXEC
            )
            if not request:
                return
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
            try:
                folders = from_json(request.decode())
                answer_request(control, folders, line_fd=fds[0], lock_fd=lock_fd)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})


def on_child_ended(_number: int, _frame: object) -> None:
    reap()


def answer_request(
    control: "socket.socket", task_folders: list[str], *, line_fd: int, lock_fd: int
) -> None:
    import socket  # `serve` has it already

    pidfds: list[int] = []
    try:
        for task_folder in task_folders:
            pid = os.fork()
            if pid == 0:
                for fd in (control.fileno(), *pidfds):
                    os.close(fd)
                become_shim(task_folder, line_fd=line_fd, lock_fd=lock_fd)
            # Not reaped yet, as SIGCHLD is blocked: the number is still that of our child.
            pidfds.append(os.pidfd_open(pid))
        socket.send_fds(control, [b"{}"], pidfds)
    except OSError as error:
        control.send(to_json({"error": str(error)}).encode())
    finally:
        for fd in (line_fd, *pidfds):
            os.close(fd)


def become_shim(task_folder: str, *, line_fd: int, lock_fd: int) -> None:
    """Turn this forked child into the shim of a task, if it is given the word to go."""
    is_done = False
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if os.read(line_fd, len(GO)) == GO:
            run_task(task_folder, on_claimed=lambda: report_up(line_fd, lock_fd))
        is_done = True
    except Exception:  # noqa: BLE001 - a fork must never return into the loop of its parent
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0 if is_done else 1)


def report_up(line_fd: int, lock_fd: int) -> None:
    os.close(lock_fd)
    with Suppressed(OSError):  # the engine may be gone; the claim tells the next one
        os.write(line_fd, UP)
    os.close(line_fd)


if __name__ == "__main__":
    main(sys.argv[1:])
