"""What of a request and its answer is passed on. Pure: headers in, headers out.

Source: RFC 9110, sections 7.6 (what concerns one connection only) and 10.2.2 (Location); RFC 6265.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote

from muster.domain.errors import InvalidRequest
from muster.proxy.connection import Headers
from muster.proxy.upstream import Upstream

# Cookies of this name, and what begins so, are muster's own: no program sees or sets one.
COOKIE_PREFIX: Final = "muster"

_SIGNATURE: Final = b"SDK-HMAC-SHA256"  # an Authorization of another kind is the program's
_OF_A_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_ASKED: Final = _OF_A_CONNECTION | {
    b"content-length",  # is put where the body's end is told
    b"expect",  # the server has answered it
    b"forwarded",  # whatever a client says of itself; what is true is added
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-auth-token",  # who has these can call muster in the caller's name
    b"x-security-token",
    b"x-subject-token",
}
_NOT_OF_A_WEBSOCKET: Final = frozenset(
    {
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
    }
)
# The server adds these by itself.
_NOT_ANSWERED: Final = _OF_A_CONNECTION | {b"date", b"x-request-id"}

_NO_BODY: Final = frozenset({204, 304})
_NOT_IN_A_TARGET: Final = re.compile(r"[^!-~\x80-\xff]|#")
_SEPARATOR: Final = re.compile(r"[/\\]")
_NOT_IN_A_HEADER: Final = re.compile(r"[\x00-\x1f\x7f]")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


def check_target(upstream: Upstream) -> None:
    """Refuse a path that climbs out of what it is under, whichever way it is written.

    Raises:
        InvalidRequest: names the part.
    """
    for segment in upstream.path.split("/"):
        if "." not in segment and "%" not in segment:
            continue
        # A program may decode `%2f`, split at a backslash, or drop what follows a semicolon.
        for part in _SEPARATOR.split(unquote(segment)):
            if part.partition(";")[0] in (".", ".."):
                raise InvalidRequest(
                    f"The path has the part {segment!r}; leave out '.' and '..', encoded ones too."
                )
    if not upstream.path.startswith("/") or _NOT_IN_A_TARGET.search(upstream.target):
        raise InvalidRequest("The path or query has characters that a URL cannot hold.")


def request_headers(
    headers: Iterable[tuple[bytes, bytes]],
    upstream: Upstream,
    *,
    client: str,
    scheme: str,
    is_websocket: bool = False,
) -> Headers:
    """What the program is told.

    Args:
        headers: the client's, names in lower case.
        upstream: where they go.
        client: its address.
        scheme: by which it came: http or https.
        is_websocket: the handshake is made anew, with its own headers.
    """
    dropped = _NOT_ASKED | _named_by_connection(headers)
    if is_websocket:
        dropped |= _NOT_OF_A_WEBSOCKET
    replaced = {name.lower().encode("latin-1") for name in upstream.headers}
    passed = []
    host = b""
    for name, value in headers:
        if name == b"host":
            host = value
        if name in dropped or name in replaced:
            continue
        if name == b"authorization" and value.startswith(_SIGNATURE):
            continue
        if name == b"cookie":
            value = _without_own(value)
            if not value:
                continue
        passed.append((name, value))
    passed += [
        (b"x-forwarded-for", client.encode("latin-1")),
        (b"x-forwarded-proto", scheme.encode("latin-1")),
        (b"x-forwarded-host", host),
    ]
    if upstream.prefix:
        passed.append((b"x-forwarded-prefix", upstream.prefix.encode("latin-1")))
    passed += added_headers(upstream.headers.items())
    return passed


def _named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """A connection may name more headers that concern it alone."""
    named = [value for name, value in headers if name == b"connection" and value != b"keep-alive"]
    return frozenset(token.strip().lower() for value in named for token in value.split(b",")) - {
        b"host",
        b"content-length",
    }


def added_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    for name, value in headers:
        assert not _NOT_IN_A_HEADER.search(name + value), f"the header {name!r} has a line break"
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def _without_own(cookies: bytes) -> bytes:
    """The cookies of a request but for muster's."""
    own = COOKIE_PREFIX.encode()
    if own not in cookies:
        return cookies
    kept = [part.strip() for part in cookies.split(b";") if not part.strip().startswith(own)]
    return b"; ".join(kept)


def request_head(method: str, upstream: Upstream, headers: Headers, framing: bytes) -> bytes:
    """Request line and headers.

    Args:
        method: as the client wrote it.
        upstream: whom it is for.
        headers: as `request_headers` has them.
        framing: the header that tells where the body ends; nothing where there is none.
    """
    lines = [f"{method} {upstream.target} HTTP/1.1\r\n".encode("latin-1")]
    for name, value in headers:
        lines += [name, b": ", value, b"\r\n"]
    lines += [framing, b"\r\n"]
    return b"".join(lines)


def reply_headers(status: int, headers: Headers, upstream: Upstream, *, host: bytes) -> Headers:
    """What the client is told.

    Args:
        status: of the answer.
        headers: of the program, names in lower case.
        upstream: the program.
        host: as the client named this server.
    """
    dropped = _NOT_ANSWERED | _named_by_connection(headers)
    if status in _NO_BODY or any(name == b"transfer-encoding" for name, _ in headers):
        dropped |= {b"content-length"}
    passed = []
    for name, value in headers:
        if name in dropped:
            continue
        if name == b"set-cookie" and value.lstrip().startswith(COOKIE_PREFIX.encode()):
            continue
        if name in (b"location", b"content-location") and upstream.prefix:
            value = _under_prefix(value, upstream, host)
        passed.append((name, value))
    return passed + added_headers(upstream.reply_headers)


def _under_prefix(location: bytes, upstream: Upstream, host: bytes) -> bytes:
    """A program that does not know where it is mounted redirects to its own paths."""
    absolute = _ABSOLUTE.match(location)
    if absolute is not None:
        own = f"{upstream.host}:{upstream.port}".encode("latin-1")
        if absolute[1] not in (host, own):
            return location
        location = location[absolute.end() :] or b"/"
    prefix = upstream.prefix.encode("latin-1")
    is_path = location.startswith(b"/") and not location.startswith(b"//")
    if not is_path or location == prefix or location.startswith(prefix + b"/"):
        return location
    return prefix + location


def framing_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The header that tells where a request's body ends, as the program is told."""
    if b"transfer-encoding" in headers:
        return b"transfer-encoding: chunked\r\n"
    if b"content-length" in headers:
        return b"content-length: " + headers[b"content-length"] + b"\r\n"
    return b""
