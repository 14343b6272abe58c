"""What of a path and of headers is passed on: the rules alone."""

import posixpath
from contextlib import suppress
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.errors import InvalidRequest
from muster.proxy.headers import check_target, reply_headers, request_head, request_headers
from muster.proxy.upstream import Upstream

CLIMBING = st.lists(
    st.sampled_from(
        ["/", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", ";", "a", "%", "%25", "%00"]
    ),
    max_size=12,
).map("".join)


def upstream(path: str = "/", query: str = "") -> Upstream:
    return Upstream(host="127.0.0.1", port=1, path=path, query=query)


@given(CLIMBING)
def test_what_passes_stays_below_what_it_is_put_under_however_a_program_reads_it(tail: str) -> None:
    path = f"/base/{tail}"
    with suppress(InvalidRequest):
        check_target(upstream(path))

        for text in (path, unquote(path), unquote(path).replace("\\", "/")):
            below = posixpath.normpath("/".join(part.partition(";")[0] for part in text.split("/")))
            assert below == "/base" or below.startswith("/base/")


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=20))
def test_no_text_breaks_out_of_the_request_line(text: str) -> None:
    target = upstream("/" + text, text)
    with suppress(InvalidRequest):
        check_target(target)

        line, _, rest = request_head("GET", target, [], b"").partition(b"\r\n")
        assert (line.count(b" "), rest) == (2, b"\r\n")


@pytest.mark.parametrize("path", ["", "x", "http://other/", "/a b", "/a\nb", "/a#b", "/a\x7f"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest):
        check_target(upstream(path))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"cookie", b"x-auth-token", b"authorization", b"x-other"]),
            st.sampled_from(
                [
                    b"muster=SECRET",
                    b"a=1; muster-x=SECRET;b=2",
                    b" muster=SECRET",
                    b"SDK-HMAC-SHA256 SECRET",
                ]
            ),
        )
    )
)
def test_no_order_of_headers_lets_a_secret_pass(headers: list[tuple[bytes, bytes]]) -> None:
    secret = [
        (name, value)
        for name, value in headers
        if name != b"x-other"
        and (name != b"cookie" or b"muster" in value)
        and (name != b"authorization" or value.startswith(b"SDK"))
    ]

    passed = request_headers(secret, upstream(), client="10.0.0.1", scheme="https")

    assert not [value for _, value in passed if b"SECRET" in value and b"SDK" not in value]
    assert not [value for name, value in passed if name == b"authorization"]
    assert (b"x-forwarded-proto", b"https") in passed


def test_a_length_beside_chunks_is_not_passed_back() -> None:
    headers = [(b"transfer-encoding", b"chunked"), (b"content-length", b"5"), (b"etag", b"x")]

    assert reply_headers(200, headers, upstream(), host=b"m") == [(b"etag", b"x")]


def test_a_header_with_a_line_break_of_our_own_making_is_a_mistake_of_ours() -> None:
    target = Upstream(host="h", port=1, path="/", headers={"X-A": "1\r\nX-B: 2"})

    with pytest.raises(AssertionError, match="line break"):
        request_headers([], target, client="", scheme="http")
