"""The AK/SK request signature, `SDK-HMAC-SHA256`: made by our client, verified by the server.

Everything here takes text as it is on the wire: the path and the query still percent-encoded, and
header values decoded as Latin-1, so that encoding them again gives back the very bytes that were
sent. A function named `header` looks up one header by its lower-case name; `dict.get` is one.
"""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote, unquote

from muster.domain.errors import SignatureMalformed

ALGORITHM: Final = "SDK-HMAC-SHA256"
EMPTY_HASH: Final = sha256(b"").hexdigest()
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
CLOCK_SKEW_MAX: Final = timedelta(minutes=15)
SIGNED_HEADERS_MAX: Final = 64
DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"

# Not all that `str.strip` takes off: read as Latin-1, the last byte of an encoded "à" is a blank.
_BLANKS: Final = " \t\r\n"

# A client signs one request after another with the same key, the same headers, in the same second.
_CACHE_MAX: Final = 1024

HeaderLookup = Callable[[str], str | None]

# Names are visible ASCII in lower case; a comma or semicolon would end them.
_KEY_AND_HEADERS = re.compile(
    ALGORITHM + r" Access=([!-+\--~]{1,128}), *"
    r"SignedHeaders=([!-+\--:<-@\[-~]+(?:;[!-+\--:<-@\[-~]+)*)"
)
_SIGNATURE = re.compile(r" *Signature=([0-9a-f]{64})")
_SDK_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_CANONICAL_PATH = re.compile(r"[A-Za-z0-9_.~/-]*")


@dataclass(frozen=True, slots=True)
class Authorization:
    """What an `Authorization` header says."""

    access_key: str
    signed_headers: tuple[str, ...]  # lower case, in the order in which they were signed
    signature: str  # 64 lower-case hex digits


def is_signature(value: str) -> bool:
    """Whether an `Authorization` header is meant as a signature at all, be it of another kind."""
    return value.startswith(("SDK-", "V11-"))


def parse_authorization(value: str) -> Authorization:
    """Read an `Authorization` header.

    Raises:
        SignatureMalformed: another algorithm, another form, or `host` or `x-sdk-date` not signed.
    """
    key_and_headers, _, rest = value.rpartition(",")
    match = _SIGNATURE.fullmatch(rest)
    if match is None:
        raise SignatureMalformed(_why_malformed(value))
    access_key, signed_headers = _parse_key_and_headers(key_and_headers)
    return Authorization(access_key, signed_headers, match[1])


@lru_cache(maxsize=_CACHE_MAX)
def _parse_key_and_headers(text: str) -> tuple[str, tuple[str, ...]]:
    match = _KEY_AND_HEADERS.fullmatch(text)
    if match is None:
        raise SignatureMalformed(_why_malformed(text))
    signed_headers = tuple(match[2].split(";"))
    if "host" not in signed_headers or "x-sdk-date" not in signed_headers:
        raise SignatureMalformed("SignedHeaders must name both host and x-sdk-date.")
    if len(signed_headers) > SIGNED_HEADERS_MAX:
        raise SignatureMalformed(f"SignedHeaders names more than {SIGNED_HEADERS_MAX} headers.")
    return match[1], signed_headers


def _why_malformed(value: str) -> str:
    form = f"{ALGORITHM} Access=<key>, SignedHeaders=<a;b>, Signature=<64 hex digits>"
    if not value.startswith(f"{ALGORITHM} "):
        return f"The Authorization header does not start with {ALGORITHM}; it must read: {form}."
    if value.startswith(f"{ALGORITHM} Credential="):
        return f"The Authorization header names a Credential; it must read: {form}."
    return f"The Authorization header is malformed; it must read: {form}."


@lru_cache(maxsize=_CACHE_MAX)
def parse_sdk_date(value: str) -> datetime:
    """Read an `X-Sdk-Date` header; the server holds it against CLOCK_SKEW_MAX.

    Raises:
        SignatureMalformed: not of the form `YYYYMMDDTHHMMSSZ`, or no such time.
    """
    match = _SDK_DATE.fullmatch(value)
    try:
        if match is not None:
            year, month, day, hour, minute, second = map(int, match.groups())
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        pass  # the 31st of February: refused below like any other text
    raise SignatureMalformed("X-Sdk-Date must be a UTC time of the form YYYYMMDDTHHMMSSZ.")


def payload_hash(body: bytes, content_sha256_header: str | None = None) -> str:
    """What stands for the body in the canonical request.

    The value of `X-Sdk-Content-Sha256`, where the client sent one along with a body, stands in for
    the hash as it is. It is what was signed, so one that claims to be a hash must be true: else
    anybody on the way could put another body under the same signature.

    Raises:
        SignatureMalformed: the header holds the hash of another body.
    """
    if not body:
        return EMPTY_HASH
    if content_sha256_header is None:
        return sha256(body).hexdigest()
    if _SHA256.fullmatch(content_sha256_header) and (
        content_sha256_header.lower() != sha256(body).hexdigest()
    ):
        raise SignatureMalformed("X-Sdk-Content-Sha256 is not the hash of the body that arrived.")
    return content_sha256_header


def canonical_request(
    method: str,
    raw_path: str,
    query: str,
    header: HeaderLookup,
    signed_headers: Sequence[str],
    payload_hash: str,
) -> str:
    """The text whose hash is signed. The query goes in as given: see `query_candidates`.

    Raises:
        SignatureMalformed: a signed header is not there.
    """
    lines = []
    for name in signed_headers:
        value = header(name)
        if value is None:
            raise SignatureMalformed(f"The signed header {name!r} is missing from the request.")
        lines.append(f"{name}:{value.strip(_BLANKS)}\n")
    return "\n".join(
        (
            method.upper(),
            canonical_path(raw_path),
            query,
            "".join(lines),
            ";".join(signed_headers),
            payload_hash,
        )
    )


def canonical_path(raw_path: str) -> str:
    """The path decoded once as a whole, so that `%2F` becomes `/`; encoded again; ending in `/`."""
    if not _CANONICAL_PATH.fullmatch(raw_path):
        raw_path = quote(unquote(raw_path), safe="/~")
    return raw_path if raw_path.endswith("/") else f"{raw_path}/"


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """A query as the clients sort and write it. The sort is on the decoded text."""
    return "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(pairs)
    )


def query_candidates(query: str) -> Iterable[str]:
    """What the client may have signed: the query as received first, else the sorted one.

    The raw one cannot be left out: clients sort the numbers of a repeated parameter as numbers,
    which cannot be told from the wire.
    """
    yield query
    if query:
        sorted_again = canonical_query(
            (unquote(name), unquote(value))
            for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)
        )
        if sorted_again != query:
            yield sorted_again


def signature(secret_key: str, sdk_date: str, canonical: str) -> str:
    """The signature of a canonical request, in lower-case hex.

    Raises:
        SignatureMalformed: the request holds a character that no HTTP message can carry.
    """
    try:
        canonical_hash = sha256(canonical.encode("latin-1")).hexdigest()
        string_to_sign = f"{ALGORITHM}\n{sdk_date}\n{canonical_hash}".encode("latin-1")
    except UnicodeEncodeError:
        raise SignatureMalformed("The signed part of the request is not plain bytes.") from None
    keyed = _keyed(secret_key).copy()
    keyed.update(string_to_sign)
    return keyed.hexdigest()


@lru_cache(maxsize=_CACHE_MAX)
def _keyed(secret_key: str) -> hmac.HMAC:
    """The HMAC with the key already taken in: half of its work, and the same for every request."""
    return hmac.new(secret_key.encode(), digestmod="sha256")


def is_signed_by(
    secret_key: str,
    authorization: Authorization,
    *,
    method: str,
    raw_path: str,
    query: str,
    header: HeaderLookup,
    payload_hash: str,
) -> bool:
    """Whether the request was signed with this secret key. Takes the same time for near misses.

    Raises:
        SignatureMalformed: a signed header is not there.
    """
    sdk_date = header("x-sdk-date")
    if sdk_date is None:
        raise SignatureMalformed("The signed header 'x-sdk-date' is missing from the request.")
    for candidate in query_candidates(query):
        canonical = canonical_request(
            method, raw_path, candidate, header, authorization.signed_headers, payload_hash
        )
        expected = signature(secret_key, sdk_date.strip(_BLANKS), canonical)
        if hmac.compare_digest(authorization.signature, expected):
            return True
    return False


def sign_headers(
    access_key: str,
    secret_key: str,
    *,
    method: str,
    raw_path: str,
    query: str,
    headers: Mapping[str, str],
    payload_hash: str,
    now: datetime,
) -> dict[str, str]:
    """The headers that sign a request: `x-sdk-date` and `authorization`.

    Args:
        access_key: public half of the key pair.
        secret_key: secret half; never sent.
        method: of the request.
        raw_path: percent-encoded, as it will be sent.
        query: as it will be sent; `canonical_query` writes one that every server agrees with.
        headers: those to be signed, in any case; `host` is one of them. Names with `_` stay out.
        payload_hash: of the body that will be sent.
        now: aware time of the signature.
    """
    signed = {name.lower(): value for name, value in headers.items() if "_" not in name}
    signed["x-sdk-date"] = sdk_date = now.astimezone(UTC).strftime(DATE_FORMAT)
    names = sorted(signed)
    canonical = canonical_request(method, raw_path, query, signed.get, names, payload_hash)
    hexdigest = signature(secret_key, sdk_date, canonical)
    return {
        "x-sdk-date": sdk_date,
        "authorization": (
            f"{ALGORITHM} Access={access_key}, SignedHeaders={';'.join(names)},"
            f" Signature={hexdigest}"
        ),
    }
