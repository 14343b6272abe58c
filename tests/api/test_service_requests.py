"""Requests to services: who may ask, which instance answers, what is counted. A test answers."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from muster.api import inference
from muster.api.http import Request
from muster.api.proxied import ProxyRequest
from muster.domain.permission import Role
from tests.api.people import add_workspace, people_of, set_role, signed_request
from tests.api.platform import WAIT_SECONDS, Platform, Project, wait_until
from tests.api.serving import Answering, Serving, counts_stay_exact, serving

__all__ = ["counts_stay_exact", "serving"]  # fixtures


def ask(serving: Serving, service_id: str, path: str = "/", **more: Any) -> httpx.Response:
    return serving.project.http.post(f"/services/{service_id}{path}", json={}, **more)


def test_requests_are_counted_without_a_write_each(serving: Serving, platform: Platform) -> None:
    service_id = serving.ready("counted")

    for _ in range(5):
        ask(serving, service_id)
    # A request is counted once its answer has been passed on.
    wait_until(lambda: serving.show(service_id)["invocation_times"] == 5)
    before = serving.show(service_id)["invocation_times"]
    platform.run(platform.server.service_site.calls.flush())
    after = serving.show(service_id)["invocation_times"]
    monitor = serving.project.get(f"/services/{service_id}/monitor")

    assert (before, after) == (5, 5)
    assert not platform.server.service_site.calls.unwritten()
    assert monitor["req_count_per_min"] == 5
    assert monitor["monitors"][0]["invocation_times"] == 5
    assert monitor["service_running_instance_count"] == 1


def test_the_program_sees_the_path_below_the_service_and_no_credentials(serving: Serving) -> None:
    service_id = serving.ready("paths")

    seen = ask(serving, service_id, "/v1/answer?x=1", headers={"X-Mine": "kept"}).json()

    assert seen["path"] == "/v1/answer?x=1"
    assert seen["headers"]["x-mine"] == "kept"
    assert "x-auth-token" not in seen["headers"]
    assert seen["headers"]["x-forwarded-prefix"] == f"/services/{service_id}"


def test_a_client_stays_with_its_instance(serving: Serving) -> None:
    service_id = serving.ready("sticky", count=3, load_balancer_policy="SOURCE_IP")

    numbers = {ask(serving, service_id).json()["number"] for _ in range(9)}

    assert len(numbers) == 1


def test_who_may_ask(serving: Serving, other: Project, platform: Platform) -> None:
    service_id = serving.ready("guarded")
    url = f"{platform.url}/services/{service_id}/"

    with people_of(platform) as add:
        reader = add("reads-services", Role.READER)
        may = reader.http.post(f"/services/{service_id}/", json={})
        may_not = reader.v1("PUT", f"/services/{service_id}", json={"status": "stopped"})

    assert may.status_code == 200
    assert may_not.status_code == 403
    assert httpx.post(url, json={}).status_code == 401
    stranger = other.http.post(f"/services/{service_id}/", json={})
    assert (stranger.status_code, stranger.json()["error_code"]) == (404, "ModelArts.3502")
    assert other.http.get(f"{other.v1}/services/{service_id}").status_code == 404


def test_nobody_learns_without_a_login_which_services_there_are(
    serving: Serving, other: Project, platform: Platform
) -> None:
    known, unknown = serving.ready("not-told"), "0" * 32

    def told(service_id: str, **headers: str) -> tuple[int, str]:
        reply = httpx.post(f"{platform.url}/services/{service_id}/", json={}, headers=headers)
        return reply.status_code, reply.text.replace(service_id, "ID")

    assert told(known)[0] == 401
    assert told(known) == told(unknown)
    wrong = {"X-Auth-Token": "wrong"}
    assert told(known, **wrong) == told(unknown, **wrong)
    stranger = {"X-Auth-Token": other.http.headers["X-Auth-Token"]}
    assert told(known, **stranger)[0] == 404
    assert told(known, **stranger) == told(unknown, **stranger)


def test_a_signed_request_is_let_in(serving: Serving) -> None:
    service_id = serving.ready("signed")

    reply = signed_request(
        serving.project,
        f"/services/{service_id}/",
        method="POST",
        content=b'{"a": 1}',
        at_ms=serving.platform.clock.now_ms,
    )

    assert reply.status_code == 200, reply.text


def test_a_long_body_that_is_signed_passes_if_it_is_what_was_signed(serving: Serving) -> None:
    service_id = serving.ready("signed-long")
    body = b"x" * (3 << 20)

    def post(content: bytes) -> httpx.Response:
        return signed_request(
            serving.project,
            f"/services/{service_id}/",
            method="POST",
            content=content,
            headers={"x-sdk-content-sha256": sha256(body).hexdigest()},
            at_ms=serving.platform.clock.now_ms,
            signs=body,
        )

    right, wrong, short = post(body), post(body[:-1] + b"y"), post(body[:9])

    assert right.status_code == 200, right.text
    assert right.json()["headers"]["content-length"] == str(len(body))
    for reply in (wrong, short):
        assert (reply.status_code, "not the one that was signed" in reply.text) == (403, True)


def test_a_workspace_that_is_closed_hides_its_services(
    serving: Serving, platform: Platform
) -> None:
    workspace_id = add_workspace(serving.project, "closed-one", auth_type="PRIVATE")
    service_id = serving.ready("hidden", workspace_id=workspace_id)

    with people_of(platform) as add:
        outsider = add("outsider", Role.DEVELOPER)
        asked = outsider.http.post(f"/services/{service_id}/", json={})
        shown = outsider.v1("GET", f"/services/{service_id}")
        set_role(platform, outsider, Role.READER, workspace="closed-one")
        inside = outsider.http.post(f"/services/{service_id}/", json={})

    assert (asked.status_code, shown.status_code) == (404, 404)
    assert inside.status_code == 200


def test_an_instance_that_is_not_reached_is_passed_over(serving: Serving) -> None:
    service_id = serving.deploy("gone", serving.part(serving.model(), instance_count=2))
    away, there = serving.bring_up(service_id, 2)

    away.shutdown()
    away.server_close()
    numbers = [ask(serving, service_id) for _ in range(6)]

    assert {reply.status_code for reply in numbers} == {200}
    assert {reply.json()["number"] for reply in numbers} == {there.number}


def ailing(serving: Serving, name: str) -> tuple[str, Answering]:
    """A service with two instances, and the one whose turn it is: it answers nothing."""
    health = {"health": {"url": "/health", "period_seconds": 1, "failure_threshold": 1}}
    part = serving.part(serving.model(initial_config=health), instance_count=2)
    service_id = serving.deploy(name, part)
    ill, _ = serving.bring_up(service_id, 2)
    ill.answers.clear()
    return service_id, ill


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "STALLED_SECONDS", 0.0)


@pytest.mark.usefixtures("impatience")
def test_a_request_ends_when_its_instance_is_not_well_and_leaves_it_lying(
    serving: Serving,
) -> None:
    service_id, ill = ailing(serving, "left-lying")

    with ThreadPoolExecutor() as threads:
        asked = threads.submit(ask, serving, service_id)
        assert ill.has_left_lying.wait(WAIT_SECONDS)
        ill.is_well = False
        reply = asked.result(WAIT_SECONDS)

    assert reply.status_code == 504
    assert "may have been done" in reply.text
    assert ask(serving, service_id).status_code == 200
    assert serving.show(service_id)["failed_times"] == 1


@pytest.mark.usefixtures("impatience")
def test_a_request_that_may_be_repeated_goes_to_an_instance_that_is_well(
    serving: Serving,
) -> None:
    service_id, ill = ailing(serving, "asked-again")

    with ThreadPoolExecutor() as threads:
        asked = threads.submit(serving.project.http.get, f"/services/{service_id}/digits")
        assert ill.has_left_lying.wait(WAIT_SECONDS)
        ill.is_well = False
        reply = asked.result(WAIT_SECONDS)

    assert reply.status_code == 200
    assert reply.json()["number"] != ill.number


@pytest.mark.usefixtures("impatience")
def test_a_slow_request_to_an_instance_that_is_well_is_waited_for(
    serving: Serving, platform: Platform
) -> None:
    service_id, slow = ailing(serving, "slow-but-well")

    with ThreadPoolExecutor() as threads:
        asked = threads.submit(ask, serving, service_id)
        assert slow.has_left_lying.wait(WAIT_SECONDS)
        platform.run(platform.server.service_site.end_stalled())
        slow.answers.set()
        reply = asked.result(WAIT_SECONDS)

    assert (reply.status_code, reply.json()["number"]) == (200, slow.number)


def test_what_an_instance_cannot_take_waits_and_what_the_queue_cannot_is_refused(
    serving: Serving, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = serving.part(serving.model(), max_concurrency=2)
    service_id = serving.deploy("narrow", part)
    serving.bring_up(service_id)
    monkeypatch.setattr(inference, "QUEUE_MAX", 3)
    site = platform.server.service_site

    async def crowd() -> tuple[int, int, list[str]]:
        traffic = await site._find_traffic(service_id)
        asking = [
            asyncio.create_task(site._acquire(asking_for(service_id), traffic, "10.0.0.1"))
            for _ in range(7)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        taken = [task for task in asking if task.done() and task.exception() is None]
        refusals = [
            type(task.exception()).__name__
            for task in asking
            if task.done() and task.exception() is not None
        ]
        let_in = len(taken)
        answered = 0
        for task in asking:
            if task in taken or not (task.done() and task.exception()):
                ticket, _ = await task
                site._release(ticket)
                answered += 1
        return let_in, answered, refusals

    let_in, answered, refusals = platform.run(crowd())

    assert let_in == 2
    assert refusals == ["TooBusy", "TooBusy"]
    assert answered == 5
    assert not site.in_flight(serving_id(platform, service_id))


def test_one_that_waits_too_long_is_told_to_come_again(
    serving: Serving, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    service_id = serving.deploy("slow", serving.part(serving.model(), max_concurrency=1))
    serving.bring_up(service_id)
    monkeypatch.setattr(inference, "QUEUE_SECONDS", 0.0)
    site = platform.server.service_site

    async def take() -> Any:
        traffic = await site._find_traffic(service_id)
        ticket, _ = await site._acquire(asking_for(service_id), traffic, "10.0.0.1")
        return ticket

    ticket = platform.run(take())
    late = ask(serving, service_id)

    async def give_back() -> None:
        site._release(ticket)

    platform.run(give_back())
    assert (late.status_code, late.headers["Retry-After"]) == (503, "2")
    assert ask(serving, service_id).status_code == 200
    shown = serving.show(service_id)
    assert (shown["invocation_times"], shown["failed_times"]) == (2, 1)


def asking_for(service_id: str) -> ProxyRequest:
    """A request whose client waits for ever."""

    async def receive() -> dict[str, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    scope = {"type": "http", "method": "POST", "raw_path": b"/", "headers": []}
    return ProxyRequest(
        request=Request(scope, receive), id=service_id, path="/", is_websocket=False
    )


def test_whoever_leaves_while_waiting_leaves_the_line(serving: Serving, platform: Platform) -> None:
    service_id = serving.deploy("left", serving.part(serving.model(), max_concurrency=1))
    [only] = serving.bring_up(service_id)
    only.answers.clear()
    number = serving_id(platform, service_id)
    token = serving.project.http.headers["X-Auth-Token"]

    def waiting() -> int:
        counts = platform.call(platform.server.service_site.waiting, number)
        return sum(counts.values())

    with ThreadPoolExecutor() as threads:
        first = threads.submit(ask, serving, service_id)
        assert only.has_left_lying.wait(WAIT_SECONDS)
        patient = threads.submit(
            serving.project.http.post, f"/services/{service_id}/", content=b"patient" * 1000
        )
        wait_until(lambda: waiting() == 1)
        with socket.create_connection(("127.0.0.1", urlsplit(platform.url).port or 0)) as leaving:
            leaving.sendall(
                f"POST /services/{service_id}/ HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {token}\r\n"
                "Content-Length: 7\r\n\r\nleaving".encode()
            )
            wait_until(lambda: waiting() == 2)
        wait_until(lambda: waiting() == 1)
        only.answers.set()
        replies = [first.result(WAIT_SECONDS), patient.result(WAIT_SECONDS)]

    assert [reply.status_code for reply in replies] == [200, 200]
    assert only.bodies == [b"{}", b"patient" * 1000]


def serving_id(platform: Platform, service_id: str) -> int:
    async def read() -> int:
        traffic = await platform.server.service_site._find_traffic(service_id)
        return traffic.service_id

    return platform.run(read())
