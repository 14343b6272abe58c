"""Models and services on a real server, for tests."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import httpx
import psutil
import pytest

from tests.end_to_end.server import (
    WAIT_SECONDS,
    Remote,
    processes_below,
    running_server,
    wait_for,
)

FLAVOR: Final = "modelarts.vm.cpu.1u"

# Answers who it is, after `wait` seconds if it is asked for that.
ECHO: Final = """
import os, time
from model_service.pytorch_model_service import PTServingBaseService

class Echo(PTServingBaseService):
    def _inference(self, data):
        time.sleep(float(data.get("wait", 0)))
        return {"word": os.environ.get("WORD", "none"), "pid": os.getpid(), "data": data}
"""


@dataclass(kw_only=True)
class Inference:
    """Models and services of one project."""

    remote: Remote
    model_count: int = 0

    @property
    def http(self) -> httpx.Client:
        return self.remote.project.http

    @property
    def v1(self) -> str:
        return self.remote.project.v1

    def put(self, folder: str, **files: str | bytes) -> str:
        """Store files in a folder; their names with `__` for the dot. Returns where they lie."""
        for name, content in files.items():
            path = f"/objects/bucket-default/{folder}/{name.replace('__', '.')}"
            data = dedent(content).encode() if isinstance(content, str) else content
            reply = self.http.put(path, content=data)
            assert reply.status_code == 200, reply.text
        return f"/bucket-default/{folder}/"

    def model(self, source: str, **more: Any) -> str:
        """The id of a new model of a folder."""
        self.model_count += 1
        body = {
            "model_name": f"model-{self.model_count}",
            "model_version": "0.0.1",
            "source_location": source,
        }
        reply = self.http.post(f"{self.v1}/models", json=body | more)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["model_id"])

    def echo(self) -> str:
        """The id of a model that answers who it is."""
        return self.model(self.put("echo", customize_service__py=ECHO))

    def part(self, model_id: str, **more: Any) -> dict[str, Any]:
        given = {"model_id": model_id, "specification": FLAVOR, "instance_count": 1}
        return given | more

    def deploy(self, name: str, *parts: Mapping[str, Any], **more: Any) -> str:
        """The id of a new service."""
        body = {"service_name": name, "infer_type": "real-time", "config": parts}
        reply = self.http.post(f"{self.v1}/services", json=body | more)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["service_id"])

    def show(self, service_id: str) -> dict[str, Any]:
        reply = self.http.get(f"{self.v1}/services/{service_id}")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def change(self, service_id: str, **change: Any) -> None:
        reply = self.http.put(f"{self.v1}/services/{service_id}", json=change)
        assert reply.status_code == 200, reply.text

    def wait(self, service_id: str, status: str, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """The service, once it has the status; at once an error if it has failed instead."""

        def arrived() -> dict[str, Any] | None:
            shown = self.show(service_id)
            assert shown["status"] in (status, *_PASSING), shown
            return shown if shown["status"] == status else None

        return wait_for(arrived, seconds)

    def wait_for_replacement(self, service_id: str) -> None:
        """An instance has ended: wait until all that are wanted run again."""
        wait_for(lambda: any("has ended and is replaced" in e for e in self.events(service_id)))
        self.wait(service_id, "running")

    def ask(self, service_id: str, path: str = "/", **data: Any) -> httpx.Response:
        return self.http.post(f"/services/{service_id}{path}", json=data)

    def words(self, service_id: str, times: int) -> list[str]:
        """What each of so many answers says."""
        replies = [self.ask(service_id) for _ in range(times)]
        assert {reply.status_code for reply in replies} == {200}, replies[-1].text
        return [reply.json()["word"] for reply in replies]

    def processes(self, service_id: str) -> set[int]:
        """The processes of its instances, as far as they answer."""
        return {int(self.ask(service_id).json()["pid"]) for _ in range(8)}

    def events(self, service_id: str) -> list[str]:
        """What happened, first to last."""
        found = self.http.get(f"{self.v1}/services/{service_id}/events").json()["events"]
        return [str(event["event_info"]) for event in reversed(found)]

    def updates(self, service_id: str) -> list[str]:
        """How its updates have ended, the first first."""
        found = self.http.get(f"{self.v1}/services/{service_id}/logs").json()["logs"]
        return [str(update["result"]) for update in reversed(found)]

    def delete_all(self) -> None:
        """Leave no process behind."""
        for service in self.http.get(f"{self.v1}/services").json()["services"]:
            self.http.delete(f"{self.v1}/services/{service['service_id']}")

    def counts(self) -> dict[str, int]:
        """The infer workloads of the public pool by state, without zeros."""
        project = self.remote.project
        path = f"{project.v2}/statistics/pools/{project.pool('public')}/workloads"
        items = self.http.get(path).json()["statistics"]["items"]
        [item] = [item for item in items if item["type"] == "infer"]
        return {state: count for state, count in item["status"].items() if count}


_PASSING: Final = ("deploying", "waiting", "concerning", "running", "stopping", "stopped")


def kill_hard(pid: int) -> None:
    """As `kill -9` of one process of an instance."""
    psutil.Process(pid).kill()


def sleep_until(is_so: Any, seconds: float = WAIT_SECONDS) -> None:
    wait_for(lambda: is_so() or None, seconds)


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inference]:
    with running_server(tmp_path_factory.mktemp("inference")) as remote:
        inference = Inference(remote=remote)
        yield inference
        inference.delete_all()
        wait_for(lambda: not processes_below(remote.data / "jobs") or None)


@pytest.fixture(autouse=True)
def room_for_the_next(inference: Inference) -> Iterator[None]:
    """The nodes hold few instances more than one test needs."""
    yield
    inference.delete_all()


def script_folder() -> Path:
    """The scripts of the demo."""
    return Path(__file__).parents[2] / "src/muster/demo/scripts"


def now() -> float:
    return time.monotonic()
