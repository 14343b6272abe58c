"""What holds for every route: envelopes, methods, slashes, bodies, request ids."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from muster.api.errors import Envelope, envelope_of
from muster.api.http import DISCARDED_BYTES_MAX, JSON_BODY_BYTES_MAX
from muster.api.routing import Login, Route
from tests.api import refusals
from tests.api.platform import Platform, Project

V1_FAMILIES = [
    "training-jobs", "training-job-configs", "job", "built-in-algorithms", "visualization-jobs",
]  # fmt: skip
BODY_ROUTES = [
    ("POST", "/training-jobs"),
    ("PUT", "/training-jobs/1"),
    ("POST", "/training-jobs/1/versions"),
    ("POST", "/training-job-configs"),
    ("PUT", "/training-job-configs/x"),
]


@pytest.fixture(scope="module")
def anybody(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url) as client:
        yield client


def example(route: Route, project: Project) -> str:
    """A path of the route; nothing has these ids."""
    known = {"project_id": project.id, "job_id": "999999", "version_id": "999999"}

    def value(variable: re.Match[str]) -> str:
        return known.get(variable[1], f"no-{variable[1].replace('_', '-')}")

    return re.sub(r"{(\w+)(?:\.\.\.)?}", value, route.path)


class TestEveryRoute:
    def test_each_answers_with_a_request_id_of_its_own(
        self, platform: Platform, project: Project
    ) -> None:
        ids = set()
        for route in platform.server.app.routes:
            reply = project.http.request(route.method, example(route, project), json={})
            assert reply.status_code < 500, (route.method, route.path, reply.text)
            ids.add(reply.headers["X-Request-Id"])

        assert len(ids) == len(platform.server.app.routes)

    def test_a_refusal_has_the_shape_of_its_family(
        self, platform: Platform, anybody: httpx.Client, project: Project
    ) -> None:
        for route in platform.server.app.routes:
            if route.login is Login.NONE or route.method == "HEAD":
                continue
            reply = anybody.request(route.method, example(route, project))
            match route.envelope:
                case Envelope.V1:
                    refusals.v1(reply, 401, "ModelArts.0205")
                case Envelope.MODERN:
                    refusals.modern(reply, 401, "ModelArts.0205")
                case Envelope.RESOURCE:
                    refusals.modern(reply, 401, "ModelArts.50001000")
                case Envelope.KEYSTONE:
                    refusals.keystone(reply, 401)

    def test_the_family_of_a_path_is_that_of_its_routes(
        self, platform: Platform, project: Project
    ) -> None:
        for route in platform.server.app.routes:
            if route.path != "/":
                assert envelope_of(example(route, project)) is route.envelope, route.path

    def test_one_slash_at_the_end_makes_no_difference(
        self, platform: Platform, project: Project
    ) -> None:
        for route in platform.server.app.routes:
            if route.method != "GET" or route.path == "/" or "key" in route.path:
                continue
            path = example(route, project)
            without, with_slash = project.http.get(path), project.http.get(f"{path}/")
            assert with_slash.status_code == without.status_code, path
            assert with_slash.is_redirect is False

    def test_head_answers_as_get_without_a_body(self, platform: Platform, project: Project) -> None:
        for route in platform.server.app.routes:
            if route.method != "GET" or "key" in route.path:
                continue
            path = example(route, project)
            get, head = project.http.get(path), project.http.head(path)
            assert head.status_code == get.status_code, path
            assert head.content == b""
            assert head.headers["content-type"] == get.headers["content-type"]
            is_stream = "content-length" not in get.headers
            assert is_stream or int(head.headers["content-length"]) > 0

    def test_another_method_is_refused_with_those_that_are_possible(
        self, platform: Platform, project: Project
    ) -> None:
        routes = platform.server.app.routes
        for route in routes:
            possible = {other.method for other in routes if other.path == route.path}
            method = next(m for m in ("PATCH", "PUT", "POST") if m not in possible)
            reply = project.http.request(method, example(route, project))
            assert reply.status_code == 405
            assert route.method in reply.headers["allow"].split(", ")
            assert reply.headers["x-request-id"]
            match route.envelope:
                case Envelope.V1:
                    refusals.v1(reply, 405, "ModelArts.2803")
                case Envelope.KEYSTONE:
                    refusals.keystone(reply, 405)
                case Envelope.MODERN | Envelope.RESOURCE:
                    refusals.modern(reply, 405, "ModelArts.2803")

    def test_no_body_on_a_get_or_delete_is_looked_at(
        self, platform: Platform, project: Project
    ) -> None:
        for route in platform.server.app.routes:
            # A DELETE of tags says in its body which.
            if route.method not in ("GET", "DELETE") or "auth" in route.path or route.body:
                continue
            path = example(route, project)
            plain = project.http.request(route.method, path)
            reply = project.http.request(
                route.method,
                path,
                content=b"\xff{not json",
                headers={"Content-Type": "application/xml"},
            )
            assert reply.status_code == plain.status_code, path


class TestPaths:
    @pytest.mark.parametrize("family", V1_FAMILIES)
    def test_an_unknown_v1_path_answers_in_the_old_envelope(
        self, project: Project, family: str
    ) -> None:
        reply = project.http.get(f"{project.v1}/{family}/1/2/3/4/5")

        refusals.v1(reply, 404, "ModelArts.2836")

    @pytest.mark.parametrize(
        "path", ["/nothing", "/v1", "/v1/P/workspaces/x/y", "/v2/P/nothing", "/v2/P/pools/a/b",
                 "///", "/v1//training-jobs", "/v1/P//training-jobs", "/v1/P/training-jobs//",
                 "/%2e%2e/etc/passwd", "/v1/P/training%2Djobs", "/V1/P/training-jobs",
                 "/objects//k", "/v4", "/%00", "/%FF"],
    )  # fmt: skip
    def test_any_other_unknown_path_answers_in_one_of_the_newer(
        self, project: Project, path: str
    ) -> None:
        reply = project.raw("GET", re.sub(r"\bP\b", project.id, path))

        assert reply.status_code == 404, reply.text
        assert {"error_code", "error_msg"} <= set(reply.json())
        assert reply.json()["error_code"] == "ModelArts.2836"

    def test_an_unknown_path_of_keystone_answers_as_keystone(self, project: Project) -> None:
        refusals.keystone(project.http.get("/v3/users"), 404)

    def test_v1_has_no_single_job(self, project: Project) -> None:
        reply = project.http.get(f"{project.v1}/training-jobs/1")

        refusals.v1(reply, 405, "ModelArts.2803")
        assert reply.headers["allow"] == "DELETE, PUT"

    def test_the_list_of_all_versions_outranks_a_job_id(self, project: Project) -> None:
        assert project.get("/training-jobs/versions")["total_count"] == 0
        refusals.v1(
            project.http.get(f"{project.v1}/training-jobs/versions/versions"),
            404, "ModelArts.2775",
        )  # fmt: skip

    def test_an_encoded_slash_stays_in_its_segment(self, project: Project) -> None:
        reply = project.http.get(f"{project.v1}/training-job-configs/a%2Fb")

        assert "'a/b'" in refusals.v1(reply, 404, "ModelArts.2775")


class TestBodies:
    @pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
    @pytest.mark.parametrize(
        "content",
        [
            b"", b"{", b"}", b"{'a': 1}", b'{"a": 1,}', b"{} {}", b"\xff\xfe", b"\0", b"{}\0",
            b'{"job_name": "\\ud800"}', b"NaN", b"nul", b"1e999",
            b'{"job_name": "a\nb"}', b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf{}",
            pytest.param(b'{"config": 5, bad', id="wrong type, then broken"),
            pytest.param(b'{"job_name": 5, "x": ' + b"[" * 100_000, id="wrong type, then deep"),
        ],
    )  # fmt: skip
    def test_what_is_no_json_is_refused_as_such(
        self, project: Project, method: str, path: str, content: bytes
    ) -> None:
        reply = project.http.request(
            method,
            f"{project.v1}{path}",
            content=content,
            headers={"Content-Type": "application/json"},
        )

        refusals.v1(reply, 400, "ModelArts.2787")

    @pytest.mark.parametrize(
        "content",
        [b'{"job_name": "\xff", "config": {}}', b'{"config": {"spec_id": 1e999}}'],
    )
    def test_text_and_numbers_that_json_cannot_hold_are_refused_as_such(
        self, project: Project, content: bytes
    ) -> None:
        reply = project.http.post(f"{project.v1}/training-jobs", content=content)

        refusals.v1(reply, 400, "ModelArts.2787")

    @pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
    @pytest.mark.parametrize("content", [b"[]", b"[{}]", b"null", b"1", b'"{}"', b"true"])
    def test_what_is_no_object_is_refused(
        self, project: Project, method: str, path: str, content: bytes
    ) -> None:
        reply = project.http.request(method, f"{project.v1}{path}", content=content)

        message = refusals.v1(reply, 400, "ModelArts.0104")
        assert message == f"The body is {content.decode()}; it must be an object."

    def test_deep_nesting_that_json_allows_is_no_fault_of_the_server(
        self, platform: Platform, project: Project
    ) -> None:
        for depth in (100, 500, 900, 5_000):
            deep = json.loads("[" * min(depth, 900) + "]" * min(depth, 900))
            volumes = [{"nfs": deep}]
            body = {"config_name": f"deep-{depth}", "volumes": volumes}
            reply = project.http.post(f"{project.v1}/training-job-configs", json=body)
            assert reply.status_code in (200, 400)
            shown = project.http.get(f"{project.v1}/training-job-configs/deep-{depth}")
            assert shown.status_code == {200: 200, 400: 404}[reply.status_code]

    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8",
         "APPLICATION/JSON", "application/merge-patch+json", "application/x-www-form-urlencoded",
         "text/plain", "", None],
    )  # fmt: skip
    def test_json_is_taken_whatever_it_is_called(
        self, project: Project, content_type: str | None
    ) -> None:
        headers = {} if content_type is None else {"Content-Type": content_type}

        reply = project.http.put(
            f"{project.v1}/training-jobs/999999", content=b'{"job_desc": ""}', headers=headers
        )

        refusals.v1(reply, 404, "ModelArts.2775")

    def test_what_neither_is_nor_is_called_json_is_of_the_wrong_type(
        self, project: Project
    ) -> None:
        reply = project.http.post(
            f"{project.v1}/training-jobs",
            content=b"<job/>",
            headers={"Content-Type": "application/xml"},
        )

        message = refusals.v1(reply, 415, "ModelArts.2787")
        assert "Content-Type is 'application/xml'" in message

    @pytest.mark.parametrize("size", [JSON_BODY_BYTES_MAX + 1, 10 << 20])
    def test_a_large_body_is_refused_and_the_server_goes_on(
        self, project: Project, size: int
    ) -> None:
        for method, path in (*BODY_ROUTES, ("GET", "/training-jobs")):
            reply = project.http.request(method, f"{project.v1}{path}", content=b" " * size)
            message = refusals.v1(reply, 413, "ModelArts.0104")
            assert f"at most {JSON_BODY_BYTES_MAX}" in message
        login = project.http.post("/v3/auth/tokens", content=b" " * size)
        refusals.keystone(login, 413)

        assert project.get("/training-jobs")["is_success"] is True

    def test_the_largest_body_that_fits_is_taken(self, project: Project) -> None:
        content = b'{"config_name": "largest"}'.ljust(JSON_BODY_BYTES_MAX)

        reply = project.http.post(f"{project.v1}/training-job-configs", content=content)

        assert reply.json() == {"is_success": True}

    def test_a_body_without_end_is_cut_off(self, project: Project) -> None:
        def endless() -> Iterator[bytes]:
            for _ in range(DISCARDED_BYTES_MAX // (1 << 20) + 64):
                yield b" " * (1 << 20)

        try:
            reply = project.http.post(f"{project.v1}/training-jobs", content=endless())
        except httpx.TransportError:
            pass  # the server need not read on after its refusal
        else:
            refusals.v1(reply, 413, "ModelArts.0104")

        assert project.get("/training-jobs")["is_success"] is True

    def test_a_client_that_leaves_in_the_middle_does_no_harm(
        self, platform: Platform, project: Project
    ) -> None:
        host, port = platform.url.removeprefix("http://").split(":")
        head = (
            f"POST {project.v1}/training-jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            f"X-Auth-Token: {project.http.headers['X-Auth-Token']}\r\n\r\n{{"
        )
        for _ in range(5):
            with closing(socket.create_connection((host, int(port)))) as connection:
                connection.sendall(head.encode())

        assert project.get("/training-jobs")["job_total_count"] == 0


class TestTheServerItself:
    def test_alive_and_ready_need_no_login(self, anybody: httpx.Client) -> None:
        for path, status in (("/healthz", "alive"), ("/readyz", "ready")):
            reply = anybody.get(path)
            assert (reply.status_code, reply.json()["status"]) == (200, status)

    def test_an_engine_that_gives_no_answer_is_not_ready(
        self, platform: Platform, anybody: httpx.Client
    ) -> None:
        platform.engine.is_unavailable = True
        try:
            reply = anybody.get("/readyz")

            assert anybody.get("/healthz").status_code == 200
        finally:
            platform.engine.is_unavailable = False
        refusals.modern(reply, 503, "ModelArts.0010")
        assert int(reply.headers["retry-after"]) > 0
        assert anybody.get("/readyz").status_code == 200

    def test_metrics_name_no_project(
        self, platform: Platform, project: Project, anybody: httpx.Client
    ) -> None:
        job = platform.submit("measured")
        platform.wait_for(job, 8)

        reply = anybody.get("/metrics")

        assert reply.status_code == 200
        assert 'muster_workloads{state="Running",type="train"} 1.0' in reply.text
        assert 'muster_held_resources{resource="cpu_millis",type="train"} 1000.0' in reply.text
        assert project.id not in reply.text

    def test_a_mistake_of_ours_is_told_without_its_details(
        self, platform: Platform, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_down(*_: Any) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr("muster.api.training_lists.listing.page_of_jobs", break_down)

        reply = project.http.get(f"{project.v1}/training-jobs")

        message = refusals.v1(reply, 500, "ModelArts.0010")
        assert reply.headers["x-request-id"] in message
        assert "secret detail" not in reply.text
