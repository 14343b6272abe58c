from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.errors import SignatureMalformed
from muster.wire.signature import (
    EMPTY_HASH,
    Authorization,
    canonical_path,
    canonical_query,
    canonical_request,
    is_signature,
    is_signed_by,
    parse_authorization,
    parse_sdk_date,
    payload_hash,
    query_candidates,
    sign_headers,
    signature,
)

ACCESS_KEY = "AKIDEXAMPLE0001"
SECRET_KEY = "s3cr3t/Example+Key=="  # noqa: S105 - published with the vectors
PROJECT = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
SIGNED_HEADERS = "content-type;host;user-agent;x-project-id;x-sdk-date"
HEADERS = {
    "content-type": "application/json",
    "host": "127.0.0.1:8080",
    "user-agent": "huaweicloud-usdk-python/3.0",
    "x-project-id": PROJECT,
    "x-sdk-date": "20261120T203000Z",
}

VECTORS = {
    "query": (
        "GET",
        f"/v2/{PROJECT}/pools/pool-a1/workloads",
        "ascend=true&name=my%20job%20%C3%BC%2F%20%E5%90%8D%2B~%2A"
        "&sort=create_time&status=Running&type=infer&type=train",
        b"",
        "66f04bf8153b50cb889356e270fbb0082841934e9bbeba804a9b008988bf8f37",
        "de308f692628c41303e30297771c0346212ec8c5dec151512af4b3a2b5ab1be3",
    ),
    "body": (
        "POST",
        f"/v2/{PROJECT}/training-jobs",
        "",
        rb'{"kind": "job", "metadata": {"name": "j\u00f6b-1"}, '
        rb'"spec": {"resource": {"node_count": 1}}}',
        "0610627ceee5a98600f04d75a8c1cef12c6c290a9289866bbd03e319f07a0b5b",
        "3d091ad55bde28419953ddfb6c7da4d05aed95b52c8cce7699c273899ec00af2",
    ),
    "path": (
        "DELETE",
        f"/v1/{PROJECT}/workspaces/team%20a%2F%C3%BCnit%2B1%2A~",
        "",
        b"",
        "c1638be14d6af532be9db57a4e354c5bb9f0f93f5b6ce1faa005aede315849f5",
        "416556d21fd111d02c77cfd40779cfc06d5b262c9313bca559cb8b3959432ff4",
    ),
}


def authorization_value(signature_hex: str, signed_headers: str = SIGNED_HEADERS) -> str:
    return (
        f"SDK-HMAC-SHA256 Access={ACCESS_KEY}, SignedHeaders={signed_headers},"
        f" Signature={signature_hex}"
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "canonical_hash", "expected"),
    VECTORS.values(),
    ids=VECTORS,
)
def test_the_known_answers_come_out_to_the_letter(
    method: str, path: str, query: str, body: bytes, canonical_hash: str, expected: str
) -> None:
    authorization = parse_authorization(authorization_value(expected))
    body_hash = payload_hash(body)

    canonical = canonical_request(
        method, path, query, HEADERS.get, authorization.signed_headers, body_hash
    )

    assert sha256(canonical.encode()).hexdigest() == canonical_hash
    assert signature(SECRET_KEY, HEADERS["x-sdk-date"], canonical) == expected
    assert is_signed_by(
        SECRET_KEY,
        authorization,
        method=method,
        raw_path=path,
        query=query,
        header=HEADERS.get,
        payload_hash=body_hash,
    )
    made = sign_headers(
        ACCESS_KEY,
        SECRET_KEY,
        method=method,
        raw_path=path,
        query=query,
        headers={name.title(): value for name, value in HEADERS.items()},
        payload_hash=body_hash,
        now=datetime(2026, 11, 20, 20, 30, tzinfo=UTC),
    )
    assert made == {
        "x-sdk-date": HEADERS["x-sdk-date"],
        "authorization": authorization_value(expected),
    }


def test_the_body_of_the_known_answer_has_the_known_hash() -> None:
    body = VECTORS["body"][3]

    assert payload_hash(body) == "26eee285b5988053b0eb8cff600570bd73bd280d0df9cabb70a89e605d325b0c"


def test_the_canonical_request_reads_line_by_line_as_published() -> None:
    method, path, query, body, *_ = VECTORS["path"]

    canonical = canonical_request(
        method, path, query, HEADERS.get, SIGNED_HEADERS.split(";"), payload_hash(body)
    )

    assert canonical.split("\n") == [
        "DELETE",
        f"/v1/{PROJECT}/workspaces/team%20a/%C3%BCnit%2B1%2A~/",
        "",
        "content-type:application/json",
        "host:127.0.0.1:8080",
        "user-agent:huaweicloud-usdk-python/3.0",
        f"x-project-id:{PROJECT}",
        "x-sdk-date:20261120T203000Z",
        "",
        SIGNED_HEADERS,
        EMPTY_HASH,
    ]


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        ("GET", b"", "cfb4171acec81de07d50e53d57eb77edd537414d66ddb1d7d780f128e12cd842"),
        (
            "POST",
            b'{"name":"test","id":1}',
            "436b1ac0a1ae03705934bb70ef2f2e09f7bfed2117d731a38235053199323a1f",
        ),
    ],
)
def test_the_check_vectors_of_the_contract_come_out(
    method: str, body: bytes, expected: str
) -> None:
    made = sign_headers(
        "AccessKey",
        "SecretKey",
        method=method,
        raw_path="/resources",
        query="size=1",
        headers={"Host": "service.endpoint.myhuaweicloud.com", "under_score": "unsigned"},
        payload_hash=payload_hash(body),
        now=datetime(2020, 6, 8, 2, 39, tzinfo=UTC),
    )

    assert made["authorization"] == (
        f"SDK-HMAC-SHA256 Access=AccessKey, SignedHeaders=host;x-sdk-date, Signature={expected}"
    )


# What is put together on both sides, and where they could differ.


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", "/"),
        ("/", "/"),
        ("/v1/p/jobs", "/v1/p/jobs/"),
        ("/v1/p/jobs/", "/v1/p/jobs/"),
        ("/a%2fb", "/a/b/"),
        ("/a%2Fb%2F", "/a/b/"),
        ("/a b", "/a%20b/"),
        ("/a+b:c@d!", "/a%2Bb%3Ac%40d%21/"),
        ("/%7e~-_.", "/~~-_./"),
        ("/%c3%bc", "/%C3%BC/"),
        ("/100%25", "/100%25/"),
        ("/%252F", "/%252F/"),
    ],
)
def test_a_path_is_decoded_once_and_encoded_again(raw: str, expected: str) -> None:
    assert canonical_path(raw) == expected


def test_a_query_is_sorted_on_its_decoded_text() -> None:
    pairs = [("b", "é"), ("b", "z"), ("a/", "1"), ("a.", "1"), ("c", "")]

    assert canonical_query(pairs) == "a.=1&a%2F=1&b=z&b=%C3%A9&c="


def test_the_raw_query_is_tried_before_the_sorted_one() -> None:
    assert list(query_candidates("")) == [""]
    assert list(query_candidates("a=1&b=2")) == ["a=1&b=2"]
    assert list(query_candidates("b=2&a=%2f&&c")) == ["b=2&a=%2f&&c", "a=%2F&b=2&c="]


def test_the_hash_of_nothing_stands_even_beside_a_content_header() -> None:
    assert payload_hash(b"", "UNSIGNED-PAYLOAD") == EMPTY_HASH
    assert payload_hash(b"x", "UNSIGNED-PAYLOAD") == "UNSIGNED-PAYLOAD"
    assert payload_hash(b"x", sha256(b"x").hexdigest()) == sha256(b"x").hexdigest()
    assert payload_hash(b"x", sha256(b"x").hexdigest().upper()) == sha256(b"x").hexdigest().upper()


def test_the_hash_of_another_body_is_refused() -> None:
    with pytest.raises(SignatureMalformed, match="not the hash of the body"):
        payload_hash(b"swapped on the way", sha256(b"x").hexdigest())


def test_blanks_around_a_header_do_not_count_but_bytes_that_look_like_blanks_do() -> None:
    # As a server hands it out: the UTF-8 bytes of "voilà" read as Latin-1 end in U+00A0.
    wire = "voilà".encode().decode("latin-1")

    canonical = canonical_request("GET", "/", "", {"a": f" \t{wire} "}.get, ["a"], EMPTY_HASH)

    assert f"\na:{wire}\n" in canonical


# Headers that are refused.


@pytest.mark.parametrize(
    "value",
    [
        "",
        "SDK-HMAC-SHA256",
        "SDK-HMAC-SHA256 ",
        "Bearer abc",
        authorization_value("0" * 63),
        authorization_value("0" * 65),
        authorization_value("G" * 64),
        authorization_value("A" * 64),
        authorization_value("0" * 64) + " ",
        authorization_value("0" * 64) + "\n",
        authorization_value("0" * 64, "host"),
        authorization_value("0" * 64, "x-sdk-date"),
        authorization_value("0" * 64, ""),
        authorization_value("0" * 64, "host;;x-sdk-date"),
        authorization_value("0" * 64, "Host;X-Sdk-Date"),
        authorization_value("0" * 64, "host;x-sdk-date;" + ";".join("a" * n for n in range(1, 70))),
        authorization_value("0" * 64).replace("SHA256", "SM3"),
        authorization_value("0" * 64).replace("SDK-HMAC", "V11-HMAC"),
        authorization_value("0" * 64).replace("Access=", "Credential="),
        authorization_value("0" * 64).replace(ACCESS_KEY, ""),
        authorization_value("0" * 64).replace(ACCESS_KEY, "k" * 129),
    ],
)
def test_a_malformed_authorization_is_refused(value: str) -> None:
    with pytest.raises(SignatureMalformed):
        parse_authorization(value)


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fail_otherwise(value: str) -> None:
    for text in (value, f"SDK-HMAC-SHA256 {value}", f"SDK-HMAC-SHA256 Access={value}"):
        with pytest.raises(SignatureMalformed):
            parse_authorization(text)


def test_only_signatures_are_taken_for_signatures() -> None:
    assert is_signature("SDK-HMAC-SHA256 Access=a")
    assert is_signature("SDK-HMAC-SM3 Access=a")
    assert is_signature("V11-HMAC-SHA256 Credential=a")
    assert not is_signature("Basic YTpi")
    assert not is_signature("Bearer abc")


def test_a_signed_header_that_is_missing_is_refused() -> None:
    authorization = Authorization(ACCESS_KEY, ("host", "x-extra", "x-sdk-date"), "0" * 64)

    with pytest.raises(SignatureMalformed, match="x-extra"):
        verify(authorization, "GET", "/", "", HEADERS, EMPTY_HASH)
    with pytest.raises(SignatureMalformed, match="x-sdk-date"):
        verify(authorization, "GET", "/", "", {"host": "h"}, EMPTY_HASH)


def test_what_no_http_message_can_carry_is_refused() -> None:
    authorization = Authorization(ACCESS_KEY, ("host", "x-sdk-date"), "0" * 64)
    headers = HEADERS | {"host": "名"}

    with pytest.raises(SignatureMalformed, match="plain bytes"):
        verify(authorization, "GET", "/", "", headers, EMPTY_HASH)


@pytest.mark.parametrize(
    "value",
    ["", "20261120", "20261120T203000", "2026-11-20T20:30:00Z", "20260231T000000Z", "٢" * 15],
)
def test_a_date_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(SignatureMalformed, match="X-Sdk-Date"):
        parse_sdk_date(value)


def test_a_date_is_read_as_utc() -> None:
    assert parse_sdk_date("20261120T203000Z") == datetime(2026, 11, 20, 20, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "PUT"},
        {"raw_path": "/v1/other"},
        {"query": "a=1&b=3"},
        {"headers": HEADERS | {"host": "127.0.0.1:8081"}},
        {"payload_hash": payload_hash(b"other")},
        {"secret_key": "another"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_is_changed_on_the_way_breaks_the_signature(changed: dict[str, Any]) -> None:
    request: dict[str, Any] = {
        "method": "POST",
        "raw_path": "/v1/p",
        "query": "a=1&b=2",
        "headers": HEADERS,
        "payload_hash": payload_hash(b"{}"),
    }
    made = sign_headers(
        ACCESS_KEY, SECRET_KEY, now=datetime(2026, 11, 20, 20, 30, tzinfo=UTC), **request
    )
    authorization = parse_authorization(made["authorization"])

    assert verify(authorization, **request)
    assert not verify(authorization, **(request | changed))


def verify(
    authorization: Authorization,
    method: str,
    raw_path: str,
    query: str,
    headers: Mapping[str, str],
    payload_hash: str,
    secret_key: str = SECRET_KEY,
) -> bool:
    return is_signed_by(
        secret_key,
        authorization,
        method=method,
        raw_path=raw_path,
        query=query,
        header=headers.get,
        payload_hash=payload_hash,
    )


# Random requests: ours verify, and so do those of the cloud's own SDK.

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)
segments = st.text(st.characters(codec="utf-8"), max_size=12)
methods = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
wire_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
header_names = st.from_regex(r"X-[A-Za-z0-9.-]{1,12}", fullmatch=True)
times = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - the time zone is given below
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(
    method=methods,
    path=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30),
    pairs=st.lists(st.tuples(texts, texts), max_size=4),
    headers=st.dictionaries(header_names, wire_values, max_size=3),
    body=st.binary(max_size=20),
    now=times,
)
def test_what_our_client_signs_is_verified_by_our_server(
    method: str,
    path: str,
    pairs: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    now: datetime,
) -> None:
    sent = {name.lower(): value for name, value in headers.items()} | {"host": "h:1"}
    query = canonical_query(pairs)

    sent |= sign_headers(
        ACCESS_KEY,
        SECRET_KEY,
        method=method,
        raw_path=f"/{path}",
        query=query,
        headers=sent,
        payload_hash=payload_hash(body),
        now=now,
    )

    authorization = parse_authorization(sent["authorization"])
    assert authorization.access_key == ACCESS_KEY
    assert verify(authorization, method, f"/{path}", query, sent, payload_hash(body))
    assert parse_sdk_date(sent["x-sdk-date"]) == now.replace(microsecond=0)


query_values = st.one_of(
    texts, st.booleans(), st.integers(), st.lists(st.integers(0, 200), min_size=1, max_size=4)
)


@given(
    method=methods,
    path=st.lists(segments, min_size=1, max_size=4),
    pairs=st.dictionaries(texts.filter(bool), query_values, max_size=4),
    headers=st.dictionaries(header_names, texts, max_size=3),
    body=st.one_of(st.just(b""), st.binary(max_size=20)),
    content_type=st.sampled_from(
        ["application/json", "application/json;charset=utf-8", "text/csv"]
    ),
)
def test_what_the_cloud_sdk_signs_is_verified_by_our_server(
    method: str,
    path: list[str],
    pairs: dict[str, Any],
    headers: dict[str, str],
    body: bytes,
    content_type: str,
) -> None:
    raw_path = "/" + "/".join(map(canonical_segment, path))
    request = SdkRequest(
        method=method,
        schema="http",
        host="127.0.0.1:8080",
        resource_path=raw_path,
        query_params=list(pairs.items()),
        header_params={
            **headers,
            "Content-Type": content_type,
            "X-Sdk-Date": HEADERS["x-sdk-date"],
            "not_signed": "x",
        },
        body=body,
    )

    signed = Signer(SimpleNamespace(ak=ACCESS_KEY, sk=SECRET_KEY)).sign(request)

    wire_path, _, wire_query = signed.uri.partition("?")
    received = {name.lower(): value for name, value in signed.header_params.items()}
    authorization = parse_authorization(received["authorization"])
    body_hash = payload_hash(body, received.get("x-sdk-content-sha256"))
    assert verify(authorization, method, wire_path, wire_query, received, body_hash)


def canonical_segment(segment: str) -> str:
    return canonical_query([(segment, "")]).removesuffix("=")
