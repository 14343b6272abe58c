"""Addresses of S3 that are good for one request. Pure.

obstore signs addresses, but none with a query, as the parts of an upload have. So what it has
signed is signed again with one: who signs, when, where and for how long is in it already.

Source: AWS Signature Version 4, "Authenticating Requests: Using Query Parameters".
"""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlsplit


def sign_again(address: str, *, method: str, query: Mapping[str, str], secret_key: str) -> str:
    """The address of another request about the object that a signed address names.

    Args:
        address: as signed for any request about the object.
        method: of the request.
        query: what it has besides the signature.
        secret_key: of the same key.
    """
    parts = urlsplit(address)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    given.pop("X-Amz-Signature")
    text = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted((given | dict(query)).items())
    )
    request = f"{method}\n{parts.path}\n{text}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = given["X-Amz-Credential"].partition("/")[2]
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    digest = hashlib.sha256(request.encode()).hexdigest()
    signed = _mac(key, f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{scope}\n{digest}").hex()
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{text}&X-Amz-Signature={signed}"


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
