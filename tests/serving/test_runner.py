"""What runs in an instance: scripts, requests, and how it ends. Real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest

from muster.serving import runner
from muster.serving.runner import BadInput, read_form, read_input, satisfies
from tests.api.platform import wait_until

ECHO = """
    from model_service.pytorch_model_service import PTServingBaseService

    class Echo(PTServingBaseService):
        def _preprocess(self, data):
            return data

        def _inference(self, data):
            if data.get("fails"):
                raise ValueError("that is too much")
            return {"name": self.model_name, "path": self.model_path, "data": data}
"""

SLOW = """
    import time
    from model_service.tfserving_model_service import TfServingBaseService

    class Slow(TfServingBaseService):
        def _inference(self, data):
            open("begun", "w").close()
            time.sleep(0.5)
            return "done"
"""


@dataclass
class Running:
    process: "subprocess.Popen[str]"
    url: str

    def post(self, path: str = "/", **more: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", timeout=20, **more)


@contextmanager
def running(folder: Path, *, waits: bool = True) -> Iterator[Running]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {"PORT": str(port), "PATH": os.environ["PATH"], "MUSTER_MODEL_NAME": "mine"}
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, runner.__file__, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(process, f"http://127.0.0.1:{port}")

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"{running.url}/health").status_code == 200
        except httpx.ConnectError:
            return False

    try:
        if waits:
            wait_until(answers)
        yield running
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(script: str, **config: Any) -> Path:
        (tmp_path / "customize_service.py").write_text(dedent(script))
        if config:
            (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


Write = Callable[..., Path]


def test_a_script_is_asked_with_json_forms_and_bytes(write: Write) -> None:
    folder = write(ECHO, apis=[{"url": "/predict"}])
    with running(folder) as served:
        by_json = served.post(json={"n": 1}).json()
        elsewhere = served.post("/predict?x=1", json={"n": 2}).json()

        assert by_json == {"name": "mine", "path": str(folder), "data": {"n": 1}}
        assert elsewhere["data"] == {"n": 2}
        assert served.post("/other", json={}).status_code == 404
        wrong = served.post(content=b"{", headers={"content-type": "application/json"})
        assert (wrong.status_code, "not valid JSON" in wrong.text) == (400, True)
        failed = served.post(json={"fails": True})
        assert (failed.status_code, "that is too much" in failed.text) == (500, True)
        assert served.post(json={"n": 3}).status_code == 200


def test_half_a_body_is_not_answered(write: Write) -> None:
    with running(write(ECHO)) as served:
        url = httpx.URL(served.url)
        for framing in ("content-length: 100", "transfer-encoding: chunked"):
            with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
                head = f"POST / HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n"
                connection.sendall(head.encode() + b"2\r\n{}\r\n")
                connection.shutdown(socket.SHUT_WR)

                assert connection.recv(1024) == b""
        assert served.post(json={"n": 1}).status_code == 200


def test_on_sigterm_requests_under_way_are_answered_and_it_ends_well(write: Write) -> None:
    folder = write(SLOW)
    with running(folder) as served:
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(served.post(json={})))
        asking.start()
        wait_until((folder / "begun").exists)

        served.process.send_signal(signal.SIGTERM)
        asking.join()

        assert [answer.json() for answer in answers] == ["done"]
        assert served.process.wait(10) == 0


@pytest.mark.parametrize(
    ("script", "config", "words"),
    [
        ("x = 1", {}, "must hold one class that derives"),
        ("raise RuntimeError('no weights')", {}, "no weights"),
        (
            ECHO,
            {"dependencies": [{"packages": [{"package_name": "no-such-package"}]}]},
            "asks for packages",
        ),
    ],
)
def test_what_cannot_be_served_ends_with_the_reason(
    write: Write, script: str, config: dict[str, Any], words: str
) -> None:
    with running(write(script, **config), waits=False) as served:
        told, _ = served.process.communicate(timeout=20)

    assert served.process.returncode != 0
    assert words in told


def test_one_class_may_derive_from_another(write: Write) -> None:
    script = ECHO + "\n    class Other(Echo):\n        pass\n"

    with running(write(script)) as served:
        assert served.post(json={}).status_code == 200


def form(*parts: bytes) -> bytes:
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"


class TestForms:
    TYPE = "multipart/form-data; boundary=x"

    def test_files_and_fields(self) -> None:
        content = bytes(range(256)) + b"\r\n--y\r\n"
        body = form(
            b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n'
            b"Content-Type: image/png\r\n\r\n" + content,
            b'Content-Disposition: form-data; name="image"; filename="b \\"c\\".png"\r\n\r\n',
            b'Content-Disposition: form-data; name="note"\r\n\r\nhello',
        )

        fields = read_input(body, self.TYPE)

        assert fields["note"] == "hello"
        assert list(fields["image"]) == ["a.png", 'b "c".png']
        assert fields["image"]["a.png"].read() == content

    @pytest.mark.parametrize(
        ("body", "type_", "words"),
        [
            (b"", "multipart/form-data", "without a boundary"),
            (b"--x\r\nhalf", TYPE, "does not end"),
            (form(b"no headers"), TYPE, "no end of its headers"),
            (form(b"A: b\r\n\r\nc"), TYPE, "has no name"),
        ],
    )
    def test_what_is_no_form(self, body: bytes, type_: str, words: str) -> None:
        with pytest.raises(BadInput, match=words):
            read_form(body, type_)


@pytest.mark.parametrize(
    ("present", "restraint", "wanted", "is_so"),
    [
        ("1.10.0", "ATLEAST", "1.9", True),
        ("1.8", "ATLEAST", "1.9", False),
        ("1.8", "ATMOST", "1.9", True),
        ("2.1.0+cpu", "EXACT", "2.1.0", True),
        ("2.1.1", "EXACT", "2.1.0", False),
    ],
)
def test_versions_are_held_against_what_is_asked_for(
    present: str, restraint: str, wanted: str, is_so: bool
) -> None:
    assert satisfies(present, restraint, wanted) is is_so
