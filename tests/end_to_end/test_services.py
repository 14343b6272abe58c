"""Inference services on a real server: real processes, real requests."""

import io
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websocket

from tests.end_to_end.inference import (
    ECHO,
    Inference,
    inference,
    kill_hard,
    room_for_the_next,
    script_folder,
)
from tests.end_to_end.server import (
    ServerProcess,
    check_is_exact,
    connect,
    end_processes_below,
    processes_below,
    wait_for,
)

__all__ = ["inference", "room_for_the_next"]  # fixtures

pytestmark = pytest.mark.timeout(300)


class Asking(threading.Thread):
    """Asks a service again and again, until it is told to end."""

    def __init__(self, inference: Inference, service_id: str) -> None:
        super().__init__()
        self.answers: Counter[str] = Counter()
        self.refused: list[str] = []
        self._is_over = threading.Event()
        self._url = f"{inference.remote.project.url}/services/{service_id}/"
        self._headers = {"X-Auth-Token": inference.http.headers["X-Auth-Token"]}

    def run(self) -> None:
        with httpx.Client(headers=self._headers, timeout=60) as http:
            while not self._is_over.is_set():
                try:
                    reply = http.post(self._url, json={"wait": 0.005})
                except httpx.HTTPError as error:
                    self.refused.append(repr(error))
                    continue
                if reply.status_code == 200:
                    self.answers[reply.json()["word"]] += 1
                else:
                    self.refused.append(f"{reply.status_code} {reply.text}")

    def end(self) -> None:
        self._is_over.set()
        self.join()


@contextmanager
def load(inference: Inference, service_id: str, clients: int) -> Iterator[list[Asking]]:
    asking = [Asking(inference, service_id) for _ in range(clients)]
    for one in asking:
        one.start()
    try:
        yield asking
    finally:
        for one in asking:
            one.end()


def answered(asking: list[Asking], word: str) -> int:
    return sum(one.answers[word] for one in asking)


def test_what_a_job_has_learnt_is_served_and_reads_real_digits(inference: Inference) -> None:
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
            "spec_id": remote.spec_ids["modelarts.vm.cpu.1u"],
            "parameter": [{"label": "epochs", "value": "8"}],
            "train_url": source,
        },
    )
    remote.wait(job, 10)
    service_id = inference.deploy("digits", inference.part(inference.model(source)))
    inference.wait(service_id, "running")
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    is_test = np.arange(len(labels)) % 4 == 0
    images, labels = images[is_test][:200], labels[is_test][:200]

    by_json = inference.ask(service_id, images=images.tolist()).json()["digits"]
    file = io.BytesIO()
    np.save(file, images[:50])
    by_file = inference.http.post(
        f"/services/{service_id}/", files={"images": ("digits.npy", file.getvalue())}
    ).json()["digits"]

    right = sum(int(seen) == int(label) for seen, label in zip(by_json, labels, strict=True))
    assert right >= 180, f"{right} of 200 digits were read right"
    assert by_file == by_json[:50]


def test_instances_get_requests_in_turn_and_calls_are_counted(inference: Inference) -> None:
    service_id = inference.deploy("turns", inference.part(inference.echo(), instance_count=2))
    inference.wait(service_id, "running")

    pids = [inference.ask(service_id).json()["pid"] for _ in range(10)]

    assert sorted(Counter(pids).values()) == [5, 5]
    shown = inference.show(service_id)
    assert (shown["invocation_times"], shown["failed_times"]) == (10, 0)
    assert shown["running_instance_count"] == 2


def test_parts_get_their_share_of_requests_exactly(inference: Inference) -> None:
    model_id = inference.echo()
    service_id = inference.deploy(
        "shares",
        inference.part(model_id, weight=70, envs={"WORD": "old"}),
        inference.part(model_id, weight=30, envs={"WORD": "new"}),
    )
    inference.wait(service_id, "running")

    assert Counter(inference.words(service_id, 100)) == {"old": 70, "new": 30}


def test_an_update_under_load_refuses_no_request(inference: Inference) -> None:
    model_id = inference.echo()
    service_id = inference.deploy(
        "rolling", inference.part(model_id, instance_count=2, envs={"WORD": "old"})
    )
    inference.wait(service_id, "running")

    with load(inference, service_id, clients=4) as asking:
        wait_for(lambda: answered(asking, "old") > 50 or None)
        inference.change(
            service_id,
            config=[inference.part(model_id, instance_count=2, envs={"WORD": "new"})],
        )
        inference.wait(service_id, "running")
        wait_for(lambda: answered(asking, "new") > 50 or None)

    assert [refusal for one in asking for refusal in one.refused] == []
    assert set(inference.words(service_id, 10)) == {"new"}
    assert inference.updates(service_id) == ["SUCCESS", "SUCCESS"]


def test_an_update_that_never_comes_up_leaves_what_ran_before(inference: Inference) -> None:
    service_id = inference.deploy("fallback", inference.part(inference.echo()))
    inference.wait(service_id, "running")
    broken = inference.model(inference.put("broken", customize_service__py="raise SystemExit(3)"))

    inference.change(service_id, config=[inference.part(broken)])

    wait_for(lambda: inference.updates(service_id)[-1] == "FAIL" or None)
    inference.wait(service_id, "running")
    assert inference.ask(service_id).status_code == 200
    assert any("what ran before goes on" in event for event in inference.events(service_id))


def test_a_model_that_crashes_at_start_fails_with_the_end_of_its_log(inference: Inference) -> None:
    script = "raise RuntimeError('the weights are gone')"
    model_id = inference.model(inference.put("crash", customize_service__py=script))
    service_id = inference.deploy("crashing", inference.part(model_id))

    failed = wait_for(lambda: _if_status(inference, service_id, "failed"))

    assert "the weights are gone" in failed["error_msg"]
    assert inference.updates(service_id) == ["FAIL"]
    refused = inference.ask(service_id)
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]


def test_what_is_said_of_a_model_stands_in_place_of_its_config(inference: Inference) -> None:
    source = inference.put("said", customize_service__py=ECHO, config__json="{no json")
    lacking = [{"packages": [{"package_name": "no-such-package"}]}]
    said = inference.model(source, initial_config={}, apis=[{"url": "/predict"}])
    cannot = inference.model(source, initial_config={}, dependencies=lacking)
    answers = inference.deploy("said", inference.part(said))
    fails = inference.deploy("lacking", inference.part(cannot))

    inference.wait(answers, "running")
    failed = wait_for(lambda: _if_status(inference, fails, "failed"))

    assert inference.ask(answers, "/predict").status_code == 200
    assert "no-such-package" in failed["error_msg"]


def test_an_instance_that_never_answers_runs_out_of_time(inference: Inference) -> None:
    source = inference.put("mute", main__py="import time\ntime.sleep(600)\n")
    model_id = inference.model(source, cmd="python main.py")
    part = inference.part(model_id, deploy_timeout_in_seconds=1)
    service_id = inference.deploy("mute", part)

    failed = wait_for(lambda: _if_status(inference, service_id, "failed"))

    assert "did not answer" in failed["error_msg"]
    assert "within 1 s" in failed["error_msg"]


def _if_status(inference: Inference, service_id: str, status: str) -> dict[str, Any] | None:
    shown = inference.show(service_id)
    return shown if shown["status"] == status else None


def test_a_killed_instance_is_replaced(inference: Inference) -> None:
    service_id = inference.deploy("killed", inference.part(inference.echo(), instance_count=2))
    inference.wait(service_id, "running")
    before = inference.processes(service_id)

    kill_hard(min(before))

    inference.wait_for_replacement(service_id)
    after = inference.processes(service_id)
    assert len(after) == 2
    assert len(after & before) == 1
    assert any("has ended and is replaced" in event for event in inference.events(service_id))


def test_a_request_to_an_instance_that_stands_still_ends(inference: Inference) -> None:
    health = {"url": "/health", "period_seconds": 1, "timeout_seconds": 1, "failure_threshold": 1}
    source = inference.put("still", customize_service__py=ECHO)
    model_id = inference.model(source, initial_config={"health": health})
    service_id = inference.deploy("still", inference.part(model_id, instance_count=2))
    inference.wait(service_id, "running")
    before = inference.processes(service_id)
    still = min(before)

    psutil.Process(still).suspend()
    replies = [inference.ask(service_id) for _ in range(2)]

    assert sorted(reply.status_code for reply in replies) == [200, 504]
    [left_lying] = [reply for reply in replies if reply.status_code == 504]
    assert "is not well" in left_lying.json()["error_msg"]
    assert inference.processes(service_id) == before - {still}
    psutil.Process(still).resume()
    inference.wait(service_id, "running")


def test_a_stopped_service_frees_its_nodes_and_starts_again(inference: Inference) -> None:
    service_id = inference.deploy("stopped", inference.part(inference.echo()))
    inference.wait(service_id, "running")

    inference.change(service_id, status="stopped")
    inference.wait(service_id, "stopped")

    assert inference.ask(service_id).status_code == 503
    inference.change(service_id, status="running")
    inference.wait(service_id, "running")
    assert inference.ask(service_id).status_code == 200


def test_a_command_is_served_as_it_is_and_streams(inference: Inference) -> None:
    script = """
        import http.server, os, threading

        has_arrived = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self):
                if self.path == "/has-arrived":
                    has_arrived.set()
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for part in (b"one", b"two", b"three"):
                    self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(part), part))
                    self.wfile.flush()
                    has_arrived.wait(60)
                self.wfile.write(b"0\\r\\n\\r\\n")

        address = os.environ["MUSTER_HOST"], int(os.environ["PORT"])
        http.server.ThreadingHTTPServer(address, Handler).serve_forever()
    """
    model_id = inference.model(inference.put("stream", main__py=script), cmd="python main.py")
    service_id = inference.deploy("streaming", inference.part(model_id, max_concurrency=2))
    inference.wait(service_id, "running")

    with inference.http.stream("GET", f"/services/{service_id}/any/path?x=1") as reply:
        parts = filter(None, reply.iter_raw())
        first = next(parts)  # what comes after it waits for it
        inference.http.get(f"/services/{service_id}/has-arrived")
        rest = b"".join(parts)

    assert (first, rest) == (b"one", b"twothree")


def test_websockets_pass_where_the_service_takes_them(inference: Inference) -> None:
    script = """
        import os
        from websockets.sync.server import serve

        def echo(connection):
            for message in connection:
                connection.send(message.upper())

        with serve(echo, os.environ["MUSTER_HOST"], int(os.environ["PORT"])) as server:
            server.serve_forever()
    """
    model_id = inference.model(inference.put("socket", main__py=script), cmd="python main.py")
    allowed = {"entry": {"websocket_upgrade": True}}
    with_them = inference.deploy("sockets", inference.part(model_id), additional_properties=allowed)
    without = inference.deploy("no-sockets", inference.part(model_id))
    inference.wait(with_them, "running")
    inference.wait(without, "running")
    base = inference.remote.project.url.replace("http", "ws")
    token = {"X-Auth-Token": inference.http.headers["X-Auth-Token"]}

    with connect_websocket(f"{base}/services/{with_them}/", additional_headers=token) as socket:
        socket.send("hello")
        answer = socket.recv()
    with pytest.raises(InvalidStatus) as refused:
        connect_websocket(f"{base}/services/{without}/", additional_headers=token)

    assert answer == "HELLO"
    assert refused.value.response.status_code == 400


def test_the_number_of_instances_follows_the_load(inference: Inference) -> None:
    scaling = {
        "min_instances": 1, "max_instances": 3, "target_concurrency": 1, "cooldown_seconds": 1,
    }  # fmt: skip
    part = inference.part(inference.echo(), scaling=scaling)
    service_id = inference.deploy("scaling", part)
    inference.wait(service_id, "running")

    with load(inference, service_id, clients=6):
        wait_for(lambda: inference.show(service_id)["running_instance_count"] == 3 or None)

    wait_for(lambda: inference.show(service_id)["running_instance_count"] == 1 or None)
    assert inference.show(service_id)["status"] == "running"
    scalings = [event for event in inference.events(service_id) if " is scaled from " in event]
    numbers = [
        [int(number) for number in re.findall(r"(\d+) to (\d+)", event)[0]] for event in scalings
    ]
    assert numbers[0][0] == numbers[-1][1] == 1
    assert max(count for _, count in numbers) == 3
    for (_, reached), (begun, _) in pairwise(numbers):
        assert begun == reached
    assert all("requests at once" in event for event in scalings)


def test_an_update_under_load_keeps_the_instances_that_the_load_has_called_for(
    inference: Inference,
) -> None:
    scaling = {
        "min_instances": 1, "max_instances": 3, "target_concurrency": 1, "cooldown_seconds": 600,
    }  # fmt: skip
    part = inference.part(inference.echo(), scaling=scaling)
    service_id = inference.deploy("scaled-update", part | {"envs": {"WORD": "old"}})
    inference.wait(service_id, "running")
    least = 3

    with load(inference, service_id, clients=6):
        wait_for(lambda: inference.show(service_id)["running_instance_count"] == 3 or None)
        inference.change(service_id, config=[part | {"envs": {"WORD": "new"}}])
        while (shown := inference.show(service_id))["status"] != "running":
            least = min(least, shown["running_instance_count"])

    assert least == 3
    assert inference.words(service_id, 6) == ["new"] * 6


def test_requests_beyond_what_an_instance_takes_wait_and_are_answered(
    inference: Inference,
) -> None:
    part = inference.part(inference.echo(), max_concurrency=1)
    service_id = inference.deploy("queue", part)
    inference.wait(service_id, "running")
    url = f"{inference.remote.project.url}/services/{service_id}/"
    headers = {"X-Auth-Token": inference.http.headers["X-Auth-Token"]}
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(
            httpx.post(url, json={"wait": 0.05}, headers=headers, timeout=60).status_code
        )

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 12
    assert inference.show(service_id)["failed_times"] == 0


def test_strangers_are_kept_out(inference: Inference) -> None:
    service_id = inference.deploy("private", inference.part(inference.echo()))
    inference.wait(service_id, "running")
    url = f"{inference.remote.project.url}/services/{service_id}/"

    nobody = httpx.post(url, json={})
    unknown = inference.http.post(f"/services/{'0' * 32}/", json={})

    assert nobody.status_code == 401
    assert unknown.status_code == 404
    assert unknown.json()["error_code"] == "ModelArts.3502"


def test_services_go_on_while_the_server_is_killed_and_started_again(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path)
    try:
        inference = Inference(remote=connect(first, first.wait_until_ready()))
        service_id = inference.deploy("lasting", inference.part(inference.echo(), instance_count=2))
        inference.wait(service_id, "running")
        before = inference.processes(service_id)
        inference.http.close()
        first.kill()

        second = ServerProcess(tmp_path, name="second")
        try:
            inference = Inference(remote=connect(second, second.wait_until_ready()))
            assert inference.show(service_id)["status"] == "running"
            assert inference.processes(service_id) == before
            kill_hard(min(before))
            inference.wait_for_replacement(service_id)
            inference.delete_all()
            wait_for(lambda: not processes_below(second.data / "jobs") or None)
            inference.http.close()
            second.stop()
            check_is_exact(second.data)
        finally:
            second.kill()
    finally:
        first.kill()
        end_processes_below(tmp_path / "data" / "jobs")


def test_an_update_goes_on_after_the_server_was_killed_in_the_middle(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path)
    try:
        inference = Inference(remote=connect(first, first.wait_until_ready()))
        part = inference.part(inference.echo(), instance_count=3)
        service_id = inference.deploy("halfway", part | {"envs": {"WORD": "old"}})
        inference.wait(service_id, "running")
        inference.ask(service_id)
        inference.change(service_id, config=[part | {"envs": {"WORD": "new"}}])
        wait_for(lambda: "new" in inference.words(service_id, 3) or None)
        first.kill()
        inference.http.close()

        second = ServerProcess(tmp_path, name="second")
        try:
            inference = Inference(remote=connect(second, second.wait_until_ready()))
            inference.wait(service_id, "running")
            assert inference.words(service_id, 6) == ["new"] * 6
            assert inference.updates(service_id) == ["SUCCESS", "SUCCESS"]
            assert inference.show(service_id)["running_instance_count"] == 3
            inference.delete_all()
            wait_for(lambda: not processes_below(second.data / "jobs") or None)
            inference.http.close()
            second.stop()
            check_is_exact(second.data)
        finally:
            second.kill()
    finally:
        first.kill()
        end_processes_below(tmp_path / "data" / "jobs")


def test_the_statistics_count_instances(inference: Inference) -> None:
    inference.delete_all()
    wait_for(lambda: not inference.counts() or None)

    service_id = inference.deploy("counted", inference.part(inference.echo(), instance_count=3))
    inference.wait(service_id, "running")

    assert inference.counts() == {"Running": 3}
    inference.change(service_id, status="stopped")
    inference.wait(service_id, "stopped")
    assert inference.counts() == {"Terminated": 3}
