"""Moves objects between S3 and a job's folder, on one of its nodes, beside whatever waits for it.

It knows no keys, and decides nothing: the leading server gives it errands, each with an address
that is signed for that one request. What the node does not do, the server does itself.

This file imports nothing of muster but `shim.py`, which lies beside it: it runs where only the
standard library and the shared folder are. What it and the server keep in JOB/moves/in (inputs,
before the tasks start) and JOB/moves/out (results, once they have ended):

    order-ID.json   errands; written by the server, removed by the node that has read them
    told-ID.json    what became of some; written by the node, removed by the server
    alive.json      {"who", "beat", "bytes", "has_left"}; written by the node every second
    over.json       nothing more is to be done; written by the server

A folder belongs to one node at a time. An errand that is given again while it is under way is done
once: its name says what it is about.
"""

# As in shim.py. What takes long to import is imported where it is used: few jobs need it.
# ruff: noqa: PTH102, PTH103, PTH105, PTH108, PTH120, PTH123, PTH202
# ruff: noqa: PTH208

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from http.client import HTTPConnection, HTTPResponse
    from typing import Any
else:
    import _signal as signal

try:
    from muster.engines import shim
except ImportError:  # on a node: without muster
    import shim  # type: ignore[no-redef, import-not-found]

MOVES_FOLDER = "moves"
INPUTS, RESULTS = "in", "out"
ORDER, TOLD = "order-", "told-"
ALIVE_FILE = "alive.json"
OVER_FILE = "over.json"

LANES = 8  # requests at a time
LOOK_SECONDS = 0.1  # between two looks for errands
BEAT_SECONDS = 1.0
IDLE_SECONDS = 10.0  # without an errand: nobody is there, or S3 is away; the nodes are for others
WATCH_SECONDS = 0.25  # between two looks whether it is to end
AGAIN_SECONDS = 5.0  # until one that has died is started anew
CONNECT_SECONDS = 5.0
STALL_SECONDS = 20.0  # without a byte, a connection counts as cut
TRIES = 3  # of one request, without a byte in between: the server has patience enough
BACKOFF_SECONDS = 0.2  # after the first; twice as long after each further one
CHUNK_BYTES = 1 << 20
READ_BYTES = 1 << 18  # what is waited for is all that a cut may lose
TROUBLE_LENGTH_MAX = 300

OK, PARTIAL = 200, 206
SERVER_ERRORS = 500  # and above: may be well the next time

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


# What the node's agent calls. It has SIGTERM blocked.


def wait_for_inputs(folder: str, task_count: int) -> bool:
    """Return once the inputs are there, or the tasks are stopped; False: Slurm ends the job."""
    claims = [f"{folder}/task-{index}/{shim.CLAIM_FILE}" for index in range(task_count)]

    def is_fenced() -> bool:
        return any(map(os.path.lexists, claims))

    while stand_by(folder, INPUTS, is_fenced):
        if is_fenced() or is_over(f"{folder}/{MOVES_FOLDER}/{INPUTS}"):
            return True
        time.sleep(AGAIN_SECONDS)  # the process has died
    return False


def has_results(folder: str, below: "list[str]", byte_count: int) -> bool:
    """Whether the files in these folders of a job come to so many bytes."""
    left = byte_count
    waiting = [f"{folder}/{path}" for path in below]
    while waiting:
        with shim.Suppressed(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    left -= entry.stat(follow_symlinks=False).st_size
                if left <= 0:
                    return True
    return False


def store_results(folder: str) -> None:
    """Stay until the server has had the results moved, or nobody asks for that."""
    stand_by(folder, RESULTS, lambda: False)


def is_over(folder: str) -> bool:
    return os.path.lexists(f"{folder}/{OVER_FILE}")


def stand_by(folder: str, way: str, is_unwanted: "Callable[[], bool]") -> bool:
    """Have a process of its own do the errands until it ends; False: Slurm ends this job.

    What it imports must not stay in the agent, which lasts as long as the job.
    """
    pid = os.fork()
    if pid == 0:
        is_done = False
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            serve(f"{folder}/{MOVES_FOLDER}/{way}", leaves_when_idle=way == RESULTS)
            is_done = True
        except Exception:  # noqa: BLE001 - a fork must never return into the code of its parent
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(0 if is_done else 1)
    is_ending = False
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        is_ending = signal.SIGTERM in signal.sigpending()
        if is_ending or is_unwanted():
            os.kill(pid, signal.SIGKILL)  # our child, and not reaped yet
            os.waitpid(pid, 0)
            break
        signal.sigtimedwait([signal.SIGCHLD], WATCH_SECONDS)
    return not is_ending


# What that process does.


def serve(folder: str, *, leaves_when_idle: bool) -> None:
    """Do errands until there are no more."""
    from concurrent.futures import ThreadPoolExecutor

    os.makedirs(folder, exist_ok=True)
    porter = Porter(folder)
    idle_since = beat_at = time.monotonic()
    lanes = ThreadPoolExecutor(LANES)
    while not (over := is_over(folder)):
        for errand in porter.read_orders():
            lanes.submit(porter.do, errand)
        porter.tell()
        now = time.monotonic()
        if porter.under_way:
            idle_since = now
        elif leaves_when_idle and now - idle_since > IDLE_SECONDS:
            break
        if now >= beat_at:
            beat_at = now + BEAT_SECONDS
            porter.show_life()
        time.sleep(LOOK_SECONDS)
    porter.show_life(has_left=not over)
    # What is under way when it is over, somebody else has done: it ends with this process.
    lanes.shutdown(wait=False, cancel_futures=True)
    porter.close()


class Porter:
    """What is under way in one folder."""

    def __init__(self, folder: str) -> None:
        import threading

        self.folder = folder
        self.under_way: dict[str, dict[str, Any]] = {}  # errands, by name
        self._told: list[dict[str, object]] = []  # what nobody was told of yet
        self._who = f"{shim.read_boot_id()} {os.getpid()}"
        self._beats = 0
        self._bytes = 0  # moved, by all lanes
        self._lock = threading.Lock()
        self._lines = threading.local()
        self._opened: list[HTTPConnection] = []

    def read_orders(self) -> "list[dict[str, Any]]":
        """New errands."""
        found = []
        for name in sorted(os.listdir(self.folder)):
            if not (name.startswith(ORDER) and name.endswith(".json")):
                continue
            path = f"{self.folder}/{name}"
            with shim.Suppressed(FileNotFoundError):  # a server that has just come up clears them
                order = shim.read_json(path)["errands"]
                os.unlink(path)
                found += [errand for errand in order if errand["name"] not in self.under_way]
                self.under_way.update((errand["name"], errand) for errand in order)
        return found

    def do(self, errand: "dict[str, Any]") -> None:
        """Do one, and keep in mind what became of it."""
        told: dict[str, object] = {"name": errand["name"]}
        try:
            told.update(self._fetch(errand) if errand["type"] == "fetch" else self._send(errand))
        except Refused as refused:
            told.update(status=refused.status, trouble=str(refused)[:TROUBLE_LENGTH_MAX])
        except Exception as error:  # noqa: BLE001 - whatever it is: the server does it then
            told.update(trouble=f"{type(error).__name__}: {error}"[:TROUBLE_LENGTH_MAX])
        with self._lock:
            self._told.append(told)

    def tell(self) -> None:
        with self._lock:
            told, self._told = self._told, []
        if told:
            file = f"{self.folder}/{TOLD}{os.getpid()}-{time.monotonic_ns()}.json"
            shim.write_json(file, {"told": told})
            for one in told:
                self.under_way.pop(str(one["name"]), None)

    def show_life(self, *, has_left: bool = False) -> None:
        self._beats += 1
        content = {
            "who": self._who,
            "beat": self._beats,
            "bytes": self._bytes,
            "has_left": has_left,
        }
        shim.write_json(f"{self.folder}/{ALIVE_FILE}", content)

    def close(self) -> None:
        for line in self._opened:
            line.close()

    def _note(self, byte_count: int) -> None:
        with self._lock:
            self._bytes += byte_count

    # Inputs

    def _fetch(self, errand: "dict[str, Any]") -> dict[str, object]:
        """The file appears whole, with the time of its object; half of one is gone on with."""
        root, part, size = errand["root"], errand["part"], errand["size"]
        make_folders(root, os.path.dirname(errand["path"]))
        if size_of(part) > size:
            os.unlink(part)
        self._note(size_of(part))
        if size_of(part) < size or not size:
            self._persist(lambda: self._fetch_rest(errand), lambda: size_of(part))
        os.utime(part, ns=(errand["modified_ns"], errand["modified_ns"]))
        os.replace(part, f"{root}/{errand['path']}")
        return {}

    def _fetch_rest(self, errand: "dict[str, Any]") -> None:
        start = size_of(errand["part"])
        headers = {"If-Match": errand["etag"]} if errand["etag"] else {}
        if start:
            headers["Range"] = f"bytes={start}-"
        line, path = self._line(errand["address"])
        line.request("GET", path, headers=headers)
        reply = line.getresponse()
        if reply.status != (PARTIAL if start else OK):
            raise Refused(reply)
        with open(errand["part"], "ab" if start else "wb") as file:
            while chunk := reply.read(READ_BYTES):
                file.write(chunk)
                self._note(len(chunk))
        if (found := size_of(errand["part"])) != errand["size"]:
            raise OSError(f"the answer ended after {found} of {errand['size']} bytes")

    # Results

    def _send(self, errand: "dict[str, Any]") -> dict[str, object]:
        """Store a file, or a part of one; what is stored whole is removed, if that is asked for."""
        fd = open_beneath(errand["root"], errand["path"])
        etag = ""
        try:
            if os.fstat(fd).st_size != errand["size"]:
                raise OSError(f"{errand['path']} has another size than when it was looked at")

            def send() -> None:
                nonlocal etag
                etag = self._send_once(errand, fd)

            self._persist(send, lambda: 0)
        finally:
            os.close(fd)
        if errand["removes"]:
            with shim.Suppressed(OSError):  # the server tries, too
                os.unlink(f"{errand['root']}/{errand['path']}")
        return {"etag": etag}

    def _send_once(self, errand: "dict[str, Any]", fd: int) -> str:
        line, path = self._line(errand["address"])
        line.putrequest("PUT", path, skip_accept_encoding=True)
        line.putheader("Content-Length", str(errand["length"]))
        line.endheaders()
        sent = 0
        while sent < errand["length"]:
            most = min(CHUNK_BYTES, errand["length"] - sent)
            chunk = os.pread(fd, most, errand["start"] + sent)
            if not chunk:
                raise OSError(f"{errand['path']} has become shorter")
            try:
                line.send(chunk)
            except (BrokenPipeError, ConnectionResetError):
                break  # it may have answered before it has read all
            sent += len(chunk)
        reply = line.getresponse()
        if reply.status != OK:
            raise Refused(reply)
        reply.read()
        if sent != errand["length"]:
            raise OSError(f"the connection was cut after {sent} of {errand['length']} bytes")
        self._note(sent)
        return str(reply.getheader("ETag", ""))

    # Both

    def _persist(self, go_on: "Callable[[], None]", find_place: "Callable[[], int]") -> None:
        """Make a request, and again where it is cut, as long as that leads on."""
        from http.client import HTTPException

        tries = 0
        while True:
            place = find_place()
            try:
                return go_on()
            except (OSError, HTTPException) as error:
                self._drop_lines()  # an answer may be in them that nobody has read
                if isinstance(error, Refused) and error.status < SERVER_ERRORS:
                    raise
                tries = 1 if find_place() > place else tries + 1
                if tries >= TRIES:
                    raise
                time.sleep(BACKOFF_SECONDS * 2 ** (tries - 1))

    def _drop_lines(self) -> None:
        for line in getattr(self._lines, "by_place", {}).values():
            line.close()

    def _line(self, address: str) -> "tuple[HTTPConnection, str]":
        """A connection that this thread keeps open, and what is asked for over it."""
        from http.client import HTTPConnection, HTTPSConnection

        scheme, _, rest = address.partition("://")
        place, _, path = rest.partition("/")
        known = getattr(self._lines, "by_place", None)
        if known is None:
            known = self._lines.by_place = {}
        line = known.get((scheme, place))
        if line is None:
            kind = HTTPSConnection if scheme == "https" else HTTPConnection
            line = known[scheme, place] = kind(place, timeout=CONNECT_SECONDS)
            self._opened.append(line)
        is_closed = line.sock is None
        if is_closed:
            line.connect()
            line.sock.settimeout(STALL_SECONDS)
        return line, f"/{path}"


class Refused(OSError):
    """S3 has answered, and does not do it."""

    def __init__(self, reply: "HTTPResponse") -> None:
        text = reply.read(CHUNK_BYTES).decode(errors="replace")
        super().__init__(f"HTTP {reply.status}: {text}")
        self.status = reply.status


def size_of(path: str) -> int:
    """Bytes; none where there is no file."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def make_folders(root: str, path: str) -> None:
    """Below a folder that is there: one that was dropped meanwhile is not made again."""
    for part in filter(None, path.split("/")):
        root = f"{root}/{part}"
        with shim.Suppressed(FileExistsError):
            os.mkdir(root)


def open_beneath(root: str, path: str) -> int:
    """A file descriptor of a file; no link in its path is followed."""
    *folders, name = path.split("/")
    fd = os.open(root, _FOLDER)
    for part, flags in (*((folder, _FOLDER) for folder in folders), (name, _FILE)):
        try:
            inner = os.open(part, flags, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd
