"""What a refusal must look like, by family of routes."""

import httpx


def v1(reply: httpx.Response, status: int, code: str) -> str:
    """The message of a refusal of the v1 training API, after checking its shape."""
    body = reply.json()
    assert reply.status_code == status, reply.text
    assert set(body) == {"is_success", "error_code", "error_message", "error_msg"}
    assert body["is_success"] is False
    assert body["error_code"] == code, reply.text
    assert body["error_message"] == body["error_msg"]
    _check_headers(reply)
    return str(body["error_msg"])


def modern(reply: httpx.Response, status: int, code: str) -> str:
    """The same for every other call of clients."""
    body = reply.json()
    assert reply.status_code == status, reply.text
    assert set(body) == {"error_code", "error_msg"}
    assert body["error_code"] == code, reply.text
    _check_headers(reply)
    return str(body["error_msg"])


def keystone(reply: httpx.Response, status: int) -> str:
    """The same for /v3."""
    body = reply.json()
    assert reply.status_code == status, reply.text
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "title", "message"}
    assert body["error"]["code"] == status
    assert body["error"]["title"] == httpx.codes.get_reason_phrase(status)
    _check_headers(reply)
    return str(body["error"]["message"])


def _check_headers(reply: httpx.Response) -> None:
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
