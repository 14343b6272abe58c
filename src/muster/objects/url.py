"""How users name objects: `/BUCKET/KEY`. No name ever leaves its bucket."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from muster.domain.errors import StoragePathInvalid

BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
KEY_LENGTH_MAX: Final = 1024
KEY_PART_LENGTH_MAX: Final = 255  # as file systems have it
URLS_REMEMBERED_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """A bucket and a key in it; the key of a bucket itself is empty."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"/{self.bucket}/{self.key}"

    def below(self, path: str) -> "ObjectUrl":
        """What lies below this one, taken as a folder."""
        return ObjectUrl(self.bucket, f"{self.key.rstrip('/')}/{path}".lstrip("/"))


@lru_cache(URLS_REMEMBERED_MAX)
def parse_url(text: str, *, field: str) -> ObjectUrl:
    """Read `/bucket/key`, `obs://bucket/key` or `s3://bucket/key`.

    Raises:
        StoragePathInvalid: it is none of these, or climbs out of its bucket.
    """
    path = re.sub(r"^(obs|s3)://", "/", text)
    bucket, _, key = path.removeprefix("/").partition("/")
    if not path.startswith("/") or not BUCKET_NAME.fullmatch(bucket):
        raise StoragePathInvalid(
            f"{field} is {text!r}; it must be /BUCKET/KEY or obs://BUCKET/KEY, the bucket of 1 to"
            " 63 letters, digits, '.', '_' and '-'."
        )
    return ObjectUrl(bucket, _checked_key(key, text, field))


def _checked_key(key: str, text: str, field: str) -> str:
    parts = key.split("/")
    if ".." in parts or "." in parts or "\0" in key or "\\" in key:
        raise StoragePathInvalid(
            f"{field} is {text!r}; a path may not contain '.', '..', '\\' or a zero byte as a part:"
            " it must stay inside its bucket."
        )
    for what, most, length in (
        ("is", KEY_LENGTH_MAX, len(key.encode())),
        ("has a part that is", KEY_PART_LENGTH_MAX, max(len(part.encode()) for part in parts)),
    ):
        if length > most:
            raise StoragePathInvalid(
                f"{field} {what} {length} bytes long; at most {most} are allowed."
            )
    return "/".join(part for part in parts if part) + ("/" if key.endswith("/") else "")
