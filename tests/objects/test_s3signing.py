"""Signed addresses with a query, against those of others who sign."""

from datetime import UTC, datetime, timedelta
from importlib import import_module
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import obstore
import pytest

from muster.objects.s3bucket import S3Bucket, S3Options
from muster.objects.s3signing import sign_again

SECRET = "not-a-secret-of-anybody"  # noqa: S105
AUTH = import_module("botocore.auth")  # it has no types
REQUEST = import_module("botocore.awsrequest").AWSRequest
CREDENTIALS = import_module("botocore.credentials").Credentials
KEYS = ["a", "with space/ü+%~(1).bin", "deep/er/file=x&y"]


def options(token: str | None = None) -> S3Options:
    return S3Options(
        endpoint="http://127.0.0.1:9",
        region="eu-west-1",
        access_key="AK",
        secret_key=SECRET,
        session_token=token,
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("token", [None, "a/token+with="])
async def test_without_a_query_it_is_what_obstore_signs(key: str, token: str | None) -> None:
    bucket = S3Bucket(options(token), "bucket", "a prefix")
    address = await bucket.sign("PUT", key)

    ours = sign_again(address, method="PUT", query={}, secret_key=SECRET)
    assert sorted(ours.split("&")) == sorted(address.split("&")), "in whatever order"
    for other in (
        sign_again(address, method="GET", query={}, secret_key=SECRET),
        sign_again(address, method="PUT", query={}, secret_key="another"),  # noqa: S106
    ):
        assert signature(other) != signature(address)


@pytest.mark.asyncio
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("token", [None, "a/token+with="])
@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("POST", {"uploads": ""}),
        ("PUT", {"partNumber": "7", "uploadId": "id.with~odd/signs=+&"}),
    ],
)
async def test_with_a_query_it_is_what_amazons_own_library_signs(
    key: str, token: str | None, method: str, query: dict[str, str]
) -> None:
    bucket = S3Bucket(options(token), "bucket")
    plain = await obstore.sign_async(bucket._client, "GET", key, timedelta(seconds=900))
    given = dict(parse_qsl(urlsplit(plain).query))
    at = datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    theirs = REQUEST(method=method, url=plain.partition("?")[0], params=query)
    keys = CREDENTIALS("AK", SECRET, token)
    signer = AUTH.S3SigV4QueryAuth(keys, "s3", "eu-west-1", expires=900)
    with patch("botocore.auth.get_current_datetime", return_value=at.replace(tzinfo=None)):
        signer.add_auth(theirs)

    ours = sign_again(plain, method=method, query=query, secret_key=SECRET)

    assert signature(ours) == signature(theirs.url)
    asked = dict(parse_qsl(urlsplit(ours).query, keep_blank_values=True))
    assert query.items() <= asked.items()


def signature(address: str) -> str:
    return dict(parse_qsl(urlsplit(address).query))["X-Amz-Signature"]
