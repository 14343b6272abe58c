"""Models and services on a platform whose engine runs nothing: tests answer for the instances."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest

from muster.domain.jobfolder import endpoint_file, log_file
from muster.store.connection import Connection
from muster.store.recount import differences
from tests.api.platform import Platform, Project, wait_until

FLAVOR: Final = "modelarts.vm.cpu.1u"
SCRIPT: Final = b"from model_service.pytorch_model_service import PTServingBaseService\n"


class Answering(ThreadingHTTPServer):
    """Stands for an instance: says its number, and is as well as a test wants."""

    daemon_threads = True
    is_well = True
    number = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answers = threading.Event()  # until it is set, requests are left lying
        self.answers.set()
        self.has_left_lying = threading.Event()
        self.bodies: list[bytes] = []  # of all that it was asked, but whether it is well


class _Handler(BaseHTTPRequestHandler):
    server: Answering
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._reply(200 if self.server.is_well else 500, b"{}")
        else:
            self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if not self.server.answers.is_set():
            self.server.has_left_lying.set()
            self.server.answers.wait()
        self.server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        seen = {
            "number": self.server.number,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        self._reply(200, json.dumps(seen).encode())

    def _reply(self, status: int, body: bytes) -> None:
        with suppress(ConnectionError):  # who asked has left
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass(kw_only=True)
class Serving:
    """What tests do with models and services."""

    platform: Platform
    answering: list[Answering] = field(default_factory=list)
    model_count: int = 0

    @property
    def project(self) -> Project:
        return self.platform.project

    def source(self, folder: str, project: Project | None = None, **files: bytes) -> str:
        project = project or self.project
        base = f"/bucket-{project.name}/{folder}"
        for name, content in (files or {"customize_service__py": SCRIPT}).items():
            path = f"/objects{base}/{name.replace('__', '.')}"
            reply = project.http.put(path, content=content)
            assert reply.status_code == 200, reply.text
        return f"{base}/"

    def model(self, project: Project | None = None, **more: Any) -> str:
        """The id of a new model."""
        self.model_count += 1
        body = {
            "model_name": f"model-{self.model_count}",
            "model_version": "0.0.1",
            "source_location": self.source("model", project),
        }
        return str((project or self.project).post("/models", **(body | more))["model_id"])

    def part(self, model_id: str, **more: Any) -> dict[str, Any]:
        given = {"model_id": model_id, "specification": FLAVOR, "instance_count": 1}
        return given | more

    def deploy(self, name: str, *parts: dict[str, Any], **more: Any) -> str:
        body = {"service_name": name, "infer_type": "real-time", "config": parts}
        return str(self.project.post("/services", **(body | more))["service_id"])

    def show(self, service_id: str) -> dict[str, Any]:
        return dict(self.project.get(f"/services/{service_id}"))

    def wait(self, service_id: str, status: str) -> dict[str, Any]:
        wait_until(lambda: self.show(service_id)["status"] == status)
        return self.show(service_id)

    def attempts(self, service_id: str) -> list[str]:
        """The attempts of its instances that hold nodes, the oldest first."""

        def read(connection: Connection) -> list[str]:
            rows = connection.execute(
                "SELECT w.attempt_id FROM service_instance AS i"
                " JOIN service AS s ON s.id = i.service_id"
                " JOIN workload AS w ON w.id = i.workload_id"
                " WHERE s.uid = ? AND w.phase = 'Running' ORDER BY i.id",
                (service_id,),
            )
            return [row[0] for row in rows]

        return self.platform.run(self.platform.server.database.read(read))

    def answer(self, attempt_id: str) -> Answering:
        """From now on an instance answers requests."""
        server = Answering(("127.0.0.1", 0), _Handler)
        server.number = len(self.answering)
        self.answering.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        path = endpoint_file(self.platform.data / "jobs" / attempt_id, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"host": "127.0.0.1", "port": server.server_address[1]}))
        return server

    def bring_up(self, service_id: str, count: int = 1) -> list[Answering]:
        """Let so many instances come up and answer, and wait until all of them serve."""
        wait_until(lambda: len(self.attempts(service_id)) == count)
        servers = [self.answer(attempt_id) for attempt_id in self.attempts(service_id)]
        self.wait(service_id, "running")
        return servers

    def ready(self, name: str, count: int = 1, **more: Any) -> str:
        """The id of a new service that runs."""
        service_id = self.deploy(name, self.part(self.model(), instance_count=count), **more)
        self.bring_up(service_id, count)
        return service_id

    def crash(self, attempt_id: str, log: bytes = b"", *, exit_code: int = 1) -> None:
        """Let an instance end by itself, with these last lines."""
        path = log_file(self.platform.data / "jobs" / attempt_id, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(log)
        self.platform.call(self.platform.engine.finish, attempt_id, 0, exit_code)

    def later(self, after_ms: int) -> None:
        self.platform.clock.now_ms += after_ms
        self.platform.engine.now_ms = self.platform.clock.now_ms

    def events(self, service_id: str) -> list[str]:
        found = self.project.get(f"/services/{service_id}/events")["events"]
        return [str(event["event_info"]) for event in reversed(found)]

    def infer_counts(self) -> dict[str, int]:
        """The infer workloads of the public pool by state, without zeros."""
        path = f"{self.project.v2}/statistics/pools/{self.project.pool('public')}/workloads"
        items = self.project.http.get(path).json()["statistics"]["items"]
        [item] = [item for item in items if item["type"] == "infer"]
        return {state: count for state, count in item["status"].items() if count}


@contextmanager
def serving_on(platform: Platform) -> Iterator[Serving]:
    serving = Serving(platform=platform)
    try:
        yield serving
    finally:
        for server in serving.answering:
            server.answers.set()
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def serving(platform: Platform) -> Iterator[Serving]:
    with serving_on(platform) as serving:
        yield serving


@pytest.fixture(autouse=True)
def counts_stay_exact(platform: Platform) -> Iterator[None]:
    yield

    async def look() -> list[str]:
        return await platform.server.database.scan(lambda c: list(differences(c)))

    assert platform.run(look()) == []
