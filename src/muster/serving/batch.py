"""Asks a model about every input of a batch, and writes down what it answers.

    INTERPRETER batch.py

It runs the model's own program on loopback, as an instance of a real-time service would, waits
until that is well, and asks it about its share of the input: each file is one request, or, by a
mapping rule, each row of each .csv file. What it answers about NAME becomes `NAME_result.txt`, of a
.csv file with one line a row. It ends when its share is done.

    MUSTER_BATCH        what to do, as JSON; see `Task`
    MUSTER_BATCH_SHARE  INDEX/COUNT: which of the shares, from 0
    MUSTER_BATCH_SRC    the folder of the input
    MUSTER_BATCH_DEST   the folder for the answers
    PORT                where the model's program is to listen

How far it has come stands in PROGRESS_FILE in its working directory; what failed, and why, in a
summary beside the answers. A request that fails leaves the others as they are; a program that ends
by itself ends everything, with exit code 1.

It runs under the interpreter that was chosen for the model: this file needs the standard library
and nothing of muster.
"""

# It stands alone, and its log is what it prints.
# ruff: noqa: T201

from __future__ import annotations

import csv
import hashlib
import http.client
import json
import math
import mimetypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")

PROGRESS_FILE: Final = ".batch-progress.json"
RESULT_SUFFIX: Final = "_result.txt"
SUMMARY: Final = "batch_summary"
PART_SUFFIX: Final = ".part"  # of a result that is not whole yet
HOST: Final = "127.0.0.1"
WELL_LOOK_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 300  # for the first byte of an answer, and between two of them
ANSWER_BYTES_MAX: Final = 256 << 20
PROGRESS_SECONDS: Final = 0.5
END_SECONDS: Final = 10  # for the model's program, once its work is done
DYING_SECONDS: Final = 1.0  # a connection may break a moment before its program has ended
REASON_LENGTH_MAX: Final = 200
TOLD_MAX: Final = 20  # failures in PROGRESS_FILE
NAMED_MAX: Final = 10_000  # failures in the summary
CHUNK_BYTES: Final = 1 << 20
AHEAD: Final = 4  # requests that are prepared for each that is under way


class RequestFailed(Exception):
    """One request has no answer; the message says why. The next may have one."""


class ModelEnded(Exception):
    """The model's program has ended: nothing can be asked any more."""


class NotStored(Exception):
    """The answers have no place to go."""


class Task:
    """What is to be done, as MUSTER_BATCH tells it."""

    def __init__(self, text: str, share: str) -> None:
        given = json.loads(text)
        self.command: list[str] = given["command"]
        self.health: dict[str, Any] = given["health"]  # path, initial_delay_ and timeout_seconds
        self.deploy_timeout_seconds: float = given["deploy_timeout_seconds"]
        self.req_uri: str = given["req_uri"]
        self.form_field: str = given["form_field"]  # that a file goes into; "": it goes by itself
        self.mapping_rule: dict[str, Any] | None = given["mapping_rule"]  # None: files, not rows
        self.concurrency: int = given["concurrency"]
        index, _, count = share.partition("/")
        self.index, self.count = int(index), int(count)


# ---------------------------------------------------------------- inputs


def list_share(source: Path, index: int, count: int) -> list[str]:
    """The files of one share, by their paths below the folder, in order.

    Which share a file is in follows from its name alone: instances that start at different times
    agree on it, whatever has been added to the folder meanwhile.
    """
    names = []
    for folder, _, files in os.walk(source):
        for file in files:
            path = Path(folder) / file
            if path.is_symlink() or not path.is_file():
                continue
            name = path.relative_to(source).as_posix()
            if share_of(name, count) == index:
                names.append(name)
    return sorted(names)


def share_of(name: str, count: int) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % count


class Row(NamedTuple):
    """A row of a csv that is not empty; or why there is none to be read from here on."""

    number: int  # from 1
    columns: list[str]
    trouble: str = ""


def rows_of(path: Path) -> Iterator[Row]:
    if path.suffix.lower() != ".csv":
        yield Row(1, [], "the name of the file does not end with .csv")
        return
    number = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, columns in enumerate(csv.reader(file), start=1):
                if columns:
                    yield Row(number, columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        yield Row(number + 1, [], f"the file cannot be read as CSV: {error}")


def count_requests(source: Path, names: Sequence[str], *, by_rows: bool) -> int:
    if not by_rows:
        return len(names)
    return sum(1 for name in names for _ in rows_of(source / name))


def request_of(rule: dict[str, Any], row: list[str]) -> Any:
    """What a row becomes by the rule: see `read_mapping_rule` of the platform.

    Raises:
        RequestFailed: a column is not there, or is not of its type.
    """
    kind = rule["type"]
    if kind == "object":
        return {key: request_of(one, row) for key, one in rule["properties"].items()}
    if kind == "array":
        items = rule["items"] if isinstance(rule["items"], list) else [rule["items"]]
        return [request_of(one, row) for one in items]
    column = rule["index"]
    if column >= len(row):
        raise RequestFailed(f"it has {len(row)} columns, and no column {column}")
    text = row[column]
    try:
        return _CONVERTERS[kind](text.strip() if kind != "string" else text)
    except (ValueError, KeyError):
        raise RequestFailed(f"column {column} is {text[:50]!r}, which is no {kind}") from None


def to_number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise
        return number


_CONVERTERS: Final[dict[str, Callable[[str], Any]]] = {
    "string": str,
    "integer": int,
    "number": to_number,
    "boolean": lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
}


# ---------------------------------------------------------------- the model's program


class Model:
    """The model's own program, and connections to it: one for each thread that asks."""

    def __init__(self, task: Task, port: int) -> None:
        self._task = task
        self._port = port
        self._connections = threading.local()
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MUSTER_BATCH")  # that is for this program
        }
        self._process = subprocess.Popen(  # noqa: S603
            task.command, env={**environment, "MUSTER_HOST": HOST}, stdin=subprocess.DEVNULL
        )

    def wait_until_well(self) -> None:
        """Raises ModelEnded where it never is."""
        health = self._task.health
        began = time.monotonic()
        while True:
            exit_code = self._process.poll()
            if exit_code is not None:
                raise ModelEnded(f"The model's program ended {_how(exit_code)} before it answered.")
            waited = time.monotonic() - began
            if waited >= health["initial_delay_seconds"] and self._is_well():
                return
            if waited > self._task.deploy_timeout_seconds:
                asked = f"GET {health['path']}" if health["path"] else "a connection to its port"
                raise ModelEnded(
                    f"The model's program did not answer {asked} within"
                    f" {self._task.deploy_timeout_seconds} s."
                )
            time.sleep(WELL_LOOK_SECONDS)

    def _is_well(self) -> bool:
        path, seconds = self._task.health["path"], self._task.health["timeout_seconds"]
        try:
            if not path:
                socket.create_connection((HOST, self._port), timeout=seconds).close()
                return True
            connection = http.client.HTTPConnection(HOST, self._port, timeout=seconds)
            try:
                connection.request("GET", path)
                return 200 <= connection.getresponse().status < 400
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return False

    def ask(self, body: Callable[[], Iterator[bytes]], length: int, content_type: str) -> bytes:
        """Its answer.

        Args:
            body: what is asked, from its start on; may be called again.
            length: of that, in bytes.
            content_type: likewise.

        Raises:
            RequestFailed: it answered an error, or nothing.
            ModelEnded: it has ended.
        """
        headers = {"Content-Type": content_type, "Content-Length": str(length)}
        while True:
            connection, is_new = self._connection()
            try:
                connection.request("POST", self._task.req_uri, body=body(), headers=headers)
                answer = connection.getresponse()
                content = answer.read(ANSWER_BYTES_MAX + 1)
                break
            except TimeoutError:
                self._drop()
                raise RequestFailed(f"there was no answer for {ANSWER_SECONDS} s") from None
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                self._check_it_lives()
                if is_new:
                    raise RequestFailed(f"the connection broke: {error!r}") from error
                # It had closed a connection that was kept open for the next request.
        if len(content) > ANSWER_BYTES_MAX:
            self._drop()
            raise RequestFailed(f"the answer has more than {ANSWER_BYTES_MAX >> 20} MiB")
        if not 200 <= answer.status < 300:
            said = content[: 4 * REASON_LENGTH_MAX].decode("utf-8", "replace").strip()
            raise RequestFailed(f"it answered {answer.status}: {said}")
        return content

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """(one to the program, whether it is new)."""
        known: http.client.HTTPConnection | None = getattr(self._connections, "kept", None)
        if known is not None and known.sock is not None:
            return known, False
        made = http.client.HTTPConnection(HOST, self._port, timeout=ANSWER_SECONDS)
        self._connections.kept = made
        return made, True

    def _drop(self) -> None:
        known = getattr(self._connections, "kept", None)
        self._connections.kept = None
        if known is not None:
            known.close()

    def _check_it_lives(self) -> None:
        with suppress(subprocess.TimeoutExpired):
            exit_code = self._process.wait(DYING_SECONDS)
            raise ModelEnded(f"The model's program ended {_how(exit_code)} in the middle of it.")

    def end(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


def _how(exit_code: int) -> str:
    return f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"


# ---------------------------------------------------------------- what has become of it


class Report:
    """Counts requests, and tells how far it has come."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._answered = 0
        self._failures: list[dict[str, str]] = []
        self._failed = 0
        self._told_at = float("-inf")
        self.is_ready = False  # the model has answered that it is well

    @property
    def failed(self) -> int:
        return self._failed

    def count(self, name: str, why: str | None) -> None:
        """One request has an answer; or it has failed, and this is why."""
        if why is None:
            self._answered += 1
        else:
            self._failed += 1
            reason = " ".join(why.split())[:REASON_LENGTH_MAX]
            if len(self._failures) < NAMED_MAX:
                self._failures.append({"name": name, "reason": reason})
            if self._failed <= TOLD_MAX:
                print(f"{name}: {reason}", flush=True)
        if time.monotonic() >= self._told_at + PROGRESS_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Leave it where the platform looks."""
        self._told_at = time.monotonic()
        told = {**self._counts(), "is_ready": self.is_ready, "failures": self._failures[:TOLD_MAX]}
        write_whole(Path(PROGRESS_FILE), json.dumps(told).encode())

    def summary(self) -> bytes:
        return json.dumps({**self._counts(), "failures": self._failures}, indent=1).encode()

    def _counts(self) -> dict[str, Any]:
        return {"total": self._total, "answered": self._answered, "failed": self._failed}


def write_whole(path: Path, content: bytes) -> None:
    """It appears whole, or not at all."""
    draft = path.with_name(path.name + PART_SUFFIX)
    draft.write_bytes(content)
    draft.replace(path)


def remove_drafts(target: Path) -> None:
    """Results are named otherwise, whatever the input is named."""
    for draft in target.rglob(f"*{PART_SUFFIX}"):
        draft.unlink(missing_ok=True)


# ---------------------------------------------------------------- the work


class Batch:
    """One share of a batch, on its way."""

    def __init__(self, task: Task, source: Path, target: Path, model: Model) -> None:
        self._task = task
        self._source = source
        self._target = target
        self._model = model
        self._pool = ThreadPoolExecutor(max_workers=task.concurrency)

    def work_through(self, names: list[str], report: Report) -> None:
        """Raises ModelEnded, NotStored."""
        if self._task.mapping_rule is None:
            for name, why in self._in_order(names, self._ask_for_file):
                report.count(name, why)
            return
        for name in names:
            try:
                self._work_through_rows(name, report)
            except OSError as error:
                raise NotStored(f"The answers about {name} cannot be stored: {error}.") from error

    def _in_order(self, items: Iterable[T], do: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """(item, what came of it) of each, in order; some of them are done at once."""
        ahead: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            ahead.append((item, self._pool.submit(do, item)))
            if len(ahead) >= self._task.concurrency * AHEAD:
                first, future = ahead.popleft()
                yield first, future.result()
        for first, future in ahead:
            yield first, future.result()

    def _ask_for_file(self, name: str) -> str | None:
        """Why it failed; None: its answer is stored."""
        try:
            with (self._source / name).open("rb") as file:
                question = Question(file, name, self._task.form_field)
                answer = self._model.ask(question.chunks, question.length, question.content_type)
            write_whole(self._result_of(name), answer)
        except RequestFailed as error:
            return str(error)
        except OSError as error:
            return f"it cannot be read, or its answer not be stored: {error.strerror}"
        return None

    def _work_through_rows(self, name: str, report: Report) -> None:
        """Ask about every row of a file; the answers are stored once there is one for each."""
        lines = Path(os.environ.get("TMPDIR", ".")) / "lines"
        with lines.open("w", encoding="utf-8", errors="replace") as file:
            rows = rows_of(self._source / name)
            for row, (answer, why) in self._in_order(rows, self._ask_for_row):
                file.write(f"{json.dumps({'error_msg': why}) if why else answer}\n")
                report.count(f"{name} row {row.number}", why)
        path = self._result_of(name)
        draft = path.with_name(path.name + PART_SUFFIX)
        shutil.move(lines, draft)
        draft.replace(path)

    def _ask_for_row(self, row: Row) -> tuple[str, str | None]:
        """(its answer in one line, why there is none)."""
        assert self._task.mapping_rule is not None
        if row.trouble:
            return "", row.trouble
        try:
            body = json.dumps(request_of(self._task.mapping_rule, row.columns)).encode()
            answer = self._model.ask(lambda: iter((body,)), len(body), "application/json")
        except RequestFailed as error:
            return "", str(error)
        return one_line(answer), None

    def _result_of(self, name: str) -> Path:
        path = self._target / (name + RESULT_SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Question:
    """What is asked about a file: its content, or a form of RFC 7578 with that in one field."""

    def __init__(self, file: BinaryIO, name: str, form_field: str) -> None:
        self._file = file
        self._head = self._tail = b""
        self.content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if form_field:
            boundary = secrets.token_hex(16)
            shown = name.rpartition("/")[2].translate(_NOT_IN_QUOTES)
            self._head = (
                f"--{boundary}\r\n"
                f'Content-Disposition: form-data; name="{form_field.translate(_NOT_IN_QUOTES)}";'
                f' filename="{shown}"\r\n'
                f"Content-Type: {self.content_type}\r\n\r\n"
            ).encode("utf-8", "surrogateescape")
            self._tail = f"\r\n--{boundary}--\r\n".encode()
            self.content_type = f"multipart/form-data; boundary={boundary}"
        size = os.fstat(file.fileno()).st_size
        self.length = len(self._head) + size + len(self._tail)

    def chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        yield self._head
        while chunk := self._file.read(CHUNK_BYTES):
            yield chunk
        yield self._tail


_NOT_IN_QUOTES: Final = {ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A"}


def one_line(answer: bytes) -> str:
    """JSON without line breaks; what is no JSON becomes a text of it."""
    text = answer.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)


def main() -> None:
    # A file may have a name that is no text.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text stream
    task = Task(os.environ["MUSTER_BATCH"], os.environ["MUSTER_BATCH_SHARE"])
    source, target = Path(os.environ["MUSTER_BATCH_SRC"]), Path(os.environ["MUSTER_BATCH_DEST"])
    names = list_share(source, task.index, task.count)
    total = count_requests(source, names, by_rows=task.mapping_rule is not None)
    print(f"Share {task.index + 1} of {task.count}: {total} requests.", flush=True)
    report = Report(total)
    if names:
        ask_all(task, source, target, names, report)
    report.is_ready = True
    report.tell()
    name = f"{SUMMARY}.json" if task.count == 1 else f"{SUMMARY}_{task.index + 1}.json"
    write_whole(target / name, report.summary())
    print(f"Done: {report.failed} of {total} requests failed.", flush=True)


def ask_all(task: Task, source: Path, target: Path, names: list[str], report: Report) -> None:
    model = Model(task, int(os.environ["PORT"]))

    def stop(_number: int, _frame: object) -> NoReturn:
        report.tell()
        model.end()
        remove_drafts(target)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    try:
        model.wait_until_well()
        report.is_ready = True
        report.tell()
        Batch(task, source, target, model).work_through(names, report)
    except (ModelEnded, NotStored) as error:
        report.tell()
        model.end()
        remove_drafts(target)
        print(error, flush=True)
        os._exit(1)  # threads that ask wait for nobody
    model.end()


if __name__ == "__main__":
    main()
