"""Requests that are passed on: what arrives, what comes back, and what becomes of a failure."""

import asyncio
import os
from typing import Any

import httpx
import pytest

from muster.api.proxied import Outcome, Redirected
from muster.domain.errors import Forbidden
from muster.proxy import forward, pool
from muster.proxy.connection import BUFFERED_BYTES_MAX, HEAD_BYTES_MAX
from tests.proxy.programs import (
    DEADLINE_SECONDS,
    NOWHERE,
    REQUEST_BYTES_MAX,
    Front,
    answering,
    program_of,
    serving,
    transport_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
MEBIBYTE = 1 << 20
# What lies in sockets and in the buffers of three processes' worth of servers, and then some.
ON_ITS_WAY_MAX = 16 * MEBIBYTE


def headers_of(shown: dict[str, Any]) -> dict[str, str]:
    return dict(shown["headers"])


class TestWhatIsPassedOn:
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def test_a_request_arrives_by_its_method_with_path_query_and_body(
        self, front: Front, method: str
    ) -> None:
        reply = await front.http.request(
            method, "/notebooks/echo/api/a%2Fb%20c?x=1&y=%2F", content=b"\x00\xff body"
        )

        shown = reply.json()
        assert reply.status_code == 200
        assert shown["method"] == method
        assert (shown["path"], shown["query"]) == ("/api/a%2Fb%20c", "x=1&y=%2F")
        assert shown["body"].encode("latin-1") == b"\x00\xff body"
        assert front.site.outcomes == [Outcome.ANSWERED]

    async def test_a_body_of_unknown_length_arrives_whole(self, front: Front) -> None:
        async def chunks() -> Any:
            for part in (b"one ", b"two ", b"three"):
                yield part

        shown = (await front.http.post("/services/echo/", content=chunks())).json()

        assert shown["body"] == "one two three"
        assert headers_of(shown)["transfer-encoding"] == "chunked"

    async def test_a_request_without_a_body_has_none(self, front: Front) -> None:
        shown = (await front.http.get("/notebooks/echo/")).json()

        assert shown["body"] == ""
        assert not {"content-length", "transfer-encoding"} & headers_of(shown).keys()

    async def test_an_empty_body_stays_one(self, front: Front) -> None:
        shown = (await front.http.post("/notebooks/echo/", content=b"")).json()

        assert headers_of(shown)["content-length"] == "0"

    async def test_a_body_that_the_site_has_read_arrives_all_the_same(self, front: Front) -> None:
        front.site.reads_body = True

        shown = (await front.http.post("/notebooks/echo/", content=b"signed")).json()

        assert front.site.bodies == [b"signed"]
        assert shown["body"] == "signed"

    async def test_the_program_learns_who_asks_and_under_which_name(self, front: Front) -> None:
        front.site.more = {"prefix": "/services/echo", "headers": {"X-Instance": "i-1"}}

        shown = (await front.http.get("/services/echo/", headers={"Host": "muster.test:99"})).json()

        told = headers_of(shown)
        assert told["host"] == "muster.test:99"
        assert told["x-forwarded-for"] == "127.0.0.1"
        assert told["x-forwarded-proto"] == "http"
        assert told["x-forwarded-host"] == "muster.test:99"
        assert told["x-forwarded-prefix"] == "/services/echo"
        assert told["x-instance"] == "i-1"

    async def test_what_a_client_claims_of_itself_is_replaced(self, front: Front) -> None:
        front.site.more = {"headers": {"Host": "program"}}
        # X-Forwarded-For is not among them: the server believes it of a proxy on its own machine.
        claims = {
            "X-Forwarded-Host": "evil.test",
            "Forwarded": "for=6.6.6.6",
            "X-Real-IP": "6.6.6.6",
        }

        shown = (await front.http.get("/notebooks/echo/", headers=claims)).json()

        assert not {"forwarded", "x-real-ip"} & headers_of(shown).keys()
        assert [value for name, value in shown["headers"] if name == "host"] == ["program"]
        assert headers_of(shown)["x-forwarded-host"] == f"127.0.0.1:{front.port}"

    async def test_what_lets_one_call_muster_never_reaches_a_program(self, front: Front) -> None:
        secrets = {
            "X-Auth-Token": "secret-1",
            "X-Security-Token": "secret-2",
            "X-Subject-Token": "secret-3",
            "Authorization": "SDK-HMAC-SHA256 Access=secret-4",
            "Cookie": "a=1; muster-notebook=secret-5; b=2",
        }

        shown = (await front.http.get("/notebooks/echo/", headers=secrets)).json()

        assert "secret" not in str(shown)
        assert headers_of(shown)["cookie"] == "a=1; b=2"

    async def test_the_programs_own_login_reaches_it(self, front: Front) -> None:
        own = {"Authorization": "token abc", "Cookie": "session=1"}

        shown = (await front.http.get("/notebooks/echo/", headers=own)).json()

        told = headers_of(shown)
        assert (told["authorization"], told["cookie"]) == ("token abc", "session=1")

    async def test_what_concerns_one_connection_stays_with_it(self, front: Front) -> None:
        hops = {"Connection": "close, X-Mine", "X-Mine": "1", "Keep-Alive": "9", "TE": "trailers"}

        shown = (await front.http.get("/notebooks/echo/", headers=hops)).json()

        assert not {"connection", "x-mine", "keep-alive", "te"} & headers_of(shown).keys()

    async def test_a_large_body_passes_both_ways(self, front: Front) -> None:
        data = os.urandom(8 * MEBIBYTE)

        async def echo(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                message = await receive()
                body, more = message.get("body", b""), message.get("more_body", False)
                await send({"type": "http.response.body", "body": body, "more_body": more})
                if not more:
                    return

        async with serving(echo) as (_, port):
            front.site.programs["mirror"] = [port]
            reply = await front.http.put("/notebooks/mirror/x", content=data)

        assert reply.content == data


class TestWhatComesBack:
    async def test_status_and_headers_come_back_also_twice_the_same(self, front: Front) -> None:
        answer = (
            b"HTTP/1.1 207 Multi-Status\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"X-Thing: \xe9\r\nContent-Length: 2\r\nDate: yesterday\r\n\r\nhi"
        )
        async with program_of(answering(answer)) as port:
            front.site.programs["p"] = [port]
            reply = await front.http.get("/notebooks/p/")

        assert (reply.status_code, reply.content) == (207, b"hi")
        assert reply.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert (b"x-thing", b"\xe9") in [(n.lower(), v) for n, v in reply.headers.raw]
        assert len(reply.headers.get_list("date")) == 1
        assert reply.headers["date"] != "yesterday"
        assert reply.headers["x-request-id"]

    async def test_a_program_cannot_set_musters_own_cookies(self, front: Front) -> None:
        answer = (
            b"HTTP/1.1 200 OK\r\nSet-Cookie: muster-notebook=mine\r\nSet-Cookie: x=1\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        front.site.more = {"reply_headers": (("Set-Cookie", "muster-notebook=true; HttpOnly"),)}
        async with program_of(answering(answer)) as port:
            front.site.programs["p"] = [port]
            reply = await front.http.get("/notebooks/p/")

        assert reply.headers.get_list("set-cookie") == ["x=1", "muster-notebook=true; HttpOnly"]

    @pytest.mark.parametrize(
        ("location", "expected"),
        [
            ("/login", "/services/p/login"),
            ("/services/p/login", "/services/p/login"),
            ("next", "next"),
            ("//other.test/x", "//other.test/x"),
            ("https://other.test/x", "https://other.test/x"),
            ("http://muster.test/docs/", "/services/p/docs/"),
            ("http://muster.test", "/services/p/"),
        ],
    )
    async def test_a_redirect_to_its_own_paths_stays_under_its_prefix(
        self, front: Front, location: str, expected: str
    ) -> None:
        answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        front.site.more = {"prefix": "/services/p"}
        async with program_of(answering(answer.encode())) as port:
            front.site.programs["p"] = [port]
            reply = await front.http.get("/services/p/", headers={"Host": "muster.test"})

        assert reply.headers["location"] == expected

    @pytest.mark.parametrize(
        ("method", "answer", "status"),
        [
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 200),
            ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204),
            ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 9\r\n\r\n', 304),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        ],
    )
    async def test_an_answer_without_a_body_ends_at_once_and_the_next_follows(
        self, front: Front, method: str, answer: bytes, status: int
    ) -> None:
        async with program_of(answering(answer)) as port:
            front.site.programs["p"] = [port]
            replies = [await front.http.request(method, "/notebooks/p/") for _ in range(2)]

        assert [(reply.status_code, reply.content) for reply in replies] == [(status, b"")] * 2
        assert front.site.outcomes == [Outcome.ANSWERED] * 2

    async def test_the_length_that_a_head_tells_is_told(self, front: Front) -> None:
        async with program_of(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")) as port:
            front.site.programs["p"] = [port]
            reply = await front.http.head("/notebooks/p/")

        assert reply.headers["content-length"] == "7"

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nonetwo",
            b"HTTP/1.0 200 OK\r\n\r\nonetwo",
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nonetwo",
        ],
    )
    async def test_a_body_comes_back_however_its_end_is_told(
        self, front: Front, answer: bytes
    ) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            reply = await front.http.get("/notebooks/p/")

        assert (reply.status_code, reply.content) == (200, b"onetwo")
        assert front.site.outcomes == [Outcome.ANSWERED]

    async def test_each_event_arrives_before_the_next_is_sent(self, front: Front) -> None:
        arrived = asyncio.Event()

        async def events(_scope: Any, _receive: Any, send: Any) -> None:
            content_type = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": content_type})
            for number in range(3):
                body = b"data: %d\n\n" % number
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await arrived.wait()
                arrived.clear()
            await send({"type": "http.response.body", "body": b""})

        seen = []
        async with serving(events) as (_, port):
            front.site.programs["p"] = [port]
            async with (
                asyncio.timeout(DEADLINE_SECONDS),
                front.http.stream("GET", "/services/p/") as reply,
            ):
                assert reply.headers["content-type"] == "text/event-stream"
                async for chunk in reply.aiter_raw():
                    seen.append(chunk)
                    arrived.set()

        assert seen == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]

    async def test_a_client_that_waits_for_100_gets_it(self, front: Front) -> None:
        reader, writer = await front.send_raw(
            b"PUT /notebooks/echo/x HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            answer = await reader.read()
        writer.close()

        assert b'"body": "body"' in answer
        assert b"expect" not in answer

    async def test_a_refusal_comes_before_the_body_was_asked_for(self, front: Front) -> None:
        front.site.refusal = Forbidden("No.")

        answer = await front.ask_raw(
            b"PUT /notebooks/echo/x HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n"
        )

        assert answer.startswith(b"HTTP/1.1 403")

    async def test_an_answer_that_comes_before_the_body_has_ended_arrives(
        self, front: Front
    ) -> None:
        answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
        async with program_of(answering(answer)) as port:
            front.site.programs["p"] = [port]
            reader, writer = await front.send_raw(
                b"PUT /notebooks/p/ HTTP/1.1\r\nHost: m\r\nContent-Length: 1000\r\n\r\nfirst"
            )
            async with asyncio.timeout(DEADLINE_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(3) == b"big"
            writer.close()

        assert head.startswith(b"HTTP/1.1 413")


class TestWhatDoesNotPass:
    async def test_the_sites_refusal_is_the_answer(self, front: Front) -> None:
        front.site.refusal = Forbidden("You may not.")

        reply = await front.http.get("/notebooks/echo/")

        assert reply.status_code == 403
        assert reply.json() == {"error_code": "ModelArts.0108", "error_msg": "You may not."}
        assert front.site.outcomes == []

    async def test_a_browser_is_sent_elsewhere(self, front: Front) -> None:
        front.site.redirect = Redirected(
            location="/notebooks/echo/lab", reply_headers=(("Set-Cookie", "muster=1"),)
        )

        reply = await front.http.get("/notebooks/echo/?token=x")

        assert (reply.status_code, reply.headers["location"]) == (302, "/notebooks/echo/lab")
        assert reply.headers["set-cookie"] == "muster=1"

    @pytest.mark.parametrize("id_", ["", "a%2Fb", "..", "a.b", "x" * 65, "a b"])
    async def test_what_is_no_id_is_not_there(self, front: Front, id_: str) -> None:
        raw = f"GET /notebooks/{id_}/x HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
        answer = await front.ask_raw(raw.encode())

        assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
        assert front.site.asked == []

    @pytest.mark.parametrize(
        "path",
        [
            "/../../v1/p/training-jobs",
            "/..",
            "/a/../b",
            "/./b",
            "/%2e%2e/x",
            "/%2E%2e%2fx",
            "/..%2F..%2Fv1",
            "/a%5c..%5cb",
            "/..\\..\\x",
            "/..;/x",
            "/%2e%2e%3bx/y",
        ],
    )
    async def test_a_path_that_climbs_reaches_nothing(self, front: Front, path: str) -> None:
        raw = f"GET /notebooks/echo{path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
        answer = await front.ask_raw(raw.encode())

        assert answer.startswith(b"HTTP/1.1 400")
        assert front.site.outcomes in ([], [Outcome.REFUSED])

    @pytest.mark.parametrize("path", ["/.hidden", "/a..b", "/...", "/%252e%252e/x", "/a%2fb"])
    async def test_a_path_that_only_looks_so_arrives_as_it_is(
        self, front: Front, path: str
    ) -> None:
        raw = f"GET /notebooks/echo{path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
        answer = await front.ask_raw(raw.encode())

        assert answer.startswith(b"HTTP/1.1 200")
        assert f'"path": "{path}"'.encode() in answer

    @pytest.mark.parametrize("name", ["echo", "other"])
    async def test_only_the_program_of_the_id_is_asked(self, front: Front, name: str) -> None:
        async with program_of(answering(OK)) as port:
            front.site.programs["other"] = [port]
            reply = await front.http.get(f"/notebooks/{name}/x?next=/notebooks/other/")

        assert (reply.text == "ok") is (name == "other")

    async def test_a_header_with_a_line_break_is_refused(self, front: Front) -> None:
        answer = await front.ask_raw(
            b"GET /notebooks/echo/ HTTP/1.1\r\nHost: m\r\nX-A: 1\rX-B: 2\r\n"
            b"Connection: close\r\n\r\n"
        )

        assert answer.startswith(b"HTTP/1.1 400")
        assert front.site.outcomes == []

    async def test_a_length_and_chunks_together_are_refused(self, front: Front) -> None:
        answer = await front.ask_raw(
            b"POST /notebooks/echo/ HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /notebooks/echo/smuggled HTTP/1.1\r\n\r\n"
        )

        assert answer.startswith(b"HTTP/1.1 400")
        assert front.site.outcomes == []

    async def test_a_site_cannot_allow_more_than_the_server_does(self, front: Front) -> None:
        front.site.more = {"request_bytes_max": 2 * REQUEST_BYTES_MAX}

        answer = await front.ask_raw(
            b"PUT /notebooks/echo/ HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n"
            b"Expect: 100-continue\r\nConnection: close\r\n\r\n" % (REQUEST_BYTES_MAX + 1)
        )

        assert answer.startswith(b"HTTP/1.1 413")
        assert b"proxied_body_mib" in answer

    async def test_a_body_that_is_too_long_does_not_reach_the_program(self, front: Front) -> None:
        front.site.more = {"request_bytes_max": 10}

        reply = await front.http.post("/services/echo/", content=b"x" * 11)

        assert reply.status_code == 413
        assert "10 bytes" in reply.json()["error_msg"]
        assert front.site.outcomes == [Outcome.REFUSED]

    async def test_a_body_of_unknown_length_is_cut_where_it_is_too_long(self, front: Front) -> None:
        front.site.more = {"request_bytes_max": 10}

        async def chunks() -> Any:
            for _ in range(4):
                yield b"12345"

        reply = await front.http.post("/services/echo/", content=chunks())

        assert reply.status_code == 413
        assert front.site.outcomes == [Outcome.REFUSED]

    async def test_too_many_at_once_are_told_to_come_again(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "CONNECTIONS_MAX", 1)
        heard = asyncio.Event()
        goes_on = asyncio.Event()

        async def slow(_scope: Any, _receive: Any, send: Any) -> None:
            heard.set()
            await goes_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async with serving(slow) as (_, port):
            front.site.programs["p"] = [port]
            first = asyncio.create_task(front.http.get("/notebooks/p/"))
            await heard.wait()
            second = await front.http.get("/notebooks/p/")
            goes_on.set()
            assert (await first).status_code == 200
            third = await front.http.get("/notebooks/p/")

        assert (second.status_code, second.headers["retry-after"]) == (503, "2")
        assert third.status_code == 200


class TestProgramsThatFail:
    async def test_nobody_listens(self, front: Front) -> None:
        reply = await front.http.get(f"/notebooks/{NOWHERE}/")

        assert reply.status_code == 502
        assert "may still be starting" in reply.json()["error_msg"]
        assert set(front.site.outcomes) == {Outcome.UNREACHABLE}

    async def test_where_one_is_not_reached_another_is_asked(self, front: Front) -> None:
        front.site.programs["two"] = [
            front.site.programs[NOWHERE][0],
            front.site.programs["echo"][0],
        ]

        reply = await front.http.post("/services/two/", content=b"whole")

        assert reply.json()["body"] == "whole"
        assert front.site.outcomes == [Outcome.UNREACHABLE, Outcome.ANSWERED]

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"",
            b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_BYTES_MAX + 1),
            b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            b"HTTP/1.1 777 Odd\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    async def test_what_is_no_answer_is_a_bad_gateway(self, front: Front, answer: bytes) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            reply = await front.http.get("/notebooks/p/")

        assert reply.status_code == 502
        assert reply.json().keys() == {"error_code", "error_msg"}
        assert front.site.outcomes == [Outcome.BROKEN]

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n",
        ],
    )
    async def test_an_answer_that_breaks_off_is_cut_and_never_looks_whole(
        self, front: Front, answer: bytes
    ) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            with pytest.raises(httpx.RemoteProtocolError):
                await front.http.get("/notebooks/p/")

        assert front.site.outcomes == [Outcome.BROKEN]

    async def test_a_program_that_says_nothing_is_a_gateway_timeout(self, front: Front) -> None:
        front.site.more = {"answer_seconds": 0.05}
        ended = asyncio.Event()

        async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()
            ended.set()

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            reply = await front.http.post("/services/p/", content=b"x")
            async with asyncio.timeout(DEADLINE_SECONDS):
                await ended.wait()

        assert reply.status_code == 504
        assert "0.05 seconds" in reply.json()["error_msg"]
        assert front.site.outcomes == [Outcome.TIMED_OUT]

    async def test_an_answer_that_stops_is_cut(self, front: Front) -> None:
        front.site.more = {"answer_seconds": 0.05}
        async with program_of(
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        ) as port:
            front.site.programs["p"] = [port]
            with pytest.raises(httpx.RemoteProtocolError):
                await front.http.get("/notebooks/p/")

        assert front.site.outcomes == [Outcome.TIMED_OUT]

    async def test_an_idle_connection_that_the_program_has_closed_costs_nothing(
        self, front: Front
    ) -> None:
        """It promises to keep the connection, and drops it at the next request."""
        count = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            await reader.readuntil(b"\r\n\r\n")
            count += 1
            writer.write(OK)
            await reader.readuntil(b"\r\n\r\n")

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            replies = [await front.http.get("/notebooks/p/") for _ in range(3)]

        assert [reply.text for reply in replies] == ["ok"] * 3
        assert count == 3

    async def test_a_request_that_changes_something_is_never_sent_twice(self, front: Front) -> None:
        heard: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(OK)
            heard.append(await reader.readuntil(b"\r\n\r\n"))

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            await front.http.get("/notebooks/p/")
            reply = await front.http.post("/notebooks/p/", content=b"")

        assert reply.status_code == 502
        assert len([head for head in heard if head.startswith(b"POST")]) == 1

    async def test_what_a_program_sends_without_being_asked_is_nobodys_answer(
        self, front: Front
    ) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK + OK.replace(b"ok", b"no"))
            await reader.read()

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            replies = [await front.http.get("/notebooks/p/") for _ in range(2)]

        assert [reply.text for reply in replies] == ["ok", "ok"]


class TestConnections:
    @staticmethod
    async def count(front: Front, answer: bytes, method: str = "GET") -> int:
        """How many connections two requests take, one after the other."""
        connections = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await answering(answer)(reader, writer)

        async with program_of(script) as port:
            front.site.programs["p"] = [port]
            for _ in range(2):
                reply = await front.http.request(method, "/notebooks/p/")
                assert reply.status_code < 500
            front.proxied.close()
        return connections

    @pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
    async def test_requests_that_follow_each_other_share_one(
        self, front: Front, method: str
    ) -> None:
        answer = OK if method != "HEAD" else OK.removesuffix(b"ok")

        assert await self.count(front, answer, method) == 1

    async def test_a_program_that_closes_its_connection_gets_another(self, front: Front) -> None:
        closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"

        assert await self.count(front, closing) == 2

    async def test_one_that_idles_is_given_up(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
        ended = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            assert await reader.read() == b""
            ended.set()

        async with program_of(script) as port, asyncio.timeout(DEADLINE_SECONDS):
            front.site.programs["p"] = [port]
            assert (await front.http.get("/notebooks/p/")).text == "ok"
            await ended.wait()

    async def test_no_more_idle_than_so_many_are_kept(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "IDLE_MAX", 1)
        ended: asyncio.Queue[str] = asyncio.Queue()

        def script_of(name: str) -> Any:
            async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)
                await reader.read()
                ended.put_nowait(name)

            return script

        async with (
            program_of(script_of("first")) as first,
            program_of(script_of("second")) as second,
            asyncio.timeout(DEADLINE_SECONDS),
        ):
            front.site.programs |= {"first": [first], "second": [second]}
            await front.http.get("/notebooks/first/")
            await front.http.get("/notebooks/second/")
            assert await ended.get() == "first"


class TestPace:
    async def test_a_client_that_leaves_ends_the_request_to_the_program(self, front: Front) -> None:
        heard, ended = asyncio.Event(), asyncio.Event()

        async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            heard.set()
            assert await reader.read() == b""
            ended.set()

        async with program_of(script) as port, asyncio.timeout(DEADLINE_SECONDS):
            front.site.programs["p"] = [port]
            _, writer = await front.send_raw(b"GET /notebooks/p/ HTTP/1.1\r\nHost: m\r\n\r\n")
            await heard.wait()
            writer.close()
            await ended.wait()

        assert await front.site.outcome() is Outcome.CLIENT_LEFT

    async def test_a_client_that_leaves_in_the_middle_of_its_body_ends_it_too(
        self, front: Front
    ) -> None:
        received = bytearray()
        ended = asyncio.Event()

        async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            try:
                while chunk := await reader.read(1000):
                    received.extend(chunk)
            finally:
                ended.set()

        async with program_of(script) as port, asyncio.timeout(DEADLINE_SECONDS):
            front.site.programs["p"] = [port]
            _, writer = await front.send_raw(
                b"PUT /notebooks/p/ HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n\r\nhalf"
            )
            while b"half" not in received:  # noqa: ASYNC110 - until it has come through
                await asyncio.sleep(0.005)
            writer.close()
            await ended.wait()

        assert received.endswith(b"half")
        assert await front.site.outcome() is Outcome.CLIENT_LEFT

    async def test_a_slow_reader_slows_its_program_down_and_nobody_else(self, front: Front) -> None:
        written = 0

        async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
            while written < 1 << 30:
                writer.write(bytes(BUFFERED_BYTES_MAX))
                written += BUFFERED_BYTES_MAX
                await writer.drain()

        async with program_of(floods) as port, asyncio.timeout(DEADLINE_SECONDS):
            front.site.programs["p"] = [port]
            reader, writer = await front.send_raw(b"GET /notebooks/p/ HTTP/1.1\r\nHost: m\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            transport_of(writer).pause_reading()
            before = -1
            while before != written:
                before = written
                for _ in range(20):
                    # Others are answered meanwhile.
                    assert (await front.http.get("/notebooks/echo/")).status_code == 200
            assert written < ON_ITS_WAY_MAX
            transport_of(writer).resume_reading()
            await reader.readexactly(2 * ON_ITS_WAY_MAX)
            writer.close()

        assert written > ON_ITS_WAY_MAX

    async def test_waiting_for_the_client_is_not_the_programs_silence(self, front: Front) -> None:
        front.site.more = {"answer_seconds": 0.05}
        large = 2 * ON_ITS_WAY_MAX

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"whole")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % large)
            writer.write(bytes(large))
            await writer.drain()

        async def let_time_pass() -> None:
            until = asyncio.get_running_loop().time() + 0.1
            while asyncio.get_running_loop().time() < until:
                await front.http.get("/notebooks/echo/")

        async with program_of(script) as port, asyncio.timeout(DEADLINE_SECONDS):
            front.site.programs["p"] = [port]
            reader, writer = await front.send_raw(
                b"PUT /notebooks/p/ HTTP/1.1\r\nHost: m\r\nContent-Length: 5\r\n\r\nwh"
            )
            await let_time_pass()
            writer.write(b"ole")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            transport_of(writer).pause_reading()
            await let_time_pass()
            transport_of(writer).resume_reading()
            assert len(await reader.readexactly(large)) == large
            writer.close()

    async def test_a_body_that_stops_is_not_waited_for_for_ever(
        self, front: Front, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(forward, "BODY_SECONDS", 0.02)

        answer = await front.ask_raw(
            b"PUT /notebooks/echo/ HTTP/1.1\r\nHost: m\r\nContent-Length: 5\r\n"
            b"Connection: close\r\n\r\nwh"
        )

        assert answer.startswith(b"HTTP/1.1 400")
        assert b"0.02 seconds" in answer
        assert front.site.outcomes == [Outcome.REFUSED]

    async def test_a_program_that_reads_slowly_slows_its_client_down(self, front: Front) -> None:
        goes_on = asyncio.Event()
        received = 0

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal received
            await reader.readuntil(b"\r\n\r\n")
            await goes_on.wait()
            while received < 4 * ON_ITS_WAY_MAX:
                received += len(await reader.read(1 << 20))
            writer.write(OK)

        async with program_of(slow) as port, asyncio.timeout(DEADLINE_SECONDS):
            front.site.programs["p"] = [port]
            reader, writer = await front.send_raw(
                b"PUT /notebooks/p/ HTTP/1.1\r\nHost: m\r\nContent-Length: %d\r\n\r\n"
                % (4 * ON_ITS_WAY_MAX)
            )
            sent = 0

            async def send() -> None:
                nonlocal sent
                while sent < 4 * ON_ITS_WAY_MAX:
                    writer.write(bytes(MEBIBYTE))
                    sent += MEBIBYTE
                    await writer.drain()

            sending = asyncio.create_task(send())
            before = -1
            while before != sent:
                before = sent
                for _ in range(20):
                    assert (await front.http.get("/notebooks/echo/")).status_code == 200
            assert sent < ON_ITS_WAY_MAX
            goes_on.set()
            await sending
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()

        assert received == 4 * ON_ITS_WAY_MAX


async def test_a_site_that_is_in_use_under_two_names_is_one(front: Front) -> None:
    first = await front.http.get("/notebooks/echo/a")
    second = await front.http.get("/services/echo/b")

    assert [reply.json()["path"] for reply in (first, second)] == ["/a", "/b"]
