"""Serves the inference script of a model: customize_service.py and what lies beside it.

    INTERPRETER runner.py FOLDER

It listens where MUSTER_HOST and PORT say. POST to `/`, or to a url of config.json's `apis`, is one
inference: JSON goes in as what it holds, a form with files as {field: {file name: file}} and its
other fields as text, anything else as bytes. GET /health answers 200 once the model is loaded.

The script derives one class from a base of the module `model_service`, as is published for the
inference scripts of ModelArts; it is made once, with the model's name and the folder it lies in:

    from model_service.pytorch_model_service import PTServingBaseService

    class Digits(PTServingBaseService):
        def __init__(self, model_name, model_path): ...
        def _preprocess(self, data): ...
        def _inference(self, data): ...
        def _postprocess(self, data): ...

It runs under the interpreter that was chosen for the model: this file needs the standard library
and nothing of muster.
"""

# It stands alone, and its log is what it prints.
# ruff: noqa: T201

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import io
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, Final

SCRIPT: Final = "customize_service.py"
CONFIG: Final = "config.json"
CONFIG_VARIABLE: Final = "MUSTER_MODEL_CONFIG"  # in place of the file: `apis` and `dependencies`
HEALTH_PATH: Final = "/health"
BODY_BYTES_MAX: Final = int(os.environ.get("MUSTER_BODY_BYTES_MAX", str(256 << 20)))
IDLE_SECONDS: Final = 75  # a connection without a request is closed then
END_SECONDS: Final = 600  # the platform sets the real limit; see `termination_grace_period_seconds`


class BadInput(Exception):
    """What was sent cannot be read; the message says why."""


# ---------------------------------------------------------------- the bases of scripts


class SingleNodeService:
    """One model in one process: an inference is three steps, each of which may be replaced."""

    def __init__(self, model_name: str, model_path: str) -> None:
        self.model_name = model_name
        self.model_path = model_path

    def inference(self, data: Any) -> Any:
        return self._postprocess(self._inference(self._preprocess(data)))

    def _preprocess(self, data: Any) -> Any:
        return data

    def _inference(self, data: Any) -> Any:
        return data

    def _postprocess(self, data: Any) -> Any:
        return data


# Module and class, as scripts name them.
BASES: Final = (
    ("model_service.model_service", "SingleNodeService"),
    ("model_service.pytorch_model_service", "PTServingBaseService"),
    ("model_service.tfserving_model_service", "TfServingBaseService"),
    ("model_service.python_model_service", "XgSklServingBaseService"),
    ("model_service.mindspore_model_service", "MSServingBaseService"),
)


def provide_bases() -> tuple[type, ...]:
    """Let scripts import the bases that they are written for."""
    package = ModuleType("model_service")
    package.__path__ = []
    sys.modules["model_service"] = package
    bases: list[type] = [SingleNodeService]
    for name, class_name in BASES:
        module = ModuleType(name)
        base: type = SingleNodeService
        if class_name != SingleNodeService.__name__:
            base = type(class_name, (SingleNodeService,), {"__module__": name})
            bases.append(base)
        setattr(module, class_name, base)
        sys.modules[name] = module
        setattr(package, name.rpartition(".")[2], module)
    return tuple(bases)


def load_service(folder: Path, model_name: str) -> Any:
    """The script's service, made. Ends the program where there is not exactly one class of it."""
    bases = provide_bases()
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    spec = importlib.util.spec_from_file_location("customize_service", folder / SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, bases) and value.__module__ == spec.name
    ]
    # One that others derive from is there for them.
    classes = [
        one for one in classes if not any(o is not one and issubclass(o, one) for o in classes)
    ]
    if len(classes) != 1:
        names = ", ".join(sorted(one.__name__ for one in classes)) or "none"
        sys.exit(
            f"{SCRIPT} must hold one class that derives from a base of model_service, such as"
            f" model_service.pytorch_model_service.PTServingBaseService; there is: {names}."
        )
    make: Any = classes[0]
    return make(model_name, str(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """What was said of the model when it was kept; of a folder by itself, its config.json."""
    said = os.environ.get(CONFIG_VARIABLE)
    try:
        content = json.loads(said or (folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content if isinstance(content, dict) else {}


def check_dependencies(config: dict[str, Any]) -> None:
    """End the program where a package of config.json is not there: nothing is installed here."""
    missing = []
    for group in config.get("dependencies") or []:
        for package in group.get("packages") or []:
            name = str(package["package_name"])
            version = str(package.get("package_version") or "")
            restraint = str(package.get("restraint") or "")
            try:
                present = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                missing.append(f"{name} {version}".strip())
                continue
            if version and not satisfies(present, restraint, version):
                missing.append(f"{name} {restraint or 'EXACT'} {version} (there is {present})")
    if missing:
        sys.exit(
            f"{CONFIG} asks for packages that {sys.executable} does not have:"
            f" {', '.join(missing)}. Choose a runtime that has them."
        )


def satisfies(present: str, restraint: str, wanted: str) -> bool:
    def numbers(version: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]

    if restraint == "ATLEAST":
        return numbers(present) >= numbers(wanted)
    if restraint == "ATMOST":
        return numbers(present) <= numbers(wanted)
    return present == wanted or numbers(present) == numbers(wanted)


# ---------------------------------------------------------------- requests


def read_input(body: bytes, content_type: str) -> Any:
    """What an inference is given.

    Raises:
        BadInput: the body is not what its type says.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return read_form(body, content_type)
    if kind in ("", "application/json", "text/json"):
        if not body:
            return {}
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"The body is not valid JSON: {error}") from error
    return body


def read_form(body: bytes, content_type: str) -> dict[str, Any]:
    """A form of RFC 7578: {field: {file name: file}} for files, {field: text} for the rest."""
    found = re.search(r'boundary="?([^";,]+)"?', content_type, re.IGNORECASE)
    if found is None:
        raise BadInput("Content-Type is multipart/form-data without a boundary.")
    delimiter = b"\r\n--" + found[1].strip().encode("latin-1")
    _, *parts = (b"\r\n" + body).split(delimiter)
    if not parts or not parts[-1].startswith(b"--"):
        raise BadInput("The form does not end with its boundary: a part of it is missing.")
    fields: dict[str, Any] = {}
    for part in parts[:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        if not separator:
            raise BadInput("A part of the form has no end of its headers.")
        headers = head.decode("utf-8", "replace")
        name = parameter(headers, "name")
        if name is None:
            raise BadInput("A part of the form has no name.")
        file_name = parameter(headers, "filename")
        if file_name is None:
            fields[name] = content.decode("utf-8", "replace")
        else:
            files = fields.setdefault(name, {})
            if not isinstance(files, dict):
                files = fields[name] = {}
            files[file_name] = io.BytesIO(content)
    return fields


def parameter(headers: str, name: str) -> str | None:
    """A parameter of the Content-Disposition of a part."""
    for line in headers.split("\r\n"):
        if not line.lower().startswith("content-disposition:"):
            continue
        found = re.search(rf'(?:^|[;\s]){name}="((?:[^"\\]|\\.)*)"', line)
        if found is None:
            found = re.search(rf"(?:^|[;\s]){name}=([^\s;]+)", line)
        if found is not None:
            return re.sub(r"\\(.)", r"\1", found[1])
    return None


def plain(value: Any) -> Any:
    """What json cannot write by itself: arrays and numbers of numpy, torch and the like."""
    for method in ("tolist", "item"):
        convert = getattr(value, method, None)
        if callable(convert):
            return convert()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"the script answers a {type(value).__name__}, which is no JSON")


class Server(ThreadingHTTPServer):
    """A thread a connection; on SIGTERM no new ones, and those under way are answered."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], service: Any, paths: frozenset[str]) -> None:
        super().__init__(address, Handler)
        self.service = service
        self.paths = paths
        self.under_way = 0
        self.is_ending = False
        self.changed = threading.Condition()

    def wait_for_requests(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.under_way == 0, timeout=END_SECONDS)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    # Head and body leave together: otherwise the body waits for the receiver's acknowledgement.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == HEALTH_PATH:
            self.reply(200, {"health": True})
        else:
            self.reply(404, failure(f"There is no {self.path}; POST to / for an inference."))

    def do_POST(self) -> None:
        server = self.server
        with server.changed:
            server.under_way += 1
        try:
            self.infer()
        finally:
            with server.changed:
                server.under_way -= 1
                server.changed.notify_all()

    def infer(self) -> None:
        body = self.body()
        if body is None:
            return
        if self.path.partition("?")[0] not in self.server.paths:
            known = ", ".join(sorted(self.server.paths))
            self.reply(404, failure(f"There is no {self.path}; there is {known}."))
            return
        try:
            data = read_input(body, self.headers.get("Content-Type") or "")
        except BadInput as error:
            self.reply(400, failure(str(error)))
            return
        try:
            answer = self.server.service.inference(data)
            content = answer if isinstance(answer, bytes) else json.dumps(answer, default=plain)
        except Exception as error:  # noqa: BLE001 - the script's own; the next request may be fine
            traceback.print_exc()
            sys.stderr.flush()
            self.reply(500, failure(f"The inference failed: {type(error).__name__}: {error}"))
            return
        self.reply(200, content)

    def body(self) -> bytes | None:
        """The whole body; None: it was refused, or whoever sent it has gone away."""
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self.chunked_body()
        length = int(self.headers.get("Content-Length") or 0)
        if length > BODY_BYTES_MAX:
            self.refuse_length(length)
            return None
        return self.piece(length)

    def chunked_body(self) -> bytes | None:
        chunks, length = [], 0
        while True:
            try:
                size = int(self.rfile.readline().split(b";")[0], 16)
            except ValueError:
                self.close_connection = True
                return None
            if not size:
                break
            length += size
            if length > BODY_BYTES_MAX:
                self.refuse_length(length)
                return None
            chunk = self.piece(size)
            if chunk is None:
                return None
            chunks.append(chunk)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b"\n", b""):
            pass  # trailers
        return b"".join(chunks)

    def piece(self, length: int) -> bytes | None:
        content = self.rfile.read(length)
        if len(content) < length:
            self.close_connection = True  # half of a question is not answered
            return None
        return content

    def refuse_length(self, length: int) -> None:
        self.close_connection = True
        self.reply(
            413, failure(f"The body has {length} bytes or more; {BODY_BYTES_MAX} are allowed.")
        )

    def reply(self, status: int, content: Any) -> None:
        body = content if isinstance(content, (bytes, str)) else json.dumps(content)
        body = body.encode() if isinstance(body, str) else body
        if self.server.is_ending:
            self.close_connection = True
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are counted by the platform; a line for each would fill the disk."""


def failure(message: str) -> dict[str, str]:
    return {"error_code": "ModelArts.4503", "error_msg": message}


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    config = read_config(folder)
    check_dependencies(config)
    began = time.monotonic()
    service = load_service(folder, os.environ.get("MUSTER_MODEL_NAME", "model"))
    print(f"The model was loaded in {time.monotonic() - began:.1f} s.", flush=True)
    urls = {
        str(api["url"])
        for api in config.get("apis") or []
        if isinstance(api, dict) and "url" in api
    }
    address = (os.environ.get("MUSTER_HOST", "127.0.0.1"), int(os.environ["PORT"]))
    server = Server(address, service, frozenset({"/", *urls}))

    def end(_number: int, _frame: object) -> None:
        server.is_ending = True
        threading.Thread(target=server.shutdown).start()  # it waits for the loop that runs here

    signal.signal(signal.SIGTERM, end)
    print(f"Serving on {address[0]} port {address[1]}.", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.wait_for_requests()
    os._exit(0)  # connections that wait for their next request keep nobody


if __name__ == "__main__":
    main()
