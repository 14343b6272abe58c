"""What runs in an instance of a batch service: it asks a model of its own. Real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.serving import batch, runner
from muster.serving.batch import PROGRESS_FILE, RequestFailed, request_of, rows_of, share_of
from tests.api.platform import wait_until

# Answers what it was asked, as what type, and on which of its connections.
MODEL = """
    import json, os, sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = float(os.environ.get("IDLE_SECONDS", "60"))
        asked = 0

        def do_GET(self):
            self.reply(200 if self.path == "/alive" else 404, b"")

        def do_POST(self):
            Handler.asked += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if body == b"end":
                os._exit(7)
            if body == b"wait":
                time.sleep(60)
            if body == b"close":
                self.close_connection = True
            if body == b"slow":
                time.sleep(0.3)
            said = {
                "path": self.path, "type": self.headers["Content-Type"], "asked": Handler.asked,
                "body": body.decode("utf-8", "replace"), "connection": self.client_address[1],
            }
            self.reply(400 if body == b"no" else 200, json.dumps(said, indent=1).encode())

        def reply(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    address = (os.environ["MUSTER_HOST"], int(os.environ["PORT"]))
    ThreadingHTTPServer(address, Handler).serve_forever()
"""


@dataclass
class Bench:
    folder: Path

    @property
    def answers(self) -> dict[str, bytes]:
        """What was stored, by name."""
        return {
            path.relative_to(self.folder / "out").as_posix(): path.read_bytes()
            for path in (self.folder / "out").rglob("*")
            if path.is_file()
        }

    @property
    def progress(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / PROGRESS_FILE).read_text()))

    def put(self, **files: bytes) -> None:
        """Files of the input, their names with `__` for the dot."""
        for name, content in files.items():
            (self.folder / "in" / name.replace("__", ".")).write_bytes(content)

    def start(
        self,
        *,
        share: str = "0/1",
        model: str = MODEL,
        environment: dict[str, str] | None = None,
        **more: Any,
    ) -> "subprocess.Popen[str]":
        (self.folder / "model.py").write_text(dedent(model))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        task = {
            "command": [sys.executable, "model.py"],
            "health": {"path": "/alive", "initial_delay_seconds": 0, "timeout_seconds": 2},
            "deploy_timeout_seconds": 20,
            "req_uri": "/ask",
            "form_field": "",
            "mapping_rule": None,
            "concurrency": 1,
        }
        return subprocess.Popen(  # noqa: S603
            [sys.executable, batch.__file__],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "PORT": str(port),
                "MUSTER_BATCH": json.dumps(task | more),
                "MUSTER_BATCH_SHARE": share,
                "MUSTER_BATCH_SRC": str(self.folder / "in"),
                "MUSTER_BATCH_DEST": str(self.folder / "out"),
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *, exit_code: int = 0, **more: Any) -> str:
        """What it printed; it must end so."""
        process = self.start(**more)
        try:
            printed, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == exit_code, printed
        return printed


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    yield Bench(tmp_path)
    for process in psutil.process_iter():
        try:
            is_left = process.cwd() == str(tmp_path)
        except psutil.Error:
            continue
        assert not is_left, f"{process} is left"


RULE = {
    "type": "object",
    "properties": {
        "x": {"type": "number", "index": 1},
        "name": {"type": "string", "index": 0},
    },
}


class TestFiles:
    def test_each_file_is_asked_about_by_its_type(self, bench: Bench) -> None:
        bench.put(a__json=b'{"x": 1}', b__png=b"\x89PNG", c=b"?", empty__txt=b"")
        deep = bench.folder / "in" / "deep" / "er"
        deep.mkdir(parents=True)
        (deep / "d.txt").write_bytes(b"text")

        bench.run()

        answers = {
            name: json.loads(content)
            for name, content in bench.answers.items()
            if name != "batch_summary.json"
        }
        assert {name: (one["type"], one["body"]) for name, one in answers.items()} == {
            "a.json_result.txt": ("application/json", '{"x": 1}'),
            "b.png_result.txt": ("image/png", "\ufffdPNG"),
            "c_result.txt": ("application/octet-stream", "?"),
            "empty.txt_result.txt": ("text/plain", ""),
            "deep/er/d.txt_result.txt": ("text/plain", "text"),
        }
        assert {one["path"] for one in answers.values()} == {"/ask"}
        assert len({one["connection"] for one in answers.values()}) == 1
        assert bench.progress == {
            "total": 5, "answered": 5, "failed": 0, "is_ready": True, "failures": [],
        }  # fmt: skip

    def test_a_file_goes_into_a_form_where_the_model_takes_one(self, bench: Bench) -> None:
        deep = bench.folder / "in" / "deep"
        deep.mkdir()
        content = bytes(range(256)) * 20_000  # more than is read at a time
        (deep / 'a "b".png').write_bytes(content)
        model = MODEL.replace('body.decode("utf-8", "replace")', "body.hex()")

        bench.run(model=model, form_field="images")

        answer = json.loads(bench.answers['deep/a "b".png_result.txt'])
        form = runner.read_form(bytes.fromhex(answer["body"]), answer["type"])
        [(name, file)] = form["images"].items()
        assert (name, file.read() == content) == ("a %22b%22.png", True)

    def test_links_lead_nowhere(self, bench: Bench) -> None:
        (bench.folder / "secret").write_bytes(b"secret")
        (bench.folder / "in" / "link").symlink_to(bench.folder / "secret")
        (bench.folder / "in" / "folder").symlink_to(bench.folder)
        bench.put(a=b"x")

        bench.run()

        assert set(bench.answers) == {"a_result.txt", "batch_summary.json"}

    def test_one_that_fails_is_named_with_the_reason(self, bench: Bench) -> None:
        bench.put(a=b"no", b=b"yes")
        (bench.folder / "in" / os.fsdecode(b"\xff")).write_bytes(b"no")
        (bench.folder / "in" / ("n" * 250)).write_bytes(b"its result has no name")

        printed = bench.run()

        assert 'a: it answered 400: { "path": "/ask"' in printed
        summary = json.loads(bench.answers["batch_summary.json"])
        assert (summary["total"], summary["answered"], summary["failed"]) == (4, 1, 3)
        reasons = {one["name"]: one["reason"] for one in summary["failures"]}
        assert set(reasons) == {"a", os.fsdecode(b"\xff"), "n" * 250}
        assert "File name too long" in reasons["n" * 250]
        assert "b_result.txt" in bench.answers

    def test_a_connection_that_the_model_has_closed_costs_no_answer(self, bench: Bench) -> None:
        bench.put(a=b"close", b=b"x", c=b"slow", d=b"y")

        bench.run(environment={"IDLE_SECONDS": "0.1"})

        assert bench.progress["answered"] == 4

    def test_shares_are_asked_about_by_themselves(self, bench: Bench) -> None:
        bench.put(**{f"f{number}": b"x" for number in range(20)})

        for index in range(3):
            bench.run(share=f"{index}/3")

        summaries = [
            json.loads(bench.answers[f"batch_summary_{number}.json"]) for number in (1, 2, 3)
        ]
        assert sum(summary["answered"] for summary in summaries) == 20
        assert len(bench.answers) == 23

    def test_a_share_without_files_starts_no_model(self, bench: Bench) -> None:
        bench.run(model="raise SystemExit(3)")

        assert bench.progress["is_ready"]
        assert bench.progress["total"] == 0


class TestRows:
    def test_answers_stand_in_the_order_of_the_rows(self, bench: Bench) -> None:
        rows = [f"row {number},{number}" for number in range(50)]
        bench.put(many__csv="\n".join(rows).encode())

        bench.run(mapping_rule=RULE, concurrency=4)

        lines = bench.answers["many.csv_result.txt"].splitlines()
        asked = [json.loads(json.loads(line)["body"]) for line in lines]
        assert asked == [{"x": number, "name": f"row {number}"} for number in range(50)]
        assert {json.loads(line)["type"] for line in lines} == {"application/json"}
        assert bench.progress["answered"] == 50

    def test_a_row_that_cannot_be_asked_has_its_line_too(self, bench: Bench) -> None:
        bench.put(a__csv=b"one,1\ntwo\n\nthree,x\nfour,4", b__txt=b"no csv", c__csv=b"ok,1\n\xff,2")

        bench.run(mapping_rule=RULE)

        lines = bench.answers["a.csv_result.txt"].splitlines()
        assert [json.loads(line).get("error_msg") for line in lines] == [
            None,
            "it has 1 columns, and no column 1",
            "column 1 is 'x', which is no number",
            None,
        ]
        summary = json.loads(bench.answers["batch_summary.json"])
        assert [one["name"] for one in summary["failures"]][:3] == [
            "a.csv row 2",
            "a.csv row 4",
            "b.txt row 1",
        ]
        assert summary["total"] == summary["answered"] + summary["failed"]
        assert "cannot be read as CSV" in summary["failures"][-1]["reason"]

    def test_rows_are_read_as_others_write_them(self, tmp_path: Path) -> None:
        path = tmp_path / "a.CSV"
        path.write_bytes(b'\xef\xbb\xbf"a ""b"", c",1\r\n\r\n"two\nlines",2\r\n')

        assert [(row.number, row.columns) for row in rows_of(path)] == [
            (1, ['a "b", c', "1"]),
            (3, ["two\nlines", "2"]),
        ]


class TestEnds:
    def test_a_model_that_ends_in_the_middle_ends_it(self, bench: Bench) -> None:
        bench.put(a=b"x", b=b"end", c=b"x")

        printed = bench.run(exit_code=1)

        assert "The model's program ended with exit code 7 in the middle of it." in printed
        assert set(bench.answers) == {"a_result.txt"}
        assert (bench.progress["answered"], bench.progress["total"]) == (1, 3)

    def test_a_model_that_never_answers_ends_it(self, bench: Bench) -> None:
        bench.put(a=b"x")

        ended = bench.run(exit_code=1, model="raise SystemExit(3)")
        assert "ended with exit code 3 before it answered" in ended
        assert not bench.progress["is_ready"]
        late = bench.run(
            exit_code=1, model="import time; time.sleep(60)", deploy_timeout_seconds=0.5
        )
        assert "did not answer GET /alive within 0.5 s" in late

    def test_a_model_without_health_is_up_when_it_takes_connections(self, bench: Bench) -> None:
        bench.put(a=b"x")

        bench.run(health={"path": "", "initial_delay_seconds": 0, "timeout_seconds": 2})

        assert "a_result.txt" in bench.answers

    def test_it_ends_when_it_is_asked_to_with_what_it_has(self, bench: Bench) -> None:
        bench.put(a=b"x", b=b"wait")
        process = bench.start()
        wait_until(lambda: "a_result.txt" in bench.answers)

        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

        assert process.returncode == 128 + signal.SIGTERM
        assert set(bench.answers) == {"a_result.txt"}
        assert (bench.progress["is_ready"], bench.progress["failed"]) == (True, 0)


class TestRequests:
    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            ("string", " a ", " a "),
            ("integer", " 7", 7),
            ("number", "7", 7),
            ("number", "7.5e1", 75.0),
            ("boolean", "True", True),
            ("boolean", "0", False),
        ],
    )
    def test_a_column_becomes_a_value_of_its_type(
        self, kind: str, text: str, value: object
    ) -> None:
        rule = {"type": "array", "items": {"type": kind, "index": 1}}

        [found] = request_of(rule, ["", text])

        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("kind", "text"),
        [("integer", "7.5"), ("number", "nan"), ("number", "1e999"), ("number", ""),
         ("boolean", "yes"), ("integer", "9" * 5_000)],
    )  # fmt: skip
    def test_what_is_of_another_type_is_told(self, kind: str, text: str) -> None:
        with pytest.raises(RequestFailed, match=f"column 0 is '.*', which is no {kind}"):
            request_of({"type": "array", "items": [{"type": kind, "index": 0}]}, [text])

    @given(st.text(max_size=50), st.integers(1, 128))
    def test_every_file_is_in_one_share(self, name: str, count: int) -> None:
        assert [share_of(name, count) == index for index in range(count)].count(True) == 1
