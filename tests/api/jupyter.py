"""Notebooks on a platform in this process, and what answers there in place of JupyterLab."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from muster.domain.jobfolder import code_folder, endpoint_file
from muster.store.connection import Connection
from tests.api.platform import Platform, Project, wait_until

FLAVOR = "modelarts.vm.cpu.1u"
VOLUME = {"category": "EFS", "ownership": "MANAGED"}


class StandIn:
    """Answers as the server of JupyterLab does, as far as muster asks it; it remembers requests."""

    def __init__(self) -> None:
        self.state = "idle"
        self.last_active_ms = 0
        self.is_silent = False
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port: int = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def _handler(stand_in) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def _answer(self) -> None:
                path, _, query = self.path.partition("?")
                if "no_track_activity" not in query:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    stand_in.seen.append((self.command, self.path, headers))
                self.rfile.read(int(self.headers.get("content-length", 0)))
                body = json.dumps(stand_in.answer(path)).encode()
                self.send_response(503 if stand_in.is_silent else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def answer(self, path: str) -> object:
        if path.endswith("/api"):
            return {"version": "2.0-stand-in"}
        if path.endswith("/api/kernels"):
            return [{"execution_state": self.state}]
        if path.endswith("/api/status"):
            at = datetime.fromtimestamp(self.last_active_ms / 1000, UTC)
            return {"last_activity": at.isoformat().replace("+00:00", "Z")}
        return {"asked": path}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def standing_in() -> Iterator[StandIn]:
    stand_in = StandIn()
    try:
        yield stand_in
    finally:
        stand_in.close()


def delete_all(project: Project) -> None:
    """Whatever a test has left, and wait until it is gone."""
    for notebook in project.get("/notebooks/all", limit=1000)["data"]:
        project.http.delete(f"{project.v1}/notebooks/{notebook['id']}")
    wait_until(lambda: not project.get("/notebooks/all", limit=1000)["data"])


def image_of(project: Project) -> str:
    [image] = project.get("/images", type="BUILD_IN")["data"]
    return str(image["id"])


def body_of(project: Project, **more: Any) -> dict[str, Any]:
    return {
        "name": "one",
        "image_id": image_of(project),
        "flavor": FLAVOR,
        "volume": VOLUME,
    } | more


def create(project: Project, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = project.post("/notebooks", **body_of(project, **more))
    return made


def show(project: Project, made: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = project.get(f"/notebooks/{made['id']}")
    return shown


def wait_for(project: Project, made: dict[str, Any], status: str) -> dict[str, Any]:
    wait_until(lambda: show(project, made)["status"] == status)
    return show(project, made)


def attempt_of(platform: Platform, made: dict[str, Any]) -> str | None:
    def read(connection: Connection) -> str | None:
        row = connection.execute(
            "SELECT attempt_id FROM workload JOIN notebook ON notebook.workload_id = workload.id"
            " WHERE notebook.uid = ?",
            (made["id"].replace("-", ""),),
        ).fetchone()
        return None if row is None else row[0]

    return platform.run(platform.server.database.read(read))


def attempt_folder(platform: Platform, made: dict[str, Any]) -> tuple[str, Path]:
    """Once it has been placed."""
    wait_until(lambda: attempt_of(platform, made) is not None)
    attempt_id = attempt_of(platform, made)
    assert attempt_id is not None
    folder = platform.data / "jobs" / attempt_id
    code_folder(folder, 0).mkdir(parents=True, exist_ok=True)
    return attempt_id, folder


def bring_up(platform: Platform, made: dict[str, Any], stand_in: StandIn) -> dict[str, Any]:
    _, folder = attempt_folder(platform, made)
    endpoint = {"host": "127.0.0.1", "port": stand_in.port}
    endpoint_file(folder, 0).write_text(json.dumps(endpoint))
    return wait_for(platform.project, made, "RUNNING")


def counted(project: Project, pool: str = "public") -> dict[str, int]:
    path = f"{project.v2}/statistics/pools/{project.pool(pool)}/workloads"
    items = project.http.get(path).json()["statistics"]["items"]
    [found] = [item for item in items if item["type"] == "notebook"]
    return {state: count for state, count in found["status"].items() if count}


def refusal(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error_code"]
