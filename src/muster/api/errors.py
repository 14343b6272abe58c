"""From the tree of errors to HTTP: one table of statuses, four shapes of body."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from muster.domain import errors

_RETRY_SECONDS: Final = b"2"


class Envelope(StrEnum):
    """How a family of routes shapes its errors."""

    V1 = "v1"  # the v1 training API
    MODERN = "modern"  # everything else that clients call
    RESOURCE = "resource"  # v2 pools: modern, with codes of eight digits
    KEYSTONE = "keystone"  # /v3


# Paths that are not there answer in the shape of their family; the rest is MODERN.
_FAMILIES: Final = (
    (
        re.compile(
            r"/v1/[^/]*/(training-jobs|training-job-configs|job|built-in-algorithms"
            r"|visualization-jobs)(/|$)"
        ),
        Envelope.V1,
    ),
    (re.compile(r"/v2/[^/]*/(pools|statistics|jobs|metrics)(/|$)"), Envelope.RESOURCE),
    (
        re.compile(
            r"/v1/[^/]*/(resourceflavors|events|quotas|os-user-config|networks|pools|nodes)(/|$)"
        ),
        Envelope.RESOURCE,
    ),
    (re.compile(r"/v3(\.0)?(/|$)"), Envelope.KEYSTONE),
)


def envelope_of(path: str) -> Envelope:
    """The shape of error that clients of this path understand, whether or not it is there."""
    return next((env for family, env in _FAMILIES if family.match(path)), Envelope.MODERN)


class BodyNotJson(errors.MalformedJson):
    """Neither the body nor its declared type is JSON."""


# The nearest class counts; every class of the tree has one above it here, by test.
STATUSES: Final[Mapping[type[errors.MusterError], int]] = {
    errors.MusterError: 500,
    errors.InvalidRequest: 400,
    errors.BodyTooLarge: 413,
    BodyNotJson: 415,
    errors.Unauthenticated: 401,
    errors.SignatureWrong: 403,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.Conflict: 409,
    errors.Unavailable: 503,
    errors.ProgramFailed: 502,
    errors.ProgramTimedOut: 504,
    errors.TooBusy: 429,
    errors.NotOffered: 501,
    errors.EngineRefused: 400,
}

# The resource layer has few codes of its own, by status.
_RESOURCE_CODES: Final[Mapping[int, str]] = {
    400: "ModelArts.50004000",
    401: "ModelArts.50001000",
    413: "ModelArts.50004000",
    500: "ModelArts.50005000",
    503: "ModelArts.50005000",
}

_TITLES: Final[Mapping[int, str]] = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class V1Failure(msgspec.Struct, kw_only=True):
    """`error_msg` says the same again: two client families read that key only."""

    is_success: bool = False
    error_code: str
    error_message: str
    error_msg: str


class Failure(msgspec.Struct, kw_only=True):
    error_code: str
    error_msg: str


class KeystoneError(msgspec.Struct):
    code: int
    title: str
    message: str


class KeystoneFailure(msgspec.Struct):
    error: KeystoneError


def status_of(error: errors.MusterError) -> int:
    return next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)


def render_error(
    error: errors.MusterError, envelope: Envelope, request_id: str
) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """(HTTP status, body, extra headers)."""
    status = status_of(error)
    code, message = error.code, error.message
    match envelope:
        case Envelope.V1:
            body: object = V1Failure(error_code=code, error_message=message, error_msg=message)
        case Envelope.KEYSTONE:
            body = KeystoneFailure(KeystoneError(status, _TITLES[status], message))
        case Envelope.RESOURCE:
            is_own = isinstance(
                error, errors.PoolUnknown | errors.NetworkUnknown | errors.Forbidden
            )
            body = Failure(
                error_code=code if is_own else _RESOURCE_CODES.get(status, code),
                error_msg=message,
            )
        case Envelope.MODERN:
            body = Failure(error_code=code, error_msg=message)
    headers = [(b"retry-after", _RETRY_SECONDS)] if status in (429, 503) else []
    return status, msgspec.json.encode(body), headers
