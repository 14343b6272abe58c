"""Signed requests to one project on one server, and what its refusals mean."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any, Final, NamedTuple, Self
from urllib.parse import quote

import httpx
import msgspec

from muster import __version__
from muster.client.errors import ApiError, ServerUnreachable
from muster.wire.credentials import Credentials
from muster.wire.signature import canonical_query, payload_hash, sign_headers

CONNECT_SECONDS_MAX: Final = 5.0
ANSWER_SECONDS_MAX: Final = 60.0
CHUNK_BYTES: Final = 1 << 20
ERROR_TEXT_MAX: Final = 300

JsonObject = dict[str, Any]
QueryValue = str | int | bool | Sequence[str | int] | None

# Neither a proxy nor anything else stands between this machine and itself.
_NO_PROXY: Final[Mapping[str, None]] = {"all://127.0.0.1": None, "all://localhost": None}


class Connection:
    """One project on one server. Every request is signed with the access key.

    Answers are the server's own JSON. Every method raises `ServerUnreachable` when nothing answers,
    and `ApiError` when the server says no.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        transport: httpx.BaseTransport | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.credentials = credentials
        self._now = now
        self._http = httpx.Client(
            base_url=credentials.url,
            timeout=httpx.Timeout(ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
            transport=transport,
            mounts=_NO_PROXY if transport is None else None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _v1(self, *segments: str | int) -> str:
        return "/".join(("/v1", self.credentials.project_id, *map(segment, segments)))

    def _v2(self, *segments: str | int) -> str:
        return "/".join(("/v2", self.credentials.project_id, *map(segment, segments)))

    def _own(self, *segments: str | int) -> str:
        """What no other platform has."""
        return "/".join(("/muster/v1", self.credentials.project_id, *map(segment, segments)))

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> JsonObject:
        content = b"" if body is None else msgspec.json.encode(body)
        return self._json_of(self._send(method, path, query=query, body=content))

    def _json_of(self, response: httpx.Response) -> JsonObject:
        try:
            return msgspec.json.decode(response.content, type=JsonObject)
        except msgspec.DecodeError as error:
            raise ApiError(
                status=response.status_code,
                code="",
                message=f"{self.credentials.url} answered something that is not of this API:"
                f" {_excerpt(response.text)}",
                request_id=_request_id(response),
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: "bytes | FileBody | TypedBody" = b"",
    ) -> httpx.Response:
        with self._stream(method, path, query=query, body=body) as response:
            response.read()
            return response

    @contextmanager
    def _stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: "bytes | FileBody | TypedBody" = b"",
    ) -> Iterator[httpx.Response]:
        request = self._signed_request(method, path, query or {}, body)
        with self._told_in_our_words():
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    raise _api_error(response)
                yield response
            finally:
                response.close()

    def _signed_request(
        self,
        method: str,
        path: str,
        query: Mapping[str, QueryValue],
        body: "bytes | FileBody | TypedBody",
    ) -> httpx.Request:
        headers = {
            "user-agent": f"muster/{__version__}",
            "x-project-id": self.credentials.project_id,
        }
        content: bytes | IO[bytes]
        match body:
            case TypedBody(content, content_type):
                headers["content-type"] = content_type
                digest = payload_hash(content)
                # So that the server passes it on as it comes, however long it is.
                headers["x-sdk-content-sha256"] = digest
            case FileBody(content, digest):
                headers["content-type"] = "application/octet-stream"
                headers["x-sdk-content-sha256"] = digest
            case content:
                headers["content-type"] = "application/json"
                digest = payload_hash(content)
        text = canonical_query(_pairs(query))
        request = self._http.build_request(
            method, f"{path}?{text}" if text else path, headers=headers, content=content
        )
        # What httpx made of the URL is what goes out, so it is what is signed.
        raw_path, _, raw_query = request.url.raw_path.decode("ascii").partition("?")
        request.headers.update(
            sign_headers(
                self.credentials.access_key,
                self.credentials.secret_key,
                method=method,
                raw_path=raw_path,
                query=raw_query,
                headers=headers | {"host": request.headers["host"]},
                payload_hash=digest,
                now=self._now(),
            )
        )
        return request

    @contextmanager
    def _told_in_our_words(self) -> Iterator[None]:
        url = self.credentials.url
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServerUnreachable(
                f"No server answers at {url}. Start one with `muster serve`, or name another"
                " with MUSTER_URL."
            ) from error
        except httpx.TimeoutException as error:
            raise ServerUnreachable(
                f"The server at {url} has not answered for {ANSWER_SECONDS_MAX:.0f} s. Try again;"
                " its log may tell why."
            ) from error
        except httpx.HTTPError as error:
            raise ServerUnreachable(
                f"The server at {url} broke off: {error}. Try again; its log may tell why."
            ) from error


class TypedBody(NamedTuple):
    content: bytes
    content_type: str


class FileBody(NamedTuple):
    content: IO[bytes]
    sha256: str


def segment(value: str | int) -> str:
    return quote(str(value), safe="~")


def _pairs(query: Mapping[str, QueryValue]) -> Iterable[tuple[str, str]]:
    for name, value in query.items():
        if value is None:
            continue
        if isinstance(value, bool):
            yield name, str(value).lower()
        elif isinstance(value, str | int):
            yield name, str(value)
        else:
            yield from ((name, str(item)) for item in value)


class _Refusal(msgspec.Struct):
    """Every shape in which the API says no, v1, v2 and Keystone, laid over one another."""

    error_code: str = ""
    error_message: str = ""
    error_msg: str = ""
    error: dict[str, Any] = {}


def _api_error(response: httpx.Response) -> ApiError:
    try:
        refusal = msgspec.json.decode(response.content, type=_Refusal)
    except msgspec.DecodeError:
        refusal = _Refusal()
    message = (
        refusal.error_message
        or refusal.error_msg
        or str(refusal.error.get("message", ""))
        or _excerpt(response.text)
        or response.reason_phrase
    )
    return ApiError(
        status=response.status_code,
        code=refusal.error_code,
        message=message,
        request_id=_request_id(response),
    )


def _request_id(response: httpx.Response) -> str:
    return str(response.headers.get("x-request-id", ""))


def _excerpt(text: str) -> str:
    return " ".join(text.split())[:ERROR_TEXT_MAX]
