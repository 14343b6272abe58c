"""Batch services on a real server: a real model is asked about real files."""

import json

import pytest

from tests.end_to_end.batches import batch, put, reader, results
from tests.end_to_end.inference import (
    FLAVOR,
    Inference,
    inference,
    room_for_the_next,
    script_folder,
)
from tests.end_to_end.server import processes_below, wait_for

__all__ = ["inference", "room_for_the_next"]  # fixtures

pytestmark = pytest.mark.timeout(300)

# Answers what it was asked, as text.
COMMAND = """
    import os
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            said = f"{self.path}\\n{self.headers['Content-Type']}\\n".encode() + body
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    HTTPServer((os.environ["MUSTER_HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_a_model_reads_real_digits_from_files(inference: Inference) -> None:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    np = pytest.importorskip("numpy")
    remote, scripts = inference.remote, script_folder()
    source = inference.put(
        "digits",
        train_digits__py=(scripts / "train_digits.py").read_bytes(),
        customize_service__py=(scripts / "customize_service.py").read_bytes(),
    )
    job = remote.project.post(
        "/training-jobs",
        job_name="learn-digits",
        config={
            "worker_server_num": 1,
            "app_url": source,
            "boot_file_url": f"{source}train_digits.py",
            "engine_id": 1,
            "spec_id": remote.spec_ids[FLAVOR],
            "parameter": [{"label": "epochs", "value": "8"}],
            "train_url": source,
        },
    )
    remote.wait(job, 10)
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    is_test = np.arange(len(labels)) % 4 == 0
    images, labels = images[is_test][:60], labels[is_test][:60]
    files = {
        f"{number}.json": json.dumps({"images": [image.tolist()]}).encode()
        for number, image in enumerate(images)
    }

    service_id = batch(inference, "digits-batch", inference.model(source), files, instance_count=2)
    shown = inference.wait(service_id, "finished")

    assert (shown["progress"], shown["invocation_times"], shown["failed_times"]) == (100, 60, 0)
    assert "access_address" not in shown
    assert shown["start_time"] < shown["finished_time"] == shown["transition_at"]
    found = results(inference, "digits-batch-out")
    summaries = {name for name in found if not name.endswith("_result.txt")}
    assert summaries == {"batch_summary_1.json", "batch_summary_2.json"}
    right = sum(
        json.loads(found[f"{number}.json_result.txt"])["digits"] == [int(label)]
        for number, label in enumerate(labels)
    )
    assert right >= 54, f"{right} of 60 digits were read right"
    assert inference.counts() == {"Completed": 2}


def test_files_that_fail_are_named_and_the_others_are_answered(inference: Inference) -> None:
    files = {"a.txt": b"one", "deep/b.txt": b"this is bad", "deep/c.txt": b"three"}

    service_id = batch(inference, "some-fail", reader(inference), files)
    shown = inference.wait(service_id, "finished")

    assert (shown["invocation_times"], shown["failed_times"]) == (3, 1)
    found = results(inference, "some-fail-out")
    assert {name for name in found if name.endswith(".txt")} == {
        "a.txt_result.txt",
        "deep/c.txt_result.txt",
    }
    assert json.loads(found["deep/c.txt_result.txt"])["read"] == "three"
    summary = json.loads(found["batch_summary.json"])
    assert (summary["total"], summary["answered"], summary["failed"]) == (3, 2, 1)
    [failure] = summary["failures"]
    assert failure["name"] == "deep/b.txt"
    assert "ValueError: that is no good" in failure["reason"]
    events = inference.events(service_id)
    assert "2 of 3 requests were answered." in events
    assert any("1 requests failed: deep/b.txt (it answered 500" in event for event in events)
    assert events[-1] == "The service is finished."
    assert inference.updates(service_id) == ["SUCCESS"]


def test_a_command_is_asked_as_well_as_a_script(inference: Inference) -> None:
    source = inference.put("command", app__py=COMMAND)
    model_id = inference.model(
        source,
        cmd="python app.py",
        initial_config={
            "apis": [
                {
                    "url": "/read",
                    "method": "post",
                    "request": {
                        "Content-type": "multipart/form-data",
                        "data": {"type": "object", "properties": {"page": {"type": "file"}}},
                    },
                }
            ]
        },
    )

    service_id = batch(inference, "command", model_id, {"a.txt": b"hello"}, req_uri="/read")
    inference.wait(service_id, "finished")

    answer = results(inference, "command-out")["a.txt_result.txt"].decode()
    path, kind, form = answer.split("\n", 2)
    assert (path, kind.partition(";")[0]) == ("/read", "multipart/form-data")
    assert 'name="page"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello' in form


def test_an_answer_that_cannot_be_stored_counts_as_none(inference: Inference) -> None:
    put(inference, "lost-out", {"deep": b"stands where a folder is needed"})

    service_id = batch(inference, "lost", reader(inference), {"a": b"1", "deep/b": b"2"})
    shown = inference.wait(service_id, "finished")

    assert (shown["invocation_times"], shown["failed_times"]) == (2, 1)
    assert "a_result.txt" in results(inference, "lost-out")
    told = "1 requests failed: deep/b_result.txt (it could not be stored under dest_path)."
    assert told in inference.events(service_id)


def test_where_nothing_is_answered_the_service_has_failed(inference: Inference) -> None:
    service_id = batch(inference, "all-fail", reader(inference), {"a": b"bad", "b": b"bad too"})

    shown = inference.wait(service_id, "failed")

    assert "None of the 2 requests was answered: a (it answered 500" in shown["error_msg"]
    assert (shown["invocation_times"], shown["failed_times"]) == (2, 2)
    assert inference.updates(service_id) == ["FAIL"]
    assert json.loads(results(inference, "all-fail-out")["batch_summary.json"])["failed"] == 2


def test_each_row_of_a_csv_is_a_request(inference: Inference) -> None:
    rule = {
        "type": "object",
        "properties": {
            "data": {
                "type": "array",
                "items": [
                    {
                        "type": "object",
                        "properties": {
                            "size": {"type": "number", "index": 1},
                            "name": {"type": "string", "index": 0},
                        },
                    }
                ],
            }
        },
    }
    files = {"plants.csv": b'"a, long",5.5\nshort,x\ntall,7\n', "more/one.csv": b"single,1\n"}

    service_id = batch(
        inference, "rows", reader(inference), files, mapping_type="csv", mapping_rule=rule
    )
    shown = inference.wait(service_id, "finished")

    assert (shown["invocation_times"], shown["failed_times"]) == (4, 1)
    assert shown["config"][0]["mapping_rule"] == rule
    found = results(inference, "rows-out")
    first, second, third = map(json.loads, found["plants.csv_result.txt"].splitlines())
    assert json.loads(first["read"]) == {"data": [{"size": 5.5, "name": "a, long"}]}
    assert second == {"error_msg": "column 1 is 'x', which is no number"}
    assert json.loads(third["read"]) == {"data": [{"size": 7, "name": "tall"}]}
    [alone] = found["more/one.csv_result.txt"].splitlines()
    assert json.loads(json.loads(alone)["read"]) == {"data": [{"size": 1, "name": "single"}]}


def test_an_instance_that_crashes_fails_the_service_with_the_end_of_its_log(
    inference: Inference,
) -> None:
    files = {"a": b"one", "b": b"die"} | {f"c{number}": b"wait" for number in range(20)}

    service_id = batch(inference, "crashes", reader(inference), files)
    shown = inference.wait(service_id, "failed")

    assert "ended with exit code 7 in the middle of it" in shown["error_msg"]
    assert json.loads(results(inference, "crashes-out")["a_result.txt"])["read"] == "one"
    wait_for(lambda: inference.counts() == {"Failed": 1} or None)


def test_a_model_that_never_comes_up_fails_the_service(inference: Inference) -> None:
    model_id = inference.model(
        inference.put("broken", customize_service__py="raise KeyError('weights')\n")
    )

    service_id = batch(inference, "never-up", model_id, {"a": b"x"}, instance_count=2)
    shown = inference.wait(service_id, "failed")

    assert "KeyError: 'weights'" in shown["error_msg"]
    assert "before it answered" in shown["error_msg"]
    wait_for(lambda: not processes_below(inference.remote.data / "jobs") or None)


def test_one_that_is_stopped_in_the_middle_keeps_its_answers_and_starts_again(
    inference: Inference,
) -> None:
    files = {f"{number:03}": b"wait" for number in range(200)}
    service_id = batch(inference, "stopped", reader(inference), files)
    wait_for(lambda: inference.show(service_id)["invocation_times"] >= 5 or None)
    running = inference.show(service_id)

    inference.change(service_id, status="stopped")
    stopped = inference.wait(service_id, "stopped")

    assert (running["status"], stopped["failed_times"]) == ("running", 0)
    assert 0 < stopped["progress"] < 100
    assert running["invocation_times"] <= stopped["invocation_times"] < 200
    found = results(inference, "stopped-out")
    assert len(found) >= stopped["invocation_times"]
    assert all(json.loads(content)["read"] == "wait" for content in found.values())
    wait_for(lambda: not processes_below(inference.remote.data / "jobs") or None)

    part = {"envs": {"WAIT": "0"}}
    inference.change(service_id, config=[part])
    inference.change(service_id, status="running")
    finished = inference.wait(service_id, "finished")
    assert (finished["invocation_times"], finished["failed_times"]) == (200, 0)
    assert len(results(inference, "stopped-out")) == 201


def test_requests_go_to_no_batch_service(inference: Inference) -> None:
    service_id = batch(inference, "unasked", reader(inference), {"a": b"x"})
    inference.wait(service_id, "finished")

    reply = inference.ask(service_id)

    assert (reply.status_code, reply.json()["error_code"]) == (400, "ModelArts.3518")
    assert "dest_path" in reply.json()["error_msg"]
