"""Large objects in parts that are sent one by one: what S3 is told before, between and after."""

import re
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

from muster.objects.s3bucket import ObjectMissing, S3Bucket

UPLOAD_ID_LENGTH_MAX: Final = 1024

_UPLOAD_ID: Final = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_PART: Final = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)
_FIELD: Final = re.compile(rb"<(PartNumber|ETag|Size)>([^<]*)</")
_NEXT: Final = re.compile(rb"<IsTruncated>true</IsTruncated>")


async def begin_upload(bucket: S3Bucket, key: str) -> str:
    """The id of an upload that parts can be sent to."""
    found = _UPLOAD_ID.search((await bucket.request("POST", key, {"uploads": ""})).content)
    if found is None:
        raise bucket.failed("has begun an upload without telling its id", key)
    return found[1].decode()


async def list_parts(bucket: S3Bucket, key: str, upload_id: str) -> dict[int, str] | None:
    """The ETag of each part that is stored, by number; None: there is no such upload any more."""
    stored: dict[int, str] = {}
    while True:
        query = {"uploadId": upload_id, "part-number-marker": str(max(stored, default=0))}
        try:
            page = (await bucket.request("GET", key, query)).content
        except ObjectMissing:
            return None
        count = len(stored)
        for part in _PART.findall(page):
            fields = {name.decode(): value.decode() for name, value in _FIELD.findall(part)}
            stored[int(fields["PartNumber"])] = fields["ETag"].replace("&quot;", '"')
        if not _NEXT.search(page) or len(stored) == count:
            return stored


async def complete_upload(
    bucket: S3Bucket, key: str, upload_id: str, etags: Mapping[int, str]
) -> None:
    """Make the parts an object."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in sorted(etags.items())
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
    await bucket.request("POST", key, {"uploadId": upload_id}, body.encode())
